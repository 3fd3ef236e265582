"""What a body says that it is."""

from __future__ import annotations

from naru.errors import UnsupportedMedia
from naru.protocol.dialect import HeaderPairs

_NAME = b"content-type"
_JSON = b"application/json"
#: Said by who does not say what it sends.
_UNSAID = frozenset({b"", b"application/octet-stream", b"text/plain"})


def check_json(headers: HeaderPairs) -> None:
    """Raises UnsupportedMedia for a body that says it is something else than JSON (reliability.md B13)."""
    for name, value in headers:
        if name == _NAME:
            if value != _JSON:
                _check(value)
            return


def _check(value: bytes) -> None:
    kind = value.partition(b";")[0].strip().lower()
    if kind != _JSON and kind not in _UNSAID and not kind.endswith(b"+json"):
        shown = kind.decode("latin-1")[:60]
        raise UnsupportedMedia(
            f"The body says it is {shown!r}, and here JSON is expected. Send the header content-type: application/json (curl: "
            "-H 'content-type: application/json')."
        )
