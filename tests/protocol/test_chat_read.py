"""Reading a caller's body: what is taken, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import BadRequest
from naru.protocol.body import INLINE_FILE_BYTES, MAX_DEPTH
from naru.protocol.openai_chat.read import read
from tests.protocol.samples import body, compact

M = b'"messages":[{"role":"user","content":"x"}]'


def refused(data: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(data)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


def test_what_routing_and_money_need() -> None:
    """Model, stream, usage, limits, choices and the size of what the model reads."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    found = read(body(stream=True, stream_options={"include_usage": True}, max_tokens=5, n=3, tools=tools, seed=1))
    assert (found.model, found.is_stream, found.wants_usage, found.max_output_tokens, found.n) == (
        "m",
        True,
        True,
        5,
        3,
    )
    assert found.input_bytes == len(compact([{"role": "user", "content": "hi"}])) + len(compact(tools))
    assert list(found.fields) == ["model", "messages", "stream", "stream_options", "max_tokens", "n", "tools", "seed"]


def test_defaults() -> None:
    """Null is as good as absent."""
    for found in (read(body()), read(body(stream=None, n=None, max_tokens=None, stream_options=None, stop=None))):
        assert (found.is_stream, found.wants_usage, found.max_output_tokens, found.n) == (False, False, None, 1)


def test_max_completion_tokens_wins() -> None:
    """The newer name, when both are given."""
    assert read(body(max_tokens=5, max_completion_tokens=7)).max_output_tokens == 7


MALFORMED = {
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "cut off": (b'{"model":"a",' + M, "byte 55"),
    "a list": (b"[]", "JSON object"),
    "a string": (b'"x"', "JSON object"),
    "a word": (b'{"model":nope}', "byte 10"),
    "trailing text": (b'{"model":"a"} x', "byte 15"),
    "NaN": (b'{"model":"a","top_p":NaN,' + M + b"}", "NaN and Infinity"),
    "Infinity": (b'{"model":"a","top_p":-Infinity,' + M + b"}", "NaN and Infinity"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "UTF-16": ('{"model":"a"}'.encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": ('{"model":"a"}'.encode("utf-16-be"), "UTF-16"),
    "UTF-32": ('{"model":"a"}'.encode("utf-32"), "UTF-16"),
    "not UTF-8 in a value": (b'{"model":"a","x":"\xff",' + M + b"}", "UTF-8"),
    "not UTF-8 in a key": (b'{"\xff":1}', "UTF-8"),
    "a surrogate in the model": (b'{"model":"\\ud800",' + M + b"}", "JSON"),
    "a surrogate at the end": (b'{"model":"a",' + M + b',"x":"\\ud800"}', "surrogate"),
    "a control character": (b'{"model":"a\nb",' + M + b"}", "JSON"),
}


@pytest.mark.parametrize(("data", "words"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_json_object(data: bytes, words: str) -> None:
    """The message says where, or what to do."""
    assert words in refused(data).message


FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"model": "x" * 513}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": {}}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"stream": "yes"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": []}, "stream_options"),
    ({"stream_options": {"include_usage": 1}}, "stream_options"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 10**9}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": "2"}, "n"),
    ({"n": True}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": 10**12}, "max_tokens"),
    ({"max_completion_tokens": -5}, "max_completion_tokens"),
    ({"stop": ["x"] * 257}, "stop"),
    ({"stop": ["x"] * 200_000}, "stop"),
]


@pytest.mark.parametrize(("fields", "param"), FIELDS, ids=[str(fields)[:40] for fields, _ in FIELDS])
def test_fields_out_of_bounds(fields: dict[str, Any], param: str) -> None:
    """Refused before anything is reserved, with the field's name."""
    error = refused(body(**fields))
    assert error.param == param
    assert f"`{param}`" in error.message


@pytest.mark.parametrize("name", ["model", "messages"])
def test_required_fields(name: str) -> None:
    """A missing field is named."""
    fields = json.loads(body())
    del fields[name]
    assert refused(compact(fields)).param == name


def test_an_integer_of_5000_digits() -> None:
    """Python's own limit on digits must not show as a 500, here or at an upstream; nor may a number that is infinite to it."""
    for name in ("n", "seed", "unknown"):
        for number in (b"9" * 5_000, b"-" + b"9" * 5_000, b"1e400", b"-1E+400"):
            error = refused(b'{"model":"a","%b":%b,%b}' % (name.encode(), number, M))
            assert (error.param, error.code) in ((name, "invalid_json"), (name, "invalid_value"))
    assert read(b'{"model":"a","seed":1e300,"unknown":18446744073709551616,' + M + b"}").model == "a"


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "user_config", "extra_headers", "headers"])
def test_where_a_request_goes_is_not_the_callers_to_say(name: str) -> None:
    """The deny list, by name."""
    error = refused(body(**{name: "http://evil"}))
    assert (error.param, error.code) == (name, "unsupported_parameter")
    for inside in (
        {"extra_body": {name: "x"}},
        {"metadata": {"a": [{name: "x"}]}},
        {"messages": [{"role": "user", name: 1}]},
    ):
        error = refused(body(**inside))
        assert (error.param, error.code) == (name, "unsupported_parameter")


