"""Converse's request as the sandbox reads it: the form of every field after the API's description, and the service's rules about
turns and tools. Everything it refuses is a ValidationException.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from naru.errors import BadRequest

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.:-]+$")]
Words = Annotated[str, Meta(min_length=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Blob = bytes
Count = Annotated[int, Meta(ge=1)]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing beside the fields that are known."""


class S3Location(Strict):
    uri: Annotated[str, Meta(pattern=r"^s3://[a-z0-9][.\-a-z0-9]{1,61}[a-z0-9](/.*)?$")]
    bucketOwner: str | None = None


class Source(Strict):
    """One of them. `bytes` is base64; text and content are of documents."""

    bytes: Blob | None = None
    s3Location: S3Location | None = None
    text: str | None = None
    content: list[dict[str, str]] | None = None


class Image(Strict):
    format: Literal["png", "jpeg", "gif", "webp"]
    source: Source


class Audio(Strict):
    format: str
    source: Source


class Document(Strict):
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^(?!.*\s\s)[A-Za-z0-9\s()\[\]-]+$")]
    source: Source
    format: Literal["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"] | None = None
    context: str | None = None
    citations: dict[str, bool] | None = None


class ToolUse(Strict):
    toolUseId: Id
    name: Name
    input: dict[str, Any]
    type: Literal["server_tool_use"] | None = None


class CachePoint(Strict):
    type: Literal["default"]
    ttl: Literal["5m", "1h"] | None = None


class ReasoningText(Strict):
    text: str
    signature: str | None = None


class Reasoning(Strict):
    reasoningText: ReasoningText | None = None
    redactedContent: bytes | None = None


class Content(Strict):
    """A block of a message, or of a tool's result: one of these. Of what Naru never writes only the name is known."""

    text: str | None = None
    image: Image | None = None
    audio: Audio | None = None
    document: Document | None = None
    toolUse: ToolUse | None = None
    toolResult: ToolResult | None = None
    reasoningContent: Reasoning | None = None
    cachePoint: CachePoint | None = None
    json: Any = None
    video: dict[str, Any] | None = None
    guardContent: dict[str, Any] | None = None
    citationsContent: dict[str, Any] | None = None
    searchResult: dict[str, Any] | None = None

    @property
    def kinds(self) -> list[str]:
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]


class ToolResult(Strict):
    toolUseId: Id
    content: list[Content]
    status: Literal["success", "error"] | None = None
    type: str | None = None


class Message(Strict):
    role: Literal["user", "assistant"]
    content: Annotated[list[Content], Meta(min_length=1)]


class System(Strict):
    text: Words | None = None
    cachePoint: CachePoint | None = None
    guardContent: dict[str, Any] | None = None


class Inference(Strict):
    maxTokens: Count | None = None
    temperature: Fraction | None = None
    topP: Fraction | None = None
    stopSequences: list[Words] | None = None


class Schema(Strict):
    json: dict[str, Any]


class Spec(Strict):
    name: Name
    inputSchema: Schema
    description: Words | None = None
    strict: bool | None = None


class Tool(Strict):
    toolSpec: Spec | None = None
    systemTool: Chosen | None = None
    cachePoint: CachePoint | None = None


class Chosen(Strict):
    name: Name


class Choice(Strict):
    auto: dict[str, Any] | None = None
    any: dict[str, Any] | None = None
    tool: Chosen | None = None


class ToolConfig(Strict):
    tools: Annotated[list[Tool], Meta(min_length=1)]
    toolChoice: Choice | None = None


class JsonSchema(Strict):
    schema: str
    name: str | None = None
    description: str | None = None


class Structure(Strict):
    jsonSchema: JsonSchema


class TextFormat(Strict):
    type: Literal["json_schema"]
    structure: Structure


class OutputConfig(Strict):
    textFormat: TextFormat | None = None
    effort: Annotated[str, Meta(max_length=16)] | None = None


class ServiceTier(Strict):
    type: Literal["priority", "default", "flex", "reserved"]


class Body(Strict):
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: list[System] | None = None
    inferenceConfig: Inference | None = None
    toolConfig: ToolConfig | None = None
    outputConfig: OutputConfig | None = None
    serviceTier: ServiceTier | None = None
    additionalModelRequestFields: dict[str, Any] | None = None
    additionalModelResponseFieldPaths: list[str] | None = None
    guardrailConfig: dict[str, Any] | None = None
    performanceConfig: dict[str, Any] | None = None
    requestMetadata: dict[str, str] | None = None
    promptVariables: dict[str, Any] | None = None
    projectIdentifier: str | None = None


_DECODER = msgspec.json.Decoder(Body)


def decode(data: bytes) -> Body:
    """Raises BadRequest."""
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Malformed input request: {error}, please reformat your input and try again.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not JSON: {error}") from error


def check(body: Body) -> None:
    """What no single field shows. Raises BadRequest."""
    if body.messages[0].role != "user":
        raise BadRequest("A conversation must start with a user message. Try again with a conversation that does.")
    for before, after in zip(body.messages, body.messages[1:], strict=False):
        if before.role == after.role:
            raise BadRequest("A conversation must alternate between user and assistant roles.")
    blocks = [block for message in body.messages for block in message.content]
    for block in blocks:
        _check_block(block)
    _check_tools(body, blocks)
    _check_thinking(body)
    if body.outputConfig is not None and body.outputConfig.textFormat is not None:
        _check_schema(body.outputConfig.textFormat.structure.jsonSchema.schema)


def _check_block(block: Content) -> None:
    if len(block.kinds) != 1:
        raise BadRequest(f"A content block is exactly one thing; this one has {block.kinds or 'none'}.")
    if block.text is not None and not block.text.strip():
        raise BadRequest("The text field in the ContentBlock object is blank. Add text to the text field.")
    for inner in block.toolResult.content if block.toolResult is not None else ():
        if len(inner.kinds) != 1:
            raise BadRequest("A block of a tool's result is exactly one thing.")


def _check_tools(body: Body, blocks: list[Content]) -> None:
    if body.toolConfig is None and any(block.toolUse or block.toolResult for block in blocks):
        raise BadRequest("The toolConfig field must be defined when using toolUse and toolResult content blocks.")
    for before, after in zip(body.messages, [*body.messages[1:], None], strict=True):
        asked = {block.toolUse.toolUseId for block in before.content if block.toolUse is not None}
        given = {block.toolResult.toolUseId for block in after.content if block.toolResult} if after else set()
        if asked and asked != given:
            raise BadRequest(f"Expected toolResult blocks at the next message for the following Ids: {sorted(asked)}")


def _check_thinking(body: Body) -> None:
    thinking = (body.additionalModelRequestFields or {}).get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return
    limits = body.inferenceConfig or Inference()
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < 1024:
        raise BadRequest("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if limits.maxTokens is not None and limits.maxTokens <= budget:
        raise BadRequest("`max_tokens` must be greater than `thinking.budget_tokens`.")
    choice = body.toolConfig.toolChoice if body.toolConfig is not None else None
    if choice is not None and choice.auto is None:
        raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.")
    if limits.temperature not in (None, 1.0) or limits.topP is not None:
        raise BadRequest("`temperature` may only be set to 1 when thinking is enabled.")


def _check_schema(text: str) -> None:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"outputConfig.textFormat: the schema is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise BadRequest("outputConfig.textFormat: the schema must be an object.")
