import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from chassis import http_refusals


def test_refusals_are_counted_each_and_logged_once_a_second_for_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    with capture_logs() as lines:
        for _ in range(50):
            http_refusals.record("test_one", status=400, correlation_id="correlation-1")
        http_refusals.record("test_other", status=None)
        now += 1
        http_refusals.record("test_one", status=400, correlation_id="correlation-2")

    assert [(line["event"], line["reason"], line["count"]) for line in lines] == [
        ("http.refused", "test_one", 1),
        ("http.refused", "test_other", 1),
        ("http.refused", "test_one", 50),
    ]
    assert [line.get("correlation_id") for line in lines] == ["correlation-1", None, "correlation-2"]
    assert REGISTRY.get_sample_value("kopilka_http_refused_total", {"reason": "test_one"}) == 51
