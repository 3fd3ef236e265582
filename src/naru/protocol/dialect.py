"""What every dialect offers: eight functions over one set of typed messages, plus the same-dialect short cut.

Facing the client:    read, decode_request, encode_response, StreamEncoder, encode_error
Facing the upstream:  encode_request, decode_response, StreamDecoder, decode_error
Same dialect on both sides: `forward` (request) and `StreamRelay` (response): bytes through, usage watched on the side.

A dialect is a module-like object; the gateway holds one per client path and one per deployment and never asks for its
name.

Dialects come in families, and only within one can a request be translated: conversations (`Dialect`), and the plain
families, which are never streamed: embeddings and rerank (`PlainClient`, `PlainUpstream`, each over its own typed
middle). The media families, sound and images, have one dialect each (`MediaDialect`) and are only passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Raw, Struct

from naru.errors import NaruError, UpstreamError
from naru.protocol.messages import Event, Request, Response, Usage

#: The family of every dialect that holds a conversation, text completions included.
CHAT = "chat"
PLAIN_FAMILIES = frozenset({"embeddings", "rerank"})
#: Media family -> what its requests are counted in where a model is not billed by the token.
MEDIA_FAMILIES = {
    "transcription": "second",
    "translation": "second",
    "speech": "character",
    "images": "image",
    "edits": "image",
}

#: A request's headers, as (name in small letters, value).
HeaderPairs = Sequence[tuple[bytes, bytes]]

Asked = TypeVar("Asked")
Told = TypeVar("Told")
Asked_co = TypeVar("Asked_co", covariant=True)
Asked_contra = TypeVar("Asked_contra", contravariant=True)
Told_co = TypeVar("Told_co", covariant=True)
Told_contra = TypeVar("Told_contra", contravariant=True)


def family_of(name: str) -> str:
    """The family of a dialect, by its name: `embeddings_gemini` is of the family `embeddings`."""
    stem = name.partition("_")[0]
    return stem if stem in PLAIN_FAMILIES or stem in MEDIA_FAMILIES else CHAT


class Quirks(Struct, frozen=True, kw_only=True):
    """How an upstream departs from its dialect. Each field is data with a name and a reason; providers and models set them.

    Facts and sources: reference/providers.md A0 to A7.
    """

    #: Where reasoning comes back beside `content`: reasoning_content with DeepSeek and most; reasoning with vLLM, Ollama,
    #: Groq. Both are understood from anyone; another name has to be given here.
    thinking_field: str = "reasoning_content"
    #: How earlier reasoning is sent back in assistant messages; None: the upstream refuses the field, so it is removed.
    thinking_replay_field: str | None = None
    #: With `tools`, every earlier assistant message must carry its reasoning, else 400 (DeepSeek's thinking mode). Where
    #: the caller did not keep it, a single space is sent, which is accepted. Needs `thinking_replay_field`.
    needs_reasoning_replay: bool = False
    #: What a turn with tools thought, or was signed with, is remembered for callers who do not send it back: this upstream
    #: refuses the next turn without it, or answers it worse (replay.py).
    remembers_reasoning: bool = False
    #: Role `developer` is OpenAI's alone; everyone else gets `system`.
    has_developer_role: bool = False
    #: max_tokens | max_completion_tokens; None leaves the caller's own field as it is.
    max_tokens_field: str | None = None
    #: Whether stream_options.include_usage may be sent. Where not, usage is estimated if none arrives.
    has_stream_usage: bool = True
    #: Top-level request fields this upstream rejects and whose absence changes no answer: removed, and named to the
    #: caller.
    drops: frozenset[str] = frozenset()
    #: Top-level request fields renamed on the way out, as (ours, theirs).
    renames: tuple[tuple[str, str], ...] = ()
    #: (ours, theirs) for reasoning effort values this upstream spells differently.
    effort_values: tuple[tuple[str, str], ...] = ()
    #: How thinking is switched: openai_effort | deepseek | qwen_toggle | qwen_effort | template_kwarg | openrouter | none.
    thinking_style: str = "openai_effort"
    #: inline: `<think>…</think>` stands in the content; open_implied: only the closing tag does; none: separate field.
    think_tag: str = "none"
    #: Content parts come as a list of typed chunks (Mistral's thinking models).
    has_list_content: bool = False
    #: Answers only as a stream (DashScope's thinking and omni models): a plain call is streamed upstream and gathered.
    is_stream_only: bool = False
    #: Thinks only in a stream, and refuses a plain call that asks for it (DashScope): such a call is streamed and gathered.
    thinks_only_streamed: bool = False
    #: What this upstream refuses while it thinks: `tool_choice` (a forced one), `response_format` (JSON mode). They decide
    #: what the answer is, thinking only how good: it is switched off for that request.
    thinking_excludes: frozenset[str] = frozenset()
    #: Was taught to read `/think` and `/no_think` at the end of a message (Qwen3): the text stays as it is.
    reads_soft_switch: bool = False
    #: The `n` > 1 of one request is refused upstream.
    has_n: bool = True
    #: Refuses function tools on chat completions while it reasons; its Responses endpoint takes both (providers.md A5.3).
    tools_need_responses: bool = False
    #: Most texts of one embeddings call, or documents of one rerank call. None: not known.
    max_inputs: int | None = None
    #: How it takes the beginning of its own answer, to go on with it: plain (as the last message), prefix or partial (so
    #: marked), continue_final (vLLM's flags); none: not at all.
    prefill: str = "none"
    #: Whether embeddings may be asked for in base64; where not, floats are asked for and encoded here.
    has_base64: bool = True
    #: 429 with code insufficient_quota means tokens per minute here (DashScope), not an empty account (OpenAI).
    is_quota_retryable: bool = False
    #: The most output tokens of the model, from the catalogue; None: not known. For upstreams that must be told a limit.
    max_output: int | None = None
    #: Takes pictures as data only: it refuses their addresses, or does not fetch them.
    needs_image_data: bool = False
    #: A stream's count of input tokens holds the cached ones, where a whole answer's does not (OpenAI's models on Bedrock).
    stream_input_has_cache: bool = False


class Envelope(Struct):
    """A request as far as routing, limits and money need it; everything else stays raw JSON in `fields`.

    `fields` has each top-level key once. `input_bytes` is the size of what the model reads (messages, tools, schema).
    `estimate` is what the request alone tells of its usage, where bytes are no measure of it (sound, images).
    """

    fields: dict[str, Raw]
    model: str
    is_stream: bool
    wants_usage: bool
    max_output_tokens: int | None
    n: int
    input_bytes: int
    estimate: Usage | None = None


class Forwarded(Struct):
    """A body ready for the upstream, and the names of what had to be left out."""

    body: bytes
    dropped: tuple[str, ...] = ()
    content_type: bytes = b"application/json"


class ShownCost(int):
    """Nano-dollars that are also told in won: `krw` is a decimal with every digit."""

    krw: str

    def __new__(cls, nano_usd: int, krw: str) -> ShownCost:
        made = super().__new__(cls, nano_usd)
        made.krw = krw
        return made


#: Prices a usage record in nano-dollars; handed in so that a stream can carry its own cost.
Pricer = Callable[[Usage], int]


class StreamRelay(Protocol):
    """Upstream bytes in, client bytes out, for one stream. Pure: the gateway moves the bytes.

    Feed what arrives in pieces of any size; write what `feed` returns. `has_content` turns True with the first content
    the client would see: until then a failure may move to another deployment. `error` is set when the upstream reported one
    inside the stream, or sent garbage: nothing is fed after that.
    """

    @property
    def has_content(self) -> bool: ...
    @property
    def is_finished(self) -> bool: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def output_chars(self) -> int: ...
    @property
    def error(self) -> UpstreamError | None: ...

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> bytes:
        """The upstream closed cleanly. Returns what is still owed ([DONE], say); sets `error` if the stream was cut."""
        ...


class StreamDecoder(Protocol):
    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamError on garbage or on an error reported inside the stream.

        Events that came before the error in the same piece are returned first; then the next call raises.
        """
        ...

    def close(self) -> list[Event]: ...


