"""A provider over real HTTP that answers what a test wants, whoever asks."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedServer:
    """A provider over real HTTP that answers what a test wants, whoever asks."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = b"{}"
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(scripted.status)
                self.send_header("content-length", str(len(scripted.body)))
                self.end_headers()
                self.wfile.write(scripted.body)

            do_POST = do_GET  # noqa: N815 - the server's own name

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, payment: dict[str, Any]) -> None:
        self.body = json.dumps(payment).encode()

    def says_paid(self, payment_id: object, ref: str, **changes: object) -> None:
        """Say that a payment of 1,500 RUB was paid, but for what is changed."""
        self.says(
            {
                "id": ref,
                "status": "succeeded",
                "amount": {"value": "1500.00", "currency": "RUB"},
                "created_at": "2026-08-01T10:00:00.000Z",
                "captured_at": "2026-08-01T10:01:00.000Z",
                "recipient": {"account_id": "demo-shop", "gateway_id": "1"},
                "test": True,
                "metadata": {"payment_id": str(payment_id), "tenant": "demo"},
                **changes,
            }
        )
