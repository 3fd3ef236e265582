"""A caller's request for sound or images to an Envelope. Only what routing and money need is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from naru.errors import BadRequest
from naru.protocol.body import DENIED, MODEL_RULE, denied, invalid, read_fields, refused
from naru.protocol.dialect import Envelope, Forwarded, HeaderPairs
from naru.protocol.media.measures import drawn, heard, sound_seconds, spoken
from naru.protocol.messages import Usage
from naru.protocol.multipart import Part, boundary_of, malformed, read_parts, with_text
from naru.protocol.wire import BAD_JSON, encode, is_list

MAX_IMAGES = 100
MAX_MODEL_CHARS = 512
#: Formats of a transcription that are no JSON.
TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
#: pydantic's words, which most servers behind this path read forms with.
_YES = frozenset({"true", "1", "on", "yes", "t", "y"})
_NO = frozenset({"false", "0", "off", "no", "f", "n", ""})

_RULES = {
    "model": MODEL_RULE,
    "input": "`input` must be the text to speak, and not empty.",
    "instructions": "`instructions` must be a string.",
    "stream_format": "`stream_format` must be audio or sse.",
    "prompt": "`prompt` must be a string.",
    "n": f"`n` must be a whole number from 1 to {MAX_IMAGES}.",
    "quality": "`quality` must be a string.",
    "stream": "`stream` must be true or false.",
    "file": "`file` must be one uploaded file: a part of the form with a filename.",
    "image": "`image` must be at least one uploaded file: a part of the form with a filename.",
}

Model = Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_CHARS)]


class MediaEnvelope(Envelope):
    """`body` is the request's own where it is a form, whose model stands in `model_part`; both are empty for JSON.
    `is_text`: the answer is to be text, not JSON. `prompt_bytes` is the size of the text that goes with sound or images."""

    body: bytes = b""
    content_type: bytes = b"application/json"
    model_part: Part | None = None
    is_text: bool = False
    prompt_bytes: int = 0


class _SpeechProbe(Struct, gc=False):
    model: Model
    input: Annotated[str, Meta(min_length=1)]
    instructions: str | None = None
    stream_format: Literal["audio", "sse"] | None = None


class _ImageProbe(Struct, gc=False):
    model: Model
    prompt: str
    n: Annotated[int, Meta(ge=1, le=MAX_IMAGES)] | None = None
    quality: str | None = None
    stream: bool | None = None
    output_format: str | None = None
    images: Raw = Raw(b"null")


_decode_speech = msgspec.json.Decoder(_SpeechProbe).decode
_decode_image = msgspec.json.Decoder(_ImageProbe).decode


def read_speech(body: bytes) -> MediaEnvelope:
    """Speech always comes as a stream, of sound or of events. Raises BadRequest, with `param` set to the field at fault."""
    fields = read_fields(body)
    try:
        probe = _decode_speech(body)
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    estimate = spoken(probe.input, probe.instructions or "")
    size = len(probe.input.encode("utf-8", "surrogatepass"))
    return MediaEnvelope(fields, probe.model, True, False, None, 1, size, estimate)


def read_images(body: bytes) -> MediaEnvelope:
    fields = read_fields(body)
    try:
        probe = _decode_image(body)
        sent = len(msgspec.json.decode(probe.images, type=list[Raw])) if is_list(probe.images) else 0
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    _check_svg(fields, probe.output_format)
    size = len(probe.prompt.encode("utf-8", "surrogatepass"))
    n = probe.n or 1
    estimate = drawn(size, n, probe.quality or "", sent)
    return MediaEnvelope(
        fields, probe.model, bool(probe.stream), False, None, n, size, estimate, prompt_bytes=size
    )  # fmt: skip


def read_edits(body: bytes, headers: HeaderPairs) -> MediaEnvelope:
    """A form with its images, or JSON that names them."""
    content_type = content_type_of(headers)
    if not content_type.lower().startswith(b"multipart/"):
        return read_images(body)
    form = _Form(body, content_type)
    images = form.files("image", "image[]")
    if not images:
        raise invalid("image", _RULES)
    _check_svg(form.parts, form.text("output_format"))
    count = form.text("n") or "1"
    if not (count.isascii() and count.isdigit() and len(count) < 4 and 1 <= int(count) <= MAX_IMAGES):
        raise invalid("n", _RULES)
    size = len((form.text("prompt") or "").encode())
    estimate = drawn(size, int(count), form.text("quality") or "", len(images))
    return form.envelope(estimate, size, int(count))


def _check_svg(names: Iterable[str], output_format: str | None) -> None:
    """An SVG is written by a second model that the request names, and its tokens are told apart (`svg_usage`): neither the
    key's models nor the price are about that one."""
    found = next((name for name in names if name == "svg" or name.startswith("svg[")), None)
    if found is None and (output_format or "").lower() == "svg":
        found = "output_format"
    if found is not None:
        raise BadRequest(
            f"`{found}` asks for an SVG, which a second model writes; Naru cannot bill that one yet. Ask for png, webp or "
            "jpeg.",
            code="unsupported_parameter",
            param=found,
        )


