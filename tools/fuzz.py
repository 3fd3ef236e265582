"""`python tools/fuzz.py [--seconds 60] [--seed N] [--only NAME]`: mutated bytes into every decoder (law 5 of the dialects).

What stands open to foreign bytes is tried: bodies of callers, whole answers, streams in random pieces, refusals. Each may
give a value or the one error it declares (BadRequest facing the caller, UpstreamError facing the upstream); anything else is
a finding, shown with the bytes that made it. The corpus is what the dialects themselves write for a few typed requests and
answers, and recorded traffic where NARU_TRANSCRIPTS or ../shared/transcripts has some.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from naru.endpoints import ENDPOINTS, HOT, PATTERNS
from naru.errors import BadRequest, NaruError, UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.bridge import Dialects, Upstream
from naru.protocol.dialect import CHAT, MEDIA_FAMILIES, Envelope, Quirks, family_of
from naru.protocol.messages import (
    Choice,
    Image,
    Message,
    Reasoning,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

QUIRKS = (
    Quirks(),
    Quirks(think_tag="inline", thinking_replay_field="reasoning_content", thinking_style="deepseek"),
    Quirks(thinking_excludes=frozenset({"tool_choice", "response_format"}), thinking_style="qwen_toggle", has_n=False),
    Quirks(thinking_style="gemini_level", max_tokens_field="max_tokens", drops=frozenset({"seed"})),
    Quirks(thinking_style="clova_effort", max_tokens_field="maxCompletionTokens"),
    Quirks(thinking_style="anthropic_budget", drops=frozenset({"output_config.format"})),
)
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"x":{"type":"string"}}}')
REQUEST = Request(
    "model",
    (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("서울의 날씨"), Image("data:image/png;base64,iVBORw0KGgo="))),
        Message("assistant", (Text("I look."), ToolCall("call_1", "f", '{"x":"y"}'))),
        Message("tool", (ToolResult("call_1", (Text("21"),)),)),
    ),
    tools=(Tool("f", "weather", SCHEMA),),
    max_output_tokens=100,
)
ANSWER = Response(
    "id",
    "model",
    1,
    (Choice(0, (Reasoning("why"), Text("비가 옵니다."), ToolCall("call_1", "f", '{"x":1.50}')), "tool_calls"),),
    Usage(10, 20, reasoning=5),
)
PLAIN_ANSWER = Response("id", "model", 1, (Choice(0, (Text("비가 옵니다."),), "stop"),), Usage(10, 20))
#: Bytes that parsers care about.
INTERESTING = (
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b"null",
        b"true",
        b"-1",
        b"0",
        b'""',
        b"{}",
        b"[]",
        b"1e999",
        b"\0",
    ),
    *(b"\n", b"\r\n\r\n", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"data: ", b"event: error\n", b"[DONE]", b"</think>"),
    *(b"99999999999999999999", b"{" * 200),
)

Run = Callable[[bytes, Random], None]


class Target:
    """One decoder: what it is fed with, and the errors that it may raise."""

    def __init__(self, name: str, corpus: list[bytes], run: Run, allowed: tuple[type[NaruError], ...]) -> None:
        self.name = name
        self.corpus = corpus
        self.run = run
        self.allowed = allowed
        self.tries = 0


def mutated(data: bytes, random: Random, other: bytes) -> bytes:
    """One to eight small changes, a splice with another sample among them."""
    out = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at = random.randrange(len(out) + 1)
        kind = random.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] = random.randrange(256)
        elif kind == 1:
            out[at:at] = random.choice(INTERESTING)
        elif kind == 2:
            del out[at : at + random.randint(1, 20)]
        elif kind == 3:
            end = at + random.randint(1, 60)
            out[at:at] = out[at:end]
        elif kind == 4 and other:
            begin = random.randrange(len(other))
            out[at : at + random.randint(0, 40)] = other[begin : begin + random.randint(1, 200)]
        elif kind == 5:
            del out[at:]
        else:
            _change_value(out, random)
    return bytes(out)


def _change_value(out: bytearray, random: Random) -> None:
    """Another JSON value in the place of one: what type checks are for."""
    colons = [place for place, byte in enumerate(out) if byte == 0x3A]
    if not colons:
        return
    begin = random.choice(colons) + 1
    end = min((place for mark in (b",", b"}") if (place := out.find(mark, begin)) >= 0), default=len(out))
    out[begin:end] = random.choice((b"null", b"[]", b"{}", b'"x"', b"-1", b"1.5", b"true", b'[{"x":1}]', b"1e400"))


def targets() -> Iterator[Target]:
    recorded = _recorded()
    clients = {dialect.name: dialect for dialect in (*HOT.values(), *(dialect for _, _, dialect in PATTERNS))}
    paths = {dialect.name: path for path, dialect in HOT.items()}
    paths |= {dialect.name: f"{prefix}m{part}" for prefix, part, dialect in PATTERNS if "stream" not in part}
    for name, client in clients.items():
        bodies = [*_bodies(client), *recorded["requests"]]
        yield Target(f"{name}: request", bodies, _reader(client, paths[name]), (NaruError,))
    for name, upstream in {dialect.name: dialect for dialect in ENDPOINTS.values()}.items():
        answers = [*_answers(upstream), *recorded["answers"]]
        whole = _media_answer(upstream) if family_of(name) in MEDIA_FAMILIES else _answer(upstream)
        yield Target(f"{name}: answer", answers, whole, (UpstreamError,))
        yield Target(f"{name}: refusal", [*answers, *recorded["refusals"]], _refusal(upstream), ())
        if family_of(name) == CHAT:
            streams = [*_streams(upstream), *recorded["streams"]]
            yield Target(f"{name}: stream", streams, _stream(upstream), (UpstreamError,))
            if name in clients:
                yield Target(f"{name}: relay", streams, _relay(upstream), ())


# --- What is fed ----------------------------------------------------------------------------------------------------


FORM = ((b"content-type", b"multipart/form-data; boundary=b"),)
_FILE = b'--b\r\ncontent-disposition: form-data; name="%b"; filename="a.wav"\r\n\r\nRIFF\r\n'
_FIELD = b'--b\r\ncontent-disposition: form-data; name="%b"\r\n\r\n%b\r\n'
_FORM = (
    _FIELD % (b"model", b"m")
    + _FIELD % (b"response_format", b"json")
    + _FIELD % (b"stream", b"true")
    + _FILE % b"file"
    + b"--b--\r\n"
)
_EDIT = _FIELD % (b"model", b"m") + _FIELD % (b"prompt", b"x") + _FILE % b"image" + b"--b--\r\n"
#: dialect -> what its `read` takes.
MEDIA_BODIES: dict[str, tuple[bytes, str, tuple[tuple[bytes, bytes], ...]]] = {
    "transcription": (_FORM, "/v1/audio/transcriptions", FORM),
    "translation": (_FORM, "/v1/audio/translations", FORM),
    "speech": (b'{"model":"m","input":"x","voice":"a"}', "/v1/audio/speech", ()),
    "images": (b'{"model":"m","prompt":"x","stream":true}', "/v1/images/generations", ()),
    "edits": (_EDIT, "/v1/images/edits", FORM),
}


def _envelope() -> Envelope:
    return Envelope({"messages": msgspec.Raw(b"[]")}, "model", True, True, None, 1, 10)


def _bodies(client: Any) -> list[bytes]:
    found = [
        b"{}",
        b'{"model":"m","input":"x"}',
        b'{"model":"m","query":"q","documents":["a"]}',
        b'{"model":"m","prompt":"x"}',
    ]
    if hasattr(client, "encode_request") and family_of(client.name) == CHAT:
        try:
            found.append(client.encode_request(REQUEST, Quirks()).body)
        except BadRequest:  # a protocol without tools or pictures
            found.append(client.encode_request(Request("m", (Message("user", (Text("x"),)),)), Quirks()).body)
    return found


def _answers(upstream: Any) -> list[bytes]:
    if hasattr(upstream, "encode_response") and family_of(upstream.name) == CHAT:
        return [upstream.encode_response(_answer_for(upstream), _envelope())]
    return [
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,1]}],"usage":{"prompt_tokens":1}}',
        b'{"results":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":3}}',
        b'{"status":{"code":"20000","message":"OK"},"result":{"message":{"role":"assistant","content":"a","toolCalls":[]},'
        b'"usage":{"promptTokens":1,"completionTokens":2},"finishReason":"stop","embedding":[1],"inputTokens":2}}',
    ]


def _answer_for(upstream: Any) -> Response:
    """Text completions know nothing but text."""
    return PLAIN_ANSWER if upstream.name == "openai_completions" else ANSWER


def _streams(upstream: Any) -> list[bytes]:
    if hasattr(upstream, "stream_encoder"):
        encoder = upstream.stream_encoder(_envelope(), lambda usage: 1)
        return [b"".join(encoder.event(event) for event in response_events(_answer_for(upstream))) + encoder.close()]
    return [
        b'id:1\nevent:token\ndata:{"message":{"role":"assistant","content":"a"},"finishReason":null}\n\n'
        b'id:1\nevent:result\ndata:{"message":{"role":"assistant","content":"a"},"finishReason":"stop","usage":'
        b'{"promptTokens":1,"completionTokens":2}}\n\n'
    ]


def _recorded() -> dict[str, list[bytes]]:
    """Bodies of recorded traffic, by kind; empty where there is none."""
    found: dict[str, list[bytes]] = {"requests": [], "answers": [], "refusals": [], "streams": []}
    try:
        from tests.places import transcripts_folder

        from naru.testing.replay import load_interactions
    except ImportError:
        return found
    folder = transcripts_folder()
    for item in load_interactions(folder, []) if folder else []:
        if item.request_json is not None:
            found["requests"].append(json.dumps(item.request_json, ensure_ascii=False).encode())
        kind = "streams" if item.is_stream else "answers" if item.status == 200 else "refusals"
        found[kind].append(item.body)
    return {kind: [body for body in bodies if 0 < len(body) < 20_000] for kind, bodies in found.items()}


# --- What is tried --------------------------------------------------------------------------------------------------


def _reader(client: Any, path: str) -> Run:
    """From a caller's body all the way to the body for some upstream of its family."""
    family = [each for each in ENDPOINTS.values() if family_of(each.name) == family_of(client.name)]
    dialects = Dialects({path: client}, (), family)

    def run(data: bytes, random: Random) -> None:
        headers = MEDIA_BODIES[client.name][2] if client.name in MEDIA_BODIES else ()
        envelope = client.read(data, path, headers)
        bridge = dialects.between(client, random.choice(family))
        bridge.request(envelope, Upstream("m", random.choice(QUIRKS)), random.random() < 0.5)

    return run


