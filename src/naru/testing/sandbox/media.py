"""Sound and images of the sandbox: a text about a file, a tone, a pattern. Pure, and always the same.

The form is read by rules of its own, not by the gateway's: what the sandbox finds in it is what any server would.
"""

from __future__ import annotations

import binascii
import math
import re
import struct
import zlib
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from naru.errors import BadRequest
from naru.testing.sandbox import tokens
from naru.testing.sandbox.behaviour import Behaviour
from naru.testing.sandbox.wire import counted

HEARD_PER_SECOND = 10
SPOKEN_PER_CHARACTER = 2
IMAGE_TOKENS = 100
SIDE = 16
SAMPLE_RATE = 8_000
#: A sixteenth of a second a character: the pace of speech.
SAMPLES_PER_CHARACTER = 500
PITCH_HZ = 440
MAX_CHARACTERS = 4_096
MAX_IMAGES = 10

#: A piece of a stream, and how many tokens it is.
Piece = tuple[bytes, int]


class Upload(msgspec.Struct):
    """A form's plain fields, and its files as (field, filename, content)."""

    fields: dict[str, str]
    files: list[tuple[str, str, bytes]]


class SpeechRequest(msgspec.Struct, kw_only=True):
    model: str
    input: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
    voice: Any = "alloy"
    response_format: str = "wav"
    stream_format: Literal["audio", "sse"] = "audio"


class ImageRequest(msgspec.Struct, kw_only=True):
    model: str
    prompt: str
    n: Annotated[int, Meta(ge=1, le=MAX_IMAGES)] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    sent: int = 0


def read_form(content_type: str, body: bytes) -> Upload:
    """Raises BadRequest."""
    found = re.match(r'multipart/form-data;\s*boundary="?([^";]+)', content_type)
    if found is None:
        raise BadRequest("This endpoint takes multipart/form-data.", param="file")
    made = Upload({}, [])
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[1].encode("latin-1"))
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise BadRequest("The form is cut off.")
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        filename = re.search(rb'filename="([^"]*)"', head)
        if name is None:
            raise BadRequest("A part of the form has no name.")
        if filename is None:
            made.fields[name[1].decode()] = content.decode("utf-8", "replace")
        else:
            made.files.append((name[1].decode(), filename[1].decode("utf-8", "replace"), content))
    if "model" not in made.fields:
        raise BadRequest("The form has no 'model'.", param="model")
    return made


# --- Transcription ----------------------------------------------------------------------------------------------------


class Transcript(msgspec.Struct):
    text: str
    seconds: float
    prompt: str

    def usage(self, behaviour: Behaviour) -> Any:
        sound = math.ceil(self.seconds) * HEARD_PER_SECOND
        words = tokens.count(self.prompt)
        details = {"audio_tokens": sound, "text_tokens": words}
        return _told(behaviour, sound + words, tokens.count(self.text), {"input_token_details": details}, "tokens")

    def whole(self, form: str, behaviour: Behaviour) -> tuple[str, bytes]:
        """Content type and body. Raises BadRequest."""
        end = f"{int(self.seconds) // 60:02}:{self.seconds % 60:06.3f}"
        if form == "text":
            return "text/plain; charset=utf-8", f"{self.text}\n".encode()
        if form == "srt":
            cue = f"1\n00:00:00,000 --> 00:{end.replace('.', ',')}\n{self.text}\n\n"
            return "text/plain; charset=utf-8", cue.encode()
        if form == "vtt":
            return "text/vtt; charset=utf-8", f"WEBVTT\n\n00:00:00.000 --> 00:{end}\n{self.text}\n\n".encode()
        usage = self.usage(behaviour)
        body: dict[str, Any] = {"text": self.text}
        if form in ("verbose_json", "diarized_json"):
            body = {"task": "transcribe", "language": "english", "duration": self.seconds, **body, "segments": []}
            usage = {"type": "duration", "seconds": math.ceil(self.seconds)} if isinstance(usage, dict) else usage
        elif form != "json":
            raise BadRequest("response_format is json, text, srt, verbose_json or vtt.", param="response_format")
        return "application/json", msgspec.json.encode(body if usage is None else {**body, "usage": usage})

    def events(self, behaviour: Behaviour) -> list[Piece]:
        made = [(_event({"type": "transcript.text.delta", "delta": each}), 1) for each in tokens.split(self.text)]
        return made + _last(behaviour, {"type": "transcript.text.done", "text": self.text}, self.usage(behaviour))


def transcript(form: Upload) -> Transcript:
    """Raises BadRequest."""
    files = [(name, content) for field, name, content in form.files if field == "file"]
    if len(files) != 1:
        raise BadRequest("The form has no 'file'.", param="file")
    name, content = files[0]
    seconds = _wav_seconds(content)
    length = f"{len(content)} bytes" if seconds is None else f"{seconds:.3f} seconds of sound"
    text = f"Sandbox heard {length} in {name or 'a file'}, sha256 {sha256(content).hexdigest()[:16]}."
    return Transcript(text, len(content) / 8_000 if seconds is None else seconds, form.fields.get("prompt", ""))


def _wav_seconds(content: bytes) -> float | None:
    """Of a WAV as everybody writes it: `fmt ` first, and one block of data."""
    at = content.find(b"data", 12, 4096)
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt " or at < 0:
        return None
    (rate,) = struct.unpack("<I", content[28:32])
    (size,) = struct.unpack("<I", content[at + 4 : at + 8])
    return float(min(size, len(content) - at - 8) / rate) if rate else None


# --- Speech -----------------------------------------------------------------------------------------------------------


