"""Settling in memory: each request has its own outcome, and the same command is answered the same again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import builders
import pytest
from builders import DEMO, OTHER, USER

from contracts import ledger
from contracts.message import REGISTRY, Money
from ledger.domain import accounts, batches, books, chart, requests, requirements

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HOLD = ledger.HoldId(UUID(int=7))


def batch_for(*messages: Any, wallet: int = 1_000) -> tuple[batches.Batch, list[requests.Request]]:
    """A batch with everything that the messages require, where the user has some money."""
    to_settle = [requests.Request(message, uuid4()) for message in messages]
    required = requirements.of_requests(to_settle)
    wanted = required.accounts(of_holds=(), of_reversals=())
    definitions = {**wanted.to_read, **wanted.to_open}
    for definition in (chart.user_account(DEMO, USER, "RUB"), chart.system_account(DEMO, "revenue", "RUB")):
        definitions[definition.name] = definition
    funded = {chart.user_account(DEMO, USER, "RUB"): wallet}
    loaded = [
        accounts.Account(
            accounts.AccountId(number),
            definition,
            accounts.AccountValues(definition.overdraft_minor, funded.get(definition, 0)),
        )
        for number, definition in enumerate(definitions.values(), 1)
    ]
    return batches.Batch(books.Books(loaded, at=NOW, new_id=uuid4), required), to_settle


def settle_all(*messages: Any, wallet: int = 1_000) -> list[requests.Outcome]:
    batch, to_settle = batch_for(*messages, wallet=wallet)
    return [batch.settle(request) for request in to_settle]


def placed(**changes: Any) -> ledger.PlaceHold:
    return builders.place(100, hold_id=HOLD, expires_at=NOW + timedelta(minutes=15), **changes)


COMMANDS: list[tuple[ledger.LedgerCommand, list[ledger.LedgerCommand], dict[str, Any], str]] = [
    (placed(), [], {"reference": "order:2"}, "reference"),
    (placed(), [], {"amount": Money(amount_minor=101, currency="RUB")}, "amount_minor"),
    (placed(), [], {"amount": Money(amount_minor=100, currency="USD")}, "currency"),
    (placed(), [], {"user_id": OTHER}, "user_id"),
    (placed(), [], {"expires_at": LATER}, "expires_at"),
    (placed(), [], {"also": Money(amount_minor=1, currency="PTS")}, "also"),
    (builders.capture(placed(), 50), [placed()], {"amount_minor": 51}, "amount_minor"),
    (builders.capture(placed(), 50), [placed()], {"keep_rest": True}, "keep_rest"),
    (
        builders.post(builders.transfer(builders.leg(builders.WALLET, -5), builders.leg("revenue", 5))),
        [],
        {},
        "amount_minor",
    ),
    (builders.send(5), [], {"to_user_id": UUID(int=3)}, "to_user_id"),
    (builders.reverse(ledger.TransferId(uuid4())), [], {"transfer_id": uuid4()}, "transfer_id"),
    (builders.reverse(ledger.TransferId(uuid4())), [], {"amount_minor": 5}, "amount_minor"),
    (builders.account_command(ledger.FreezeAccount), [], {"account": "revenue"}, "account"),
    (builders.account_command(ledger.UnfreezeAccount), [], {"asset": "USD"}, "asset"),
    (builders.account_command(ledger.CloseAccount), [], {"account": "revenue"}, "account"),
    (builders.account_command(ledger.SetOverdraft, overdraft_minor=5), [], {"overdraft_minor": 6}, "overdraft_minor"),
]


@pytest.mark.parametrize(("command", "before", "change", "field"), COMMANDS)
def test_another_body_under_the_same_key_is_a_conflict_that_names_the_field(
    command: ledger.LedgerCommand, before: list[ledger.LedgerCommand], change: dict[str, Any], field: str
) -> None:
    if isinstance(command, ledger.PostTransfers):
        (transfer,) = command.transfers
        legs = (builders.leg(builders.WALLET, -6), builders.leg("revenue", 6))
        change = {"transfers": (transfer.model_copy(update={"legs": legs}),)}
    other = command.model_copy(update=change)

    *_, first, again = settle_all(*before, command, other)

    assert isinstance(again.refusal, requests.IdempotencyConflict)
    assert again.answer is not None
    assert again.answer.model_dump()["code"] == "idempotency_conflict"
    assert f"another {field}." in again.refusal.detail
    assert (first.refusal is again.refusal, again.answer.is_replayed) == (False, False)


EVERY_COMMAND: list[tuple[ledger.LedgerCommand, list[ledger.LedgerCommand]]] = [
    (placed(), []),
    (builders.extend(placed(), 60), [placed()]),
    (builders.capture(placed(), 50), [placed()]),
    (builders.release(placed()), [placed()]),
    (builders.post(builders.transfer(builders.leg(builders.WALLET, -5), builders.leg("revenue", 5))), []),
    (builders.send(5), []),
    (builders.reverse(ledger.TransferId(uuid4())), []),
    (builders.account_command(ledger.FreezeAccount), []),
    (builders.account_command(ledger.UnfreezeAccount), []),
    (builders.account_command(ledger.CloseAccount), []),
    (builders.account_command(ledger.SetOverdraft, overdraft_minor=5), []),
]


def test_every_command_of_the_contract_is_settled_here() -> None:
    commands = {cls for cls in REGISTRY.values() if issubclass(cls, ledger.LedgerCommand)}

    assert commands == set(requests.COMMANDS) == {type(command) for command, _ in EVERY_COMMAND}


@pytest.mark.parametrize(("command", "before"), EVERY_COMMAND)
@pytest.mark.parametrize("wallet", [1_000, 0])
def test_the_same_body_under_the_same_key_gets_the_same_answer_marked_as_replayed(
    command: ledger.LedgerCommand, before: list[ledger.LedgerCommand], wallet: int
) -> None:
    again = type(command).model_validate_json(command.model_dump_json())
    batch, to_settle = batch_for(*before, command, again, wallet=wallet)
    first = [batch.settle(request) for request in to_settle[:-1]][-1]
    savepoint, standing = batch.book.savepoint(), [each.current for each in batch.book.accounts.values()]

    second = batch.settle(to_settle[-1])

    assert first.answer is not None
    assert second.answer == first.answer.model_copy(update={"is_replayed": True})
    assert second.events == (second.answer,)
    assert len(batch.new_outcomes) == len(before) + 1
    assert batch.book.savepoint() == savepoint
    assert [each.current for each in batch.book.accounts.values()] == standing


def test_one_key_is_not_two_commands_even_where_their_bodies_are_equal() -> None:
    freeze, unfreeze = (
        builders.account_command(command, key="k") for command in (ledger.FreezeAccount, ledger.UnfreezeAccount)
    )

    first, second = settle_all(freeze, unfreeze)

    assert isinstance(first.answer, ledger.AccountChanged)
    assert isinstance(second.refusal, requests.IdempotencyConflict)
    assert "another type" in second.refusal.detail


def test_a_body_that_was_written_before_a_field_was_added_is_still_the_same() -> None:
    command = builders.capture(placed(), 50)
    batch, to_settle = batch_for(command)
    old = type(command).model_validate(command.model_dump(exclude={"keep_rest", "capture_id"}))
    answer = command.refused("hold_ended", "It is over.")
    batch.settled[requests.RequestKey(DEMO, command.request_key)] = requests.SettledCommand(old, answer)

    assert batch.settle(to_settle[0]).answer == answer.model_copy(update={"is_replayed": True})


def test_the_same_time_in_another_zone_is_the_same_body() -> None:
    command = placed()
    text = command.model_dump_json().replace("2026-01-01T00:15:00Z", "2026-01-01T03:15:00+03:00")
    assert "+03:00" in text

    _, again = settle_all(command, ledger.PlaceHold.model_validate_json(text))

    assert again.refusal is None


def test_a_refusal_changes_nothing_but_the_stored_outcome() -> None:
    group = builders.post(
        builders.transfer(builders.leg(builders.WALLET, -500), builders.leg("revenue", 500)),
        builders.transfer(builders.leg(builders.WALLET, -501), builders.leg("revenue", 501)),
    )
    batch, to_settle = batch_for(group)

    outcome = batch.settle(to_settle[0])

    assert isinstance(outcome.answer, ledger.RequestRefused)
    assert (outcome.answer.code, outcome.events) == ("insufficient_funds", (outcome.answer,))
    assert batch.book.savepoint() == (0, 0, 0, 0)
    assert not any(account.is_changed for account in batch.book.accounts.values())
    assert [settled.answer for settled in batch.new_outcomes.values()] == [outcome.answer]


def test_each_of_several_requests_has_an_outcome_of_its_own() -> None:
    outcomes = settle_all(builders.send(600), builders.send(600), builders.send(400), builders.send(1))

    assert [each.refusal and each.refusal.code for each in outcomes] == [
        None,
        "insufficient_funds",
        None,
        "insufficient_funds",
    ]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (builders.post(builders.transfer(builders.leg("vault", -5), builders.leg("revenue", 5))), "unknown_account"),
        (
            builders.post(builders.transfer(builders.leg(builders.WALLET, -5), builders.leg("vault", 5))),
            "unknown_account",
        ),
        (
            builders.post(builders.transfer(builders.leg(builders.WALLET, -5, "XYZ"), builders.leg("revenue", 5))),
            "unknown_asset",
        ),
        (builders.send(5, asset="XYZ"), "unknown_asset"),
        (placed(amount=Money(amount_minor=5, currency="XYZ")), "unknown_asset"),
        (placed().model_copy(update={"also": Money(amount_minor=5, currency="XYZ")}), "unknown_asset"),
        (builders.account_command(ledger.FreezeAccount, "vault"), "unknown_account"),
        (builders.account_command(ledger.CloseAccount, "revenue", "XYZ"), "unknown_asset"),
        (builders.reverse(ledger.TransferId(uuid4())), "unknown_transfer"),
        (builders.send(5, destination=USER), "unbalanced"),
        (builders.send(5, asset="PTS"), "insufficient_funds"),
    ],
)
def test_a_command_that_names_something_unknown_is_refused_and_opens_no_account(
    command: ledger.LedgerCommand, code: str
) -> None:
    batch, (request,) = batch_for(command)

    outcome = batch.settle(request)

    assert outcome.refusal is not None
    assert outcome.refusal.code == code
    assert code not in {"unknown_account", "unknown_asset"} or not batch.required.to_open


def test_a_payment_in_an_asset_that_is_not_counted_is_refused_without_an_answer() -> None:
    (outcome,) = settle_all(builders.paid(5, "XYZ"))

    assert outcome.refusal is not None
    assert (outcome.refusal.code, outcome.answer, outcome.events) == ("unknown_asset", None, ())


@pytest.mark.parametrize(
    "command", [builders.extend(placed(), 60), builders.capture(placed(), 50), builders.release(placed())]
)
def test_a_command_on_a_hold_that_is_not_known_yet_has_no_outcome(command: ledger.HoldCommand) -> None:
    batch, (request,) = batch_for(command)

    with pytest.raises(requests.PrerequisiteMissing):
        batch.settle(request)

    assert batch.new_outcomes == {}


def test_every_answer_about_a_hold_carries_its_reference() -> None:
    hold = placed()
    commands = [
        hold,
        builders.capture(hold, 101),
        builders.capture(hold, 50),
        builders.extend(hold, -1),
        builders.release(hold),
    ]

    answers = [outcome.answer for outcome in settle_all(*commands)]

    assert [type(answer).__name__ for answer in answers] == [
        "HoldPlaced", "CaptureRefused", "CaptureRefused", "ExtensionRefused", "HoldReleased",
    ]  # fmt: skip
    assert {getattr(answer, "reference", None) for answer in answers} == {"order:1"}


def test_releasing_a_refused_hold_is_answered_with_its_refusal() -> None:
    hold = placed()

    refused, released = settle_all(hold, builders.release(hold), wallet=99)

    assert isinstance(refused.answer, ledger.HoldRefused)
    assert released.answer == refused.answer
