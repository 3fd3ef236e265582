"""What a request with `naru.tools` asks for. Pure.

A run is held in chat completions, whatever the caller speaks: each of its turns is a request like any other, with the limits,
the routing and the ledger entry of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from naru.agent.loop import Limits
from naru.agent.run import nano_of
from naru.agent.tool import Json
from naru.errors import BadRequest
from naru.protocol.dialect import Dialect, Envelope, Quirks
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.reasoning import EXTENSIONS

#: The caller's own field for this.
FIELD = "naru"
#: Chat completions at their richest: what a turn says is for the gateway itself, which does the rest.
_QUIRKS = Quirks(has_developer_role=True, thinking_replay_field="reasoning_content")
#: What each turn has of its own.
_PER_TURN = frozenset({"messages", "tools", "stream", "stream_options", FIELD})


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """The caller's `naru` object. Limits can only be lower than the operator's."""

    tools: tuple[str, ...] = ()
    max_turns: Annotated[int, Meta(ge=1)] | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | str | None = None
    max_seconds: Annotated[float, Meta(gt=0)] | None = None


class Asked(Struct, frozen=True):
    """`fields` go into every turn; `tools` are the caller's own, in chat completions' form."""

    fields: Json
    messages: list[Json]
    tools: list[Json]


def wanted(envelope: Envelope) -> Wanted | None:
    """None: a request as any other. Raises BadRequest."""
    raw = envelope.fields.get(FIELD)
    if raw is None:
        return None
    try:
        found = msgspec.json.decode(raw, type=Wanted)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"`naru` is an object with `tools` (names), `max_turns`, `max_cost_usd` and `max_seconds`: {error}.",
            param=FIELD,
        ) from None
    return found if found.tools else None


def asked(dialect: Dialect, envelope: Envelope) -> Asked:
    """Raises BadRequest for what cannot be said in a run."""
    if envelope.n > 1:
        raise BadRequest("With `naru.tools` there is one answer: leave out `n`.", param="n")
    body = _chat_body(dialect, envelope)
    tools = body.get("tools") or []
    # Whatever else it were, names above all, would be looked up among the tools that there are, offered or not.
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRequest(
            "`tools` is a list of objects. Names of this gateway's tools go into `naru.tools`.", param="tools"
        )
    fields = {name: value for name, value in body.items() if name not in _PER_TURN}
    return Asked(fields, body["messages"], tools)


def _chat_body(dialect: Dialect, envelope: Envelope) -> Json:
    if dialect is OPENAI_CHAT:
        return {name: msgspec.json.decode(raw) for name, raw in envelope.fields.items()}
    given = {name: raw for name, raw in envelope.fields.items() if name != FIELD}
    request = dialect.decode_request(msgspec.structs.replace(envelope, fields=given))
    body: Json = msgspec.json.decode(OPENAI_CHAT.encode_request(request, _QUIRKS).body)
    return body | {name: msgspec.json.decode(given[name]) for name in EXTENSIONS & given.keys()}


def limits_of(wanted: Wanted, most: Limits) -> Limits:
    """Raises BadRequest for a cost that is no number."""
    cost = None if wanted.max_cost_usd is None else _nano(wanted.max_cost_usd)
    return Limits(
        max_turns=_lower(wanted.max_turns, most.max_turns) or most.max_turns,
        max_calls=most.max_calls,
        max_tokens=most.max_tokens,
        max_cost_nano=_lower(cost, most.max_cost_nano),
        max_seconds=_lower(wanted.max_seconds, most.max_seconds),
    )


def _lower(one: Any, other: Any) -> Any:
    return min((each for each in (one, other) if each is not None), default=None)


def _nano(cost: float | str) -> int:
    try:
        return nano_of(cost)
    except ArithmeticError:
        raise BadRequest("`naru.max_cost_usd` has to be a number of dollars.", param="naru.max_cost_usd") from None


def turn_body(fields: Mapping[str, Any], messages: Sequence[Json], tools: Sequence[Json]) -> bytes:
    """One turn, streamed, with its usage."""
    body = {**fields, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(body | ({"tools": tools} if tools else {}))


def opaque(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
