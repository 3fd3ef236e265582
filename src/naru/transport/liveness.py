"""Finding out that the machine at the other end is gone."""

from __future__ import annotations

import asyncio
import socket

#: A peer whose machine is gone says nothing, and a kept-alive connection to it would be waited for as long as for a slow model.
#: So the kernel finds out: what was sent is acknowledged within 15 s, and a silent peer answers its probes.
DEAD_AFTER_MS = 15_000
LIVENESS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (
        ("TCP_USER_TIMEOUT", DEAD_AFTER_MS),
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
    )
    if hasattr(socket, name)
]


def watch_peer(transport: asyncio.BaseTransport) -> None:
    """Has the kernel do so, where the connection is one of TCP."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in LIVENESS:
            sock.setsockopt(level, option, value)
