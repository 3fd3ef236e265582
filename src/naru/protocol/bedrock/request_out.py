"""The typed Request to a body of Converse or ConverseStream; the model, and whether it streams, stand in the path.

What Converse cannot say is refused by name where the answer would depend on it, and otherwise left out and named. Quirks say
what differs between the models behind it: `drops` (`outputConfig.textFormat`, then a tool stands for the answer; `cachePoint`;
sampling), `renames` for `top_k`, which only some models have, among their own fields.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.thinking import write_policy
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL
from naru.protocol.bedrock.messages_out import MessageWriter, checked_name, schema_object
from naru.protocol.bedrock.wire import STOP_PATH, encode
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.messages import OpaqueTool, Request, ResponseFormat, Tool, ToolChoice
from naru.protocol.openai_chat.forward import refuses_n
from naru.protocol.wire import BAD_JSON, text_of

Out = dict[str, Any]

#: Quirks.drops with these names: the model knows no structured output, or no cache points.
NO_FORMAT = "outputConfig.textFormat"
NO_CACHE = "cachePoint"

_HINTS = ("min_p", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty")
_JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no text around it, no code fence."
_TIERS = frozenset({"default", "flex", "priority"})
#: Thinking in the forms of Claude, which stand among the model's own fields.
_CLAUDE = "anthropic_"


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """Raises BadRequest, with `param` set, for what Converse or this model cannot express."""
    if (request.n or 1) > 1:
        raise refuses_n()
    if request.logprobs or request.top_logprobs:
        raise BadRequest(
            "This model's API (Bedrock Converse) reports no log probabilities. Leave `logprobs` and `top_logprobs` out, or "
            "choose another model.",
            code="unsupported_value",
            param="logprobs",
        )
    try:
        return _encoded(request, quirks)
    except BAD_JSON:  # a schema whose keys are no text
        raise BadRequest("The request holds a string that is no text.", code="invalid_json") from None


def _encoded(request: Request, quirks: Quirks) -> Forwarded:
    writer = MessageWriter(NO_CACHE not in quirks.drops)
    system, messages = writer.write(request.messages)
    if not messages:
        raise BadRequest("`messages` must hold more than system messages.", code="invalid_value", param="messages")
    fields: Out = {"messages": messages}
    dropped = writer.dropped
    _put_tools(fields, request, writer)
    if request.response_format is not None:
        _put_format(fields, system, request.response_format, quirks)
    if system:
        fields["system"] = system
    inference: Out = {}
    more: Out = {}
    thinks = _put_thinking(fields, more, request, quirks, dropped)
    _put_limit(inference, more, request)
    _put_sampling(inference, more, request, quirks, thinks, dropped)
    _put_stops(fields, inference, request, quirks, dropped)
    _put_rest(fields, request, dropped)
    if inference:
        fields["inferenceConfig"] = inference
    if more:
        fields["additionalModelRequestFields"] = more
    return Forwarded(encode(fields), tuple(dict.fromkeys(dropped)))


# --- Tools and the form of the answer -------------------------------------------------------------------------------


def _put_tools(fields: Out, request: Request, writer: MessageWriter) -> None:
    """Tools that the history calls have to be there, offered or not: without toolConfig such a history is refused."""
    choice = request.tool_choice
    allowed = choice.names if choice is not None and choice.mode in ("auto", "required") else ()
    offered = [tool for tool in request.tools if not allowed or (isinstance(tool, Tool) and tool.name in allowed)]
    if choice is not None and choice.mode == "none":
        # There is no such choice: the tools are not offered, unless the history needs them.
        if writer.called and offered:
            writer.dropped.append("tool_choice")
        else:
            offered = []
    tools: list[Out] = []
    for tool in offered:
        tools += _tool_fields(tool, writer)
    if not tools:
        tools = [{"toolSpec": {"name": name, "inputSchema": {"json": schema_object(None)}}} for name in writer.called]
    if not tools:
        return
    fields["toolConfig"] = {"tools": tools}
    written = _choice_fields(choice)
    if written is not None and offered:
        fields["toolConfig"]["toolChoice"] = written
    if request.parallel_tool_calls is False:
        writer.dropped.append("parallel_tool_calls")


def _tool_fields(tool: Tool | OpaqueTool, writer: MessageWriter) -> list[Out]:
    if isinstance(tool, OpaqueTool):
        raise BadRequest(
            f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
            "Leave it out, or choose a model of that API.",
            code="unsupported_tool",
            param="tools",
        )
    spec: Out = {"name": checked_name(tool.name), "inputSchema": {"json": schema_object(tool.parameters)}}
    if tool.description:  # it must not be empty
        spec["description"] = tool.description
    if tool.strict:
        # Strict tools are for some models alone, and each refuses the word that it does not know (reported).
        writer.dropped.append("tools.strict")
    return [{"toolSpec": spec}, *writer.cache_point(tool.extra)]


def _choice_fields(choice: ToolChoice | None) -> Out | None:
    """`auto` is the default, and some models refuse the word."""
    if choice is None or choice.mode in ("auto", "none"):
        return None
    if choice.mode == "named" or len(choice.names) == 1:
        if len(choice.names) != 1:
            raise BadRequest("A named tool choice names exactly one tool.", code="invalid_value", param="tool_choice")
        return {"tool": {"name": checked_name(choice.names[0])}}
    return {"any": {}}


def _put_format(fields: Out, system: list[Out], form: ResponseFormat, quirks: Quirks) -> None:
    if form.kind == "text":
        return
    if form.schema is None:
        system.append({"text": _JSON_INSTRUCTION})  # there is no mode for JSON of any shape
        return
    if NO_FORMAT in quirks.drops:
        config = fields.setdefault("toolConfig", {"tools": []})
        is_alone = not config["tools"]
        spec = {"name": ANSWER_TOOL, "description": "Give the answer.", "inputSchema": {"json": form.schema}}
        config["tools"].append({"toolSpec": spec})
        config["toolChoice"] = {"tool": {"name": ANSWER_TOOL}} if is_alone else {"any": {}}
        return
    schema: Out = {"schema": bytes(form.schema).decode(), "name": form.name or "answer"}
    if form.description:
        schema["description"] = form.description
    _output(fields)["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _output(fields: Out) -> Out:
    config: Out = fields.setdefault("outputConfig", {})
    return config


# --- Thinking and the rest ------------------------------------------------------------------------------------------


def _put_thinking(fields: Out, more: Out, request: Request, quirks: Quirks, dropped: list[str]) -> bool:
    """Whether Claude thinks by a budget, which goes with little else."""
    if request.reasoning.summary is not None:
        dropped.append("reasoning.summary")
    out, lost = write_policy(request.reasoning, quirks, owns_extra=False)
    dropped += lost
    thinking = out.get("thinking")
    choice = fields.get("toolConfig", {}).get("toolChoice", {})
    if thinking is not None and thinking["type"] == "enabled" and choice:
        # Refused together, as by Anthropic. The choice decides what the answer is; thinking only how good.
        dropped.append("reasoning")
        thinking = None
    if thinking is not None:
        more["thinking"] = thinking
    if "effort" in out:
        _output(fields)["effort"] = out["effort"]
    return thinking is not None and thinking["type"] == "enabled"


def _put_limit(inference: Out, more: Out, request: Request) -> None:
    """Without a limit the model's own holds, which is its largest."""
    limit = request.max_output_tokens
    if limit is None:
        return
    budget = more.get("thinking", {}).get("budget_tokens", 0)
    inference["maxTokens"] = limit if limit > budget else budget + limit  # the caller meant the answer


