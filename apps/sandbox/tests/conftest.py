"""A sandbox on a free loopback port and a receiver of its webhooks, both shared by all tests."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import stripe
import yookassa

from sandbox import app, server, settings

WAIT_S_MAX = 10.0


class _Receiver(http.server.ThreadingHTTPServer):
    """Records every webhook; responds with the planned statuses and bodies, then with 200 and no body."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.webhooks: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.replies: list[bytes] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        self.server.webhooks.append(
            {
                "path": self.path,
                "raw": raw,
                "body": json.loads(raw),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "peer": self.client_address[0],
            }
        )
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        reply = self.server.replies.pop(0) if self.server.replies else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
        """Log nothing."""


@pytest.fixture(scope="session")
def receiver() -> Iterator[_Receiver]:
    receiver = _Receiver()
    thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield receiver
    receiver.shutdown()
    thread.join()
    receiver.server_close()


@pytest.fixture(scope="session")
def sandbox_url(receiver: _Receiver) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    webhooks_url = f"http://127.0.0.1:{receiver.server_address[1]}/webhooks"
    configured = settings.Settings(
        port=port,
        yookassa_webhook_url=f"{webhooks_url}/yookassa/demo",
        stripe_webhook_url=f"{webhooks_url}/stripe/demo",
        cryptopay_webhook_url=f"{webhooks_url}/cryptopay/demo",
    )
    running = server.build(app.build(configured), host="127.0.0.1", port=port)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def _ctl_client(sandbox_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{sandbox_url}/__ctl", timeout=WAIT_S_MAX) as client:
        yield client


@pytest.fixture
def ctl(_ctl_client: httpx.Client, receiver: _Receiver) -> httpx.Client:
    """A client of the control API, after a reset."""
    _ctl_client.post("/reset").raise_for_status()
    receiver.webhooks.clear()
    receiver.statuses.clear()
    receiver.replies.clear()
    return _ctl_client


@pytest.fixture
def received(ctl: httpx.Client, receiver: _Receiver) -> Callable[[int], list[dict[str, Any]]]:
    """Wait for this number of webhooks and return all of them."""

    def wait(count: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + WAIT_S_MAX
        while len(receiver.webhooks) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return list(receiver.webhooks)

    return wait


@pytest.fixture
def answers(ctl: httpx.Client, receiver: _Receiver) -> list[int]:
    """The statuses of the receiver's next responses; after them it is 200."""
    return receiver.statuses


@pytest.fixture
def replies(ctl: httpx.Client, receiver: _Receiver) -> list[bytes]:
    """The bodies of the receiver's next responses."""
    return receiver.replies


@pytest.fixture(scope="session")
def _shop_client(sandbox_url: str) -> Iterator[httpx.Client]:
    url = f"{sandbox_url}/yookassa/v3"
    with httpx.Client(base_url=url, auth=("demo-shop", "demo-secret"), timeout=WAIT_S_MAX) as client:
        yield client


@pytest.fixture
def shop(ctl: httpx.Client, _shop_client: httpx.Client) -> httpx.Client:
    """An HTTP client of YooKassa's API, for requests that the SDK cannot send; the official SDK is configured, too."""
    yookassa.Configuration.configure("demo-shop", "demo-secret", api_url=str(_shop_client.base_url).rstrip("/"))
    return _shop_client


@pytest.fixture
def account(ctl: httpx.Client, sandbox_url: str) -> stripe.StripeClient:
    """The official Stripe SDK, without its own retries."""
    addresses: Any = {"api": f"{sandbox_url}/stripe"}
    return stripe.StripeClient("sk_test_demo_kopilka_sandbox", base_addresses=addresses, max_network_retries=0)
