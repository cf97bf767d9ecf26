"""The process table: every process of the product with its settings. A check compares it with docker-compose.yml.

`${NAME}` is replaced at start: the URLs of processes and servers, the database, secrets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Process:
    """One process: its command, preferred port and settings, and the name of the variable with its URL."""

    name: str
    command: tuple[str, ...]
    port: int
    settings: Mapping[str, str]
    address: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """All processes, the steps that run before them, and the contents of `.run/env`.

    Migrations run in parallel, seeds after them; all of them are idempotent. `published` are the variables that
    `.run/env` has beside the settings.
    """

    processes: tuple[Process, ...]
    migrations: tuple[Process, ...] = ()
    seeds: tuple[Process, ...] = ()
    secrets: tuple[str, ...] = ()
    overridable: tuple[str, ...] = ()
    published: Mapping[str, str] = field(default_factory=dict)


# Public on purpose: this bot exists in the sandbox only.
DEMO_BOT_ID = "7000000001"
DEMO_BOT_TOKEN = f"{DEMO_BOT_ID}:DEMO-kopilka-sandbox-token-000000000"
DEMO_MANAGER_CHAT_ID = "900000001"

SANDBOX_SHOP = "demo-shop"
SANDBOX_SHOP_KEY = "demo-secret"
SANDBOX_STRIPE_ACCOUNT = "acct_1DemoKopilkaSandbox"
SANDBOX_STRIPE_KEY = "sk_test_demo_kopilka_sandbox"
SANDBOX_STRIPE_SIGNING_KEY = "whsec_demo_kopilka_sandbox"
SANDBOX_CRYPTOPAY_APP = "10001:DEMO-kopilka-sandbox-crypto-pay-0000000"
DEMO_TON_WALLET = "UQAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH0Bm"  # belongs to nobody

# The demo and the end-to-end tests simulate many people behind one address who poll every 50 ms.
GENEROUS_LIMITS = ",".join(
    f"{name}=60000" for name in ("health", "login", "balance", "transactions", "orders", "payments", "other")
)

SHARED = {
    "KOPILKA_RABBITMQ_API_URL": "${RABBITMQ_API_LOCATION}",
    "KOPILKA_REDIS_URL": "${REDIS_URL}",
    "KOPILKA_LOG_LEVEL": "info",
    "KOPILKA_HTTP_HOST": "127.0.0.1",
    "KOPILKA_HTTP_PORT": "${PORT}",
}


def own_logins_of(service: str) -> dict[str, str]:
    """Return the settings with the URLs of a service's own database role and its own broker user."""
    name = service.upper()
    return {
        f"{name}_DATABASE_URL": f"postgresql://kopilka_{service}:${{{name}_PASSWORD}}@${{DATABASE_LOCATION}}",
        f"{name}_AMQP_URL": f"${{AMQP_SCHEME}}://kopilka_{service}:${{{name}_AMQP_PASSWORD}}@${{AMQP_LOCATION}}",
    }


GATEWAY = {
    **SHARED,
    **own_logins_of("gateway"),
    "GATEWAY_BOT_TOKEN": DEMO_BOT_TOKEN,
    "GATEWAY_SESSION_SECRET": "${SESSION_SECRET}",
    "GATEWAY_RATE_LIMITS": GENEROUS_LIMITS,
}
PAYMENTS = {
    **SHARED,
    **own_logins_of("payments"),
    "PAYMENTS_YOOKASSA_URL": "${SANDBOX_URL}/yookassa/v3",
    "PAYMENTS_YOOKASSA_SHOP_ID": SANDBOX_SHOP,
    "PAYMENTS_YOOKASSA_SECRET_KEY": SANDBOX_SHOP_KEY,
    "PAYMENTS_YOOKASSA_IS_TEST": "true",
    "PAYMENTS_YOOKASSA_RECEIPTS": "provider",
    "PAYMENTS_YOOKASSA_RECEIPT_VAT_CODE": "1",
    "PAYMENTS_YOOKASSA_RECEIPT_DEFAULT_EMAIL": "shop@demo.example",
    "PAYMENTS_WEBHOOK_NETWORKS": "127.0.0.0/8",  # the sandbox; the default are YooKassa's networks
    "PAYMENTS_STRIPE_URL": "${SANDBOX_URL}/stripe",
    "PAYMENTS_STRIPE_ACCOUNT_ID": SANDBOX_STRIPE_ACCOUNT,
    "PAYMENTS_STRIPE_SECRET_KEY": SANDBOX_STRIPE_KEY,
    "PAYMENTS_STRIPE_WEBHOOK_SECRETS": SANDBOX_STRIPE_SIGNING_KEY,
    "PAYMENTS_STRIPE_IS_TEST": "true",
    "PAYMENTS_STARS_URL": "${SANDBOX_URL}/telegram",
    "PAYMENTS_STARS_TOKEN": DEMO_BOT_TOKEN,
    "PAYMENTS_STARS_WEBHOOK_SECRETS": "demo-webhook-secret",
    "PAYMENTS_CRYPTOPAY_URL": "${SANDBOX_URL}/cryptopay",
    "PAYMENTS_CRYPTOPAY_TOKEN": SANDBOX_CRYPTOPAY_APP,
    "PAYMENTS_TON_URL": "${SANDBOX_URL}/ton",
    "PAYMENTS_TON_WALLET": DEMO_TON_WALLET,
}
LEDGER = {**SHARED, **own_logins_of("ledger")}
ORDERS = {**SHARED, **own_logins_of("orders")}
NOTIFIER = {
    **SHARED,
    **own_logins_of("notifier"),
    "NOTIFIER_TELEGRAM_URL": "${SANDBOX_URL}/telegram",
    "NOTIFIER_BOT_TOKEN": DEMO_BOT_TOKEN,
    "NOTIFIER_MANAGER_CHAT_ID": DEMO_MANAGER_CHAT_ID,
}
SANDBOX = {
    "SANDBOX_HOST": "127.0.0.1",
    "SANDBOX_PORT": "${PORT}",
    "SANDBOX_PUBLIC_URL": "${SANDBOX_URL}",
    "SANDBOX_YOOKASSA_WEBHOOK_URL": "${PAYMENTS_URL}/webhooks/yookassa/demo",
    "SANDBOX_YOOKASSA_SHOP_ID": SANDBOX_SHOP,
    "SANDBOX_YOOKASSA_SECRET_KEY": SANDBOX_SHOP_KEY,
    "SANDBOX_STRIPE_WEBHOOK_URL": "${PAYMENTS_URL}/webhooks/stripe/demo",
    "SANDBOX_STRIPE_ACCOUNT_ID": SANDBOX_STRIPE_ACCOUNT,
    "SANDBOX_STRIPE_SECRET_KEY": SANDBOX_STRIPE_KEY,
    "SANDBOX_STRIPE_WEBHOOK_SECRETS": SANDBOX_STRIPE_SIGNING_KEY,
    "SANDBOX_CRYPTOPAY_WEBHOOK_URL": "${PAYMENTS_URL}/webhooks/cryptopay/demo",
    "SANDBOX_CRYPTOPAY_TOKEN": SANDBOX_CRYPTOPAY_APP,
    "SANDBOX_DEMO_BOT_TOKEN": DEMO_BOT_TOKEN,
}

