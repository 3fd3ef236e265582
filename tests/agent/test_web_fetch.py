"""web_fetch on real sockets: what it reads, and what it cannot be talked into asking."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme

from naru.agent.builtin import web
from naru.agent.builtin.page import as_text, decoded
from naru.agent.builtin.web import Resolver, checked_url, make_web_fetch
from naru.agent.tool import ToolError
from naru.testing.http import Exchange, RawServer

HTML = (("content-type", "text/html; charset=utf-8"),)
KOREAN = "<title>시세</title><p>똠방각하</p>"  # 똠 is in CP949, not in EUC-KR


def handle(exchange: Exchange) -> None:
    path = exchange.received.path
    if path == "/page":
        exchange.answer(200, "<title>서울</title><h2>날씨</h2><p>맑음 <a href='/more'>더 보기</a></p>".encode(), HTML)
    elif path == "/euc-kr":
        exchange.answer(200, KOREAN.encode("cp949"), (("content-type", "text/html; charset=EUC-KR"),))
    elif path == "/json":
        exchange.answer(200, b'{"a": 1}', (("content-type", "application/vnd.api+json"),))
    elif path == "/gzip":
        exchange.answer(200, gzip.compress(b"packed"), (("content-type", "text/plain"), ("content-encoding", "gzip")))
    elif path == "/bomb":
        packed = gzip.compress(bytes(web.MAX_BYTES * 4))
        exchange.answer(200, packed, (("content-type", "text/plain"), ("content-encoding", "gzip")))
    elif path == "/cut":
        packed = gzip.compress(b"packed")[:-6]
        exchange.answer(200, packed, (("content-type", "text/plain"), ("content-encoding", "gzip")))
    elif path == "/large":
        exchange.answer(200, b"a" * (web.MAX_BYTES + 1), (("content-type", "text/plain"),))
    elif path == "/picture":
        exchange.answer(200, b"\x89PNG", (("content-type", "image/png"),))
    elif path.startswith("/again"):
        left = int(path.removeprefix("/again"))
        exchange.answer(302, b"", (("location", f"/again{left - 1}" if left else "/page"),))
    elif path == "/to-metadata":
        exchange.answer(302, b"", (("location", "http://169.254.169.254/latest/meta-data/"),))
    elif path == "/to-file":
        exchange.answer(302, b"", (("location", "file:///etc/passwd"),))
    elif path == "/busy":
        exchange.answer(503, b"later")
    else:
        exchange.answer(404, b"no")


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    made = RawServer(handle)
    await made.start()
    yield made
    await made.stop()


async def fetched(server: RawServer, path: str) -> object:
    fetch = make_web_fetch(allow_private=True)
    return await fetch.tool.call({"url": f"http://127.0.0.1:{server.port}{path}"})


async def refused(server: RawServer, path: str) -> ToolError:
    with pytest.raises(ToolError) as failure:
        await fetched(server, path)
    return failure.value


async def test_a_page_comes_as_text(server: RawServer) -> None:
    base = f"http://127.0.0.1:{server.port}"
    assert await fetched(server, "/page") == f"# 서울\n\n## 날씨\n\n맑음 [더 보기]({base}/more)"
    (received,) = server.received
    assert {name for name, _ in received.headers} == {"host", "user-agent", "accept", "accept-encoding", "connection"}


async def test_other_texts_come_as_they_are(server: RawServer) -> None:
    assert await fetched(server, "/json") == '{"a": 1}'
    assert await fetched(server, "/gzip") == "packed"
    assert await fetched(server, "/euc-kr") == "# 시세\n\n똠방각하"
    assert await fetched(server, "/page#part") == await fetched(server, "/again3")


@pytest.mark.parametrize(
    ("path", "said", "may_retry"),
    [
        ("/large", "more than 2 MB", False),
        ("/bomb", "more than 2 MB", False),
        ("/cut", "is cut off", True),
        ("/picture", "is image/png, and only text is read", False),
        ("/again9", "redirects more than 5 times", False),
        ("/to-file", "no web address", False),
        ("/missing", "status 404", False),
        ("/busy", "status 503", True),
    ],
)
async def test_what_cannot_be_read_is_told(server: RawServer, path: str, said: str, may_retry: bool) -> None:
    error = await refused(server, path)
    assert said in str(error)
    assert error.may_retry is may_retry


async def test_a_server_that_hangs_or_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.2)
    silent = RawServer(lambda exchange: exchange.start(200, (("content-type", "text/plain"),)))
    broken = RawServer(lambda exchange: exchange.write(b"nonsense\r\n\r\n"))
    for made, said in ((silent, "did not answer whole"), (broken, "cannot be fetched")):
        await made.start()
        error = await refused(made, "/")
        assert said in str(error)
        assert error.may_retry
        await made.stop()


async def test_loopback_is_refused_unless_allowed(server: RawServer) -> None:
    """By address, by name, and in every spelling of it; nothing is sent."""
    fetch = make_web_fetch().tool
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "0.0.0.0"):
        with pytest.raises(ToolError, match="is a private address"):
            await fetch.call({"url": f"http://{host}:{server.port}/page"})
    for host in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1"):
        with pytest.raises(ToolError, match="neither a name nor an address"):
            await fetch.call({"url": f"http://{host}:{server.port}/page"})
    assert server.connections == 0


def resolver(table: dict[str, list[list[str]]]) -> Resolver:
    """A name's answers, one after another."""

    async def resolve(host: str, port: int) -> list[str]:
        answers = table[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return resolve


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "100.64.0.1", "fd00::1", "fe80::1%lo", "224.0.0.1"])
async def test_names_with_a_private_address_are_refused(address: str) -> None:
    """Also when public ones stand beside it."""
    fetch = make_web_fetch(resolver=resolver({"example.com": [["93.184.215.14", address]]})).tool
    with pytest.raises(ToolError, match=r"example\.com is a private address"):
        await fetch.call({"url": "http://example.com/"})