def read_transcription(body: bytes, headers: HeaderPairs) -> MediaEnvelope:
    form = _Form(body, content_type_of(headers))
    files = form.files("file")
    if len(files) != 1:
        raise invalid("file", _RULES)
    size = len((form.text("prompt") or "").encode())
    seconds = sound_seconds(body, files[0].start, files[0].end)
    envelope = form.envelope(heard(seconds, True, size), size, 1)
    envelope.is_text = form.text("response_format") in TEXT_FORMATS
    return envelope


def forward(envelope: Envelope, model: str) -> Forwarded:
    """The caller's own body with the model's name changed: of a form every other byte, of JSON every other value."""
    assert isinstance(envelope, MediaEnvelope)
    if envelope.model_part is None:
        return Forwarded(encode({**envelope.fields, "model": model}))
    body = with_text(envelope.body, envelope.model_part, model.encode())
    return Forwarded(body, content_type=envelope.content_type)


def content_type_of(headers: HeaderPairs) -> bytes:
    """Raises BadRequest where it stands twice."""
    found = [value for name, value in headers if name == b"content-type"]
    if len(found) > 1:
        raise malformed("it has more than one Content-Type")
    return found[0].strip() if found else b""


class _Form:
    """A form's parts by name, each that is read at most once."""

    def __init__(self, body: bytes, content_type: bytes) -> None:
        self.body = body
        self.content_type = content_type
        self.parts: dict[str, list[Part]] = {}
        for part in read_parts(body, boundary_of(content_type)):
            self.parts.setdefault(part.name, []).append(part)
        if not DENIED.isdisjoint(self.parts):
            raise denied(min(DENIED & self.parts.keys()))

    def files(self, *names: str) -> list[Part]:
        found = [part for name in names for part in self.parts.get(name, ())]
        if any(part.filename is None for part in found):
            raise invalid(names[0], _RULES)
        return found

    def text(self, name: str) -> str | None:
        """A plain field's text. Raises BadRequest where it stands twice, or is a file."""
        found = self.parts.get(name)
        if found is None:
            return None
        if len(found) > 1:
            raise BadRequest(f"`{name}` stands twice. Send it once.", code="duplicate_parameter", param=name)
        if found[0].filename is not None:
            raise BadRequest(f"`{name}` is a plain field, not a file.", code="invalid_value", param=name)
        try:
            return self.body[found[0].start : found[0].end].decode()
        except UnicodeDecodeError:
            raise BadRequest(f"`{name}` is not UTF-8 text.", code="invalid_value", param=name) from None

    def envelope(self, estimate: Usage, prompt_bytes: int, n: int) -> MediaEnvelope:
        model = self.text("model")
        if not model or len(model) > MAX_MODEL_CHARS:
            raise invalid("model", _RULES)
        stream = (self.text("stream") or "").lower()
        if stream not in _YES | _NO:
            raise invalid("stream", _RULES)
        return MediaEnvelope(
            {}, model, stream in _YES, False, None, n, len(self.body), estimate, self.body, self.content_type,
            self.parts["model"][0], False, prompt_bytes,
        )  # fmt: skip
