"""Stripe's amounts under any sequence of actions, and its form decoder under any bytes."""

import contextlib

import hypothesis
from hypothesis import strategies

from sandbox import clock, errors, settings, webhooks
from sandbox.stripe import account, dashboard, forms, requests

AMOUNT = 1000

actions = strategies.tuples(
    strategies.sampled_from(["pay", "decline", "capture", "refund", "dispute", "win", "lose", "fail", "succeed"]),
    strategies.integers(1, AMOUNT + 1),
    strategies.sampled_from(["succeeded", "pending", "canceled"]),
)


def new_account() -> account.Account:
    configured = settings.Settings(yookassa_webhook_url="http://127.0.0.1:9/")
    virtual_clock = clock.VirtualClock()
    return account.Account(configured, virtual_clock, webhooks.WebhookSender(virtual_clock))


def act(stripe_account: account.Account, ref: str, action: str, amount: int, outcome: str) -> None:
    stripe_dashboard = dashboard.Dashboard(stripe_account)
    intent = stripe_account.intents.get(ref)
    assert intent is not None
    match action:
        case "pay":
            stripe_dashboard.pay(ref, 1)
        case "decline":
            stripe_dashboard.decline(ref, 1)
        case "capture":
            stripe_account.capture(intent, amount)
        case "refund":
            stripe_dashboard.plan_refunds(outcome, 1)
            stripe_dashboard.refund(ref, amount)
        case "dispute":
            stripe_dashboard.dispute(ref, amount, "open")
        case "win" | "lose":
            stripe_dashboard.dispute(ref, None, {"win": "won", "lose": "lost"}[action])
        case _:
            latest = next(iter(stripe_account.refunds.newest_first()), None)
            if latest is not None:
                stripe_dashboard.decide_refund(latest.id, {"fail": "canceled", "succeed": "succeeded"}[action])


@hypothesis.given(strategies.booleans(), strategies.lists(actions, max_size=30))
@hypothesis.settings(deadline=None)
def test_captured_refunded_and_disputed_amounts_add_up(is_manual: bool, performed: list[tuple[str, int, str]]) -> None:  # noqa: FBT001 - generated
    stripe_account = new_account()
    method = "manual" if is_manual else "automatic"
    ref = stripe_account.create_intent(requests.CreateIntent(amount=AMOUNT, currency="usd", capture_method=method)).id

    for action, amount, outcome in performed:
        with contextlib.suppress(requests.StripeError, errors.NotAllowed):
            act(stripe_account, ref, action, amount, outcome)

        captured = sum(charge.amount_captured for charge in stripe_account.charges.newest_first())
        refunded = sum(refund.amount for refund in stripe_account.refunds.newest_first() if refund.status != "failed")
        withdrawn = sum(dispute.amount for dispute in stripe_account.disputes.newest_first() if dispute.status != "won")
        balance = sum(movement.amount for movement in stripe_account.balance.newest_first())
        assert 0 <= refunded <= captured <= AMOUNT
        assert refunded == sum(charge.amount_refunded for charge in stripe_account.charges.newest_first())
        assert balance == captured - refunded - withdrawn


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    with contextlib.suppress(forms.InvalidForm):
        assert isinstance(forms.decode(raw), dict)


@hypothesis.given(
    strategies.dictionaries(
        strategies.text("abc", min_size=1, max_size=5),
        strategies.one_of(strategies.text("xyz", max_size=5), strategies.lists(strategies.text("xyz"), min_size=1)),
        max_size=5,
    )
)
def test_nested_form_fields_round_trip(tree: dict[str, str | list[str]]) -> None:
    pairs = [
        (name if isinstance(value, str) else f"{name}[{number}]", item)
        for name, value in tree.items()
        for number, item in enumerate([value] if isinstance(value, str) else value)
    ]

    assert forms.nest(pairs) == tree