class StreamEncoder(Protocol):
    def event(self, event: Event) -> bytes: ...

    def close(self) -> bytes: ...


class WholeAnswer(Struct):
    """A non-streamed answer for the client, and what money needs to know about it. An empty `content_type` stands for the
    upstream's own."""

    body: bytes
    usage: Usage | None
    output_chars: int
    content_type: bytes = b"application/json"


class ClientSide(Protocol):
    """What the gateway asks of the dialect that its caller speaks, whatever the family."""

    name: str
    #: content type of streamed answers; empty: the upstream's own
    stream_type: bytes
    #: request headers that are part of the protocol and go on to an upstream that speaks it too
    passed_headers: frozenset[bytes]

    def read(self, body: bytes, path: str, headers: HeaderPairs = ()) -> Envelope:
        """What routing, limits and money need of a request. `path` is the request's own, query included: Gemini's names the
        model there. `headers` say what kind of body it is, for who takes more than JSON. Raises BadRequest."""
        ...

    def encode_error(self, error: NaruError) -> tuple[int, bytes]: ...
    def encode_stream_error(self, error: NaruError) -> bytes: ...


class UpstreamSide(Protocol):
    """What the gateway asks of the dialect that it speaks to a provider, whatever the family."""

    name: str
    #: content type of its streams
    stream_type: bytes

    def decode_error(self, status: int, body: bytes, quirks: Quirks) -> UpstreamError: ...


