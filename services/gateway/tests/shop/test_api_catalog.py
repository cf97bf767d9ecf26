"""The routes of the catalog: public, with literal search, and without hidden products."""

import unicodedata
from typing import Any, Literal

import httpx
import pytest

from contracts import orders


async def titles(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """Read the whole list, page by page."""
    found: list[str] = []
    while True:
        answer = await client.get("/products", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [product["title"] for product in page["items"]]
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_a_product_is_shown_as_it_was_listed(client: httpx.AsyncClient, services: Any, build: Any) -> None:
    await services.publish(build.product("mug", title="A mug", description="For tea."))

    answer = await client.get("/products/mug")

    assert answer.json() == {
        "id": "mug",
        "category_id": "kitchen",
        "title": "A mug",
        "description": "For tea.",
        "price": {"amount_minor": 40_000, "currency": "RUB"},
    }
    assert (await client.get("/products")).json() == {"items": [answer.json()], "next_cursor": None}


@pytest.mark.rule("C1")
async def test_a_hidden_product_is_never_shown(client: httpx.AsyncClient, services: Any, build: Any) -> None:
    await services.publish(build.product("mug"), build.product("jug", is_visible=False))
    await services.publish(build.product("mug", version=2, is_visible=False))

    assert await titles(client) == []
    assert await titles(client, q="mug", category_id="kitchen", min_price=1) == []
    for product_id in ("mug", "jug"):
        assert (await client.get(f"/products/{product_id}")).json()["code"] == "product_not_found"


async def test_a_product_that_does_not_exist_is_not_found(client: httpx.AsyncClient) -> None:
    for product_id in ("mug", "%00", "%ff", "x" * 5_000, "..%2f"):
        answer = await client.get(f"/products/{product_id}")
        assert answer.status_code == 404, product_id
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_search_is_literal(client: httpx.AsyncClient, services: Any, build: Any) -> None:
    names = ("100% cotton", "100 cottons", "A_B", "AXB", "back\\slash", "\u0427\u0430\u0439")
    await services.publish(*(build.product(f"p{number}", title=title) for number, title in enumerate(names)))

    assert await titles(client, q="100%") == ["100% cotton"]
    assert await titles(client, q="a_b") == ["A_B"]
    assert await titles(client, q="\\") == ["back\\slash"]
    assert await titles(client, q="COTTON") == ["100 cottons", "100% cotton"]
    assert await titles(client, q="\u0427\u0410") == ["\u0427\u0430\u0439"]
    assert len(await titles(client, q="")) == len(names)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
async def test_a_search_finds_a_title_however_its_letters_are_composed(
    client: httpx.AsyncClient, services: Any, build: Any, form: Literal["NFC", "NFD"], asked: Literal["NFC", "NFD"]
) -> None:
    title = "\u0427\u0430\u0439"
    await services.publish(build.product("tea", title=unicodedata.normalize(form, title)))

    assert await titles(client, q=unicodedata.normalize(asked, "\u0439")) == [title]


async def test_products_are_filtered_by_category_and_price(
    client: httpx.AsyncClient, services: Any, build: Any
) -> None:
    for number in range(1, 6):
        price = {"amount_minor": number * 100, "currency": "RUB"}
        category = "odd" if number % 2 else "even"
        await services.publish(build.product(f"p{number}", title=f"P{number}", price=price, category_id=category))

    assert await titles(client, category_id="odd") == ["P1", "P3", "P5"]
    assert await titles(client, min_price=200, max_price=400) == ["P2", "P3", "P4"]
    assert await titles(client, category_id="odd", max_price=300, q="p") == ["P1", "P3"]
    assert await titles(client, min_price=400, max_price=200) == []


async def test_a_page_stays_where_it_was_while_products_are_listed(
    client: httpx.AsyncClient, services: Any, build: Any
) -> None:
    await services.publish(*(build.product(f"p{number}", title="Same") for number in range(5)))
    first = (await client.get("/products", params={"limit": 2})).json()

    await services.publish(build.product("early", title="Early"), build.product("p10", title="Same"))
    rest = (await client.get("/products", params={"cursor": first["next_cursor"]})).json()

    shown = [product["id"] for product in first["items"] + rest["items"]]
    assert len(shown) == len(set(shown))
    assert {"p0", "p1", "p2", "p3", "p4"} <= set(shown)


async def test_categories_are_listed_by_title(client: httpx.AsyncClient, services: Any) -> None:
    listed = [("b", "Beta"), ("a", "Alpha"), ("c", "Gamma")]
    await services.publish(
        *(orders.CategoryListed(tenant="demo", category_id=key, title=title, version=1) for key, title in listed)
    )
    await services.publish(orders.CategoryListed(tenant="demo", category_id="c", title="Aaa", version=2))

    first = (await client.get("/categories", params={"limit": 2})).json()
    rest = (await client.get("/categories", params={"cursor": first["next_cursor"]})).json()

    assert [category["title"] for category in first["items"]] == ["Aaa", "Alpha"]
    assert rest == {"items": [{"id": "b", "title": "Beta"}], "next_cursor": None}


async def test_another_tenants_catalog_is_not_shown(client: httpx.AsyncClient, services: Any, build: Any) -> None:
    await services.publish(build.product("mug", tenant="other"))

    assert await titles(client) == []


async def test_nonsense_in_a_query_is_a_problem(client: httpx.AsyncClient) -> None:
    for query in (
        "limit=1000",
        "min_price=-1",
        "min_price=9223372036854775808",
        "max_price=1.5",
        "q=%00",
        "q=" + "x" * 201,
        "category_id=%00",
        "category_id=",
        "cursor=x",
    ):
        answer = await client.get(f"/products?{query}")
        assert answer.status_code in {400, 422}, query
        assert answer.headers["Content-Type"] == "application/problem+json"