async def test_the_address_that_was_checked_is_the_one_connected_to(server: RawServer) -> None:
    """A name that changes after the check: it is asked for once only, and what it said then is used."""
    table = {"rebind.example": [["127.0.0.1"], ["203.0.113.1"]]}
    fetch = make_web_fetch(allow_private=True, resolver=resolver(table)).tool
    assert "# 서울" in str(await fetch.call({"url": f"http://rebind.example:{server.port}/page"}))
    assert table["rebind.example"] == [["203.0.113.1"]]
    assert server.received[0].header("host") == f"rebind.example:{server.port}"


async def test_every_redirect_is_checked_anew(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own server passes for public; what it points to does not."""
    monkeypatch.setattr(web, "is_private", lambda address: address != "127.0.0.1")
    with pytest.raises(ToolError, match=r"169\.254\.169\.254 is a private address"):
        await make_web_fetch().tool.call({"url": f"http://127.0.0.1:{server.port}/to-metadata"})


async def test_another_address_is_tried_when_one_does_not_answer(server: RawServer) -> None:
    fetch = make_web_fetch(allow_private=True, resolver=resolver({"two.example": [["127.0.0.2", "127.0.0.1"]]})).tool
    assert "# 서울" in str(await fetch.call({"url": f"http://two.example:{server.port}/page"}))


async def test_certificates_are_checked_for_the_name(tls_server: tuple[RawServer, ssl.SSLContext]) -> None:
    server, trusted = tls_server
    names = {"good.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    fetch = make_web_fetch(allow_private=True, resolver=resolver(names), tls=trusted).tool
    assert "# 서울" in str(await fetch.call({"url": f"https://good.example:{server.port}/page"}))
    with pytest.raises(ToolError, match=r"(?i)certificate"):
        await fetch.call({"url": f"https://other.example:{server.port}/page"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/", "Write it as https://host/path"),
        ("example.com", "Write it as https://host/path"),
        ("http://", "no web address"),
        ("http://[::1", "no web address"),
        ("http://a:b@example.com/", "holds a user or a password"),
        ("http://@example.com/", "holds a user or a password"),
        ("http://example.com:0/", "no web address"),
        ("http://example.com/\r\nx: y", "no control characters"),
        ("http://example.com\\@127.0.0.1/", "backslashes"),
        ("http://example.com/" + "a" * 3000, "at most 2000 characters"),
    ],
)
def test_addresses_that_are_none_are_refused(url: str, said: str) -> None:
    with pytest.raises(ToolError) as failure:
        checked_url(url)
    assert said in str(failure.value)


def test_addresses_are_asked_for_in_ascii() -> None:
    assert (
        checked_url(" http://한글.kr/길?q=서울 시#x ")
        == "http://xn--bj0bj06e.kr/%EA%B8%B8?q=%EC%84%9C%EC%9A%B8%20%EC%8B%9C"
    )
    assert checked_url("https://EXAMPLE.com:8443") == "https://example.com:8443/"
    assert checked_url("http://[2001:db8::1]:80/") == "http://[2001:db8::1]:80/"


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("똠".encode("cp949"), "euc-kr", "똠"),
        ('<meta charset="ks_c_5601-1987">똠'.encode("cp949"), "", '<meta charset="ks_c_5601-1987">똠'),
        ("서울".encode(), "", "서울"),
        ("서울".encode("cp949"), "", "서울"),
        ("서울".encode("utf-16"), "euc-kr", "서울"),
        ("서울".encode(), "no-such-charset", "서울"),
        (b"\x80 caf\xe9", "ISO-8859-1", "€ café"),
        (b"\xff", "utf-8", "\ufffd"),
    ],
)
def test_character_sets(body: bytes, charset: str, text: str) -> None:
    assert decoded(body, charset) == text


def test_pages_keep_what_is_read_and_lose_the_rest() -> None:
    html = """<html><head><title>A &amp; B</title><style>p {}</style><base href="/docs/"></head>
        <body><script>if (a < b) alert("x")</script><h1>Head</h1><p>One
        two<br>three<ul><li>first<li><a href="x.html">second</a></ul>
        <table><tr><td>a<td>b</table><a href="javascript:alert(1)">no link</a> <a href="#top">up</a>
        <img alt="a cat" src="cat.png"><svg><text>hidden<svg></svg></text></svg><p>end"""
    assert as_text(html, "https://example.com/a/b") == (
        "# A & B\n\n# Head\n\nOne two\nthree\n\n- first\n- [second](https://example.com/docs/x.html)\n\n| a | b\n\n"
        "no link up [a cat]\n\nend"
    )


@pytest.fixture
async def tls_server() -> AsyncIterator[tuple[RawServer, ssl.SSLContext]]:
    """A RawServer behind TLS for good.example: a plain relay in front of it, as its own sockets have none."""
    authority = trustme.CA()
    serving, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("good.example").configure_cert(serving)
    authority.configure_trust(trusted)
    inner = RawServer(handle)
    await inner.start()

    async def relay(reader: Any, writer: Any) -> None:
        upstream, sent = await asyncio.open_connection("127.0.0.1", inner.port)
        sent.write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await upstream.read())
        sent.close()
        writer.close()
        await asyncio.gather(sent.wait_closed(), writer.wait_closed(), return_exceptions=True)

    outer = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=serving)
    front = RawServer(handle)
    front.port = outer.sockets[0].getsockname()[1]
    yield front, trusted
    outer.close()
    await outer.wait_closed()
    await inner.stop()
