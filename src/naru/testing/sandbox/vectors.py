"""Embeddings and rankings of the sandbox: by the words two texts share, not by what they mean. Pure, and always the same.

A word is a direction in space, made from its hash; a text is the sum of its words' directions, of length 1. So texts that
share words lie close together, and a document's relevance to a query is the cosine between the two.
"""

from __future__ import annotations

import binascii
import math
import struct
from hashlib import shake_128
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from naru.errors import BadRequest
from naru.testing.sandbox import tokens

DEFAULT_DIMENSIONS = 64
Shape = TypeVar("Shape")
Dimensions = Annotated[int, Meta(ge=1, le=4096)]

_ID_BYTES = 2
_SPAN = 32_768


class EmbedRequest(msgspec.Struct, kw_only=True):
    """Fields that the sandbox does not know are ignored, as most compatible servers do."""

    model: str
    input: Any
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None

    @property
    def texts(self) -> list[str]:
        """Token ids become words of their own."""
        given = self.input
        if isinstance(given, str):
            return [given]
        if isinstance(given, list) and given and all(isinstance(each, str) for each in given):
            return given
        if isinstance(given, list) and given and all(isinstance(each, list) for each in given):
            return [_of_ids(each) for each in given]
        return [_of_ids(given)]


class Document(msgspec.Struct):
    text: str


class RerankRequest(msgspec.Struct, kw_only=True):
    model: str
    query: str
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=1000)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False

    @property
    def texts(self) -> list[str]:
        return [each if isinstance(each, str) else each.text for each in self.documents]


def _of_ids(ids: Any) -> str:
    if not isinstance(ids, list) or not ids or not all(isinstance(each, int) for each in ids):
        raise BadRequest("'input' is a text, texts, token ids, or lists of them; none empty.", param="input")
    return " ".join(map(str, ids))


def vector(text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """Of length 1, except that a text without words is all zeros."""
    total = [0.0] * dimensions
    for word in tokens.split(text.lower()):
        for place, part in enumerate(_direction(word.strip(), dimensions)):
            total[place] += part
    length = math.sqrt(sum(part * part for part in total))
    return [part / length for part in total] if length else total


def _direction(word: str, dimensions: int) -> list[float]:
    digest = shake_128(word.encode("utf-8", "surrogatepass")).digest(_ID_BYTES * dimensions)
    return [number / _SPAN for number in struct.unpack(f"<{dimensions}h", digest)]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def embeddings(request: EmbedRequest) -> tuple[list[dict[str, Any]], int]:
    """OpenAI's `data`, and the tokens read."""
    dimensions = request.dimensions or DEFAULT_DIMENSIONS
    data = []
    for place, text in enumerate(request.texts):
        made: Any = vector(text, dimensions)
        if request.encoding_format == "base64":
            made = binascii.b2a_base64(struct.pack(f"<{dimensions}f", *made), newline=False).decode()
        data.append({"object": "embedding", "index": place, "embedding": made})
    return data, sum(map(tokens.count, request.texts))


def rankings(request: RerankRequest) -> tuple[list[dict[str, Any]], int]:
    """Cohere's `results`, the most relevant first, and the tokens read: the query counts once for each document."""
    query = vector(request.query)
    scored = [(max(0.0, cosine(query, vector(text))), place) for place, text in enumerate(request.texts)]
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    results: list[dict[str, Any]] = []
    for score, place in scored[: request.top_n]:
        result: dict[str, Any] = {"index": place, "relevance_score": round(score, 6)}
        if request.return_documents:
            result["document"] = {"text": request.texts[place]}
        results.append(result)
    read = sum(tokens.count(request.query) + tokens.count(text) for text in request.texts)
    return results, read


_SHAPES: dict[str, type[EmbedRequest] | type[RerankRequest]] = {"embed": EmbedRequest, "rerank": RerankRequest}


def read(kind: str, body: bytes) -> Any:
    """An EmbedRequest or a RerankRequest. Raises BadRequest, with the field's path as `param`."""
    return decode(_SHAPES[kind], body)


def decode(shape: type[Shape], body: bytes) -> Shape:
    """Raises BadRequest, with the field's path as `param`."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        _, _, where = str(error).partition(" - at `$")
        raise BadRequest(f"Invalid request: {error}.", param=where.strip("`.") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not JSON: {error}.", code="invalid_json") from error