def _answer(upstream: Any) -> Run:
    def run(data: bytes, random: Random) -> None:
        upstream.decode_response(data, random.choice(QUIRKS))

    return run


def _media_answer(dialect: Any) -> Run:
    """Whole, and as a stream of any type in random pieces. Sound is not looked into: there any bytes are right."""

    def run(data: bytes, random: Random) -> None:
        envelope = dialect.read(*MEDIA_BODIES[dialect.name])
        relay = dialect.media_relay(envelope, Quirks(), lambda usage: 1)
        if relay.takes(random.choice((b"text/event-stream", b"audio/mpeg"))):
            for piece in _pieces(data, random):
                if relay.error is None:
                    relay.feed(piece)
            if relay.error is None:
                relay.close()
        dialect.relay_whole(data, envelope, Quirks())

    return run


def _refusal(upstream: Any) -> Run:
    def run(data: bytes, random: Random) -> None:
        error = upstream.decode_error(random.choice((400, 401, 404, 429, 500, 529)), data, random.choice(QUIRKS))
        assert isinstance(error, UpstreamError), type(error)

    return run


def _stream(upstream: Any) -> Run:
    def run(data: bytes, random: Random) -> None:
        decoder = upstream.stream_decoder(random.choice(QUIRKS))
        events = [event for piece in _pieces(data, random) for event in decoder.feed(piece)]
        accumulate([*events, *decoder.feed(b""), *decoder.close()])

    return run


