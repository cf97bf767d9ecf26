"""History for programs and operators: the balance of any time, and statements that pages and exports agree on.

There are two kinds of time. A posting is *recorded* when it comes on the books, in the order of its account's sequence;
it *takes effect* when its transfer occurred, which may be long before, or a little after where clocks differ.
"""

import argparse
import contextlib
import csv
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TextIO

from chassis import app, database, envelope, operations
from contracts.message import TenantId
from ledger.domain import chart
from ledger.history import domain, store

PAGE_MAX = 1_000
REFERRING_MAX = 1_000  # an order or a payment has a handful of transfers


async def balance(
    db: database.Database,
    name: chart.AccountName,
    *,
    known_at: datetime | None = None,
    effective_at: datetime | None = None,
) -> domain.Balance:
    """Give what is on an account by what the books knew at one moment, and of that what had taken effect at another.

    Without `known_at` it is what they know now, and a posting that is back-dated later changes it; with it, no later
    call gives another answer, except that a moment still to come gives the balance of now, and says so. Without
    `effective_at` all counts that is recorded. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    chart.definition_of(name)
    async with db.statement() as tx:
        found = await store.standing(tx, name, settled_at=known_at)
        if known_at is not None:
            found = await store.as_recorded(tx, found, known_at)
        if effective_at is not None:
            found = await store.as_effective(tx, found, effective_at)
    return found


async def span(
    db: database.Database, name: chart.AccountName, *, begin: datetime | None = None, end: datetime | None = None
) -> domain.Span:
    """Give what was recorded from `begin` on and before `end`, as a range of postings with the balances around it.

    Without an end it goes up to the newest posting of this moment. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    closing = await balance(db, name, known_at=end and end - domain.TICK)
    if begin is None:
        return domain.Span(closing._replace(balance_minor=0, sequence=0), closing)
    opening = await balance(db, name, known_at=begin - domain.TICK)
    # What begins behind its end, or only later than now, has nothing in it.
    return domain.Span(min(opening, closing, key=lambda each: each.sequence), closing)


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
    first = max(of.first, last - limit + 1) if reference is None else of.first
    async with db.statement() as tx:
        found = await store.lines(tx, of, reference, first=first, last=last, most=REFERRING_MAX)
    return found[: -limit - 1 : -1]


async def lines(db: database.Database, of: domain.Span, *, reference: str | None = None) -> AsyncIterator[domain.Line]:
    """Give all lines of a statement, the oldest first, holding a thousand in memory. Raises ReferenceTooBroad.

    Each thousand is a statement of its own: postings never change, so no snapshot is needed that would keep the
    database from cleaning up behind the writers for as long as the export takes.
    """
    size = PAGE_MAX if reference is None else sys.maxsize  # those of an order are few, wherever they are
    for first in range(of.first, of.last + 1, size):
        last = min(of.last, first + size - 1)
        async with db.statement() as tx:
            found = await store.lines(tx, of, reference, first=first, last=last, most=REFERRING_MAX)
        for line in found:
            yield line


async def write_csv(db: database.Database, of: domain.Span, to: TextIO, *, reference: str | None = None) -> int:
    """Write a statement as CSV, the oldest line first; gives the number of lines.

    The first row has the opening balance and the last the closing one, so a file that was cut off can be told.
    """
    writer = csv.DictWriter(to, domain.CSV_HEADER)
    writer.writeheader()
    writer.writerow(domain.csv_balance("opening_balance", of.opening))
    count = 0
    async for line in lines(db, of, reference=reference):
        writer.writerow(domain.csv_line(of.name.asset, line))
        count += 1
    writer.writerow(domain.csv_balance("closing_balance", of.closing))
    return count


async def balance_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print the balance of an account: now, as recorded at a time, or as effective at it."""
    options = _options(f"{service.name} balance", str(balance_command.__doc__))
    options.add_argument(
        "--at", type=operations.parse_time, help="a time such as 2026-01-31 or 2026-01-31T12:00:00+03:00; else UTC"
    )
    options.add_argument("--effective", action="store_true", help="by when postings took effect, not were recorded")
    chosen = options.parse_args(arguments)
    async with operations.own_database(service) as db:
        if chosen.effective:
            found = await balance(db, _name_of(chosen), effective_at=chosen.at or envelope.now())
        else:
            found = await balance(db, _name_of(chosen), known_at=chosen.at)
    sys.stdout.write(_balance_text(found, "effective" if chosen.effective else "recorded"))
    return 0


async def statement_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print a page of an account's statement, the newest line first, or write all of it as CSV."""
    options = _options(f"{service.name} statement", str(statement_command.__doc__))
    options.add_argument("--from", dest="begin", type=operations.parse_time, help="recorded at this time or later; UTC")
    options.add_argument("--to", dest="end", type=operations.parse_time, help="recorded before this time; UTC")
    options.add_argument("--reference", help="only this order or payment, such as payment:<id>")
    options.add_argument("--before", type=int, help="the page before this sequence")
    options.add_argument("--limit", type=int, choices=range(1, PAGE_MAX + 1), default=50, metavar="N")
    options.add_argument("--csv", metavar="FILE", help="write all lines to this file, the oldest first; - prints them")
    chosen = options.parse_args(arguments)
    async with operations.own_database(service) as db:
        of = await span(db, _name_of(chosen), begin=chosen.begin, end=chosen.end)
        if chosen.csv is None:
            found = await page(db, of, before=chosen.before, reference=chosen.reference, limit=chosen.limit)
            sys.stdout.write(_page_text(of, found))
        else:
            with _opened_for_writing(chosen.csv) as file:
                count = await write_csv(db, of, file, reference=chosen.reference)
            sys.stderr.write(f"{count:,} lines\n")
    return 0


COMMANDS = {"balance": balance_command, "statement": statement_command}


def _options(program: str, description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog=program, description=description)
    options.add_argument("account", help="an account's code, such as user:<id>:wallet or revenue")
    options.add_argument("asset", help="such as RUB")
    options.add_argument("--tenant", default="demo")
    return options


def _name_of(chosen: argparse.Namespace) -> chart.AccountName:
    return chart.AccountName(TenantId(chosen.tenant), chosen.account, chosen.asset)


def _opened_for_writing(name: str) -> contextlib.AbstractContextManager[TextIO]:
    return contextlib.nullcontext(sys.stdout) if name == "-" else Path(name).open("w", encoding="utf-8", newline="")


def _balance_text(found: domain.Balance, kind: str) -> str:
    written = partial(domain.amount, found.name.asset)
    text = f"{written(found.balance_minor)} {found.name.asset}"
    if found.held_minor is None:
        return f"{text} {kind} at {found.at.isoformat()}, of postings up to {found.sequence}\n"
    available = written(found.balance_minor - found.held_minor)
    return f"{text}, held {written(found.held_minor)}, available {available}, after posting {found.sequence}\n"


def _page_text(of: domain.Span, found: Sequence[domain.Line]) -> str:
    written = partial(domain.amount, of.name.asset)
    rows = (
        f"{line.sequence:>10} {line.recorded_at:%Y-%m-%d %H:%M:%S} {line.kind:<10}"
        f" {written(line.amount_minor):>16} {written(line.balance_after_minor):>16}  {line.reference}\n"
        for line in found
    )
    return (
        f"{of.name.code} {of.name.asset}, postings {of.first} to {of.last}\n"
        f"closing balance {written(of.closing.balance_minor)}\n"
        f"{''.join(rows)}"
        f"opening balance {written(of.opening.balance_minor)}\n"
    )
