"""Toncenter's API v3 over HTTP, as far as polling for deposits needs it. It is read-only and needs no keys."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sandbox import json_response, providers
from sandbox.ton import boc, chain

LIMIT, LIMIT_MAX = 10, 1000

_Query = dict[str, list[str]]


class InvalidQuery(ValueError):  # noqa: N818 - an answer to the client, not a failure
    """The query has an invalid parameter."""


class TonApi(providers.ProviderApi):
    """The HTTP API of the imitated chain."""

    name = "ton"
    base_path = "/ton"

    def __init__(self, imitated_chain: chain.Chain) -> None:
        self._chain = imitated_chain
        self.app = self._routes()

    def error_response(self, status: int, retry_after_s: int | None = None) -> Response:  # noqa: ARG002 - it has no such field
        """Build an error response; toncenter has no retry time."""
        text = "Ratelimit exceed" if status == 429 else "internal server error" if status >= 500 else "bad request"
        return json_response.build({"error": text, "code": status}, status)

    def reset(self) -> None:
        """Remove all transactions."""
        self._chain.reset()

    def _routes(self) -> FastAPI:
        app = FastAPI(openapi_url=None, redirect_slashes=False)
        endpoints: dict[str, Callable[[_Query], dict[str, Any]]] = {
            "/masterchainInfo": self._masterchain_info,
            "/transactions": self._transactions,
            "/pendingTransactions": self._pending_transactions,
            "/jetton/wallets": self._jetton_wallets,
            "/jetton/transfers": self._jetton_transfers,
        }
        for path, endpoint in endpoints.items():
            app.add_route(f"/api/v3{path}", _route(endpoint), methods=["GET"])

        async def handle_error(_request: Request, error: Exception) -> Response:
            if isinstance(error, HTTPException):
                return self.error_response(error.status_code)
            return json_response.build({"error": str(error), "code": 422}, 422)

        for kind in (InvalidQuery, boc.InvalidAddress, HTTPException):
            app.add_exception_handler(kind, handle_error)
        return app

    def _masterchain_info(self, _query: _Query) -> dict[str, Any]:
        block = {"workchain": -1, "shard": "8000000000000000"}
        return {"first": {**block, "seqno": 1}, "last": {**block, "seqno": self._chain.seqno()}}

    def _transactions(self, query: _Query) -> dict[str, Any]:
        found = (
            transaction
            for transaction in self._in_range(query)
            if query.get("hash", [transaction.id]) == [transaction.id]
        )
        return _transactions_json(_page(_of_accounts(found, query), query))

    def _pending_transactions(self, query: _Query) -> dict[str, Any]:
        return _transactions_json(list(_of_accounts(self._chain.pending(), query)))

    def _jetton_wallets(self, query: _Query) -> dict[str, Any]:
        wallets: list[dict[str, Any]] = [
            {
                "address": chain.jetton_wallet(owner, master).raw,
                "balance": str(self._balance(owner, master)),
                "owner": owner.raw,
                "jetton": master.raw,
                "last_transaction_lt": "0",
                "code_hash": None,
                "data_hash": None,
            }
            for owner in _addresses(query, "owner_address")
            for master in _addresses(query, "jetton_address")
        ]
        addresses = [address for one in wallets for address in (one["address"], one["owner"], one["jetton"])]
        return {"jetton_wallets": wallets, "address_book": _address_book(addresses), "metadata": {}}

    def _jetton_transfers(self, query: _Query) -> dict[str, Any]:
        masters, owners = (_addresses(query, name) for name in ("jetton_master", "owner_address"))
        if query.get("direction", ["in"]) not in (["in"], ["both"]):
            raise InvalidQuery("direction: only incoming transfers are supported")
        found = (
            transaction
            for transaction in self._in_range(query)
            if transaction.jetton is not None
            and not transaction.is_bounced
            and (not masters or transaction.jetton.master in masters)
            and (not owners or transaction.account in owners)
        )
        transfers = [transaction.transfer() for transaction in _page(found, query)]
        addresses = [one[name] for one in transfers for name in ("source", "destination", "jetton_master")]
        return {"jetton_transfers": transfers, "address_book": _address_book(addresses), "metadata": {}}

    def _in_range(self, query: _Query) -> Iterable[chain.Transaction]:
        start_lt, end_lt = _integer(query, "start_lt", 0), _integer(query, "end_lt", 2**63)
        start_s, end_s = _integer(query, "start_utime", 0), _integer(query, "end_utime", 2**63)
        return (
            transaction
            for transaction in self._chain.final()
            if start_lt <= transaction.lt <= end_lt and start_s <= transaction.now_s <= end_s
        )

    def _balance(self, owner: boc.Address, master: boc.Address) -> int:
        received = (
            transaction.jetton
            for transaction in self._chain.final()
            if transaction.account == owner and not transaction.is_bounced
        )
        return sum(jetton.amount for jetton in received if jetton is not None and jetton.master == master)


def _route(answer: Callable[[_Query], dict[str, Any]]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        query: _Query = {}
        for name, value in request.query_params.multi_items():
            query.setdefault(name, []).append(value)
        return json_response.build(answer(query))

    return endpoint


def _page(newest_first: Iterable[chain.Transaction], query: _Query) -> list[chain.Transaction]:
    limit, offset = _integer(query, "limit", LIMIT), _integer(query, "offset", 0)
    order = query.get("sort", ["desc"])
    if not 1 <= limit <= LIMIT_MAX or order not in (["asc"], ["desc"]):
        raise InvalidQuery(f"limit must be from 1 to {LIMIT_MAX}, sort asc or desc")
    found = newest_first if order == ["desc"] else reversed(list(newest_first))
    return list(itertools.islice(found, offset, offset + limit))


def _of_accounts(found: Iterable[chain.Transaction], query: _Query) -> Iterable[chain.Transaction]:
    accounts = _addresses(query, "account")
    return (transaction for transaction in found if not accounts or transaction.account in accounts)


def _transactions_json(found: list[chain.Transaction]) -> dict[str, Any]:
    addresses = [address.raw for transaction in found for address in (transaction.account, transaction.source)]
    return {"transactions": [transaction.to_json() for transaction in found], "address_book": _address_book(addresses)}


def _address_book(addresses: Iterable[str]) -> dict[str, Any]:
    return {raw: {"user_friendly": boc.Address.parse(raw).friendly, "domain": None} for raw in addresses}


def _addresses(query: _Query, name: str) -> list[boc.Address]:
    return [boc.Address.parse(value) for value in query.get(name, [])]


def _integer(query: _Query, name: str, default: int) -> int:
    [value] = query.get(name, [str(default)])[-1:]
    if not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise InvalidQuery(f"{name} must be a whole number")
    return int(value)
