"""Balances of any time and statements, for programs and for the command line.

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

from chassis import app, argument_types, database, envelope, operations
from contracts.message import TenantId
from ledger.domain import chart
from ledger.history import domain, store

PAGE_MAX = 1_000
TRANSFERS_MAX = 1_000  # of one reference; an order or a payment has a handful


async def balance(
    db: database.Database,
    name: chart.AccountName,
    *,
    recorded_at: datetime | None = None,
    effective_at: datetime | None = None,
) -> domain.Balance:
    """Return the balance of an account as it was recorded at one time, and of that what had taken effect at another.

    Without `recorded_at` it is the current balance, which a back-dated posting may still change. With it the answer is
    final, except that a future time gives the current balance with the current time. Without `effective_at` all that
    was recorded counts. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    chart.definition_of(name)
    async with db.statement() as tx:
        found = await store.current_balance(tx, name, settled_at=recorded_at)
        if recorded_at is not None:
            found = await store.recorded_balance(tx, found, recorded_at)
        if effective_at is not None:
            found = await store.effective_balance(tx, found, effective_at)
    return found


async def statement_of(
    db: database.Database, name: chart.AccountName, *, begin: datetime | None = None, end: datetime | None = None
) -> domain.Statement:
    """Return the statement of what was recorded from `begin` on and before `end`.

    Without an end it reaches to the newest posting. Raises UnknownAccount, UnknownAsset, NeverOpened.
    """
    closing = await balance(db, name, recorded_at=end and end - domain.TICK)
    if begin is None:
        return domain.Statement(closing._replace(balance_minor=0, sequence=0), closing)
    opening = await balance(db, name, recorded_at=begin - domain.TICK)
    # A statement that begins after its end, or in the future, is empty.
    return domain.Statement(min(opening, closing, key=lambda each: each.sequence), closing)


async def page(
    db: database.Database,
    statement: domain.Statement,
    *,
    before: int | None = None,
    reference: str | None = None,
    limit: int = 50,
) -> list[domain.StatementLine]:
    """Return lines of a statement, the newest first; the next page is `before` the sequence of the last of these.

    With a reference, which names an order or a payment, all other lines are left out. Raises ReferenceTooBroad.
    """
    assert 0 < limit <= PAGE_MAX
    last = statement.last if before is None else min(statement.last, before - 1)
    first = max(statement.first, last - limit + 1) if reference is None else statement.first
    async with db.statement() as tx:
        found = await store.lines(tx, statement, reference, first=first, last=last, transfers_max=TRANSFERS_MAX)
    return found[: -limit - 1 : -1]


async def lines(
    db: database.Database, statement: domain.Statement, *, reference: str | None = None
) -> AsyncIterator[domain.StatementLine]:
    """Iterate over all lines of a statement, the oldest first, a thousand in memory. Raises ReferenceTooBroad.

    Each thousand is a database statement of its own: postings never change, so no snapshot is needed that would keep
    vacuum from cleaning up behind the writers for as long as the export takes.
    """
    size = PAGE_MAX if reference is None else sys.maxsize  # those of an order are few, wherever they are
    for first in range(statement.first, statement.last + 1, size):
        last = min(statement.last, first + size - 1)
        async with db.statement() as tx:
            found = await store.lines(tx, statement, reference, first=first, last=last, transfers_max=TRANSFERS_MAX)
        for line in found:
            yield line


async def write_csv(
    db: database.Database, statement: domain.Statement, file: TextIO, *, reference: str | None = None
) -> int:
    """Write a statement as CSV, the oldest line first; returns the number of lines.

    The first row has the opening balance and the last the closing one, so that a truncated file is recognized.
    """
    writer = csv.DictWriter(file, domain.CSV_HEADER)
    writer.writeheader()
    writer.writerow(domain.csv_balance("opening_balance", statement.opening))
    count = 0
    async for line in lines(db, statement, reference=reference):
        writer.writerow(domain.csv_line(statement.name.asset, line))
        count += 1
    writer.writerow(domain.csv_balance("closing_balance", statement.closing))
    return count


