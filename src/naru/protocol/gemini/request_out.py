"""The typed Request to a Gemini body, for a caller of another dialect. The model and the stream are in the path.

What generateContent cannot say is refused by name where the answer would depend on it, and otherwise left out and named in
`dropped`. Extras are written only if this dialect read them.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.gemini.contents_out import ContentWriter
from naru.protocol.gemini.forward import drop_and_rename, refuses_n
from naru.protocol.gemini.request_in import CONFIG
from naru.protocol.gemini.thinking import write_policy
from naru.protocol.gemini.wire import NAME, prefixed
from naru.protocol.messages import OpaqueTool, Request, ResponseFormat, Tool, ToolChoice
from naru.protocol.wire import decode_fields, encode, is_object

Out = dict[str, Any]

_SAMPLING = (
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
)
#: OpenAI's words for Google's tiers; what is not here is sent as it is.
_TIERS = {"auto": None, "default": "standard", "scale": "standard"}
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """Raises BadRequest, with `param` set, for what this dialect or this upstream cannot express."""
    owns = request.dialect == NAME
    if (request.n or 1) > 1 and not quirks.has_n:
        raise refuses_n("n")
    writer = ContentWriter(quirks, owns)
    fields: Out = {"contents": writer.contents(request.messages)}
    dropped = writer.dropped
    if writer.system is not None:
        fields["systemInstruction"] = writer.system
    if request.tools:
        fields["tools"] = _tools(request.tools, owns, dropped)
    _write_choice(request, owns, fields)
    config = _config(request, quirks, owns, dropped)
    if config:
        fields["generationConfig"] = config
    tier = request.service_tier if owns else _TIERS.get(request.service_tier or "", request.service_tier)
    if tier is not None:
        fields["serviceTier"] = tier
    if owns:
        outer = {name: raw for name, raw in request.extra.items() if not name.startswith(CONFIG)}
        fields = {**outer, **fields}
    else:
        dropped += list(request.extra)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dict.fromkeys(dropped)))


def _config(request: Request, quirks: Quirks, owns: bool, dropped: list[str]) -> Out:
    config: Out = prefixed(request.extra, CONFIG) if owns else {}
    for name, theirs in _SAMPLING:
        value = getattr(request.sampling, name)
        if value is not None:
            config[theirs] = value
    dropped += [name for name in ("min_p", "repetition_penalty") if getattr(request.sampling, name) is not None]
    for name in ("parallel_tool_calls", "user", "metadata"):
        if getattr(request, name) is not None and not (name == "parallel_tool_calls" and request.parallel_tool_calls):
            dropped.append(name)
    if request.max_output_tokens is not None:
        config["maxOutputTokens"] = request.max_output_tokens
    if request.n is not None and request.n > 1:
        config["candidateCount"] = request.n
    if request.stop:
        config["stopSequences"] = request.stop
    if request.logprobs is not None:
        config["responseLogprobs"] = request.logprobs
    if request.top_logprobs is not None:
        config["logprobs"] = request.top_logprobs
    if request.response_format is not None:
        config |= _format_fields(request.response_format, dropped)
    thinking, lost = write_policy(request.reasoning, quirks, owns)
    dropped += lost
    if thinking:
        given = config.get("thinkingConfig")
        config["thinkingConfig"] = {**(decode_fields(given) if is_object(given) else {}), **thinking}
    return config


def _format_fields(form: ResponseFormat, dropped: list[str]) -> Out:
    """A schema's name and strictness have no field: Gemini keeps to every schema, and tells the model no name."""
    if form.kind == "text":
        return {"responseMimeType": "text/plain"}
    if form.description is not None:
        dropped.append("response_format.description")
    fields: Out = {"responseMimeType": "application/json"}
    if form.schema is not None:
        fields["responseJsonSchema"] = form.schema
    return fields


def _tools(tools: tuple[Tool | OpaqueTool, ...], owns: bool, dropped: list[str]) -> list[Any]:
    """All functions in one tool (providers.md A6.2), every other tool as it was written."""
    functions: list[Out] = []
    others: list[Any] = []
    for tool in tools:
        if isinstance(tool, Tool):
            functions.append(_function_fields(tool, owns))
            if tool.strict:
                dropped.append("tools.strict")
            if not owns:
                dropped += [f"tools.{name}" for name in tool.extra]
        elif tool.dialect == NAME:
            others.append(tool.raw)
        else:
            raise BadRequest(
                f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
                "Leave it out, or choose a model of that API.",
                code="unsupported_tool",
                param="tools",
            )
    return [{"functionDeclarations": functions}, *others] if functions else others


def _function_fields(tool: Tool, owns: bool) -> Out:
    fields: Out = {"name": tool.name}
    if tool.description is not None:
        fields["description"] = tool.description
    if tool.parameters is not None and not (owns and "parameters" in tool.extra):
        fields["parametersJsonSchema"] = tool.parameters
    return {**tool.extra, **fields} if owns else fields


def _write_choice(request: Request, owns: bool, fields: Out) -> None:
    config: Out = {}
    given = request.extra.get("toolConfig") if owns else None
    if is_object(given):
        config = {**decode_fields(given)}
    if request.tool_choice is not None:
        calling = config.get("functionCallingConfig")
        more = decode_fields(calling) if is_object(calling) else {}
        config["functionCallingConfig"] = {**_choice_fields(request.tool_choice), **more}
    if config:
        fields["toolConfig"] = config


def _choice_fields(choice: ToolChoice) -> Out:
    # Names may stand only with ANY and VALIDATED; the latter is AUTO with the schema checked (A6.2).
    mode = "VALIDATED" if choice.mode == "auto" and choice.names else _MODES[choice.mode]
    return {"mode": mode, "allowedFunctionNames": choice.names} if choice.names else {"mode": mode}
