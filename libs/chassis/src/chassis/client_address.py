"""The network address that a request really comes from, when it may have passed through proxies of ours.

X-Forwarded-For is believed only as far as trusted proxies wrote it: anybody may send one.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]


def resolve(
    peer: str, forwarded_for: Iterable[str], trusted_proxies: Networks, *, is_peer_trusted: bool = False
) -> str:
    """Return the address of the nearest hop that is not a trusted proxy; of the farthest hop when all of them are.

    `peer` is the other end of the connection, `forwarded_for` the X-Forwarded-For headers in the order of the request.
    Their hops are walked from the right end, the nearest one. With `is_peer_trusted` the peer has proved by other means
    that it is one of our proxies. An IPv4 address that is mapped into IPv6 is returned as IPv4. A hop that is no
    address belongs to no network, so the walk ends there and its text is returned.
    """
    address = _normalized(peer)
    if not (is_peer_trusted or _is_in(address, trusted_proxies)):
        return address
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops):
        address = _normalized(hop)
        if not _is_in(address, trusted_proxies):
            break
    return address


def _normalized(text: str) -> str:
    address = _parsed(text)
    # A socket that listens on both protocols shows its IPv4 clients this way.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return text


def _is_in(text: str, networks: Networks) -> bool:
    address = _parsed(text)
    return address is not None and any(address in network for network in networks)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
