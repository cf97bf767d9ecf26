"""The clock door of payments: asks the providers, with no transaction open, and lets what they say settle payments.

A webhook only says where to look; the list of open payments finds what no webhook ever told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import Gauge

from chassis import app, clock, database, envelope, failpoints, telemetry
from payments import clients, domain, handlers, store

SLOTS = 16  # calls to providers under way at once, for each lane
# A lease outlives the longest call, so that nobody else asks for the same thing meanwhile.
LEASE_MARGIN_S = 20.0
AUTH_REST_S = 60.0  # an operator has to mend the credentials; asking faster would not help

OPEN_PAYMENTS = Gauge("kopilka_payments_in_state", "Payments that are not finished.", ["state"])
OPEN_WEBHOOKS = Gauge("kopilka_webhooks_in_state", "Webhooks that are not settled.", ["state"])
OPEN_FINDINGS = Gauge("kopilka_payment_findings_open", "Findings that wait for a person.", ["kind"])

Piece = TypeVar("Piece")


class Lane(Generic[Piece]):
    """Bounded concurrent work of one kind: a slow call to a provider holds up none of the others."""

    def __init__(
        self, lease: Callable[[int], Awaitable[Sequence[Piece]]], carry: Callable[[Piece], Awaitable[None]]
    ) -> None:
        """Take how to lease at most so many pieces, and what to do with each."""
        self._lease = lease
        self._carry = carry
        self._under_way: set[asyncio.Task[None]] = set()

    async def tick(self) -> int:
        """Begin what is due, as far as there are free slots; gives how much was begun."""
        if len(self._under_way) >= SLOTS:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        pieces = await self._lease(SLOTS - len(self._under_way))
        for piece in pieces:
            task = asyncio.create_task(self._guarded(piece))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return len(pieces)

    async def finish(self) -> None:
        """Wait for what is under way; each piece is bounded by the time that a call may take."""
        await asyncio.gather(*self._under_way)

    async def _guarded(self, piece: Piece) -> None:
        try:
            await self._carry(piece)
        except Exception as error:  # noqa: BLE001 - the loop's edge: the lease runs out and the piece is done again
            telemetry.log.error("payments.lane_failed", error=type(error).__name__, exc_info=True)


class Clocks(NamedTuple):
    """The timers that others wake."""

    creating: clock.Timer
    settling: clock.Timer


def start(process: app.Process, accounts: clients.Accounts, *, call_s_max: float, is_woken: bool) -> Clocks:
    """Add this service's timers to a process; `call_s_max` is the time that a call to a provider may take.

    `is_woken` tells that webhooks are stored by the same process, which then wakes their settling.
    """
    db, lease_s = process.db, call_s_max + LEASE_MARGIN_S
    creations, settlements = creation_lane(db, accounts, lease_s), settlement_lane(db, accounts, lease_s)
    checks = check_lane(db, accounts)
    process.every("check_due", checks.tick, idle_min_s=0.5, idle_max_s=1)
    process.every("payment_gauges", partial(measure, db), idle_min_s=15, idle_max_s=15)
    process.every("forget_webhooks", partial(forget_webhooks, db), idle_min_s=60, idle_max_s=3_600)
    process.finishers += [creations.finish, settlements.finish, checks.finish]
    # Whom nobody wakes looks often, and at first the more so, because the next webhook is often close behind.
    rests_s = (0.02, 0.25) if is_woken else (0.01, 0.05)
    return Clocks(
        creating=process.every("create_at_provider", creations.tick, gathers=True),
        settling=process.every(
            "settle_webhooks", settlements.tick, idle_min_s=rests_s[0], idle_max_s=rests_s[1], gathers=True
        ),
    )


def creation_lane(db: database.Database, accounts: clients.Accounts, lease_s: float) -> Lane[store.Creation]:
    """Give the lane that creates payments at their providers."""

    async def lease(limit: int) -> Sequence[store.Creation]:
        async with db.statement() as tx:
            return await store.lease_creations(tx, limit=limit, lease_s=lease_s)

    return Lane(lease, partial(create_at_provider, db, accounts))


def settlement_lane(db: database.Database, accounts: clients.Accounts, lease_s: float) -> Lane[list[store.Webhook]]:
    """Give the lane that settles webhooks; those about one payment are settled by one look."""

    async def lease(limit: int) -> Sequence[list[store.Webhook]]:
        async with db.statement() as tx:
            webhooks = await store.lease_webhooks(tx, limit=limit, lease_s=lease_s)
        return [list(group) for _, group in groupby(sorted(webhooks, key=_looked_at), key=_looked_at)]

    return Lane(lease, partial(settle_webhooks, db, accounts))


def check_lane(db: database.Database, accounts: clients.Accounts) -> Lane[store.Check]:
    """Give the lane that looks at open payments from time to time."""

    async def lease(limit: int) -> Sequence[store.Check]:
        async with db.statement() as tx:
            return await store.lease_checks(tx, limit=limit)

    return Lane(lease, partial(check_due, db, accounts))


async def create_at_provider(db: database.Database, accounts: clients.Accounts, creation: store.Creation) -> None:
    """Ask the provider to create one payment, always under the same key, and keep what it answers."""
    payment = creation.payment
    provider = accounts.of_tenant(payment.provider, payment.tenant)
    with envelope.caused_by(envelope.Cause(payment.correlation_id, None, payment.traceparent)):
        if provider is None:
            await handlers.fail_payment(db, creation, "provider_not_configured", "refused")
        elif creation.key_age > domain.KEY_LIFETIME:
            await handlers.stop_looking(db, payment, "create_outcome_unknown")
        elif creation.age > provider.account.payment_ttl and not creation.is_uncertain:
            await handlers.fail_payment(db, creation, "provider_unavailable", "refused")
        else:
            await _create(db, provider, creation)


async def settle_webhooks(db: database.Database, accounts: clients.Accounts, webhooks: list[store.Webhook]) -> None:
    """Fetch the truth about the one payment that these hints are about, and let it settle payment and hints."""
    first = min(webhooks, key=lambda webhook: webhook.received_at)
    provider = accounts.named(first.provider, first.account)
    if provider is None:
        await handlers.park_unknown(db, webhooks)
        return
    here = envelope.current_cause()
    with envelope.caused_by(envelope.Cause(here.correlation_id, None, first.traceparent)):
        try:
            fact = await provider.fetch(first.provider_ref)
        except clients.NotFound:
            await handlers.park_unknown(db, webhooks)
            return
        except clients.ProviderError as error:
            telemetry.log.warning("payments.fetch_failed", provider=first.provider, error=repr(error))
            await handlers.postpone_webhooks(db, webhooks)
            return
        failpoints.passed("payments.after_fetch")
        if not await handlers.apply_provider_fact(
            db, provider.account, fact, accepted_at=first.received_at, webhooks=webhooks
        ):
            await handlers.park_unknown(db, webhooks)


async def check_due(db: database.Database, accounts: clients.Accounts, check: store.Check) -> None:
    """Fetch the truth about one open payment; after a week past its time it is left to a person."""
    payment = check.payment
    assert payment.account is not None  # what is pending was answered by an account
    assert payment.provider_ref is not None
    assert payment.expires_at is not None
    provider = accounts.named(payment.provider, payment.account)
    if check.leased_at > payment.expires_at + domain.CHECKED_FOR:
        await handlers.stop_looking(db, payment, "never_settled")
        return
    if provider is None:
        telemetry.log.warning("payments.account_unknown", payment_id=str(payment.payment_id), account=payment.account)
        return
    try:
        fact = await provider.fetch(payment.provider_ref)
    except clients.ProviderError as error:
        telemetry.log.warning("payments.fetch_failed", payment_id=str(payment.payment_id), error=repr(error))
        return
    failpoints.passed("payments.after_fetch")
    with envelope.caused_by(envelope.Cause(payment.correlation_id, None, payment.traceparent)):
        await handlers.apply_provider_fact(db, provider.account, fact, accepted_at=check.leased_at)


async def forget_webhooks(db: database.Database) -> int:
    """Delete settled webhooks that no repetition can follow any more; gives how many."""
    async with db.statement() as tx:
        return await store.forget_webhooks(tx)


async def measure(db: database.Database) -> int:
    """Set the gauges of what is not finished."""
    async with db.statement() as tx:
        counts = await store.count_open(tx)
    gauges = {"payment": OPEN_PAYMENTS, "webhook": OPEN_WEBHOOKS, "finding": OPEN_FINDINGS}
    for gauge in gauges.values():
        gauge.clear()
    for open_state in domain.OPEN:
        OPEN_PAYMENTS.labels(open_state).set(0)
    for kind, state, count in counts:
        gauges[kind].labels(state).set(count)
    return 0


async def _create(db: database.Database, provider: clients.Provider, creation: store.Creation) -> None:
    try:
        fact = await provider.create(creation.payment, key=creation.key)
    except clients.Rejected as error:
        await handlers.fail_payment(db, creation, error.code, "rejected")
    except clients.RateLimited as error:
        await handlers.postpone_creation(db, creation, "refused", error.retry_after_s)
    except clients.AuthFailed:
        telemetry.log.error("payments.credentials_refused", provider=provider.account.provider)
        await handlers.postpone_creation(db, creation, "refused", AUTH_REST_S)
    except clients.ProviderError as error:
        telemetry.log.warning("payments.create_unknown", payment_id=str(creation.payment.payment_id), error=repr(error))
        await handlers.postpone_creation(db, creation, "unknown", domain.create_rest_s(creation.tries))
    else:
        await handlers.apply_provider_fact(db, provider.account, fact, accepted_at=fact.created_at, is_creation=True)


def _looked_at(webhook: store.Webhook) -> tuple[str, str, str]:
    return webhook.provider, webhook.account, webhook.provider_ref
