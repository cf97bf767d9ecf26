"""The command line of the notifier on real notifications."""

from uuid import uuid4

import pytest

from chassis import database
from contracts.message import TenantId, UserId
from notifier import main, operations, store
from notifier.domain import templates

DEMO = TenantId("demo")


@pytest.fixture(autouse=True)
def environment(db: database.Database, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://nobody@localhost")
    monkeypatch.setenv("NOTIFIER_BOT_TOKEN", "7000000012:a-secret-of-the-operations-tests")
    monkeypatch.setenv("NOTIFIER_MANAGER_CHAT_ID", "-5")


@pytest.fixture
async def failed(db: database.Database) -> int:
    """The id of a notification for the managers that Telegram refused, beside one that has arrived."""
    async with db.transaction() as tx:
        drafts = [
            templates.Draft(DEMO, "order_to_pack", "1", None, "Pack <b>it</b>"),
            templates.Draft(DEMO, "top_up", "2", UserId(uuid4()), "Topped up"),
        ]
        await store.add(tx, drafts)
        await tx.execute(
            "UPDATE notification SET state = 'failed', reason = 'rejected', attempts = 1 WHERE user_id IS NULL"
        )
        await tx.execute("UPDATE notification SET state = 'sent' WHERE user_id IS NOT NULL")
        number: int = await tx.fetchval("SELECT id FROM notification WHERE user_id IS NULL")
        await tx.execute(
            "INSERT INTO delivery (notification_id, outcome, http_status, detail) VALUES ($1, 'rejected', 400, 'why')",
            number,
        )
    return number


async def test_the_list_shows_what_did_not_arrive_and_why(failed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert await operations.list_notifications(main.SERVICE, []) == 0

    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{failed}  ")
    assert line.split()[3:] == ["failed", "rejected", "order_to_pack", "managers", "why"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--state", "sent"], 1),
        (["--state", "blocked"], 0),
        (["--kind", "order_to_pack"], 1),
        (["--kind", "nothing"], 0),
        (["--managers", "--state", "sent"], 0),
        (["--tenant", "another"], 0),
    ],
)
async def test_the_list_is_filtered(
    failed: int, capsys: pytest.CaptureFixture[str], filters: list[str], count: int
) -> None:
    await operations.list_notifications(main.SERVICE, filters)

    assert len(capsys.readouterr().out.splitlines()) == count


async def test_one_is_shown_with_its_text_and_its_deliveries(failed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert await operations.show(main.SERVICE, [str(failed)]) == 0

    printed = capsys.readouterr().out
    assert "Pack <b>it</b>" in printed
    assert printed.splitlines()[-1].endswith("rejected  400  why")


async def test_one_that_does_not_exist_is_said(failed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert await operations.show(main.SERVICE, ["999"]) == 2

    assert "999 does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("by_state", [False, True])
async def test_what_failed_is_queued_again(
    db: database.Database, failed: int, capsys: pytest.CaptureFixture[str], *, by_state: bool
) -> None:
    arguments = ["--state", "failed"] if by_state else [str(failed)]

    assert await operations.resend(main.SERVICE, [*arguments, "--dry-run"]) == 0
    async with db.transaction() as tx:
        before = await tx.fetchval("SELECT state FROM notification WHERE id = $1", failed)
    assert await operations.resend(main.SERVICE, arguments) == 0

    async with db.transaction() as tx:
        [after] = await tx.fetch(
            "SELECT state, attempts, reason, resent_at IS NULL FROM notification WHERE id = $1", failed
        )
    assert (before, tuple(after)) == ("failed", ("queued", 0, None, False))
    assert capsys.readouterr().out.split() == [str(failed)] * 2


async def test_what_is_not_there_or_still_queued_is_not_resent(failed: int, capsys: pytest.CaptureFixture[str]) -> None:
    await operations.resend(main.SERVICE, [str(failed)])

    assert await operations.resend(main.SERVICE, [str(failed), "999"]) == 2
    assert f"not there, or not ended: {failed}, 999" in capsys.readouterr().err
    assert await operations.resend(main.SERVICE, ["--state", "failed"]) == 2
    assert "nothing matches" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["1", "--state", "failed"], ["--state", "queued"], ["--state", "lost"]])
async def test_a_resend_without_a_clear_choice_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        await operations.resend(main.SERVICE, arguments)

    assert refused.value.code == 2


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x"])
async def test_a_limit_out_of_its_range_is_refused(limit: str) -> None:
    with pytest.raises(SystemExit) as refused:
        await operations.list_notifications(main.SERVICE, ["--limit", limit])

    assert refused.value.code == 2
