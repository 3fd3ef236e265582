"""Whole answers between the wire and the typed messages.

Of the response's own fields those that repeat the request are written from the request; what else is unknown travels in
Response.extra.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import (
    Choice,
    Event,
    Extra,
    ExtraDelta,
    Finish,
    FinishReason,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Start,
    Text,
    ToolCall,
    UsageReport,
)
from naru.protocol.openai_chat.whole import check_bare_error
from naru.protocol.openai_responses.errors import event_error, failure
from naru.protocol.openai_responses.items import ItemReader
from naru.protocol.openai_responses.parts import (
    ITEM,
    Out,
    call_item,
    message_item,
    reasoning_item,
    said_parts,
)
from naru.protocol.openai_responses.tools import Alias, aliases, unwrap_input
from naru.protocol.openai_responses.usage import usage_fields, usage_of_response
from naru.protocol.openai_responses.wire import NAME
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    raw_of,
    rest_of,
    text_of,
    unreadable,
)

#: What a response repeats of its request, and its value where the request says nothing (SDK 3.52, Response). Sampling is
#: null there: the upstream's own defaults are not known.
ECHOED: dict[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_OWN_KEYS = {"id", "object", "created_at", "model", "output", "usage", "service_tier", "status", "error", "store"}
RESPONSE_KEYS = frozenset(_OWN_KEYS | ECHOED.keys() | {"incomplete_details"})

_FINISH: dict[str, FinishReason] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}
_INCOMPLETE = {reason: name for name, reason in _FINISH.items()}


# --- In -----------------------------------------------------------------------------------------------------------


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    fields = answer_fields(body, quirks)
    reader = ItemReader()
    try:
        reader.all_done(decode_list(fields["output"]))
        events: list[Event] = [start_of(fields), *reader.events, *end_of(fields, reader.has_calls)]
        return accumulate(events)
    except BAD_JSON:
        raise unreadable("its fields have types that Responses does not know") from None


def answer_fields(body: bytes | Raw, quirks: Quirks) -> Fields:
    """A response object with a list of output. Raises UpstreamError for anything else, an error above all."""
    try:
        data = bytes(body)
        if not data.isascii():
            data.decode()  # msgspec does not look into the strings that it skips
        fields = decode_fields(data)
        check_errors(fields, quirks)
        status = text_of(fields.get("status"))
    except BAD_JSON:
        raise unreadable("it is not a JSON object") from None
    if status == "cancelled":
        raise unreadable("the response was cancelled by the provider")
    if not is_list(fields.get("output")):
        raise unreadable("it has no output")
    return fields


def check_errors(fields: Fields, quirks: Quirks) -> None:
    if text_of(fields.get("status")) == "failed":
        raise failure(fields.get("error"), quirks)
    error = fields.get("error")
    if error is not None and bytes(error) not in (b"null", b"false", b'""', b"{}", b"[]"):
        raise event_error({"error": error}, quirks)
    if not is_list(fields.get("output")):
        check_bare_error(fields, quirks)


def start_of(fields: Fields) -> Start:
    tier = text_of(fields.get("service_tier"))
    return Start(text_of(fields.get("id")) or "", text_of(fields.get("model")) or "", _created(fields), {}, tier, NAME)


def _created(fields: Fields) -> int:
    """Unix seconds; some servers write a fraction. 0 where there is no number."""
    digits = bytes(fields.get("created_at", b"")).partition(b".")[0]
    return int(digits) if digits.isdigit() and len(digits) < 16 else 0


def end_of(fields: Fields, has_calls: bool) -> list[Event]:
    """The events that a final response's own fields make."""
    extra = rest_of(fields, RESPONSE_KEYS)
    reason: FinishReason = "tool_calls" if has_calls else "stop"
    if text_of(fields.get("status")) == "incomplete":
        details = fields.get("incomplete_details")
        why = text_of(decode_fields(details).get("reason")) if is_object(details) else None
        if why in _FINISH:
            reason = _FINISH[why]
        elif is_object(details):  # max_messages, steered: a stop to everyone else (providers.md A5.5)
            extra["incomplete_details"] = details
    if (tier := text_of(fields.get("service_tier"))) is not None:
        extra["service_tier"] = raw_of(tier)
    events: list[Event] = [ExtraDelta(extra)] if extra else []
    events.append(Finish(reason))
    if (usage := usage_of_response(fields)) is not None:
        events.append(UsageReport(usage))
    return events


# --- Out ----------------------------------------------------------------------------------------------------------


def encode_response(response: Response, envelope: Envelope) -> bytes:
    """Responses has one answer: of several choices the first. Sound, and parts of other APIs, it has no place for."""
    choice = response.choices[0] if response.choices else Choice(0, (), "stop")
    head = response_head(envelope, Start(response.id, response.model, response.created, dialect=response.dialect))
    if response.service_tier is not None:
        head["service_tier"] = response.service_tier
    owns_extra = response.dialect == NAME
    items = ItemWriter(head["id"], envelope, response.dialect).items(choice)
    usage = None if response.usage is None else usage_fields(response.usage)
    extra = response.extra if owns_extra else {}
    return encode(ended(head, items, choice.finish_reason, usage, extra))


