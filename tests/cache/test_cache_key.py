"""The key: nothing that can change an answer is left out, and nothing that cannot is in it."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.cache.key import KEPT_ELSEWHERE, UNHEARD, Scope, cache_key, passed
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.dialect import Envelope
from naru.protocol.embeddings import EMBEDDINGS
from naru.protocol.gemini import GEMINI
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions import OPENAI_COMPLETIONS
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.rerank import RERANK

SECRET = b"s" * 32
DIALECTS = {
    each.name: each
    for each in (
        OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC_MESSAGES, GEMINI, EMBEDDINGS, RERANK,
    )
}  # fmt: skip
MESSAGES = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"model": "m", "messages": MESSAGES},
    "openai_completions": {"model": "m", "prompt": "hello"},
    "openai_responses": {"model": "m", "input": "hello"},
    "anthropic_messages": {"model": "m", "messages": MESSAGES, "max_tokens": 9},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    "embeddings": {"model": "m", "input": "hello"},
    "rerank": {"model": "m", "query": "q", "documents": ["d"]},
}
#: What a field may hold: everything JSON has.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab:\\"\x00\n/é한😀', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab:\\"é', max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["messages", "temperature", "seed", "stop", "response_format", "x", "한글", ""])


def scope(dialect: str = "openai_chat", **changes: Any) -> Scope:
    path = "/v1beta/models/m:generateContent" if dialect == "gemini" else "/v1/x"
    return msgspec.structs.replace(Scope("tenant", dialect, path, "1"), **changes)


def read(dialect: str, body: bytes, is_stream: bool = False) -> Envelope:
    method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    return DIALECTS[dialect].read(body, f"/v1beta/models/m:{method}")


def key_of(dialect: str, body: bytes | dict[str, Any], **changes: Any) -> bytes | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return cache_key(SECRET, scope(dialect, **changes), read(dialect, data))


def envelope(fields: dict[str, Any]) -> Envelope:
    """Of fields as they stand, whatever a dialect would say of them."""
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return Envelope(raw, "m", False, False, None, 1, 0)


@pytest.mark.parametrize("dialect", BODIES)
def test_every_dialect_has_a_key(dialect: str) -> None:
    """32 bytes, the same for the same."""
    key = key_of(dialect, BODIES[dialect])
    assert key is not None
    assert len(key) == 32
    assert key == key_of(dialect, BODIES[dialect])


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.randoms(use_true_random=False))
def test_order_white_space_and_escapes_change_nothing(fields: dict[str, Any], shuffle: random.Random) -> None:
    """However the same JSON is written: keys in any order at any depth, indented or not, letters escaped or not."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: shuffled(value[name]) for name in shuffle.sample(list(value), len(value))}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    plain = cache_key(SECRET, scope(), envelope(fields))
    again = shuffled(fields)
    for written in (
        {name: json.dumps(value, indent=2, ensure_ascii=True) for name, value in again.items()},
        {name: json.dumps(value, separators=(",", ":"), ensure_ascii=False) for name, value in again.items()},
    ):
        raw = {name: msgspec.Raw(text.encode()) for name, text in written.items()}
        assert cache_key(SECRET, scope(), Envelope(raw, "m", False, False, None, 1, 0)) == plain
    assert plain is not None


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.dictionaries(NAMES, VALUES, max_size=4))
def test_different_fields_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two maps share a key only where they are the same JSON; null is as good as absent."""

    def said(fields: dict[str, Any]) -> str:
        return json.dumps({name: value for name, value in fields.items() if value is not None}, sort_keys=True)

    keys = [cache_key(SECRET, scope(), envelope(fields)) for fields in (one, other)]
    assert None not in keys
    assert (keys[0] == keys[1]) == (said(one) == said(other))


@given(st.text("1:2a", max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_no_part_runs_over_into_the_next(text: str, one: int, other: int) -> None:
    """The same letters, divided differently between two neighbours: path and route version, a header and its value, two
    headers. Parts are framed, with whatever a frame could be made of inside."""

    def keys(cut: int) -> list[bytes | None]:
        left, right = text[:cut], text[cut:]
        pair = (left.encode(), right.encode())
        return [
            key_of("openai_chat", BODIES["openai_chat"], **changes)
            for changes in (
                {"path": left, "route_version": right},
                {"headers": [pair]},
                {"headers": [(b"h", pair[0]), (pair[1], b"v")]},
            )
        ]

    is_same = text[:one] == text[:other]
    assert [mine == theirs for mine, theirs in zip(keys(one), keys(other), strict=True)] == [is_same] * 3


@pytest.mark.parametrize(
    "changes",
    [{"tenant": "other"}, {"path": "/v1/y"}, {"route_version": "2"}, {"headers": [(b"anthropic-beta", b"x")]}],
)
def test_what_surrounds_the_body_counts(changes: dict[str, Any]) -> None:
    body = BODIES["openai_chat"]
    assert key_of("openai_chat", body) != key_of("openai_chat", body, **changes)


def test_the_secret_the_dialect_and_the_stream_count() -> None:
    one = envelope({"a": 1})
    keys = {
        cache_key(SECRET, scope(), one),
        cache_key(b"other", scope(), one),
        cache_key(SECRET, msgspec.structs.replace(scope(), dialect="openai_responses"), one),
        cache_key(SECRET, scope(), msgspec.structs.replace(one, is_stream=True)),
        cache_key(SECRET, scope(), msgspec.structs.replace(one, model="other")),
    }
    assert len(keys) == 5


def test_gemini_streams_by_its_path() -> None:
    """The body of both is the same; the stored bytes are not."""
    body = json.dumps(BODIES["gemini"]).encode()
    where = scope("gemini", path="/v1beta/models/m")
    assert cache_key(SECRET, where, read("gemini", body)) != cache_key(SECRET, where, read("gemini", body, True))


@pytest.mark.parametrize(
    ("dialect", "name"), [(dialect, name) for dialect in UNHEARD for name in sorted(UNHEARD[dialect])]
)
def test_who_asks_does_not_count(dialect: str, name: str) -> None:
    assert key_of(dialect, {**BODIES[dialect], name: "abc"}) == key_of(dialect, BODIES[dialect])


def test_responses_tell_who_asked() -> None:
    """The API repeats these in its answer, so each has its own."""
    body = BODIES["openai_responses"]
    for name in ("user", "metadata", "prompt_cache_key", "safety_identifier", "store"):
        assert key_of("openai_responses", {**body, name: "abc"}) not in (None, key_of("openai_responses", body))


@pytest.mark.parametrize("dialect", BODIES)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tools", [{"type": "web_search"}]),
        ("functions", [{"name": "f"}]),
        ("web_search_options", {}),
        ("enable_search", True),
        ("mcp_servers", [{"url": "x"}]),
        ("plugins", [{"id": "web"}]),
        ("search_parameters", {"mode": "on"}),
    ],
)
def test_requests_that_act_have_none(dialect: str, name: str, value: object) -> None:
    """Tools of the client's or the provider's, searches, code."""
    assert key_of(dialect, {**BODIES[dialect], name: value}) is None


@pytest.mark.parametrize("value", [None, [], False])
def test_no_tools_are_no_tools(value: object) -> None:
    assert key_of("openai_chat", {**BODIES["openai_chat"], "tools": value}) is not None


@pytest.mark.parametrize(
    ("dialect", "name"), [(dialect, name) for dialect in KEPT_ELSEWHERE for name in sorted(KEPT_ELSEWHERE[dialect])]
)
def test_requests_that_go_on_from_elsewhere_have_none(dialect: str, name: str) -> None:
    assert key_of(dialect, {**BODIES[dialect], name: "resp_1"}) is None


def test_background_and_sound_have_none() -> None:
    assert key_of("openai_responses", {**BODIES["openai_responses"], "background": True}) is None
    assert key_of("openai_responses", {**BODIES["openai_responses"], "background": False}) is not None
    assert key_of("openai_chat", {**BODIES["openai_chat"], "audio": {"voice": "a"}}) is None


@pytest.mark.parametrize("dialect", ["transcription", "translation", "speech", "images", "edits"])
def test_media_have_none(dialect: str) -> None:
    assert cache_key(SECRET, Scope("t", dialect, "/v1/x", "1"), envelope({"a": 1})) is None


@pytest.mark.parametrize(
    "raw",
    [
        rb'{"role":"user","content":"a","content":"b"}',
        rb'[[{"a":1,"\u0061":2}]]',
        rb'{"a":1,"a":"\u003a"}',
        rb'"\ud800"',
        b"1" * 5000,
        b"[" * 5000 + b"]" * 5000,
        b'"\xff"',
        b"nonsense",
    ],
)
def test_what_cannot_be_made_canonical_has_none(raw: bytes) -> None:
    """A key given twice would be one thing here and maybe another upstream; halves of letters, numbers without end and
    garbage are nobody's."""
    one = envelope({"a": 1})
    one.fields["x"] = msgspec.Raw(raw)
    assert cache_key(SECRET, scope(), one) is None


@given(st.binary(max_size=40))
def test_no_bytes_raise(raw: bytes) -> None:
    one = envelope({})
    one.fields["x"] = msgspec.Raw(raw)
    cache_key(SECRET, scope(), one)


def test_numbers_keep_their_digits() -> None:
    """A float would make these pairs one."""
    for one, other in (
        ("18446744073709551617", "18446744073709551618"),
        ("0.1", "0.10000000000000000001"),
        ("1e300", "1e301"),
    ):
        keys = [
            key_of("openai_chat", b'{"model":"m","messages":["x"],"seed":%b}' % text.encode()) for text in (one, other)
        ]
        assert keys[0] != keys[1]
        assert None not in keys


def test_passed_headers() -> None:
    """Those of the protocol, in an order that does not depend on who wrote them; a repeated one keeps its order."""
    names = frozenset({b"anthropic-beta", b"anthropic-version"})
    pairs = [(b"anthropic-version", b"1"), (b"x", b"y"), (b"anthropic-beta", b"b"), (b"anthropic-beta", b"a")]
    assert passed(pairs, names) == [(b"anthropic-beta", b"b"), (b"anthropic-beta", b"a"), (b"anthropic-version", b"1")]
