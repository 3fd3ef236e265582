"""The JSON of generateContent: field names, and helpers for layered raw JSON.

A body is taken apart layer by layer into `dict[str, Raw]`, so that every field nobody asked for keeps its exact bytes.

Google reads every field under two names, lowerCamelCase and the snake_case of its protocol buffers (its own SDK sends
both in one body: recorded). Naru knows the first; `canonical` turns the second into it, level by level, and refuses a body
that gives one field under both names: which of them would count is the upstream's guess.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.messages import Extra
from naru.protocol.wire import Fields, decode_list, is_list, is_null, is_object

NAME = "gemini"

Aliases = dict[str, str]


def items_of(raw: Raw | None) -> list[Raw]:
    """A list's items. One object stands for a list of one, as Google reads it; anything else for none."""
    if is_list(raw):
        return decode_list(raw)
    return [raw] if is_object(raw) else []


def compact(raw: Raw | bytes) -> str:
    """JSON text without blanks, every digit kept. Google indents its answers."""
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def prefixed(extra: Extra, prefix: str) -> dict[str, Any]:
    """The fields of an `extra` that stood one level deeper, by their own names."""
    return {name.removeprefix(prefix): raw for name, raw in extra.items() if name.startswith(prefix)}


def nest(fields: Fields, prefix: str) -> Extra:
    return {prefix + name: raw for name, raw in fields.items() if not is_null(raw)}


# --- Names ----------------------------------------------------------------------------------------------------------


def aliases_of(*camel: str) -> Aliases:
    """snake_case -> lowerCamelCase, for the names where the two differ."""
    pairs = ((re.sub("[A-Z]", lambda found: "_" + found[0].lower(), name), name) for name in camel)
    return {snake: name for snake, name in pairs if snake != name}


TOP_NAMES = aliases_of(
    "systemInstruction", "toolConfig", "generationConfig", "safetySettings", "cachedContent", "serviceTier"
)
CONFIG_NAMES = aliases_of(
    "maxOutputTokens", "topP", "topK", "stopSequences", "candidateCount", "presencePenalty", "frequencyPenalty",
    "responseMimeType", "responseSchema", "responseJsonSchema", "responseLogprobs", "thinkingConfig",
    "responseModalities", "speechConfig", "mediaResolution", "audioTimestamp",
)  # fmt: skip
THINKING_NAMES = aliases_of("includeThoughts", "thinkingBudget", "thinkingLevel")
PART_NAMES = aliases_of(
    "thoughtSignature", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
    "codeExecutionResult", "toolCall", "toolResponse", "videoMetadata", "partMetadata", "mediaResolution",
)  # fmt: skip
BLOB_NAMES = aliases_of("mimeType", "displayName", "fileUri")
FUNCTION_NAMES = aliases_of("willContinue", "partialArgs")
TOOL_NAMES = aliases_of(
    "functionDeclarations", "googleSearch", "googleSearchRetrieval", "codeExecution", "urlContext", "fileSearch",
    "computerUse", "googleMaps", "enterpriseWebSearch", "mcpServers",
)  # fmt: skip
DECLARATION_NAMES = aliases_of("parametersJsonSchema", "responseJsonSchema")
TOOL_CONFIG_NAMES = aliases_of("functionCallingConfig", "retrievalConfig", "includeServerSideToolInvocations")
CALLING_NAMES = aliases_of("allowedFunctionNames", "streamFunctionCallArguments")


def canonical(fields: Fields, aliases: Aliases) -> Fields:
    """The fields under their lowerCamelCase names, in the order given. Raises BadRequest for one given under both."""
    if aliases.keys().isdisjoint(fields):
        return fields
    found: Fields = {}
    for name, raw in fields.items():
        camel = aliases.get(name, name)
        if camel != name and camel in fields:
            raise given_twice(f"{camel}` and `{name}", camel)
        found[camel] = raw
    return found


def given_twice(names: str, param: str) -> BadRequest:
    return BadRequest(
        f"The field `{names}` is given more than once. Send each field once, so that what is checked is what is sent on.",
        code="duplicate_parameter",
        param=param,
    )


def wrong(param: str, what: str) -> BadRequest:
    return BadRequest(f"`{param}` must be {what}.", code="invalid_value", param=param)


# --- Small values ---------------------------------------------------------------------------------------------------


def mint_call_id(answer_id: str, choice: int, index: int, name: str) -> str:
    """An id for a call that came without one, which is the rule with Gemini; the same answer gives the same ids."""
    seed = f"{answer_id}\0{choice}\0{index}\0{name}".encode("utf-8", "surrogatepass")
    return f"call_{blake2b(seed, digest_size=12).hexdigest()}"


def unix_of(text: str | None) -> int:
    """Whole seconds of an RFC 3339 time; 0 for anything else."""
    if not text:
        return 0
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return 0


def rfc3339(seconds: int) -> str | None:
    """None outside the calendar, and for 0, which means unknown."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else None
    except (ValueError, OverflowError, OSError):
        return None
