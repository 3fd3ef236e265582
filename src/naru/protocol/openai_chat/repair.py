"""What compatible servers get wrong, put right in raw fields: every other field keeps its exact bytes.

The list is providers.md A7.6: reasoning under another name, content as a list, arguments as an object or null, tool calls
without type, index or id, ids repeated, finish reasons of other vocabularies. Minted ids depend on nothing but the answer,
so that the same answer gives the same ids, whole or streamed.
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat.errors import failed_reason
from naru.protocol.openai_chat.think import ThinkSplitter
from naru.protocol.openai_chat.wire import FAILED_REASONS, FINISH_REASONS, STANDARD_REASONS
from naru.protocol.wire import (
    BAD_JSON,
    EMPTY_STRING,
    NULL,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
    unreadable,
)

_FUNCTION = Raw(b'"function"')
_CUSTOM = Raw(b'"custom"')
_ASSISTANT = Raw(b'"assistant"')


def mint_call_id(answer_id: str, choice: int, index: int, name: str) -> str:
    """An id for a tool call that came without one; 24 characters after `call_`, as OpenAI's have."""
    seed = f"{answer_id}\0{choice}\0{index}\0{name}".encode("utf-8", "surrogatepass")
    return f"call_{blake2b(seed, digest_size=12).hexdigest()}"


def mapped_reason(reason: str | None, has_calls: bool) -> str | None:
    """OpenAI's reason. Raises for reasons that mean the answer was given up."""
    if not reason:
        return None
    if reason in STANDARD_REASONS:
        mapped = reason
    else:
        lowered = reason.lower()
        if lowered in FAILED_REASONS:
            raise failed_reason(lowered)
        mapped = lowered if lowered in STANDARD_REASONS else FINISH_REASONS.get(lowered, reason)
    return "tool_calls" if has_calls and mapped in ("stop", "function_call") else mapped


def repair_reason(choice: Fields, has_calls: bool) -> None:
    raw = choice.get("finish_reason")
    reason = text_of(raw)
    mapped = mapped_reason(reason, has_calls)
    if mapped != reason or not is_null(raw):
        choice["finish_reason"] = NULL if mapped is None else raw_of(mapped)


def repair_texts(message: Fields, quirks: Quirks, think: ThinkSplitter | None) -> None:
    """Content, reasoning and refusal of a message or delta become strings under their OpenAI-side names."""
    if is_list(content := message.get("content")):
        _flatten_content(message, content)
    for alias in (quirks.thinking_field, "reasoning"):
        raw = message.get(alias)
        if raw is not None and not is_null(raw) and is_null(message.get("reasoning_content")):
            message["reasoning_content"] = raw
    for name in ("content", "reasoning_content", "reasoning", "refusal"):
        raw = message.get(name)
        if raw is not None and not is_null(raw) and text_of(raw) is None:
            message[name] = raw_of(bytes(raw).decode())  # a number or an object: its JSON text
    if think is not None and (text := text_of(message.get("content"))):
        reasoning, content_text = think.feed(text)
        put_think(message, reasoning, content_text)


def put_think(message: Fields, reasoning: str, content: str) -> None:
    if reasoning:
        message["reasoning_content"] = raw_of((text_of(message.get("reasoning_content")) or "") + reasoning)
    message["content"] = raw_of(content)


def _flatten_content(message: Fields, content: Raw) -> None:
    """Mistral's typed parts: text is joined, thinking goes to reasoning_content, the original stays if more is in it."""
    texts: list[str] = []
    thoughts: list[str] = []
    has_more = False
    for raw in decode_list(content):
        if is_object(raw):
            part = decode_fields(raw)
            kind = text_of(part.get("type"))
            if kind == "thinking":
                thoughts.append(_joined_text(part.get("thinking")))
                continue
            text = text_of(part.get("text"))
            has_more = has_more or text is None
            texts.append(text or "")
        else:
            texts.append(text_of(raw) or "")
    message["content"] = raw_of("".join(texts))
    if thoughts and is_null(message.get("reasoning_content")):
        message["reasoning_content"] = raw_of("".join(thoughts))
    if has_more:
        message["content_parts"] = content


