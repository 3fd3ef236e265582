"""The HTTP client of a tool server that has an address, and the guard for addresses that a remote caller chose."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import httpx2

from naru.agent.mcp.options import Options

#: A server may say nothing for long while a tool works; what limits a call is the call's own time.
IDLE_S = 300.0


class NotPublic(httpx2.ConnectError):
    """The address is one of a private network, of this machine, or of none."""


class Refusals:
    """The status of the last answer, where it was 400 or more. The SDK puts one sentence in its place, which does not say that a
    key was wrong."""

    def __init__(self) -> None:
        self.status = 0

    async def note(self, response: httpx2.Response) -> None:
        self.status = response.status_code if response.status_code >= 400 else 0

    def words(self) -> str:
        """For behind a sentence; nothing where nothing was refused."""
        if self.status in (401, 403):
            return f" (HTTP {self.status}: it wants a credential, or another one; put it into headers)"
        return f" (HTTP {self.status})" if self.status else ""


class Client(httpx2.AsyncClient):
    """`on_lost` is called where nobody is at the address, or the connection breaks before an answer. To the SDK that is one
    request that failed, and the next one is sent just so."""

    def __init__(self, on_lost: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._on_lost = on_lost

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            return await super().send(request, **options)
        except (httpx2.NetworkError, httpx2.RemoteProtocolError):
            self._on_lost()
            raise


def web_client(options: Options, refusals: Refusals, on_lost: Callable[[], None]) -> Client:
    """To be entered. Redirects are followed within the server's own origin only (the SDK's transport sees to that), so headers
    reach nobody else."""
    timeout = httpx2.Timeout(options.connect_timeout_s, read=max(IDLE_S, options.timeout_s))
    hooks = {"response": [refusals.note]}
    headers = dict(options.headers)
    if options.public_only:
        # No proxies of the environment either: they would resolve the name themselves.
        only: dict[str, Any] = {"transport": PublicOnly(), "trust_env": False}
        return Client(on_lost, headers=headers, timeout=timeout, event_hooks=hooks, **only)
    return Client(on_lost, headers=headers, timeout=timeout, event_hooks=hooks)


class PublicOnly(httpx2.AsyncBaseTransport):
    """Resolves a name itself, refuses it where any of its addresses is not of the public internet, and connects to the one it
    looked at, so that a second answer of the name's server changes nothing."""

    def __init__(self) -> None:
        self.inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        address = await public_address(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        # The Host header was made of the name already; the certificate is checked against the name too.
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def public_address(host: str, port: int) -> str:
    """Raises NotPublic, and ConnectError where there is no such name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx2.ConnectError(f"there is no such host: {error.strerror or error}") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise NotPublic("its address is not one of the public internet")
    return addresses[0]


def is_public(text: str) -> bool:
    """Also of the IPv4 address in an IPv6 one: mapped, 6to4 and NAT64 lead to it."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
