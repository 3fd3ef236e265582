"""What CLOVA Studio sends, constructed from its documentation (providers.md A1.4 to A1.7): no recording of it is at hand.

Field names, event names and the order of events are the documentation's; texts and numbers are ours.
"""

from __future__ import annotations

import json
from typing import Any

from naru.protocol.dialect import Quirks
from naru.protocol.messages import Message, Request, Text

Json = dict[str, Any]

#: HCX-005 and HCX-DASH-002, HCX-007, and v1's models, as providers/clova.py has them.
V3 = Quirks(thinking_style="none", max_tokens_field="maxTokens", has_n=False)
THINKS = Quirks(thinking_style="clova_effort", max_tokens_field="maxCompletionTokens", has_n=False)
V1 = Quirks(
    thinking_style="none",
    max_tokens_field="maxTokens",
    has_n=False,
    renames=(("repetitionPenalty", "repeatPenalty"), ("stop", "stopBefore")),
)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def answer(message: Json, finish: str = "stop", **more: Any) -> bytes:
    """A whole v3 answer. The documentation's example has a total that is no sum, and so does this."""
    usage = {"promptTokens": 134, "completionTokens": 48, "totalTokens": 315}
    result = {
        "message": {"role": "assistant", "content": "", **message},
        "finishReason": finish,
        "created": 1744218663,
        "seed": 1354242582,
        "usage": {**usage, "completionTokensDetails": {"thinkingTokens": 12}},
        "aiFilter": [{"groupName": "curse", "name": "insult", "score": "1", "result": "OK"}],
        **more,
    }
    return compact({"status": {"code": "20000", "message": "OK"}, "result": result})


WEATHER = {
    "id": "call_x",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"location": "서울", "days": 1.50}},
}


def sse(name: str, data: Any, space: str = "") -> bytes:
    body = data if isinstance(data, bytes) else compact(data)
    return b"id:%bef40\nevent:%b%b\ndata:%b%b\n\n" % (
        (space.encode(), space.encode(), name.encode(), space.encode(), body)
    )


def token(message: Json, space: str = "") -> bytes:
    data = {
        "message": {"role": "assistant", "content": "", **message},
        "finishReason": None,
        "created": 1744710905,
        "seed": 3284419119,
        "usage": None,
    }
    return sse("token", data, space)


def result(message: Json, finish: str = "stop", space: str = "", **more: Any) -> bytes:
    data = {
        "message": {"role": "assistant", "content": "", **message},
        "finishReason": finish,
        "created": 1744710905,
        "seed": 3284419119,
        "usage": {"promptTokens": 20, "completionTokens": 5, "totalTokens": 25},
        "aiFilter": [{"groupName": "curse", "name": "insult", "score": "1", "result": "OK"}],
        **more,
    }
    return sse("result", data, space)


def fragment(text: str) -> Json:
    return {"toolCalls": [{"type": "function", "function": {"partialJson": text}}]}


def call_start(call_id: str, name: str) -> Json:
    return {"toolCalls": [{"id": call_id, "type": "function", "function": {"name": name}}]}


SIGNAL = sse("signal", {"data": "[DONE]"})

TEXT_STREAM = b"".join(
    [
        *(token({"thinkingContent": text}) for text in ("오늘", "은")),
        *(token({"content": text}) for text in ("안", "녕", " 👋")),
        result({"content": "안녕 👋", "thinkingContent": "오늘은"}),
        SIGNAL,
    ]
)
CALLS_STREAM = b"".join(
    [
        token(call_start("call_z", "get_weather")),
        *(token(fragment(text)) for text in ('{"', 'location":"서', '울"}')),
        token(call_start("call_y", "get_time")),
        result(
            {
                "toolCalls": [
                    {
                        "id": "call_z",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": {"location": "서울"}},
                    },
                    {"id": "call_y", "type": "function", "function": {"name": "get_time", "arguments": {}}},
                ]
            },
            "tool_calls",
        ),
    ]
)
ERROR_STREAM = token({"content": "안"}) + sse(
    "error", {"status": {"code": "42901", "message": "Too many requests - rate exceeded"}}
)
V1_STREAM = b"".join(
    [
        sse("token", {"message": {"role": "assistant", "content": "네"}, "inputLength": 0, "outputLength": 1}),
        sse(
            "result",
            {
                "message": {"role": "assistant", "content": "네"},
                "stopReason": "STOP_BEFORE",
                "inputLength": 7,
                "outputLength": 2,
            },
        ),
    ]
)


def request(*parts: Any, **fields: Any) -> Request:
    found = parts or (Text("안녕"),)
    return Request("HCX-005", (Message("user", found),), dialect="openai_chat", **fields)