def _joined_text(thinking: Raw | None) -> str:
    """Mistral's `thinking` is a list of text parts; a plain string is taken as well."""
    if not is_list(thinking):
        return text_of(thinking) or ""
    parts = [decode_fields(raw) for raw in decode_list(thinking) if is_object(raw)]
    return "".join(text_of(part.get("text")) or "" for part in parts)


def arguments_text(raw: Raw | None) -> Raw:
    """The arguments as a JSON string: an object becomes its own text, null or absent the empty string."""
    if raw is None or is_null(raw):
        return EMPTY_STRING
    return raw if text_of(raw) is not None else raw_of(bytes(raw).decode())


def repair_function(call: Fields, key: str) -> str:
    """`function` (or the legacy `function_call`) with its arguments as text; returns the name, which may be empty."""
    if not is_object(raw := call.get(key)):
        raise unreadable("a tool call without a function")
    function = decode_fields(raw)
    function["arguments"] = arguments_text(function.get("arguments"))
    name = text_of(function.get("name"))
    if name is None:
        function["name"] = EMPTY_STRING
    call[key] = raw_of(function)
    return name or ""


def repair_custom(call: Fields) -> str:
    if not is_object(raw := call.get("custom")):
        raise unreadable("a tool call without a function")
    custom = decode_fields(raw)
    custom["input"] = arguments_text(custom.get("input"))
    name = text_of(custom.get("name"))
    if name is None:
        custom["name"] = EMPTY_STRING
    call["custom"] = raw_of(custom)
    return name or ""


def repair_calls(message: Fields, answer_id: str, choice: int) -> bool:
    """The tool calls of a whole message; returns whether there are any."""
    if is_object(message.get("function_call")):
        repair_function(message, "function_call")
    else:
        message.pop("function_call", None)
    raw_calls = message.get("tool_calls")
    if not is_list(raw_calls):
        if raw_calls is not None and not is_null(raw_calls):
            raise unreadable("tool_calls is not a list")
        return False
    seen: set[str] = set()
    calls = [_repaired_call(raw, seen, answer_id, choice) for raw in decode_list(raw_calls)]
    message["tool_calls"] = raw_of(calls)
    return bool(calls)


def _repaired_call(raw: Raw, seen: set[str], answer_id: str, choice: int) -> Fields:
    if not is_object(raw):
        raise unreadable("a tool call that is not an object")
    call = decode_fields(raw)
    is_custom = "custom" in call and not is_object(call.get("function"))
    name = repair_custom(call) if is_custom else repair_function(call, "function")
    if not text_of(call.get("type")):
        call["type"] = _CUSTOM if is_custom else _FUNCTION
    given = text_of(call.get("id"))
    if not given or given in seen:
        call["id"] = raw_of(given := mint_call_id(answer_id, choice, len(seen), name))
    seen.add(given)
    return call


def repair_choice(raw: Raw, position: int, answer_id: str, quirks: Quirks) -> Fields:
    """One choice of a whole answer."""
    if not is_object(raw):
        raise unreadable("a choice that is not an object")
    choice = decode_fields(raw)
    if not is_object(message_raw := choice.get("message")):
        raise unreadable("a choice without a message")
    message = decode_fields(message_raw)
    if text_of(message.get("role")) is None:
        message["role"] = _ASSISTANT
    think = ThinkSplitter(quirks.think_tag) if quirks.think_tag != "none" else None
    repair_texts(message, quirks, think)
    if think is not None:
        reasoning, rest = think.close()
        if reasoning or rest:
            put_think(message, reasoning, (text_of(message.get("content")) or "") + rest)
    index = index_of(choice, position)
    has_calls = repair_calls(message, answer_id, index)
    repair_reason(choice, has_calls)
    choice["message"] = raw_of(message)
    return choice


def index_of(choice: Fields, position: int) -> int:
    """The choice's number; where it is missing or not a number, its place in the list."""
    raw = choice.get("index")
    digits = bytes(raw) if raw is not None else b""
    if digits.isdigit() and len(digits) < 6:
        return int(digits)
    choice["index"] = raw_of(position)
    return position


def object_fields(data: bytes | Raw) -> Fields:
    """The top level of an answer or a chunk. Raises UpstreamBroken for anything but an object."""
    try:
        return decode_fields(data)
    except BAD_JSON:
        raise unreadable("it is not a JSON object") from None
