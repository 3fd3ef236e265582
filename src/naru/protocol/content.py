"""What a request and its answer said, as text for the operator's records: redacted, bounded, without files. Pure.

A record is JSON: {"request": …, "answer": …}, each a text of at most MAX_CHARS. JSON bodies stand there as JSON again, with
every string redacted, what looks like a file left out by its size, and long rows of numbers (embeddings) too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from naru.errors import BadRequest, NaruError
from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import CHAT, ClientSide, Dialect, HeaderPairs, Quirks, StreamRelay, WholeAnswer, family_of
from naru.protocol.messages import Event, Part, Reasoning, Refusal, Response, Text, ToolCall, Usage
from naru.protocol.multipart import boundary_in, read_parts
from naru.protocol.redact import redact

#: Of the request, and of the answer. The UTF-8 of a record can be three times that, in Korean.
MAX_CHARS = 64 * 1024
#: What is kept of a stream until it ends. Its text is far smaller than its framing.
MAX_STREAM_BYTES = 4 * 1024 * 1024
MAX_NUMBERS = 16
#: So much more is read than shown, so that a secret across the end is still seen whole.
MARGIN_CHARS = 512
#: Fields that hold files, whatever their size; elsewhere only what is long and looks like one.
FILE_FIELDS = frozenset({"data", "b64_json", "file_data", "bytes", "image_data", "partial_image_b64", "audio_data"})
MIN_FILE_CHARS = 512
CUT = "… [cut]"

_DATA_URI = re.compile(r"data:[\w/+.;=-]{0,100};base64,[A-Za-z0-9+/=_-]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_encode = msgspec.json.Encoder().encode


class Recording:
    """One request on its way into a record. `content` may be asked at any time for what there is so far."""

    def __init__(self, dialect: ClientSide, body: bytes, headers: HeaderPairs) -> None:
        self.dialect = dialect
        self.body = body
        self.headers = headers
        self.whole: WholeAnswer | None = None
        self.relay: Recorded | None = None

    def watch(self, relay: StreamRelay) -> Recorded:
        """The relay of this attempt; an earlier one's does not count any more."""
        self.relay = Recorded(relay)
        return self.relay

    def content(self) -> str:
        answer = ""
        if self.whole is not None:
            answer = _shown(self.whole.body, self.whole.content_type)
        elif self.relay is not None:
            answer = _stream_text(self.dialect, b"".join(self.relay.pieces))
        kind = next((value for name, value in self.headers if name == b"content-type"), b"")
        boundary = boundary_in(kind)
        request = _form(self.body, boundary) if boundary else _shown(self.body, b"application/json")
        return _encode({"request": request, "answer": answer}).decode()


class Recorded:
    """See StreamRelay: the same relay, and what came out of it."""

    def __init__(self, relay: StreamRelay) -> None:
        self.inner = relay
        self.pieces: list[bytes] = []
        self.size = 0

    @property
    def has_content(self) -> bool:
        return self.inner.has_content

    @property
    def is_finished(self) -> bool:
        return self.inner.is_finished

    @property
    def usage(self) -> Usage | None:
        return self.inner.usage

    @property
    def output_chars(self) -> int:
        return self.inner.output_chars

    @property
    def error(self) -> Any:
        return self.inner.error

    def feed(self, data: bytes) -> bytes:
        return self._kept(self.inner.feed(data))

    def close(self) -> bytes:
        return self._kept(self.inner.close())

    def _kept(self, out: bytes) -> bytes:
        if out and self.size < MAX_STREAM_BYTES:
            self.pieces.append(out)
            self.size += len(out)
        return out


def safe(text: str) -> str:
    """Text redacted and cut to what a record takes."""
    found = redact(_DATA_URI.sub(_left_out, text[: MAX_CHARS + MARGIN_CHARS]))
    return found if len(text) <= MAX_CHARS and len(found) <= MAX_CHARS else found[:MAX_CHARS] + CUT


