from ipaddress import ip_network

import pytest

from chassis import client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))
CLIENT = "198.51.100.7"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, ["203.0.113.1"], CLIENT),
        (CLIENT, ["10.0.0.1"], CLIENT),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [CLIENT], CLIENT),
        ("10.0.0.1", [f"203.0.113.1, {CLIENT}"], CLIENT),
        ("10.0.0.1", [f"203.0.113.1,{CLIENT} , 10.0.0.2"], CLIENT),
        ("10.0.0.1", ["203.0.113.1", f"{CLIENT}, 10.0.0.2"], CLIENT),
        ("10.0.0.1", [CLIENT, "10.0.0.2", "10.0.0.3"], CLIENT),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("2001:db8:1::5", ["2001:db8:2::9"], "2001:db8:2::9"),
    ],
)
def test_an_address_is_that_of_the_nearest_hop_that_is_no_proxy(
    peer: str, forwarded_for: list[str], address: str
) -> None:
    assert client_address.resolve(peer, forwarded_for, PROXIES) == address


def test_without_trusted_proxies_the_header_is_ignored() -> None:
    assert client_address.resolve("10.0.0.1", [CLIENT], ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (f"::ffff:{CLIENT}", [], CLIENT),
        ("::ffff:10.0.0.1", [CLIENT], CLIENT),
        ("10.0.0.1", [f"::ffff:{CLIENT}"], CLIENT),
        ("10.0.0.1", [f"{CLIENT}, ::ffff:10.0.0.2"], CLIENT),
    ],
)
def test_a_mapped_address_is_the_ipv4_address_it_stands_for(peer: str, forwarded_for: list[str], address: str) -> None:
    assert client_address.resolve(peer, forwarded_for, PROXIES) == address


# express-rate-limit#234, rack/rack#1227, goauthentik/authentik#25679
@pytest.mark.parametrize(
    ("hop", "address"),
    [
        (f"{CLIENT}:4431", CLIENT),
        ("2001:db8:2::9", "2001:db8:2::9"),
        ("2001:DB8:2:0::0009", "2001:db8:2::9"),
        ("[2001:db8:2::9]", "2001:db8:2::9"),
        ("[2001:db8:2::9]:443", "2001:db8:2::9"),
        (f"[::ffff:{CLIENT}]:443", CLIENT),
    ],
)
def test_a_hop_may_have_a_port_and_brackets(hop: str, address: str) -> None:
    assert client_address.resolve("10.0.0.1", [hop], PROXIES) == address
    assert (
        client_address.resolve("10.0.0.1", [f"203.0.113.1, {hop}", "10.0.0.2:80, [2001:db8:1::5]:81"], PROXIES)
        == address
    )


@pytest.mark.parametrize(
    "nonsense",
    [
        "",
        "unknown",
        "_hidden",
        "10.0.0.1:",
        "10.0.0.1:123456",
        "10.0.0.1/8",
        "10.0.0",
        "[10.0.0.1:8",
        "2001:db8::1]",
        "\x00",
    ],
)
def test_what_is_no_address_is_no_proxy_and_ends_the_walk(nonsense: str) -> None:
    assert client_address.resolve("10.0.0.1", [f"{CLIENT}, {nonsense}"], PROXIES) == nonsense.strip()
    assert client_address.resolve(nonsense, [CLIENT], PROXIES) == nonsense


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [([], "203.0.113.9"), ([CLIENT], CLIENT), ([f"203.0.113.1, {CLIENT}"], CLIENT), ([f"{CLIENT}, 10.0.0.2"], CLIENT)],
)
def test_a_peer_that_proved_to_be_a_proxy_is_trusted_whatever_its_address(
    forwarded_for: list[str], address: str
) -> None:
    assert client_address.resolve("203.0.113.9", forwarded_for, PROXIES, is_peer_trusted=True) == address


def test_ten_thousand_proxies_in_a_row_are_walked() -> None:
    hops = ["10.0.0.1"] * 10_000

    assert client_address.resolve("10.0.0.1", [", ".join([CLIENT, *hops])], PROXIES) == CLIENT


def test_an_ipv6_address_counts_as_its_network() -> None:
    network = client_address.network

    assert network("203.0.113.7") == network("::ffff:203.0.113.7") == "203.0.113.7"
    assert network("2001:db8:1:2:aaaa::1") == network("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("") == network("nonsense") == "unknown"
