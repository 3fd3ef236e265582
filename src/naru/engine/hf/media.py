"""Pictures and sounds of a prompt, as a model's own processor makes tensors of them."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy
from PIL import Image, UnidentifiedImageError

from naru.engine.port import Prompt
from naru.errors import BadRequest

_MAX_PIXELS = 64 << 20  # of one picture, decoded: a small file may hold a huge one
_SCALE = {1: 128.0, 2: 32768.0, 4: 2147483648.0}


def inputs_of(processor: Any, prompt: Prompt) -> dict[str, Any]:
    """What the model's forward takes, with `input_ids` of [1, tokens]. Raises BadRequest."""
    more: dict[str, Any] = {}
    if prompt.images:
        more["images"] = [_picture(data) for data in prompt.images]
    if prompt.audios:
        more["audio"] = [_sound(data, _rate(processor)) for data in prompt.audios]
        more["sampling_rate"] = _rate(processor)
    try:
        return dict(processor(text=[prompt.text], return_tensors="pt", **more))
    except (ValueError, TypeError, IndexError) as error:
        raise BadRequest(f"The model's processor cannot read the pictures or sounds: {error}") from error


def _picture(data: bytes) -> Any:
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > _MAX_PIXELS:
            raise BadRequest(f"A picture has {image.width} x {image.height} pixels; at most {_MAX_PIXELS} are read.")
        return image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadRequest("A picture cannot be read; send PNG, JPEG, WebP or GIF.") from error


def _rate(processor: Any) -> int:
    return int(processor.feature_extractor.sampling_rate)


def _sound(data: bytes, rate: int) -> Any:
    """Samples of a WAV file, mono, -1 to 1, at the model's rate."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, own = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise BadRequest("A sound cannot be read; send WAV.") from error
    if width not in _SCALE or own <= 0:
        raise BadRequest(f"A sound has {width * 8} bits a sample; send 8, 16 or 32.")
    samples = numpy.frombuffer(raw, dtype={1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(numpy.float32)
    samples = (samples - 128.0 if width == 1 else samples) / _SCALE[width]
    mono = samples.reshape(-1, channels).mean(axis=1)
    if own == rate:
        return mono
    times = numpy.arange(int(len(mono) * rate / own)) * (own / rate)
    return numpy.interp(times, numpy.arange(len(mono)), mono).astype(numpy.float32)
