"""The typed middle of rerank: what every dialect of the family decodes into and encodes from."""

from __future__ import annotations

from msgspec import Struct, field

from naru.protocol.messages import Extra
from naru.protocol.plain import PlainRequest, PlainResponse


class RerankRequest(PlainRequest, frozen=True, kw_only=True):
    """`top_n` None: all documents. `instruct` tells the model what counts as relevant. `extra` is `dialect`'s alone."""

    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool = False
    instruct: str | None = None
    extra: Extra = field(default_factory=dict)
    dialect: str = ""


class Ranked(Struct, frozen=True):
    """`index` is the document's place in the request. Scores compare within one answer only."""

    index: int
    score: float
    document: str | None = None


class RerankResponse(PlainResponse, frozen=True, kw_only=True):
    """`results` in any order; there may be fewer than documents. `answer` is what the provider wrote beside ranking."""

    results: tuple[Ranked, ...]
    id: str = ""
    model: str = ""
    answer: str | None = None
    extra: Extra = field(default_factory=dict)
    dialect: str = ""
