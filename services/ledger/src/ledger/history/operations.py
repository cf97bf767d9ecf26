"""History for programs and operators: the balance of any time, and statements that pages and exports agree on.

There are two kinds of time. A posting is *recorded* when it comes on the books, in the order of its account's sequence;
it *takes effect* when its transfer occurred, which may be long before, or a little after where clocks differ.
"""

import argparse
import contextlib
import csv
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from chassis import app, database, envelope, errors, operations
from contracts.message import TenantId
from ledger.domain import chart
from ledger.history import domain, store

PAGE_MAX = 1_000
REFERRING_MAX = 1_000  # an order or a payment has a handful of transfers


async def recorded_balance(db: database.Database, name: chart.AccountName, at: datetime) -> domain.Balance:
    """Give the balance that the books had at a moment of the database's clock; no later call gives another one.

    A moment that is still to come gives the balance of now, and says so. Raises UnknownAccount, UnknownAsset,
    NeverOpened.
    """
    now = await _standing(db, name, settled_at=at)
    async with db.statement() as tx:
        connection = await database.driver(tx)
        sequence = now.sequence
        if now.is_settled(at):
            sequence = await store.sequence_at(connection, now.account_id, at, through=sequence)
        balance_minor = await store.balance_after(connection, now.account_id, sequence)
    return domain.Balance(name, now.exponent, balance_minor, sequence, min(at, now.now))


async def effective_balance(
    db: database.Database, name: chart.AccountName, at: datetime, *, known_at: datetime | None = None
) -> domain.Balance:
    """Give the sum of all that took effect at or before a moment, by what is on the books now.

    A posting that is back-dated later changes it; `known_at` asks what the books knew at that moment, for ever the
    same. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    now = await _standing(db, name, settled_at=known_at)
    async with db.statement() as tx:
        connection = await database.driver(tx)
        through = now.sequence
        if known_at is not None and now.is_settled(known_at):
            through = await store.sequence_at(connection, now.account_id, known_at, through=through)
        balance_minor = await store.effective_balance(connection, now.account_id, at, through=through)
    return domain.Balance(name, now.exponent, balance_minor, through, at)


async def current_balance(db: database.Database, name: chart.AccountName) -> domain.Standing:
    """Give an account as it stands, with what is held of it. Raises UnknownAccount, UnknownAsset, NeverOpened."""
    return await _standing(db, name)


async def span(
    db: database.Database, name: chart.AccountName, *, begin: datetime | None = None, end: datetime | None = None
) -> domain.Span:
    """Give what was recorded from `begin` on and before `end`, as a range of postings with the balances around it.

    Without an end it goes up to the newest posting of this moment. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    before_begin, before_end = begin and begin - domain.TICK, end and end - domain.TICK
    now = await _standing(db, name, settled_at=before_end or before_begin)
    first, last = 1, now.sequence
    async with db.statement() as tx:
        connection = await database.driver(tx)
        if before_end is not None and now.is_settled(before_end):
            last = await store.sequence_at(connection, now.account_id, before_end, through=last)
        if before_begin is not None:
            first += await store.sequence_at(connection, now.account_id, before_begin, through=last)
        opening_minor = await store.balance_after(connection, now.account_id, first - 1)
        closing_minor = await store.balance_after(connection, now.account_id, last)
    return domain.Span(now.account_id, name, now.exponent, first, last, opening_minor, closing_minor)


async def page(
    db: database.Database,
    of: domain.Span,
    *,
    before: int | None = None,
    reference: str | None = None,
    limit: int = 50,
) -> list[domain.Line]:
    """Give lines of a statement, the newest first; the next page is `before` the sequence of the last of these.

    A reference names an order or a payment and leaves out all other lines. Raises ReferenceTooBroad.
    """
    assert 0 < limit <= PAGE_MAX
    last = of.last if before is None else min(of.last, before - 1)
    async with db.statement() as tx:
        connection = await database.driver(tx)
        if reference is None:
            return await store.lines(
                connection, of.account_id, first=of.first, last=last, limit=limit, is_newest_first=True
            )
        found = await store.referring_lines(connection, of, reference, limit=REFERRING_MAX)
    return [line for line in found if line.sequence <= last][:limit]


async def lines(db: database.Database, of: domain.Span, *, reference: str | None = None) -> AsyncIterator[domain.Line]:
    """Give all lines of a statement, the oldest first, holding a thousand in memory. Raises ReferenceTooBroad.

    Each thousand is a statement of its own: postings never change, so no snapshot is needed that would keep the
    database from cleaning up behind the writers for as long as the export takes.
    """
    if reference is not None:
        async with db.statement() as tx:
            found = await store.referring_lines(await database.driver(tx), of, reference, limit=REFERRING_MAX)
        for line in reversed(found):
            yield line
        return
    first = of.first
    while first <= of.last:
        async with db.statement() as tx:
            found = await store.lines(
                await database.driver(tx),
                of.account_id,
                first=first,
                last=of.last,
                limit=PAGE_MAX,
                is_newest_first=False,
            )
        assert found, "an account's postings have no gap"
        for line in found:
            yield line
        first = found[-1].sequence + 1


async def write_csv(db: database.Database, of: domain.Span, to: TextIO, *, reference: str | None = None) -> int:
    """Write a statement as CSV, the oldest line first; gives the number of lines.

    The first row has the opening balance and the last the closing one, so a file that was cut off can be told.
    """
    writer = csv.writer(to)
    writer.writerow(domain.CSV_HEADER)
    writer.writerow(domain.csv_balance(of, "opening_balance", of.opening_minor))
    count = 0
    async for line in lines(db, of, reference=reference):
        writer.writerow(domain.csv_line(of, line))
        count += 1
    writer.writerow(domain.csv_balance(of, "closing_balance", of.closing_minor))
    return count


