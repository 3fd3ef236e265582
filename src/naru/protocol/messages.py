"""The typed middle between all dialects: requests, parts, responses, usage and stream events.

Every dialect decodes into these and encodes from these; none knows another. `extra` is opaque to everyone but the
dialect that wrote it (signatures, encrypted reasoning, cache marks, unknown fields) and survives a round trip through that
dialect; whose it is stands in `dialect` of the Request, the Response or the stream's Start. An encoder must not write
another dialect's `extra`. JSON that Naru has no opinion on (tool schemas, logprobs) stays `msgspec.Raw`, so numbers keep
every digit.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

Extra = dict[str, Raw]
Role = Literal["system", "developer", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]


# --- Parts of a message -------------------------------------------------------------------------------------------


class Text(Struct, frozen=True):
    text: str
    extra: Extra = {}


class Image(Struct, frozen=True):
    """`url` is https://… or a data: URI; addresses are fetched only where `server.fetch_images` says so. `detail` is
    OpenAI's low | high | auto."""

    url: str
    detail: str | None = None
    extra: Extra = {}


class Audio(Struct, frozen=True):
    """`data` is base64; `format` a short name such as wav or mp3."""

    data: str
    format: str
    extra: Extra = {}


class File(Struct, frozen=True):
    """A document: exactly one of `data` (a data: URI or bare base64), `url`, `file_id` is set."""

    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    media_type: str | None = None
    extra: Extra = {}


class Reasoning(Struct, frozen=True):
    """Thinking that came before an answer. `signature` and `encrypted` must go back to their provider unchanged."""

    text: str
    signature: str | None = None
    encrypted: str | None = None
    extra: Extra = {}


class Refusal(Struct, frozen=True):
    text: str


class ToolCall(Struct, frozen=True):
    """`arguments` is the JSON text exactly as the model wrote it, which may be malformed.

    `kind` is function, custom (arguments are then free text) or function_call (OpenAI's legacy form, without an id of
    its own). `signature` is what the provider that made the call wants to see again with it (Gemini's).
    """

    id: str
    name: str
    arguments: str
    kind: str = "function"
    extra: Extra = {}
    signature: str | None = None


class ToolResult(Struct, frozen=True):
    call_id: str
    parts: tuple[Text | Image | File, ...]
    name: str | None = None
    is_error: bool = False
    extra: Extra = {}


class Opaque(Struct, frozen=True):
    """A part of a kind that only its own dialect understands. Other dialects refuse it by `kind`."""

    dialect: str
    kind: str
    raw: Raw


Part = Text | Image | Audio | File | Reasoning | Refusal | ToolCall | ToolResult | Opaque


