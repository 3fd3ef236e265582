"""Where the SDK looks when it is not told: NARU_BASE_URL and NARU_API_KEY, then OpenAI's own variables, then a gateway on this
machine. The only reader of the environment in the SDK."""

from __future__ import annotations

import os

LOCAL_URL = "http://127.0.0.1:8000/v1"


def base_url() -> str:
    return with_version(os.environ.get("NARU_BASE_URL") or os.environ.get("OPENAI_BASE_URL") or LOCAL_URL)


def api_key() -> str:
    """Empty where none is set. Naru's own variable is looked at first: with both set, the gateway is meant."""
    return os.environ.get("NARU_API_KEY") or os.environ.get("OPENAI_API_KEY") or ""


def is_named() -> bool:
    """Whether somebody said which endpoint is meant."""
    return bool(os.environ.get("NARU_BASE_URL") or os.environ.get("OPENAI_BASE_URL"))


def with_version(url: str) -> str:
    """NARU_BASE_URL may be the gateway's address as `naru` prints it; the API stands under /v1."""
    trimmed = url.rstrip("/")
    has_path = "/" in trimmed.partition("://")[2]
    return trimmed if has_path else f"{trimmed}/v1"
