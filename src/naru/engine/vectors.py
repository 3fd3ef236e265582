"""Embeddings and judgements as the protocol has them, from a model that makes them. Blocking."""

from __future__ import annotations

from naru.engine.embedding import shortened
from naru.engine.port import Embedder, Reranker
from naru.errors import BadRequest
from naru.protocol.embeddings.middle import EmbeddingRequest, EmbeddingResponse, text_of_input
from naru.protocol.messages import Usage
from naru.protocol.rerank.middle import Ranked, RerankRequest, RerankResponse


def embedded(model: Embedder, request: EmbeddingRequest) -> EmbeddingResponse:
    """Texts are embedded as they are: an instruction is the caller's to write (embedding.query_text). Raises BadRequest."""
    wanted = request.dimensions
    if wanted is not None and not 1 <= wanted <= model.dimensions:
        raise BadRequest(f"`dimensions` must be from 1 to {model.dimensions} for this model.", param="dimensions")
    vectors, tokens = model.embed([text_of_input(each) for each in request.inputs])
    if wanted is not None:
        vectors = [shortened(vector, wanted) for vector in vectors]
    return EmbeddingResponse(
        vectors=tuple(tuple(vector) for vector in vectors), usage=Usage(input=tokens), model=request.model
    )


def ranked(model: Reranker, request: RerankRequest) -> RerankResponse:
    """Best first, at most `top_n`."""
    scores, tokens = model.scores(request.query, request.documents, request.instruct or "")
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: request.top_n]
    results = [
        Ranked(place, scores[place], request.documents[place] if request.return_documents else None) for place in order
    ]
    return RerankResponse(results=tuple(results), usage=Usage(input=tokens), model=request.model)
