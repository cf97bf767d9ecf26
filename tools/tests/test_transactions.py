from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[str, str], None]

HANDLERS = '''\
"""Handles messages."""

from chassis import broker, inbox, outbox
from paper import store


async def wrap(db, delivery, event):
    """Wrap one parcel."""
    async with db.transaction() as tx:
        if not await inbox.claim(tx, delivery):
            return
        await store.save(tx, event)
        await outbox.put(tx, [])


QUEUES = (broker.Queue("paper.orders", {object: wrap}),)
'''

WRAP_THROUGH_ONCE = '''\
async def wrap(db, delivery, event):
    """Wrap one parcel."""
    if parcels := domain.parcels_of(event):
        await _once(db, delivery, parcels)


'''


@pytest.fixture(autouse=True)
def handlers(write: Write) -> None:
    write("services/paper/src/paper/handlers.py", HANDLERS)


def test_our_own_tree_keeps_every_rule(run: Any, root: Path) -> None:
    outcome = run("transactions", root)

    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        if not await inbox.claim(tx, delivery):\n            return\n", ""),
        ("        if not await", "        await store.save(tx, event)\n        if not await"),
        ("        if not await", "        await outbox.put(tx, [])\n        if not await"),
    ],
)
def test_a_handler_that_does_not_claim_first_is_named(
    run: Any, workspace: Path, write: Write, old: str, new: str
) -> None:
    write("services/paper/src/paper/handlers.py", HANDLERS.replace(old, new, 1))

    outcome = run("transactions", workspace)

    assert outcome.returncode == 1
    assert "wrap does not begin with inbox.claim" in outcome.stderr


def test_a_handler_of_a_slice_that_does_not_claim_is_named(run: Any, workspace: Path, write: Write) -> None:
    write(
        "services/paper/src/paper/handlers/queues.py",
        '''\
        """The queues."""

        import paper.gifts.handlers
        from chassis import batch

        QUEUE = batch.BatchQueue(queue="paper.hot", messages=(), handle=paper.gifts.handlers.wrap_many)
        ''',
    )
    write(
        "services/paper/src/paper/gifts/handlers.py",
        '''\
        """Gifts."""


        async def wrap_many(db, items):
            """Wrap parcels."""
        ''',
    )

    outcome = run("transactions", workspace)

    assert outcome.returncode == 1
    assert "paper.gifts.handlers.wrap_many does not begin with inbox.claim" in outcome.stderr


def test_a_batch_handler_of_another_room_that_does_not_claim_is_named(run: Any, workspace: Path, write: Write) -> None:
    write(
        "services/paper/src/paper/main.py",
        '''\
        """The composition root."""

        from chassis import batch
        from paper import timers

        QUEUE = batch.BatchQueue(queue="paper.hot", messages=(), handle=timers.wrap_many)
        ''',
    )
    write(
        "services/paper/src/paper/timers.py",
        '''\
        """Scheduled work."""


        async def wrap_many(db, items):
            """Wrap parcels."""
        ''',
    )

    outcome = run("transactions", workspace)

    assert outcome.returncode == 1
    assert "timers.wrap_many does not begin with inbox.claim" in outcome.stderr


def test_a_handler_may_claim_in_a_function_beside_it(run: Any, workspace: Path, write: Write) -> None:
    text = HANDLERS.replace("async def wrap(", "async def _once(").replace("QUEUES", WRAP_THROUGH_ONCE + "QUEUES")
    write("services/paper/src/paper/handlers.py", text)

    outcome = run("transactions", workspace)

    assert outcome.returncode == 0, outcome.stderr


def test_a_handler_that_can_not_be_seen_is_named(run: Any, workspace: Path, write: Write) -> None:
    write("services/paper/src/paper/handlers.py", HANDLERS.replace("object: wrap", "object: lambda *_: None"))

    outcome = run("transactions", workspace)

    assert outcome.returncode == 1
    assert "name the handler plainly" in outcome.stderr


@pytest.mark.parametrize(
    "registered",
    [
        "{object: partial(wrap, size)}",
        "{**dict.fromkeys([object], partial(wrap, size))}",
        "dict.fromkeys([object], wrap)",
        "{object: known}",
    ],
)
@pytest.mark.parametrize("is_claimed", [True, False])
def test_a_handler_is_found_behind_what_wraps_it(
    run: Any, workspace: Path, write: Write, registered: str, *, is_claimed: bool
) -> None:
    claim = "        if not await inbox.claim(tx, delivery):\n            return\n"
    text = HANDLERS.replace("{object: wrap}", registered).replace(
        "QUEUES", "known = update_wrapper(partial(wrap), wrap)\nQUEUES"
    )
    write("services/paper/src/paper/handlers.py", text if is_claimed else text.replace(claim, ""))

    outcome = run("transactions", workspace)

    assert outcome.returncode == (0 if is_claimed else 1), outcome.stderr


