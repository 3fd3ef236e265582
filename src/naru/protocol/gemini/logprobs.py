"""Gemini's logprobsResult and the form all dialects share, OpenAI's `{"content": [{token, logprob, bytes, top_logprobs}]}`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.protocol.wire import BAD_JSON, raw_of


class _Candidate(Struct, gc=False):
    token: str = ""
    logProbability: float = 0.0


class _Step(Struct, gc=False):
    candidates: list[_Candidate] = []


class _Result(Struct, gc=False):
    chosenCandidates: list[_Candidate] = []
    topCandidates: list[_Step] = []


class _Token(Struct, gc=False):
    token: str
    logprob: float
    top_logprobs: list[_Token] = []


class _Logprobs(Struct, gc=False):
    content: list[_Token] | None = None


_decode_result = msgspec.json.Decoder(_Result).decode
_decode_logprobs = msgspec.json.Decoder(_Logprobs).decode


def shared_form(raw: Raw) -> Raw | None:
    """None where there is nothing to read. The token ids, which OpenAI has no place for, are left out."""
    try:
        result = _decode_result(raw)
    except BAD_JSON:
        return None
    steps = [step.candidates for step in result.topCandidates]
    steps += [[]] * (len(result.chosenCandidates) - len(steps))
    content = [
        {**_token(chosen), "top_logprobs": [_token(each) for each in step]}
        for chosen, step in zip(result.chosenCandidates, steps, strict=False)
    ]
    return raw_of({"content": content, "refusal": None}) if content else None


def _token(candidate: _Candidate) -> dict[str, Any]:
    text = candidate.token
    return {"token": text, "logprob": candidate.logProbability, "bytes": list(text.encode("utf-8", "surrogatepass"))}


def google_form(raw: Raw) -> dict[str, Any] | None:
    """None where there is nothing to read."""
    try:
        content = _decode_logprobs(raw).content or []
    except BAD_JSON:
        return None
    if not content:
        return None
    chosen = [{"token": each.token, "logProbability": each.logprob} for each in content]
    top = [
        {"candidates": [{"token": more.token, "logProbability": more.logprob} for more in each.top_logprobs]}
        for each in content
    ]
    return {"chosenCandidates": chosen, "topCandidates": top}
