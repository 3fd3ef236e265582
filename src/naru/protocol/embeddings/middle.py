"""The typed middle of embeddings: what every dialect of the family decodes into and encodes from."""

from __future__ import annotations

from msgspec import field

from naru.protocol.messages import Extra
from naru.protocol.plain import Input, PlainRequest, PlainResponse, cannot


class EmbeddingRequest(PlainRequest, frozen=True, kw_only=True):
    """`dimensions` is the length asked for, None the model's own. `task` says what the vectors are for, in the words of
    the provider (RETRIEVAL_QUERY with Gemini). `extra` is `dialect`'s alone."""

    inputs: tuple[Input, ...]
    dimensions: int | None = None
    task: str | None = None
    user: str | None = None
    extra: Extra = field(default_factory=dict)
    dialect: str = ""


class EmbeddingResponse(PlainResponse, frozen=True, kw_only=True):
    """`vectors` are in the order of the inputs. `extra` is `dialect`'s alone."""

    vectors: tuple[tuple[float, ...], ...]
    model: str = ""
    extra: Extra = field(default_factory=dict)
    dialect: str = ""


def text_of_input(given: Input) -> str:
    """For upstreams that read texts alone. Raises BadRequest for token ids."""
    if isinstance(given, str):
        return given
    raise cannot("input", "This model's provider takes texts, not token ids. Send `input` as text.")
