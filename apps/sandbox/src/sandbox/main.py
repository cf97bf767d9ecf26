"""The composition root: reads the settings, serves until SIGTERM or SIGINT, then exits with 0."""

import logging
import signal
import sys
from types import FrameType

import chassis.settings
from sandbox import app, server, settings

_log = logging.getLogger(__name__)


def main() -> None:
    """Run the sandbox; a wrong setting ends it with the setting's name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # otherwise it logs every webhook
    configured = chassis.settings.load(settings.Settings)
    # uvicorn shuts down gracefully and then raises the signal again for the previous handler, which is this one.
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, _exit)
    _log.info("sandbox.started url=%s", configured.base_url)
    server.build(app.build(configured), host=configured.host, port=configured.port).run()


def _exit(_signal_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
