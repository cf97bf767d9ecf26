import importlib
import json
import pkgutil
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from contracts import gateway, ledger, message, orders, payments

EXAMPLES = Path(__file__).parent.parent / "examples"
README = Path(__file__).parent.parent / "README.md"
PUBLISHERS = (gateway, ledger, orders, payments)


def example(wire_type: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((EXAMPLES / f"{wire_type}.json").read_text())
    return content


@pytest.mark.parametrize("wire_type", sorted(message.REGISTRY))
def test_every_message_reads_its_example_and_writes_it_back(wire_type: str) -> None:
    read = message.REGISTRY[wire_type].model_validate(example(wire_type), strict=False)

    written = json.loads(read.model_dump_json(exclude_unset=True))

    assert written == example(wire_type)


@pytest.mark.parametrize("wire_type", sorted(message.REGISTRY))
def test_a_field_of_a_later_version_is_ignored(wire_type: str) -> None:
    later = {**example(wire_type), "field_of_a_later_version": {"deep": [1, 2]}}

    read = message.REGISTRY[wire_type].model_validate(later)

    assert read == message.REGISTRY[wire_type].model_validate(example(wire_type))


@pytest.mark.parametrize("wire_type", sorted(message.REGISTRY))
def test_every_message_names_its_tenant_subject_and_key(wire_type: str) -> None:
    read = message.REGISTRY[wire_type].model_validate(example(wire_type))

    assert read.tenant == "demo"
    assert read.subject
    assert read.partition_key
    assert read.sequence >= 0


@pytest.mark.parametrize("wire_type", sorted(message.REGISTRY))
def test_a_message_without_a_tenant_is_refused(wire_type: str) -> None:
    without_tenant = {name: value for name, value in example(wire_type).items() if name != "tenant"}

    with pytest.raises(ValidationError, match="tenant"):
        message.REGISTRY[wire_type].model_validate(without_tenant)


@pytest.mark.parametrize("wire_type", sorted(message.REGISTRY))
def test_a_type_begins_with_its_service_and_ends_with_its_version(wire_type: str) -> None:
    cls = message.REGISTRY[wire_type]

    service, noun, verb, version = wire_type.split(".")

    assert service == cls.__module__.split(".")[1]
    assert noun
    assert verb.endswith(("ed", "paid", "paid_late")) == (cls.KIND == "event")
    assert version == "v1"


@pytest.mark.parametrize(
    "amount", [0, -1, 10.0, 10.5, "100", True, None, Decimal(10), float("nan"), message.AMOUNT_MINOR_MAX + 1]
)
def test_money_refuses_what_is_no_positive_integer_that_a_row_can_keep(amount: object) -> None:
    with pytest.raises(ValidationError):
        message.Money.model_validate({"amount_minor": amount, "currency": "RUB"})


@pytest.mark.parametrize("amount", ["10.0", "1e3", '"10"', "true", "9223372036854775808"])
def test_money_on_the_wire_is_an_integer(amount: str) -> None:
    with pytest.raises(ValidationError):
        message.Money.model_validate_json(f'{{"amount_minor": {amount}, "currency": "RUB"}}')


@pytest.mark.parametrize("currency", ["rub", "RU", "", "РУБ", "RUB ", "1RUB", "ABCDEFGHIJKLM"])
def test_money_refuses_a_currency_that_is_no_code(currency: str) -> None:
    with pytest.raises(ValidationError):
        message.Money.model_validate({"amount_minor": 1, "currency": currency})


def test_the_largest_amount_survives_the_wire() -> None:
    money = message.Money(amount_minor=message.AMOUNT_MINOR_MAX, currency="RUB")

    read = message.Money.model_validate_json(money.model_dump_json())

    assert read == money


def test_a_message_can_not_be_changed_after_it_was_made() -> None:
    event = payments.PaymentPaid.model_validate(example("payments.payment.paid.v1"))

    with pytest.raises(ValidationError, match="frozen"):
        setattr(event, "version", 99)  # noqa: B010 - a plain assignment is refused by the type checker already


def test_movements_of_one_owner_share_a_key_and_system_movements_share_the_tenants() -> None:
    posted = ledger.TransferPosted.model_validate(example("ledger.transfer.posted.v1"))
    held = ledger.HoldPlaced.model_validate(example("ledger.hold.placed.v1"))
    system_lines = tuple(line for line in posted.postings if line.account.owner is None)

    key = ledger.partition_key_of(posted.tenant, *(line.account for line in system_lines))

    assert posted.partition_key == held.partition_key
    assert key == "demo:system"


def test_the_legs_of_the_example_transfer_sum_to_zero() -> None:
    posted = ledger.TransferPosted.model_validate(example("ledger.transfer.posted.v1"))

    assert sum(line.amount_minor for line in posted.postings) == 0


def test_an_order_names_no_price() -> None:
    with_price = example("orders.order.place.v1")
    with_price["items"][0]["unit_price"] = {"amount_minor": 1, "currency": "RUB"}

    read = orders.PlaceOrder.model_validate(with_price)

    assert "unit_price" not in read.items[0].model_dump()


def test_every_service_that_publishes_is_in_the_registry() -> None:
    modules = {cls.__module__.split(".")[1] for cls in message.REGISTRY.values()}

    assert modules == {module.__name__.removeprefix("contracts.") for module in PUBLISHERS}


def test_every_class_of_the_ledgers_modules_is_a_name_of_the_package() -> None:
    found = pkgutil.iter_modules(ledger.__path__, "contracts.ledger.")
    modules = [importlib.import_module(module.name) for module in found]
    classes = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    }

    assert set(message.REGISTRY.values()) & classes
    assert classes == {getattr(ledger, cls.__name__, None) for cls in classes}
    assert set(ledger.__all__) >= {cls.__name__ for cls in classes}


