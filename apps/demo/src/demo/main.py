"""`demo <environment file> -- <runner ...>`: plays the main journey on the stack that is up and leaves it running."""

import asyncio
import sys
from pathlib import Path

import httpx

from demo import journey, stack

TIMEOUT_S = 15
CONNECTIONS = 50


def main() -> None:
    """Play the journey; exit 1 with the step that failed."""
    environment, _, *runner = sys.argv[1:]
    where = stack.read(Path(environment), tuple(runner))
    try:
        asyncio.run(_play(where))
    except (journey.Failed, TimeoutError, httpx.HTTPError) as error:
        _tell(f"\nFAILED: {type(error).__name__}: {error}\nThe stack is still running; `make logs` shows its logs.")
        raise SystemExit(1) from None
    _tell(
        f"\nThe stack is running:\n"
        f"   API and its documentation   {where.gateway_url}/docs\n"
        f"   sandbox (every provider, Telegram) {where.sandbox_url}\n"
        f"   RabbitMQ management          {where.rabbitmq_api_url}\n"
        f"`make status`, `make logs`, `make down`; settings and addresses are in {environment}."
    )


async def _play(where: stack.Stack) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as http:
        await journey.Journey(where, http, _tell).play()


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
