"""The composition root of payments: which accounts it serves and what each role runs."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from contracts import message
from payments import settings
from payments.clients import connections
from payments.handlers import queues
from payments.operations import commands
from payments.timers import worker
from payments.webhooks.api import routes


def compose(process: app.Process, *, receives: bool, works: bool) -> None:
    """Receive webhooks, or do the work behind them, or both; in one process a webhook is settled at once."""
    config = process.settings
    assert isinstance(config, settings.PaymentsSettings)  # as SERVICE says
    providers = connections.open_accounts(config.accounts, timeout_s=config.provider_timeout_s)
    process.closers.insert(0, providers.close)
    router = routes.routes
    if works:
        call_s_max, compare_hour = config.provider_timeout_s, config.compare_hour
        woken = worker.start(process, providers, call_s_max=call_s_max, is_woken=receives, compare_hour=compare_hour)
        process.consume(*queues.command_queues(woken.outgoing.wake.set, providers.registry))
        process.consume_batches(*queues.BATCH_QUEUES)
        process.housekeeping()
        router = partial(router, wake=woken.webhooks.wake.set)
    if receives:
        process.http.include_router(
            router(
                process.db,
                providers,
                trusted_proxies=config.trusted_proxies,
                default_account=config.yookassa_account,
                proxy_secrets=config.proxy_secrets,
            )
        )


SERVICE = app.Service(
    name="payments",
    settings=settings.PaymentsSettings,
    roles={
        "api": partial(compose, receives=True, works=False),
        "worker": partial(compose, receives=False, works=True),
        "all": partial(compose, receives=True, works=True),
    },
    migrations=Path(__file__).parent / "migrations",
    publishes=message.events_of("payments"),
    queues=queues.command_queues(),
    batch_queues=queues.BATCH_QUEUES,
    commands=commands.COMMANDS,
)


def main() -> None:
    """Run a role or a command of payments."""
    entrypoint.main(SERVICE)
