"""Toncenter's API v3 over HTTP, as far as a watcher of deposits needs it. It only reads, so it knows no keys."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import providers, wire
from sandbox.ton import cells, chain

LIMIT, LIMIT_MAX = 10, 1000

_Query = dict[str, list[str]]


class Refused(ValueError):  # noqa: N818 - the provider's answer, not a failure of ours
    """A query that cannot be read."""


class Ton(providers.Provider):
    """The API before the imitated chain."""

    name = "ton"
    base_path = "/ton"

    def __init__(self, imitated: chain.Chain) -> None:
        self._chain = imitated
        self.app = self._routes()

    def refuse(self, status: int, retry_after_s: int | None = None) -> Response:  # noqa: ARG002 - it names no wait
        """Build an error answer; toncenter tells nobody how long to wait."""
        text = "Ratelimit exceed" if status == 429 else "internal server error" if status >= 500 else "bad request"
        return wire.answer({"error": text, "code": status}, status)

    def forget(self) -> None:
        """Forget the chain."""
        self._chain.forget()

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        answers: dict[str, Callable[[_Query], dict[str, Any]]] = {
            "/masterchainInfo": self._masterchain_info,
            "/transactions": self._transactions,
            "/pendingTransactions": self._pending_transactions,
            "/jetton/wallets": self._jetton_wallets,
            "/jetton/transfers": self._jetton_transfers,
        }
        for path, answer in answers.items():
            app.add_route(f"/api/v3{path}", _route(answer), methods=["GET"])

        async def refuse(_request: Request, error: Exception) -> Response:
            if isinstance(error, HTTPException):
                return self.refuse(error.status_code)
            return wire.answer({"error": str(error), "code": 422}, 422)

        for kind in (Refused, cells.BadAddress, HTTPException):
            app.add_exception_handler(kind, refuse)
        return app

    def _masterchain_info(self, _asked: _Query) -> dict[str, Any]:
        block = {"workchain": -1, "shard": "8000000000000000"}
        return {"first": {**block, "seqno": 1}, "last": {**block, "seqno": self._chain.seqno()}}

    def _transactions(self, asked: _Query) -> dict[str, Any]:
        found = (made for made in self._in_range(asked) if asked.get("hash", [made.id]) == [made.id])
        return _transactions_shown(_page(_of_accounts(found, asked), asked))

    def _pending_transactions(self, asked: _Query) -> dict[str, Any]:
        return _transactions_shown(list(_of_accounts(self._chain.pending(), asked)))

    def _jetton_wallets(self, asked: _Query) -> dict[str, Any]:
        wallets: list[dict[str, Any]] = [
            {
                "address": chain.wallet(owner, master).raw,
                "balance": str(self._balance(owner, master)),
                "owner": owner.raw,
                "jetton": master.raw,
                "last_transaction_lt": "0",
                "code_hash": None,
                "data_hash": None,
            }
            for owner in _addresses(asked, "owner_address")
            for master in _addresses(asked, "jetton_address")
        ]
        named = [address for one in wallets for address in (one["address"], one["owner"], one["jetton"])]
        return {"jetton_wallets": wallets, "address_book": _address_book(named), "metadata": {}}

    def _jetton_transfers(self, asked: _Query) -> dict[str, Any]:
        masters, owners = (_addresses(asked, name) for name in ("jetton_master", "owner_address"))
        if asked.get("direction", ["in"]) not in (["in"], ["both"]):
            raise Refused("direction: only incoming transfers are known here")
        found = (
            made
            for made in self._in_range(asked)
            if made.jetton is not None
            and not made.is_bounced
            and (not masters or made.jetton.master in masters)
            and (not owners or made.account in owners)
        )
        transfers = [made.transfer() for made in _page(found, asked)]
        named = [one[name] for one in transfers for name in ("source", "destination", "jetton_master")]
        return {"jetton_transfers": transfers, "address_book": _address_book(named), "metadata": {}}

    def _in_range(self, asked: _Query) -> Iterable[chain.Transaction]:
        start_lt, end_lt = _integer(asked, "start_lt", 0), _integer(asked, "end_lt", 2**63)
        start_s, end_s = _integer(asked, "start_utime", 0), _integer(asked, "end_utime", 2**63)
        return (
            made for made in self._chain.final() if start_lt <= made.lt <= end_lt and start_s <= made.now_s <= end_s
        )

    def _balance(self, owner: cells.Address, master: cells.Address) -> int:
        received = (made.jetton for made in self._chain.final() if made.account == owner and not made.is_bounced)
        return sum(jetton.amount for jetton in received if jetton is not None and jetton.master == master)


def _route(answer: Callable[[_Query], dict[str, Any]]) -> Callable[[Request], Any]:
    async def served(request: Request) -> Response:
        asked: _Query = {}
        for name, value in request.query_params.multi_items():
            asked.setdefault(name, []).append(value)
        return wire.answer(answer(asked))

    return served


def _page(newest_first: Iterable[chain.Transaction], asked: _Query) -> list[chain.Transaction]:
    limit, offset = _integer(asked, "limit", LIMIT), _integer(asked, "offset", 0)
    order = asked.get("sort", ["desc"])
    if not 1 <= limit <= LIMIT_MAX or order not in (["asc"], ["desc"]):
        raise Refused(f"limit must be from 1 to {LIMIT_MAX}, sort asc or desc")
    found = newest_first if order == ["desc"] else reversed(list(newest_first))
    return list(itertools.islice(found, offset, offset + limit))


def _of_accounts(found: Iterable[chain.Transaction], asked: _Query) -> Iterable[chain.Transaction]:
    accounts = _addresses(asked, "account")
    return (made for made in found if not accounts or made.account in accounts)


def _transactions_shown(found: list[chain.Transaction]) -> dict[str, Any]:
    named = [address.raw for made in found for address in (made.account, made.source)]
    return {"transactions": [made.wire() for made in found], "address_book": _address_book(named)}


def _address_book(named: Iterable[str]) -> dict[str, Any]:
    return {raw: {"user_friendly": cells.Address.parse(raw).friendly, "domain": None} for raw in named}


def _addresses(asked: _Query, name: str) -> list[cells.Address]:
    return [cells.Address.parse(value) for value in asked.get(name, [])]


def _integer(asked: _Query, name: str, default: int) -> int:
    [value] = asked.get(name, [str(default)])[-1:]
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise Refused(f"{name} must be a whole number")
    return int(value)
