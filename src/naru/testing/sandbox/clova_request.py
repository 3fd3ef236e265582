"""CLOVA Studio's request as the sandbox reads it: the form of every field, and what the service refuses beyond that (features
that exclude each other, each model's limits).

Every rule raises BadRequest with the service's five digits as its code (reference/providers.md A1.3, A1.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from naru.errors import BadRequest

MODELS = ("HCX-005", "HCX-007", "HCX-DASH-002")
THINKING_MODEL = "HCX-007"
IMAGE_MODEL = "HCX-005"
MIN_TOKENS_WITH_TOOLS = 1024
MAX_IMAGES = 5
IMAGE_ENDINGS = (".bmp", ".png", ".jpg", ".jpeg", ".webp")
SCHEMA_WORDS = frozenset(
    {"type", "properties", "required", "items", "enum", "anyOf", "minimum", "maximum", "minItems", "maxItems", "format"}
    | {"description"}
)


class Function(msgspec.Struct, forbid_unknown_fields=True):
    """`arguments` is an object, never text."""

    name: str
    arguments: dict[str, Any]


class Call(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    type: Literal["function"]
    function: Function


class Address(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class Data(msgspec.Struct, forbid_unknown_fields=True):
    data: str


class Part(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["text", "image_url"]
    text: str | None = None
    imageUrl: Address | None = None
    dataUri: Data | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """Content may not be null; earlier thinking is not taken back."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[Part]
    toolCalls: list[Call] | None = None
    toolCallId: str | None = None


class Spec(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: Annotated[str, Meta(min_length=1)]
    parameters: dict[str, Any]


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: Spec


class Named(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: Named


class Thinking(msgspec.Struct, forbid_unknown_fields=True):
    effort: Literal["none", "low", "medium", "high"]


class Form(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["json"]
    schema: dict[str, Any]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    tools: list[Tool] | None = None
    toolChoice: Literal["auto", "none"] | Chosen | None = None
    maxTokens: Annotated[int, Meta(ge=1)] | None = None
    maxCompletionTokens: Annotated[int, Meta(ge=1, le=32_768)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    topP: Annotated[float, Meta(gt=0, le=1)] | None = None
    topK: Annotated[int, Meta(ge=0, le=128)] | None = None
    repetitionPenalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    stop: list[str] | None = None
    seed: Annotated[int, Meta(ge=0, le=4_294_967_295)] | None = None
    thinking: Thinking | None = None
    responseFormat: Form | None = None
    includeAiFilters: bool | None = None


_DECODER = msgspec.json.Decoder(Body)


def decode(data: bytes) -> Body:
    """Raises BadRequest."""
    try:
        return _DECODER.decode(data)
    except msgspec.ValidationError as error:
        is_unknown = "unknown field" in str(error) and "`$." not in str(error)
        raise _invalid(str(error), "40002" if is_unknown else "40001") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid(str(error), "40000") from error


def check(body: Body, model: str) -> str:
    """The effort that holds, "" for a model that does not think. Raises BadRequest."""
    if model not in MODELS:
        raise _invalid(f"there is no model {model}; the sandbox has {', '.join(MODELS)}", "40080")
    effort = _effort(body, model)
    is_thinking = effort not in ("", "none")
    if sum(message.role == "system" for message in body.messages) > 1:
        raise _invalid("only one system message is allowed")
    if body.tools:
        _check_tools(body, is_thinking)
    if body.responseFormat is not None:
        _check_form(body, model, is_thinking)
    if body.stop and is_thinking:
        raise _invalid("stop cannot be used while thinking")
    _check_limits(body, model, is_thinking)
    _check_images(body, model)
    _check_texts(body)
    return effort


def _invalid(what: str, code: str = "40001") -> BadRequest:
    return BadRequest(f"Refused: {what}.", code=code)


def _effort(body: Body, model: str) -> str:
    """Low unless it is said."""
    if model != THINKING_MODEL:
        if body.thinking is not None:
            raise _invalid(f"{model} does not think", "40002")
        return ""
    return body.thinking.effort if body.thinking is not None else "low"


def _check_tools(body: Body, is_thinking: bool) -> None:
    if is_thinking:
        raise _invalid("tools cannot be used while thinking; set thinking.effort to none")
    if any(not isinstance(message.content, str) for message in body.messages):
        raise _invalid("content must be a string when tools are used")
    limit = body.maxTokens or body.maxCompletionTokens
    if limit is not None and limit < MIN_TOKENS_WITH_TOOLS:
        raise _invalid(f"maxTokens must be {MIN_TOKENS_WITH_TOOLS} or more when tools are used")


def _check_form(body: Body, model: str, is_thinking: bool) -> None:
    assert body.responseFormat is not None
    if model != THINKING_MODEL:
        raise _invalid(f"responseFormat is not supported by {model}", "40009")
    if is_thinking or body.tools:
        raise _invalid("responseFormat cannot be used together with thinking or tools")
    schema = body.responseFormat.schema
    if schema.get("type") != "object":
        raise _invalid("the root of the schema must be an object", "40055")
    for word in _words(schema):
        if word not in SCHEMA_WORDS:
            raise _invalid(f"the schema's keyword {word} is not supported", "40055")


def _words(schema: Any) -> Iterator[str]:
    """Every keyword of a schema and of those inside it."""
    if not isinstance(schema, dict):
        raise _invalid("a schema must be an object", "40055")
    yield from schema
    inside = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    for one in inside + ([schema["items"]] if "items" in schema else []):
        yield from _words(one)


def _check_limits(body: Body, model: str, is_thinking: bool) -> None:
    if body.maxTokens is not None and body.maxCompletionTokens is not None:
        raise _invalid("maxTokens and maxCompletionTokens exclude each other")
    if body.maxTokens is not None and is_thinking:
        raise _invalid("maxTokens cannot be used while thinking; use maxCompletionTokens")
    if body.maxCompletionTokens is not None and model != THINKING_MODEL:
        raise _invalid(f"maxCompletionTokens is not supported by {model}", "40002")
    if model != THINKING_MODEL and (body.maxTokens or 0) > 4096:
        raise _invalid(f"{model} answers with 4096 tokens at most")


def _check_images(body: Body, model: str) -> None:
    total = 0
    for message in body.messages:
        parts = message.content if isinstance(message.content, list) else []
        images = [part for part in parts if part.type == "image_url"]
        total += len(images)
        if len(images) > 1:
            raise _invalid("one image a message", "40003")
        for image in images:
            _check_image(image, model)
    if total > MAX_IMAGES:
        raise _invalid(f"more than {MAX_IMAGES} images", "40003")


def _check_image(image: Part, model: str) -> None:
    if model != IMAGE_MODEL:
        raise _invalid(f"{model} takes no images", "40009")
    if (image.imageUrl is None) == (image.dataUri is None):
        raise _invalid("an image has either imageUrl or dataUri")
    if image.imageUrl is not None and not urlsplit(image.imageUrl.url).path.lower().endswith(IMAGE_ENDINGS):
        raise _invalid("the image's address has no file extension that is known", "40063")
    if image.dataUri is not None and image.dataUri.data.startswith("data:"):
        raise _invalid("dataUri.data is base64 alone", "40060")


def _check_texts(body: Body) -> None:
    for message in body.messages:
        if message.role == "tool" and message.toolCallId is None:
            raise _invalid("a tool's message needs toolCallId")
        if message.role == "user" and not message.content:
            raise _invalid("the text is empty", "40004")
