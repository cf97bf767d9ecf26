"""Finds the servers' executables, unpacked below `.run/debs` or installed on the system; installs missing ones.

Installed packages are not changed, and no server of the system is started or stopped.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import errors

INSTALL_S = 600  # enough for a slow mirror; a mirror that hangs must not block the start for ever
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package and the path pattern of the executable that we use of it."""

    name: str
    pattern: str


POSTGRES = Package("postgresql", "usr/lib/postgresql/*/bin/postgres")
POSTGRES_CLIENT = Package("postgresql-client", "usr/lib/postgresql/*/bin/psql")
RABBITMQ = Package("rabbitmq-server", "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
REDIS = Package("redis-server", "usr/bin/redis-server")


class Executables:
    """The executables of the servers on this machine."""

    def __init__(self, debs: Path, *, root: Path = Path("/")) -> None:
        """Search below `debs` first, where packages are unpacked without root, then below `root`."""
        self._debs = debs
        self._unpacked = debs / "root"
        self._root = root

    def ensure(self, packages: Iterable[Package], *, report: Callable[[str], None]) -> None:
        """Install the packages whose executables are missing. Raises DeployError with advice when that fails."""
        missing = [package.name for package in packages if self.find(package) is None]
        if not missing:
            return
        report(f"installing {', '.join(missing)} ...")
        self._debs.mkdir(parents=True, exist_ok=True)
        command = [str(HERE / "install.sh"), str(self._debs), *missing]
        advice = (
            f"Install {', '.join(missing)} yourself, or set the addresses of servers that exist already: README.md."
        )
        try:
            code = subprocess.run(command, check=False, timeout=INSTALL_S).returncode
        except subprocess.TimeoutExpired as error:
            raise errors.DeployError(f"installing took more than {INSTALL_S} s. {advice}") from error
        if code != 0 or any(self.find(package) is None for package in packages):
            raise errors.DeployError(f"the installation failed (see above). {advice}")

    def find(self, package: Package) -> Path | None:
        """Return the executable of the newest version of this package, or `None`."""
        for root in (self._unpacked, self._root):
            if found := sorted(root.glob(package.pattern), key=_version):
                return found[-1]
        return None

    def path_of(self, package: Package) -> Path:
        """Return the executable of a package that is installed."""
        found = self.find(package)
        assert found is not None
        return found

    def environment(self) -> dict[str, str]:
        """Return the environment of every server: not the caller's, whose RABBITMQ_* and PG* would redirect ours."""
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
