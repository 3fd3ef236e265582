"""The typed Request to a Messages body, for a caller of another dialect.

What Anthropic cannot say is refused by name where the answer would depend on it, and otherwise left out and named in
`dropped`. Extras are written only if this dialect read them.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.forward import drop_and_rename
from naru.protocol.anthropic_messages.messages_out import MessageWriter
from naru.protocol.anthropic_messages.names import MAX_NAME_CHARS, tool_name
from naru.protocol.anthropic_messages.thinking import write_policy
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL, NAME
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.messages import OpaqueTool, Request, Tool, ToolChoice
from naru.protocol.openai_chat.forward import refuses_n
from naru.protocol.wire import BAD_JSON, decode_fields, encode, is_object

#: Anthropic requires max_tokens, which another dialect's caller need not give. Where the model's own limit is not known:
#: enough for a long page, and taken by every model and compatible server (providers.md A4.3).
DEFAULT_MAX_TOKENS = 4_096
#: The same where the model may think first: thinking counts towards max_tokens.
DEFAULT_MAX_TOKENS_THINKING = 16_384
#: A whole answer with a larger limit may take more than ten minutes, at 128,000 tokens an hour; it should be a stream (A4.5).
MAX_TOKENS_UNSTREAMED = 21_333

#: Quirks.drops with this name: the upstream knows no output_config.format, so a tool stands for the answer.
NO_FORMAT = "output_config.format"

_HINTS = ("min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty")
_JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no text around it, no code fence."
_EMPTY_SCHEMA = {"type": "object", "properties": {}}

Out = dict[str, Any]


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """Raises BadRequest, with `param` set, for what this dialect or this upstream cannot express."""
    _refuse_inexpressible(request)
    try:
        return _encoded(request, quirks)
    except BAD_JSON:  # a schema or an extra whose keys are no text
        raise BadRequest("The request holds a string that is no text.", code="invalid_json") from None


def _encoded(request: Request, quirks: Quirks) -> Forwarded:
    owns_extra = request.dialect == NAME
    writer = MessageWriter(owns_extra)
    system, messages = writer.write(request.messages)
    if not messages:
        raise BadRequest("`messages` must hold more than system messages.", code="invalid_value", param="messages")
    fields: Out = {"model": request.model, "messages": messages}
    if system is not None:
        fields["system"] = system
    dropped = writer.dropped
    _put_tools(fields, request, owns_extra)
    _put_format(fields, request, quirks)
    dropped += _put_thinking(fields, request, quirks, owns_extra)
    dropped += _put_sampling(fields, request, owns_extra)
    dropped += _put_rest(fields, request, owns_extra)
    if request.is_stream or quirks.is_stream_only:
        fields["stream"] = True
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dict.fromkeys(dropped)))


def _refuse_inexpressible(request: Request) -> None:
    if (request.n or 1) > 1:
        raise refuses_n()
    if request.logprobs or request.top_logprobs:
        raise BadRequest(
            "This model's API (Anthropic Messages) reports no log probabilities. Leave `logprobs` and `top_logprobs` out, "
            "or choose another model.",
            code="unsupported_value",
            param="logprobs",
        )


# --- Tools and the form of the answer -------------------------------------------------------------------------------


def _put_tools(fields: Out, request: Request, owns_extra: bool) -> None:
    choice = request.tool_choice
    tools = request.tools
    if choice is not None and choice.names and choice.mode != "named":
        # Anthropic has no list of allowed tools: the others are simply not offered.
        tools = tuple(tool for tool in tools if isinstance(tool, OpaqueTool) or tool.name in choice.names)
    if tools:
        fields["tools"] = [_tool_fields(tool, owns_extra) for tool in tools]
    elif not owns_extra and (choice is None or choice.mode in ("auto", "none")):
        return  # a choice among no tools is refused
    written = _choice_fields(choice, request.parallel_tool_calls)
    if written is not None:
        fields["tool_choice"] = written


def _tool_fields(tool: Tool | OpaqueTool, owns_extra: bool) -> Any:
    if isinstance(tool, OpaqueTool):
        if tool.dialect != NAME:
            raise BadRequest(
                f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
                "Leave it out, or choose a model of that API.",
                code="unsupported_tool",
                param="tools",
            )
        return tool.raw
    name = tool_name(tool.name)
    if len(name) > MAX_NAME_CHARS:
        raise BadRequest(
            f"The tool name `{tool.name[:MAX_NAME_CHARS]}` is too long: this model's API takes {MAX_NAME_CHARS} characters "
            "of letters, digits, `_` and `-`. Shorten it.",
            code="unsupported_value",
            param="tools",
        )
    fields: Out = {"name": name, "input_schema": _schema(tool)}
    if tool.description is not None:
        fields["description"] = tool.description
    if tool.strict is not None:
        fields["strict"] = tool.strict
    return {**tool.extra, **fields} if owns_extra else fields


def _schema(tool: Tool) -> Any:
    """Anthropic wants an object at the top of every schema."""
    if not is_object(tool.parameters):
        return _EMPTY_SCHEMA
    schema = decode_fields(tool.parameters)
    return tool.parameters if "type" in schema else {"type": "object", **schema}


def _choice_fields(choice: ToolChoice | None, is_parallel: bool | None) -> Out | None:
    fields: Out = {"type": "auto"}
    if choice is None:
        if is_parallel is not False:
            return None
    elif choice.mode == "none":
        return {"type": "none"}
    elif choice.mode == "named" or (choice.mode == "required" and len(choice.names) == 1):
        if len(choice.names) != 1:
            raise BadRequest("A named tool choice names exactly one tool.", code="invalid_value", param="tool_choice")
        fields = {"type": "tool", "name": tool_name(choice.names[0])}
    elif choice.mode == "required":
        fields = {"type": "any"}
    if is_parallel is not None:
        fields["disable_parallel_tool_use"] = not is_parallel
    return fields


def _put_format(fields: Out, request: Request, quirks: Quirks) -> None:
    form = request.response_format
    if form is None or form.kind == "text":
        return
    if form.schema is None:
        # There is no mode for JSON of any shape; asking for it is what is left (providers.md A4.3).
        system = fields.get("system")
        if isinstance(system, list):
            fields["system"] = [*system, {"type": "text", "text": _JSON_INSTRUCTION}]
        else:
            fields["system"] = _JSON_INSTRUCTION if system is None else f"{system}\n\n{_JSON_INSTRUCTION}"
    elif NO_FORMAT in quirks.drops:
        tool = {"name": ANSWER_TOOL, "description": "Give the answer.", "input_schema": form.schema}
        is_alone = "tools" not in fields
        fields["tools"] = [*fields.get("tools", ()), tool]
        fields["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL} if is_alone else {"type": "any"}
    else:
        _config(fields)["format"] = {"type": "json_schema", "schema": form.schema}


def _config(fields: Out) -> Out:
    config: Out = fields.setdefault("output_config", {})
    return config


# --- Thinking and the rest ------------------------------------------------------------------------------------------


def _put_thinking(fields: Out, request: Request, quirks: Quirks, owns_extra: bool) -> list[str]:
    """`thinking`, the effort, and max_tokens, which has to hold the thinking too."""
    out, dropped = write_policy(request.reasoning, quirks, owns_extra)
    if request.reasoning.summary is not None:
        dropped.append("reasoning.summary")
    thinking = out.get("thinking")
    choice = fields.get("tool_choice", {})
    if (
        thinking is not None
        and thinking["type"] == "enabled"
        and choice.get("type") in ("any", "tool")
        and not owns_extra
    ):
        # Refused together (providers.md A4.3). The choice decides what the answer is; thinking only how good.
        thinking = None
        dropped.append("reasoning")
    limit = request.max_output_tokens
    if thinking is not None:
        fields["thinking"] = thinking
        budget = thinking.get("budget_tokens", 0)
        if not owns_extra and limit is not None and limit <= budget:
            limit = budget + limit  # max_tokens must exceed the budget; the caller meant the answer
    if "effort" in out:
        _config(fields)["effort"] = out["effort"]
    if limit is None:
        thinks = quirks.thinking_style == "anthropic_always" or (
            thinking is not None and thinking["type"] != "disabled"
        )
        budget = thinking.get("budget_tokens", 0) if thinking is not None else 0
        limit = _default_limit(quirks, thinks, budget, request.is_stream or quirks.is_stream_only)
    fields["max_tokens"] = limit
    return dropped


def _default_limit(quirks: Quirks, thinks: bool, budget: int, is_stream: bool) -> int:
    """What the model can write, or a fixed number where that is not known; always more than the budget for thinking."""
    usual = (DEFAULT_MAX_TOKENS_THINKING if thinks else DEFAULT_MAX_TOKENS) + budget
    most = quirks.max_output
    if most is None:
        return usual
    return most if is_stream else min(most, max(MAX_TOKENS_UNSTREAMED, usual))


def _put_sampling(fields: Out, request: Request, owns_extra: bool) -> list[str]:
    sampling = request.sampling
    dropped = [name for name in _HINTS if getattr(sampling, name) is not None]
    given = {
        name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(sampling, name)) is not None
    }
    if not owns_extra:
        if given.get("temperature", 0.0) > 1.0:
            given["temperature"] = 1.0  # OpenAI's scale ends at 2, Anthropic's at 1
            dropped.append("temperature")
        if fields.get("thinking", {}).get("type") == "enabled":
            dropped += given
            given = {}  # manual thinking takes a temperature of 1 and nothing else
        elif "temperature" in given and "top_p" in given:
            del given["top_p"]  # refused together from 4.5 on
            dropped.append("top_p")
    fields |= given
    return dropped


def _put_rest(fields: Out, request: Request, owns_extra: bool) -> list[str]:
    dropped: list[str] = []
    stops = [text for text in request.stop if text.strip() or owns_extra]
    if len(stops) < len(request.stop):
        dropped.append("stop")  # blank stop sequences are refused
    if stops:
        fields["stop_sequences"] = stops
    if request.user is not None:
        # An opaque id of at most 256 characters; an address is refused.
        if owns_extra or ("@" not in request.user and len(request.user) <= 256):
            fields["metadata"] = {"user_id": request.user}
        else:
            dropped.append("user")
    tier = request.service_tier if owns_extra else _TIERS.get(request.service_tier or "")
    if tier is not None:
        fields["service_tier"] = tier
    elif request.service_tier is not None:
        dropped.append("service_tier")
    if request.metadata is not None:
        dropped.append("metadata")
    if not owns_extra:
        return dropped + list(request.extra)
    for name, raw in request.extra.items():
        if name == "output_config" and name in fields and is_object(raw):
            fields[name] = {**decode_fields(raw), **fields[name]}
        elif name in ("metadata", "thinking"):
            fields[name] = raw  # the typed fields hold only a part of it
        else:
            fields.setdefault(name, raw)
    return dropped


#: OpenAI's words. `default` is the standard tier there; flex and priority are other products.
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
