"""Addresses that an operator wrote, before anything connects to them. What a name resolves to is checked when connecting."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult

from naru import addresses


def url_problem(url: SplitResult, host: str, takes_query: bool = False) -> str:
    """What is wrong with an upstream's address, or nothing. Reading the port raises ValueError when it is none."""
    if url.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if url.username is not None or url.password is not None:
        return "must not hold a user or password; the key belongs in api_key"
    if (url.query and not takes_query) or url.fragment:
        return "must not have a query or a fragment"
    if not host or url.port == 0:
        return "has no host"
    if addresses.is_odd(host):
        return f"{host} is neither a name nor an address in plain form"
    return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def is_private(host: str) -> bool:
    """For literal addresses and localhost; what a name resolves to is checked when connecting."""
    address = _address(host)
    return is_loopback(host) or (address is not None and addresses.is_private(host))
