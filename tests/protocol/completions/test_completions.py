"""Text completions: the laws of a dialect, passed on where a provider has them, a chat with one message elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import BadRequest, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.bridge import Dialects, Upstream
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import Choice, Event, Message, Reasoning, Request, Response, Sampling, Text, ToolCall, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions import OPENAI_COMPLETIONS
from naru.protocol.openai_completions.logprobs import listed_form, shared_form
from tests.protocol.samples import DONE, Json, compact, cut, datas, event, price

PLAIN = Quirks()
LAW = settings(max_examples=60, deadline=None)
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
LISTED = {
    "tokens": ["a", " b"],
    "token_logprobs": [-0.5, -1.0],
    "top_logprobs": [{"a": -0.5, "x": -2.0}, {" b": -1.0}],
    "text_offset": [0, 1],
}


def body(**fields: Any) -> bytes:
    return compact({"model": "m", "prompt": "once", **fields})


def read(wants_usage: bool = False, **fields: Any) -> Envelope:
    options = {"stream": True, "stream_options": {"include_usage": True}} if wants_usage else {}
    return OPENAI_COMPLETIONS.read(body(**options, **fields))


def choice(text: str, finish: Any = None, index: int = 0, **more: Any) -> Json:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish, **more}


def chunk(text: str, finish: Any = None, index: int = 0, **more: Any) -> bytes:
    return event({**HEAD, "choices": [choice(text, finish, index)], **more})


def whole(*choices: Json, **more: Any) -> bytes:
    return compact({**HEAD, "choices": choices, "usage": USAGE, **more})


# --- Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"n": 0}, "n"),
        ({"best_of": 1000}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"suffix": 5}, "suffix"),
        ({"headers": {}}, "headers"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param


def test_every_text_that_will_be_written_counts() -> None:
    """Of `best_of` tries all are billed, of several prompts each is answered."""
    assert read(n=2, best_of=5).n == 5
    assert read(prompt=["a", "b"], n=2).n == 4
    assert read(max_tokens=0).max_output_tokens == 0
    assert read(prompt=[1, 2, 3]).input_bytes == 12


@LAW
@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(data: bytes) -> None:
    for given_body in (
        data,
        b'{"model":"m","prompt":"x","stop":' + data + b"}",
        b'{"model":"m","prompt":' + data + b"}",
    ):
        try:
            OPENAI_COMPLETIONS.decode_request(OPENAI_COMPLETIONS.read(given_body))
        except BadRequest:
            pass


# --- Passing on -------------------------------------------------------------------------------------------------------


def test_only_the_model_changes() -> None:
    given_body = b'{"model":"m","prompt":["\\u0061"],"suffix":"z","echo":true,"best_of":3,"logprobs":2,"x":1e2}'
    forwarded = OPENAI_COMPLETIONS.forward(OPENAI_COMPLETIONS.read(given_body), "up", PLAIN)
    assert forwarded.body == given_body.replace(b'"model":"m"', b'"model":"up"')


def test_the_usage_of_every_stream_is_asked_for() -> None:
    def options(quirks: Quirks, **fields: Any) -> Any:
        return json.loads(OPENAI_COMPLETIONS.forward(read(**fields), "up", quirks).body).get("stream_options")

    assert options(PLAIN, stream=True) == {"include_usage": True}
    assert options(PLAIN, stream=True, stream_options={"x": 1}) == {"x": 1, "include_usage": True}
    assert options(PLAIN) is None
    assert options(Quirks(has_stream_usage=False), stream=True) is None


def test_several_choices_where_there_is_one_only() -> None:
    with pytest.raises(BadRequest, match="one choice"):
        OPENAI_COMPLETIONS.forward(read(n=2), "up", Quirks(has_n=False))


def test_a_whole_answer_is_the_same_object() -> None:
    given_body = whole(choice("two words", "stop"), x=1)
    answer = OPENAI_COMPLETIONS.relay_whole(given_body, PLAIN)
    assert answer.body is given_body
    assert (answer.usage, answer.output_chars) == (Usage(input=5, output=2), 9)


def test_foreign_reasons_and_impossible_usage_are_put_right() -> None:
    bad = {"prompt_tokens": 5, "completion_tokens": -3}
    answer = OPENAI_COMPLETIONS.relay_whole(whole(choice("a", "eos", stop_reason=7), usage=bad), PLAIN)
    found = json.loads(answer.body)
    assert (found["choices"][0]["finish_reason"], found["choices"][0]["stop_reason"]) == ("stop", 7)
    assert found["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("given_body", "kind"),
    [
        (b"", UpstreamBroken),
        (b"<html>", UpstreamBroken),
        (b"{}", UpstreamBroken),
        (whole(), UpstreamBroken),
        (b'{"choices":[{"text":5}]}', UpstreamBroken),
        (b'{"error":{"message":"no","code":"model_not_found"}}', UpstreamRefused),
        (b'{"object":"error","message":"no","code":400}', UpstreamRefused),
        (whole(choice("a", "abort")), UpstreamRefused),
    ],
)
def test_garbage_and_errors_are_upstream_errors(given_body: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        OPENAI_COMPLETIONS.relay_whole(given_body, PLAIN)


# --- Streams ----------------------------------------------------------------------------------------------------------


def relayed(pieces: list[bytes], wants_usage: bool) -> tuple[Any, ...]:
    relay = OPENAI_COMPLETIONS.stream_relay(read(wants_usage), PLAIN, price)
    out = b"".join(relay.feed(piece) for piece in pieces) + relay.close()
    error = None if relay.error is None else (type(relay.error), relay.error.code, relay.error.message)
    return out, relay.has_content, relay.is_finished, relay.usage, relay.output_chars, error


def decoded(pieces: list[bytes]) -> tuple[list[Event], Any]:
    decoder = OPENAI_COMPLETIONS.stream_decoder(PLAIN)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except UpstreamError as error:
        return events, (type(error), error.message)
    return events, None


STREAM = chunk("Once") + chunk(" upon") + chunk("", "stop") + event({**HEAD, "choices": [], "usage": USAGE}) + DONE


def test_usage_is_hidden_from_who_did_not_ask() -> None:
    out, has_content, is_finished, usage, chars, error = relayed([STREAM], False)
    assert out == STREAM.replace(event({**HEAD, "choices": [], "usage": USAGE}), b"")
    assert (has_content, is_finished, chars, error) == (True, True, 9, None)
    assert usage == Usage(input=5, output=2)


def test_usage_carries_its_cost_for_who_asked() -> None:
    found = datas(relayed([STREAM], True)[0])[-2]["usage"]
    assert found["prompt_tokens"] == 5
    assert found["naru"]["cost_usd"] > 0


def test_unreported_usage_is_estimated_and_done_is_added() -> None:
    out, _, is_finished, usage, _, error = relayed([chunk("Once") + chunk("", "stop")], True)
    assert out.endswith(DONE)
    assert (is_finished, error) == (True, None)
    assert usage is not None
    assert usage.is_estimated
    told = datas(out)[-2]
    assert (told["object"], told["usage"]["naru"]["estimated"]) == ("text_completion", True)


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (chunk("a"), "upstream_incomplete"),
        (chunk("a") + event({"error": {"message": "boom", "code": "server_error"}}), "server_error"),
        (chunk("a") + b"data: {\n\n", "upstream_invalid_response"),
        (chunk("a") + b'data: {"choices":[{"text":5}]}\n\n', "upstream_invalid_response"),
    ],
)
def test_a_stream_that_goes_wrong(stream: bytes, code: str) -> None:
    out, has_content, is_finished, _, _, error = relayed([stream], False)
    assert out == chunk("a")
    assert (has_content, is_finished, error[1]) == (True, False, code)
    assert decoded([stream])[1] is not None


frames = st.one_of(
    st.builds(chunk, st.sampled_from(["", "안녕 👋", "x"]), st.sampled_from([None, None, "", "stop", "eos", "length"])),
    st.builds(chunk, st.just("y"), st.none(), st.just(1)),
    st.just(event({**HEAD, "choices": [choice(" b", logprobs=LISTED)]})),
    st.just(event({**HEAD, "choices": [choice("", reasoning_content="hm")]})),
    st.just(event({**HEAD, "choices": [], "usage": USAGE})),
    st.just(event({**HEAD, "choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2.5}})),
    st.sampled_from([b": keep-alive\n\n", b"\n", b"event: x\nid: 3\n", DONE]),
)
faults = st.sampled_from(
    [b"", event({"error": {"message": "no", "code": 503}}), b"data: {\n\n", b'data: {"choices":[5]']
)
streams = st.builds(
    lambda parts, end, fault: (b"".join(parts) + fault).replace(b"\n", end),
    st.lists(frames, max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    faults,
)


@LAW
@given(streams, st.lists(st.integers(0, 2_000), max_size=8), st.booleans())
def test_law_1_nothing_depends_on_how_the_bytes_are_cut(stream: bytes, places: list[int], wants_usage: bool) -> None:
    at_once = relayed([stream], wants_usage)
    assert at_once == relayed(cut(stream, places), wants_usage)
    assert at_once == relayed(cut(stream, list(range(len(stream)))), wants_usage)
    events = decoded([stream])
    assert events == decoded(cut(stream, places))
    assert events == decoded(cut(stream, list(range(len(stream)))))


texts = st.text(st.characters(codec="utf-8"), max_size=12)
choices = st.builds(
    lambda text, thought, reason: (*([Reasoning(thought)] if thought else []), *([Text(text)] if text else []), reason),
    texts,
    texts,
    st.sampled_from(["stop", "length", "content_filter"]),
)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    made = [draw(choices) for _ in range(draw(st.integers(1, 2)))]
    return Response(
        id="cmpl-1",
        model="up",
        created=1,
        choices=tuple(Choice(place, tuple(each[:-1]), each[-1]) for place, each in enumerate(made)),
        usage=draw(st.none() | st.just(Usage(input=5, output=2))),
        dialect="openai_completions",
    )


@LAW
@given(responses())
def test_law_2_a_stream_adds_up_to_the_whole_answer(response: Response) -> None:
    envelope = read(response.usage is not None)
    encoder = OPENAI_COMPLETIONS.stream_encoder(envelope, price)
    stream = b"".join(encoder.event(each) for each in response_events(response)) + encoder.close()
    events, error = decoded([stream])
    assert error is None
    assert accumulate(events) == OPENAI_COMPLETIONS.decode_response(
        OPENAI_COMPLETIONS.encode_response(response, envelope), PLAIN
    )


@LAW
@given(responses())
def test_law_3_an_answer_survives_its_own_dialect(response: Response) -> None:
    assert OPENAI_COMPLETIONS.decode_response(OPENAI_COMPLETIONS.encode_response(response, read()), PLAIN) == response


requests = st.builds(
    Request,
    model=st.just("m"),
    messages=texts.map(lambda text: (Message("user", (Text(text),)),)),
    stop=st.lists(texts, max_size=2).map(tuple),
    max_output_tokens=st.none() | st.integers(1, 99),
    n=st.none() | st.integers(1, 3),
    sampling=st.builds(Sampling, temperature=st.none() | st.just(0.5), seed=st.none() | st.integers(0, 9)),
    logprobs=st.none() | st.just(True),
    is_stream=st.booleans(),
    user=st.none() | texts,
    dialect=st.just("openai_completions"),
)


@LAW
@given(requests)
def test_law_3_a_request_survives_its_own_dialect(request: Request) -> None:
    forwarded = OPENAI_COMPLETIONS.encode_request(request, PLAIN)
    found = OPENAI_COMPLETIONS.decode_request(OPENAI_COMPLETIONS.read(forwarded.body))
    assert forwarded.dropped == ()
    assert (found.messages, found.stop, found.sampling) == (request.messages, request.stop, request.sampling)
    assert (found.n, found.max_output_tokens, found.user) == (request.n, request.max_output_tokens, request.user)
    assert (found.logprobs, found.is_stream, found.extra) == (request.logprobs, request.is_stream, {})


@LAW
@given(st.binary(max_size=120))
def test_law_5_any_answer_is_read_or_an_upstream_error(data: bytes) -> None:
    for given_body in (data, b'{"choices":' + data + b"}", b'{"choices":[{"text":"a","logprobs":' + data + b"}]}"):
        try:
            OPENAI_COMPLETIONS.decode_response(given_body, PLAIN)
        except UpstreamError:
            pass
        decoded([b"data: " + given_body + b"\n\n"])


def test_what_a_text_completion_cannot_hold_is_refused() -> None:
    two = Request("m", (Message("user", (Text("a"),)), Message("assistant", (Text("b"),))))
    with pytest.raises(BadRequest) as caught:
        OPENAI_COMPLETIONS.encode_request(two, PLAIN)
    assert caught.value.param == "messages"
    call = Response("i", "m", 1, (Choice(0, (ToolCall("c", "f", "{}"),), "tool_calls"),))
    with pytest.raises(UpstreamBroken):
        OPENAI_COMPLETIONS.encode_response(call, read())


# --- Log probabilities ------------------------------------------------------------------------------------------------


def test_log_probabilities_in_both_forms() -> None:
    from_listed = OPENAI_COMPLETIONS.decode_response(whole(choice("a b", "stop", logprobs=LISTED)), PLAIN)
    shared = from_listed.choices[0].logprobs
    assert shared is not None
    assert json.loads(bytes(shared))["content"][1]["token"] == " b"
    assert listed_form(shared) == LISTED
    assert listed_form(shared, 10)["text_offset"] == [10, 11]  # type: ignore[index]
    assert shared_form(shared) is None


# --- Towards a chat ---------------------------------------------------------------------------------------------------

DIALECTS = Dialects({"/v1/completions": OPENAI_COMPLETIONS}, (), (OPENAI_CHAT, OPENAI_COMPLETIONS))
BRIDGE = DIALECTS.between(OPENAI_COMPLETIONS, OPENAI_CHAT)
UP = Upstream("up", PLAIN)


def test_a_prompt_is_one_user_message() -> None:
    fields = {"max_tokens": 9, "stop": "\n", "n": 2, "temperature": 0.5, "seed": 7, "logprobs": 3, "user": "u"}
    forwarded = BRIDGE.request(read(prompt=["하나"], **fields, best_of=1, echo=False, suffix=None), UP, False)
    assert json.loads(forwarded.body) == {
        "model": "up",
        "messages": [{"role": "user", "content": "하나"}],
        "max_tokens": 9,
        "stop": ["\n"],
        "n": 2,
        "temperature": 0.5,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 3,
        "user": "u",
    }
    assert forwarded.dropped == ()


def test_the_extensions_of_every_dialect_are_understood() -> None:
    forwarded = BRIDGE.request(read(reasoning_effort="low", unknown=1), UP, False)
    assert json.loads(forwarded.body)["reasoning_effort"] == "low"
    assert forwarded.dropped == ("unknown",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"stop": 5}, "stop"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_a_chat_cannot_do_is_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        BRIDGE.request(read(**fields), UP, False)
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_chats_answer_as_a_text_completion() -> None:
    """One text a choice; thinking beside it; both details in the usage."""
    message = {"role": "assistant", "content": "upon a time", "reasoning_content": "hm"}
    told = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 5,
        "model": "up",
        "choices": [{"index": 0, "message": message, "finish_reason": "length", "logprobs": None}],
        "usage": USAGE,
    }
    answer = BRIDGE.whole(compact(told), read(), PLAIN)
    found = json.loads(answer.body)
    assert (found["object"], found["id"], found["created"]) == ("text_completion", "chatcmpl-1", 5)
    assert found["choices"] == [choice("upon a time", "length", reasoning_content="hm")]
    assert answer.usage == Usage(input=5, output=2)


def test_a_chats_stream_as_a_stream_of_texts() -> None:
    def delta(**fields: Any) -> bytes:
        reason = fields.pop("finish", None)
        return event(
            {
                "id": "c",
                "created": 5,
                "model": "up",
                "choices": [{"index": 0, "delta": fields, "finish_reason": reason}],
            }
        )

    stream = delta(role="assistant", content="") + delta(content="Once") + delta(content=" upon") + delta(finish="stop")
    relay = BRIDGE.stream(read(True), PLAIN, price)
    out = relay.feed(stream + event({"choices": [], "usage": USAGE}) + DONE) + relay.close()
    *chunks, last, _ = datas(out)
    assert [each["choices"][0]["text"] for each in chunks] == ["Once", " upon", ""]
    assert {each["object"] for each in chunks} == {"text_completion"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 7)
    assert last["usage"]["naru"]["cost_usd"] > 0
    assert out.endswith(DONE)


def test_log_probabilities_of_a_stream_say_where_their_text_began() -> None:
    encoder = OPENAI_COMPLETIONS.stream_encoder(read(), price)
    response = OPENAI_COMPLETIONS.decode_response(whole(choice("a b", "stop", logprobs=LISTED)), PLAIN)
    stream = b"".join(encoder.event(each) for each in response_events(response))
    listed = [each["choices"][0]["logprobs"] for each in datas(stream) if each["choices"][0]["logprobs"]]
    assert listed == [LISTED]


def test_a_stream_gathered_for_a_plain_call_brings_its_usage() -> None:
    """For upstreams that only stream: the usage is asked for, and the pieces become one answer (providers.md A3.2)."""
    for client, envelope in (
        (OPENAI_COMPLETIONS, read()),
        (OPENAI_CHAT, OPENAI_CHAT.read(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', "")),
    ):
        both = Dialects({"/": client}, (), (client,))
        forwarded = both.between(client, client).request(envelope, UP, True)
        assert json.loads(forwarded.body)["stream_options"] == {"include_usage": True}
    answer = DIALECTS.between(OPENAI_COMPLETIONS, OPENAI_COMPLETIONS).gathered(STREAM, read(), PLAIN)
    assert json.loads(answer.body)["choices"] == [choice("Once upon", "stop")]
    assert answer.usage == Usage(input=5, output=2)
