"""POST /v1beta/models/{model}:countTokens, answered here: an estimate, for models whose provider counts nothing."""

from __future__ import annotations

from urllib.parse import quote

from naru.protocol.counting import Rates, count_input
from naru.protocol.dialect import Envelope
from naru.protocol.gemini.read import read
from naru.protocol.gemini.request_in import decode_request
from naru.protocol.wire import BAD_JSON, decode_fields, encode, is_object

#: 12 tokens are recorded for nine words, so nothing is added for the message. An image of up to 384 pixels, or a tile of a
#: larger one, is 258 tokens by Google's rule.
RATES = Rates(once=0, message=1, image=258)

#: A whole request may stand inside, where `contents` alone would not say everything.
_WRAPPERS = ("generateContentRequest", "generate_content_request")


def read_count(body: bytes, model: str) -> Envelope:
    """The request to be counted: the body itself, or the generateContentRequest in it. Raises BadRequest."""
    try:
        fields = decode_fields(body)
    except BAD_JSON:
        fields = {}  # `read` says what is wrong with it
    inner = next((bytes(fields[name]) for name in _WRAPPERS if is_object(fields.get(name))), body)
    return read(inner, f"/models/{quote(model, safe='')}:generateContent")


def count_tokens(envelope: Envelope) -> bytes:
    """`{"totalTokens": n, "promptTokensDetails": […]}`."""
    count = count_input(decode_request(envelope), RATES)
    return encode({"totalTokens": count, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}]})