class Dialect(ClientSide, UpstreamSide, Protocol):
    """A dialect of conversations."""

    def decode_request(self, envelope: Envelope) -> Request: ...
    def encode_request(self, request: Request, quirks: Quirks) -> Forwarded: ...
    def encode_response(self, response: Response, envelope: Envelope) -> bytes:
        """`envelope` is the request's: some protocols echo its fields."""
        ...

    def decode_response(self, body: bytes, quirks: Quirks) -> Response: ...
    def stream_encoder(self, envelope: Envelope, price: Pricer) -> StreamEncoder: ...
    def stream_decoder(self, quirks: Quirks) -> StreamDecoder: ...

    def forward(self, envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
        """Same dialect: the caller's own body with the model name and the policy fields changed, re-encoded once."""
        ...

    def relay_whole(self, body: bytes, quirks: Quirks) -> WholeAnswer:
        """Same dialect: the upstream's own body, repaired only where it breaks the dialect. Raises UpstreamError."""
        ...

    def stream_relay(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> StreamRelay: ...


class PlainClient(ClientSide, Protocol[Asked_co, Told_contra]):
    """A dialect of a plain family, facing the client: `Asked` and `Told` are the family's typed request and response."""

    def decode_request(self, envelope: Envelope) -> Asked_co: ...
    def encode_response(self, response: Told_contra, envelope: Envelope) -> bytes: ...


class PlainUpstream(UpstreamSide, Protocol[Asked_contra, Told_co]):
    """A dialect of a plain family, facing the upstream."""

    def encode_request(self, request: Asked_contra, quirks: Quirks) -> Forwarded: ...
    def decode_response(self, body: bytes, quirks: Quirks) -> Told_co: ...


class PlainDialect(PlainClient[Asked, Told], PlainUpstream[Asked, Told], Protocol[Asked, Told]):
    """A dialect of a plain family that both sides may speak."""

    def forward(self, envelope: Envelope, model: str, quirks: Quirks) -> Forwarded: ...
    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        """The upstream's own body, put into the form that the caller asked for. Raises UpstreamError."""
        ...


class MediaRelay(StreamRelay, Protocol):
    """A stream of events or of sound; the answer's head tells which."""

    @property
    def is_events(self) -> bool: ...

    def takes(self, content_type: bytes) -> bool:
        """Whether an answer of this type is a stream, to be fed here. Anything else is a whole answer."""
        ...


class MediaDialect(ClientSide, UpstreamSide, Protocol):
    """A dialect of a media family: the body keeps every byte but the model's name, the answer all of them."""

    def forward(self, envelope: Envelope, model: str) -> Forwarded: ...

    def relay_whole(self, body: bytes, envelope: Envelope, quirks: Quirks) -> WholeAnswer:
        """The upstream's own body, looked into for usage and errors. Raises UpstreamError."""
        ...

    def media_relay(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> MediaRelay: ...
