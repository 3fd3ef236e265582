"""Typed messages to Gemini's contents.

What another dialect spread over several messages is put together where Gemini wants it so: system messages into one
instruction, the results of one turn into one content in the order of the calls (providers.md A6.2). A caller's own contents
stay as they were cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.gemini.parts import (
    Out,
    args_fields,
    call_fields,
    media_fields,
    thought_fields,
    unsupported,
    with_extra,
)
from naru.protocol.gemini.wire import NAME
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
from naru.protocol.wire import BAD_JSON, EMPTY_OBJECT, decode_any, decode_fields, is_object, raw_of, text_of

#: Stands in for the signature of a call that Gemini 3 did not make itself, or whose signature was lost (A6.5).
NO_SIGNATURE = "skip_thought_signature_validator"


class ContentWriter:
    """`dropped` collects the names of what had to be left out; `system` the parts of the one instruction."""

    def __init__(self, quirks: Quirks, owns_extra: bool) -> None:
        self._owns_extra = owns_extra
        self._signs_calls = quirks.thinking_style == "gemini_level" and not owns_extra
        self._calls: dict[str, tuple[int, str]] = {}  # id -> place among all calls, name
        self.dropped: list[str] = []
        self.system: Out | None = None

    def contents(self, messages: Iterable[Message]) -> list[Out]:
        """Never empty: Gemini refuses a request without contents, even if all is said in the instruction."""
        written: list[Out] = []
        last = ""
        for message in messages:
            if message.role in ("system", "developer"):
                self._add_system(message)
                continue
            kind = self._kind(message)
            parts = self._parts(message)
            if not parts and not self._owns_extra:
                continue
            if kind == last and not self._owns_extra:
                written[-1]["parts"] += parts
            else:
                role = "model" if message.role == "assistant" else "user"
                written.append(self._with_extra({"role": role, "parts": parts}, message.extra))
            last = kind
        if not self._owns_extra:
            for content in written:
                self._tidy(content)
        return written or [{"role": "user", "parts": [{"text": " "}]}]

    def _kind(self, message: Message) -> str:
        if message.role == "assistant":
            return "model"
        is_results = bool(message.parts) and all(isinstance(part, ToolResult) for part in message.parts)
        return "results" if is_results else "user"

    def _add_system(self, message: Message) -> None:
        parts = [self._part(part, message) for part in message.parts]
        if not all("text" in part for part in parts):
            raise unsupported("anything but text in a system message")
        if self.system is None:
            self.system = self._with_extra({"parts": parts}, message.extra)
        else:
            self.system["parts"] += parts

    def _parts(self, message: Message) -> list[Out]:
        if message.name is not None:
            self.dropped.append("messages.name")
        parts: list[Out] = []
        for part in message.parts:
            if isinstance(part, Reasoning) and not self._can_replay(part):
                continue
            if isinstance(part, Text) and not part.text and len(message.parts) > 1 and not self._owns_extra:
                continue  # an empty text beside calls is how chat completions write "no text"
            parts.append(self._part(part, message))
        return parts

    def _can_replay(self, part: Reasoning) -> bool:
        """Thoughts go back only to Gemini, which alone can tell its own; nobody has to send them (A6.5)."""
        if self._owns_extra and part.signature is None and part.encrypted is None:
            return True
        self.dropped.append("messages.reasoning")
        return False

    def _part(self, part: Part, message: Message) -> Any:
        if not self._owns_extra and not isinstance(part, Opaque | Refusal):
            self._note_extra(part.extra)
        if isinstance(part, Text):
            return self._with_extra({"text": part.text}, part.extra)
        if isinstance(part, Refusal):
            return {"text": part.text}
        if isinstance(part, Reasoning):
            return thought_fields(part, self._owns_extra)
        if isinstance(part, Image | Audio | File):
            if isinstance(part, Image) and part.detail not in (None, "auto"):
                self.dropped.append("messages.image.detail")
            if isinstance(part, File) and part.filename is not None and not self._owns_extra:
                self.dropped.append("messages.file.filename")
            return media_fields(part, self._owns_extra)
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if part.dialect == NAME:
            return part.raw
        raise unsupported(f"a part of the kind `{part.kind}`")

    def _call(self, call: ToolCall) -> Out:
        self._calls[call.id] = (len(self._calls), call.name)
        args = args_fields(call)
        if args is None:  # text that is no JSON object: a model's slip, kept so that the model sees it
            args = {"arguments": call.arguments}
        out = call_fields(call, args, self._owns_extra)
        if call.signature is None and not self._owns_extra and (signature := _google_signature(call.extra)) is not None:
            out["thoughtSignature"] = signature
        return out

    def _result(self, result: ToolResult) -> Out:
        _, name = self._calls.get(result.call_id, (0, None))
        name = result.name or name
        if not name:
            raise unsupported(f"the result of the call `{result.call_id}`, which no earlier message makes")
        media = [part for part in result.parts if not isinstance(part, Text)]
        said = "".join(part.text for part in result.parts if isinstance(part, Text))
        inner: Out = {"id": result.call_id, "name": name, "response": _response_fields(said, result.is_error)}
        if media:
            inner["parts"] = [media_fields(part, self._owns_extra) for part in media]
        return with_extra({"functionResponse": inner}, result.extra, self._owns_extra)

    def _tidy(self, content: Out) -> None:
        """Results in the order of their calls; the first call of a step signed, as Gemini 3 insists."""
        parts = content["parts"]
        if all(isinstance(part, dict) and "functionResponse" in part for part in parts):
            last = len(self._calls)
            parts.sort(key=lambda part: self._calls.get(part["functionResponse"]["id"], (last, ""))[0])
        if self._signs_calls:
            first = next((part for part in parts if isinstance(part, dict) and "functionCall" in part), None)
            if first is not None:
                first.setdefault("thoughtSignature", NO_SIGNATURE)

    def _with_extra(self, fields: Out, extra: Extra) -> Out:
        if self._owns_extra:
            return {**extra, **fields} if extra else fields
        return fields

    def _note_extra(self, extra: Extra) -> None:
        self.dropped += [f"messages.{name}" for name in extra if name != "extra_content"]


def _response_fields(said: str, is_error: bool) -> Raw | Out:
    """A function's answer as the object that Gemini needs: a JSON object as it is, anything else under a name."""
    if is_error:
        return {"error": said}
    try:
        value = decode_any(said.encode()) if said.lstrip().startswith("{") else None
    except (*BAD_JSON, UnicodeEncodeError):
        value = None
    if not isinstance(value, dict):
        return {"result": said}
    # An object that reads like our own wrapping would be unwrapped on its way back.
    is_ours = len(value) == 1 and any(isinstance(value.get(name), str) for name in ("result", "output", "error"))
    return {"result": said} if is_ours else Raw(said.encode())


def _google_signature(extra: Extra) -> Raw | None:
    """The signature in the form of Google's own compatible endpoint: extra_content.google.thought_signature (A6.1)."""
    raw = extra.get("extra_content", EMPTY_OBJECT)
    if not is_object(raw) or not is_object(google := decode_fields(raw).get("google")):
        return None
    signature = text_of(decode_fields(google).get("thought_signature"))
    return raw_of(signature) if signature else None
