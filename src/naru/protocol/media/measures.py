"""How much sound and how many images a request is about, where only the request is there to tell.

Used for what no provider reports (characters) and, marked as estimates, where one reports nothing. Rules, each with where it
comes from:

| what | rule | why |
|---|---|---|
| seconds of a WAV | its data bytes by its byte rate, rounded up | the file's own header |
| seconds of anything else | 8,000 bytes a second | 64 kbit/s: speech is sent in MP3 of 32 to 128, Opus of 16 to 32 |
| tokens of sound heard | 10 a second | OpenAI's audio input: one token for 100 ms |
| tokens of sound spoken | 6 for each token of the text | OpenAI's 20 a second, at the pace of its voices |
| tokens of an image made | 272, 1,056 or 4,160 by quality | gpt-image-1, 1024 x 1024; medium unless asked otherwise |
| tokens of an image sent | 1,056 | as one of medium quality |
"""

from __future__ import annotations

from naru.protocol.messages import Media, Usage
from naru.protocol.tokens import estimate_tokens, estimate_tokens_bytes

BYTES_PER_SECOND = 8_000
HEARD_TOKENS_PER_SECOND = 10
SPOKEN_TOKENS_PER_TOKEN = 6
IMAGE_TOKENS = {"low": 272, "high": 4_160, "xhigh": 4_160, "max": 4_160, "hd": 4_160}
MEDIUM_IMAGE_TOKENS = 1_056

_CHUNK_HEAD = 8
_MAX_CHUNKS = 64
#: The size that a WAV written to a pipe states, because its writer could not know.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)


def sound_seconds(body: bytes, start: int, end: int) -> int:
    """Whole seconds of the file body[start:end], rounded up, at least 1."""
    found = _wav_seconds(body, start, end)
    return max(1, -(-(end - start) // BYTES_PER_SECOND) if found is None else found)


def _wav_seconds(body: bytes, start: int, end: int) -> int | None:
    if end - start < 12 or body[start : start + 4] not in (b"RIFF", b"RF64") or body[start + 8 : start + 12] != b"WAVE":
        return None
    at, rate = start + 12, 0
    for _ in range(_MAX_CHUNKS):
        if at + _CHUNK_HEAD > end:
            break
        kind, size = body[at : at + 4], int.from_bytes(body[at + 4 : at + _CHUNK_HEAD], "little")
        at += _CHUNK_HEAD
        if kind == b"fmt ":
            rate = int.from_bytes(body[at + 8 : at + 12], "little")
        elif kind == b"data":
            size = end - at if size in _UNKNOWN_SIZES else min(size, end - at)
            return -(-size // rate) if rate else None
        at += size + size % 2
    return None


def heard(seconds: int, is_guess: bool, prompt_bytes: int, output_bytes: int = 0) -> Usage:
    """A transcription nobody counted the tokens of."""
    sound = seconds * HEARD_TOKENS_PER_SECOND
    return Usage(
        input=sound + estimate_tokens_bytes(prompt_bytes),
        output=estimate_tokens_bytes(output_bytes),
        audio_input=sound,
        is_estimated=True,
        media=Media("second", seconds, is_guess),
    )


def spoken(text: str, instructions: str) -> Usage:
    """Characters are Unicode's code points, and exact: they are the caller's own text."""
    tokens = estimate_tokens(text)
    return Usage(
        input=tokens + estimate_tokens(instructions),
        output=tokens * SPOKEN_TOKENS_PER_TOKEN,
        is_estimated=True,
        media=Media("character", len(text)),
    )


def drawn(prompt_bytes: int, n: int, quality: str, sent: int = 0) -> Usage:
    """`n` images asked for, `sent` ones to start from."""
    made = n * IMAGE_TOKENS.get(quality, MEDIUM_IMAGE_TOKENS)
    seen = sent * MEDIUM_IMAGE_TOKENS
    return Usage(
        input=estimate_tokens_bytes(prompt_bytes) + seen,
        output=made,
        is_estimated=True,
        media=Media("image", n, True, image_input=seen, image_output=made),
    )
