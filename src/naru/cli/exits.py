"""Errors as exit codes (sysexits where there is one)."""

from __future__ import annotations

from naru.errors import BadRequest, ConfigError, Forbidden, NaruError, NotFound, Overloaded, Unauthorized, UpstreamError

OK, FAILED, USAGE, PARTIAL, AUTH, NOT_FOUND, TEMPORARY, CONFIG, INTERRUPTED = 0, 1, 2, 3, 4, 5, 75, 78, 130

CODES: tuple[tuple[type[NaruError], int], ...] = (
    (ConfigError, CONFIG),
    (Unauthorized, AUTH),
    (Forbidden, AUTH),
    (NotFound, NOT_FOUND),
    (BadRequest, USAGE),
    (Overloaded, TEMPORARY),
    (UpstreamError, TEMPORARY),
)


def exit_code(error: NaruError) -> int:
    return next((code for kind, code in CODES if isinstance(error, kind)), FAILED)
