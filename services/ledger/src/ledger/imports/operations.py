"""The import of opening balances: each row of a wallet table becomes an opening transfer, once.

Rows are settled like every other request, so an import can be interrupted, run again, and run beside the workers.
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

from chassis import app, database, envelope, errors, operations
from contracts import assets, ledger
from ledger import commit
from ledger.domain import chart, requests
from ledger.imports import domain

ROWS_AT_ONCE = commit.IN_FLIGHT_MAX * commit.REQUESTS_MAX
HEADER_MAX = 4_096  # characters

OnRefusal = Callable[[int, errors.Refusal], None]
"""Called with the line of each row that is refused, and the reason."""


class ChangedRow(errors.Refusal):
    """This row was imported before with other values, which stay."""

    code = "changed_row"


class RefusedRow(errors.Refusal):
    """The ledger refused this row, and will on_refusal it again."""

    code = "refused_row"


@dataclass(slots=True)
class ImportReport:
    """The number and sum of a file's rows, by their outcome."""

    imported: int = 0
    imported_minor: int = 0
    existing: int = 0
    existing_minor: int = 0
    empty: int = 0
    refused: int = 0

    def text(self, source: domain.Source, *, is_dry_run: bool) -> str:
        """Format the report."""
        exponent = assets.ASSETS[source.asset].exponent
        imported, existing = (chart.decimal_of(minor, exponent) for minor in (self.imported_minor, self.existing_minor))
        return (
            f"{'to be imported' if is_dry_run else 'imported'}: {self.imported:,} rows, {imported} {source.asset}\n"
            f"already there: {self.existing:,} rows, {existing} {source.asset}\n"
            f"empty: {self.empty:,} rows\n"
            f"refused: {self.refused:,} rows\n"
            f"total: {self.imported + self.existing + self.empty + self.refused:,} rows\n"
        )


async def import_file(
    db: database.Database, source: domain.Source, file: TextIO, on_refusal: OnRefusal, *, is_dry_run: bool = False
) -> ImportReport:
    """Import a wallet table, a thousand rows in memory; importing it again changes nothing.

    A refused row does not stop the others. A dry run writes nothing; it compares rows with the books and not with each
    other, so only the real run finds a row that comes twice. Raises BadFile.
    """
    report, group_commit = ImportReport(), commit.GroupCommit(db)
    rows = _rows(source, file, report, on_refusal)
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        commands = [row.command for row in chunk]
        if is_dry_run:
            outcomes = await commit.dry_run(db, commands)
        else:
            outcomes = await asyncio.gather(*map(group_commit.execute, commands))
        for row, outcome in zip(chunk, outcomes, strict=True):
            answer = outcome.answer
            assert answer is not None, "every command is answered"
            if isinstance(answer, ledger.RequestRefused):
                is_changed = answer.code == requests.IdempotencyConflict.code
                report.refused += 1
                on_refusal(row.line, ChangedRow() if is_changed else RefusedRow(f"{answer.code}: {answer.detail}"))
            elif answer.is_replayed:
                report.existing += 1
                report.existing_minor += row.amount_minor
            else:
                report.imported += 1
                report.imported_minor += row.amount_minor
    return report


async def command(service: app.Service, arguments: Sequence[str]) -> int:
    """Import the balances of an older system from a CSV file; exits with 1 when a row was refused."""
    parser = argparse.ArgumentParser(prog=f"{service.name} import", description=command.__doc__)
    parser.add_argument("file", type=Path, help=f"columns: {domain.COLUMNS}")
    parser.add_argument("--tenant", default="demo")
    parser.add_argument("--asset", required=True, help="such as RUB")
    parser.add_argument("--source", required=True, help="the old system's name, the same in every run")
    parser.add_argument("--dry-run", action="store_true", help="write nothing, only report what would be refused")
    options = parser.parse_args(arguments)
    source = domain.make_source(options.tenant, options.asset, options.source)
    with options.file.open(encoding="utf-8-sig", newline="") as file:
        async with operations.own_database(service, pool_size=commit.IN_FLIGHT_MAX) as db:
            report = await import_file(db, source, file, _print_refusal, is_dry_run=options.dry_run)
    sys.stdout.write(report.text(source, is_dry_run=options.dry_run))
    return 1 if report.refused else 0


COMMANDS = {"import": command}


def _rows(source: domain.Source, file: TextIO, report: ImportReport, on_refusal: OnRefusal) -> Iterator[domain.Row]:
    """Read a table row by row; invalid rows are counted and reported here. Raises BadFile."""
    now = envelope.now()
    try:
        header = file.readline(HEADER_MAX)
        delimiter = next((mark for mark in ";\t" if mark in header), ",")
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        domain.check_header(names)
        table = csv.DictReader(file, names, restval="", delimiter=delimiter, strict=True)
        for cells in table:
            line = table.line_num + 1  # the one that the row ends on; the header was read before
            try:
                row = domain.parse_row(source, line, cells, now=now)
            except errors.Refusal as refusal:
                report.refused += 1
                on_refusal(line, refusal)
                continue
            if row is None:
                report.empty += 1
            else:
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise domain.BadFile(f"The file is not CSV in UTF-8: {error}") from None


def _print_refusal(line: int, refusal: errors.Refusal) -> None:
    sys.stdout.write(f"line {line}: {refusal.code}: {refusal.detail}\n")
