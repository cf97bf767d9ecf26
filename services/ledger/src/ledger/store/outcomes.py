"""The outcomes of commands, kept for ever in the table `request`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from pydantic_core import to_json

from chassis import database
from contracts import ledger
from contracts.message import REGISTRY, TenantId
from ledger.domain import requests

_READ = """
SELECT tenant, key, type, body::text, answer_type, answer::text FROM request
WHERE (tenant, key) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""
_ADD = """
INSERT INTO request (tenant, key, type, body, answer_type, answer, settled_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::jsonb[], $7::timestamptz[])
"""

Outcomes = Mapping[requests.RequestKey, requests.SettledCommand]


async def read(
    tx: database.Tx, keys: Sequence[requests.RequestKey]
) -> dict[requests.RequestKey, requests.SettledCommand]:
    """Return the commands among these keys that were settled before."""
    if not keys:
        return {}
    return {
        requests.RequestKey(TenantId(tenant), key): requests.SettledCommand(
            cast("requests.Command", REGISTRY[command_type].model_validate_json(body)),
            cast("ledger.Answer", REGISTRY[answer_type].model_validate_json(answer)),
        )
        for tenant, key, command_type, body, answer_type, answer in await tx.fetch(_READ, *zip(*keys, strict=True))
    }


async def add(tx: database.Tx, new: Outcomes, *, at: datetime) -> None:
    """Write new outcomes. Raises UniqueViolationError when another transaction has written one of them."""
    # In the order of the keys, so that two transactions with equal keys wait for each other and never deadlock.
    rows = [
        (*key, command.TYPE, command.model_dump_json(), answer.TYPE, to_json(answer).decode(), at)
        for key, (command, answer) in sorted(new.items(), key=lambda item: item[0])
    ]
    if rows:
        await tx.execute(_ADD, *zip(*rows, strict=True))
