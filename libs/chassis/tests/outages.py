"""A TCP proxy on loopback in front of a real server, with which a test cuts, refuses or silences connections."""

import asyncio
import contextlib
import urllib.parse

from pamqp import frame
from pamqp.commands import Connection


class Proxy:
    """Forwards TCP to one server until a test interrupts it."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._target = (str(parts.hostname), int(str(parts.port)))
        self._parts = parts
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._listens = asyncio.Event()
        self._listens.set()

    @property
    def url(self) -> str:
        """The server's URL through this proxy."""
        login = self._parts.netloc.rpartition("@")[0]
        netloc = f"{login}@127.0.0.1:{self._port}" if login else f"127.0.0.1:{self._port}"
        return urllib.parse.urlunsplit(self._parts._replace(netloc=netloc))

    async def restore(self) -> None:
        """Accept connections, always on the same port."""
        self._speaks.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def take_away(self) -> None:
        """Refuse new connections and cut the open ones."""
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Hold back what the server sends; what the client sends still arrives."""
        self._speaks.clear()

    def speak(self) -> None:
        """Forward what the server sends again."""
        self._speaks.set()

    def block(self) -> None:
        """Block publishers as a broker with an alarm does: tell every client and read nothing more from it."""
        self._listens.clear()
        self._tell(Connection.Blocked("low on memory"))

    def unblock(self) -> None:
        """End the alarm: tell every client and forward what was held back."""
        self._listens.set()
        self._tell(Connection.Unblocked())

    def _tell(self, method: Connection.Blocked | Connection.Unblocked) -> None:
        for writer in self._clients:
            writer.write(frame.marshal(method, 0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self._clients.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers.add(far_writer)
            try:
                await asyncio.gather(
                    self._forward(reader, far_writer, is_from_client=True),
                    self._forward(far_reader, writer, is_from_client=False),
                )
            finally:
                self._writers.discard(far_writer)
                far_writer.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._clients.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_from_client: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await (self._listens if is_from_client else self._speaks).wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
