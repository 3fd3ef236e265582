"""Whatever a caller sends, the sandbox answers it or refuses it by name; it never breaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.errors import NaruError
from naru.testing.sandbox import wire
from naru.testing.sandbox.answers import answer
from naru.testing.sandbox.behaviour import parse_model
from naru.testing.sandbox.request import ChatRequest, read_request

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FUNCTIONS = st.fixed_dictionaries({"name": st.text(max_size=5)}, optional={"parameters": ANY, "description": ANY})
TOOLS = st.fixed_dictionaries({"type": st.sampled_from(["function", "custom"])}, optional={"function": FUNCTIONS})
CALLS = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"]), "type": st.just("function")},
    optional={"function": st.fixed_dictionaries({"name": st.just("f"), "arguments": st.text(max_size=9)})},
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"])}, optional={"text": ANY}))
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"])},
    optional={
        "content": st.text(max_size=20) | PARTS | ANY,
        "tool_calls": st.lists(CALLS, max_size=2),
        "tool_call_id": st.sampled_from(["a", "b", "c"]),
    },
)
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["echo", "tools", "think", "json", "echo?tokens=3", "sandbox/tools?x=1"]),
        "messages": st.lists(MESSAGES, max_size=4),
    },
    optional={
        "tools": st.lists(TOOLS, max_size=3),
        "tool_choice": st.sampled_from(["auto", "none", "required"])
        | st.fixed_dictionaries({"type": st.just("allowed_tools"), "allowed_tools": ANY | st.just({"tools": 3})})
        | ANY,
        "response_format": st.fixed_dictionaries(
            {"type": st.sampled_from(["json_schema", "json_object"])},
            optional={"json_schema": st.fixed_dictionaries({"name": st.text(max_size=3), "schema": ANY})},
        ),
        "stop": st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=3),
        "max_tokens": st.integers(-1, 20),
        "n": st.integers(0, 4),
        "stream": st.booleans(),
        "stream_options": ANY,
        "reasoning_effort": st.sampled_from(["low", "none", "enormous"]),
        "thinking_budget": st.integers(-1, 9),
        "thinking": ANY,
        "chat_template_kwargs": ANY,
        "logprobs": st.booleans(),
    },
)


def said(body: bytes) -> tuple[ChatRequest, wire.Answer] | NaruError:
    """What the sandbox would do with a body; any other exception is a test's failure."""
    try:
        request = read_request(body)
        name, behaviour = parse_model(request.model)
        return request, answer(name, behaviour, request)
    except NaruError as error:
        return error


@given(body=REQUESTS)
def test_any_request_is_answered_or_refused(body: dict[str, Any]) -> None:
    outcome = said(json.dumps(body).encode())
    if isinstance(outcome, NaruError):
        assert 400 <= outcome.status < 500
        assert json.loads(wire.error(outcome))["error"]["message"]
        return
    request, made = outcome
    limit = request.limit
    assert limit is None or made.tokens <= limit
    frame = wire.Frame(id="chatcmpl-sandbox-000001", model="m", created=0)
    whole = json.loads(frame.whole(made, request.n or 1, None, None))
    streamed = wire.steps(made, frame.id, request.n or 1, None)
    assert sum(step[2] for step in streamed) == made.tokens * (request.n or 1)
    assert len(whole["choices"]) == (request.n or 1)


@given(body=st.binary(max_size=40) | ANY.map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_are_refused_as_a_bad_request(body: bytes) -> None:
    with pytest.raises(NaruError) as caught:
        read_request(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(("depth", "is_refused"), [(200, False), (100_000, True)])
def test_nesting_is_no_way_in(depth: int, is_refused: bool) -> None:
    """Arrays end empty after a few levels, so a deep schema is filled; one too deep to be read at all is refused."""
    schema = '{"items":' * depth + "{}" + "}" * depth
    form = f'{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}'
    body = f'{{"model":"json","messages":[{{"role":"user","content":"x"}}],"response_format":{form}}}'
    outcome = said(body.encode())
    assert isinstance(outcome, NaruError) is is_refused
