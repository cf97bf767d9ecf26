"""`demo <environment file> -- <stack command ...>`: runs the main journey on the running stack."""

import asyncio
import sys
from pathlib import Path

import httpx

from demo import journey, stack

TIMEOUT_S = 60
CONNECTIONS = 50


def main() -> None:
    """Run the journey; exit with 1 when a step fails."""
    environment, _, *stack_command = sys.argv[1:]
    target = stack.read(Path(environment), tuple(stack_command))
    try:
        asyncio.run(_play(target))
    except (journey.StepFailed, TimeoutError, httpx.HTTPError) as error:
        _write(f"\nFAILED: {type(error).__name__}: {error}\nThe stack is still running; `make logs` shows its logs.")
        raise SystemExit(1) from None
    _write(
        f"\nThe stack is running:\n"
        f"   API and its documentation   {target.gateway_url}/docs\n"
        f"   sandbox                     {target.sandbox_url}\n"
        f"   RabbitMQ management         {target.rabbitmq_url}\n"
        f"`make status`, `make logs`, `make down`; settings, addresses and passwords are in {environment}."
    )


async def _play(target: stack.Stack) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as http:
        await journey.Journey(target, http, _write).play()


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
