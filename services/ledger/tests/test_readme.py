"""The README's example, executed."""

import ast
import textwrap
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from chassis import database, envelope
from contracts import ledger
from contracts.message import Money, TenantId, UserId
from ledger import commit
from ledger.domain import chart

README = Path(__file__).parents[1] / "README.md"


async def test_the_example_of_the_readme_runs_and_holds(db: database.Database) -> None:
    example = README.read_text().partition("```python\n")[2].partition("```")[0]

    async def balance(name: chart.AccountName) -> int:
        async with db.transaction() as tx:
            found: int = await tx.fetchval(
                "SELECT balance_minor FROM account WHERE tenant = $1 AND code = $2 AND asset = $3", *name
            )
        return found

    names = {
        "balance": balance,
        "chart": chart,
        "commit": commit,
        "db": db,
        "envelope": envelope,
        "ledger": ledger,
        "Money": Money,
        "tenant": TenantId("demo"),
        "timedelta": timedelta,
        "user_id": UserId(UUID(int=1)),
        "uuid7": envelope.uuid7,
    }
    body = f"async def example():\n{textwrap.indent(example, '    ')}"

    exec(compile(ast.parse(body), str(README), "exec"), names)
    await names["example"]()  # type: ignore[operator]
