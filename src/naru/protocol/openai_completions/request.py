"""Requests: passed on to who has text completions, else to the typed Request, where the prompt is one user message.

A model that is asked as in a chat answers the prompt; it does not continue it. What only makes sense for continuing is
refused by name: `suffix`, `echo`, `best_of`, several prompts, token ids.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from naru.protocol.body import refused
from naru.protocol.dialect import Envelope, Forwarded, Quirks
from naru.protocol.messages import Message, Request, Sampling, Text
from naru.protocol.openai_chat.forward import drop_and_rename, refuses_n
from naru.protocol.openai_chat.thinking import read_policy
from naru.protocol.openai_completions.read import RULES, prompts_of
from naru.protocol.openai_completions.wire import NAME
from naru.protocol.plain import cannot
from naru.protocol.wire import BAD_JSON, TRUE, Fields, decode_fields, encode, is_null, is_object, raw_of

_SAMPLING = Sampling.__struct_fields__


class _Typed(Struct, gc=False):
    """What is understood, apart from what the envelope has."""

    n: int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: Annotated[int, Meta(ge=0)] | None = None
    user: str | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logit_bias: dict[str, float] | None = None
    use_beam_search: bool | None = None


_decode_typed = msgspec.json.Decoder(_Typed).decode
_DONE = frozenset({*_Typed.__struct_fields__, "model", "prompt", "stream", "stream_options", "max_tokens"})


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """The caller's own body. The envelope stays as it is for the next attempt."""
    fields: dict[str, Any] = envelope.fields.copy()
    fields["model"] = model
    if not quirks.has_n and bytes(envelope.fields.get("n", b"1")) not in (b"1", b"null"):
        raise refuses_n()
    if not quirks.has_stream_usage:
        fields.pop("stream_options", None)  # the relay writes the usage chunk itself
    elif envelope.is_stream:
        # Money needs the usage of every stream; the relay hides the chunk from who did not ask.
        options = fields.get("stream_options")
        fields["stream_options"] = {**(decode_fields(options) if is_object(options) else {}), "include_usage": TRUE}
    dropped = drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def decode_request(envelope: Envelope) -> Request:
    """Raises BadRequest, with `param` set, for what a chat cannot do and for fields of the wrong type."""
    fields = envelope.fields
    try:
        typed = _decode_typed(encode(fields))
    except BAD_JSON as error:
        raise refused(error, RULES) from None
    _check(typed)
    rest = {name: raw for name, raw in fields.items() if name not in _DONE and not is_null(raw)}
    more = _other_options(fields.get("stream_options"))
    return Request(
        model=envelope.model,
        messages=(Message("user", (Text(_prompt(fields["prompt"])),)),),
        stop=_stops(typed.stop),
        max_output_tokens=envelope.max_output_tokens,
        n=typed.n,
        sampling=Sampling(**{name: getattr(typed, name) for name in _SAMPLING}),
        logprobs=None if typed.logprobs is None else True,
        top_logprobs=typed.logprobs,
        is_stream=envelope.is_stream,
        wants_usage=envelope.wants_usage,
        reasoning=read_policy(rest),  # takes what it understands out of `rest`
        user=typed.user,
        extra={**rest, **({"stream_options": raw_of(more)} if more else {})},
        dialect=NAME,
    )


def _check(typed: _Typed) -> None:
    given = {
        "suffix": bool(typed.suffix),
        "echo": typed.echo is True,
        "best_of": (typed.best_of or 1) > 1,
        "logit_bias": bool(typed.logit_bias),
        "use_beam_search": typed.use_beam_search is True,
    }
    for name, is_set in given.items():
        if is_set:
            raise cannot(
                name,
                f"This model's provider has chat only, and a chat has no `{name}`. Leave it out, or choose a model that is "
                "served with text completions.",
            )


def _prompt(raw: Raw) -> str:
    prompts = prompts_of(raw)
    if len(prompts) > 1:
        raise cannot("prompt", "This model's provider takes one prompt a request. Send several requests.")
    if not isinstance(prompts[0], str):
        raise cannot("prompt", "This model's provider takes a text, not token ids. Send `prompt` as text.")
    return prompts[0]


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _other_options(options: Raw | None) -> Fields:
    given = decode_fields(options) if is_object(options) else {}
    given.pop("include_usage", None)
    return given


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """For a request of one user text. Raises BadRequest for what a text completion cannot hold."""
    message = request.messages[0] if len(request.messages) == 1 else None
    parts = message.parts if message is not None and message.role == "user" else ()
    if not parts or not all(isinstance(part, Text) for part in parts):
        raise cannot("messages", "This model's provider has text completions only: send one user message of text.")
    if request.tools:
        raise cannot("tools", "This model's provider has text completions only, which have no tools.")
    if request.response_format is not None and request.response_format.kind != "text":
        raise cannot("response_format", "This model's provider has text completions only, which have no such form.")
    owns_extra = request.dialect == NAME
    fields: dict[str, Any] = {**request.extra} if owns_extra else {}
    fields["model"] = request.model
    fields["prompt"] = "".join(part.text for part in parts if isinstance(part, Text))
    options = {
        "max_tokens": request.max_output_tokens,
        "n": request.n,
        "stop": request.stop or None,
        "user": request.user,
        "logprobs": (request.top_logprobs or 0) if request.logprobs else None,
        **{name: getattr(request.sampling, name) for name in _SAMPLING},
    }
    fields |= {name: value for name, value in options.items() if value is not None}
    if request.is_stream or quirks.is_stream_only:
        fields["stream"] = True
        if quirks.has_stream_usage:
            given = fields.get("stream_options")
            fields["stream_options"] = {**(decode_fields(given) if is_object(given) else {}), "include_usage": True}
    policy = request.reasoning
    told = (("enable_thinking", policy.enabled), ("reasoning_effort", policy.effort))
    dropped = [name for name, value in (*told, ("thinking_budget", policy.budget_tokens)) if value is not None]
    dropped += [] if owns_extra else list(request.extra)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))
