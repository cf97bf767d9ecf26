"""Changed messages in every queue of every service end as handled or as dead letters, and good ones are handled."""

import asyncio
from collections.abc import Iterator, Sequence

import broker_watch
import fuzzing
import mutations
import pytest
import queue_cases
from broker_watch import DEAD, HANDLED, PUT_OFF
from queue_cases import Case

from chassis import discovery, operations
from demo import stack

WAIT_S = 60
ALONE_S = 10  # so long has a message that is sent alone, when the smallest failing one is looked for
SUSPECTS_MAX = 30
GOOD_EACH = 2

# What may come before what it is about, and then waits for it in the retry queues.
WAITING = {
    "payments.payment.refunded.v1",
    "payments.refund.requested.v1",
    "payments.refund.reversed.v1",
    "payments.payment.disputed.v1",
    "payments.dispute.closed.v1",
    "ledger.hold.extend.v1",
    "ledger.hold.capture.v1",
    "ledger.hold.release.v1",
}
OF_ANOTHER = mutations.Change(("hold_id",), "another id")
KNOWN = [
    [
        # notatallshaw/nab#947, rabbitmq/rabbitmq-website#2207
        Case("ledger.payments", "payments.payment.paid.v1", headers=(("ce-time", "a time before the calendar"),)),
        Case("gateway.ledger", "ledger.transfer.posted.v1", headers=(("ce-time", "a time after the calendar"),)),
        # rebus-org/Rebus.RabbitMq#82: the retry's own header has no room in the frame
        Case("ledger.commands", "ledger.hold.capture.v1", body=(OF_ANOTHER,), short_of_frame=0),
        # found here: a correlation id that is longer than a property, on a message that is tried again and replayed
        Case(
            *("ledger.commands", "ledger.hold.capture.v1"),
            headers=(("ce-correlationid", "a text of 600 characters"),),
            body=(OF_ANOTHER,),
        ),
        *(Case("payments.commands", "payments.payment.create.v1", properties=name) for name in queue_cases.RAW),
    ]
]


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


@pytest.fixture(scope="module")
def watch(where: stack.Stack, runner: asyncio.Runner) -> Iterator[broker_watch.Watch]:
    opened = broker_watch.Watch(where)
    runner.run(opened.open())
    yield opened
    runner.run(opened.close())


@pytest.fixture(scope="module")
def good(watch: broker_watch.Watch, runner: asyncio.Runner) -> list[Case]:
    """One message for each queue that is handled as it is, found by sending all examples."""

    async def find() -> list[Case]:
        for salts in (range(1, broker_watch.SALTS), range(1)):  # the people of the good messages have no money
            for case in (
                Case("ledger.payments", "payments.payment.paid.v1"),
                Case("orders.commands", "orders.order.place.v1"),
            ):
                if salts[0] or case.queue.startswith("orders"):
                    sent = [one for salt in salts for one in await watch.send([case], salt=salt)]
                    assert await watch.outcomes(sent, wait_s=WAIT_S) == {one.number: HANDLED for one in sent}
        every = [Case(queue, wire_type) for queue, types in queue_cases.QUEUES.items() for wire_type in types]
        sent = await watch.send(every, salt=0)
        outcomes = await watch.outcomes(sent, wait_s=WAIT_S)
        handled = {one.case.queue: one.case for one in sent if outcomes.get(one.number) == HANDLED}
        assert {one.case.type for one in sent if outcomes.get(one.number) == PUT_OFF} <= WAITING
        assert handled.keys() == queue_cases.QUEUES.keys()
        return list(handled.values())

    return runner.run(find())


async def wrong(watch: broker_watch.Watch, cases: Sequence[Case], good: Sequence[Case], *, wait_s: float) -> list[str]:
    """Send cases with good messages before and behind, and tell what did not end well."""
    around = [case for case in good if case.queue in {one.queue for one in cases}] * GOOD_EACH
    before = await watch.send(around, salt=0)
    sent = await watch.send(cases)
    before += await watch.send(around, salt=0)
    outcomes = await watch.outcomes([*before, *sent], wait_s=wait_s)
    complaints = [
        f"a good message beside: {outcomes.get(g.number)}: {g.case}"
        for g in before
        if outcomes.get(g.number) != HANDLED
    ]
    for one in sent:
        outcome = outcomes.get(one.number)
        is_well = outcome in {HANDLED, DEAD} or (outcome == PUT_OFF and one.case.type in WAITING)
        complaints += [] if is_well else [f"{outcome or 'lost'}: {one.case}"]
    return complaints


async def alone(watch: broker_watch.Watch, case: Case, good: Sequence[Case]) -> list[str]:
    """Send one suspect, and take it away with its consumer when it does not end well: it might hold up the next."""
    complaints = await wrong(watch, [case], good, wait_s=ALONE_S)
    if complaints:
        await watch.reset(case.queue)
    return complaints


async def smallest(watch: broker_watch.Watch, cases: Sequence[Case], good: Sequence[Case]) -> list[str]:
    """Send suspects one by one, and of each that fails alone the cases with a change less."""
    found = []
    for case in cases[:SUSPECTS_MAX]:
        suspect, is_smallest = case, False
        complaints = await alone(watch, suspect, good)
        while complaints and not is_smallest:
            is_smallest = True
            for part in suspect.parts():
                if less := await alone(watch, part, good):
                    suspect, complaints, is_smallest = part, less, False
                    break
        if complaints:
            found.append(f"{suspect}\n    " + "\n    ".join(complaints))
    return found


def test_changed_messages_end_as_handled_or_as_dead_letters_and_good_ones_beside_are_handled(
    watch: broker_watch.Watch, good: list[Case], runner: asyncio.Runner
) -> None:
    async def check_all(cases: list[Case]) -> None:
        complaints = await wrong(watch, cases, good, wait_s=WAIT_S)
        if not complaints:
            return
        suffering = {queue for queue in queue_cases.QUEUES if any(repr(queue) in text for text in complaints)}
        for queue in suffering:
            await watch.reset(queue)
        suspects = sorted(
            (case for case in cases if case.queue in suffering), key=lambda one: repr(one) not in str(complaints)
        )
        found = await smallest(watch, suspects, good)
        pytest.fail("\n".join(["the smallest that fail alone:", *(found or ["none"]), "together:", *complaints]))

    fuzzing.run(
        lambda cases: runner.run(check_all(cases)), queue_cases.cases(), examples=3, known=KNOWN, is_shrunk=False
    )

    assert runner.run(watch.depths()) == {}


def test_every_dead_letter_can_be_shown_replayed_and_discarded(
    where: stack.Stack,
    watch: broker_watch.Watch,
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in where.environment.items():
        monkeypatch.setenv(name, value)

    def run(service: str, *arguments: str) -> str:
        code = runner.run(operations.run(discovery.load(service), "dlq", arguments))
        printed = capsys.readouterr()
        # What fills a whole frame can be shown and discarded, but has no room for the header of a replay.
        still_open = [line for line in printed.err.splitlines() if "is still open: the headers have" in line]
        assert (code, printed.err.splitlines()) == (1 if still_open else 0, still_open)
        return printed.out

    for service in discovery.names():
        run(service, "drain-broker")
        letters = runner.run(watch.open_dead_letters(service))
        assert run(service, "show").endswith(f"{service}: {letters} open\n")

        run(service, "replay", "--all")
        runner.run(watch.wait_until_empty())
        run(service, "discard", "--all")

        assert run(service, "list") == f"{service}: 0 open\n"
