"""Where a request comes from."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

#: A proxy on this machine is believed when it says for whom it asks; nobody else is.
FORWARDED_FOR = b"x-forwarded-for"


def caller_address(headers: Iterable[tuple[bytes, bytes]], peer: str) -> IPv4Address | IPv6Address | None:
    """The peer; where that is this machine, whom its proxy names last. None when that is no address."""
    found = _parsed(peer)
    if found is not None and found.is_loopback:
        named = [value for name, value in headers if name == FORWARDED_FOR]
        if named:
            return _parsed(named[-1].rpartition(b",")[2].decode("latin-1").strip())
    return found


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped if isinstance(found, IPv6Address) else None) or found
