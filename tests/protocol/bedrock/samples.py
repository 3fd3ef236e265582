"""What Converse sends, constructed from the API's description; whole answers are also recorded (test_bedrock_transcripts)."""

from __future__ import annotations

import json
from typing import Any

from naru.protocol.dialect import Quirks
from naru.protocol.messages import Message, Request, Text
from naru.providers import load_providers
from naru.testing.sandbox.bedrock import event, frame

Json = dict[str, Any]
PROVIDER = load_providers()["bedrock"]

CLAUDE = PROVIDER.quirks_for("global.anthropic.claude-sonnet-4-6-v1:0")
BUDGET = PROVIDER.quirks_for("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
ALWAYS = PROVIDER.quirks_for("anthropic.claude-opus-5-5")
NOVA = PROVIDER.quirks_for("us.amazon.nova-pro-v1:0")
LLAMA = PROVIDER.quirks_for("meta.llama3-3-70b-instruct-v1:0")
GPT = PROVIDER.quirks_for("us.openai.gpt-5.6-sol")
PLAIN = Quirks(thinking_style="none")


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def answer(*content: Json, stop: str = "end_turn", **more: Any) -> bytes:
    usage = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25}
    body = {"metrics": {"latencyMs": 7}, "output": {"message": {"content": content, "role": "assistant"}}}
    return compact({**body, "stopReason": stop, "usage": usage, **more})


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": fields})


def begin(index: int, call_id: str, name: str, **more: Any) -> bytes:
    start = {"toolUse": {"toolUseId": call_id, "name": name, **more}}
    return event("contentBlockStart", {"contentBlockIndex": index, "start": start})


def end(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def stop(reason: str, **more: Any) -> bytes:
    return event("messageStop", {"stopReason": reason, **more})


def metadata(**usage: Any) -> bytes:
    counts = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25, **usage}
    return event("metadata", {"usage": counts, "metrics": {"latencyMs": 7}})


def exception(name: str, message: str = "m") -> bytes:
    return frame({":exception-type": name, ":message-type": "exception"}, compact({"message": message}))


START = event("messageStart", {"role": "assistant"})
TEXT_STREAM = b"".join(
    [
        START,
        *(delta(0, reasoningContent={"text": text}) for text in ("오늘", "은")),
        delta(0, reasoningContent={"signature": "c2ln"}),
        end(0),
        *(delta(1, text=text) for text in ("안", "녕", " 👋")),
        end(1),
        stop("end_turn"),
        metadata(),
    ]
)
CALLS_STREAM = b"".join(
    [
        START,
        delta(0, text="보자"),
        end(0),
        begin(1, "tooluse_a", "get_weather"),
        *(delta(1, toolUse={"input": text}) for text in ('{"', 'location":"서', '울"}')),
        end(1),
        begin(2, "tooluse_b", "get_time"),
        delta(2, toolUse={"input": ""}),
        end(2),
        stop("tool_use"),
        metadata(),
    ]
)
ERROR_STREAM = START + delta(0, text="안") + exception("throttlingException", "Too many tokens, please wait.")
STREAMS = [TEXT_STREAM, CALLS_STREAM, ERROR_STREAM]


def request(*parts: Any, **fields: Any) -> Request:
    return Request("m", (Message("user", parts or (Text("안녕"),)),), dialect="openai_chat", **fields)
