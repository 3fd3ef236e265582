"""What the endpoint's errors mean for whoever wrote the call, and what to do about them. The OpenAI client's exceptions become
those of naru.errors; the original stays as the cause."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

import openai

from naru.errors import (
    BadRequest,
    BudgetExceeded,
    Conflict,
    Forbidden,
    NaruError,
    NotFound,
    Overloaded,
    RateLimited,
    TooLarge,
    Unauthorized,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from naru.protocol.retry_after import retry_after

_KEY = "Set NARU_API_KEY to one that it knows, or pass api_key=."
_KINDS: Mapping[int, type[NaruError]] = {
    400: BadRequest,
    401: Unauthorized,
    402: BudgetExceeded,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: BadRequest,
    429: RateLimited,
    503: Overloaded,
}


def explained(error: openai.APIError, base_url: str, timeout_s: float | None, now: float) -> NaruError:
    """`now` is Unix seconds, for headers that name a date."""
    if isinstance(error, openai.APITimeoutError):
        within = f" within {timeout_s:g} s" if timeout_s else ""
        return UpstreamTimeout(
            f"{base_url} gave no answer{within}. Ask for less (max_tokens), stream the answer, or allow more time (timeout=)."
        )
    if isinstance(error, openai.APIStatusError):
        return _of_status(error, base_url, now)
    if isinstance(error, openai.APIConnectionError):
        return UpstreamUnreachable(
            f"Nothing answers at {base_url} ({_root(error)}). Start the gateway with `naru serve`, or set NARU_BASE_URL."
        )
    return UpstreamError(f"{base_url}: {error.message}")


def _of_status(error: openai.APIStatusError, base_url: str, now: float) -> NaruError:
    status, said = error.status_code, _said(error)
    headers = [(name.encode(), value.encode()) for name, value in error.response.headers.items()]
    wait_s = retry_after(headers, now)
    if status == 401:
        said = f"{base_url} does not take this key: {said} {_KEY}"
    elif status == 429:
        said = f"{said} {_patience(wait_s)}"
    kind = _KINDS.get(status)
    if kind is None:
        return UpstreamRefused(said, status=status, code=error.code, param=error.param, retry_after_s=wait_s)
    return kind(said, code=error.code, param=error.param, retry_after_s=wait_s)


def _said(error: openai.APIStatusError) -> str:
    """The endpoint's own sentence, without the client's dressing."""
    body = error.body
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    message = inner.get("message") if isinstance(inner, Mapping) else inner
    text = str(message or error.message).strip()
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."


def _patience(wait_s: float | None) -> str:
    when = f"Try again in {math.ceil(wait_s)} s" if wait_s else "Try again later"
    return f"{when}; client.map(prompts, rpm=…) paces itself."


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


def is_unknown_model(error: NaruError) -> bool:
    return isinstance(error, NotFound) and (error.code == "model_not_found" or "model" in error.message.lower())


def with_nearest(error: NaruError, model: str, known: Sequence[str]) -> NaruError:
    """The same error, with the names that may have been meant, unless it names them already."""
    near = difflib.get_close_matches(model, known, n=3, cutoff=0.4)
    if not near or any(name in error.message for name in near):
        return error
    return NotFound(f"{error.message} Did you mean {' or '.join(near)}?", code=error.code, param=error.param)
