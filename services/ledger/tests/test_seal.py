"""The hash chain: what is hashed, when it is sealed, and how edits are found."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import builders
import pytest
import sealing
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chassis import database
from contracts.message import AMOUNT_MINOR_MAX
from ledger import proof

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def transfers(count: int) -> list[proof.domain.CanonicalTransfer]:
    return [proof.domain.CanonicalTransfer(number, f"{number}") for number in range(1, count + 1)]


def chain(*sizes: int) -> list[proof.domain.Block]:
    """Seal blocks of these sizes, one after the other."""
    every = transfers(sum(sizes))
    blocks: list[proof.domain.Block] = []
    for size in sizes:
        after = blocks[-1] if blocks else None
        begin = after.last_number if after else 0
        blocks.append(proof.domain.seal(every[begin : begin + size], after=after, at=NOON))
    return blocks


async def fetch(db: database.Database, sql: str, *values: object) -> list[asyncpg.Record]:
    async with db.transaction() as tx:
        rows: list[asyncpg.Record] = await tx.fetch(sql, *values)
    return rows


async def credit(db: database.Database, count: int) -> None:
    await builders.settle(db, *(builders.paid() for _ in range(count)))


async def stored_blocks(db: database.Database) -> list[proof.domain.Block]:
    async with db.transaction() as tx:
        _, blocks = await proof.store.chain.blocks_after(tx, 0)
    return blocks


async def numbers(db: database.Database) -> list[int]:
    return [row[0] for row in await fetch(db, "SELECT number FROM transfer ORDER BY number")]


def sealed_numbers(blocks: Sequence[proof.domain.Block]) -> list[tuple[int, int, int]]:
    return [(each.first_number, each.last_number, each.transfers) for each in blocks]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 1_000, 1_023, 1_024])
def test_the_path_of_every_leaf_leads_to_the_root(count: int) -> None:
    hashes = [leaf.hash for leaf in transfers(count)]
    root = proof.domain.merkle_root(hashes)

    for place in {*range(min(count, 9)), count // 2, count - 1}:
        digest = hashes[place]
        for side, sibling in proof.domain.merkle_path(hashes, place):
            pair = sibling + digest if side == "left" else digest + sibling
            digest = hashlib.sha256(b"\x01" + pair).digest()
        assert digest == root
    assert count == 1 or proof.domain.merkle_root(hashes[:-1]) != root


def test_an_unchanged_chain_has_no_broken_link() -> None:
    blocks = chain(3, 1_024, 1)

    assert [
        proof.domain.broken_link(each, after=before) for before, each in zip([None, *blocks], blocks, strict=False)
    ] == [None] * 3


@pytest.mark.rule("LE12")
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"first_number": 5}, "edited"),
        ({"last_number": 10}, "edited"),
        ({"transfers": 4}, "edited"),
        ({"root": bytes(32)}, "edited"),
        ({"sealed_at": NOON + timedelta(microseconds=1)}, "edited"),
        ({"previous": bytes(32)}, "does not continue"),
        ({"number": 3}, "the block before it is gone"),
    ],
)
def test_an_edited_block_is_found_whether_its_hash_is_kept_or_recomputed(changes: dict[str, Any], found: str) -> None:
    first, second, third = chain(3, 3, 3)
    edited = second._replace(**changes)

    with_old_hash = proof.domain.broken_link(edited, after=first)
    recomputed = edited._replace(hash=proof.domain.digest(edited.text))

    assert with_old_hash is not None
    assert found in with_old_hash
    assert proof.domain.broken_link(recomputed, after=first) or proof.domain.broken_link(third, after=recomputed)


def test_edited_leaves_of_a_block_are_found() -> None:
    first, second = chain(3, 3)

    edited = second._replace(leaves=second.leaves[32:64] + second.leaves[:32] + second.leaves[64:])

    assert "leaves" in (proof.domain.broken_link(edited, after=first) or "")


def seen(newest: int, *writers: str) -> proof.domain.Horizon:
    return proof.domain.Horizon(newest, frozenset(writers))


def test_a_number_is_final_only_when_all_writers_of_its_time_have_ended() -> None:
    watermark = proof.domain.Watermark()
    steps = [
        (seen(10, "a", "b"), 0),  # both may hold numbers up to 10
        (seen(20, "b", "c"), 0),
        (seen(30, "c"), 10),
        (seen(40, "c", "d"), 10),
        (seen(50, "d"), 30),
        (seen(60), 60),  # nobody writes
        (seen(70, "e"), 60),
    ]

    for horizon, final in steps:
        watermark.advance(horizon)
        assert watermark.final == final


def test_a_restored_database_starts_the_watermark_again() -> None:
    watermark = proof.domain.Watermark()
    watermark.advance(seen(50))

    watermark.advance(seen(20, "a"))
    assert watermark.final == 0
    watermark.advance(seen(21, "b"))
    assert watermark.final == 20


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
LEGS = st.lists(
    st.tuples(TEXT, TEXT, st.integers(1, 2**62), st.integers(-AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX)),
    min_size=1,
    max_size=4,
    unique_by=lambda leg: leg[:2],
)


def postings_of(legs: list[tuple[str, str, int, int]]) -> list[dict[str, Any]]:
    return [
        {"account": code, "asset": asset, "sequence": sequence, "amount_minor": minor or 1, "balance_minor": -minor}
        for code, asset, sequence, minor in sorted(legs, key=lambda leg: (leg[1], leg[0]))
    ]


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(
    texts=st.tuples(TEXT, TEXT, TEXT, TEXT), times=st.tuples(TIMES, TIMES), legs=LEGS, reverses=st.none() | st.uuids()
)
def test_the_leaf_computed_by_sql_is_that_of_the_canonical_text(  # noqa: PLR0917 - hypothesis names each
    database_name: str,
    servers: Any,
    texts: tuple[str, str, str, str],
    times: tuple[datetime, datetime],
    legs: list[tuple[str, str, int, int]],
    reverses: UUID | None,
) -> None:
    """Insert arbitrary rows past every trigger, and compare the text and leaf that SQL makes with those of Python."""

    async def made() -> tuple[proof.domain.CanonicalTransfer, bytes, str]:
        connection = await asyncpg.connect(
            servers.database(database_name),
            server_settings={"search_path": "ledger", "session_replication_role": "replica"},
        )
        tx = database.Tx(connection)
        transfer_id, event_id = uuid4(), uuid4()
        (tenant, kind, source, reference), (occurred_at, recorded_at) = texts, times
        try:
            number = await tx.fetchval(
                "INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id, reverses)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING number",
                *(transfer_id, tenant, kind, f"{source}{transfer_id}", reference, occurred_at, event_id, reverses),
            )
            for code, asset, sequence, amount in legs:
                account_id = await tx.fetchval(
                    "INSERT INTO account (tenant, code, asset, kind, exponent, overdraft_minor)"
                    " VALUES ($1, $2, $3, 'wallet', 2, 0) RETURNING id",
                    *(f"{transfer_id}", code, asset),
                )
                await tx.execute(
                    "INSERT INTO posting VALUES ($1, $2, $3, $4, $5, $6)",
                    *(account_id, sequence, transfer_id, amount or 1, -amount, recorded_at),
                )
            (transfer,) = await proof.store.chain.transfers(tx, after=number - 1, upto=number)
            leaf = await tx.fetchval(
                f"WITH {proof.store.chain.RANGE} SELECT {proof.store.chain.LEAF} FROM canonical", number - 1, number
            )
        finally:
            await connection.close()
        content = {
            "transfer": str(transfer_id),
            "number": number,
            "tenant": tenant,
            "kind": kind,
            "source_key": f"{source}{transfer_id}",
            "reference": reference,
            "occurred_at_us": (occurred_at - EPOCH) // timedelta(microseconds=1),
            "recorded_at_us": (recorded_at - EPOCH) // timedelta(microseconds=1),
            "event": str(event_id),
            "reverses": str(reverses) if reverses else None,
            "postings": postings_of(legs),
        }
        return transfer, leaf, json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    transfer, leaf, canonical = asyncio.run(made())

    assert transfer.text == canonical
    assert leaf == transfer.hash == hashlib.sha256(canonical.encode()).digest()


async def test_full_blocks_are_sealed_at_once_and_the_rest_when_it_has_waited(db: database.Database) -> None:
    for _ in range(3):
        await credit(db, 500)
    sealer = proof.timers.Sealer(db, seal_after_s=3_600)

    await sealing.seal_all(sealer)
    given_out = await numbers(db)
    assert sealed_numbers(await stored_blocks(db)) == [(given_out[0], given_out[1_023], 1_024)]

    sealer.seal_after_s = 0
    await sealing.seal_all(sealer)
    assert sealed_numbers(await stored_blocks(db))[1:] == [(given_out[1_024], given_out[1_499], 476)]
    assert await sealer.tick() == 0
    assert len(await stored_blocks(db)) == 2


async def test_a_transfer_that_is_still_being_written_is_waited_for_and_sealed_in_its_place(
    db: database.Database, role: asyncpg.Connection
) -> None:
    await credit(db, 1)
    transaction = role.transaction()
    await transaction.start()
    late = await role.fetchval(
        "INSERT INTO transfer (id, tenant, kind, source_key, reference, occurred_at, event_id)"
        " VALUES ($1, 'demo', 'top_up', 'late', 'late', now(), $1) RETURNING number",
        uuid4(),
    )
    await credit(db, 1)
    sealer = proof.timers.Sealer(db, seal_after_s=0)

    for _ in range(3):
        await sealer.tick()
    before = await stored_blocks(db)
    await transaction.commit()
    await sealing.seal_all(sealer)

    first, second, third = await numbers(db)
    assert late == second
    assert all(each.last_number < late for each in before)
    assert [each.last_number for each in await stored_blocks(db)][-1] == third
    assert sum(each.transfers for each in await stored_blocks(db)) == 3
    assert first < late < third


async def test_a_transaction_that_does_not_write_transfers_is_not_waited_for(
    db: database.Database, superuser: asyncpg.Connection
) -> None:
    await credit(db, 2)

    async with superuser.transaction():
        await superuser.execute("SELECT pg_current_xact_id(); LOCK TABLE transfer IN SHARE UPDATE EXCLUSIVE MODE")
        await proof.timers.Sealer(db, seal_after_s=0).tick()
        blocks = await stored_blocks(db)

    assert [each.transfers for each in blocks] == [2]


async def test_numbers_that_were_rolled_back_are_skipped(
    db: database.Database, role: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof.timers, "NUMBERS_PER_SEAL", 4)
    await credit(db, 2)
    transaction = role.transaction()
    await transaction.start()
    await role.execute("SELECT nextval('transfer_number_seq') FROM generate_series(1, 30)")
    await transaction.rollback()
    await credit(db, 1)
    sealer = proof.timers.Sealer(db, seal_after_s=0)

    await sealing.seal_all(sealer)

    first, second, third = await numbers(db)
    assert third - second == 31
    assert sealed_numbers(await stored_blocks(db)) == [(first, second, 2), (third, third, 1)]
    assert sealer.sealed_upto == third


async def test_several_workers_seal_each_transfer_once(db: database.Database) -> None:
    await credit(db, 30)
    sealers = [proof.timers.Sealer(db, seal_after_s=0) for _ in range(4)]

    await asyncio.gather(*(sealer.tick() for sealer in sealers))
    await credit(db, 30)
    await asyncio.gather(*(sealer.tick() for sealer in sealers))
    await asyncio.gather(*(sealing.seal_all(sealer) for sealer in sealers))

    blocks = await stored_blocks(db)
    assert sum(each.transfers for each in blocks) == 60
    assert [
        proof.domain.broken_link(each, after=before) for before, each in zip([None, *blocks], blocks, strict=False)
    ] == [None for _ in blocks]


async def test_writers_do_not_wait_for_the_sealer(db: database.Database) -> None:
    await credit(db, 5)

    async with db.transaction() as tx:
        at = await proof.store.chain.lock_sealing(tx)
        assert at
        written = await proof.store.chain.transfers(tx, after=0, upto=5)
        await proof.store.chain.add(tx, [proof.domain.seal(written, after=None, at=at)])
        async with asyncio.timeout(10):
            await credit(db, 5)
        assert await proof.timers.Sealer(db, seal_after_s=0).tick() == 0  # it is not its turn


@pytest.mark.rule("LE12")
async def test_a_block_can_be_neither_changed_nor_deleted_nor_inserted_out_of_place(
    db: database.Database, role: asyncpg.Connection, superuser: asyncpg.Connection
) -> None:
    await credit(db, 3)
    await sealing.seal_all(proof.timers.Sealer(db, seal_after_s=0))
    (sealed,) = await stored_blocks(db)

    for statement in ("UPDATE block SET sealed_at = now()", "DELETE FROM block", "TRUNCATE block"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute(statement)
        with pytest.raises(asyncpg.RestrictViolationError):
            await superuser.execute(statement)
    for wrong in (
        sealed._replace(number=3),
        sealed._replace(number=2),
        sealed._replace(number=2, first_number=4, last_number=6),
        sealed._replace(number=2, previous=sealed.hash),
    ):
        with pytest.raises(asyncpg.CheckViolationError, match="does not continue the chain"):
            await proof.store.chain.add(database.Tx(role), [wrong])
