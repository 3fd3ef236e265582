"""One policy on thinking for every dialect: what a caller may write towards any model, and what it amounts to.

Any dialect takes `reasoning_effort`, `enable_thinking` and `thinking_budget` (the public surface). Qwen's users also write
`/think` or `/no_think` at the end of a message; towards a model that was not taught to read it, the switch is taken out of
the text and becomes the same policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import Message, ReasoningPolicy, Request, Text
from naru.protocol.wire import BAD_JSON

T = TypeVar("T")

#: What any dialect accepts; everything else about thinking is a dialect's or an upstream's own field.
EXTENSIONS = frozenset({"reasoning_effort", "enable_thinking", "thinking_budget"})
#: The top-level fields, of any dialect, in which a caller may say something about thinking.
_POLICY_FIELDS = EXTENSIONS | {"thinking", "reasoning", "output_config", "generationConfig", "chat_template_kwargs"}
MAX_BUDGET = 10_000_000

#: Qwen3's soft switches (seed 003; the model card): the last one in a conversation counts.
_SWITCHES = (("/no_think", False), ("/think", True))
#: Where the text of a conversation stands, by dialect.
_CONVERSATIONS = ("messages", "input", "contents", "system", "instructions", "systemInstruction")

_decode_bool = msgspec.json.Decoder(bool | None).decode
_decode_int = msgspec.json.Decoder(int | None).decode
_decode_text = msgspec.json.Decoder(str | None).decode


def read_extensions(fields: Mapping[str, Raw]) -> ReasoningPolicy:
    """Raises BadRequest where a value has the wrong type."""
    return ReasoningPolicy(
        enabled=_read(fields, "enable_thinking", _decode_bool, "true or false"),
        effort=_read(fields, "reasoning_effort", _decode_text, "a string such as low, medium or high"),
        budget_tokens=_tokens(fields, "thinking_budget"),
    )


def is_on(policy: ReasoningPolicy) -> bool | None:
    """Whether thinking is wanted; an explicit switch wins over an effort, an effort over a budget; None: not said."""
    if policy.enabled is not None:
        return policy.enabled
    if policy.effort is not None:
        return policy.effort != "none"
    return policy.budget_tokens > 0 if policy.budget_tokens is not None else None


def names_of(policy: ReasoningPolicy) -> list[str]:
    """The extensions that say what the policy says, for an upstream that can express none of it."""
    given = {
        "enable_thinking": policy.enabled,
        "reasoning_effort": policy.effort,
        "thinking_budget": policy.budget_tokens,
    }
    return [name for name, value in given.items() if value is not None]


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BUDGET


def must_stream(envelope: Envelope, quirks: Quirks) -> bool:
    """Whether a plain call has to be streamed upstream and gathered. A caller who says anything about thinking may be
    asking for it; a stream that was not needed costs nothing but time."""
    if quirks.is_stream_only:
        return True
    return quirks.thinks_only_streamed and not _POLICY_FIELDS.isdisjoint(envelope.fields)


def has_switch(envelope: Envelope) -> bool:
    """Whether a soft switch may stand in the conversation: a search through its bytes."""
    fields = envelope.fields
    for name in _CONVERSATIONS:
        raw = fields.get(name)
        if raw is not None and ((text := bytes(raw)).find(b"/think") >= 0 or text.find(b"/no_think") >= 0):
            return True
    return False


def switched(request: Request) -> Request:
    """The request with its soft switches as policy: taken from the ends of user and system messages, the last one counts,
    and what the caller says in a field wins. The same object where there is none."""
    wanted: bool | None = None
    messages = []
    for message in request.messages:
        found, message = _without_switch(message)
        wanted = found if found is not None else wanted
        messages.append(message)
    if wanted is None:
        return request
    policy = request.reasoning
    if is_on(policy) is None:
        policy = replace(policy, enabled=wanted)
    return replace(request, messages=tuple(messages), reasoning=policy)


def _without_switch(message: Message) -> tuple[bool | None, Message]:
    """The switch at the end of a message's last text, and the message without it."""
    parts = message.parts
    place = next((n for n in range(len(parts) - 1, -1, -1) if isinstance(parts[n], Text)), None)
    if place is None or message.role not in ("user", "system", "developer"):
        return None, message
    part = parts[place]
    assert isinstance(part, Text)
    text = part.text.rstrip()
    for word, meaning in _SWITCHES:
        rest = text.removesuffix(word)
        # A word of its own: a path such as docs/think is none.
        if rest != text and (not rest or rest[-1].isspace()):
            changed = replace(part, text=rest.rstrip())
            return meaning, replace(message, parts=(*parts[:place], changed, *parts[place + 1 :]))
    return None, message


def _tokens(fields: Mapping[str, Raw], name: str) -> int | None:
    what = f"a whole number of tokens from 0 to {MAX_BUDGET:,}"
    value = _read(fields, name, _decode_int, what)
    if value is not None and not is_count(value):
        raise _wrong(name, what)
    return value


def _read(fields: Mapping[str, Raw], name: str, decode: Callable[[Raw], T], what: str) -> T | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise _wrong(name, what) from None


def _wrong(name: str, what: str) -> BadRequest:
    return BadRequest(f"`{name}` must be {what}.", code="invalid_value", param=name)
