"""The six laws of a dialect, for generateContent."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from naru.errors import BadRequest, UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Request, Response
from tests.protocol.gemini.samples import (
    HELLO,
    LEVELS,
    PATH,
    PLAIN,
    STREAM_PATH,
    USAGE,
    decoded,
    event,
    piece,
    requests,
    responses,
    stream_envelope,
)
from tests.protocol.samples import compact, cut, extras, json_values, names, price, texts

LAW = settings(max_examples=60, deadline=None)

parts = st.sampled_from(
    [
        {"text": "안녕 👋"},
        {"text": ""},
        {"text": "hm", "thought": True},
        {"text": "", "thoughtSignature": "Eg=="},
        {"functionCall": {"name": "f", "args": {"k": [1.50]}}, "thoughtSignature": "Eg=="},
        {"functionCall": {"name": "f"}},
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"executableCode": {"code": "1"}},
        {},
    ]
)
frames = st.one_of(
    st.builds(
        lambda found, finish, usage, extra: event(piece(*found, finish=finish, usage=usage, **extra)),
        st.lists(parts, max_size=3),
        st.sampled_from([None, None, "STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", "NEW"]),
        st.sampled_from([None, USAGE, {"promptTokenCount": -1}, {"promptTokenCount": "3"}]),
        st.sampled_from([{}, {"safetyRatings": [{"category": "x"}]}, {"avgLogprobs": -0.5}]),
    ),
    st.just(event({"promptFeedback": {"blockReason": "SAFETY"}})),
    st.sampled_from([b": keep-alive\n\n", b"\n", b"event: x\nid: 3\n\n"]),
)
faults = st.sampled_from(
    [b"", event({"error": {"code": 503, "message": "no"}}), b"data: {\n\n", b'data: {"candidates":[1]}']
)
streams = st.builds(
    lambda found, end, fault: (b"".join(found) + fault).replace(b"\r\n", b"\n").replace(b"\n", end),
    st.lists(frames, max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    faults,
)


def relayed(pieces: list[bytes]) -> tuple[Any, ...]:
    relay = GEMINI.stream_relay(stream_envelope(), PLAIN, price)
    out = b"".join(relay.feed(data) for data in pieces) + relay.close()
    error = None if relay.error is None else (type(relay.error), relay.error.message)
    return out, relay.has_content, relay.is_finished, relay.usage, relay.output_chars, error


def told(pieces: list[bytes]) -> tuple[Any, ...]:
    events, error = decoded(pieces)
    return events, None if error is None else (type(error), error.message)


@LAW
@given(streams, st.lists(st.integers(0, 3_000), max_size=12))
def test_law_1_the_cuts_never_show(stream: bytes, places: list[int]) -> None:
    """Whole = byte by byte = random splits, for the relay and for the events."""
    for view in (relayed, told):
        at_once = view([stream])
        assert at_once == view(cut(stream, places))
        assert at_once == view(cut(stream, list(range(len(stream)))))


def streamed(response: Response) -> bytes:
    encoder = GEMINI.stream_encoder(stream_envelope(), price)
    return b"".join(encoder.event(each) for each in response_events(response)) + encoder.close()


@LAW
@given(responses())
def test_law_2_a_stream_adds_up_to_the_whole_answer(response: Response) -> None:
    """Accumulating the decoded stream of an answer equals decoding the same answer sent whole."""
    events, error = decoded([streamed(response)])
    assert error is None
    whole = GEMINI.decode_response(GEMINI.encode_response(response, stream_envelope()), PLAIN)
    found = accumulate(events)
    if response.usage is None:  # a stream always says what it cost
        assert found.usage is not None
        assert found.usage.is_estimated
        found = type(found)(**{**{f: getattr(found, f) for f in found.__struct_fields__}, "usage": None})
    assert found == whole


@LAW
@given(requests())
def test_law_3_requests_survive_the_dialect(request: Request) -> None:
    """decode(encode(request)) == request for all that generateContent can express."""
    forwarded = GEMINI.encode_request(request, LEVELS)
    assert forwarded.dropped == ()
    envelope = GEMINI.read(forwarded.body, STREAM_PATH if request.is_stream else PATH)
    assert GEMINI.decode_request(envelope) == request


@LAW
@given(responses())
def test_law_3_answers_survive_the_dialect(response: Response) -> None:
    """decode(encode(answer)) == answer for all that generateContent can express."""
    assert GEMINI.decode_response(GEMINI.encode_response(response, stream_envelope()), PLAIN) == response


@LAW
@given(extras, extras, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]))
def test_law_4_same_dialect_keeps_every_field_of_a_request(
    top: dict[str, Raw], deep: dict[str, Raw], separators: tuple[str, str]
) -> None:
    """Unknown fields at the top, in contents, in parts and in generationConfig go out as they came in."""
    more = {name: json.loads(bytes(raw)) for name, raw in deep.items()}
    fields = {
        "contents": [{"role": "user", "parts": [{"text": "x", **more}], **more}],
        "generationConfig": {"temperature": 0.5, **more},
        **{name: json.loads(bytes(raw)) for name, raw in top.items()},
    }
    envelope = GEMINI.read(json.dumps(fields, separators=separators).encode(), PATH)
    assert json.loads(GEMINI.forward(envelope, "theirs", PLAIN).body) == fields


@LAW
@given(st.dictionaries(names.map("x_".__add__), json_values, max_size=4))
def test_law_4_same_dialect_keeps_every_field_of_an_answer(more: dict[str, Any]) -> None:
    """Whole answers go out as the bytes that came, and so do a stream's, but for the cost in its last event."""
    data = {**piece({"text": "t", **more}, finish="STOP", usage={**USAGE, **more}, **more), **more}
    assert GEMINI.relay_whole(compact(data), PLAIN).body == compact(data)
    first = event(piece({"text": "a", **more}))
    out = relayed([first + event(data)])[0]
    assert out.startswith(first)
    last = json.loads(out[len(first) + 6 :])
    assert last["usageMetadata"].pop("naru") == {"cost_usd": 0.000022}
    assert last == data


