"""What the plain families share: embeddings and rerank, one body in, one body out, never streamed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.errors import BadRequest, UpstreamBroken, UpstreamError
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.errors import error_inside
from naru.protocol.openai_chat.read import DENIED, _fields_of
from naru.protocol.openai_chat.usage import MAX_TOKENS
from naru.protocol.openai_chat.wire import BAD_JSON, Fields, decode_fields, is_null, is_object, text_of
from naru.protocol.tokens import estimate_tokens_bytes

MODEL_RULE = (
    "`model` must be a non-empty string of at most 512 characters: the name of one of the models at /v1/models."
)
#: The estimate goes by bytes, four to a token (tokens.py); a caller's token ids count as so many bytes each.
TOKEN_BYTES = 4


class PlainRequest(Struct, frozen=True, kw_only=True):
    """What every typed request of a plain family has."""

    model: str


class PlainResponse(Struct, frozen=True, kw_only=True):
    """What every typed response of a plain family has. `usage` None: the upstream reported none that can be believed."""

    usage: Usage | None = None


# --- Requests -----------------------------------------------------------------------------------------------------


def read_fields(body: bytes) -> Fields:
    """The body's fields, each given once, none of them one that chooses the address. Raises BadRequest."""
    fields = _fields_of(body)
    if not DENIED.isdisjoint(fields):
        raise denied(min(DENIED & fields.keys()))
    return fields


def denied(name: str) -> BadRequest:
    return BadRequest(
        f"`{name}` is not accepted: where a request goes, and with which credential, is the gateway's to decide. "
        "Remove the field.",
        code="unsupported_parameter",
        param=name,
    )


def refused(error: Exception, rules: Mapping[str, str]) -> BadRequest:
    """A field of the wrong type or size: msgspec names it as `$.field`, or as the required field that is missing."""
    text = str(error)
    found = re.search(r"`\$\.([a-z_]+)|required field `([a-z_]+)`", text)
    return invalid((found.group(1) or found.group(2)) if found else "", rules, text)


def invalid(name: str, rules: Mapping[str, str], text: str = "") -> BadRequest:
    rule = rules.get(name) or f"The request is not as the API describes it: {text}."
    return BadRequest(rule, code="invalid_value", param=name or None)


def cannot(param: str, message: str) -> BadRequest:
    """What this upstream has no way to say."""
    return BadRequest(message, code="unsupported_value", param=param)


def check_count(count: int, quirks: Quirks, param: str, what: str) -> None:
    """Raises BadRequest where the upstream takes fewer in one call."""
    if quirks.max_inputs is not None and count > quirks.max_inputs:
        raise BadRequest(
            f"This model's provider takes at most {quirks.max_inputs} {what} in one request; there are {count}. "
            "Send several requests.",
            code="too_many_inputs",
            param=param,
        )


_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_ids = msgspec.json.Decoder(tuple[int, ...]).decode
_decode_id_lists = msgspec.json.Decoder(tuple[tuple[int, ...], ...]).decode

#: What a list of texts or of lists begins with.
_FIRST = re.compile(rb'\[[ \t\r\n]*(["\[])')

#: A text, or one that its caller has already cut into the model's own token ids.
Input = str | tuple[int, ...]


def read_inputs(raw: Raw) -> tuple[Input, ...] | None:
    """A text, a list of texts, a list of token ids or a list of such lists, as a tuple; None for everything else."""
    try:
        if (text := text_of(raw)) is not None:
            return (text,)
        first = _FIRST.match(memoryview(raw))
        if first is None:
            ids = _decode_ids(raw)
            return (ids,) if ids else None
        return _decode_texts(raw) if first[1] == b'"' else _decode_id_lists(raw)
    except BAD_JSON:
        return None


def input_bytes(inputs: tuple[Input, ...], raw: Raw) -> int:
    """Bytes of what the model reads. Token ids are counted already, so they are worth what makes their estimate exact."""
    if isinstance(inputs[0], str):
        return len(raw)
    return TOKEN_BYTES * sum(map(len, inputs))


# --- Answers ------------------------------------------------------------------------------------------------------


ErrorReader = Callable[[bytes, Quirks], UpstreamError]


def answer_fields(body: bytes, quirks: Quirks, read_error: ErrorReader = error_inside) -> Fields:
    """The answer's fields. Raises UpstreamError for garbage and for an error in an answer of 200 (reliability.md A18)."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        fields = decode_fields(body)
    except BAD_JSON:
        raise unreadable("it is not a JSON object") from None
    if not is_null(error := fields.get("error")) and bytes(error or b"") not in (b"false", b'""', b"{}", b"[]"):
        raise read_error(body, quirks)
    return fields


def no_answer(fields: Fields, body: bytes, quirks: Quirks, what: str) -> UpstreamError:
    """An answer without its main field: an error at the top level (old vLLM, SGLang, DashScope), or garbage."""
    if "detail" in fields or ("message" in fields and ("code" in fields or "type" in fields)):
        return error_inside(body, quirks)
    return unreadable(what)


def unreadable(what: str) -> UpstreamBroken:
    """By what is wrong with it; the bytes themselves are never shown to the caller."""
    return UpstreamBroken(f"The provider's answer cannot be read: {what}. Try again.")


class _WireUsage(Struct, gc=False):
    """The names in use: OpenAI's, Jina's and DashScope's total alone, Cohere's billed units, CLOVA's own."""

    prompt_tokens: float | None = None
    input_tokens: float | None = None
    promptTokens: float | None = None
    promptTokenCount: float | None = None
    total_tokens: float | None = None
    completion_tokens: float | None = None
    completionTokens: float | None = None


_decode_usage = msgspec.json.Decoder(_WireUsage).decode


def usage_of(raw: Raw | None) -> Usage | None:
    """Tokens as billed; None where none are reported or they cannot be right.

    Whatever was sent has at least one token, so a record of 0 (LM Studio's) is none.
    """
    if not is_object(raw):
        return None
    try:
        wire = _decode_usage(raw)
    except BAD_JSON:
        return None
    output = int(wire.completion_tokens or wire.completionTokens or 0)
    given = (wire.prompt_tokens, wire.input_tokens, wire.promptTokens, wire.promptTokenCount)
    read = next((int(count) for count in given if count), int(wire.total_tokens or 0) - output)
    if not 0 < read <= MAX_TOKENS or not 0 <= output <= MAX_TOKENS:
        return None
    return Usage(input=read, output=output)


def usage_fields(usage: Usage | None, envelope: Envelope) -> dict[str, Any]:
    """Usage as OpenAI's embeddings have it. What nobody reported is estimated, as the bill is, and says so."""
    if usage is None:
        tokens = estimate_tokens_bytes(envelope.input_bytes)
        return {"prompt_tokens": tokens, "total_tokens": tokens, "naru": {"estimated": True}}
    fields = {"prompt_tokens": usage.input, "total_tokens": usage.total}
    return fields | ({"completion_tokens": usage.output} if usage.output else {})
