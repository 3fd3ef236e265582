"""Pictures by their addresses, for models whose provider takes none: fetched here, if the operator allows it.

The address is the caller's, so everything about it is suspect (reliability.md B8): public addresses only unless the operator
says otherwise, the address that was checked is the one connected to, at each redirect anew; a bounded size and time; nothing
of the caller's or the gateway's goes along.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from urllib.parse import quote, urljoin, urlsplit

from naru.errors import BadRequest, ConfigError, UpstreamError
from naru.transport.connect import Origin
from naru.transport.deadlines import Deadlines
from naru.transport.upstream import Pool, UpstreamClient
from naru.transport.whole import Plain, PlainAnswer

#: providers.md A1.3, A6.2: 20 MB is the most that any provider takes of one picture.
MAX_BYTES = 20 * 1024 * 1024
#: Of all the pictures of one request.
MAX_TOTAL_BYTES = 50 * 1024 * 1024
MAX_IMAGES = 50
MAX_REDIRECTS = 3
TIMEOUT_S = 15.0
#: What stands in a target as it is; an address in Korean is percent-encoded, as browsers do.
_URL_CHARS = "/?%:@!$&'()*+,;=~-._[]"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class ImageFetcher:
    """`allow_private` admits addresses of private networks: an image store of one's own."""

    def __init__(self, client: UpstreamClient, allow_private: bool = False) -> None:
        self.client = client
        self.allow_private = allow_private

    async def all(self, urls: Iterable[str]) -> dict[str, str]:
        """Address -> data: URI. Raises BadRequest (image_unreachable, image_too_large, image_invalid)."""
        wanted = list(dict.fromkeys(urls))
        if len(wanted) > MAX_IMAGES:
            raise BadRequest(
                f"The request holds {len(wanted)} pictures by address; {MAX_IMAGES} are fetched at most. Send fewer.",
                code="image_too_large",
                param="messages",
            )
        try:
            async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(url)) for url in wanted]
        except TimeoutError:
            raise _unreachable(wanted[0], f"not within {TIMEOUT_S:g} s") from None
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        found = dict(zip(wanted, (task.result() for task in tasks), strict=True))
        if sum(map(len, found.values())) * 3 // 4 > MAX_TOTAL_BYTES:
            raise _too_large(wanted[0], MAX_TOTAL_BYTES)
        return found

    async def _one(self, url: str) -> str:
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            picture = await self._get(url, place)
            if picture.status not in _REDIRECTS:
                return _data_uri(url, picture)
            place = urljoin(place, picture.header(b"location").decode("latin-1"))
        raise _unreachable(url, f"it redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: str, place: str) -> Plain:
        """One hop. `url` is what the caller knows, `place` where a redirect has led."""
        origin, target = self._parts(url, place)
        pool = Pool(self.client, origin, max_connections=1)
        answer = PlainAnswer(asyncio.get_running_loop().create_future(), MAX_BYTES)
        try:
            connection = await pool.acquire(TIMEOUT_S)
            default = 443 if origin.scheme == "https" else 80
            host = origin.host if origin.port == default else f"{origin.host}:{origin.port}"
            head = f"GET {target} HTTP/1.1\r\nhost: {host}\r\naccept: image/*\r\naccept-encoding: identity\r\n"
            request = (f"{head}user-agent: naru\r\nconnection: close\r\n\r\n".encode("latin-1"),)
            connection.send(request, answer, Deadlines(self.client.loop.time(), TIMEOUT_S, TIMEOUT_S, TIMEOUT_S))
            return await answer.future
        except UpstreamError as error:
            if answer.size > MAX_BYTES:
                raise _too_large(url, MAX_BYTES) from error
            hint = " Private addresses are not fetched." if error.code == "upstream_private_address" else ""
            raise _unreachable(url, f"it cannot be reached.{hint}") from error
        finally:
            if answer.connection is not None:
                answer.connection.abort(answer)
            pool.close()

    def _parts(self, url: str, place: str) -> tuple[Origin, str]:
        try:
            parts = urlsplit(place)
            host = (parts.hostname or "").encode("idna").decode()
            host = f"[{host}]" if ":" in host else host
            origin = Origin.of(f"{parts.scheme}://{host}:{parts.port or ''}", self.allow_private)
            target = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe=_URL_CHARS)
        except (ConfigError, ValueError):  # UnicodeError is one
            raise _unreachable(url, "it is no http(s) address") from None
        if parts.username or parts.password or any(ord(char) <= 0x20 or char == "\x7f" for char in place):
            raise _unreachable(url, "it holds a password or a blank")
        return origin, target


#: By their first bytes, whatever the server says: what comes in as a picture goes out as one.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def _data_uri(url: str, picture: Plain) -> str:
    if picture.status != 200:
        raise _unreachable(url, f"it answers with status {picture.status}")
    data = picture.body
    media_type = next((name for start, name in _SIGNATURES if data.startswith(start)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        media_type = "image/webp"
    if media_type is None:
        raise BadRequest(
            f"What {_shown(url)} holds is no picture (PNG, JPEG, GIF, WEBP or BMP). Send its content as a data: URI.",
            code="image_invalid",
            param="messages",
        )
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _unreachable(url: str, why: str) -> BadRequest:
    why = why if why.endswith(".") else why + "."
    return BadRequest(
        f"The picture at {_shown(url)} could not be fetched: {why} Send it as a data: URI.",
        code="image_unreachable",
        param="messages",
    )


def _too_large(url: str, limit: int) -> BadRequest:
    return BadRequest(
        f"The picture at {_shown(url)} is larger than {limit // (1024 * 1024)} MB, or all of the request's together are. "
        "Send a smaller one.",
        code="image_too_large",
        param="messages",
    )


def _shown(url: str) -> str:
    """Without the query, which may hold a signature."""
    short = url.partition("?")[0]
    return short if len(short) <= 100 else short[:100] + "…"
