"""An operator's import of old balances: each row of a wallet table becomes an opening transfer, once.

It goes the way of every other request, so it may be broken off and begun again, and run beside the workers.
"""

import argparse
import asyncio
import csv
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from chassis import app, database, errors, operations
from contracts import assets, ledger
from ledger import commit
from ledger.domain import chart, requests
from ledger.imports import domain

ROWS_AT_ONCE = commit.IN_FLIGHT_MAX * commit.REQUESTS_MAX
HEADER_MAX = 4_096  # characters

Refuse = Callable[[int, errors.Refusal], None]
"""Is told the line of each row that is refused, and why."""


class ChangedRow(errors.Refusal):
    """This row was imported before with something else in it; what was imported stays."""

    code = "changed_row"


class RefusedRow(errors.Refusal):
    """The ledger refused this row, for ever."""

    code = "refused_row"


@dataclass(slots=True)
class Report:
    """What became of the rows of a file."""

    imported: int = 0
    imported_minor: int = 0
    known: int = 0
    known_minor: int = 0
    empty: int = 0
    refused: int = 0

    def text(self, of: domain.Source, *, is_dry_run: bool) -> str:
        """Write it for people."""
        exponent = assets.ASSETS[of.asset].exponent
        imported, known = (chart.decimal_of(minor, exponent) for minor in (self.imported_minor, self.known_minor))
        return (
            f"{'to be imported' if is_dry_run else 'imported'}: {self.imported:,} rows, {imported} {of.asset}\n"
            f"already there: {self.known:,} rows, {known} {of.asset}\n"
            f"empty: {self.empty:,} rows\n"
            f"refused: {self.refused:,} rows\n"
            f"total: {self.imported + self.known + self.empty + self.refused:,} rows\n"
        )


async def carry_over(
    db: database.Database, of: domain.Source, file: TextIO, refuse: Refuse, *, is_dry_run: bool = False
) -> Report:
    """Import a wallet table, a thousand rows in memory; the same table again changes nothing.

    A row that is refused takes nobody with it. A dry run writes nothing; it compares rows with the books and not with
    each other, so only the real run finds a row that comes twice. Raises BadFile.
    """
    report, group_commit = Report(), commit.GroupCommit(db)
    rows = _rows(of, file, report, refuse)
    while batch := list(itertools.islice(rows, ROWS_AT_ONCE)):
        commands = [row.command for row in batch]
        if is_dry_run:
            outcomes = await commit.dry_run(db, commands)
        else:
            outcomes = await asyncio.gather(*map(group_commit.execute, commands))
        for row, settled in zip(batch, outcomes, strict=True):
            answer = settled.answer
            assert answer is not None, "every command is answered"
            if isinstance(answer, ledger.RequestRefused):
                is_changed = answer.code == requests.IdempotencyConflict.code
                report.refused += 1
                refuse(row.line, ChangedRow() if is_changed else RefusedRow(f"{answer.code}: {answer.detail}"))
            elif answer.is_replayed:
                report.known += 1
                report.known_minor += row.amount_minor
            else:
                report.imported += 1
                report.imported_minor += row.amount_minor
    return report


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Import the balances of an older system from a CSV file; exits with 1 when a row was refused."""
    options = argparse.ArgumentParser(prog=f"{service.name} import", description=command.__doc__)
    options.add_argument("file", type=Path, help=f"columns: {domain.COLUMNS}")
    options.add_argument("--tenant", default="demo")
    options.add_argument("--asset", required=True, help="such as RUB")
    options.add_argument("--source", required=True, help="the old system's name, the same in every run")
    options.add_argument("--dry-run", action="store_true", help="write nothing, only tell what would be refused")
    chosen = options.parse_args(arguments)
    of = domain.source(chosen.tenant, chosen.asset, chosen.source)
    with chosen.file.open(encoding="utf-8-sig", newline="") as file:
        async with operations.own_database(service, pool_size=commit.IN_FLIGHT_MAX) as db:
            report = await carry_over(db, of, file, _print_refusal, is_dry_run=chosen.dry_run)
    sys.stdout.write(report.text(of, is_dry_run=chosen.dry_run))
    return 1 if report.refused else 0


COMMANDS = {"import": command}


def _rows(of: domain.Source, file: TextIO, report: Report, refuse: Refuse) -> Iterator[domain.Row]:
    """Read a table row by row; what can't be carried out is counted and told here. Raises BadFile."""
    try:
        header = file.readline(HEADER_MAX)
        delimiter = next((mark for mark in ";\t" if mark in header), ",")
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        domain.check_header(names)
        table = csv.DictReader(file, names, restval="", delimiter=delimiter, strict=True)
        for cells in table:
            line = table.line_num + 1  # the one that the row ends on; the header was read before
            try:
                row = domain.read(of, line, cells)
            except errors.Refusal as refusal:
                report.refused += 1
                refuse(line, refusal)
                continue
            if row is None:
                report.empty += 1
            else:
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise domain.BadFile(f"The file is no CSV in UTF-8: {error}") from None


def _print_refusal(line: int, refusal: errors.Refusal) -> None:
    sys.stdout.write(f"line {line}: {refusal.code}: {refusal.detail}\n")
