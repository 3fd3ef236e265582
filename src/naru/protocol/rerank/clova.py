"""CLOVA Studio's reranker, as an upstream. It does not score: it cites the documents that matter and writes an answer from
them (providers.md A1.1; its docs, clovastudio-reranker).

So the results are the cited documents alone, in the order of citing, each with a score of 1; its text is the `answer`.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from naru.errors import UpstreamError
from naru.protocol.clova.errors import decode_error
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.embeddings.clova import result_of
from naru.protocol.plain import cannot, check_count, usage_of
from naru.protocol.rerank.middle import Ranked, RerankRequest, RerankResponse
from naru.protocol.wire import BAD_JSON, encode, unreadable

NAME = "rerank_clova"


class _Cited(Struct, gc=False):
    id: str
    doc: str | None = None


class _Result(Struct, gc=False):
    citedDocuments: list[_Cited]
    result: str | None = None
    usage: Raw = Raw(b"null")


_decode_result = msgspec.json.Decoder(_Result).decode


class ClovaRerank:
    """See dialect.PlainUpstream."""

    name = NAME
    stream_type = b"application/json"  # never streamed

    def encode_request(self, request: RerankRequest, quirks: Quirks) -> Forwarded:
        """Raises BadRequest for an instruction, which it does not take. `top_n` is kept to when the answer is told."""
        check_count(len(request.documents), quirks, "documents", "documents")
        if request.instruct is not None:
            raise cannot("instruct", "This model's provider takes no instruction. Leave `instruct` out.")
        documents = [{"id": str(place), "doc": text} for place, text in enumerate(request.documents)]
        return Forwarded(encode({"documents": documents, "query": request.query}), tuple(request.extra))

    def decode_response(self, body: bytes, quirks: Quirks) -> RerankResponse:
        raw = result_of(body, quirks)
        try:
            result = _decode_result(raw)
            places = dict.fromkeys(int(cited.id) for cited in result.citedDocuments)
        except (*BAD_JSON, ValueError):
            raise unreadable("it cites no documents that were sent") from None
        return RerankResponse(
            results=tuple(Ranked(place, 1.0) for place in places),
            answer=result.result,
            usage=usage_of(result.usage),
            dialect=NAME,
        )

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError:
        return decode_error(status, body, quirks)