mutations = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=3), st.integers(0, 3)), max_size=6)


def mutated(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for place, new, gone in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


def check_request(data: bytes) -> None:
    with suppress(BadRequest):
        envelope = GEMINI.read(data, PATH)
        GEMINI.forward(envelope, "m", LEVELS)
        GEMINI.encode_request(GEMINI.decode_request(envelope), LEVELS)


def check_answer(data: bytes) -> None:
    for call in (GEMINI.relay_whole, GEMINI.decode_response):
        with suppress(UpstreamError):
            call(data, PLAIN)
    GEMINI.decode_error(400, data, PLAIN)
    relayed([data])
    told([data])


@LAW
@given(st.one_of(st.binary(max_size=200), json_values.map(compact)))
def test_law_5_arbitrary_bytes_give_one_error(data: bytes) -> None:
    """Nothing but BadRequest facing the caller, nothing but UpstreamError facing the upstream."""
    check_request(data)
    check_answer(data)
    check_answer(b"data: " + data)


@LAW
@given(requests(), responses(), mutations)
def test_law_5_damage_gives_one_error(
    request: Request, response: Response, changes: list[tuple[int, bytes, int]]
) -> None:
    """A request, a whole answer or a stream with bytes lost, added or flipped is read, or refused in one way."""
    check_request(mutated(GEMINI.encode_request(request, LEVELS).body, changes))
    check_answer(mutated(GEMINI.encode_response(response, stream_envelope()), changes))
    check_answer(mutated(streamed(response), changes))


wrong_types = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | texts,
    lambda v: (
        st.lists(v, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["text", "parts", "role", "name", "args", "functionCall", "functionResponse", "response", "inlineData"]
            ),
            v,
        )
    ),
    max_leaves=5,
)


@LAW
@given(st.data())
def test_law_5_wrong_types_anywhere_give_one_error(data: st.DataObject) -> None:
    """Valid JSON of the wrong shape, field by field, never gives another exception."""
    value = data.draw(wrong_types)
    top = data.draw(st.sampled_from(["contents", "systemInstruction", "tools", "toolConfig", "generationConfig"]))
    check_request(compact({**HELLO, top: value}))
    inner = data.draw(
        st.sampled_from(["maxOutputTokens", "topK", "stopSequences", "thinkingConfig", "responseSchema", "logprobs"])
    )
    check_request(compact({**HELLO, "generationConfig": {inner: value, "responseMimeType": "application/json"}}))
    check_request(compact({**HELLO, "tools": [{"functionDeclarations": [{"name": "f", "parameters": value}]}]}))
    part = data.draw(st.sampled_from(["text", "functionCall", "functionResponse", "inlineData", "fileData"]))
    check_request(compact({"contents": [{"parts": [{part: value}]}]}))
    check_answer(compact(piece({part: value})))
    name = data.draw(st.sampled_from(["candidates", "usageMetadata", "promptFeedback", "responseId", "createTime"]))
    check_answer(event({**piece({"text": "x"}), name: value}))
    inner = data.draw(st.sampled_from(["content", "finishReason", "index", "logprobsResult", "safetyRatings"]))
    check_answer(event(piece({"text": "x"}, **{inner: value})))


@pytest.mark.parametrize("space", ["", " ", "\n  "])
def test_law_6_no_key_is_read_twice(space: str) -> None:
    """A top-level key given twice is refused by name, under one name or both of Google's, whatever the blanks."""
    contents = '"contents":[{"parts":[{"text":"a"}]}]'
    for body, name in (
        (f"{{{space}{contents},{space}{contents}}}", "contents"),
        (f'{{{space}{contents},{space}"\\u0063ontents":[]}}', "contents"),
        (f'{{{space}{contents},"generationConfig":{{}},{space}"generation_config":{{}}}}', "generationConfig"),
        (f'{{{contents},"generationConfig":{{"maxOutputTokens":1,{space}"max_output_tokens":2}}}}', "maxOutputTokens"),
    ):
        with pytest.raises(BadRequest) as refused:
            GEMINI.read(body.encode(), PATH)
        assert (refused.value.code, refused.value.param) == ("duplicate_parameter", name)


def test_law_6_the_limit_that_was_read_is_the_limit_that_is_sent() -> None:
    """A field repeated inside generationConfig goes out once, with the value that was reserved for."""
    body = b'{"contents":[{"parts":[]}],"generationConfig":{"maxOutputTokens":9,"maxOutputTokens":5}}'
    envelope = GEMINI.read(body, PATH)
    assert envelope.max_output_tokens == 5
    assert GEMINI.forward(envelope, "m", PLAIN).body.count(b"maxOutputTokens") == 1
