"""IP addresses that are nobody's public server: what a gateway, or a tool of a model, must not be talked into asking."""

from __future__ import annotations

import ipaddress
import re

#: inet_aton reads 0x7f.1 and 2130706433 as addresses; whoever writes those hides something.
ODD_ADDRESS = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+))*", re.IGNORECASE)

#: RFC 6052: IPv6 addresses whose last four bytes are an IPv4 address that a NAT64 gateway asks.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: RFC 8215: the same for private use. Python's table of private networks has it since 3.11.9 and 3.12.4 only.
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_private(address: str) -> bool:
    """Whether an IP address is not a public unicast one: loopback, link-local (cloud metadata), RFC 1918, CGNAT, ULA … An IPv6
    address that leads to an IPv4 one (mapped, NAT64, 6to4, Teredo) is judged by both. Raises ValueError for no address."""
    ip = ipaddress.ip_address(address.split("%")[0])
    return ip in _LOCAL_NAT64 or any(not each.is_global or each.is_multicast for each in _meant(ip))


def _meant(ip: Address) -> list[Address]:
    if not isinstance(ip, ipaddress.IPv6Address):
        return [ip]
    if ip.ipv4_mapped is not None:
        return [ip.ipv4_mapped]  # ::ffff:0:0/96 itself is not global
    if ip in _NAT64:
        return [ip, ipaddress.IPv4Address(ip.packed[-4:])]
    inner = [ip.sixtofour, *(ip.teredo or ())]
    return [ip, *(each for each in inner if each is not None)]


def is_odd(host: str) -> bool:
    """An IPv4 address in another form than four decimal numbers."""
    if ODD_ADDRESS.fullmatch(host) is None:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
