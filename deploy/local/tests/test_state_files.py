import socket
import stat
from pathlib import Path

import errors
import pytest
import state_files


def test_a_port_is_chosen_once_and_then_kept(tmp_path: Path) -> None:
    chosen = state_files.Ports(tmp_path / "ports.json").of("web")

    assert state_files.Ports(tmp_path / "ports.json").of("web") == chosen


def test_two_names_never_share_a_port(tmp_path: Path) -> None:
    ports = state_files.Ports(tmp_path / "ports.json")

    chosen = [ports.of(f"web {number}") for number in range(20)]

    assert len(set(chosen)) == 20


def test_a_port_in_use_by_another_process_is_replaced(tmp_path: Path) -> None:
    ports = state_files.Ports(tmp_path / "ports.json")
    before = ports.of("web")
    with socket.create_server(("127.0.0.1", before)):
        ports.replace_taken(["web"])

        assert ports.of("web") != before


def test_a_usual_port_that_is_taken_is_said_with_the_one_instead(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        ports = state_files.Ports(tmp_path / "ports.json", {"web": usual})

        sentences = ports.replace_taken(["web"])

    assert sentences == [f"port {usual} was taken, so web has {ports.of('web')}"]


def test_a_stored_port_that_is_free_is_kept(tmp_path: Path) -> None:
    ports = state_files.Ports(tmp_path / "ports.json")
    before = ports.of("web")

    ports.replace_taken(["web"])

    assert ports.of("web") == before


def test_a_preferred_port_is_used_only_if_it_is_free(tmp_path: Path) -> None:
    preferred = state_files.Ports(tmp_path / "other.json").of("web")

    taken = state_files.Ports(tmp_path / "free.json", {"web": preferred}).of("web")
    with socket.create_server(("127.0.0.1", preferred)):
        instead = state_files.Ports(tmp_path / "busy.json", {"web": preferred}).of("web")

    assert taken == preferred
    assert instead != preferred


def test_a_secret_is_made_once_in_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"

    secret = state_files.Secrets(path).of("key")

    assert state_files.Secrets(path).of("key") == secret != state_files.Secrets(path).of("other key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_file_is_reported_with_advice(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{")

    with pytest.raises(errors.DeployError, match=r"ports\.json is damaged .* Delete it"):
        state_files.Ports(tmp_path / "ports.json").of("web")


def test_a_second_command_waits_for_the_lock_up_to_its_limit(tmp_path: Path) -> None:
    with (
        state_files.locked(tmp_path / "lock", limit_s=1),
        pytest.raises(errors.DeployError, match="another command"),
        state_files.locked(tmp_path / "lock", limit_s=0.2),
    ):
        pass
