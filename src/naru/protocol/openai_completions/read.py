"""A caller's text completion body to an Envelope."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from naru.protocol.body import MAX_N, MAX_OUTPUT_TOKENS, MODEL_RULE, invalid, read_fields, refused
from naru.protocol.dialect import Envelope
from naru.protocol.plain import Input, input_bytes, read_inputs
from naru.protocol.wire import BAD_JSON

_N = Annotated[int, Meta(ge=1, le=MAX_N)]


class _StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    prompt: Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: _N | None = None
    best_of: _N | None = None
    # 0 with `echo` scores the prompt and writes nothing.
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_TOKENS)] | None = None
    suffix: str | None = None


_decode_probe = msgspec.json.Decoder(_Probe).decode

RULES = {
    "model": MODEL_RULE,
    "prompt": "`prompt` must be a text, a list of texts, a list of token ids or a list of such lists.",
    "stream": "`stream` must be true or false.",
    "stream_options": "`stream_options` must be an object whose `include_usage` is true or false.",
    "n": f"`n` must be a whole number from 1 to {MAX_N}.",
    "best_of": f"`best_of` must be a whole number from 1 to {MAX_N}.",
    "max_tokens": f"`max_tokens` must be a whole number from 0 to {MAX_OUTPUT_TOKENS}.",
    "suffix": "`suffix` must be a text.",
}


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault. `n` counts every text that will be written and billed."""
    fields = read_fields(body)
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise refused(error, RULES) from None
    prompts = prompts_of(probe.prompt)
    options = probe.stream_options
    return Envelope(
        fields,
        probe.model,
        probe.stream is True,
        options is not None and options.include_usage is True,
        probe.max_tokens,
        max(probe.n or 1, probe.best_of or 1) * len(prompts),
        input_bytes(prompts, probe.prompt) + len((probe.suffix or "").encode("utf-8", "surrogatepass")),
    )


def prompts_of(raw: Raw) -> tuple[Input, ...]:
    found = read_inputs(raw)
    if not found:
        raise invalid("prompt", RULES)
    return found
