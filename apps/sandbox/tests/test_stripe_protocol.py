"""Stripe's signatures, retries, events, idempotency keys, lists and errors."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import stripe

Received = Callable[[int], list[dict[str, Any]]]
SECRET = "whsec_demo_kopilka_sandbox"
KEY = "sk_test_demo_kopilka_sandbox"


@pytest.fixture
def api(ctl: httpx.Client, sandbox_url: str) -> Any:
    with httpx.Client(base_url=f"{sandbox_url}/stripe/v1", headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


def intent(account: stripe.StripeClient, key: str | None = None, **changes: Any) -> stripe.PaymentIntent:
    options: Any = {"idempotency_key": key} if key else {}
    params: Any = {"amount": 1500, "currency": "usd"}
    return account.v1.payment_intents.create(params | changes, options)


def count(account: stripe.StripeClient) -> int:
    return len(account.v1.payment_intents.list().data)


def verified(webhook: dict[str, Any], secret: str) -> stripe.Event:
    event: stripe.Event = stripe.Webhook.construct_event(webhook["raw"], webhook["headers"]["stripe-signature"], secret)
    return event


def test_the_sdk_accepts_the_signature_of_an_event(account: stripe.StripeClient, received: Received) -> None:
    made = intent(account)

    [webhook] = received(1)

    event = verified(webhook, SECRET)
    assert (event.type, event.livemode) == ("payment_intent.created", False)
    assert event.data.object["id"] == made.id
    assert account.v1.events.retrieve(event.id).data.object["id"] == made.id
    with pytest.raises(stripe.SignatureVerificationError):
        verified(webhook, "whsec_other")


def test_both_secrets_sign_during_a_rotation(
    account: stripe.StripeClient, ctl: httpx.Client, received: Received
) -> None:
    ctl.post("/stripe/webhook-secrets", json={"secrets": ["whsec_new", SECRET]}).raise_for_status()
    intent(account)

    received(1)
    ctl.post("/stripe/webhook-secrets", json={"secrets": ["whsec_new"]}).raise_for_status()
    intent(account)
    during, after = received(2)

    assert verified(during, SECRET).id == verified(during, "whsec_new").id
    assert verified(after, "whsec_new").type == "payment_intent.created"
    with pytest.raises(stripe.SignatureVerificationError):
        verified(after, SECRET)


def test_every_attempt_has_a_new_signature(
    account: stripe.StripeClient, ctl: httpx.Client, received: Received, answers: list[int]
) -> None:
    answers.append(500)
    intent(account)

    ctl.post("/clock", json={"advance_s": 600}).raise_for_status()

    first, second = received(2)
    times = [int(one["headers"]["stripe-signature"].split(",")[0].removeprefix("t=")) for one in (first, second)]
    assert first["raw"] == second["raw"]
    assert times[1] - times[0] >= 600


def test_an_event_is_retried_for_three_days_and_listed_as_undelivered(
    account: stripe.StripeClient, ctl: httpx.Client, received: Received, answers: list[int]
) -> None:
    answers.extend([500] * 500)
    lost = intent(account)
    for _ in range(75):
        ctl.post("/clock", json={"advance_s": 3600}).raise_for_status()
    attempts = len(received(0))
    answers.clear()
    arrived = intent(account)
    ctl.post("/clock", json={"advance_s": 1}).raise_for_status()  # returns after the webhook was attempted

    def listed(success: str) -> list[str]:
        query: Any = {"delivery_success": success == "true"}
        return [event.data.object["id"] for event in account.v1.events.list(query).data]

    assert 60 < attempts < 100
    assert (listed("false"), listed("true")) == ([lost.id], [arrived.id])


def test_an_event_retains_a_snapshot_for_thirty_days(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    made = intent(account, key="key-1")
    account.v1.payment_intents.confirm(made.id, {"payment_method": "pm_card_visa"})

    [event] = account.v1.events.list({"type": "payment_intent.created"}).data
    both = account.v1.events.list({"types": ["payment_intent.created", "charge.succeeded"]}).data
    ctl.post("/clock", json={"advance_s": 30 * 86_400 + 1}).raise_for_status()

    assert event.data.object["status"] == "requires_payment_method"
    assert event.request is not None
    assert event.request.idempotency_key == "key-1"
    assert [one.type for one in both] == ["charge.succeeded", "payment_intent.created"]
    assert account.v1.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.events.retrieve(event.id)


def test_the_same_key_and_parameters_get_the_original_response(account: stripe.StripeClient) -> None:
    first = intent(account, key="key-1")
    account.v1.payment_intents.cancel(first.id)

    again = intent(account, key="key-1")

    assert (again.id, again.status) == (first.id, "requires_payment_method")
    assert count(account) == 1
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"


def test_the_same_key_with_other_parameters_is_refused(account: stripe.StripeClient) -> None:
    intent(account, key="key-1")

    with pytest.raises(stripe.IdempotencyError) as refusal:
        intent(account, key="key-1", amount=1600)

    assert refusal.value.http_status == 400
    assert count(account) == 1


def test_a_key_can_be_reused_after_a_day(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    first = intent(account, key="key-1")
    ctl.post("/clock", json={"advance_s": 86_401}).raise_for_status()

    assert intent(account, key="key-1").id != first.id


@pytest.mark.parametrize(("fault", "made"), [("http:500", 0), ("http_after_commit:500", 1)])
def test_a_server_error_is_stored_under_its_key(
    account: stripe.StripeClient, ctl: httpx.Client, fault: str, made: int
) -> None:
    ctl.post("/faults", json={"target": "stripe", "fault": fault}).raise_for_status()
    with pytest.raises(stripe.APIError):
        intent(account, key="key-1")

    with pytest.raises(stripe.APIError) as replayed:
        intent(account, key="key-1")

    assert replayed.value.http_status == 500
    assert replayed.value.headers is not None
    assert replayed.value.headers["idempotent-replayed"] == "true"
    assert count(account) == made


def test_invalid_parameters_are_not_stored_under_their_key(account: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        intent(account, key="key-1", amount=0)

    assert intent(account, key="key-1").amount == 1500


def test_a_declined_card_is_stored_under_its_key(account: stripe.StripeClient) -> None:
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            intent(account, key="key-1", payment_method="pm_card_chargeDeclined", confirm=True)

    assert count(account) == 1


def test_conflict_and_rate_limit_are_the_sdks_errors(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    for fault in ("http:409", "http:429:7"):
        ctl.post("/faults", json={"target": "stripe", "fault": fault}).raise_for_status()

    with pytest.raises(stripe.APIError) as in_use:
        intent(account, key="key-1")
    with pytest.raises(stripe.RateLimitError) as too_many:
        intent(account, key="key-1")

    assert in_use.value.http_status == 409
    assert in_use.value.error is not None
    assert in_use.value.error.code == "idempotency_key_in_use"
    assert too_many.value.headers is not None
    assert too_many.value.headers["retry-after"] == "7"
    assert intent(account, key="key-1").amount == 1500


def test_list_pages_contain_every_object_once_in_both_directions(account: stripe.StripeClient) -> None:
    refs = [intent(account).id for _ in range(5)][::-1]

    forward = [one.id for one in account.v1.payment_intents.list({"limit": 2}).auto_paging_iter()]
    before = account.v1.payment_intents.list({"limit": 2, "ending_before": refs[3]})

    assert forward == refs
    assert [one.id for one in before.data] == refs[1:3]
    assert before.has_more


def test_a_list_is_filtered_by_time(account: stripe.StripeClient, ctl: httpx.Client) -> None:
    early = intent(account)
    ctl.post("/clock", json={"advance_s": 600}).raise_for_status()
    late = intent(account)

    def listed(created: Any) -> list[str]:
        return [one.id for one in account.v1.payment_intents.list({"created": created}).data]

    assert listed({"gte": late.created}) == [late.id]
    assert listed({"lt": late.created}) == [early.id]
    assert listed(early.created) == [early.id]


def test_lists_expand_their_objects(account: stripe.StripeClient) -> None:
    intent(account, payment_method="pm_card_visa", confirm=True)

    [shown] = account.v1.payment_intents.list({"expand": ["data.latest_charge"]}).data

    assert isinstance(shown.latest_charge, stripe.Charge)
    with pytest.raises(stripe.InvalidRequestError):
        account.v1.payment_intents.retrieve(shown.id, {"expand": ["amount"]})


def test_a_wrong_key_is_an_authentication_error(ctl: httpx.Client, sandbox_url: str) -> None:
    addresses: Any = {"api": f"{sandbox_url}/stripe"}
    stranger = stripe.StripeClient("sk_test_other", base_addresses=addresses, max_network_retries=0)

    with pytest.raises(stripe.AuthenticationError):
        intent(stranger)


def test_basic_authentication_works_too(api: httpx.Client) -> None:
    assert api.get("/payment_intents", auth=(KEY, "")).status_code == 200
    assert api.get("/payment_intents", auth=("other", "")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/payment_intents", "amount=1500", "currency"),
        ("/payment_intents", "amount=x&currency=usd", "amount"),
        ("/payment_intents", "amount=1&currency=xxx", "currency"),
        ("/payment_intents", "amount=1&currency=usd&metadata=x", "metadata"),
        ("/checkout/sessions", "mode=payment", "line_items"),
        ("/checkout/sessions", "mode=subscription&line_items[0][quantity]=1", "mode"),
        ("/checkout/sessions", "mode=payment&line_items[0][quantity]=1", "line_items[0][price_data]"),
        ("/refunds", "amount=5", None),
        ("/payment_intents", "a[b]=1&a=2", None),
        ("/payment_intents", "[=1", None),
        ("/payment_intents", "a[b][c][d][e][f][g]=1", None),
        ("/payment_intents", "&".join(f"m[{number}]=1" for number in range(600)), None),
    ],
)
def test_an_invalid_parameter_is_named(api: httpx.Client, path: str, body: str, param: str | None) -> None:
    answer = api.post(path, content=body, headers={"content-type": "application/x-www-form-urlencoded"})

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"].get("param") == param


@pytest.mark.parametrize(
    "path",
    [
        "/payment_intents?limit=0",
        "/payment_intents?limit=x",
        "/payment_intents?starting_after=pi_none",
        "/payment_intents?created[near]=5",
        "/payment_intents?created=x",
        "/payment_intents?expand=x",
        "/payment_intents?[=1",
        "/payment_intents?limit[a]=1",
        "/payment_intents?starting_after[a]=1",
        "/events?type[a]=1",
        "/events?types[0][a]=1",
        "/events?delivery_success[a]=1",
    ],
)
def test_an_invalid_query_is_refused(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 400


@pytest.mark.parametrize("path", ["/payment_intents/pi_none", "/events/evt_none", "/nowhere"])
def test_an_unknown_object_is_not_found(api: httpx.Client, path: str) -> None:
    answer = api.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