def wav(samples: int) -> bytes:
    """A tone of so many samples, 16 bits, one channel."""
    data = tone(samples)
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, SAMPLE_RATE * 2, 2, 16)
    head += b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", 4 + len(head) + len(data)) + b"WAVE" + head + data


def tone(samples: int) -> bytes:
    step = 2 * math.pi * PITCH_HZ / SAMPLE_RATE
    period = SAMPLE_RATE // math.gcd(SAMPLE_RATE, PITCH_HZ)
    once = struct.pack(f"<{period}h", *(int(8_000 * math.sin(step * place)) for place in range(period)))
    return (once * (samples // period + 1))[: 2 * samples]


def sound(request: SpeechRequest) -> tuple[str, bytes]:
    """Content type and sound: WAV, whatever was asked for, unless that was pcm. It names what it is."""
    samples = SAMPLES_PER_CHARACTER * len(request.input)
    return ("audio/pcm", tone(samples)) if request.response_format == "pcm" else ("audio/wav", wav(samples))


def speech_pieces(request: SpeechRequest) -> list[Piece]:
    """The sound, a word's worth of it at a time."""
    _, data = sound(request)
    size = 8 * SAMPLES_PER_CHARACTER
    return [(data[at : at + size], 1) for at in range(0, len(data), size)]


def speech_events(request: SpeechRequest, behaviour: Behaviour) -> list[Piece]:
    made = [
        (_event({"type": "speech.audio.delta", "audio": _base64(piece)}), count)
        for piece, count in speech_pieces(request)
    ]
    spoken = SPOKEN_PER_CHARACTER * len(request.input)
    usage = _told(behaviour, tokens.count(request.input), spoken)
    return made + _last(behaviour, {"type": "speech.audio.done"}, usage)


# --- Images -----------------------------------------------------------------------------------------------------------


def png(seed: bytes) -> bytes:
    """Sixteen by sixteen dots in two colours, mirrored, from a hash."""
    bits = sha256(seed).digest()
    rows = []
    for row in range(SIDE):
        half = [bits[row % 16 * 2 + place // 8] >> place % 8 & 1 for place in range(SIDE // 2)]
        dots = half + half[::-1]
        rows.append(b"\0" + b"".join(bits[:3] if dot else b"\xff\xff\xff" for dot in dots))
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def edit_request(form: Upload) -> ImageRequest:
    """Raises BadRequest."""
    files = [name for name, _, _ in form.files if name in ("image", "image[]")]
    if not files:
        raise BadRequest("The form has no 'image'.", param="image")
    names = ("model", "prompt", "n", "response_format", "stream", "partial_images")
    fields = {name: form.fields[name] for name in names if name in form.fields}
    try:
        return msgspec.convert({**fields, "sent": len(files)}, ImageRequest, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid request: {error}.") from error


def image_usage(request: ImageRequest, behaviour: Behaviour) -> Any:
    words, sent, made = tokens.count(request.prompt), request.sent * IMAGE_TOKENS, (request.n or 1) * IMAGE_TOKENS
    details = {
        "input_tokens_details": {"text_tokens": words, "image_tokens": sent},
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
    }
    return _told(behaviour, words + sent, made, details)


def images(request: ImageRequest, created: int, behaviour: Behaviour) -> bytes:
    made = [_base64(png(f"{place} {request.prompt}".encode())) for place in range(request.n or 1)]
    is_url = request.response_format == "url"
    data = [{"url": f"data:image/png;base64,{each}"} if is_url else {"b64_json": each} for each in made]
    body: dict[str, Any] = {
        "created": created, "data": data, "background": "opaque", "output_format": "png", "quality": "low",
        "size": f"{SIDE}x{SIDE}",
    }  # fmt: skip
    usage = image_usage(request, behaviour)
    return msgspec.json.encode(body if usage is None else {**body, "usage": usage})


def image_events(request: ImageRequest, created: int, behaviour: Behaviour) -> list[Piece]:
    kind = "image_edit" if request.sent else "image_generation"
    common: dict[str, Any] = {
        "created_at": created, "size": f"{SIDE}x{SIDE}", "quality": "low", "background": "opaque", "output_format": "png",
    }  # fmt: skip
    made = [
        (
            _event(
                {"type": f"{kind}.partial_image", **common, "partial_image_index": place, "b64_json": _drawn(place)}
            ),
            1,
        )
        for place in range(request.partial_images or 0)
    ]
    whole = _base64(png(f"0 {request.prompt}".encode()))
    last = {"type": f"{kind}.completed", **common, "b64_json": whole}
    return made + _last(behaviour, last, image_usage(request, behaviour))


def _drawn(place: int) -> str:
    return _base64(png(f"partial {place}".encode()))


# --- Shared -----------------------------------------------------------------------------------------------------------


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _event(fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (fields["type"].encode(), msgspec.json.encode(fields))


def _last(behaviour: Behaviour, fields: dict[str, Any], usage: Any) -> list[Piece]:
    """`done=0` leaves it out."""
    if not behaviour.done:
        return []
    return [(_event(fields if usage is None else {**fields, "usage": usage}), 1)]


def _told(behaviour: Behaviour, read: int, written: int, details: dict[str, Any] | None = None, kind: str = "") -> Any:
    """Usage as the behaviour wants it told."""
    told = counted(behaviour, read, written)
    if not isinstance(told, tuple):
        return told
    fields: dict[str, Any] = {"type": kind} if kind else {}
    return fields | {"input_tokens": told[0], "output_tokens": told[1], "total_tokens": sum(told), **(details or {})}
