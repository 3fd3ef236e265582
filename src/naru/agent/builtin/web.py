"""A page of the web for a model. The address is the model's, or whoever's text the model read, so everything about it is suspect:
only public addresses, at each redirect anew, and the address that was checked is the one that is connected to; a bounded size,
time and number of redirects; text only; nothing of ours goes along."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from email.message import Message
from typing import Annotated, Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore2
import msgspec

from naru.addresses import is_odd, is_private
from naru.agent.builtin.page import as_text, decoded
from naru.agent.function import FunctionTool, tool
from naru.agent.tool import ToolError

#: host, port -> IP addresses. Injected, so that tests can lie.
Resolver = Callable[[str, int], Awaitable[list[str]]]

MAX_BYTES = 2 * 1024 * 1024
MAX_REDIRECTS = 5
MAX_URL_CHARS = 2000
TIMEOUT_S = 20.0
#: Besides text/*.
TEXT_TYPES = frozenset(("application/json", "application/xml", "application/xhtml+xml", "application/javascript"))
_TEXT_ENDINGS = ("+json", "+xml")
_HTML_TYPES = frozenset(("text/html", "application/xhtml+xml"))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_HEADERS = (
    (b"user-agent", b"naru"),
    (b"accept", b"text/html, text/*;q=0.9, */*;q=0.1"),
    (b"accept-encoding", b"gzip"),
    (b"connection", b"close"),
)
#: What stands in a target as it is; Korean letters are percent-encoded, as browsers do.
_URL_CHARS = "/?%:@!$&'()*+,;=~-._[]"


async def system_resolver(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Fetched(msgspec.Struct, frozen=True):
    """One answer. `location` is where a redirect leads; `content_type` is in lower case and without parameters."""

    status: int
    content_type: str
    charset: str
    location: str
    body: bytes


class Guarded(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to a name: one that resolves differently a moment later (DNS rebinding)
    gains nothing. Raises ToolError where every address is private."""

    def __init__(self, resolver: Resolver, allow_private: bool) -> None:
        self.resolver = resolver
        self.allow_private = allow_private
        self.inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        last: Exception | None = None
        for address in await self._addresses(host, port):
            try:
                return await self.inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last or httpcore2.ConnectError("no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            found = await self._resolved(host, port)
        # All of them, not those that pass: a name with a private address among its public ones is no public server's.
        if not self.allow_private and any(is_private(address) for address in found):
            raise ToolError(f"{host} is a private address. Only public web servers are fetched.")
        return found

    async def _resolved(self, host: str, port: int) -> list[str]:
        try:
            found = await self.resolver(host, port)
        except OSError as error:
            raise ToolError(
                f"There is no server {host}: {error.strerror or error}.", may_retry=_may_pass(error)
            ) from error
        if not found:
            raise ToolError(f"The name {host} has no address.")
        return found


def _may_pass(error: OSError) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def make_web_fetch(
    *, allow_private: bool = False, resolver: Resolver = system_resolver, tls: ssl.SSLContext | None = None
) -> FunctionTool[[str], Coroutine[Any, Any, str]]:
    """The tool `web_fetch`. `allow_private` lets it into loopback and private networks: for an intranet that whoever writes the
    model's prompts may read. `tls` replaces the system's certificates."""

    @tool(timeout_s=TIMEOUT_S + 10)
    async def web_fetch(url: Annotated[str, "Starts with http:// or https://"]) -> str:
        """Read a web page or another text of the web. HTML comes as text with its headings and links."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await _followed(url, Guarded(resolver, allow_private), tls)
        except TimeoutError:
            raise ToolError(f"{_short(url)} did not answer whole within {TIMEOUT_S:g} s.", may_retry=True) from None

    return web_fetch


async def _followed(url: str, backend: Guarded, tls: ssl.SSLContext | None) -> str:
    place = checked_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _get(place, backend, tls)
        if answer.status not in _REDIRECTS or not answer.location:
            return _told(place, answer)
        place = checked_url(_target(place, answer.location))
    raise ToolError(f"{_short(url)} redirects more than {MAX_REDIRECTS} times.")


def _target(place: str, location: str) -> str:
    try:
        return urljoin(place, location)
    except ValueError:
        raise ToolError(f"{_short(place)} redirects to {_short(location)!r}, which is no address.") from None


def checked_url(url: str) -> str:
    """The address in the form in which it is asked for: ASCII, without its fragment. Raises ToolError."""
    url = url.strip()
    if len(url) > MAX_URL_CHARS or any(ord(char) < 0x20 or char in "\x7f\\" for char in url):
        raise ToolError(f"An address has at most {MAX_URL_CHARS} characters, and no control characters or backslashes.")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii").lower()
        port = parts.port
    except ValueError:  # UnicodeError is one
        raise ToolError(f"{_short(url)!r} is no web address.") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ToolError(f"{_short(url)!r} is no web address. Write it as https://host/path.")
    if parts.username is not None or parts.password is not None:
        raise ToolError("The address holds a user or a password. Leave them out.")
    if is_odd(host):
        raise ToolError(f"{host} is neither a name nor an address in plain form.")
    shown = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    target = quote(f"{parts.path or '/'}{query}", safe=_URL_CHARS)
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{target}"


async def _get(url: str, backend: Guarded, tls: ssl.SSLContext | None) -> Fetched:
    """One request on a connection of its own: no cookies, no proxy, no credentials."""
    # Reading the system's certificates takes longer than a plain request.
    context = tls or (
        ssl.create_default_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    try:
        async with (
            httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=backend) as pool,
            pool.stream("GET", url, headers=_HEADERS) as answer,
        ):
            return await _received(url, answer)
    except httpcore2.TimeoutException:
        raise ToolError(f"{_short(url)} does not answer.", may_retry=True) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError) as error:
        raise ToolError(f"{_short(url)} cannot be fetched: {error or type(error).__name__}.", may_retry=True) from error


async def _received(url: str, answer: httpcore2.Response) -> Fetched:
    headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    stated = Message()
    stated["content-type"] = headers.get("content-type", "")
    charset = stated.get_content_charset() or ""
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status in _REDIRECTS:
        return Fetched(answer.status, content_type, charset, headers.get("location", ""), b"")
    if answer.status == 200 and not _is_text(content_type):
        raise ToolError(f"{_short(url)} is {content_type or 'of no stated type'}, and only text is read.")
    body = await _body(url, answer, headers.get("content-encoding", "").strip().lower())
    return Fetched(answer.status, content_type, charset, "", body)


async def _body(url: str, answer: httpcore2.Response, encoding: str) -> bytes:
    """Never more than MAX_BYTES, unpacked: a gzip bomb ends here."""
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise ToolError(f"{_short(url)} answers in an encoding that was not asked for ({encoding[:40]}).")
    unpacker = zlib.decompressobj(wbits=47) if encoding.endswith("gzip") else None
    body = bytearray()
    async for piece in answer.aiter_stream():
        try:
            body += unpacker.decompress(piece, MAX_BYTES + 1 - len(body)) if unpacker else piece
        except zlib.error:
            raise ToolError(f"The compressed answer of {_short(url)} is damaged.") from None
        if len(body) > MAX_BYTES:
            raise ToolError(f"{_short(url)} has more than {MAX_BYTES // (1024 * 1024)} MB, and no more is read.")
    if unpacker and not unpacker.eof:
        raise ToolError(f"The compressed answer of {_short(url)} is cut off.", may_retry=True)
    return bytes(body)


def _is_text(content_type: str) -> bool:
    return content_type.startswith("text/") or content_type in TEXT_TYPES or content_type.endswith(_TEXT_ENDINGS)


def _told(url: str, answer: Fetched) -> str:
    if answer.status != 200:
        may_retry = answer.status in (408, 429) or answer.status >= 500
        raise ToolError(f"{_short(url)} answers with status {answer.status}.", may_retry=may_retry)
    text = decoded(answer.body, answer.charset)
    text = as_text(text, url) if answer.content_type in _HTML_TYPES else text.strip()
    return text or f"{_short(url)} holds no text."


def _short(url: str) -> str:
    """Without the query, which may hold a signature."""
    short = url.partition("?")[0]
    return short if len(short) <= 100 else short[:100] + "…"
