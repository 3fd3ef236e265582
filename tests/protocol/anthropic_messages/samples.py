"""Small makers of requests, answers and streams of the Messages API, and the strategies of its laws."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message as SdkMessage
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.anthropic_messages.wire import NAME
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import (
    Choice,
    File,
    FinishReason,
    Image,
    Message,
    Opaque,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Request,
    Response,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from naru.protocol.service import tier_of
from tests.protocol.samples import (
    Json,
    compact,
    counts,
    extras,
    json_objects,
    json_values,
    names,
    numbers,
    optional,
    positive,
    raws,
    texts,
    words,
)

PLAIN = Quirks()
PATH = "/v1/messages?beta=true"


def body(**fields: Any) -> bytes:
    return compact({"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}], **fields})


def envelope(**fields: Any) -> Envelope:
    return ANTHROPIC_MESSAGES.read(body(stream=True, **fields), PATH)


THINKING = {"thinking": {"type": "adaptive"}}


def event(value: Json, end: bytes = b"\n") -> bytes:
    """One event of a stream, with its `event:` line."""
    return b"event: %b%bdata: %b%b%b" % (str(value["type"]).encode(), end, compact(value), end, end)


def message_start(**usage: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 25, "output_tokens": 1, **usage}}
    return event({"type": "message_start", "message": message})


def block_start(index: int, **block: Any) -> bytes:
    return event({"type": "content_block_start", "index": index, "content_block": block})


def block_delta(index: int, **delta: Any) -> bytes:
    return event({"type": "content_block_delta", "index": index, "delta": delta})


def block_stop(index: int) -> bytes:
    return event({"type": "content_block_stop", "index": index})


def message_delta(stop_reason: str | None = "end_turn", **usage: Any) -> bytes:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9, **usage}})


STOP = event({"type": "message_stop"})


def text_stream(*pieces: str) -> bytes:
    deltas = b"".join(block_delta(0, type="text_delta", text=piece) for piece in pieces)
    return message_start() + block_start(0, type="text", text="") + deltas + block_stop(0) + message_delta() + STOP


def datas(stream: bytes) -> list[Any]:
    """The JSON of every event; each has an `event:` line that says the same type, else the clients would not see it."""
    found = []
    for sse in SSEDecoder().iter_bytes(iter([stream])):
        value = json.loads(sse.data)
        assert sse.event == value["type"]
        found.append(value)
    return found


def sdk_message(stream: bytes) -> SdkMessage:
    """What the official client makes of a stream, checked for the order of events that it relies on."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    is_open = False
    for value in datas(stream):
        kind = value["type"]
        if kind == "content_block_start":
            assert not is_open
            assert value["index"] == len(snapshot.content)
            is_open = True
        elif kind in ("content_block_delta", "content_block_stop"):
            assert is_open
            assert value["index"] == len(snapshot.content) - 1
            is_open = kind == "content_block_delta"
        if kind not in ("ping", "message_stop"):
            snapshot = accumulate_event(event=value, current_snapshot=snapshot, json_bufs=buffers)
    assert not is_open
    assert datas(stream)[-1] == {"type": "message_stop"}
    found: SdkMessage = snapshot
    return found


# --- Strategies ---------------------------------------------------------------------------------------------------

said = words.filter(lambda text: bool(text.strip()))
_base64 = st.binary(min_size=1, max_size=12).map(lambda data: b64encode(data).decode())
_marks = st.sampled_from([{}, {"cache_control": Raw(b'{"type":"ephemeral"}')}])
_texts = st.builds(Text, said, extras)
_images = st.builds(
    lambda data, extra: Image(f"data:image/png;base64,{data}", extra=extra), _base64, _marks
) | st.builds(Image, words.map("https://".__add__), extra=_marks)
_files = st.one_of(
    st.builds(File, data=_base64, media_type=st.just("application/pdf"), filename=optional(words), extra=_marks),
    st.builds(
        lambda text, extra: File(data=b64encode(text.encode()).decode(), media_type="text/plain", extra=extra),
        texts,
        _marks,
    ),
    st.builds(File, url=words.map("https://".__add__), filename=optional(words)),
    st.builds(File, file_id=words),
)
_opaques = words.map(
    lambda q: Opaque(NAME, "server_tool_use", Raw(compact({"type": "server_tool_use", "input": {"q": q}})))
)
#: JSON objects as a model writes them, and what it writes when it goes wrong.
sound = st.dictionaries(names, json_values, max_size=3).map(lambda value: compact(value).decode())
unsound = said.filter(lambda text: not text.lstrip().startswith("{"))


def calls(arguments: st.SearchStrategy[str]) -> st.SearchStrategy[ToolCall]:
    return st.builds(ToolCall, names, names, arguments, st.just("function"), extras)


