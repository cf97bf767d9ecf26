"""The network address that a request really comes from, when it may have passed through proxies of ours.

X-Forwarded-For is believed only as far as trusted proxies wrote it: anybody may send one.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Networks = Sequence[IPv4Network | IPv6Network]

IPV6_PREFIX = 64  # what an internet provider gives to one customer

# Some proxies write the port of the client, and brackets around IPv6; a bare IPv6 address never has a port.
_WITH_PORT = re.compile(r"(?P<ipv4>[0-9.]+):[0-9]{1,5}|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](:[0-9]{1,5})?", re.ASCII)


def resolve(
    peer: str, forwarded_for: Iterable[str], trusted_proxies: Networks, *, is_peer_trusted: bool = False
) -> str:
    """Return the address of the nearest hop that is not a trusted proxy; of the farthest hop when all of them are.

    `peer` is the other end of the connection, `forwarded_for` the X-Forwarded-For headers in the order of the request.
    Their hops are walked from the right end, the nearest one. With `is_peer_trusted` the peer has proved by other means
    that it is one of our proxies. An address is returned in its canonical form, without port and brackets, and an IPv4
    address that is mapped into IPv6 as IPv4. A hop that is no address belongs to no network, so the walk ends there
    and its text is returned.
    """
    address = _normalized(peer)
    if not (is_peer_trusted or is_in(address, trusted_proxies)):
        return address
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops):
        address = _normalized(hop)
        if not is_in(address, trusted_proxies):
            break
    return address


def network(address: str) -> str:
    """Return the network that one customer has: an IPv4 address itself, the /64 of an IPv6 address.

    Text that is no address gives "unknown".
    """
    parsed = _parsed(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), IPV6_PREFIX), strict=False))
    return "unknown" if parsed is None else str(parsed)


def is_in(text: str, networks: Networks) -> bool:
    """Tell whether an address is in one of the networks; text that is no address is in none."""
    address = _parsed(text)
    return address is not None and any(address in network for network in networks)


def _normalized(text: str) -> str:
    address = _parsed(text)
    return text if address is None else str(address)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    with_port = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((with_port["ipv4"] or with_port["ipv6"]) if with_port else text)
    except ValueError:
        return None
    # A socket that listens on both protocols shows its IPv4 clients this way.
    return getattr(address, "ipv4_mapped", None) or address
