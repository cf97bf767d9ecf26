import shutil
from pathlib import Path
from typing import Any

import pytest

PROJECT = "pyproject.toml"
COPIED = (PROJECT, "deploy/local/processes.py", "docker-compose.yml", "bench/end_to_end.py")


@pytest.fixture
def house(root: Path, tmp_path: Path) -> Path:
    """A copy of the places that name services, which a test may break."""
    members = [str(path.relative_to(root)) for path in root.glob(f"*/*/{PROJECT}")]
    for name in (*COPIED, *members):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    for folder in ("bench", "tools", "deploy"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return tmp_path


def test_every_place_names_the_services_that_exist(run: Any, root: Path) -> None:
    outcome = run("service_lists", root)

    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.startswith("services: 5 are named in each of ")


def test_a_new_service_is_missing_in_every_place(run: Any, house: Path) -> None:
    (house / "services/loyalty").mkdir()
    (house / "services/loyalty" / PROJECT).write_text('[project]\nname = "kopilka-loyalty"\n')

    problems = run("service_lists", house).stderr.splitlines()

    places = [line.removesuffix(": the service loyalty is missing") for line in problems if line.endswith("is missing")]
    assert {place.partition(": ")[0] for place in places} == set(COPIED)
    assert {"pyproject.toml: tool.mypy.mypy_path", "pyproject.toml: tool.coverage.run.source_pkgs"} <= set(places)
    assert "docker-compose.yml: migrate" in places
    assert sum("services/loyalty/pyproject.toml: [project." in line for line in problems) == 2
    assert len(problems) == len(places) + 2


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        (PROJECT, '  "services/orders/src",\n', "", "tool.mypy.mypy_path: the service orders is missing"),
        (PROJECT, '"orders", "payments"]\npatch', '"payments"]\npatch', "source_pkgs: the service orders is missing"),
        (PROJECT, '["gateway.*", ', '["gateway.*", "door.*", ', "containers: door is no package or folder"),
        ("deploy/local/processes.py", '"orders", "migrate"', '"ledger", "migrate"', "migrations: the service orders"),
        ("deploy/local/processes.py", '"orders", "worker"', '"order", "worker"', "processes: order is no package"),
        ("docker-compose.yml", "        orders migrate\n", "", "migrate: the service orders is missing"),
        ("docker-compose.yml", "[orders, worker]", "[ledger, worker]", "containers: the service orders is missing"),
        ("bench/end_to_end.py", '"orders", ', "", "SERVICES: the service orders is missing"),
        (
            "services/orders/pyproject.toml",
            ":SERVICE",
            ":OTHER",
            "services/orders/pyproject.toml: [project.entry-points",
        ),
        ("services/orders/pyproject.toml", "orders.main:main", "orders.main:run", "[project.scripts] must have orders"),
    ],
)
def test_a_place_that_disagrees_is_named(
    run: Any, house: Path, *, name: str, old: str, new: str, complaint: str
) -> None:
    text = (house / name).read_text()
    assert old in text
    (house / name).write_text(text.replace(old, new, 1))

    outcome = run("service_lists", house)

    assert outcome.returncode == 1
    assert complaint in outcome.stderr
    assert "gateway" not in outcome.stderr
