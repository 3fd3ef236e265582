"""Log probabilities in the form of text completions, {tokens, token_logprobs, top_logprobs, text_offset}, and in the form
that all dialects share, OpenAI's newer {"content": [{token, logprob, bytes, top_logprobs}]}."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.protocol.wire import BAD_JSON, raw_of


class _Listed(Struct, gc=False):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class _Token(Struct, gc=False):
    token: str
    logprob: float
    top_logprobs: list[_Token] = []


class _Shared(Struct, gc=False):
    content: list[_Token] | None = None


_decode_listed = msgspec.json.Decoder(_Listed).decode
_decode_shared = msgspec.json.Decoder(_Shared).decode


def shared_form(raw: Raw) -> Raw | None:
    """None where there is nothing to read."""
    try:
        listed = _decode_listed(raw)
    except BAD_JSON:
        return None
    tops = listed.top_logprobs or [None] * len(listed.tokens)
    content = [
        {**_token(token, logprob), "top_logprobs": [_token(*pair) for pair in (top or {}).items()]}
        for token, logprob, top in zip(listed.tokens, listed.token_logprobs, tops, strict=False)
        if logprob is not None  # the first token of an echoed prompt has none
    ]
    return raw_of({"content": content, "refusal": None})


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}


def listed_form(raw: Raw | None, offset: int = 0) -> dict[str, Any] | None:
    """`offset`: characters of the choice's text before the first token. None where there is nothing to read."""
    try:
        content = _decode_shared(raw).content if raw is not None else None
    except BAD_JSON:
        return None
    if content is None:
        return None
    offsets = []
    for each in content:
        offsets.append(offset)
        offset += len(each.token)
    return {
        "tokens": [each.token for each in content],
        "token_logprobs": [each.logprob for each in content],
        "top_logprobs": [{top.token: top.logprob for top in each.top_logprobs} for each in content],
        "text_offset": offsets,
    }