# Only `migrate` gets the administrator's URLs; the processes connect as their own role and user.
ADMINISTRATOR = {
    "KOPILKA_DATABASE_URL": "${DATABASE_URL}",
    "KOPILKA_AMQP_URL": "${AMQP_URL}",
    "KOPILKA_RABBITMQ_API_URL": "${RABBITMQ_API_URL}",
}

PRODUCT = Product(
    processes=(
        Process("gateway-api", ("gateway", "api"), 8080, GATEWAY, address="GATEWAY_URL"),
        Process("gateway-worker", ("gateway", "worker"), 8180, GATEWAY),
        Process("payments-api", ("payments", "api"), 8082, PAYMENTS, address="PAYMENTS_URL"),
        Process("payments-worker", ("payments", "worker"), 8182, PAYMENTS),
        Process("ledger-worker", ("ledger", "worker"), 8183, LEDGER),
        Process("orders-worker", ("orders", "worker"), 8184, ORDERS),
        Process("notifier-worker", ("notifier", "worker"), 8185, NOTIFIER),
        Process("sandbox", ("sandbox",), 8090, SANDBOX, address="SANDBOX_URL"),
    ),
    migrations=(
        Process("gateway-migrate", ("gateway", "migrate"), 0, GATEWAY | ADMINISTRATOR),
        Process("payments-migrate", ("payments", "migrate"), 0, PAYMENTS | ADMINISTRATOR),
        Process("ledger-migrate", ("ledger", "migrate"), 0, LEDGER | ADMINISTRATOR),
        Process("orders-migrate", ("orders", "migrate"), 0, ORDERS | ADMINISTRATOR),
        Process("notifier-migrate", ("notifier", "migrate"), 0, NOTIFIER | ADMINISTRATOR),
    ),
    seeds=(Process("orders-seed", ("orders", "seed"), 0, ORDERS),),
    secrets=(
        "GATEWAY_PASSWORD",
        "PAYMENTS_PASSWORD",
        "LEDGER_PASSWORD",
        "ORDERS_PASSWORD",
        "NOTIFIER_PASSWORD",
        "GATEWAY_AMQP_PASSWORD",
        "PAYMENTS_AMQP_PASSWORD",
        "LEDGER_AMQP_PASSWORD",
        "ORDERS_AMQP_PASSWORD",
        "NOTIFIER_AMQP_PASSWORD",
        "SESSION_SECRET",
    ),
    # Taken from the caller's environment where set: `KOPILKA_LOG_LEVEL=debug make up`.
    overridable=("KOPILKA_LOG_LEVEL", "KOPILKA_FAILPOINT", "KOPILKA_POOL_SIZE", "KOPILKA_PREFETCH"),
    published={
        "GATEWAY_URL": "${GATEWAY_URL}",
        "PAYMENTS_URL": "${PAYMENTS_URL}",
        "SANDBOX_URL": "${SANDBOX_URL}",
        "DATABASE_URL": "${DATABASE_URL}",
        "AMQP_URL": "${AMQP_URL}",
        "REDIS_URL": "${REDIS_URL}",
        "RABBITMQ_API_URL": "${RABBITMQ_API_URL}",
        "DEMO_BOT_TOKEN": DEMO_BOT_TOKEN,
        "DEMO_BOT_ID": DEMO_BOT_ID,
    },
)