def _shown(body: bytes, content_type: bytes) -> str:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind.endswith(b"json"):
        try:
            return _cut(_encode(_Walk().value(msgspec.json.decode(body))).decode())
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return f"[not JSON, {len(body)} bytes]"
    if kind.startswith(b"text/"):
        return safe(body.decode("utf-8", "replace"))
    return f"[{kind.decode('latin-1')[:60]}, {len(body)} bytes left out]"


def _form(body: bytes, boundary: bytes) -> str:
    try:
        parts = read_parts(body, boundary)
    except BadRequest:  # only its header says that it is a form
        return _shown(body, b"application/json")
    walk = _Walk()
    fields = []
    for part in parts:
        value = f"[file, {part.end - part.start} bytes left out]"
        if part.filename is None:
            value = walk.text(body[part.start : part.end].decode("utf-8", "replace"))
        fields.append((walk.text(part.name), value))
    return _cut(_encode(fields).decode())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + CUT


def _left_out(found: re.Match[str]) -> str:
    return f"[file, {len(found[0])} characters left out]"


class _Walk:
    """Copies JSON for a record. Once there is more than a record takes, the rest is only left out: a request of many
    megabytes costs no more than its first pages."""

    def __init__(self) -> None:
        self.left = MAX_CHARS

    def value(self, value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return self.text(value, name)
        if self.left <= 0:
            return None
        if isinstance(value, dict):
            return {self.text(key): self.value(item, key) for key, item in value.items()}
        if isinstance(value, list):
            if len(value) > MAX_NUMBERS and all(isinstance(item, int | float) for item in value):
                return f"[{len(value)} numbers left out]"
            return [self.value(item, name) for item in value]
        # A number is a string to a redactor: cards and telephones are written as such too.
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (said := redact(str(value))) != str(value)
        ):
            return said
        return value

    def text(self, text: str, name: str = "") -> str:
        least = 16 if name in FILE_FIELDS else MIN_FILE_CHARS
        if len(text) >= least and _BASE64.fullmatch(text[:MIN_FILE_CHARS]) is not None:
            return f"[file, {len(text)} characters left out]"
        if self.left <= 0:
            return ""
        found = redact(_DATA_URI.sub(_left_out, text[: self.left + MARGIN_CHARS]))
        shown = found if len(text) <= self.left else found[: self.left] + CUT
        self.left -= len(shown) + 1
        return shown


def _stream_text(dialect: ClientSide, data: bytes) -> str:
    """What the client was shown, put together: a secret that came in two pieces is one again."""
    if family_of(dialect.name) == CHAT and hasattr(dialect, "stream_decoder"):
        events: list[Event] = []
        try:
            decoder = cast(Dialect, dialect).stream_decoder(Quirks())
            events += decoder.feed(data)
            events += decoder.close()
        except NaruError:
            pass  # it was cut, or ended with an error: what came before is what there is
        return _cut(_encode(_Walk().value(_said(accumulate(events)))).decode())
    return safe("".join(_pieces(data)))


def _said(response: Response) -> list[list[dict[str, str]]]:
    return [[_part(part) for part in choice.parts] for choice in response.choices]


def _part(part: Part) -> dict[str, str]:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Reasoning):
        return {"reasoning": part.text}
    if isinstance(part, Refusal):
        return {"refusal": part.text}
    if isinstance(part, ToolCall):
        return {"tool": part.name, "arguments": part.arguments}
    return {"other": type(part).__name__}


def _pieces(data: bytes) -> Sequence[str]:
    """The texts of events that no decoder of ours reads: completions', transcripts'."""
    found = []
    for line in data.split(b"\n"):
        if not line.startswith(b"data: {"):
            continue
        try:
            event = msgspec.json.decode(line[6:])
        except (msgspec.MsgspecError, RecursionError):
            continue
        choices = event.get("choices")
        texts = [choice.get("text") for choice in choices] if isinstance(choices, list) else [event.get("delta")]
        found += [text for text in texts if isinstance(text, str)]
    return found
