"""What a model name's query asks for: `sandbox/echo?ttft_ms=300` -> ("echo", Behaviour(ttft_ms=300))."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from naru.errors import BadRequest, NotFound

MODELS = {
    "echo": "repeats the last user text, a word at a time",
    "tools": "calls every offered tool, then names the results",
    "think": "reasoning first, then the last user text",
    "json": "fills the response schema",
    "embed": "vectors from a text's words",
    "rerank": "ranks documents by the words they share with the query",
    "transcribe": "says how long a sound file is, and its digest",
    "speech": "a tone as long as the text",
    "image": "a pattern from the prompt's hash",
}
#: Path -> the models that are served there.
SERVED = {
    "/v1/chat/completions": ("echo", "tools", "think", "json"),
    "/v1/embeddings": ("embed",),
    "/v1/rerank": ("rerank",),
    "/v1/audio/transcriptions": ("transcribe",),
    "/v1/audio/translations": ("transcribe",),
    "/v1/audio/speech": ("speech",),
    "/v1/images/generations": ("image",),
    "/v1/images/edits": ("image",),
}
MAX_QUERY_FIELDS = 32

Count = Annotated[int, Meta(ge=0, le=100_000)]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pace, length and faults of one answer. The table in docs/sandbox.md explains every field in the same order."""

    # pace and length
    ttft_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    tps: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    tokens: Count | None = None
    think: Count | None = None
    finish: Literal["stop", "length", "content_filter"] | None = None
    # tool calls and JSON
    only: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    args: Annotated[str, Meta(max_length=10_000)] | None = None
    # usage
    usage: Literal["ok", "none", "null", "zero", "negative", "huge", "float", "twice"] = "ok"
    cached: Count = 0
    # faults
    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after: Annotated[str, Meta(max_length=64, pattern=r"^[ -~]*$")] | None = None
    html: bool = False
    error_200: bool = False
    reset: bool = False
    hang: bool = False
    cut_after: Count | None = None
    hang_after: Count | None = None
    error_after: Count | None = None
    garbage: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    done: bool = True
    # how often the faults strike
    fail_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    busy_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int = 0
    # a limit of its own
    rpm: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None

    @property
    def called_tools(self) -> tuple[str, ...] | None:
        """The names in `only`; None where every tool is called."""
        return None if self.only is None else tuple(name.strip() for name in self.only.split(","))

    @property
    def arguments(self) -> dict[str, Any] | None:
        """`args` as an object; `parse_model` has made sure that it is one."""
        return None if self.args is None else msgspec.json.decode(self.args, type=dict[str, Any])

    @property
    def failing(self) -> Behaviour:
        """This with its faults in force; a bare fail_rate means status 500. With a busy_rate, `retry_after` is that one's."""
        names = _FAULTS if self.busy_rate is None else tuple(name for name in _FAULTS if name != "retry_after")
        named = any(getattr(self, name) != getattr(_NOTHING, name) for name in names)
        return self if named or self.fail_rate is None else msgspec.structs.replace(self, status=500)

    def struck(self, drawn: float) -> Behaviour:
        """What a number drawn from 0 to 1 makes of it: the faults strike, it is busy, or neither."""
        if self.fail_rate is None and self.busy_rate is None:
            return self
        if drawn < (self.fail_rate or 0.0):
            return self.failing
        return self.refusing() if drawn < (self.fail_rate or 0.0) + (self.busy_rate or 0.0) else self.sound

    def refusing(self, wait_s: int | None = None) -> Behaviour:
        """This, but with status 429 and a `Retry-After`: so many seconds, else what the query says, else one."""
        wait = (self.retry_after or "1") if wait_s is None else str(wait_s)
        return msgspec.structs.replace(self.sound, status=429, retry_after=wait)

    @property
    def refusal_status(self) -> int | None:
        """The status to refuse with; a bare retry_after means 429, a bare html 502. None: no refusal."""
        if self.status is None:
            return 429 if self.retry_after is not None else 502 if self.html else None
        return self.status

    @property
    def sound(self) -> Behaviour:
        """This without its faults."""
        return msgspec.structs.replace(self, **{name: getattr(_NOTHING, name) for name in _FAULTS})


_NOTHING = Behaviour()
_KEYS = Behaviour.__struct_fields__
_FAULTS = _KEYS[_KEYS.index("status") : _KEYS.index("fail_rate")]


def parse_model(model: str, path: str = "/v1/chat/completions") -> tuple[str, Behaviour]:
    """Splits a model name. Raises NotFound for an unknown model, BadRequest for one that is served at another path, for
    an unknown query key or a bad value."""
    given, _, query = model.partition("?")
    name = given.removeprefix("sandbox/")
    if name not in MODELS:
        known = ", ".join(f"sandbox/{known}" for known in MODELS)
        raise NotFound(f"The sandbox has no model '{given}'. It has {known}.", code="model_not_found", param="model")
    if name not in SERVED[path]:
        there = next(other for other, names in SERVED.items() if name in names)
        raise BadRequest(f"sandbox/{name} is served at {there}, not at {path}.", code="wrong_endpoint", param="model")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise _bad(f"The query of model '{model[:200]}' cannot be read: {error}.") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _bad("The model's query names a key twice.")
    for key in fields:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.0)[0]
            raise _bad(f"The sandbox knows no query key '{key[:100]}'. The nearest is '{near}'.")
    try:
        behaviour = msgspec.convert(fields, Behaviour, strict=False)
    except msgspec.ValidationError as error:
        raise _bad(f"The model's query: {error}.") from error
    if name == "json" and behaviour.tokens is not None:
        raise _bad("The query key 'tokens' has no meaning for sandbox/json: its length follows from the schema.")
    if (behaviour.fail_rate or 0.0) + (behaviour.busy_rate or 0.0) > 1:
        raise _bad("The model's query: fail_rate and busy_rate are shares of the same requests, so together at most 1.")
    _check_calls(name, behaviour)
    return name, behaviour


def _check_calls(name: str, behaviour: Behaviour) -> None:
    if name != "tools" and behaviour.only is not None:
        raise _bad("The query key 'only' has a meaning for sandbox/tools alone.")
    if name not in ("tools", "json") and behaviour.args is not None:
        raise _bad("The query key 'args' has a meaning for sandbox/tools and sandbox/json alone.")
    try:
        _ = behaviour.arguments
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _bad(f"The query key 'args' must be a JSON object: {error}.") from error


def _bad(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_sandbox_query", param="model")
