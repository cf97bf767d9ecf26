import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def documents(root: Path, tmp_path: Path) -> Path:
    """A copy of the committed documents that a test may break."""
    shutil.copytree(root / "docs/asyncapi", tmp_path / "docs/asyncapi")
    return tmp_path


def test_the_committed_documents_are_what_the_code_says(run: Run) -> None:
    assert run("asyncapi").returncode == 0


def test_a_document_that_differs_fails_and_is_named(documents: Path, run: Run) -> None:
    (documents / "docs/asyncapi/ledger.json").write_text("{}")

    checked = run("asyncapi", documents)

    assert checked.returncode == 1
    assert "docs/asyncapi/ledger.json" in checked.stderr
    assert "gateway" not in checked.stderr


def test_a_written_document_names_what_the_service_hears_and_says(documents: Path, run: Run) -> None:
    (documents / "docs/asyncapi/ledger.json").unlink()

    assert run("asyncapi", documents, "--write").returncode == 0

    told = json.loads((documents / "docs/asyncapi/ledger.json").read_text())
    assert {"ledger.payments", "ledger.commands", "ledger.transfer.posted.v1"} <= told["channels"].keys()
