"""What a library that runs models looks like from here: token ids in, token ids out, many requests at once.

A backend owns the library's thread. Requests are numbered by the caller; what they produce is delivered in that thread, all
of one step together, so that the receiver crosses into its own thread once a step and not once a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from naru.engine.vocabulary import Vocabulary

#: stop: an end token; length: max_tokens or the context is full; error: the library failed on this request.
Ending = Literal["", "stop", "length", "error"]


class Grammar(Struct, frozen=True):
    """What the text may be. `text` is a JSON schema, a regular expression, an EBNF grammar (xgrammar's), or a structural tag
    (xgrammar's JSON) that leaves free text free and binds what stands in tags."""

    kind: Literal["json_schema", "regex", "ebnf", "structural_tag"]
    text: str


class Decoding(Struct, frozen=True):
    """How tokens are chosen. `temperature` 0 is greedy. 0 and 1 switch off where they have no effect in the usual formulas:
    top_k 0, top_p 1, min_p 0, penalties 0, repetition_penalty 1.

    `logprobs`: the chosen token's is wanted, and of so many likeliest ones beside it where the library can.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    ignores_end: bool = False
    grammar: Grammar | None = None
    adapter: str = ""


class Prompt(Struct, frozen=True):
    """`ids` are what is computed on; with `images` (encoded files) the library makes its own of `text`."""

    ids: Sequence[int]
    text: str = ""
    images: tuple[bytes, ...] = ()
    audios: tuple[bytes, ...] = ()


class TokenLogprobs(Struct, frozen=True):
    """Natural logarithms: of the chosen token, and of the likeliest ones with their ids, best first."""

    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


class Piece(Struct):
    """What one step made for one request; the end token itself is not among the ids. `ending` is set on the last piece.
    `is_callers`: the error is the request's own fault, such as a schema that is none."""

    ids: Sequence[int] = ()
    logprobs: Sequence[TokenLogprobs] = ()
    ending: Ending = ""
    error: str = ""
    is_callers: bool = False


#: (number of the request, piece), of one step; possibly none. It may wait for whoever hears it.
Deliver = Callable[[Sequence[tuple[int, Piece]]], None]


class Facts(Struct, frozen=True):
    """`context` is in tokens, prompt and answer together. `library` with its version. `end_ids` stop a generation. `template` is
    the chat template of a model file that has it inside (GGUF); elsewhere it is a file of its own."""

    library: str
    device: str
    context: int
    end_ids: frozenset[int]
    adapters: tuple[str, ...] = ()
    takes_images: bool = False
    takes_audio: bool = False
    has_grammars: bool = True
    most_logprobs: int = 0
    template: str = ""


class Load(Struct, frozen=True):
    """`cache_usage` is the part of the KV memory that is in use, 0 to 1."""

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0


class Backend(Protocol):
    """A model that writes. All methods may be called from any thread, and none of them waits for the model."""

    @property
    def facts(self) -> Facts: ...
    @property
    def vocabulary(self) -> Vocabulary: ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt: special tokens are found in it, none is added."""
        ...

    def start(self, number: int, prompt: Prompt, decoding: Decoding) -> None:
        """What comes of it is delivered under `number`; the last piece has an ending, whatever happens."""
        ...

    def cancel(self, number: int) -> None:
        """Frees its place at the next step. Nothing is delivered after this has taken effect; an unknown number is fine."""
        ...

    def load(self) -> Load: ...

    def close(self) -> None:
        """Ends the thread; open requests are delivered an error."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A model that embeds. Blocking, one call at a time; vectors have length 1."""

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """(a vector for each text, tokens read)."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """A model that judges documents. Blocking, one call at a time."""

    def scores(self, query: str, documents: Sequence[str], instruction: str = "") -> tuple[list[float], int]:
        """(0 to 1 for each document, tokens read)."""
        ...


#: Adapters (LoRA) by name -> folder.
Adapters = Mapping[str, str]
