"""An operator registers the webhook of a bot that takes Stars; this is done once."""

import argparse
import sys
from collections.abc import Sequence

from chassis import app
from payments import clients
from payments.clients import stars
from payments.operations import context


async def register_webhook(service: app.Service, arguments: Sequence[str]) -> int:
    """Register the address of an account's updates at Telegram, in place of an earlier one. Gives 1 when refused."""
    options = argparse.ArgumentParser(prog=f"{service.name} stars-webhook", description=register_webhook.__doc__)
    options.add_argument("account", help="our name of the bot")
    options.add_argument("url", help="https://.../webhooks/stars/<account>")
    chosen = options.parse_args(arguments)
    async with context.opened(service) as operator:
        bot = operator.providers.named("stars", chosen.account)
        if not isinstance(bot, stars.api.Stars):
            sys.stderr.write(f"{chosen.account}: no account that takes Stars\n")
            return 2
        try:
            await bot.register_webhook(chosen.url)
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        except clients.ProviderError as error:
            # A refusal has the provider's own code.
            sys.stderr.write(f"not registered: {getattr(error, 'code', error.result)}\n")
            return 1
    sys.stdout.write(f"stars/{chosen.account}: updates go to {chosen.url}\n")
    return 0