def test_what_callers_describe_may_use_any_word() -> None:
    """A schema's property, a tool's argument, a text: these words are nobody's credential there."""
    schema = {"type": "object", "properties": {"headers": {"type": "object"}, "api_key": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "fetch", "parameters": schema}}
    call = {"id": "1", "type": "function", "function": {"name": "fetch", "arguments": '{"headers": {}}'}}
    messages = [
        {"role": "user", "content": 'send "headers" and "api_key"'},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"headers": {"a": 1}}'},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert read(body(messages=messages, tools=[tool], response_format=form)).model


REPEATS = {
    "compact": b'{"model":"a",%b,"model":"b"}' % M,
    "the same value": b'{"model":"a",%b,"model":"a"}' % M,
    "escaped": b'{"model":"a",%b,"mod\\u0065l":"b"}' % M,
    "spaced": b'{"model": "a", %b, "model": "b"}' % M,
    "pretty": b'{\n  "model": "a",\n  %b,\n  "model": "b"\n}' % M,
    "longer first": b'{"model":"aaaa",%b,"model":"a"}' % M,
    "made to fit the spaced length": b'{"model":"a",%b,"model":"","n":1}' % M,
    # Lengths alone would walk from the first value into a nested copy of the keys and out again at the very end.
    "hidden by lengths": b'{"model":1,"messages":[0,{"q":"","messages":          0}],"model":"xxxxxxxxxxxxxxxxxxxxx"}',
    "hidden in a value": b'{"model": "a", "x": "y\\", \\"model\\": ", %b, "model": "b"}' % M,
}


@pytest.mark.parametrize("data", REPEATS.values(), ids=REPEATS.keys())
def test_a_key_given_twice(data: bytes) -> None:
    """What is authorised must be what is forwarded (reliability.md B8)."""
    error = refused(data)
    assert (error.param, error.code) == ("model", "duplicate_parameter")


def test_a_repeat_that_looks_like_blanks() -> None:
    """Compact, and exactly as long as the same keys written with blanks: the bytes are compared, not the length."""
    data = b'{"n":12,"model":"a",%b,"x":1,"n":11}' % M
    keys = json.loads(data)
    blanks = len(json.dumps(keys, ensure_ascii=False)) - len(compact(keys))
    assert len(data) - len(compact(keys)) == 2 * len(keys) - 1 <= blanks
    assert refused(data).param == "n"


def test_a_repeat_of_another_key() -> None:
    """Numbers that begin alike are told apart; keys outside ASCII too."""
    assert refused(b'{"n":12,"model":"a",%b,"n":1}' % M).param == "n"
    assert refused('{"키":1,"model":"a",%b,"키":2}'.encode().replace(b"%b", M)).param == "키"


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_honest_bodies_of_any_spacing(indent: int | None) -> None:
    """Keys in values, escapes in keys and blanks everywhere are no repeats."""
    fields = {"model": "a", "messages": [{"model": "model", "content": '"model": "b", '}], "안": '"', 'q"': "\\"}
    assert read(json.dumps(fields, indent=indent).encode()).model == "a"
    assert read(b" " + json.dumps(fields, indent=indent, ensure_ascii=False).encode() + b"\r\n").model == "a"


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"model":"a",%b,"x":%b1%b}' % (M, opening * levels, closing * levels)


def test_nesting() -> None:
    """128 levels in all, the outermost included; brackets in strings do not count."""
    assert read(nested(MAX_DEPTH - 1)).model == "a"
    assert refused(nested(MAX_DEPTH)).code == "nested_too_deep"
    assert refused(nested(MAX_DEPTH, b'{"a":', b"}")).code == "nested_too_deep"
    text = b'{"model":"a",%b,"x":"%b"}' % (M, b'[{\\"\\\\' * 500)
    assert read(text).model == "a"
    assert read(b'{"model":"a",%b,"x":[%b]}' % (M, b",".join([b"[[1]]"] * 1_000))).model == "a"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"a":['])
def test_nesting_without_end(opening: bytes) -> None:
    """100,000 levels are a 400, with or without the closing half (reliability.md B7)."""
    closing = opening.replace(b'"a":', b"").translate(bytes.maketrans(b"[{", b"]}"))[::-1]
    assert refused(b'{"x":' + opening * 100_000).status == 400
    assert refused(b'{"x":' + opening * 100_000 + b"1" + closing * 100_000 + b"}").code == "nested_too_deep"


def test_a_million_brackets_are_not_measured() -> None:
    """An absurd body is refused by count."""
    assert refused(b'{"model":"a",%b,"x":[%b[]]}' % (M, b"[]," * 600_000)).code == "nested_too_deep"


def test_inline_files_count_at_a_flat_rate() -> None:
    """The base64 of a picture is not text that the model reads."""
    url = "data:image/png;base64," + "A" * 400_000
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": "B" * 200_000}},
    ]
    size = read(body(messages=[{"role": "user", "content": parts}])).input_bytes
    assert 2 * INLINE_FILE_BYTES <= size < 2 * INLINE_FILE_BYTES + 400
    assert read(body(messages=[{"role": "user", "content": "A" * 400_000}])).input_bytes > 400_000
