"""What an operator does once for a bot that takes Stars: tell Telegram where its updates go."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chassis import app
from payments import clients
from payments.clients import stars
from payments.operations import desk

if TYPE_CHECKING:
    pass


async def register_webhook(service: app.Service, arguments: Sequence[str]) -> int:
    """Tell Telegram where an account's updates go; replaces what was told before. Gives 1 when it did not agree."""
    options = argparse.ArgumentParser(prog=f"{service.name} stars-webhook", description=register_webhook.__doc__)
    options.add_argument("account", help="what we call the bot")
    options.add_argument("url", help="https://.../webhooks/stars/<account>")
    chosen = options.parse_args(arguments)
    async with desk.opened(service) as opened:
        bot = opened.accounts.named("stars", chosen.account)
        if not isinstance(bot, stars.api.Stars):
            sys.stderr.write(f"{chosen.account}: no account that takes Stars\n")
            return 2
        try:
            await bot.register_webhook(chosen.url)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except clients.ProviderError as error:
            # A refusal has the provider's own word for why.
            sys.stderr.write(f"not registered: {getattr(error, 'code', error.result)}\n")
            return 1
    sys.stdout.write(f"stars/{chosen.account}: updates go to {chosen.url}\n")
    return 0
