"""The private RabbitMQ with its management API: own node, own epmd, own ports, loopback only.

Debian's wrapper in /usr/sbin is not used: it changes to the system's user, paths and node.
"""

import base64
import contextlib
import http.client
import socket
import time
import urllib.parse
from pathlib import Path

import installed
import programs
import remembered

USER = "kopilka"
# The name does not hold the port: a node that moves to another port keeps its data. `localhost` resolves everywhere.
NODE = "kopilka@localhost"
HEADER = b"AMQP\x00\x00\x09\x01"
EPMD_S = 10


class RabbitMQ:
    """One RabbitMQ node below a folder, and the epmd that it needs."""

    label = "RabbitMQ"
    packages: tuple[installed.Package, ...] = (installed.RABBITMQ,)
    ports: tuple[str, ...] = ("rabbitmq", "rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_distribution")

    def __init__(
        self, folder: Path, on_machine: installed.Programs, ports: remembered.Ports, secrets: remembered.Secrets
    ) -> None:
        """Take where it lives; nothing starts yet."""
        self._home = folder / "rabbitmq"
        self._on_machine = on_machine
        self._ports = ports
        self._secrets = secrets
        self._epmd = programs.Program(folder, "epmd")
        self._node = programs.Program(folder, "rabbitmq")
        self.programs: tuple[programs.Program, ...] = (self._node, self._epmd)

    @property
    def url(self) -> str:
        """The address of its default vhost."""
        return f"amqp://{USER}:{self._secrets.of('rabbitmq')}@127.0.0.1:{self._ports.of('rabbitmq')}/"

    @property
    def api_url(self) -> str:
        """The address of its management API."""
        return f"http://{USER}:{self._secrets.of('rabbitmq')}@127.0.0.1:{self._ports.of('rabbitmq_management')}"

    def settle(self) -> None:
        """Where it does not run: end what is left of it and see that its ports are free."""
        if not self._node.is_running():
            self._node.forget()
            self._ports.settle(self.ports)
            if not self._epmd.is_running():
                self._ports.settle(["epmd"])

    def start(self) -> None:
        """Start what of it does not run."""
        environment = self._prepare()
        if not self._epmd.is_running():
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._ports.of("epmd"))]
            self._epmd.start(command, {}, environment=environment, folder=self._home)
            self._wait_for_epmd()
        if not self._node.is_running():
            command = [str(self._on_machine.path_of(installed.RABBITMQ))]
            self._node.start(command, {}, environment=environment, folder=self._home)

    def is_ready(self) -> bool:
        """Tell whether AMQP answers its handshake and the management API lets our user in."""
        return self._speaks_amqp() and self._knows_us()

    def _prepare(self) -> dict[str, str]:
        """Write what the node reads at its start, and give its environment."""
        home = self._home
        for name in ("home", "mnesia", "log", "schema"):
            (home / name).mkdir(parents=True, exist_ok=True)
        cookie = home / "home" / ".erlang.cookie"
        remembered.write(cookie, self._secrets.of("erlang_cookie"))
        cookie.chmod(0o400)  # Erlang refuses a cookie that anybody could change
        remembered.write(home / "enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
        remembered.write(home / "rabbitmq-env.conf", "")
        remembered.write(home / "rabbitmq.conf", self._configuration())
        port = self._ports.of
        return {
            **self._on_machine.environment(),
            "HOME": str(home / "home"),
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_PORT": str(port("rabbitmq")),
            "RABBITMQ_DIST_PORT": str(port("rabbitmq_distribution")),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_SCHEMA_DIR": str(home / "schema"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "none.config"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "feature_flags"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            # Without it the start script stays as the node's parent, and a signal to our pid would miss the node.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
            # Both would listen on every address of the machine, and on ports that another node may use.
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(port("epmd")),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _configuration(self) -> str:
        port = self._ports.of
        return f"""
listeners.tcp.1 = 127.0.0.1:{port("rabbitmq")}
management.tcp.ip = 127.0.0.1
management.tcp.port = {port("rabbitmq_management")}
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {port("rabbitmq_prometheus")}
# Made at the first start only.
default_user = {USER}
default_pass = {self._secrets.of("rabbitmq")}
# A development disk is often nearly full; the alarm that stops all publishers should mean it.
disk_free_limit.absolute = 256MB
# Of a machine that also carries PostgreSQL, the services and an editor.
vm_memory_high_watermark.absolute = 1GB
log.file.level = info
log.file.rotation.size = 10485760
log.file.rotation.count = 3
"""

    def _wait_for_epmd(self) -> None:
        give_up_at = time.monotonic() + EPMD_S
        while time.monotonic() < give_up_at and self._epmd.is_running():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports.of("epmd")), 1):
                return
            time.sleep(programs.POLL_S)
        raise remembered.TroubleError(f"epmd, which RabbitMQ needs, does not answer. It said:\n{self._epmd.tail(5)}")

    def _speaks_amqp(self) -> bool:
        # A bare connect is too early: the port listens before the node can answer.
        try:
            with socket.create_connection(("127.0.0.1", self._ports.of("rabbitmq")), timeout=2) as connection:
                connection.sendall(HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _knows_us(self) -> bool:
        try:
            return call(self.api_url, "GET", "whoami") == http.client.OK
        except remembered.TroubleError:
            return False


def call(api_url: str, method: str, path: str) -> int:
    """Call the management API at `/api/<path>` and give the status. Raises TroubleError when it can't be reached."""
    url = urllib.parse.urlsplit(api_url)
    user = f"{urllib.parse.unquote(url.username or '')}:{urllib.parse.unquote(url.password or '')}"
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connect(url.hostname or "127.0.0.1", url.port, timeout=10)
    try:
        token = base64.b64encode(user.encode()).decode()
        prefix = url.path.rstrip("/")
        connection.request(method, f"{prefix}/api/{path}", headers={"Authorization": f"Basic {token}"})
        response = connection.getresponse()
        response.read(1 << 20)
    except (OSError, http.client.HTTPException) as error:
        raise remembered.TroubleError(f"RabbitMQ's management API at {url.hostname}:{url.port}: {error}") from error
    finally:
        connection.close()
    return response.status
