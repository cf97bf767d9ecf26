"""What a process of a service loads: libraries that only an operator's command needs stay out of its memory."""

import subprocess
import sys

import pytest

from chassis import discovery

ONLY_FOR_MIGRATE = {"alembic", "sqlalchemy"}


@pytest.mark.parametrize("service", discovery.names())
def test_a_process_does_not_load_what_only_migrate_needs(service: str) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {service}.main; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()

    assert f"{service}.main" in loaded
    assert not ONLY_FOR_MIGRATE & set(loaded)