async def balance_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print the balance of an account: now, as recorded at a time, or as effective at it."""
    options = _options(f"{service.name} balance", str(balance_command.__doc__))
    options.add_argument("--at", type=_moment, help="a time such as 2026-01-31 or 2026-01-31T12:00:00+03:00; else UTC")
    options.add_argument("--effective", action="store_true", help="by when postings took effect, not were recorded")
    chosen = options.parse_args(arguments)
    async with operations.own_database(service) as db:
        return await _told(_print_balance(db, _name_of(chosen), chosen.at, is_effective=chosen.effective))


async def statement_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print a page of an account's statement, the newest line first, or write all of it as CSV."""
    options = _options(f"{service.name} statement", str(statement_command.__doc__))
    options.add_argument("--from", dest="begin", type=_moment, help="recorded at this time or later; UTC")
    options.add_argument("--to", dest="end", type=_moment, help="recorded before this time; UTC")
    options.add_argument("--reference", help="only this order or payment, such as payment:<id>")
    options.add_argument("--before", type=int, help="the page before this sequence")
    options.add_argument("--limit", type=int, choices=range(1, PAGE_MAX + 1), default=50, metavar="N")
    options.add_argument("--csv", metavar="FILE", help="write all lines to this file, the oldest first; - prints them")
    chosen = options.parse_args(arguments)
    async with operations.own_database(service) as db:
        return await _told(_print_statement(db, chosen))


COMMANDS = {"balance": balance_command, "statement": statement_command}


async def _standing(
    db: database.Database, name: chart.AccountName, *, settled_at: datetime | None = None
) -> domain.Standing:
    """Read an account so that nothing can be recorded at or before `settled_at` any more.

    That is so when a later posting is there already; only a quiet account is locked, for a moment.
    """
    chart.opening(name)
    async with db.statement() as tx:
        now = await store.standing(await database.driver(tx), name)
    if settled_at is None or now.is_settled(settled_at):
        return now
    async with db.transaction() as tx:
        return await store.standing(await database.driver(tx), name, is_alone=True)


async def _told(work: Awaitable[None]) -> int:
    """Tell an operator what is refused; gives the exit code."""
    try:
        await work
    except errors.Refusal as refusal:
        sys.stderr.write(f"{refusal.code}: {refusal.detail}\n")
        return 1
    return 0


async def _print_balance(
    db: database.Database, name: chart.AccountName, at: datetime | None, *, is_effective: bool
) -> None:
    if is_effective:
        text = _balance_text(await effective_balance(db, name, at or envelope.now()), "effective")
    elif at is not None:
        text = _balance_text(await recorded_balance(db, name, at), "recorded")
    else:
        text = _standing_text(name, await current_balance(db, name))
    sys.stdout.write(f"{text}\n")


async def _print_statement(db: database.Database, chosen: argparse.Namespace) -> None:
    of = await span(db, _name_of(chosen), begin=chosen.begin, end=chosen.end)
    if chosen.csv is None:
        found = await page(db, of, before=chosen.before, reference=chosen.reference, limit=chosen.limit)
        sys.stdout.write(_page_text(of, found))
        return
    with _opened_for_writing(chosen.csv) as file:
        count = await write_csv(db, of, file, reference=chosen.reference)
    sys.stderr.write(f"{count:,} lines\n")


def _opened_for_writing(name: str) -> contextlib.AbstractContextManager[TextIO]:
    return contextlib.nullcontext(sys.stdout) if name == "-" else Path(name).open("w", encoding="utf-8", newline="")


def _name_of(chosen: argparse.Namespace) -> chart.AccountName:
    return chart.AccountName(TenantId(chosen.tenant), chosen.account, chosen.asset)


def _options(program: str, description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument("account", help="an account's code, such as user:<id>:wallet or revenue")
    options.add_argument("asset", help="such as RUB")
    options.add_argument("--tenant", default="demo")
    return options


def _moment(text: str) -> datetime:
    """Read a time; one without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _balance_text(balance: domain.Balance, kind: str) -> str:
    amount = chart.decimal_of(balance.balance_minor, balance.exponent)
    return f"{amount} {balance.name.asset} {kind} at {balance.at.isoformat()}, of postings up to {balance.sequence}"


def _standing_text(name: chart.AccountName, now: domain.Standing) -> str:
    balance, held, available = (
        chart.decimal_of(minor, now.exponent)
        for minor in (now.balance_minor, now.held_minor, now.balance_minor - now.held_minor)
    )
    return f"{balance} {name.asset}, held {held}, available {available}, after posting {now.sequence}"


def _page_text(of: domain.Span, found: Sequence[domain.Line]) -> str:
    rows = [
        f"{line.sequence:>10} {line.recorded_at:%Y-%m-%d %H:%M:%S} {line.kind:<10}"
        f" {chart.decimal_of(line.amount_minor, of.exponent):>16}"
        f" {chart.decimal_of(line.balance_after_minor, of.exponent):>16}  {line.reference}"
        for line in found
    ]
    opening, closing = (chart.decimal_of(minor, of.exponent) for minor in (of.opening_minor, of.closing_minor))
    return "\n".join(
        [
            f"{of.name.code} {of.name.asset}, postings {of.first} to {of.last}",
            f"closing balance {closing}",
            *rows,
            f"opening balance {opening}",
            "",
        ]
    )
