from pathlib import Path
from typing import Any

import pytest

TEST = """\
import pytest


@pytest.mark.rule("AB1")
async def test_a_box_holds_water() -> None: ...


@pytest.mark.rule("AB2", "AB3")
class Lid:
    def test_it_closes(self) -> None: ...
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A tree with one test file and the words of its rules, with the page written."""
    (tmp_path / "services/box/tests").mkdir(parents=True)
    (tmp_path / "tools").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "services/box/tests/test_box.py").write_text(TEST)
    words = '[Boxes]\nAB1 = "A box holds water."\nAB2 = "Its lid closes."\nAB3 = "It opens again."\n'
    (tmp_path / "tools/rules.toml").write_text(words)
    return tmp_path


@pytest.fixture
def written(run: Any, workspace: Path) -> Path:
    """The page of that tree."""
    outcome = run("rules", workspace, "--write")
    assert outcome.returncode == 0, outcome.stderr
    return workspace / "docs/rules.md"


def test_our_own_page_tells_which_rules_hold(run: Any, root: Path) -> None:
    outcome = run("rules", root)

    assert outcome.returncode == 0, outcome.stderr


def test_the_page_names_each_rule_with_its_tests(run: Any, workspace: Path, written: Path) -> None:
    outcome = run("rules", workspace)

    page = written.read_text()
    assert outcome.returncode == 0, outcome.stderr
    assert "| AB1 | A box holds water. | [test_a_box_holds_water](../services/box/tests/test_box.py) |" in page
    assert "| AB3 | It opens again. | [Lid](../services/box/tests/test_box.py) |" in page


def test_a_marker_of_no_rule_is_named(run: Any, workspace: Path, written: Path) -> None:
    test = workspace / "services/box/tests/test_box.py"
    test.write_text(TEST.replace('"AB1"', '"AB9"'))

    outcome = run("rules", workspace)

    assert outcome.returncode == 1
    assert "no rule 'AB9'" in outcome.stderr
    assert "no test holds AB1" in outcome.stderr


def test_a_page_that_is_behind_its_tests_is_refused(run: Any, workspace: Path, written: Path) -> None:
    test = workspace / "services/box/tests/test_box.py"
    test.write_text(TEST.replace("holds_water", "holds_wine"))

    outcome = run("rules", workspace)

    assert outcome.returncode == 1
    assert "out of date" in outcome.stderr


def test_a_missing_page_is_refused(run: Any, workspace: Path) -> None:
    outcome = run("rules", workspace)

    assert outcome.returncode == 1
    assert "out of date" in outcome.stderr
