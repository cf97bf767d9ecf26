from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], None]


def test_our_own_tree_keeps_the_names_of_its_modules(run: Any, root: Path) -> None:
    outcome = run("imports", root)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("path", "statement", "module"),
    [
        ("services/paper/src/paper/handlers.py", "from paper.store import boxes as store", "paper.store.boxes"),
        ("services/paper/src/paper/handlers.py", "import paper.settings as config", "paper.settings"),
        ("services/paper/src/paper/handlers.py", "from paper.domain import State as BoxState", "paper.domain.State"),
        ("services/paper/tests/test_boxes.py", "import builders as make", "builders"),
        ("bench/folding.py", "import harness as h", "harness"),
    ],
)
def test_a_module_of_ours_that_is_renamed_is_named(
    run: Any, workspace: Path, write: Write, *, path: str, statement: str, module: str
) -> None:
    write("services/paper/tests/builders.py", "")
    write("bench/harness.py", "")
    write(path, f"{statement}\n")

    outcome = run("imports", workspace)

    assert outcome.returncode == 1
    assert f"{path}:1: {module} is renamed" in outcome.stderr


@pytest.mark.parametrize(
    "statement", ["import numpy as np", "from collections import abc as protocols", "from paper import store as store"]
)
def test_other_peoples_modules_may_be_renamed(run: Any, workspace: Path, write: Write, statement: str) -> None:
    write("services/paper/src/paper/handlers.py", f"{statement}\n")

    outcome = run("imports", workspace)

    assert outcome.returncode == 0, outcome.stderr
