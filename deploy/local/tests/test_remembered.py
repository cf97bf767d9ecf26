import socket
import stat
from pathlib import Path

import pytest
import remembered


def test_a_port_is_chosen_once_and_then_remembered(tmp_path: Path) -> None:
    chosen = remembered.Ports(tmp_path / "ports.json").of("door")

    assert remembered.Ports(tmp_path / "ports.json").of("door") == chosen


def test_two_names_never_share_a_port(tmp_path: Path) -> None:
    ports = remembered.Ports(tmp_path / "ports.json")

    chosen = [ports.of(f"door {number}") for number in range(20)]

    assert len(set(chosen)) == 20


def test_a_remembered_port_that_another_has_taken_is_chosen_anew(tmp_path: Path) -> None:
    ports = remembered.Ports(tmp_path / "ports.json")
    before = ports.of("door")
    with socket.create_server(("127.0.0.1", before)):
        ports.settle(["door"])

        assert ports.of("door") != before


def test_a_remembered_port_that_is_free_stays(tmp_path: Path) -> None:
    ports = remembered.Ports(tmp_path / "ports.json")
    before = ports.of("door")

    ports.settle(["door"])

    assert ports.of("door") == before


def test_a_preferred_port_is_taken_only_while_it_is_free(tmp_path: Path) -> None:
    preferred = remembered.Ports(tmp_path / "other.json").of("door")

    taken = remembered.Ports(tmp_path / "free.json", {"door": preferred}).of("door")
    with socket.create_server(("127.0.0.1", preferred)):
        instead = remembered.Ports(tmp_path / "busy.json", {"door": preferred}).of("door")

    assert taken == preferred
    assert instead != preferred


def test_a_secret_is_made_once_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    secret = remembered.Secrets(path).of("key")

    assert remembered.Secrets(path).of("key") == secret != remembered.Secrets(path).of("other key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")

    with pytest.raises(remembered.TroubleError, match=r"ports\.json is damaged .* Delete it"):
        remembered.Ports(tmp_path / "ports.json").of("door")


def test_a_second_command_waits_no_longer_than_its_limit(tmp_path: Path) -> None:
    with (
        remembered.locked(tmp_path / "lock", limit_s=1),
        pytest.raises(remembered.TroubleError, match="another command"),
        remembered.locked(tmp_path / "lock", limit_s=0.2),
    ):
        pass
