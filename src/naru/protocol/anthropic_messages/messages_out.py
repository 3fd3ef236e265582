"""Typed messages to Anthropic's: one system prompt, turns that alternate, tool results first.

The rules (providers.md A4.3): every tool_use is answered in the next user message, results before anything else; turns of
the same role are one turn; empty text blocks are refused; a last assistant message is the beginning of the answer and must
not end in white space. What this dialect itself decoded is written back as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from naru.protocol.anthropic_messages.blocks import SIGNED_BY, file_block, image_block, unsupported
from naru.protocol.anthropic_messages.names import MAX_NAME_CHARS, tool_id, tool_name
from naru.protocol.anthropic_messages.wire import NAME, input_of
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
from naru.protocol.wire import text_of

Out = dict[str, Any]


class MessageWriter:
    """`dropped` collects the names of what had to be left out."""

    def __init__(self, owns_extra: bool) -> None:
        self._owns_extra = owns_extra
        self.dropped: list[str] = []

    def write(self, messages: Iterable[Message]) -> tuple[Any, list[Out]]:
        """(`system`, `messages`). The system messages at the head become the system prompt; None without any."""
        rest = list(messages)
        head: list[Message] = []
        while rest and rest[0].role in ("system", "developer"):
            head.append(rest.pop(0))
        turns = [self._turn(message) for message in rest]
        if not self._owns_extra:
            turns = _prefill(_merged(turns))
        return self._system(head), [_shortened(turn) for turn in turns]

    def _system(self, head: list[Message]) -> Any:
        blocks = [block for message in head for block in self._blocks(message)]
        if any(block.get("type") != "text" for block in blocks):
            raise unsupported("anything but text in a system message")
        if not self._owns_extra:
            # Of several system messages each is a paragraph of its own (providers.md A0.1).
            return "\n\n".join(block["text"] for block in blocks) or None
        return _plain(blocks) if blocks else None

    def _turn(self, message: Message) -> Out:
        role = "user" if message.role == "tool" else message.role
        if role in ("system", "developer"):
            # Later system messages are known to some models only; to a user turn they are the same words.
            role = "system" if self._owns_extra else "user"
        if message.name is not None:
            self.dropped.append("messages.name")
        blocks = self._blocks(message)
        if not self._owns_extra and role == "user":
            blocks.sort(key=lambda block: block.get("type") != "tool_result")
        return self._with_extra({"role": role, "content": blocks}, message.extra)

    def _blocks(self, message: Message) -> list[Out]:
        blocks: list[Out] = []
        for part in message.parts:
            if message.role == "assistant" and isinstance(part, Image | Audio | File):
                raise unsupported("images, sound and files in an assistant message")
            block = self._block(part)
            if block is not None:
                blocks.append(block)
        return blocks

    def _block(self, part: Part) -> Out | None:
        """None for what has to be left out: blank text, and thinking that Anthropic has not signed."""
        if isinstance(part, Text):
            if not part.text.strip() and not self._owns_extra:
                return None
            return self._with_extra({"type": "text", "text": part.text}, part.extra)
        if isinstance(part, Image):
            if part.detail is not None:
                self.dropped.append("messages.image_url.detail")
            return self._with_extra(image_block(part), part.extra)
        if isinstance(part, File):
            return self._with_extra(file_block(part), part.extra)
        if isinstance(part, ToolCall):
            return self._with_extra(call_block(part), part.extra)
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Reasoning):
            return self._thinking(part)
        if isinstance(part, Refusal):
            return {"type": "text", "text": part.text} if part.text.strip() else None
        if isinstance(part, Opaque) and part.dialect == NAME:
            return OpaqueBlock(part)
        raise unsupported(f"a part of the kind `{part.kind}`" if isinstance(part, Opaque) else "sound")

    def _thinking(self, part: Reasoning) -> Out | None:
        signer = text_of(part.extra.get(SIGNED_BY)) if self._owns_extra else None
        if (part.signature is None and part.encrypted is None) or signer not in (None, NAME):
            # Anthropic refuses thinking that it has not signed itself; a turn without its thinking is accepted.
            self.dropped.append("messages.reasoning")
            return None
        return self._with_extra(thinking_block(part), part.extra)

    def _result(self, part: ToolResult) -> Out:
        block: Out = {"type": "tool_result", "tool_use_id": tool_id(part.call_id)}
        content = [inner for each in part.parts if (inner := self._block(each)) is not None]
        if self._owns_extra and "content" in part.extra:
            block["content"] = part.extra["content"]
        elif content:
            block["content"] = _plain(content)
        if part.is_error:
            block["is_error"] = True
        return self._with_extra(block, part.extra)

    def _with_extra(self, fields: Out, extra: Extra) -> Out:
        if not extra:
            return fields
        if self._owns_extra:
            return {**{name: raw for name, raw in extra.items() if name != SIGNED_BY}, **fields}
        self.dropped += [f"messages.{name}" for name in extra]
        return fields


class OpaqueBlock(dict[str, Any]):
    """A block written as it came; seen as a dict only to tell its type."""

    def __init__(self, part: Opaque) -> None:
        super().__init__(type=part.kind)
        self.raw = part.raw


def call_block(call: ToolCall) -> Out:
    name = tool_name(call.name)
    if len(name) > MAX_NAME_CHARS:
        raise unsupported(f"a tool's name of more than {MAX_NAME_CHARS} characters")
    return {"type": "tool_use", "id": tool_id(call.id), "name": name, "input": input_of(call.arguments)}


def thinking_block(part: Reasoning) -> Out:
    """A thinking block; a redacted one where there is nothing but its encrypted form."""
    if part.encrypted is not None and part.signature is None and not part.text:
        return {"type": "redacted_thinking", "data": part.encrypted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}


def _merged(turns: list[Out]) -> list[Out]:
    """Turns of one role become one; a turn with nothing left in it is none."""
    merged: list[Out] = []
    for turn in turns:
        if not turn["content"]:
            continue
        if merged and merged[-1]["role"] == turn["role"]:
            blocks = [*merged[-1]["content"], *turn["content"]]
            if turn["role"] == "user":
                blocks.sort(key=lambda block: block.get("type") != "tool_result")
            merged[-1] = {**merged[-1], "content": blocks}
        else:
            merged.append(turn)
    return merged


def _prefill(turns: list[Out]) -> list[Out]:
    if not turns or turns[-1]["role"] != "assistant" or turns[-1]["content"][-1].get("type") != "text":
        return turns
    last = turns[-1]["content"][-1]
    rest = {**last, "text": last["text"].rstrip()}  # blank texts were left out before, so something remains
    return [*turns[:-1], {**turns[-1], "content": [*turns[-1]["content"][:-1], rest]}]


def _shortened(turn: Out) -> Out:
    return {**turn, "content": _plain(turn["content"])}


def _plain(blocks: list[Out]) -> Any:
    """A string where it is one plain text; opaque blocks as the bytes they are."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return [block.raw if isinstance(block, OpaqueBlock) else block for block in blocks]