async def balance_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print the balance of an account: now, as recorded at a time, or as effective at it."""
    parser = _parser(f"{service.name} balance", str(balance_command.__doc__))
    parser.add_argument(
        "--at", type=argument_types.time, help="a time such as 2026-01-31 or 2026-01-31T12:00:00+03:00; else UTC"
    )
    parser.add_argument("--effective", action="store_true", help="by when postings took effect, not were recorded")
    options = parser.parse_args(arguments)
    async with operations.own_database(service) as db:
        if options.effective:
            found = await balance(db, _account_name(options), effective_at=options.at or envelope.now())
        else:
            found = await balance(db, _account_name(options), recorded_at=options.at)
    sys.stdout.write(_balance_text(found, "effective" if options.effective else "recorded"))
    return 0


async def statement_command(service: app.Service, arguments: Sequence[str]) -> int:
    """Print a page of an account's statement, the newest line first, or write all of it as CSV."""
    parser = _parser(f"{service.name} statement", str(statement_command.__doc__))
    parser.add_argument("--from", dest="begin", type=argument_types.time, help="recorded at this time or later; UTC")
    parser.add_argument("--to", dest="end", type=argument_types.time, help="recorded before this time; UTC")
    parser.add_argument("--reference", help="only this order or payment, such as payment:<id>")
    parser.add_argument("--before", type=argument_types.whole_number(1), help="the page before this sequence")
    parser.add_argument(
        "--limit",
        type=argument_types.whole_number(1, PAGE_MAX),
        default=50,
        metavar="N",
        help=f"1 to {PAGE_MAX:,} lines",
    )
    parser.add_argument("--csv", metavar="FILE", help="write all lines to this file, the oldest first; - prints them")
    options = parser.parse_args(arguments)
    async with operations.own_database(service) as db:
        statement = await statement_of(db, _account_name(options), begin=options.begin, end=options.end)
        if options.csv is None:
            found = await page(db, statement, before=options.before, reference=options.reference, limit=options.limit)
            sys.stdout.write(_page_text(statement, found))
        else:
            with _open_for_writing(options.csv) as file:
                count = await write_csv(db, statement, file, reference=options.reference)
            sys.stderr.write(f"{count:,} lines\n")
    return 0


COMMANDS = {"balance": balance_command, "statement": statement_command}


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("account", help="an account's code, such as user:<id>:wallet or revenue")
    parser.add_argument("asset", help="such as RUB")
    parser.add_argument("--tenant", default="demo")
    return parser


def _account_name(options: argparse.Namespace) -> chart.AccountName:
    return chart.AccountName(TenantId(options.tenant), options.account, options.asset)


def _open_for_writing(name: str) -> contextlib.AbstractContextManager[TextIO]:
    return contextlib.nullcontext(sys.stdout) if name == "-" else Path(name).open("w", encoding="utf-8", newline="")


def _balance_text(found: domain.Balance, kind: str) -> str:
    formatted = partial(domain.amount, found.name.asset)
    text = f"{formatted(found.balance_minor)} {found.name.asset}"
    if found.held_minor is None:
        return f"{text} {kind} at {found.at.isoformat()}, of postings up to {found.sequence}\n"
    available = formatted(found.balance_minor - found.held_minor)
    return f"{text}, held {formatted(found.held_minor)}, available {available}, after posting {found.sequence}\n"


def _page_text(statement: domain.Statement, found: Sequence[domain.StatementLine]) -> str:
    formatted = partial(domain.amount, statement.name.asset)
    rows = (
        f"{line.sequence:>10} {line.recorded_at:%Y-%m-%d %H:%M:%S} {line.kind:<10}"
        f" {formatted(line.amount_minor):>16} {formatted(line.balance_after_minor):>16}  {line.reference}\n"
        for line in found
    )
    return (
        f"{statement.name.code} {statement.name.asset}, postings {statement.first} to {statement.last}\n"
        f"closing balance {formatted(statement.closing.balance_minor)}\n"
        f"{''.join(rows)}"
        f"opening balance {formatted(statement.opening.balance_minor)}\n"
    )
