import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncapi
import pytest

from chassis import discovery

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ledger() -> asyncapi.Document:
    return asyncapi.document(discovery.load("ledger"))


def test_a_document_of_each_service_is_built(run: Run, tmp_path: Path) -> None:
    outcome = run("asyncapi", tmp_path / "built")

    assert outcome.returncode == 0, outcome.stderr
    assert {path.stem for path in (tmp_path / "built").iterdir()} == set(discovery.names())
    document = json.loads((tmp_path / "built/ledger.json").read_text())
    assert {"ledger.payments", "ledger.commands", "ledger.transfer.posted.v1"} <= document["channels"].keys()


def without_a_queue(document: Any) -> None:
    del document["channels"]["ledger.payments"]


def without_an_event(document: Any) -> None:
    del document["channels"]["ledger.hold.placed.v1"]


def without_a_consumed_message(document: Any) -> None:
    choices = document["components"]["messages"]["ledger.commands:SubscribeMessage"]["payload"]["oneOf"]
    choices.remove({"$ref": "#/components/schemas/PlaceHold"})


def without_a_schema(document: Any) -> None:
    del document["components"]["schemas"]["Money"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (without_a_queue, "the queue ledger.payments lacks the message PaymentPaid"),
        (without_an_event, "the event ledger.hold.placed.v1 is missing"),
        (without_a_consumed_message, "the queue ledger.commands lacks the message PlaceHold"),
        (without_a_schema, "#/components/schemas/Money refers to nothing"),
    ],
)
def test_a_fault_of_a_document_is_named(
    ledger: asyncapi.Document, change: Callable[[Any], None], complaint: str
) -> None:
    broken = json.loads(json.dumps(ledger))
    change(broken)

    assert complaint in list(asyncapi.faults(discovery.load("ledger"), broken))
    assert list(asyncapi.faults(discovery.load("ledger"), ledger)) == []