def _put_sampling(
    inference: Out, more: Out, request: Request, quirks: Quirks, thinks: bool, dropped: list[str]
) -> None:
    sampling = request.sampling
    dropped += [name for name in _HINTS if getattr(sampling, name) is not None]
    names = ("temperature", "top_p", "top_k")
    given = {name: value for name in names if (value := getattr(sampling, name)) is not None}
    theirs = dict(quirks.renames)
    for name in list(given):
        if thinks or name in quirks.drops or (name == "top_k" and name not in theirs):
            dropped.append(name)
            del given[name]
    if given.get("temperature", 0.0) > 1.0:
        given["temperature"] = 1.0  # OpenAI's scale ends at 2, Converse's at 1
        dropped.append("temperature")
    if quirks.thinking_style.startswith(_CLAUDE) and "temperature" in given and given.pop("top_p", None) is not None:
        dropped.append("top_p")  # refused together by Claude from 4.5 on
    if "temperature" in given:
        inference["temperature"] = given["temperature"]
    if "top_p" in given:
        inference["topP"] = given["top_p"]
    if "top_k" in given:
        more[theirs["top_k"]] = given["top_k"]


def _put_stops(fields: Out, inference: Out, request: Request, quirks: Quirks, dropped: list[str]) -> None:
    stops = [text for text in request.stop if text.strip()]
    if len(stops) < len(request.stop):
        dropped.append("stop")  # blank stop sequences are refused
    if stops:
        inference["stopSequences"] = stops
        if quirks.thinking_style.startswith(_CLAUDE):
            fields["additionalModelResponseFieldPaths"] = [STOP_PATH]


def _put_rest(fields: Out, request: Request, dropped: list[str]) -> None:
    tier = request.service_tier
    if tier in _TIERS:
        fields["serviceTier"] = {"type": tier}
    elif tier is not None and tier != "auto":
        dropped.append("service_tier")
    dropped += [name for name in ("user", "metadata") if getattr(request, name) is not None]
    for name, raw in request.extra.items():
        if name in _OWN:  # Converse's own switches, which a caller writes on purpose
            fields[name] = raw
        elif text_of(raw) != "":
            dropped.append(name)


_OWN = frozenset({"guardrailConfig", "performanceConfig", "requestMetadata", "promptVariables"})
