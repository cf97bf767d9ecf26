import signal
import subprocess
import sys

PASSES = """
from chassis import failpoints
failpoints.arm({spec!r})
for n in range(3):
    print(n, flush=True)
    failpoints.passed("here")
"""


def run(spec: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PASSES.format(spec=spec)], capture_output=True, text=True, timeout=90, check=False
    )
    return done.returncode, done.stdout.replace("\n", "")


def test_a_point_that_is_not_armed_does_nothing() -> None:
    assert run("") == (0, "012")
    assert run("there:1") == (0, "012")


def test_an_armed_point_kills_the_process_at_the_named_pass() -> None:
    assert run("here") == (-signal.SIGKILL, "0")
    assert run("here:2") == (-signal.SIGKILL, "01")
