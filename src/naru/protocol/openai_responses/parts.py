"""Items and parts, both ways, as requests and answers share them.

Fields without a type of their own travel in the part's `extra`: a call's and a reasoning item's under their own names; a
message item's under `item.<name>` with the first of its texts, a text part's own beside them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from naru.protocol.messages import Extra, Reasoning, Refusal, Text, ToolCall
from naru.protocol.openai_responses.wire import NAME, items_of, prefixed, texts_of, unprefixed
from naru.protocol.seal import seal, unseal
from naru.protocol.wire import Fields, is_list, raw_of, rest_of, text_of

Out = dict[str, Any]

ITEM = "item."
#: In the extra of reasoning: the structure of a text that is not one summary, and what only its own provider can read.
SUMMARY, CONTENT, ENCRYPTED = "summary", "content", "encrypted_content"
#: Whose signature a part carries, where a client sent back what was sealed for it.
SIGNED_BY = "signed_by"

MESSAGE_KEYS = frozenset({"type", "role", "content", "status"})
TEXT_KEYS = frozenset({"type", "text"})
CALL_KEYS = frozenset({"type", "call_id", "name", "arguments", "input", "status"})
_REASONING_KEYS = frozenset({"type", "status", SUMMARY, CONTENT, ENCRYPTED})

#: Between the parts of one item's reasoning, which OpenAI writes as paragraphs with a heading each.
PARAGRAPH = "\n\n"


def message_extra(item: Fields) -> Extra:
    return prefixed(rest_of(item, MESSAGE_KEYS), ITEM)


def text_extra(part: Fields, known: frozenset[str] = TEXT_KEYS) -> Extra:
    """Without empty `annotations` and `logprobs`, which every text has."""
    extra = rest_of(part, known)
    for name in ("annotations", "logprobs"):
        if name in extra and bytes(extra[name]) == b"[]":
            del extra[name]
    return extra


def call_extra(item: Fields) -> Extra:
    return rest_of(item, CALL_KEYS)


def reasoning_text(item: Fields, form: str = "") -> str:
    """The text of a reasoning item: its summary, or its content where it has none, or what `form` names."""
    texts = texts_of(item.get(form or SUMMARY))
    if not texts and not form:
        texts = texts_of(item.get(CONTENT))
    return PARAGRAPH.join(texts)


def reasoning_extra(item: Fields, text: str) -> Extra:
    """The item's other fields, and its structure where that is more than one summary text."""
    extra = rest_of(item, _REASONING_KEYS)
    summary, content = items_of(item.get(SUMMARY)), items_of(item.get(CONTENT))
    is_plain = not content and (not summary or summary == [{"type": raw_of("summary_text"), "text": raw_of(text)}])
    if not is_plain:
        extra |= {name: item[name] for name in (SUMMARY, CONTENT) if is_list(item.get(name))}
    return extra


def read_reasoning(item: Fields) -> Reasoning:
    """A reasoning item that a caller sent back.

    What Naru sealed for the caller is opened. Another blob is OpenAI's and of no use to anyone else, who might even refuse
    the request for it (providers.md B2.4), so it stays in `extra`.
    """
    text = reasoning_text(item)
    extra = reasoning_extra(item, text)
    blob = text_of(item.get(ENCRYPTED))
    sealed = unseal(blob) if blob else None
    if sealed is None:
        return Reasoning(text, extra={**extra, ENCRYPTED: raw_of(blob)} if blob else extra)
    return Reasoning(text, sealed.signature, sealed.encrypted, {**extra, SIGNED_BY: raw_of(sealed.dialect)})


def read_call(item: Fields) -> ToolCall:
    """A function call, or a custom one with its free text as arguments."""
    is_custom = text_of(item.get("type")) == "custom_tool_call"
    return ToolCall(
        id=text_of(item.get("call_id")) or text_of(item.get("id")) or "",
        name=text_of(item.get("name")) or "",
        arguments=text_of(item.get("input" if is_custom else "arguments")) or "",
        kind="custom" if is_custom else "function",
        extra=call_extra(item),
    )


# --- Out ----------------------------------------------------------------------------------------------------------


def text_part(text: str, extra: Extra, logprobs: list[Raw] | None = None) -> Out:
    """`annotations` and `logprobs` are read unasked by clients."""
    own = {name: raw for name, raw in extra.items() if not name.startswith(ITEM)}
    return {"annotations": [], "logprobs": logprobs or [], **own, "type": "output_text", "text": text}


def refusal_part(text: str) -> Out:
    return {"type": "refusal", "refusal": text}


def message_item(item_id: str, parts: Iterable[Out], extra: Extra, status: str = "completed") -> Out:
    fields: Out = {"id": item_id, **unprefixed(extra, ITEM), "type": "message", "role": "assistant"}
    return {**fields, "status": status, "content": list(parts)}


def said_parts(parts: Iterable[Text | Refusal], owns_extra: bool) -> list[Out]:
    return [
        text_part(part.text, part.extra if owns_extra else {}) if isinstance(part, Text) else refusal_part(part.text)
        for part in parts
    ]


def reasoning_item(item_id: str, part: Reasoning, dialect: str) -> Out:
    """Reasoning as an answer's item. What another dialect's provider signed or encrypted goes out sealed, so that the
    caller can send it back; it is not authenticated, since its provider checks it."""
    fields: Out = {"id": item_id, "type": "reasoning", SUMMARY: _summary(part.text)}
    blob = part.encrypted
    if dialect == NAME:
        fields = {**fields, **{name: raw for name, raw in part.extra.items() if name != SIGNED_BY}}
        if CONTENT in part.extra and SUMMARY not in part.extra:
            fields[SUMMARY] = []
        if part.signature is not None or SIGNED_BY in part.extra:
            blob = seal(text_of(part.extra.get(SIGNED_BY)) or NAME, part.signature, part.encrypted)
    elif part.signature is not None or part.encrypted is not None:
        blob = seal(dialect, part.signature, part.encrypted)
    if blob is not None:
        fields[ENCRYPTED] = blob
    return fields


def _summary(text: str) -> list[Out]:
    return [{"type": "summary_text", "text": text}] if text else []


def call_item(item_id: str, call: ToolCall, owns_extra: bool, status: str = "completed") -> Out:
    """`extra` of a call may give its own id. A custom call has no status (SDK 3.52, ResponseCustomToolCall)."""
    own = call.extra if owns_extra else {}
    head: Out = {"id": item_id, **own, "call_id": call.id, "name": call.name}
    if call.kind == "custom":
        return {**head, "type": "custom_tool_call", "input": call.arguments}
    return {**head, "type": "function_call", "arguments": call.arguments, "status": status}
