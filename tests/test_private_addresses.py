"""Addresses that are nobody's public server."""

from __future__ import annotations

import pytest

from naru.addresses import is_odd, is_private

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "239.1.1.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:a00:1::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private(address: str) -> None:
    assert is_private(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public(address: str) -> None:
    assert not is_private(address)


def test_odd_forms_of_addresses() -> None:
    assert all(map(is_odd, ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0x7f000001")))
    assert not any(map(is_odd, ("127.0.0.1", "::1", "example.com", "1.example", "0x.example")))
