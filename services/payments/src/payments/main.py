"""The composition root of payments: which accounts it serves and what each role runs."""

from functools import partial
from pathlib import Path

from chassis import app, entrypoint
from payments import api, handlers, operations, settings, timers
from payments.clients import accounts as clients


def compose(process: app.Process, *, receives: bool, works: bool) -> None:
    """Take webhooks in, or do the work behind them, or both; in one process a webhook is settled at once."""
    config = process.settings
    assert isinstance(config, settings.PaymentsSettings)  # as SERVICE says
    accounts = clients.open_accounts(config.accounts, timeout_s=config.provider_timeout_s)
    process.closers.insert(0, accounts.close)
    router = api.routes
    if works:
        clocks = timers.start(
            process,
            accounts,
            call_s_max=config.provider_timeout_s,
            is_woken=receives,
            compare_hour=config.compare_hour,
        )
        process.consume(*handlers.queues(clocks.asking.wake.set, accounts))
        process.consume_batches(*handlers.BATCH_QUEUES)
        process.housekeeping()
        router = partial(router, wake=clocks.settling.wake.set)
    if receives:
        process.http.include_router(
            router(
                process.db,
                accounts,
                trusted_proxies=config.trusted_proxies,
                default_account=config.yookassa_account,
                relay_secrets=config.relay_secrets,
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
    queues=handlers.queues(),
    batch_queues=handlers.BATCH_QUEUES,
    commands=operations.COMMANDS,
)


def main() -> None:
    """Run a role or a command of payments."""
    entrypoint.main(SERVICE)