_results = st.builds(
    ToolResult,
    names,
    st.lists(_texts | _images, max_size=2).map(tuple),
    is_error=st.booleans(),
    extra=_marks,
)
_thoughts = st.builds(
    Reasoning, words, words.filter(lambda s: not s.startswith("naru1.")), st.none(), extras
) | st.builds(Reasoning, st.just(""), st.none(), words, extras)


@st.composite
def assistant_parts(draw: st.DrawFn, arguments: st.SearchStrategy[str] = sound | unsound) -> tuple[Any, ...]:
    """An answer in the order the models write it, without two texts side by side: in a stream they would be one."""
    parts: list[Any] = draw(st.lists(_thoughts, max_size=2))
    for _ in range(draw(st.integers(0, 2))):
        parts += [draw(_texts), draw(_opaques)]
    parts += draw(st.lists(_texts, max_size=1))
    return tuple(parts + draw(st.lists(calls(arguments), max_size=3, unique_by=lambda call: call.id)))


_user_parts = st.lists(_texts | _images | _files | _results | _opaques, min_size=1, max_size=3).map(tuple)
messages = st.builds(Message, st.just("user"), _user_parts, extra=extras) | st.builds(
    Message, st.just("assistant"), assistant_parts().filter(bool), extra=extras
)
_systems = st.builds(Message, st.just("system"), st.lists(_texts, min_size=1, max_size=2).map(tuple))
_schemas = raws(st.dictionaries(names, json_values, max_size=2).map(lambda more: {**more, "type": "object"}))
_own_tools = st.builds(Tool, names, optional(texts), _schemas, optional(st.booleans()), extras)
_server_tools = names.map(
    lambda name: OpaqueTool(NAME, "web_search_20250305", Raw(compact({"type": "web_search_20250305", "name": name})))
)
_policies = st.one_of(
    st.just(ReasoningPolicy()),
    st.just(ReasoningPolicy(enabled=False)),
    st.builds(ReasoningPolicy, enabled=st.just(True), effort=optional(st.sampled_from(["low", "high", "max"]))),
    st.builds(ReasoningPolicy, enabled=st.just(True), budget_tokens=st.integers(1_024, 9_999)),
    st.builds(ReasoningPolicy, effort=st.sampled_from(["low", "xhigh"])),
)
_choices = st.one_of(
    st.just((None, None)),
    st.just((ToolChoice("none"), None)),
    st.tuples(st.builds(ToolChoice, st.sampled_from(["auto", "required"])), optional(st.booleans())),
    st.tuples(names.map(lambda name: ToolChoice("named", (name,))), optional(st.booleans())),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    choice, is_parallel = draw(_choices)
    is_stream = draw(st.booleans())
    return Request(
        model=draw(words),
        messages=(*draw(st.lists(_systems, max_size=1)), *draw(st.lists(messages, min_size=1, max_size=3))),
        tools=tuple(draw(st.lists(_own_tools | _server_tools, max_size=2))),
        tool_choice=choice,
        parallel_tool_calls=is_parallel,
        response_format=draw(optional(st.builds(ResponseFormat, st.just("json_schema"), schema=json_objects))),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        max_output_tokens=draw(positive),
        sampling=draw(st.builds(Sampling, optional(numbers), optional(numbers), optional(counts))),
        is_stream=is_stream,
        wants_usage=is_stream,
        reasoning=draw(_policies),
        user=draw(optional(texts)),
        service_tier=draw(optional(st.sampled_from(["auto", "standard_only"]))),
        extra=draw(extras),
        dialect=NAME,
    )


usages = st.builds(
    lambda fresh, output, cached, five, hour, reasoning, estimated: Usage(
        input=fresh + cached + five + hour,
        output=output + reasoning,
        cached=cached,
        cache_write=five,
        cache_write_1h=hour,
        reasoning=reasoning,
        is_estimated=estimated,
    ),
    counts, counts, counts, counts, counts, counts, st.booleans(),
)  # fmt: skip


@st.composite
def responses(draw: st.DrawFn, arguments: st.SearchStrategy[str] = sound | unsound) -> Response:
    parts = draw(assistant_parts(arguments))
    has_calls = any(isinstance(part, ToolCall) for part in parts)
    reasons: list[FinishReason] = ["tool_calls", "length"] if has_calls else ["stop", "length", "content_filter"]
    reason = draw(st.sampled_from(reasons))
    word = draw(st.sampled_from([None, "pause_turn"])) if reason == "length" else None
    extra = {} if word is None else {"stop_reason": Raw(compact(word))}
    tier = draw(optional(names))
    stop_sequence = draw(optional(words)) if reason == "stop" else None
    more = draw(extras) | {f"usage.{name}": raw for name, raw in draw(extras).items()}
    return Response(
        id="msg_" + draw(texts),
        model=draw(words),
        created=0,
        choices=(Choice(0, parts, reason, stop_sequence=stop_sequence, extra=extra),),
        usage=replace(draw(usages), tier=tier_of(tier)),
        service_tier=tier,
        extra=more,
        dialect=NAME,
    )