@pytest.mark.parametrize(("column", "kind"), [(1, "event"), (2, "command")])
def test_the_readmes_table_has_every_message_of_every_service(column: int, kind: str) -> None:
    rows = [line.split("|")[1:] for line in README.read_text().splitlines() if line.startswith("| `")]

    listed = {row[0].strip(" `"): set(re.findall(r"`(\w+)`", row[column])) for row in rows}

    for module in PUBLISHERS:
        registered = {cls for cls in message.REGISTRY.values() if kind == cls.KIND}
        name = module.__name__.removeprefix("contracts.")
        assert listed[name] == {cls.__name__ for cls in registered if cls.__module__.split(".")[1] == name}


COMMANDS = [wire_type for wire_type, cls in message.REGISTRY.items() if issubclass(cls, ledger.LedgerCommand)]


@pytest.mark.parametrize("wire_type", COMMANDS)
def test_every_command_to_the_ledger_has_a_key_and_an_answer_that_refuses_it(wire_type: str) -> None:
    command = message.REGISTRY[wire_type].model_validate(example(wire_type))
    assert isinstance(command, ledger.LedgerCommand)

    refusal = command.refused("hold_ended", "It is over.")

    assert command.request_key.partition(":")[2]
    assert refusal.subject == command.subject
    assert refusal.model_dump(include={"code", "detail"}) == {"code": "hold_ended", "detail": "It is over."}
    assert not refusal.is_replayed


def test_each_of_several_captures_has_a_key_of_its_own_and_the_only_one_has_the_holds() -> None:
    one = ledger.CaptureHold.model_validate(example("ledger.hold.capture.v1"))
    others = [one.model_copy(update={"capture_id": UUID(int=number)}) for number in (1, 2)]

    assert one.request_key == f"capture:{one.hold_id}"
    assert len({each.request_key for each in (one, *others)}) == 3


@pytest.mark.parametrize(
    ("wire_type", "field"), [("ledger.hold.place.v1", "expires_at"), ("ledger.hold.extend.v1", "expires_at")]
)
def test_a_moment_without_a_zone_is_refused(wire_type: str, field: str) -> None:
    naive = {**example(wire_type), field: "2026-02-03T10:40:11"}

    with pytest.raises(ValidationError, match="timezone"):
        message.REGISTRY[wire_type].model_validate(naive)


@pytest.mark.parametrize(
    ("wire_type", "field"),
    [
        ("payments.payment.create.v1", "description"),
        ("payments.payment.create.v1", "payer"),
        ("payments.payment.refund.v1", "reason"),
        ("payments.payment.refunded.v1", "refund_ref"),
        ("payments.refund.failed.v1", "code"),
        ("payments.refund.refused.v1", "detail"),
        ("payments.finding.opened.v1", "kind"),
    ],
)
@pytest.mark.parametrize("text", ["a\0b", "\0", ""])
def test_a_text_that_no_row_can_hold_is_refused(wire_type: str, field: str, text: str) -> None:
    with pytest.raises(ValidationError, match=field):
        message.REGISTRY[wire_type].model_validate({**example(wire_type), field: text})


@pytest.mark.parametrize(
    "change",
    [
        {"email": None},
        {"phone": "79991234567"},
        {"items": []},
        {"email": "a\0@b"},
        {"email": "nobody"},
        {"items": [{"description": "\0", "price": {"amount_minor": 1, "currency": "RUB"}, "vat_code": 1}]},
        {"items": [{"description": "a", "price": {"amount_minor": 1, "currency": "RUB"}, "vat_code": 13}]},
    ],
)
def test_a_receipt_needs_one_address_and_items(change: dict[str, Any]) -> None:
    command = example("payments.payment.create.v1")
    command["receipt"].update(change)

    with pytest.raises(ValidationError, match="receipt"):
        payments.CreatePayment.model_validate(command)
