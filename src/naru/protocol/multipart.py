"""multipart/form-data (RFC 7578 over RFC 2046), read strictly and changed in one place only.

Strict, because what is read here is what a key is checked against, and the upstream will read the same bytes with a parser of
its own: whatever two parsers might read differently is refused. A file is never decoded or copied piece by piece; a part is
a span of the body.
"""

from __future__ import annotations

import re

from msgspec import Struct

from naru.errors import BadRequest, UnsupportedMedia

#: A form of sixteen images and every option of the API has about forty.
MAX_PARTS = 256
MAX_HEAD_BYTES = 16 * 1024

_TYPE = re.compile(rb"multipart/form-data[ \t]*(?=;)", re.IGNORECASE)
_DISPOSITION = re.compile(rb"form-data[ \t]*(?=;|$)", re.IGNORECASE)
_PARAMETER = re.compile(
    rb';[ \t]*([\w!#$&^.+*-]+)=(?:"((?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)"|([^\s;"]+))[ \t]*'
)
#: RFC 2046 5.1.1; the last character is no blank.
_BOUNDARY = re.compile(rb"[\w'()+,./:=? -]{0,69}[\w'()+,./:=?-]")
_PLAIN_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


class Part(Struct, frozen=True):
    """One field. Its content is `body[start:end]`; `filename` is None for a plain field. `length` is where the digits of a
    content-length header of its own stand."""

    name: str
    filename: str | None
    start: int
    end: int
    length: tuple[int, int] | None = None


def boundary_of(content_type: bytes) -> bytes:
    """Raises UnsupportedMedia for anything but multipart/form-data, BadRequest where its boundary cannot be read."""
    found = _TYPE.match(content_type)
    if found is None and not content_type.lower().startswith(b"multipart/form-data"):
        raise UnsupportedMedia(
            "This endpoint takes a file as multipart/form-data. OpenAI's clients send it so; with curl use -F "
            "file=@speech.mp3 -F model=…",
        )
    boundary = boundary_in(content_type)
    if not _BOUNDARY.fullmatch(boundary):
        raise malformed("its Content-Type has no boundary that can be read")
    return boundary


def boundary_in(content_type: bytes) -> bytes:
    """The boundary, or nothing where there is none that can be read."""
    found = _TYPE.match(content_type)
    return _parameters(content_type, found.end()).get(b"boundary", b"") if found is not None else b""


def read_parts(body: bytes, boundary: bytes) -> list[Part]:
    """Every part in its order. Raises BadRequest."""
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        raise malformed("it does not begin with the boundary that its Content-Type names")
    parts: list[Part] = []
    at = len(delimiter)
    while body[at : at + 2] == b"\r\n":
        if len(parts) == MAX_PARTS:
            raise malformed(f"it has more than {MAX_PARTS} parts")
        end = _next(body, delimiter, at)
        parts.append(_part(body, at + 2, end))
        at = end + 2 + len(delimiter)
    if body[at : at + 2] != b"--":
        raise malformed("a boundary stands inside its content, or is not followed by a line end")
    if body[at + 2 :] not in (b"", b"\r\n"):
        raise malformed("something follows its last boundary")
    return parts


def with_text(body: bytes, part: Part, text: bytes) -> bytes:
    """The body with this part's content replaced and every other byte as it was; the same object if it was that text
    already. A length that the part states is stated anew."""
    if body[part.start : part.end] == text:
        return body
    if part.length is None:
        return b"".join((body[: part.start], text, body[part.end :]))
    start, end = part.length
    return b"".join((body[:start], b"%d" % len(text), body[end : part.start], text, body[part.end :]))


def malformed(what: str) -> BadRequest:
    return BadRequest(
        f"The request is not well-formed multipart/form-data: {what}. Let an HTTP library build it.",
        code="invalid_multipart",
    )


def _next(body: bytes, delimiter: bytes, at: int) -> int:
    """Where the line end before the next boundary stands. A boundary behind a lone CR or LF is one to lenient parsers, so it
    is refused."""
    found = body.find(b"\n" + delimiter, at + 2)
    if found < 0:
        raise malformed("it is cut off before its last boundary")
    if body[found - 1 : found] != b"\r" or body.find(b"\r" + delimiter, at + 2, found) >= 0:
        raise malformed("a boundary stands inside its content")
    return found - 1


def _part(body: bytes, start: int, end: int) -> Part:
    """The part whose head begins at `start` and whose content ends at `end`."""
    head_end = body.find(b"\r\n\r\n", start, min(end, start + MAX_HEAD_BYTES))
    if head_end < 0:
        raise malformed("a part has no complete head")
    headers: dict[bytes, bytes] = {}
    length: tuple[int, int] | None = None
    at = start
    for line in body[start:head_end].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name != name.strip() or name in headers or b"\r" in line or b"\n" in line:
            raise malformed("a part has a head line that cannot be read, or one twice")
        headers[name] = value.strip(b" \t")
        if name == b"content-length":
            length = (at + len(line) - len(value.lstrip(b" \t")), at + len(line))
        at += len(line) + 2
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in _PLAIN_ENCODINGS:
        raise malformed("a part has a content-transfer-encoding; send its bytes as they are")
    field, filename = _names(headers.get(b"content-disposition", b""))
    return Part(field, filename, head_end + 4, end, length)


def _names(disposition: bytes) -> tuple[str, str | None]:
    found = _DISPOSITION.match(disposition)
    parameters = _parameters(disposition, found.end()) if found is not None else {}
    name = parameters.get(b"name", b"")
    # Escapes in a field's name are undone by some servers and not by others.
    if not name or b"\\" in name or b"name*" in parameters:
        raise malformed("a part has no plain name in its Content-Disposition")
    filename = parameters.get(b"filename", parameters.get(b"filename*"))
    try:
        return name.decode(), None if filename is None else filename.decode()
    except UnicodeDecodeError:
        raise malformed("a part's name is not UTF-8") from None


def _parameters(value: bytes, at: int) -> dict[bytes, bytes]:
    """What follows at `at`, as `;name=value` pairs, names in small letters. Empty where any of it cannot be read or stands
    twice."""
    found: dict[bytes, bytes] = {}
    while at < len(value):
        pair = _PARAMETER.match(value, at)
        if pair is None or pair[1].lower() in found:
            return {}
        found[pair[1].lower()] = pair[3] if pair[2] is None else pair[2]
        at = pair.end()
    return found