@pytest.mark.parametrize(
    ("statement", "is_short"),
    [
        ("await store.save(tx, event)", True),
        ("await tx.execute(event)", True),
        ("await tx.fetch(event)", True),
        ("await announce(store.pages(tx), event)", True),
        ("await provider.fetch(event)", False),
        ("await asyncio.sleep(1)", False),
        ("await client", False),
    ],
)
def test_a_transaction_that_waits_for_others_is_named(
    run: Any, workspace: Path, write: Write, statement: str, *, is_short: bool
) -> None:
    body = f"    async with db.transaction() as tx:\n        {statement}\n"
    write("services/paper/src/paper/store.py", f'"""Statements."""\n\n\nasync def _tick(db, event):\n{body}')

    outcome = run("transactions", workspace)

    assert outcome.returncode == (0 if is_short else 1), outcome.stderr


@pytest.mark.parametrize(
    ("statement", "is_short"),
    [
        ("await tx.fetch(event)", True),
        ("await asyncio.sleep(0)", True),
        ("await provider.fetch(event)", False),
        ("await provider.fetch(await tx.fetch(event))", False),
    ],
)
def test_a_function_that_is_given_a_transaction_waits_for_nobody_else(
    run: Any, workspace: Path, write: Write, statement: str, *, is_short: bool
) -> None:
    text = f'"""Statements."""\n\n\nasync def _save(tx, event):\n    {statement}\n'
    write("services/paper/src/paper/store.py", text)

    outcome = run("transactions", workspace)

    assert outcome.returncode == (0 if is_short else 1), outcome.stderr


@pytest.mark.parametrize(
    ("body", "is_short"),
    [
        ("    writing = asyncio.create_task(store.save(tx))\n    await writing\n", True),
        ("    first, *others = txs\n    for each in others:\n        await each.fetch(event)\n", True),
        ("    row = await tx.fetchrow(event)\n    await provider.fetch(row)\n", False),
        ("    for row in await tx.fetch(event):\n        await row.provider.fetch(1)\n", False),
    ],
)
def test_what_a_statement_gave_is_no_part_of_the_transaction(
    run: Any, workspace: Path, write: Write, body: str, *, is_short: bool
) -> None:
    write("services/paper/src/paper/store.py", f'"""Statements."""\n\n\nasync def _save(tx, txs, event):\n{body}')

    outcome = run("transactions", workspace)

    assert outcome.returncode == (0 if is_short else 1), outcome.stderr


@pytest.mark.parametrize(
    ("path", "statement", "problem"),
    [
        ("store.py", 'await tx.fetch("SELECT 1")', None),
        ("gifts/store/boxes.py", 'await tx.fetch("SELECT 1")', None),
        ("timers.py", "await tx.execute(sql)", "runs a statement"),
        ("gifts/handlers.py", "await self.connection.fetchrow(sql)", "runs a statement"),
        ("domain.py", 'sql = "SELECT 1 FROM box"', "SQL outside of `store`"),
        ("domain.py", 'text = "Select a box."', None),
    ],
)
def test_sql_outside_of_its_room_is_named(
    run: Any, workspace: Path, write: Write, *, path: str, statement: str, problem: str | None
) -> None:
    write(f"services/paper/src/paper/{path}", f'"""Boxes."""\n\n\nasync def _do(tx, self, sql):\n    {statement}\n')

    outcome = run("transactions", workspace)

    assert outcome.returncode == (1 if problem else 0), outcome.stderr
    assert (problem or "") in outcome.stderr


LOCK_DUE = "(SELECT id FROM box WHERE due(1) ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)"


@pytest.mark.parametrize(
    ("statement", "is_bounded"),
    [
        (f"WITH due AS {LOCK_DUE} UPDATE box SET x = 1 FROM due WHERE id = due.id", True),
        (f"WITH due AS MATERIALIZED {LOCK_DUE} UPDATE box SET x = 1 FROM due", True),
        (LOCK_DUE.strip("()"), True),
        (f"UPDATE box SET x = 1 FROM {LOCK_DUE} AS due WHERE id = due.id", False),
        (f"UPDATE box SET x = 1 WHERE id IN {LOCK_DUE} RETURNING {{COLUMNS}}", False),
    ],
)
def test_rows_locked_in_a_subquery_are_named(
    run: Any, workspace: Path, write: Write, statement: str, *, is_bounded: bool
) -> None:
    write("services/paper/src/paper/store.py", f'"""Boxes."""\n\nCOLUMNS = "id"\n_LEASE = f"""\n{statement}\n"""\n')

    outcome = run("transactions", workspace)

    assert outcome.returncode == (0 if is_bounded else 1), outcome.stderr
    assert is_bounded or "in a CTE" in outcome.stderr


def test_a_call_after_the_transaction_is_accepted(run: Any, workspace: Path, write: Write) -> None:
    body = "    async with db.transaction() as tx:\n        await store.lease(tx)\n    await provider.fetch(event)\n"
    write("services/paper/src/paper/timers.py", f'"""Scheduled work."""\n\n\nasync def _tick(db, event):\n{body}')

    outcome = run("transactions", workspace)

    assert outcome.returncode == 0, outcome.stderr
