# ruff: noqa: RUF001 - Russian letters look like Latin ones
"""What a payer is told about a payment that did not happen, in Russian and English, for each reason of payments."""

from collections.abc import Mapping
from typing import get_args

from contracts import payments

DEFAULT_LANGUAGE = "en"
_DECLINED = "declined"

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "insufficient_funds": "there was not enough money. Top up, or pay another way.",
        "card_details": "the card's details are wrong or out of date. Check them, or use another card.",
        "authentication": "your bank did not confirm it. Please try again.",
        "limit": "a limit is reached. Pay another way, or try tomorrow.",
        "method_unavailable": "this way to pay does not work here. Please choose another.",
        "bank_unavailable": "the bank did not answer. Please try later.",
        "declined": "the bank declined it. Ask your bank, or pay another way.",
        "expired": "the time to pay is over. Please start again.",
        "canceled_by_payer": "it was canceled.",
        "canceled_by_shop": "the shop canceled it. Money that was held comes back to you.",
        "shop_problem": "payments do not work at the moment. Please try later.",
        "receipt_contact": "the receipt needs an email address. Please start again with one.",
    },
    "ru": {
        "insufficient_funds": "не хватило денег. Пополните счёт или заплатите другим способом.",
        "card_details": "данные карты неверны или устарели. Проверьте их или возьмите другую карту.",
        "authentication": "банк его не подтвердил. Попробуйте ещё раз.",
        "limit": "достигнут лимит. Заплатите другим способом или завтра.",
        "method_unavailable": "так заплатить здесь нельзя. Выберите другой способ.",
        "bank_unavailable": "банк не ответил. Попробуйте позже.",
        "declined": "банк его отклонил. Узнайте причину в банке или заплатите другим способом.",
        "expired": "время на оплату вышло. Начните заново.",
        "canceled_by_payer": "он отменён.",
        "canceled_by_shop": "магазин его отменил. Деньги, которые были удержаны, вернутся.",
        "shop_problem": "оплата сейчас не работает. Попробуйте позже.",
        "receipt_contact": "для чека нужна электронная почта. Начните заново и укажите её.",
    },
}
_BEGINNINGS = {"en": "Your payment of {amount} did not go through: ", "ru": "Платёж на {amount} не прошёл: "}
assert all(texts.keys() == set(get_args(payments.FailureReason)) for texts in TEXTS.values())


def text(reason: str | None, amount: str, language: str | None) -> str:
    """Return the message in the recipient's language, or in English; an unknown reason reads as declined."""
    chosen = language if language is not None and language in TEXTS else DEFAULT_LANGUAGE
    texts = TEXTS[chosen]
    return _BEGINNINGS[chosen].format(amount=amount) + texts.get(reason or _DECLINED, texts[_DECLINED])
