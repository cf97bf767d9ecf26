"""The operator's commands on a real database: what they write and publish, and which files they refuse."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from chassis import database
from chassis.testing import outbox_messages
from contracts.message import Money, TenantId
from contracts.orders import CategoryId
from orders import main
from orders.catalog import domain, operations, store

DEMO = TenantId("demo")


async def clear_outbox(db: database.Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("DELETE FROM outbox")


async def test_seeding_the_demo_shop_publishes_every_category_and_product(db: database.Database) -> None:
    categories, products = operations.read(DEMO, operations.DEMO)

    changed = await operations.write(db, categories, products)

    events = await outbox_messages(db)
    assert changed == len(events) == 11
    assert [kind for kind, _ in events] == ["orders.category.listed.v1"] * 3 + ["orders.product.listed.v1"] * 8
    assert {body["version"] for _, body in events} == {1}


async def test_seeding_twice_changes_and_publishes_nothing(db: database.Database) -> None:
    categories, products = operations.read(DEMO, operations.DEMO)
    await operations.write(db, categories, products)
    await clear_outbox(db)

    changed = await operations.write(db, categories, products)

    assert changed == 0
    assert await outbox_messages(db) == []


def test_a_title_is_stored_in_its_composed_form(tmp_path: Path) -> None:
    title = "\u0427\u0430\u0439"
    file = tmp_path / "catalog.toml"
    file.write_text(
        unicodedata.normalize(
            "NFD",
            f'currency = "RUB"\n[[category]]\nid = "a"\ntitle = "{title}"\n'
            f'[[category.product]]\nid = "b"\ntitle = "{title}"\ndescription = "{title}"\nprice_minor = 1\n',
        )
    )

    (category,), (product,) = operations.read(DEMO, file)

    assert category.title == product.title == product.description == title


async def test_only_a_changed_product_is_published_with_its_next_version(db: database.Database) -> None:
    categories, products = operations.read(DEMO, operations.DEMO)
    await operations.write(db, categories, products)
    await clear_outbox(db)
    changed = replace(products[0], price=Money(amount_minor=1, currency="RUB"))

    await operations.write(db, categories, [changed, *products[1:]])

    [(kind, body)] = await outbox_messages(db)
    assert kind == "orders.product.listed.v1"
    assert (body["product_id"], body["version"]) == (changed.id, 2)
    assert body["price"] == {"amount_minor": 1, "currency": "RUB"}


@pytest.mark.rule("C1")
async def test_a_hidden_product_is_published_as_hidden(db: database.Database) -> None:
    await operations.write(db, *operations.read(DEMO, operations.DEMO))

    hidden = [body["product_id"] for _, body in await outbox_messages(db) if body.get("is_visible") is False]

    assert hidden == ["travel-flask"]


async def test_two_tenants_keep_catalogs_of_their_own(db: database.Database) -> None:
    other = TenantId("other")
    await operations.write(db, *operations.read(DEMO, operations.DEMO))

    await operations.write(db, [domain.Category(other, CategoryId("tea"), "Other tea")], [])

    async with db.transaction() as tx:
        [ours] = [row for row in await store.categories_after(tx, tenant=DEMO, after="", limit=9) if row.id == "tea"]
        [theirs] = await store.categories_after(tx, tenant=other, after="", limit=9)
    assert (ours.title, theirs.title) == ("Tea", "Other tea")


async def test_republishing_publishes_the_whole_catalog_page_by_page(
    db: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operations.write(db, *operations.read(DEMO, operations.DEMO))
    before = await outbox_messages(db)
    await clear_outbox(db)
    monkeypatch.setattr(operations, "PAGE", 2)

    count = await operations.publish_all(db, DEMO)

    assert count == 11
    assert sorted(map(str, await outbox_messages(db))) == sorted(map(str, before))


ONE_CATEGORY = "currency = 'RUB'\n[[category]]\nid = 'a'\ntitle = 'A'\n"
ONE_PRODUCT = f"{ONE_CATEGORY}[[category.product]]\nid = 'b'\ntitle = 'B'\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("currency = 'RUB'", "category"),
        (ONE_CATEGORY.replace("'a'", "'Tea!'"), "category.0.id"),
        (f"{ONE_PRODUCT}price_minor = 0", "category.0.product.0.price_minor"),
        (f"{ONE_PRODUCT}price_minor = 4.5", "category.0.product.0.price_minor"),
        (f"{ONE_CATEGORY}colour = 'red'", "category.0.colour"),
        (f"{ONE_CATEGORY}[[category]]\nid = 'a'\ntitle = 'A'", "a is there twice"),
        ("currency = ", "Invalid value"),
    ],
)
def test_an_invalid_catalog_file_is_refused_with_the_place_of_the_mistake(
    tmp_path: Path, text: str, place: str
) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(text)

    with pytest.raises(operations.CatalogFileError, match=place):
        operations.read(DEMO, file)


async def test_the_commands_work_from_the_command_line(
    db: database.Database, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ORDERS_DATABASE_URL", database_url)
    monkeypatch.setenv("KOPILKA_AMQP_URL", "amqp://nobody@127.0.0.1/")

    codes = [
        await operations.seed(main.SERVICE, []),
        await operations.seed(main.SERVICE, []),
        await operations.republish(main.SERVICE, ["--tenant", "demo"]),
        await operations.seed(main.SERVICE, ["--file", "/nowhere.toml"]),
    ]

    assert codes == [0, 0, 0, 1]
    printed = capsys.readouterr()
    assert printed.out == (
        "11 of 11 categories and products changed\n"
        "0 of 11 categories and products changed\n"
        "11 categories and products published\n"
    )
    assert "/nowhere.toml" in printed.err
