"""The sandbox as a process, its control API, and a post box that takes its webhooks in over real HTTP."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from chassis import testing
from payments.domain import facts

WAIT_S_MAX = 10.0


class PostBox:
    """Takes every webhook in, answers 200, and keeps it as our API would receive it."""

    def __init__(self) -> None:
        self._came: dict[str, list[facts.WebhookRequest]] = {}
        box = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                webhook = facts.WebhookRequest(
                    body=self.rfile.read(int(self.headers.get("content-length") or 0)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    peer=str(self.client_address[0]),
                    received_at=datetime.now(UTC),
                )
                box._came.setdefault(self.path.strip("/"), []).append(webhook)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def empty(self) -> None:
        """Forget what came."""
        self._came.clear()

    def came(self, name: str) -> list[facts.WebhookRequest]:
        """Give what came to `/name` so far, oldest first."""
        return list(self._came.get(name, []))

    async def wait(self, name: str, accepts: Callable[[facts.WebhookRequest], bool]) -> facts.WebhookRequest:
        """Wait for a webhook, not for ever."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                for webhook in self.came(name):
                    if accepts(webhook):
                        return webhook
                await asyncio.sleep(0.01)


class Harness:
    """Everybody but us: the providers, the payers and the clock."""

    def __init__(self, url: str, post: PostBox) -> None:
        self.url = url
        self.post = post

    async def control(self, method: str, path: str, **body: object) -> Any:
        """Ask the control API."""
        async with httpx.AsyncClient(base_url=f"{self.url}/__ctl", timeout=WAIT_S_MAX, trust_env=False) as http:
            answer = await http.request(method, path, json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def reset(self) -> None:
        """Forget everything; webhooks go out as usual."""
        await self.control("POST", "/reset")
        await self.control("POST", "/webhooks", plan="normal")
        self.post.empty()

    async def act(self, ref: str, action: str, **more: object) -> None:
        """Pay, decline, expire, refund or dispute, as people and time do."""
        await self.control("POST", f"/payments/{ref}/{action}", **more)

    async def fault(self, target: str, fault: str, *, route: str | None = None, count: int = 1) -> None:
        """Let the next requests fail."""
        where = {} if route is None else {"route": route}
        await self.control("POST", "/faults", target=target, fault=fault, count=count, **where)

    async def requests(self, target: str) -> list[dict[str, Any]]:
        """Give the latest requests that a provider got."""
        found: list[dict[str, Any]] = (await self.control("GET", f"/requests?target={target}&limit=100"))["items"]
        return found

    async def made(self, provider: str) -> list[dict[str, Any]]:
        """Give the payments that a provider has, newest first, as it shows them."""
        items = (await self.control("GET", f"/payments?provider={provider}&limit=100"))["items"]
        return [item["payment"] for item in items]


@contextlib.contextmanager
def running() -> Iterator[Harness]:
    """Run the sandbox and the post box while the context is open."""
    post = PostBox()
    threading.Thread(target=post.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    port = testing.free_port()
    environment = {
        **os.environ,
        "SANDBOX_PORT": str(port),
        **{f"SANDBOX_{name.upper()}_WEBHOOK_URL": f"{post.url}/{name}" for name in ("yookassa", "stripe", "cryptopay")},
    }
    process = subprocess.Popen([str(Path(sys.executable).parent / "sandbox")], env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        try:
            httpx.get(f"{url}/health", trust_env=False).raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, "the sandbox ended"
            time.sleep(0.05)
    yield Harness(url, post)
    process.terminate()
    process.wait(timeout=60)
    post.server.shutdown()
    post.server.server_close()
