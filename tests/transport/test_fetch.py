"""Pictures by address: what is fetched, what is refused, and that no private address is asked."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from naru.errors import BadRequest
from naru.testing.http import Exchange, RawServer
from naru.transport import fetch
from naru.transport.connect import Connector
from naru.transport.fetch import ImageFetcher
from naru.transport.upstream import UpstreamClient

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


class Pictures:
    """Serves by path; counts what it was asked."""

    def __init__(self) -> None:
        self.server = RawServer(self.handle)
        self.base = ""

    def handle(self, exchange: Exchange) -> None:
        path = exchange.received.path
        if path == "/a.png":
            exchange.answer(200, PNG, (("content-type", "image/png"),))
        elif path == "/lies.png":
            exchange.answer(200, b"<html>", (("content-type", "image/png"),))
        elif path.startswith("/again"):
            left = int(path.removeprefix("/again"))
            exchange.answer(302, b"", (("location", f"/again{left - 1}" if left else "/a.png"),))
        elif path == "/large":
            exchange.answer(200, PNG + bytes(fetch.MAX_BYTES))
        else:
            exchange.answer(404, b"no")


@pytest.fixture
async def pictures() -> AsyncIterator[tuple[Pictures, UpstreamClient]]:
    made = Pictures()
    made.base = await made.server.start()
    client = UpstreamClient(Connector())
    yield made, client
    await client.close()
    await made.server.stop()


async def test_a_picture_becomes_a_data_uri(pictures: tuple[Pictures, UpstreamClient]) -> None:
    """By its bytes, whatever else; the same address twice is asked once; nothing of ours goes along."""
    made, client = pictures
    url = f"{made.base}/a.png"
    assert await ImageFetcher(client, allow_private=True).all([url, url]) == {
        url: "data:image/png;base64," + base64.b64encode(PNG).decode()
    }
    (received,) = made.server.received
    assert {name for name, _ in received.headers} == {"host", "accept", "accept-encoding", "user-agent", "connection"}


async def test_an_address_in_korean_is_encoded(pictures: tuple[Pictures, UpstreamClient]) -> None:
    made, client = pictures
    with pytest.raises(BadRequest, match="status 404"):
        await ImageFetcher(client, allow_private=True).all([f"{made.base}/그림.png?크기=1"])
    assert made.server.received[-1].target == "/%EA%B7%B8%EB%A6%BC.png?%ED%81%AC%EA%B8%B0=1"


async def test_redirects_are_followed_a_few_times(pictures: tuple[Pictures, UpstreamClient]) -> None:
    made, client = pictures
    fetcher = ImageFetcher(client, allow_private=True)
    assert await fetcher.all([f"{made.base}/again2"])
    with pytest.raises(BadRequest, match="redirects more than 3 times"):
        await fetcher.all([f"{made.base}/again9"])


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("/missing?token=secret", "image_unreachable", "status 404"),
        ("/lies.png", "image_invalid", "no picture"),
        ("/large", "image_too_large", "larger than 20 MB"),
    ],
)
async def test_what_is_no_picture_is_refused_by_name(
    pictures: tuple[Pictures, UpstreamClient], path: str, code: str, words: str
) -> None:
    """The address is shown without its query, which may hold a signature."""
    made, client = pictures
    with pytest.raises(BadRequest, match=words) as caught:
        await ImageFetcher(client, allow_private=True).all([made.base + path])
    assert caught.value.code == code
    assert "secret" not in caught.value.message


async def test_private_addresses_are_not_asked(pictures: tuple[Pictures, UpstreamClient]) -> None:
    """Neither directly nor by a name; each hop of a redirect goes the same way."""
    made, client = pictures

    async def lying(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    for url in (f"{made.base}/a.png", made.base.replace("127.0.0.1", "[::1]") + "/a.png", "http://169.254.169.254/"):
        with pytest.raises(BadRequest, match="Private addresses are not fetched"):
            await ImageFetcher(client).all([url])
    rebound = UpstreamClient(Connector(resolver=lying))
    with pytest.raises(BadRequest, match="Private addresses are not fetched"):
        await ImageFetcher(rebound).all(["http://pictures.example/a.png"])
    await rebound.close()
    assert not made.server.received


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h/a.png",
        "http://",
        "http://user:pass@h/a.png",
        "http://h/a b",
        "http://h/a\r\nx: y",
        "file:///etc/passwd",
    ],
)
async def test_addresses_that_are_none(pictures: tuple[Pictures, UpstreamClient], url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await ImageFetcher(pictures[1]).all([url])
    assert caught.value.code == "image_unreachable"


async def test_a_picture_that_does_not_come_is_given_up(
    pictures: tuple[Pictures, UpstreamClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.05)
    silent = RawServer(lambda exchange: exchange.hang())
    base = await silent.start()
    with pytest.raises(BadRequest, match=r"a\.png"):
        await ImageFetcher(pictures[1], allow_private=True).all([f"{base}/a.png"])
    await silent.stop()
    assert pictures[1].busy == set()
    await asyncio.sleep(0)
