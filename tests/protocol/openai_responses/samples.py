"""Small makers of Responses requests, answers and streams, and the strategies of the laws."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import (
    Audio,
    Choice,
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
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.seal import seal
from tests.protocol.samples import (
    compact,
    counts,
    extras,
    json_objects,
    names,
    numbers,
    optional,
    positive,
    served,
    texts,
    words,
)

Json = dict[str, Any]
NAME = "openai_responses"

PLAIN = Quirks()
#: What OpenAI itself takes.
OPENAI = Quirks(has_developer_role=True)

USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 17,
}


def raw(value: Any) -> Raw:
    return Raw(compact(value))


def body(**fields: Any) -> bytes:
    return compact({"model": "m", "input": "hi", **fields})


def envelope(**fields: Any) -> Envelope:
    return OPENAI_RESPONSES.read(body(stream=True, **fields))


def request(**fields: Any) -> Request:
    return OPENAI_RESPONSES.decode_request(OPENAI_RESPONSES.read(body(**fields)))


def written(asked: Request, quirks: Quirks = OPENAI) -> Json:
    found: Json = json.loads(OPENAI_RESPONSES.encode_request(asked, quirks).body)
    return found


def message(text: str, **more: Any) -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part], **more}


def call(arguments: str = '{"a":1}', **more: Any) -> Json:
    head = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", "name": "f"}
    return {**head, "arguments": arguments, **more}


def thought(*summary: str, **more: Any) -> Json:
    return {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": t} for t in summary],
        **more,
    }


def answer(*output: Json, **more: Any) -> Json:
    head = {"id": "resp_1", "object": "response", "created_at": 7, "status": "completed", "model": "up", "error": None}
    return {**head, "incomplete_details": None, "output": list(output), "usage": USAGE, **more}


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), compact({"type": kind, "sequence_number": 0, **fields}))


def created() -> bytes:
    return event("response.created", response=answer(status="in_progress", usage=None))


def text_events(text: str, index: int = 0, item_id: str = "msg_1") -> list[bytes]:
    """A whole message item in events, one delta a character."""
    place: Json = {"item_id": item_id, "output_index": index, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    begun = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    return [
        event("response.output_item.added", output_index=index, item=begun),
        event("response.content_part.added", **place, part=part),
        *(event("response.output_text.delta", **place, delta=char, logprobs=[]) for char in text),
        event("response.output_text.done", **place, text=text, logprobs=[]),
        event("response.content_part.done", **place, part={**part, "text": text}),
        event("response.output_item.done", output_index=index, item=message(text, id=item_id)),
    ]


def stream(*events: bytes) -> bytes:
    return created() + b"".join(events)


def completed(*output: Json, **more: Any) -> bytes:
    return event("response.completed", response=answer(*output, **more))


def events_of(data: bytes) -> list[Json]:
    """The JSON of every event of an LF stream; each is named as its type says."""
    found = []
    for block in data.split(b"\n\n"):
        if block:
            name, _, line = block.partition(b"\n")
            assert line.startswith(b"data: "), block
            found.append(json.loads(line[6:]))
            assert name == b"event: " + found[-1]["type"].encode()
    return found


# --- Strategies: what the dialect can express ---------------------------------------------------------------------

_texts = st.builds(Text, texts, extras)
_images = st.builds(Image, words, optional(st.sampled_from(["low", "high"])), extras)
_files = st.one_of(
    st.builds(File, data=words, filename=optional(words), extra=extras),
    st.builds(File, url=words, extra=extras),
    st.builds(File, file_id=words, extra=extras),
)
_audios = st.builds(Audio, words, st.sampled_from(["wav", "mp3"]), extras)
_opaque_parts = words.map(
    lambda it: Opaque(NAME, "computer_screenshot", raw({"type": "computer_screenshot", "image_url": it}))
)
_opaque_items = words.map(lambda it: Opaque(NAME, "web_search_call", raw({"type": "web_search_call", "id": it})))
_calls = st.builds(ToolCall, words, names, texts, extra=extras)
_custom_calls = st.builds(
    lambda call_id, name, text: ToolCall(
        call_id, name, json.dumps({"input": text}, ensure_ascii=False, separators=(",", ":")), extra={"type": raw("custom_tool_call")}
    ),
    words, names, st.text(st.characters(codec="ascii", min_codepoint=32), max_size=20).filter(lambda t: "\x7f" not in t),
)  # fmt: skip
_native_thoughts = st.builds(lambda text, blob: Reasoning(text, extra={"encrypted_content": raw(blob)}), texts, words)
_sealed_thoughts = st.builds(
    lambda text, signature, encrypted: Reasoning(text, signature, encrypted, {"signed_by": raw("anthropic_messages")}),
    texts, optional(words), optional(words),
).filter(lambda part: part.signature is not None or part.encrypted is not None)  # fmt: skip
_thoughts = st.builds(Reasoning, words, extra=extras) | _native_thoughts | _sealed_thoughts
_results = st.builds(ToolResult, words, st.lists(_texts | _images, min_size=1, max_size=2).map(tuple), extra=extras)

_item_extras = extras.map(lambda extra: {f"item.{name}": value for name, value in extra.items()})
_said = st.builds(lambda text, own, item: Text(text, {**own, **item}), texts, extras, _item_extras)


@st.composite
def assistant_messages(draw: st.DrawFn) -> Message:
    part = _said | st.builds(Refusal, words) | _calls | _custom_calls | _thoughts | _opaque_items
    return Message("assistant", tuple(draw(st.lists(part, min_size=1, max_size=4))))


_user_parts = st.lists(_texts | _images | _files | _audios | _opaque_parts, min_size=1, max_size=3).map(tuple)
_other_messages = st.builds(Message, st.sampled_from(["user", "system", "developer"]), _user_parts, extra=extras)
_result_messages = _results.map(lambda result: Message("tool", (result,)))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Two turns of the assistant side by side would be one."""
    found = draw(st.lists(_other_messages | _result_messages | assistant_messages(), min_size=1, max_size=4))
    return tuple(
        each
        for place, each in enumerate(found)
        if not place or each.role != "assistant" or found[place - 1].role != "assistant"
    )


