"""B6 to B13, B17: requests that must be refused, and none of which may reach an upstream or end as a 500."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tools.chaos.client import MESSAGES, Answer, chat_body
from tools.chaos.rows import Check, Look, Row, Stage, alone
from tools.chaos.upstreams import TEXT, healthy

PARTS = 600_000


def rows() -> list[Row]:
    shaped = "400 in OpenAI's shape, never 500, nothing asked upstream"
    upstream = alone(healthy())
    return [
        Row("B6", "bodies", "not JSON, not an object, not UTF-8, not a number, without end", shaped,
            upstream, all_refused(unreadable)),
        Row("B7", "nesting", "arrays and objects nested 100,000 deep", shaped, upstream, all_refused(nested)),
        Row("B8", "duplicates", "model, messages, stream, max_tokens, tools twice; in escapes", shaped,
            upstream, all_refused(duplicated)),
        Row("B9", "unknown", "a parameter that nobody knows", "forwarded as it is (Naru's policy)", upstream, forwarded),
        Row("B9", "denied", "api_base, base_url, api_key, user_config, headers at the top", shaped,
            upstream, all_refused(denied)),
        Row("B9", "denied at depth", "the same inside extra_body, metadata, a message", shaped,
            upstream, all_refused(denied_inside)),
        Row("B10", "headers", "CR, LF, NUL in keys and names; x-request-id of 64 KB and with markup",
            "400, or sanitised: nothing of it in a head", upstream, injections),
        Row("B11", "framing", "transfer-encoding with content-length, in every order", "400",
            upstream, smuggling),
        Row("B11", "host", "Host: evil/? and absolute targets on admin paths, no key", "401 or 404, as without them",
            upstream, hosts),
        Row("B11", "hop by hop", "connection-named, te, upgrade, x-forwarded-*, cookie, our key",
            "none of them reaches the upstream", upstream, hop_by_hop),
        Row("B12", "paths", "//, /../, ..;, %2e, %2f, case, trailing dot, slash; no key and a caller's key",
            "exact match or 404; never in without a key", upstream, paths),
        Row("B13", "methods", "GET, HEAD, PUT, DELETE, OPTIONS, TRACE on a POST path", "405", upstream, methods),
        Row("B13", "content types", "JSON said to be XML, a form, a multipart form", "415", upstream, content_types),
        Row("B13", "parts", f"a multipart form of {PARTS:,} parts", "413 or 400, at once, others unaffected",
            upstream, many_parts),
        Row("B17", "bounds", "n = 10^9, max_tokens = -1, 0, 1e12, 1,000,000 stop sequences", f"{shaped}, no entry",
            upstream, all_refused(out_of_bounds)),
        Row("B17", "image", "a data URL of 50 MB", "400, or 413 since the body is over the limit first",
            upstream, large_image),
    ]  # fmt: skip


def all_refused(bodies: Any) -> Check:
    """Every body: 400 in shape; then that the upstream was never asked, the ledger is empty and the next request is fine."""

    async def check(stage: Stage, look: Look) -> None:
        made: Mapping[str, bytes] = bodies(stage.name)
        right = 0
        for what, body in made.items():
            answer = await stage.client.post(body)
            is_right = answer.status == 400 and answer.has_shape
            right += is_right
            if not is_right:
                look.saw(f"{what}: {answer.status} {answer.error.get('code') or answer.body[:30]!r}", False)
        look.saw(f"{right} of {len(made)}: 400 in shape", right == len(made))
        asked = stage.bad.requests
        if right == len(made):
            look.saw(f"{asked} upstream requests", not asked)
            entries = await stage.gateway.entries(stage.name, 1, 0.2)
            look.saw(f"{len(entries)} ledger entries", not entries)
        after = await stage.client.chat(stage.name)
        look.saw(f"the next request {after.status}", after.status == 200)

    return check


def with_fields(model: str, fields: str) -> bytes:
    """The usual body, and further fields as they stand."""
    return f'{{"model":"{model}","messages":{json.dumps(MESSAGES)},{fields}}}'.encode()


def unreadable(model: str) -> Mapping[str, bytes]:
    good = chat_body(model)
    return {
        "empty": b"",
        "cut": good[:-5],
        "array": b"[" + good + b"]",
        "null": b"null",
        "text": b'"hello"',
        "NaN": with_fields(model, '"temperature":NaN'),
        "Infinity": with_fields(model, '"top_p":-Infinity'),
        "surrogate": with_fields(model, '"user":"\\ud800"'),
        "BOM": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "not UTF-8": good.replace(b"one", b"\xff\xfe"),
        "1e400": with_fields(model, '"temperature":1e400'),
        "5,000 digits": with_fields(model, f'"max_tokens":{"9" * 5000}'),
        "5,000 digits, seed": with_fields(model, f'"seed":{"9" * 5000}'),
        "trailing": good + b"}",
    }


def nested(model: str) -> Mapping[str, bytes]:
    deep = 100_000
    return {
        "arrays": with_fields(model, f'"tools":{"[" * deep}{"]" * deep}'),
        "objects": with_fields(model, '"metadata":' + '{"a":' * deep + "1" + "}" * deep),
        "unclosed": with_fields(model, '"metadata":' + "[" * deep),
        "in a message": f'{{"model":"{model}","messages":{"[" * deep}{"]" * deep}}}'.encode(),
    }


def duplicated(model: str) -> Mapping[str, bytes]:
    made = {
        name: with_fields(model, f'"{name}":{value}')
        for name, value in (("model", '"other"'), ("messages", json.dumps(MESSAGES)), ("mode\\u006c", '"other"'))
    }
    for name, value in (("stream", "false"), ("max_tokens", "5"), ("tools", "[]")):
        made[name] = with_fields(model, f'"{name}":{value},"{name}":{value}')
    return made


DENIED: Mapping[str, Any] = {
    "api_base": "http://evil.example",
    "base_url": "http://evil.example",
    "api_key": "sk-evil",
    "user_config": {"api_base": "http://evil.example"},
    "headers": {"x": "y"},
    "extra_headers": {"x": "y"},
}


def denied(model: str) -> Mapping[str, bytes]:
    return {name: chat_body(model, **{name: value}) for name, value in DENIED.items()}


def denied_inside(model: str) -> Mapping[str, bytes]:
    made = {f"extra_body.{name}": chat_body(model, extra_body={name: value}) for name, value in DENIED.items()}
    made["metadata.user_config"] = chat_body(model, metadata={"user_config": DENIED["user_config"]})
    made["messages[0].api_base"] = chat_body(model, messages=[{**MESSAGES[0], "api_base": "http://evil.example"}])
    return made


def out_of_bounds(model: str) -> Mapping[str, bytes]:
    return {
        "n": chat_body(model, n=10**9),
        "n = 0": chat_body(model, n=0),
        "max_tokens -1": chat_body(model, max_tokens=-1),
        "max_tokens 0": chat_body(model, max_tokens=0),
        "max_tokens 1e12": with_fields(model, '"max_tokens":1e12'),
        "max_completion_tokens": chat_body(model, max_completion_tokens=10**12),
        "stop": chat_body(model, stop=["x"] * 1_000_000),
    }


async def forwarded(stage: Stage, look: Look) -> None:
    odd = {"this": [1.50, None, "é"]}
    answer = await stage.client.chat(stage.name, nobody_knows=odd)
    sent = json.loads(stage.bad.received[0].body) if stage.bad.received else {}
    is_there = sent.get("nobody_knows") == odd
    look.saw(f"{answer.status}, {'forwarded' if is_there else 'lost'}", answer.status == 200 and is_there)


async def large_image(stage: Stage, look: Look) -> None:
    url = "data:image/png;base64," + "A" * 50_000_000
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = await stage.client.chat(stage.name, messages=[{"role": "user", "content": content}])
    look.saw(f"{answer.status} {answer.error.get('code')}", answer.status in (400, 413) and answer.has_shape)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


# --- Heads ------------------------------------------------------------------------------------------------------------


async def injections(stage: Stage, look: Look) -> None:
    """What must not come back: a header of our making, or an id that is none."""
    client = stage.client
    body = chat_body(stage.name)
    evil = "x\r\nset-cookie: evil=1\r\n\r\n"
    tries = {
        "NUL in the key": client.request(body, headers={"authorization": "Bearer nk-\x00x"}),
        "CR in the key": client.request(body, headers={"authorization": "Bearer nk-\rset-cookie: evil=1"}),
        "long id": client.request(body, headers={"x-request-id": "x" * 65_536}),
        "markup id": client.request(body, headers={"x-request-id": "<script>alert(1)</script>"}),
        "model": client.request(chat_body(evil)),
        "metadata": client.request(chat_body(stage.name, metadata={evil: evil}, user=evil)),
    }
    for what, data in tries.items():
        answer = await client.raw(data, 5)
        is_clean = "set-cookie" not in answer.headers and 200 <= answer.status < 500
        request_id = answer.request_id
        is_id = len(request_id) <= 128 and all(letter.isalnum() or letter in "._-" for letter in request_id)
        look.saw(f"{what} {answer.status}", is_clean and is_id)
    named = json.dumps({"name": evil}).encode()
    made = await client.post(named, "/admin/keys", authorization=f"Bearer {stage.gateway.admin_key}")
    look.saw(f"key's name {made.status}", made.status == 400)
    forwarded = [name for received in stage.bad.received for name, _ in received.headers]
    look.saw("nothing of it upstream", "set-cookie" not in forwarded)


async def smuggling(stage: Stage, look: Look) -> None:
    body = chat_body(stage.name)
    length = f"content-length: {len(body)}\r\n"
    for what, lines in (
        ("CL, TE", f"{length}transfer-encoding: chunked\r\n"),
        ("TE, CL", f"transfer-encoding: chunked\r\n{length}"),
        ("TE odd", f"transfer-encoding: xchunked\r\n{length}"),
        ("TE twice", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"),
        ("space", f"transfer-encoding : chunked\r\n{length}"),
    ):
        head = stage.client.head("POST", "/v1/chat/completions", {"connection": "close"}) + lines.encode()
        answer = await stage.client.raw(head + b"\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), 3)
        look.saw(f"{what} {answer.status}", answer.status in (400, 501))
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def hosts(stage: Stage, look: Look) -> None:
    for target, host in (
        ("/admin/keys", "evil.example/?"),
        ("/admin/keys", "127.0.0.1/livez?"),
        ("/admin/keys", "x/v1/models#"),
        ("/admin/keys/", "evil.example"),
        ("http://evil.example/admin/keys", "evil.example"),
        ("http://evil.example/livez/../admin/keys", "x"),
    ):
        head = f"GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
        answer = await stage.client.raw(head.encode(), 3)
        look.saw(f"{host} {answer.status}", answer.status in (400, 401, 404) and b'"role"' not in answer.body)
        if "evil" in answer.headers.get("location", ""):
            look.saw("redirected to the Host's choice", False)


async def hop_by_hop(stage: Stage, look: Look) -> None:
    sent = {
        "connection": "x-secret, close", "x-secret": "1", "te": "trailers", "keep-alive": "timeout=5",
        "x-forwarded-for": "6.6.6.6", "x-forwarded-host": "evil.example", "forwarded": "for=6.6.6.6",
        "cookie": "session=1", "proxy-authorization": "Basic eDp5", "x-api-base": "http://evil.example",
    }  # fmt: skip
    answer = await stage.client.raw(stage.client.request(chat_body(stage.name), headers=sent), 5)
    look.saw(f"{answer.status}", answer.status == 200)
    received = stage.bad.received[0].headers if stage.bad.received else []
    names = sorted({name for name, _ in received} & (set(sent) - {"connection"}))
    look.saw(f"upstream got {', '.join(names)}" if names else "none of them upstream", not names)
    values = " ".join(value for _, value in received)
    look.saw("our key stays here" if stage.client.key not in values else "our key went upstream",
             stage.client.key not in values)  # fmt: skip


# --- Paths and methods ------------------------------------------------------------------------------------------------

PATHS = (
    "//v1/chat/completions", "/v1//chat/completions", "/v1/../admin/keys", "/v1/..;/admin/keys", "/v1/%2e%2e/admin/keys",
    "/%2e%2e/admin/keys", "/admin%2fkeys", "/v1%2fchat%2fcompletions", "/V1/chat/completions", "/v1/chat/completions.",
    "/v1/chat/completions/", "/v1/chat/completions;x", "/ADMIN/keys", "/admin/keys/", "/admin/keys/.", "/./admin/keys",
    "/%61dmin/keys", "/admin//keys", "/livez/../admin/keys", "/v1/chat/completions%00", "/v1/chat/completions%0d%0ax:y",
)  # fmt: skip


async def paths(stage: Stage, look: Look) -> None:
    """Nobody may get in without the key that the plain path asks for. A 401 or 403 is the plain path's own refusal."""
    wrong = []
    for path in PATHS:
        for method, key in (("GET", ""), ("GET", stage.client.key), ("POST", ""), ("POST", stage.client.key)):
            head = {"connection": "close", "authorization": f"Bearer {key}" if key else "", "content-length": "2"}
            answer = await stage.client.raw(stage.client.head(method, path, head) + b"\r\n{}", 3)
            allowed = (400, 401, 403, 404, 405)
            if answer.status not in allowed or b'"role"' in answer.body:
                wrong.append(f"{method} {path} {answer.status}")
    total = 4 * len(PATHS)
    look.saw(f"{total - len(wrong)} of {total} refused", not wrong)
    if wrong:
        look.saw(", ".join(wrong[:4]), False)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def methods(stage: Stage, look: Look) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"):
        head = stage.client.head(method, "/v1/chat/completions", {"connection": "close"})
        answer = await stage.client.raw(head + b"\r\n", 1.0)
        look.saw(f"{method} {answer.status}", answer.status == 405)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def content_types(stage: Stage, look: Look) -> None:
    for kind in ("text/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await stage.client.post(chat_body(stage.name), content_type=kind)
        look.saw(f"{kind.partition(';')[0]} {answer.status}", answer.status == 415)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def many_parts(stage: Stage, look: Look) -> None:
    part = b'--b\r\ncontent-disposition:form-data;name="a"\r\n\r\n\r\n'
    body = part * PARTS + b"--b--\r\n"
    kind = "multipart/form-data; boundary=b"
    waiting = asyncio.ensure_future(stage.client.post(body, "/v1/audio/transcriptions", content_type=kind))
    await asyncio.sleep(0.1)
    other: Answer = await stage.client.chat(stage.name)
    answer = await waiting
    look.saw(f"{len(body) / 1e6:.0f} MB: {answer.status} {answer.error.get('code')} after {answer.took_s:.1f} s",
             answer.status in (400, 413) and answer.took_s < 5)  # fmt: skip
    look.saw(f"another request in {other.took_s * 1000:.0f} ms", other.text == TEXT and other.took_s < 1)
