"""Stripe's books under any order of actions, and its forms under any bytes."""

import contextlib

import hypothesis
from hypothesis import strategies

from sandbox import clock, providers, settings, webhooks
from sandbox.stripe import account, cabinet, forms, shapes

AMOUNT = 1000

actions = strategies.tuples(
    strategies.sampled_from(["pay", "decline", "capture", "refund", "dispute", "win", "lose", "fail", "succeed"]),
    strategies.integers(1, AMOUNT + 1),
    strategies.sampled_from(["succeeded", "pending", "canceled"]),
)


def books() -> account.Account:
    configured = settings.Settings(yookassa_webhook_url="http://127.0.0.1:9/")
    virtual_clock = clock.VirtualClock()
    return account.Account(configured, virtual_clock, webhooks.Courier(virtual_clock))


def act(made: account.Account, ref: str, action: str, amount: int, outcome: str) -> None:
    people = cabinet.Cabinet(made)
    intent = made.intents.get(ref)
    assert intent is not None
    match action:
        case "pay":
            people.pay(ref, 1)
        case "decline":
            people.decline(ref, 1)
        case "capture":
            made.capture(intent, amount)
        case "refund":
            people.plan_refunds(outcome, 1)
            people.refund(ref, amount)
        case "dispute":
            people.dispute(ref, amount, "open")
        case "win" | "lose":
            people.dispute(ref, None, {"win": "won", "lose": "lost"}[action])
        case _:
            latest = next(iter(made.refunds.newest_first()), None)
            if latest is not None:
                people.decide_refund(latest.id, {"fail": "canceled", "succeed": "succeeded"}[action])


@hypothesis.given(strategies.booleans(), strategies.lists(actions, max_size=30))
@hypothesis.settings(deadline=None)
def test_money_always_adds_up(is_manual: bool, done: list[tuple[str, int, str]]) -> None:  # noqa: FBT001 - drawn
    made = books()
    method = "manual" if is_manual else "automatic"
    ref = made.create_intent(shapes.CreateIntent(amount=AMOUNT, currency="usd", capture_method=method)).id

    for action, amount, outcome in done:
        with contextlib.suppress(shapes.Refused, providers.NotAllowed):
            act(made, ref, action, amount, outcome)

        captured = sum(charge.amount_captured for charge in made.charges.newest_first())
        refunded = sum(refund.amount for refund in made.refunds.newest_first() if refund.status != "failed")
        withdrawn = sum(dispute.amount for dispute in made.disputes.newest_first() if dispute.status != "won")
        booked = sum(movement.amount for movement in made.balance.newest_first())
        assert 0 <= refunded <= captured <= AMOUNT
        assert refunded == sum(charge.amount_refunded for charge in made.charges.newest_first())
        assert booked == captured - refunded - withdrawn


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_are_a_form_or_refused(raw: bytes) -> None:
    with contextlib.suppress(forms.Unreadable):
        assert isinstance(forms.decoded(raw), dict)


@hypothesis.given(
    strategies.dictionaries(
        strategies.text("abc", min_size=1, max_size=5),
        strategies.one_of(strategies.text("xyz", max_size=5), strategies.lists(strategies.text("xyz"), min_size=1)),
        max_size=5,
    )
)
def test_what_was_nested_is_found_again(tree: dict[str, str | list[str]]) -> None:
    pairs = [
        (name if isinstance(value, str) else f"{name}[{number}]", item)
        for name, value in tree.items()
        for number, item in enumerate([value] if isinstance(value, str) else value)
    ]

    assert forms.nested(pairs) == tree