_customs = names.map(lambda name: request(tools=[{"type": "custom", "name": name, "x": 1}]).tools[0])
_servers = words.map(lambda key: OpaqueTool(NAME, "mcp", raw({"type": "mcp", "server_label": key})))
tools = st.builds(Tool, names, optional(texts), optional(json_objects), st.booleans(), extras) | _customs | _servers
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
    st.sampled_from([ResponseFormat("text"), ResponseFormat("json_object")]),
    st.builds(
        ResponseFormat, st.just("json_schema"), names, optional(json_objects), optional(st.booleans()), optional(texts)
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    is_stream, logprobs = draw(st.booleans()), draw(st.sampled_from([None, True]))
    more = draw(extras) | {f"text.{name}": value for name, value in draw(extras).items()}
    return Request(
        model=draw(words),
        messages=draw(conversations()),
        tools=tuple(draw(st.lists(tools, max_size=2))),
        tool_choice=draw(optional(tool_choices)),
        parallel_tool_calls=draw(optional(st.booleans())),
        response_format=draw(optional(formats)),
        max_output_tokens=draw(optional(positive)),
        sampling=Sampling(temperature=draw(optional(numbers)), top_p=draw(optional(numbers))),
        logprobs=logprobs,
        top_logprobs=draw(optional(counts)) if logprobs else None,
        is_stream=is_stream,
        wants_usage=is_stream,
        reasoning=ReasoningPolicy(
            effort=draw(optional(st.sampled_from(["none", "low", "max"]))),
            summary=draw(optional(st.sampled_from(["auto"]))),
        ),
        user=draw(optional(texts)),
        metadata=draw(optional(json_objects)),
        service_tier=draw(optional(names)),
        extra=more | {f"reasoning.{name}": value for name, value in draw(extras).items()},
        dialect=NAME,
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

_ids = names.map(lambda name: {"id": raw(f"id_{name}")})
_answer_texts = st.builds(
    lambda text, own, item: Text(text, {**own, **item}), words, extras, _ids.map(lambda own: {"item.id": own["id"]})
)
_answer_thoughts = st.builds(
    lambda text, encrypted, own, extra: Reasoning(text, None, encrypted, {**extra, **own}),
    words,
    optional(words),
    _ids,
    extras,
)
_answer_calls = st.builds(
    lambda call_id, name, text, kind, own, extra: ToolCall(call_id, name, text, kind, {**extra, **own}),
    words, names, texts, st.sampled_from(["function", "custom"]), _ids, extras,
)  # fmt: skip


@st.composite
def responses(draw: st.DrawFn) -> Response:
    """Texts do not stand side by side: accumulated, they are one."""
    parts: list[Any] = draw(st.lists(_answer_thoughts, max_size=2))
    searches = draw(st.lists(_opaque_items, max_size=1))
    parts += searches
    if draw(st.booleans()):
        parts.append(draw(_answer_texts))
    if draw(st.booleans()):
        parts.append(Refusal(draw(words)))
    calls = draw(st.lists(_answer_calls, max_size=2, unique_by=lambda each: each.id))
    parts += calls
    tier = draw(optional(names))
    usage = served(draw(optional(usages)), tier)
    if usage is not None and searches:
        usage = replace(usage, server_tools=(("web_search", 1),))  # each item that was billed is counted
    reasons: list[FinishReason] = ["tool_calls", "length"] if calls else ["stop", "length", "content_filter"]
    return Response(
        id=draw(words),
        model=draw(words),
        created=draw(counts),
        choices=(Choice(0, tuple(parts), draw(st.sampled_from(reasons))),),
        usage=usage,
        service_tier=tier,
        extra=draw(extras),
        dialect=NAME,
    )


def sealed(signature: str | None, encrypted: str | None = None) -> str:
    return seal("anthropic_messages", signature, encrypted)
