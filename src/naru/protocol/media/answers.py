"""Whole answers of the media endpoints: passed on as they came, looked into for errors and usage."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from naru.errors import UpstreamError
from naru.protocol.dialect import Envelope, Quirks, WholeAnswer
from naru.protocol.media.measures import heard
from naru.protocol.media.read import MediaEnvelope
from naru.protocol.media.usage import read_usage, tokens_of, whole_seconds
from naru.protocol.messages import Media, Usage
from naru.protocol.plain import answer_fields, no_answer
from naru.protocol.wire import BAD_JSON, Fields, decode_list, is_list, text_of, unreadable


def transcription(body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
    """JSON, or in the text formats whatever text there is. Raises UpstreamError."""
    assert isinstance(envelope, MediaEnvelope)
    if envelope.is_text:
        return WholeAnswer(body, heard_usage(None, None, envelope, len(body)), 0, b"")
    fields = answer_fields(body, quirks)
    text = text_of(fields.get("text"))
    if text is None:
        raise no_answer(fields, body, quirks, "it has no text")
    usage = heard_usage(fields.get("usage"), fields.get("duration"), envelope, len(text.encode("utf-8", "replace")))
    return WholeAnswer(body, usage, 0, b"")


def heard_usage(raw: Raw | None, duration: Raw | None, envelope: MediaEnvelope, output_bytes: int) -> Usage:
    """What was told, and for the rest what the request and the text tell."""
    wire = read_usage(raw)
    told = whole_seconds(wire.seconds if wire is not None and wire.seconds is not None else _number(duration))
    assert envelope.estimate is not None
    guess = envelope.estimate.media
    assert guess is not None
    seconds = guess.units if told is None else told
    counted = tokens_of(wire, Media("second", seconds, told is None))
    return counted or heard(seconds, told is None, envelope.prompt_bytes, output_bytes)


def _number(raw: Raw | None) -> float | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=float)
    except BAD_JSON:
        return None


def speech(body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
    """Speech comes as sound or as events; a whole answer in anything else is an error, or none that can be read."""
    raise _no_sound(body, quirks)


def _no_sound(body: bytes, quirks: Quirks) -> UpstreamError:
    what = "it is no sound"
    try:
        return no_answer(answer_fields(body, quirks), body, quirks, what)
    except UpstreamError as error:
        return error


def images(body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
    """Raises UpstreamError."""
    fields = answer_fields(body, quirks)
    data = fields.get("data")
    if not is_list(data):
        raise no_answer(fields, body, quirks, "it has no data")
    return WholeAnswer(body, drawn_usage(fields, envelope, len(decode_list(data))), 0, b"")


def drawn_usage(fields: Fields, envelope: Envelope, count: int) -> Usage:
    """`count` images were sent; of their tokens what was told, else the estimate."""
    if count == 0:
        raise unreadable("it has no image")
    media = Media("image", count)
    counted = tokens_of(read_usage(fields.get("usage")), media)
    estimate = envelope.estimate
    assert estimate is not None
    assert estimate.media is not None
    guessed = msgspec.structs.replace(estimate.media, units=count, is_estimated=False)
    return counted or msgspec.structs.replace(estimate, media=guessed)