def response_head(envelope: Envelope, start: Start) -> Out:
    """The response as it begins: every field that the SDK's type knows of a request. Nothing is stored."""
    fields = envelope.fields
    echoed: Out = {}
    for name, value in ECHOED.items():
        raw = fields.get(name)
        echoed[name] = value if raw is None or is_null(raw) else raw
    if is_object(text := fields.get("text")):
        echoed["text"] = {**ECHOED["text"], **rest_of(decode_fields(text), frozenset())}
    return {
        "id": start.id if start.dialect == NAME else response_id(start.id),
        "object": "response",
        "created_at": start.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": start.model or envelope.model,
        "output": [],
        "service_tier": None,
        "store": False,
        "usage": None,
        **echoed,
    }


def response_id(given: str) -> str:
    """Clients know a response by this start (providers.md B2.4)."""
    return given if given.startswith("resp_") else f"resp_{given or 'unnamed'}"


def ended(head: Out, items: list[Any], reason: FinishReason | None, usage: Any, extra: Extra) -> Out:
    """The final response; `error` of a failed one is the caller's to set."""
    status, details = "completed", None
    if reason in _INCOMPLETE:
        status, details = "incomplete", {"reason": _INCOMPLETE[reason]}
    elif (given := extra.get("incomplete_details")) is not None:
        return {**head, **extra, "status": "incomplete", "incomplete_details": given, "output": items, "usage": usage}
    elif reason == "error":
        status = "failed"
    error = None if status != "failed" else {"code": "server_error", "message": "The provider gave up the answer."}
    more: Out = {"status": status, "error": error, "incomplete_details": details, "output": items, "usage": usage}
    return {**head, **extra, **more}


class ItemWriter:
    """Output items of one answer. Ids are made of the response's own, so that the same answer has the same ids."""

    def __init__(self, answer_id: str, envelope: Envelope, dialect: str) -> None:
        self._stem = answer_id.removeprefix("resp_")
        self.owns_extra = dialect == NAME
        self.dialect = dialect
        self._aliases: dict[str, Alias] = {} if self.owns_extra else aliases(envelope.fields)

    def item_id(self, prefix: str, index: int, own: Raw | None = None) -> str:
        given = text_of(own) if self.owns_extra else None
        return given or f"{prefix}_{self._stem}_{index}"

    def items(self, choice: Choice) -> list[Any]:
        status = "incomplete" if choice.finish_reason in _INCOMPLETE else "completed"
        items: list[Any] = []
        logprobs = logprobs_of(choice.logprobs)
        said: list[Text | Refusal] = []
        for part in (*choice.parts, None):
            if isinstance(part, Text | Refusal):
                said.append(part)
                continue
            if said:
                items.append(self._message(len(items), said, logprobs, status))
                said, logprobs = [], []
            item = None if part is None else self.whole(len(items), part, status)
            if item is not None:
                items.append(item)
        return items

    def _message(self, index: int, said: list[Text | Refusal], logprobs: list[Raw], status: str) -> Out:
        extra = next((part.extra for part in said if isinstance(part, Text)), {}) if self.owns_extra else {}
        content = said_parts(said, self.owns_extra)
        first = next((part for part in content if part["type"] == "output_text"), None)
        if first is not None and logprobs:
            first["logprobs"] = logprobs
        item_id = self.item_id("msg", index, extra.get(f"{ITEM}id"))
        return message_item(item_id, content, without_id(extra), status)

    def whole(self, index: int, part: Part, status: str = "completed") -> Any:
        """One item; None for what has no place."""
        if isinstance(part, Reasoning):
            return reasoning_item(self.item_id("rs", index, part.extra.get("id")), part, self.dialect)
        if isinstance(part, ToolCall):
            call = self.called(part)
            prefix = "ctc" if call.kind == "custom" else "fc"
            return call_item(self.item_id(prefix, index, call.extra.get("id")), call, True, status)
        if isinstance(part, Opaque):
            return part.raw if part.dialect == NAME else None
        if isinstance(part, Image):
            return _image_item(self.item_id("ig", index), part.url)
        return None

    def alias(self, name: str) -> Alias | None:
        return self._aliases.get(name)

    def called(self, call: ToolCall) -> ToolCall:
        """The call as the caller knows its tool. Of another dialect's `extra` nothing is left."""
        if self.owns_extra:
            return call
        alias = self._aliases.get(call.name)
        if alias is None:
            return ToolCall(call.id, call.name, call.arguments, call.kind)
        extra = {} if alias.namespace is None else {"namespace": raw_of(alias.namespace)}
        if alias.is_custom and call.kind != "custom":
            return ToolCall(call.id, alias.name, unwrap_input(call.arguments), "custom", extra)
        return ToolCall(call.id, alias.name, call.arguments, call.kind, extra)


def without_id(extra: Extra) -> Extra:
    return {name: raw for name, raw in extra.items() if name != f"{ITEM}id"}


def logprobs_of(raw: Raw | None) -> list[Raw]:
    """The entries of a text, which have the same form in chat completions."""
    content = decode_fields(raw).get("content") if is_object(raw) else None
    return decode_list(content) if is_list(content) else []


def _image_item(item_id: str, url: str) -> Out:
    """A generated image, as the image tool gives it: bare base64. An address stands in its place as it is."""
    result = url.partition(";base64,")[2] if url.startswith("data:") else url
    return {"id": item_id, "type": "image_generation_call", "status": "completed", "result": result}
