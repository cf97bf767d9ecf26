"""The process: its start, invalid settings, its shutdown."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

COMMAND = str(pathlib.Path(sys.executable).with_name("sandbox"))
WEBHOOK_URL = "http://127.0.0.1:9/webhooks/yookassa/demo"


def environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    return kept | {f"SANDBOX_{name.upper()}": value for name, value in settings.items()}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "SANDBOX_YOOKASSA_WEBHOOK_URL"),
        ({"yookassa_webhook_url": "not a url"}, "SANDBOX_YOOKASSA_WEBHOOK_URL"),
        ({"yookassa_webhook_url": "http://[x"}, "SANDBOX_YOOKASSA_WEBHOOK_URL"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "port": "eighty"}, "SANDBOX_PORT"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "port": "70000"}, "SANDBOX_PORT"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "host": ""}, "SANDBOX_HOST"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "public_url": "ftp://x"}, "SANDBOX_PUBLIC_URL"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "stripe_webhook_url": "x"}, "SANDBOX_STRIPE_WEBHOOK_URL"),
        (
            {"yookassa_webhook_url": WEBHOOK_URL, "stripe_webhook_secrets": "hidden-value,"},
            "SANDBOX_STRIPE_WEBHOOK_SECRETS",
        ),
        ({"yookassa_webhook_url": WEBHOOK_URL, "cryptopay_token": "hidden-value"}, "SANDBOX_CRYPTOPAY_TOKEN"),
        ({"yookassa_webhook_url": WEBHOOK_URL, "demo_bot_token": "hidden-value"}, "SANDBOX_DEMO_BOT_TOKEN"),
    ],
)
def test_an_invalid_setting_ends_the_start_with_its_name(settings: dict[str, str], name: str) -> None:
    ended = subprocess.run([COMMAND], env=environment(**settings), capture_output=True, text=True, check=False)

    assert ended.returncode != 0
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden-value" not in ended.stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_stop_signal_and_exits_with_0(stop: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [COMMAND],
        env=environment(port=str(port), yookassa_webhook_url=WEBHOOK_URL, public_url="https://pay.example/sandbox/"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    answer = first_answer(f"http://127.0.0.1:{port}")

    process.send_signal(stop)
    output, _ = process.communicate(timeout=60)

    assert answer.json()["confirmation"]["confirmation_url"].startswith("https://pay.example/sandbox/pay/")
    assert process.returncode == 0
    assert "Traceback" not in output


def first_answer(url: str) -> httpx.Response:
    deadline = time.monotonic() + 20
    while True:
        try:
            return httpx.post(
                f"{url}/yookassa/v3/payments",
                auth=("demo-shop", "demo-secret"),
                headers={"Idempotence-Key": "key-1"},
                json={
                    "amount": {"value": "1.00", "currency": "RUB"},
                    "confirmation": {"type": "redirect", "return_url": "https://x.example"},
                },
            )
        except httpx.ConnectError:
            assert time.monotonic() < deadline, "the sandbox did not start"
            time.sleep(0.05)