def _relay(dialect: Any) -> Run:
    def run(data: bytes, random: Random) -> None:
        relay = dialect.stream_relay(_envelope(), random.choice(QUIRKS), lambda usage: 1)
        for piece in _pieces(data, random):
            if relay.error is None:
                relay.feed(piece)
        if relay.error is None:
            relay.close()

    return run


def _pieces(data: bytes, random: Random) -> list[bytes]:
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randint(0, 6)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# --- The run --------------------------------------------------------------------------------------------------------


def attempt(target: Target, data: bytes, seed: int) -> str | None:
    """What went wrong, or None."""
    try:
        target.run(data, Random(seed))
    except target.allowed:
        return None
    except Exception:
        return traceback.format_exc(limit=-4)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each decoder (default: 60)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="decoders whose name holds this")
    parser.add_argument("--part", default="1/1", help="every second decoder from the first: 1/2; from the second: 2/2")
    options = parser.parse_args()
    findings: dict[str, bytes] = {}
    part, parts = map(int, options.part.split("/"))
    chosen = [target for target in targets() if options.only in target.name][part - 1 :: parts]
    for target in chosen:
        random = Random(f"{options.seed}{target.name}")
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            data = mutated(random.choice(target.corpus), random, random.choice(target.corpus))
            target.tries += 1
            wrong = attempt(target, data, target.tries)
            if wrong is not None and wrong not in findings:
                findings[wrong] = data
                print(f"\n{target.name}\n{wrong}input: {data[:2000]!r}\n", flush=True)
        print(f"{target.name:40} {target.tries:>9,} inputs", flush=True)
    print(f"\n{sum(target.tries for target in chosen):,} inputs, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
