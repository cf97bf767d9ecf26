import asyncio
from collections.abc import AsyncIterator

import httpx
import notes
import pytest
from pydantic import SecretStr

from chassis import app, database, health, web

ID = "correlation-12345678"


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[app.Process]:
    # Nothing here reaches the broker, so there is none.
    config = notes.NotesSettings(database_url=SecretStr(database_url), amqp_url=SecretStr("amqp://127.0.0.1:9"))
    built = app.Process(notes.SERVICE, "api", config)
    notes.api(built)
    yield built
    await built.db.close()
    await built.sender.close()


@pytest.fixture
async def client(process: app.Process) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(process.http), base_url="http://notes") as opened:
        yield opened


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and answer.headers["content-type"] == "application/problem+json"
        and (body["status"], body["code"], body["type"]) == (status, code, f"urn:kopilka:problem:{code}")
        and body["correlation_id"] == answer.headers["x-correlation-id"]
        and bool(body["title"] and body["detail"])
    )


@pytest.mark.rule("GW9")
async def test_an_unknown_path_is_a_problem(client: httpx.AsyncClient) -> None:
    assert is_problem(await client.get("/nowhere"), 404, "not_found")


@pytest.mark.rule("GW9")
async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/notes")

    assert is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.rule("GW13")
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_body_above_the_limit_is_a_problem(client: httpx.AsyncClient, is_chunked: bool) -> None:  # noqa: FBT001
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(web.BODY_MAX_BYTES // 1_024 + 1):
            yield b" " * 1_024

    content = chunks() if is_chunked else b" " * (web.BODY_MAX_BYTES + 1)

    answer = await client.post("/notes", content=content, headers={"content-type": "application/json"})

    assert is_problem(answer, 413, "content_too_large")


@pytest.mark.rule("GW9")
@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"\xff\xfe",
        b"[" * 120_000,  # oobabooga/textgen#7658
        b'{"a":' * 20_000,
        b'{"sequence": ' + b"9" * 5_000 + b"}",
        '{"body": "stra\u00dfe"}'.encode("latin-1"),
        '{"body": "x"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"body": "x"}',
        b'{"sequence": NaN}',
        b'{"sequence": -Infinity}',
        b'{"sequence": 1, "sequence": 2}',
        b'{"unknown": {"a": 1, "\\u0061": 2}}',
        b'{"body": "\\ud83d"}',
        b'{"\\udc00": 1}',
        b'{"body": "a\\u0000"}',
        b'{"body": "a\x00"}',
    ],
)
async def test_a_body_that_is_no_strict_json_is_malformed(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/notes", content=body, headers={"content-type": "application/json"})

    assert is_problem(answer, 400, "malformed_json")
    assert "stra" not in answer.text


@pytest.mark.parametrize(
    "body", [b'{"body": "\\ud83d\\ude00"}', b'{"body": "\\\\u0000"}', '{"body": "\u00e9"}'.encode()]
)
async def test_a_body_of_strict_json_is_taken(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/notes", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 202


@pytest.mark.rule("GW9")
async def test_an_absent_body_is_a_problem(client: httpx.AsyncClient) -> None:
    assert is_problem(
        await client.post("/notes", content=b"", headers={"content-type": "application/json"}), 422, "invalid_request"
    )


async def test_a_path_with_a_slash_more_is_unknown_and_never_a_redirect(client: httpx.AsyncClient) -> None:
    assert is_problem(await client.post("/notes/", json={}), 404, "not_found")


@pytest.mark.parametrize("path", ["/health/live", "/docs", "/nowhere", "/defect"])
async def test_a_head_request_gets_the_headers_of_get(client: httpx.AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)

    different = {"x-correlation-id"}
    assert head.status_code == get.status_code
    assert head.content == b""
    assert {name: value for name, value in head.headers.items() if name not in different} == {
        name: value for name, value in get.headers.items() if name not in different
    }


async def test_every_response_has_security_headers_and_is_not_stored(client: httpx.AsyncClient) -> None:
    for path in ("/health/live", "/nowhere", "/defect", "/docs"):
        headers = (await client.get(path)).headers

        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert headers.get_list("cache-control") == ["no-store"]


async def test_requests_above_the_limit_are_refused_and_liveness_is_not() -> None:
    application = web.create("test", health.Health(), requests_max=2)
    is_due, begun = asyncio.Event(), 0

    @application.get("/slow")
    async def slow() -> str:
        nonlocal begun
        begun += 1
        await is_due.wait()
        return "done"

    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
        working = [asyncio.create_task(client.get("/slow")) for _ in range(2)]
        async with asyncio.timeout(10):
            while begun < 2:  # noqa: ASYNC110 - the last of several
                await asyncio.sleep(0)
        refused, live = await client.get("/health"), await client.get("/health/live")
        is_due.set()
        answers = [await task for task in working]
        after = await client.get("/health")

    assert is_problem(refused, 503, "temporarily_unavailable")
    assert refused.headers["retry-after"] == str(web.RETRY_AFTER_S)
    assert [answer.status_code for answer in (live, *answers, after)] == [200, 200, 200, 200]


async def test_the_documents_can_be_hidden() -> None:
    application = web.create("test", health.Health(), has_public_docs=False)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"):
            assert is_problem(await client.get(path), 404, "not_found")
        assert (await client.get("/metrics")).status_code == 200


@pytest.mark.rule("GW9")
async def test_wrong_fields_are_named_without_their_values(client: httpx.AsyncClient) -> None:
    answer = await client.post("/notes", json={"note_id": "+79991234567", "sequence": "many"})

    assert is_problem(answer, 422, "invalid_request")
    assert [(item["field"], item["code"]) for item in answer.json()["errors"]] == [
        ("body.note_id", "uuid_parsing"),
        ("body.sequence", "int_parsing"),
    ]
    assert "79991234567" not in answer.text


@pytest.mark.rule("GW9")
async def test_a_refusal_is_a_problem_with_its_code_and_fields(client: httpx.AsyncClient) -> None:
    note_id = notes.WriteNote().note_id

    answer = await client.get(f"/notes/{note_id}")

    assert is_problem(answer, 404, "note_missing")
    assert answer.json()["detail"] == "There is no such note."
    assert answer.json()["note_id"] == str(note_id)


@pytest.mark.rule("GW9")
async def test_a_defect_is_a_problem_without_internal_details(client: httpx.AsyncClient) -> None:
    answer = await client.get("/defect")

    assert is_problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text


async def test_an_unavailable_database_is_a_problem_with_retry_after(
    process: app.Process, client: httpx.AsyncClient
) -> None:
    process.db = database.Database("postgresql://user@127.0.0.1:1/none", schema="notes", pool_size=1)

    answer = await client.post("/notes", json={})

    assert is_problem(answer, 503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == str(web.RETRY_AFTER_S)
    await process.db.close()


@pytest.mark.rule("GW9")
async def test_a_correlation_id_is_echoed_and_carried_by_published_messages(
    process: app.Process, client: httpx.AsyncClient
) -> None:
    answer = await client.post(
        "/notes", json={}, headers={"x-correlation-id": ID, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    )

    async with process.db.transaction() as tx:
        headers = await tx.fetchval("SELECT headers::jsonb AS headers FROM outbox")
    assert answer.headers.get_list("x-correlation-id") == [ID]
    assert headers["ce-correlationid"] == ID
    assert headers["traceparent"].split("-")[1] == "a" * 32


@pytest.mark.parametrize("given", ["short", "x" * 129, "with space inside", "semi;colon;here", ""])
async def test_a_correlation_id_that_could_harm_a_log_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.get("/health/live", headers={"x-correlation-id": given})

    assert answer.headers["x-correlation-id"] != given
    assert len(answer.headers["x-correlation-id"]) == 36


@pytest.mark.parametrize("given", ["nonsense", "00-zz-yy-01", "00-" + "a" * 32])
async def test_a_malformed_trace_is_replaced(process: app.Process, client: httpx.AsyncClient, given: str) -> None:
    await client.post("/notes", json={}, headers={"traceparent": given})

    async with process.db.transaction() as tx:
        headers = await tx.fetchval("SELECT headers::jsonb AS headers FROM outbox")
    assert len(headers["traceparent"].split("-")[1]) == 32


@pytest.mark.rule("OP2")
async def test_metrics_name_routes_by_their_template_and_never_by_the_requested_path(client: httpx.AsyncClient) -> None:
    await client.get(f"/notes/{notes.WriteNote().note_id}")
    await client.get("/surprise/0123456789")
    await client.request("EXPLODE", "/notes")

    text = (await client.get("/metrics")).text

    assert 'method="GET",route="/notes/{note_id}",status="404"' in text
    assert 'route="unknown"' in text
    assert "0123456789" not in text
    assert "EXPLODE" not in text


async def test_the_description_of_the_api_leaves_out_the_operators_routes(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]

    assert "/notes" in paths
    assert not [path for path in paths if path.startswith(("/health", "/metrics"))]
