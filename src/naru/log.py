"""Logs: JSON lines when stderr is a pipe, readable lines on a terminal. Never a prompt, never a key."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET = re.compile(r"\b(?:nka?-[0-9A-Za-z]{4})[0-9A-Za-z-]{20,}|\b(?:sk|nv)-[0-9A-Za-z_-]{8,}|(?i:bearer)\s+\S{8,}")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def scrub(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last line of defence: what looks like a credential is blanked, control characters (terminal escapes) are removed."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = SECRET.sub("[redacted]", CONTROL.sub("", value))
    return event


def configure(level: str) -> None:
    """May be called again, with another level."""
    renderer: structlog.typing.Processor
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            scrub,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        # A cached logger would keep its first level for ever. Nothing logs on the way of a request that goes well.
        cache_logger_on_first_use=False,
    )
