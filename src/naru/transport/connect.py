"""Opening a connection: DNS off the loop, the private-address guard, proxies by CONNECT, TLS with verification.

The address that was checked is the address that is connected to, so a name that resolves differently a moment later (DNS
rebinding) gains nothing. Addresses are tried one after another within the caller's connect time.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from naru.addresses import is_private
from naru.errors import ConfigError, UpstreamUnreachable

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
#: host, port -> IP addresses. Injected, so tests can lie.
Resolver = Callable[[str, int], Awaitable[list[str]]]

#: Origins with this scheme are local engines. Where one listens is known only while it runs.
ENGINE_SCHEME = "engine"

DNS_TTL_S = 30.0
#: RFC 8305: an address that is silent holds the next one up for so long, and no longer.
STAGGER_S = 0.25


class Origin(msgspec.Struct, frozen=True):
    """Where connections go. `allow_private` admits loopback and private networks (the operator's own hardware). Of an engine
    `host` is its name, and `version` tells what ran under it before a reload from what runs after."""

    scheme: str
    host: str
    port: int
    allow_private: bool = False
    ca_file: str = ""
    version: str = ""

    @classmethod
    def of_engine(cls, name: str, version: str) -> Origin:
        return cls(ENGINE_SCHEME, name, 80, True, version=version)

    def __str__(self) -> str:
        if self.scheme == ENGINE_SCHEME:
            return f"the engine {self.host}"
        return f"{self.scheme}://{self.host}:{self.port}"

    @classmethod
    def of(cls, url: str, allow_private: bool = False, ca_file: str = "") -> Origin:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not an http(s) address. Write it as https://host[:port]/path.")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname, port, allow_private, ca_file)


#: The path of a Unix socket, or host and port.
EngineAddress = str | tuple[str, int]
#: Waits until an engine is ready, and says where it listens. True: it has just refused or dropped a connection, so it is looked
#: at again whether it is there at all. Raises UpstreamUnreachable.
OpenEngine = Callable[[Origin, bool], Awaitable[EngineAddress]]


async def system_resolver(host: str, port: int) -> list[str]:
    """getaddrinfo in the loop's thread pool."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Proxies(msgspec.Struct, frozen=True):
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY ask for. Loopback is never proxied."""

    by_scheme: Mapping[str, str] = {}
    no_proxy: tuple[str, ...] = ()

    def for_origin(self, origin: Origin) -> str | None:
        host = origin.host.lower()
        if host in ("localhost", "127.0.0.1", "::1") or any(self._matches(host, entry) for entry in self.no_proxy):
            return None
        return self.by_scheme.get(origin.scheme)

    @staticmethod
    def _matches(host: str, entry: str) -> bool:
        entry = entry.strip().lower()
        if entry == "*":
            return True
        name = entry.removeprefix("*").removeprefix(".")
        return bool(name) and (host == name or host.endswith("." + name))


class Connector:
    """Opens connections for all pools of one gateway."""

    def __init__(
        self,
        resolver: Resolver = system_resolver,
        proxies: Proxies | None = None,
        engines: OpenEngine | None = None,
    ) -> None:
        """`engines` None: there are none."""
        self.resolver = resolver
        self.proxies = proxies or Proxies()
        self.engines = engines
        self._resolved: dict[tuple[str, int], tuple[float, list[str]]] = {}
        self._tls: dict[str, ssl.SSLContext] = {}

    async def connect(self, origin: Origin, factory: Callable[[], ProtocolT], is_suspect: bool = False) -> ProtocolT:
        """A connected protocol. `is_suspect`: who is there has just dropped a connection; of an engine that may mean that it has
        died. Raises UpstreamUnreachable; the time limit is the caller's."""
        if origin.scheme == ENGINE_SCHEME:
            return await self._to_engine(origin, factory, is_suspect)
        proxy = self.proxies.for_origin(origin)
        if proxy is not None:
            return await self._through_proxy(proxy, origin, factory)
        loop = asyncio.get_running_loop()
        context = self._context(origin.ca_file) if origin.scheme == "https" else None
        name = origin.host if context else None

        async def one(address: str) -> ProtocolT:
            _, protocol = await loop.create_connection(factory, address, origin.port, ssl=context, server_hostname=name)
            return protocol

        addresses = await self._addresses(origin)
        try:
            return await (one(addresses[0]) if len(addresses) == 1 else first_of(map(one, addresses), STAGGER_S))
        except OSError as error:  # ssl.SSLError is one too
            self._resolved.pop((origin.host, origin.port), None)
            raise UpstreamUnreachable(f"Could not connect to {origin}: {describe(error)}.") from error

    async def _to_engine(self, origin: Origin, factory: Callable[[], ProtocolT], is_suspect: bool) -> ProtocolT:
        assert self.engines is not None, "an engine's address needs somebody who starts engines"
        loop = asyncio.get_running_loop()
        last: OSError | None = None
        for suspect in (is_suspect, True):
            where = await self.engines(origin, suspect)
            try:
                if isinstance(where, str):
                    _, protocol = await loop.create_unix_connection(factory, where)
                else:
                    _, protocol = await loop.create_connection(factory, *where)
                return protocol
            except OSError as error:
                last = error
        raise UpstreamUnreachable(f"Could not connect to {origin}: {describe(last)}.") from last

    def _context(self, ca_file: str) -> ssl.SSLContext:
        context = self._tls.get(ca_file)
        if context is None:
            context = ssl.create_default_context(cafile=ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            self._tls[ca_file] = context
        return context

    async def _addresses(self, origin: Origin) -> list[str]:
        addresses = await self._resolve(origin)
        if origin.allow_private:
            return addresses
        public = [address for address in addresses if not is_private(address)]
        if not public:
            raise UpstreamUnreachable(
                f"{origin.host} is a private address ({addresses[0]}). If this is your own server, set allow_private = true "
                "for the provider.",
                code="upstream_private_address",
            )
        return public

    async def _resolve(self, origin: Origin) -> list[str]:
        try:
            ipaddress.ip_address(origin.host)
            return [origin.host]
        except ValueError:
            pass  # a name, not an address
        key = (origin.host, origin.port)
        now = asyncio.get_running_loop().time()
        cached = self._resolved.get(key)
        if cached is not None and cached[0] > now:
            return cached[1]
        try:
            addresses = await self.resolver(*key)
        except OSError as error:
            raise UpstreamUnreachable(f"The name {origin.host} could not be resolved: {describe(error)}.") from error
        if not addresses:
            raise UpstreamUnreachable(f"The name {origin.host} has no address.")
        self._resolved[key] = (now + DNS_TTL_S, addresses)
        return addresses

    async def _through_proxy(self, proxy: str, origin: Origin, factory: Callable[[], ProtocolT]) -> ProtocolT:
        loop = asyncio.get_running_loop()
        parts = urlsplit(proxy)
        try:
            transport, tunnel = await loop.create_connection(
                lambda: Tunnel(origin, parts.username, parts.password), parts.hostname or "", parts.port or 8080
            )
            await tunnel.established
            protocol = factory()
            if origin.scheme == "https":
                context = self._context(origin.ca_file)
                secure = await loop.start_tls(transport, protocol, context, server_hostname=origin.host)
                if secure is None:
                    raise OSError("the proxy closed the connection")
                protocol.connection_made(secure)
            else:
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
            return protocol
        except OSError as error:
            raise UpstreamUnreachable(
                f"Could not reach {origin} through the proxy {parts.hostname}: {describe(error)}."
            ) from error


async def first_of(attempts: Iterable[Awaitable[ProtocolT]], stagger_s: float) -> ProtocolT:
    """Begins them one after another, the next when one has failed or `stagger_s` have passed; the first that connects wins, and
    the others are closed. Raises the last one's OSError when none does."""
    left, running, last = list(attempts), set[asyncio.Task[ProtocolT]](), OSError("no address")
    try:
        while left or running:
            if left:
                running.add(asyncio.ensure_future(left.pop(0)))
            done, running = await asyncio.wait(
                running, timeout=stagger_s if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    running |= done - {task}
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                last = error
        raise last
    finally:
        for each in left:
            each.close()  # type: ignore[attr-defined]
        for task in running:
            task.cancel()
            task.add_done_callback(_close)


def _close(task: asyncio.Task[ProtocolT]) -> None:
    """A connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        transport = getattr(task.result(), "transport", None)
        if transport is not None:
            transport.abort()


class Tunnel(asyncio.Protocol):
    """Asks a proxy for CONNECT host:port; `established` resolves when it says 200."""

    def __init__(self, origin: Origin, user: str | None, password: str | None) -> None:
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        target = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if user:
            token = base64.b64encode(f"{unquote(user)}:{unquote(password or '')}".encode()).decode()
            head += f"Proxy-Authorization: Basic {token}\r\n"
        self.head = (head + "\r\n").encode()
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.head)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.received += data
        if b"\r\n\r\n" not in self.received and len(self.received) < 16_384:
            return
        status = self.received.split(b"\r\n", 1)[0].decode("latin-1")
        if self.established.done():
            return
        if status.split(" ")[1:2] == ["200"]:
            self.established.set_result(None)
        else:
            self.established.set_exception(OSError(f"it answered {status[:80]!r} to CONNECT"))
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.established.done():
            self.established.set_exception(OSError("it closed the connection"))


def describe(error: OSError | None) -> str:
    """An operator's sentence for a socket or TLS error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the TLS certificate is not valid ({error.verify_message})"
    if error is None:
        return "no address answered"
    return (error.strerror or str(error) or type(error).__name__).strip(".")
