"""Small makers of Gemini requests, answers and streams, the recorded ones, and the strategies of the laws."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from hypothesis import strategies as st
from msgspec import Raw

from naru.errors import UpstreamError
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import (
    Audio,
    Choice,
    Event,
    Extra,
    File,
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
from tests.protocol.samples import (
    TRANSCRIPTS,
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

PATH = "/v1beta/models/gemini-3-flash:generateContent"
STREAM_PATH = "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse"
HELLO = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}

PLAIN = Quirks()
LEVELS = Quirks(thinking_style="gemini_level")
BUDGETS = Quirks(thinking_style="gemini_budget")

Json = dict[str, Any]


def read(path: str = PATH, **fields: Any) -> Envelope:
    return GEMINI.read(compact({**HELLO, **fields}), path)


def stream_envelope() -> Envelope:
    return read(STREAM_PATH)


def event(value: Any, end: bytes = b"\r\n\r\n") -> bytes:
    return b"data: " + compact(value) + end


def piece(*parts: Json, finish: str | None = None, usage: Json | None = None, index: int = 0, **more: Any) -> Json:
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, "index": index, **more}
    if finish is not None:
        candidate["finishReason"] = finish
    found: Json = {"candidates": [candidate]}
    if usage is not None:
        found["usageMetadata"] = usage
    return {**found, "modelVersion": "gemini-x", "responseId": "r1"}


USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "totalTokenCount": 22}


def decoded(pieces: list[bytes], quirks: Quirks = PLAIN) -> tuple[list[Event], UpstreamError | None]:
    decoder = GEMINI.stream_decoder(quirks)
    events: list[Event] = []
    try:
        for data in pieces:
            events += decoder.feed(data)
        return events + decoder.close(), None
    except UpstreamError as error:
        return events, error


# --- Recordings -----------------------------------------------------------------------------------------------------


@cache
def exchanges() -> tuple[tuple[str, str, Json, bytes, bool], ...]:
    """(file, path, request, body of the answer, whether it is a stream) of every recorded generateContent."""
    found: list[tuple[str, str, Json, bytes, bool]] = []
    for path in sorted(TRANSCRIPTS.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "enerateContent" not in text:
            continue
        for item in yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["interactions"]:
            uri = item["request"]["uri"]
            if "enerateContent" in uri and item["response"]["status"]["code"] == 200:
                body = (item["response"].get("body") or {}).get("string")
                data = compact(item["response"]["parsed_body"]) if body is None else body.encode()
                request = item["request"].get("parsed_body") or {}
                found.append((path.stem, "/" + uri.split("/", 3)[3], request, data, "streamGenerate" in uri))
    return tuple(found)


def requests_recorded() -> Iterator[tuple[str, Json]]:
    return ((path, request) for _, path, request, _, _ in exchanges() if request)


# --- Strategies -----------------------------------------------------------------------------------------------------

_signatures = st.just({"thoughtSignature": Raw(b'"EqoeCg=="')})
part_extras: st.SearchStrategy[Extra] = st.one_of(st.just({}), _signatures, extras)
base64s = st.sampled_from(["", "aGk=", "+/+/", "AAAA"])
arguments = json_objects.map(lambda raw: bytes(raw).decode())

text_parts = st.builds(Text, texts, part_extras)
images = st.builds(
    Image,
    base64s.map("data:image/png;base64,".__add__) | st.sampled_from(["https://a/b.png", "gs://c/d.jpg", "https://e"]),
    extra=extras,
).map(lambda image: Image(image.url, None, image.extra | _mime(image.url)))


def _mime(url: str) -> Extra:
    """An address whose end tells no type needs it said, or it would come back as a file."""
    return {"fileData.mimeType": Raw(b'"image/png"')} if url == "https://e" else {}


audios = st.builds(Audio, base64s, st.sampled_from(["wav", "mp3", "flac"]), extras)
files = st.builds(
    File, data=base64s, filename=optional(words), media_type=st.just("application/pdf"), extra=extras
) | st.builds(File, url=st.sampled_from(["https://a/b.pdf", "files/x.pdf"]), media_type=st.just("application/pdf"))
opaques = words.map(
    lambda code: Opaque(
        "gemini", "executableCode", Raw(compact({"executableCode": {"language": "PYTHON", "code": code}}))
    )
)
calls = st.builds(
    ToolCall, words, names, arguments, extra=st.just({}) | extras, signature=optional(st.just("EqoeCg=="))
)
results = st.builds(
    ToolResult,
    words,
    st.builds(Text, texts).map(lambda text: (text,)) | st.builds(Text, arguments).map(lambda text: (text,)),
    names,
    st.just(False),
    extra=part_extras,
) | st.builds(ToolResult, words, st.builds(Text, texts).map(lambda text: (text,)), names, st.just(True))
thoughts = st.builds(Reasoning, texts, extra=part_extras)

messages = st.one_of(
    st.lists(text_parts | images | audios | files | opaques, min_size=1, max_size=3).map(
        lambda parts: Message("user", tuple(parts))
    ),
    st.builds(
        lambda parts, extra: Message("assistant", tuple(parts), extra=extra),
        st.lists(thoughts | text_parts | calls | opaques, min_size=1, max_size=4),
        extras,
    ),
    st.lists(results, min_size=1, max_size=2).map(lambda parts: Message("tool", tuple(parts))),
)
system = st.lists(text_parts, min_size=1, max_size=2).map(lambda parts: (Message("system", tuple(parts)),))
tools = st.builds(Tool, names, optional(words), optional(json_objects), extra=extras)
searches = st.just(OpaqueTool("gemini", "googleSearch", Raw(b'{"googleSearch":{}}')))
tool_choices = st.one_of(
    st.sampled_from([ToolChoice("auto"), ToolChoice("none"), ToolChoice("required")]),
    names.map(lambda name: ToolChoice("named", (name,))),
    st.lists(names, min_size=2, max_size=3).map(lambda found: ToolChoice("required", tuple(found))),
    st.lists(names, min_size=1, max_size=3).map(lambda found: ToolChoice("auto", tuple(found))),
)
formats = st.sampled_from([ResponseFormat("text"), ResponseFormat("json_object")]) | json_objects.map(
    lambda schema: ResponseFormat("json_schema", schema=schema)
)
samplings = st.builds(
    Sampling, optional(numbers), optional(numbers), optional(counts), st.none(), optional(counts),
    optional(numbers), optional(numbers),
)  # fmt: skip
policies = st.builds(
    ReasoningPolicy,
    effort=optional(st.sampled_from(["minimal", "low", "medium", "high"])),
    summary=optional(st.just("auto")),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    is_stream = draw(st.booleans())
    inner = {f"generationConfig.{name}": raw for name, raw in draw(extras).items()}
    return Request(
        model="gemini-3-flash",
        messages=draw(system | st.just(())) + tuple(draw(st.lists(messages, min_size=1, max_size=3))),
        tools=(*draw(st.lists(tools, max_size=2)), *draw(st.lists(searches, max_size=1))),
        tool_choice=draw(optional(tool_choices)),
        response_format=draw(optional(formats)),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        max_output_tokens=draw(optional(positive)),
        n=draw(optional(st.integers(2, 8))),
        sampling=draw(samplings),
        logprobs=draw(optional(st.booleans())),
        top_logprobs=draw(optional(counts)),
        is_stream=is_stream,
        wants_usage=is_stream,
        reasoning=draw(policies),
        service_tier=draw(optional(names)),
        extra=draw(extras) | inner,
        dialect="gemini",
    )


usages = st.builds(
    lambda prompt, cached, output, reasoning, estimated: Usage(
        input=prompt + cached,
        output=output + reasoning,
        cached=cached,
        reasoning=reasoning,
        audio_input=min(prompt, 3),
        audio_output=min(output, 2),
        is_estimated=estimated,
    ),
    counts, counts, counts, counts, st.booleans(),
)  # fmt: skip
logprobs = st.lists(st.tuples(words, st.floats(-9, 0)), min_size=1, max_size=2).map(
    lambda pairs: Raw(
        compact(
            {
                "content": [
                    {
                        "token": token,
                        "logprob": value,
                        "bytes": list(token.encode()),
                        "top_logprobs": [{"token": token, "logprob": value, "bytes": list(token.encode())}],
                    }
                    for token, value in pairs
                ],
                "refusal": None,
            }
        )
    )
)


@st.composite
def choices(draw: st.DrawFn, index: int) -> Choice:
    parts: list[Any] = []
    parts += draw(st.lists(st.builds(Reasoning, words, extra=part_extras), max_size=1))
    parts += draw(st.lists(st.builds(Text, words, part_extras), max_size=1))
    parts += draw(st.lists(opaques, max_size=2))
    found = draw(st.lists(calls, max_size=3, unique_by=lambda call: call.id))
    reasons = ["length", "content_filter", "tool_calls" if found else "stop"]
    return Choice(
        index=index,
        parts=(*parts, *found),
        finish_reason=draw(st.sampled_from(reasons)),
        extra=draw(extras),
    )


@st.composite
def responses(draw: st.DrawFn) -> Response:
    usage = draw(optional(usages))
    tier = None if usage is None else draw(optional(names))  # it stands in the usage
    return Response(
        id=draw(texts),
        model=draw(words),
        created=draw(st.integers(0, 4_000_000_000)),
        choices=tuple(draw(choices(index)) for index in range(draw(st.integers(1, 2)))),
        usage=served(usage, tier),
        service_tier=tier,
        extra=draw(extras),
        dialect="gemini",
    )
