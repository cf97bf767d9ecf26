"""RabbitMQ's management API for one vhost: what AMQP can't tell or do. Its calls block."""

import base64
import codecs
import http.client
import json
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from chassis import topology

# The calls run in threads. A first import of this codec there, by the look-up of an address, may fail with a KeyError
# while the main thread imports too (python/cpython#106176).
codecs.lookup("idna")

TIMEOUT_S = 5
ANSWER_BYTES_MAX = 16 * 1024 * 1024


class Unusable(Exception):  # noqa: N818 - names the state
    """The management API did not do what it was asked for. The message holds no address and no password."""


class ManagementApi:
    """The API as one user, who is the one of AMQP unless the API's URL names another."""

    def __init__(self, api_url: str, amqp_url: str) -> None:
        """Take both URLs; the vhost is that of AMQP."""
        self._api, amqp = urlsplit(api_url), urlsplit(amqp_url)
        self._vhost = quote(unquote(amqp.path[1:]) or "/", safe="")
        login = self._api if self._api.username else amqp
        name, password = unquote(login.username or ""), unquote(login.password or "")
        self._token = base64.b64encode(f"{name}:{password}".encode()).decode()

    def bindings(self) -> list[topology.Route]:
        """Give all bindings of the vhost. Raises Unusable."""
        return [
            topology.Route(str(each["source"]), str(each["routing_key"]), str(each["destination"]))
            for each in self._call("GET", f"bindings/{self._vhost}", None)
        ]

    def put_user(self, name: str, password: str, *, tags: str) -> None:
        """Create a user, or change the password. Raises Unusable."""
        self._call("PUT", f"users/{quote(name, safe='')}", {"password": password, "tags": tags})

    def put_permissions(self, kind: str, user: str, permissions: dict[str, str]) -> None:
        """Set a user's `permissions` or `topic-permissions` in the vhost. Raises Unusable."""
        self._call("PUT", f"{kind}/{self._vhost}/{quote(user, safe='')}", permissions)

    def _call(self, method: str, path: str, body: dict[str, str] | None) -> Any:
        connect = http.client.HTTPSConnection if self._api.scheme == "https" else http.client.HTTPConnection
        connection = connect(self._api.hostname or "", self._api.port, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Basic {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(
                method,
                f"{self._api.path.rstrip('/')}/api/{path}",
                body=None if body is None else json.dumps(body),
                headers=headers,
            )
            response = connection.getresponse()
            answer = response.read(ANSWER_BYTES_MAX)
            if response.status not in {http.client.OK, http.client.CREATED, http.client.NO_CONTENT}:
                raise Unusable(f"{method} {path.partition('/')[0]}: HTTP {response.status}")
            return json.loads(answer) if answer else None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unusable(f"{method} {path.partition('/')[0]}: {type(error).__name__}") from error
        finally:
            connection.close()
