"""Small makers of requests, answers and streams, and the strategies of the laws."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import (
    Audio,
    Choice,
    Extra,
    File,
    FinishReason,
    Image,
    Message,
    Opaque,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Refusal,
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
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.service import tier_of

TRANSCRIPTS = Path(
    os.environ.get("NARU_TRANSCRIPTS") or Path(__file__).resolve().parents[2].parent / "shared" / "transcripts"
)

PLAIN = Quirks()
#: Everything the dialect can say passes: what OpenAI itself and the most capable compatible servers take.
FULL = Quirks(has_developer_role=True, thinking_replay_field="reasoning_content")

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def body(**fields: Any) -> bytes:
    return compact({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


def envelope(wants_usage: bool = False, **fields: Any) -> Envelope:
    return OPENAI_CHAT.read(body(stream=True, stream_options={"include_usage": wants_usage}, **fields))


def price(usage: Usage) -> int:
    """1,000 nano-dollars a token."""
    return usage.total * 1_000


def event(value: Any, end: bytes = b"\n\n") -> bytes:
    return b"data: " + compact(value) + end


def chunk(delta: Json | None, finish: Any = None, choice: int = 0, **more: Any) -> bytes:
    fields = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({**HEAD, "choices": [fields], **more})


HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "up", "system_fingerprint": "fp"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def whole(message: Json, finish: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi", **message}, "finish_reason": finish}
    return compact(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "up", "choices": [choice], **more}
    )


def datas(stream: bytes) -> list[Any]:
    """The JSON of every event of an LF stream; "[DONE]" as that string."""
    texts = [block.removeprefix(b"data: ") for block in stream.split(b"\n\n") if block]
    return [text.decode() if text == b"[DONE]" else json.loads(text) for text in texts]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


# --- Strategies ---------------------------------------------------------------------------------------------------

_chars = st.characters(codec="utf-8")
texts = st.text(_chars, max_size=30)
words = st.text(_chars, min_size=1, max_size=30)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
numbers = st.floats(-2, 2, allow_nan=False)
counts = st.integers(0, 1_000_000)
positive = st.integers(1, 1_000_000)

_leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | numbers | texts
json_values = st.recursive(
    _leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=5
)


def raws(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
    return values.map(lambda value: Raw(compact(value)))


json_objects = raws(st.dictionaries(texts, json_values, max_size=3))
#: Unknown fields: names nobody has a type for, values that are not null (null is as good as absent).
extras: st.SearchStrategy[Extra] = st.dictionaries(
    names.map("x_".__add__), raws(json_values.filter(lambda value: value is not None)), max_size=2
)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


_text_parts = st.builds(Text, texts, extras)
_images = st.builds(Image, words, optional(st.sampled_from(["low", "high", "auto"])), extras)
_files = st.builds(File, data=words, filename=optional(words), extra=extras) | st.builds(
    File, file_id=words, extra=extras
)
_audios = st.builds(Audio, words, st.sampled_from(["wav", "mp3"]), extras)
_opaques = words.map(lambda url: Opaque("openai_chat", "video_url", Raw(compact({"type": "video_url", "url": url}))))
_calls = st.builds(ToolCall, words, names, texts, st.sampled_from(["function", "custom"]), extras)
_results = st.builds(
    ToolResult, words, st.lists(_text_parts | _images, min_size=1, max_size=2).map(tuple), optional(names), extra=extras
)


@st.composite
def assistant_messages(draw: st.DrawFn) -> Message:
    parts: list[Any] = []
    if draw(st.booleans()):
        parts.append(Reasoning(draw(words)))
    parts += draw(st.lists(_text_parts, max_size=2))
    if draw(st.booleans()):
        parts.append(Refusal(draw(words)))
    parts += draw(st.lists(_calls, max_size=2))
    return Message("assistant", tuple(parts), draw(optional(names)), draw(extras))


_user_parts = st.lists(_text_parts | _images | _files | _audios | _opaques, min_size=1, max_size=3).map(tuple)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["user", "system", "developer"]), _user_parts, optional(names), extras),
    assistant_messages(),
    _results.map(lambda result: Message("tool", (result,))),
)
_custom_tools = names.map(
    lambda name: OpaqueTool("openai_chat", "custom", Raw(compact({"type": "custom", "custom": {"name": name}})))
)
tools = st.builds(Tool, names, optional(texts), optional(json_objects), optional(st.booleans()), extras) | _custom_tools
tool_choices = st.one_of(
    st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"])),
    names.map(lambda name: ToolChoice("named", (name,))),
    st.builds(
        ToolChoice,
        st.sampled_from(["auto", "required"]),
        st.lists(names, min_size=1, max_size=2, unique=True).map(tuple),
    ),
)
formats = st.one_of(
    st.just(ResponseFormat("text")),
    st.builds(ResponseFormat, st.just("json_object"), schema=optional(json_objects)),
    st.builds(
        ResponseFormat,
        st.just("json_schema"),
        names,  # chat completions cannot say a schema without one
        optional(json_objects),
        optional(st.booleans()),
        optional(texts),
    ),
)
samplings = st.builds(
    Sampling,
    optional(numbers), optional(numbers), optional(counts), optional(numbers), optional(counts),
    optional(numbers), optional(numbers), optional(numbers),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> Request:
    is_stream = draw(st.booleans())
    return Request(
        model=draw(words),
        messages=tuple(draw(st.lists(messages, min_size=1, max_size=3))),
        tools=tuple(draw(st.lists(tools, max_size=2))),
        tool_choice=draw(optional(tool_choices)),
        parallel_tool_calls=draw(optional(st.booleans())),
        response_format=draw(optional(formats)),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        max_output_tokens=draw(optional(positive)),
        n=draw(optional(st.integers(1, 128))),
        sampling=draw(samplings),
        logprobs=draw(optional(st.booleans())),
        top_logprobs=draw(optional(counts)),
        is_stream=is_stream,
        wants_usage=is_stream,  # a stream's usage is always asked for upstream
        reasoning=ReasoningPolicy(effort=draw(optional(st.sampled_from(["none", "low", "high", "xhigh"])))),
        user=draw(optional(texts)),
        metadata=draw(optional(json_objects)),
        service_tier=draw(optional(names)),
        extra=draw(extras),
        dialect="openai_chat",
    )


usages = st.builds(
    lambda prompt, output, cached, written, reasoning, estimated: Usage(
        input=prompt + cached + written,
        output=output + reasoning,
        cached=cached,
        cache_write=written,
        reasoning=reasoning,
        audio_input=min(prompt, 3),
        audio_output=min(output, 2),
        is_estimated=estimated,
    ),
    counts, counts, counts, counts, counts, st.booleans(),
)  # fmt: skip


@st.composite
def choices(draw: st.DrawFn, index: int) -> Choice:
    parts: list[Any] = []
    signed = st.builds(Reasoning, words, optional(words), st.none(), extras)
    redacted = st.builds(Reasoning, st.just(""), st.none(), words)
    parts += draw(st.lists(signed | redacted, max_size=3))
    if draw(st.booleans()):
        parts.append(Text(draw(words)))
    if draw(st.booleans()):
        parts.append(Refusal(draw(words)))
    calls = draw(st.lists(_calls, max_size=3, unique_by=lambda call: call.id))
    parts += calls
    reasons: list[FinishReason] = ["tool_calls", "length"] if calls else ["stop", "length", "content_filter"]
    extra = draw(extras) | {f"choice.{name}": raw for name, raw in draw(extras).items()}
    return Choice(
        index=index,
        parts=tuple(parts),
        finish_reason=draw(st.sampled_from(reasons)),
        logprobs=draw(optional(json_objects)),
        stop_sequence=draw(optional(words)),
        extra=extra,
    )


def served(usage: Usage | None, tier: str | None) -> Usage | None:
    """As a decoder gives it: the answer's tier stands in its usage too."""
    return usage if usage is None else replace(usage, tier=tier_of(tier))


@st.composite
def responses(draw: st.DrawFn) -> Response:
    tier = draw(optional(names))
    return Response(
        id=draw(texts),
        model=draw(words),
        created=draw(counts),
        choices=tuple(draw(choices(index)) for index in range(draw(st.integers(1, 2)))),
        usage=served(draw(optional(usages)), tier),
        service_tier=tier,
        extra=draw(extras),
        dialect="openai_chat",
    )
