"""The private RabbitMQ server with its management API: own node, own epmd, own ports, loopback only.

Debian's wrapper in /usr/sbin is not used: it switches to the system's user, paths and node.
"""

import base64
import contextlib
import http.client
import socket
import time
import urllib.parse
from pathlib import Path

import errors
import programs
import server_packages
import state_files

USER = "kopilka"
# The node name does not contain the port: a node that moves to another port keeps its data.
# `localhost` resolves everywhere.
NODE = "kopilka@localhost"
HEADER = b"AMQP\x00\x00\x09\x01"
EPMD_S = 10


class RabbitMQ:
    """One RabbitMQ node whose files are below a folder, with its own epmd."""

    label = "RabbitMQ"
    packages: tuple[server_packages.Package, ...] = (server_packages.RABBITMQ,)
    ports: tuple[str, ...] = ("rabbitmq", "rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_distribution")

    def __init__(
        self,
        folder: Path,
        executables: server_packages.Executables,
        ports: state_files.Ports,
        secrets: state_files.Secrets,
    ) -> None:
        """Prepare the object; nothing starts yet."""
        self._home = folder / "rabbitmq"
        self._executables = executables
        self._ports = ports
        self._secrets = secrets
        self._epmd = programs.Program(folder, "epmd")
        self._node = programs.Program(folder, "rabbitmq")
        self.programs: tuple[programs.Program, ...] = (self._node, self._epmd)

    @property
    def url(self) -> str:
        """The URL of its default vhost."""
        return f"amqp://{USER}:{self._secrets.of('rabbitmq')}@127.0.0.1:{self._ports.of('rabbitmq')}/"

    @property
    def api_url(self) -> str:
        """The URL of its management API."""
        return f"http://{USER}:{self._secrets.of('rabbitmq')}@127.0.0.1:{self._ports.of('rabbitmq_management')}"

    def prepare(self) -> None:
        """If it does not run, end its leftover processes and make sure that its ports are free."""
        if not self._node.is_running():
            self._node.clean_up()
            self._ports.replace_taken(self.ports)
            if not self._epmd.is_running():
                self._ports.replace_taken(["epmd"])

    def start(self) -> None:
        """Start epmd and the node, unless they run."""
        environment = self._prepare()
        if not self._epmd.is_running():
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._ports.of("epmd"))]
            self._epmd.start(command, {}, environment=environment, folder=self._home)
            self._wait_for_epmd()
        if not self._node.is_running():
            command = [str(self._executables.path_of(server_packages.RABBITMQ))]
            self._node.start(command, {}, environment=environment, folder=self._home)

    def is_ready(self) -> bool:
        """Tell whether the AMQP port answers the handshake and the management API accepts our user."""
        return self._answers_amqp() and self._accepts_our_user()

    def _prepare(self) -> dict[str, str]:
        """Write the configuration of the node and return its environment."""
        home = self._home
        for name in ("home", "mnesia", "log", "schema"):
            (home / name).mkdir(parents=True, exist_ok=True)
        cookie = home / "home" / ".erlang.cookie"
        state_files.write(cookie, self._secrets.of("erlang_cookie"))
        cookie.chmod(0o400)  # Erlang refuses a cookie file with wider permissions
        state_files.write(home / "enabled_plugins", "[rabbitmq_management,rabbitmq_prometheus].\n")
        state_files.write(home / "rabbitmq-env.conf", "")
        state_files.write(home / "rabbitmq.conf", self._configuration())
        port = self._ports.of
        return {
            **self._executables.environment(),
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
            # Without it the start script stays the parent of the node, and a signal to our pid does not reach the node.
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
            # By default both listen on every address, and on ports that another node may use.
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
# Used at the first start only.
default_user = {USER}
default_pass = {self._secrets.of("rabbitmq")}
# Development disks are often nearly full; the default limit would block all publishers too early.
disk_free_limit.absolute = 256MB
# The machine also runs PostgreSQL and the services.
vm_memory_high_watermark.absolute = 1GB
log.file.level = info
log.file.rotation.size = 10485760
log.file.rotation.count = 3
"""

    def _wait_for_epmd(self) -> None:
        deadline = time.monotonic() + EPMD_S
        while time.monotonic() < deadline and self._epmd.is_running():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports.of("epmd")), 1):
                return
            time.sleep(programs.POLL_INTERVAL_S)
        raise errors.DeployError(f"epmd, which RabbitMQ needs, does not answer. Its last output:\n{self._epmd.tail(5)}")

    def _answers_amqp(self) -> bool:
        # A connection alone proves nothing: the port accepts connections before the node can answer.
        try:
            with socket.create_connection(("127.0.0.1", self._ports.of("rabbitmq")), timeout=2) as connection:
                connection.sendall(HEADER)
                return connection.recv(1) == b"\x01"
        except OSError:
            return False

    def _accepts_our_user(self) -> bool:
        try:
            return call(self.api_url, "GET", "whoami") == http.client.OK
        except errors.DeployError:
            return False


def call(api_url: str, method: str, path: str) -> int:
    """Call the management API at `/api/<path>` and return the status. Raises DeployError when it is unreachable."""
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
        raise errors.DeployError(f"RabbitMQ's management API at {url.hostname}:{url.port}: {error}") from error
    finally:
        connection.close()
    return response.status
