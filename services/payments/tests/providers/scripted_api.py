"""A provider over real HTTP that answers whatever a test wants, for what the sandbox never says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Reply = Callable[[str, dict[str, Any]], Any]
"""Gives the response to a path and its parameters: JSON to be written, or bytes as they are."""


class ScriptedApi:
    """Answers by `reply` and keeps the requests."""

    def __init__(self) -> None:
        self.reply: Reply = lambda _path, _parameters: {}
        self.status = 200
        self.requests: list[tuple[str, dict[str, Any]]] = []
        api = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                target = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                parameters = {**dict(parse_qsl(target.query)), **(json.loads(body) if body else {})}
                api.requests.append((target.path, parameters))
                reply = api.reply(target.path, parameters)
                content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
                self.send_response(api.status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST  # noqa: N815 - the server's own name

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def listening() -> Iterator[ScriptedApi]:
    """Listen while the context is open."""
    made = ScriptedApi()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()
