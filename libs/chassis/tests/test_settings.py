import notes
import pytest

from chassis import settings

GOOD = {
    "NOTES_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:5432/notes",
    "KOPILKA_AMQP_URL": "amqp://user:hunter2@127.0.0.1:5672/vhost",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("KOPILKA_DATABASE_URL", raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("KOPILKA_PREFETCH", "7")

    config = settings.load(notes.NotesSettings)

    assert config.prefetch == 7
    assert config.admin_database_url is None
    assert config.amqp_url.get_secret_value() == GOOD["KOPILKA_AMQP_URL"]


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_setting_stops_the_start_with_its_name(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    environment.delenv(name)

    with pytest.raises(SystemExit) as stop:
        settings.load(notes.NotesSettings)

    assert stop.value.code == settings.EXIT_CONFIG
    assert f"setting {name}: Field required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTES_DATABASE_URL", "mysql://user:hunter2@127.0.0.1/notes"),
        ("NOTES_DATABASE_URL", "hunter2"),
        ("KOPILKA_AMQP_URL", "http://user:hunter2@127.0.0.1/"),
        ("KOPILKA_DATABASE_URL", "hunter2"),
        ("KOPILKA_HTTP_PORT", "hunter2"),
        ("KOPILKA_HTTP_PORT", "70000"),
        ("KOPILKA_POOL_SIZE", "0"),
        ("KOPILKA_PREFETCH", "1001"),
        ("KOPILKA_LOG_LEVEL", "hunter2"),
        ("KOPILKA_FAILPOINT", "hunter2:x"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_its_name_and_without_its_value(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    environment.setenv(name, value)

    with pytest.raises(SystemExit) as stop:
        settings.load(notes.NotesSettings)

    errors = capsys.readouterr().err
    assert stop.value.code == settings.EXIT_CONFIG
    assert errors.startswith(f"setting {name}: ")
    assert "hunter2" not in errors


def test_a_broker_user_of_its_own_replaces_the_shared_one(environment: pytest.MonkeyPatch) -> None:
    shared = settings.load(notes.NotesSettings)
    environment.setenv("NOTES_AMQP_URL", "amqp://own:hunter2@127.0.0.1/")
    own = settings.load(notes.NotesSettings)
    environment.delenv("KOPILKA_AMQP_URL")
    alone = settings.load(notes.NotesSettings)

    assert [each.has_own_broker_user for each in (shared, own, alone)] == [False, True, True]
    assert own.amqp_url == alone.amqp_url != shared.amqp_url


def test_settings_do_not_print_their_secrets(environment: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(settings.load(notes.NotesSettings))
