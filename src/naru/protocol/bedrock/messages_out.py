"""Typed messages to Converse's: a system prompt, turns that alternate, results of tools in the user's turn.

Every turn holds something, a call's result comes before anything else in the turn after it, and turns of one role are one.
A mark of a cache (`cache_control`, as Anthropic has it) becomes a cachePoint after the block it stands on.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.names import tool_name
from naru.protocol.anthropic_messages.wire import NAME as ANTHROPIC
from naru.protocol.anthropic_messages.wire import input_of
from naru.protocol.bedrock.media import audio_block, document_block, image_block, unsupported
from naru.protocol.bedrock.wire import BAD_JSON, NAME
from naru.protocol.messages import (
    Audio,
    Extra,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.wire import is_object, text_of

Out = dict[str, Any]

MAX_NAME_CHARS = 64
_MAX_ID_CHARS = 64
_ID_MARKS = "_.:-"
#: Whose signature a client sent back with a thought, in its `extra`. Claude's own hold at every door to Claude.
_SIGNED_BY = "signed_by"
_SIGNERS = (None, NAME, ANTHROPIC)
CACHE_MARK = "cache_control"
_HOUR = b'"1h"'


class MessageWriter:
    """`dropped` collects the names of what had to be left out; `called` the tools that the history calls."""

    def __init__(self, has_cache: bool) -> None:
        self._has_cache = has_cache
        self._documents = 0
        self.dropped: list[str] = []
        self.called: dict[str, None] = {}

    def write(self, messages: Iterable[Message]) -> tuple[list[Out], list[Out]]:
        """(`system`, `messages`). Later system messages are a user's words."""
        rest = list(messages)
        system: list[Out] = []
        while rest and rest[0].role in ("system", "developer"):
            system += self._blocks(rest.pop(0))
        if any(block.keys() - {"text", "cachePoint"} for block in system):
            raise unsupported("anything but text in a system message")
        return system, self._turns(rest)

    def cache_point(self, extra: Extra) -> list[Out]:
        """The point after a block that carries a mark."""
        mark = extra.get(CACHE_MARK)
        if mark is None or not is_object(mark):
            return []
        if not self._has_cache:
            self.dropped.append(CACHE_MARK)
            return []
        point = {"type": "default", **({"ttl": "1h"} if _HOUR in bytes(mark) else {})}
        return [{"cachePoint": point}]

    def _turns(self, messages: list[Message]) -> list[Out]:
        turns: list[Out] = []
        for message in messages:
            if message.name is not None:
                self.dropped.append("messages.name")
            role = "assistant" if message.role == "assistant" else "user"
            blocks = self._blocks(message)
            if not blocks:
                continue
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            else:
                turns.append({"role": role, "content": blocks})
        for turn in turns:
            if turn["role"] == "user":
                # A stable sort would part a cachePoint from its block, so results are taken out in front instead.
                turn["content"] = _results_first(turn["content"])
        last = turns[-1]["content"][-1] if turns and turns[-1]["role"] == "assistant" else {}
        if "text" in last:
            last["text"] = last["text"].rstrip()  # the beginning of the answer must not end in white space
        return turns

    def _blocks(self, message: Message) -> list[Out]:
        blocks: list[Out] = []
        for part in message.parts:
            block = self._block(part)
            if block is None:
                continue
            blocks.append(block)
            extra: Extra = getattr(part, "extra", {})
            if isinstance(part, ToolResult):  # a mark inside a result holds for the result
                extra = {name: raw for inner in part.parts for name, raw in inner.extra.items()} | extra
            blocks += self.cache_point(extra)
            self.dropped += [f"messages.{name}" for name in extra if name not in (CACHE_MARK, _SIGNED_BY)]
        return blocks

    def _block(self, part: Part) -> Out | None:
        """None for what leaves nothing."""
        if isinstance(part, Text | Refusal):
            return {"text": part.text} if part.text.strip() else None  # blank texts are refused
        if isinstance(part, Image):
            if part.detail not in (None, "auto"):
                self.dropped.append("messages.image.detail")
            return image_block(part)
        if isinstance(part, Audio):
            return audio_block(part)
        if isinstance(part, File):
            self._documents += 1
            return document_block(part, self._documents)
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Reasoning):
            return self._thinking(part)
        raise unsupported(f"a part of the kind `{part.kind}`" if isinstance(part, Opaque) else type(part).__name__)

    def _thinking(self, part: Reasoning) -> Out | None:
        signer = text_of(part.extra.get(_SIGNED_BY))
        if signer in _SIGNERS and part.signature is not None:
            return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}
        if signer in _SIGNERS and part.encrypted is not None and not part.text:
            return {"reasoningContent": {"redactedContent": part.encrypted}}
        self.dropped.append("messages.reasoning")  # unsigned, or signed by a stranger: refused
        return None

    def _call(self, call: ToolCall) -> Out:
        name = checked_name(call.name)
        self.called[name] = None
        return {"toolUse": {"toolUseId": tool_id(call.id), "name": name, "input": input_of(call.arguments)}}

    def _result(self, result: ToolResult) -> Out:
        content = [block for part in result.parts if (block := self._block(part)) is not None]
        fields: Out = {"toolUseId": tool_id(result.call_id), "content": content or [{"text": "(empty)"}]}
        if result.is_error:
            fields["status"] = "error"
        return {"toolResult": fields}


def _results_first(blocks: list[Out]) -> list[Out]:
    first: list[Out] = []
    rest: list[Out] = []
    into = rest
    for block in blocks:
        if "cachePoint" not in block:
            into = first if "toolResult" in block else rest
        into.append(block)
    return first + rest


def checked_name(given: str) -> str:
    """A tool's name as Converse takes it. Raises BadRequest for one that is too long."""
    name = tool_name(given)
    if len(name) > MAX_NAME_CHARS:
        raise BadRequest(
            f"The tool name `{given[:MAX_NAME_CHARS]}` is too long: this model's API takes {MAX_NAME_CHARS} characters of "
            "letters, digits, `_` and `-`. Shorten it.",
            code="unsupported_value",
            param="tools",
        )
    return name


def tool_id(given: str) -> str:
    """The id as Converse takes it: itself where it can be, else one that the same id always gives."""
    if 0 < len(given) <= _MAX_ID_CHARS and given.isascii() and all(c.isalnum() or c in _ID_MARKS for c in given):
        return given
    return f"tooluse_{blake2b(given.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def schema_object(raw: Raw | None) -> Any:
    """A tool's schema, which must be an object's at its top."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw]) if raw is not None and is_object(raw) else {}
    except BAD_JSON:
        fields = {}
    if not fields:
        return {"type": "object", "properties": {}}
    return raw if "type" in fields else {"type": "object", **fields}
