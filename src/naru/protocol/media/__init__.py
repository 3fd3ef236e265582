"""Sound and images in OpenAI's shape: transcription, translation, speech, images and their edits.

One dialect a family, so nothing is ever translated: the body keeps every byte of a form, the answer all of its own. Facts:
the API as the types of OpenAI's own client have it.
"""

from __future__ import annotations

from naru.errors import NaruError, UpstreamError
from naru.protocol.dialect import Envelope, Forwarded, HeaderPairs, MediaRelay, Pricer, Quirks, WholeAnswer
from naru.protocol.media import answers, read
from naru.protocol.media.stream import MediaStream
from naru.protocol.openai_chat.errors import decode_error, encode_error, encode_stream_error

__all__ = ["EDITS", "IMAGES", "SPEECH", "TRANSCRIPTION", "TRANSLATION", "Edits", "Images", "Speech", "Transcription"]


class _Media:
    """What the five share; see dialect.MediaDialect."""

    stream_type = b""
    passed_headers: frozenset[bytes] = frozenset()

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, envelope: Envelope, model: str) -> Forwarded:
        return read.forward(envelope, model)

    def media_relay(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> MediaRelay:
        return MediaStream(self.name, envelope, quirks, price)

    def encode_error(self, error: NaruError) -> tuple[int, bytes]:
        return encode_error(error)

    def encode_stream_error(self, error: NaruError) -> bytes:
        return encode_stream_error(error)

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)


class Transcription(_Media):
    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read.read_transcription(body, headers)

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        return answers.transcription(body, envelope, quirks)


class Speech(_Media):
    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read.read_speech(body)

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        return answers.speech(body, envelope, quirks)


class Images(_Media):
    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read.read_images(body)

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        return answers.images(body, envelope, quirks)


class Edits(Images):
    def read(self, body: bytes, path: str = "", headers: HeaderPairs = ()) -> Envelope:
        return read.read_edits(body, headers)


TRANSCRIPTION = Transcription("transcription")
TRANSLATION = Transcription("translation")
SPEECH = Speech("speech")
IMAGES = Images("images")
EDITS = Edits("edits")
