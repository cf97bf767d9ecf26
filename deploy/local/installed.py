"""Where the servers' programs are: unpacked below `.run/debs`, or installed on the system; if neither, it gets them.

Nothing that is found is changed, and no server of the system is started or stopped.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import remembered

INSTALL_S = 600  # slow mirrors exist; a hanging one must not stop the start for ever
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package and how to find the program that we need of it."""

    name: str
    pattern: str


POSTGRES = Package("postgresql", "usr/lib/postgresql/*/bin/postgres")
POSTGRES_CLIENT = Package("postgresql-client", "usr/lib/postgresql/*/bin/psql")
RABBITMQ = Package("rabbitmq-server", "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
REDIS = Package("redis-server", "usr/bin/redis-server")


class Programs:
    """The programs of the servers on this machine."""

    def __init__(self, debs: Path, *, root: Path = Path("/")) -> None:
        """Look below `debs` first, where packages are unpacked without root, then below `root`."""
        self._debs = debs
        self._unpacked = debs / "root"
        self._root = root

    def need(self, packages: Iterable[Package], *, say: Callable[[str], None]) -> None:
        """Install the packages whose programs are not here. Raises TroubleError with what to do when that fails."""
        missing = [package.name for package in packages if self.find(package) is None]
        if not missing:
            return
        say(f"installing {', '.join(missing)} ...")
        self._debs.mkdir(parents=True, exist_ok=True)
        command = [str(HERE / "install.sh"), str(self._debs), *missing]
        advice = (
            f"Install {', '.join(missing)} yourself, or set the addresses of servers that exist already: README.md."
        )
        try:
            code = subprocess.run(command, check=False, timeout=INSTALL_S).returncode
        except subprocess.TimeoutExpired as error:
            raise remembered.TroubleError(f"installing took more than {INSTALL_S} s. {advice}") from error
        if code != 0 or any(self.find(package) is None for package in packages):
            raise remembered.TroubleError(f"the installation failed (see above). {advice}")

    def find(self, package: Package) -> Path | None:
        """Give the program of the newest version of this package, or `None`."""
        for root in (self._unpacked, self._root):
            if found := sorted(root.glob(package.pattern), key=_version):
                return found[-1]
        return None

    def path_of(self, package: Package) -> Path:
        """Give the program of a package that is known to be here."""
        found = self.find(package)
        assert found is not None
        return found

    def environment(self) -> dict[str, str]:
        """Give what every server runs with: nothing of the caller's, whose RABBITMQ_* and PG* would redirect ours."""
        folders = ["usr/lib/erlang/bin", "usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"]
        environment = {
            "PATH": ":".join(str(root / folder) for root in (self._unpacked, self._root) for folder in folders),
            "LANG": "C.UTF-8",
        }
        if libraries := [*self._unpacked.glob("usr/lib/*-linux-gnu*"), *self._unpacked.glob("lib/*-linux-gnu*")]:
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, libraries))
        return environment


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