class Message(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Extra = {}


# --- The request --------------------------------------------------------------------------------------------------


class Tool(Struct, frozen=True):
    """A function the model may call. `parameters` is a JSON schema. Tools of other kinds are `OpaqueTool`."""

    name: str
    description: str | None = None
    parameters: Raw | None = None
    strict: bool | None = None
    extra: Extra = {}


class OpaqueTool(Struct, frozen=True):
    """A provider's own tool (web search, grammar tools …), kept as it was written in `dialect`."""

    dialect: str
    kind: str
    raw: Raw


class ToolChoice(Struct, frozen=True):
    """`named` forces the one tool in `names`; `allowed` restricts to `names` with `mode` as auto or required."""

    mode: Literal["auto", "none", "required", "named"]
    names: tuple[str, ...] = ()


class ResponseFormat(Struct, frozen=True):
    kind: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    description: str | None = None


class ReasoningPolicy(Struct, frozen=True):
    """What the caller asked about thinking, in any of the forms the field uses. None means: the model's default."""

    enabled: bool | None = None
    effort: str | None = None  # none | minimal | low | medium | high | xhigh | max
    budget_tokens: int | None = None
    summary: str | None = None  # auto | concise | detailed


class Sampling(Struct, frozen=True):
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None


class Request(Struct, frozen=True):
    """One model call. `max_output_tokens` covers `max_tokens` and `max_completion_tokens`; the latter wins.

    `dialect` names the dialect that decoded it, which alone may write the `extra` of the request and its parts.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool | OpaqueTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    n: int | None = None
    sampling: Sampling = Sampling()
    logprobs: bool | None = None
    top_logprobs: int | None = None
    is_stream: bool = False
    wants_usage: bool = False
    reasoning: ReasoningPolicy = ReasoningPolicy()
    user: str | None = None
    metadata: Raw | None = None
    service_tier: str | None = None
    extra: Extra = {}
    dialect: str = ""


# --- The response -------------------------------------------------------------------------------------------------


class Media(Struct, frozen=True):
    """What the audio and image endpoints count beside plain tokens. `image_input` and `image_output` are parts of the
    usage's own input and output. `units` are whole seconds of sound, characters spoken, or images; `unit` says which.

    `is_estimated` is about the units alone; the usage's own flag is about the tokens.
    """

    unit: Literal["second", "character", "image"]
    units: int = 0
    is_estimated: bool = False
    image_input: int = 0
    image_output: int = 0


class Usage(Struct, frozen=True):
    """Tokens as billed. `input` includes cached reads and cache writes, `output` includes reasoning (as OpenAI counts).

    `is_estimated` marks figures that Naru counted itself because the upstream reported none. `media` is None for text.
    `tier` is how it was served, empty for as usual; `server_tools` are calls of tools that the provider ran itself, by name
    (service.py).
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    is_estimated: bool = False
    media: Media | None = None
    tier: str = ""
    server_tools: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        return self.input + self.output


class Choice(Struct, frozen=True):
    index: int
    parts: tuple[Part, ...]
    finish_reason: FinishReason | None
    logprobs: Raw | None = None
    stop_sequence: str | None = None
    extra: Extra = {}


class Response(Struct, frozen=True):
    """`created` is in Unix seconds. `dialect` names the dialect that decoded it, whose `extra` it carries."""

    id: str
    model: str
    created: int
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    service_tier: str | None = None
    extra: Extra = {}
    dialect: str = ""


# --- Stream events, in the order they come. Accumulating them gives the Response (accumulate.py) -------------------


class Start(Struct, frozen=True):
    """`dialect` names the dialect that decoded the stream: the `extra` of every event of it is that dialect's."""

    id: str
    model: str
    created: int
    extra: Extra = {}
    service_tier: str | None = None
    dialect: str = ""


class TextDelta(Struct, frozen=True):
    text: str
    choice: int = 0
    extra: Extra = {}


class RefusalDelta(Struct, frozen=True):
    text: str
    choice: int = 0


class ReasoningDelta(Struct, frozen=True):
    """`part` numbers separate blocks of thinking; a signature or encrypted form may come alone, with empty text."""

    text: str
    choice: int = 0
    part: int = 0
    signature: str | None = None
    encrypted: str | None = None
    extra: Extra = {}


class ToolCallStart(Struct, frozen=True):
    """`index` numbers the calls of one choice from 0, in the order they start."""

    index: int
    id: str
    name: str
    choice: int = 0
    kind: str = "function"
    extra: Extra = {}
    signature: str | None = None


class ToolCallDelta(Struct, frozen=True):
    index: int
    arguments: str
    choice: int = 0


class LogprobsDelta(Struct, frozen=True):
    raw: Raw
    choice: int = 0


class Finish(Struct, frozen=True):
    reason: FinishReason
    choice: int = 0
    stop_sequence: str | None = None


class UsageReport(Struct, frozen=True):
    """The last one of a stream counts; they are never added up."""

    usage: Usage


class WholePart(Struct, frozen=True):
    """A part that has no pieces: a generated image or sound, a part only its own dialect understands."""

    part: Part
    choice: int = 0


class ExtraDelta(Struct, frozen=True):
    """Fields of the response, or of one choice, that only the same dialect can pass on.

    Accumulated by key: lists are joined, objects merged (of their strings, `data` and `transcript` are appended), anything
    else is replaced. `service_tier` of the response may come this way too.
    """

    fields: Extra
    choice: int | None = None


Event = (
    Start
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | ToolCallStart
    | ToolCallDelta
    | LogprobsDelta
    | Finish
    | UsageReport
    | WholePart
    | ExtraDelta
)
