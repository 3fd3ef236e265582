"""The typed Request to CLOVA Studio's native body, v3, or v1 by way of renames (providers.md A1.3, A1.6).

The model is in the path; a stream is asked for with `Accept: text/event-stream`, not with a field. Quirks say what differs
between models: `max_tokens_field` (maxTokens, or maxCompletionTokens of the one that thinks), `thinking_style`
(clova_effort: it thinks, and knows structured output), and v1's names in `renames`.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.clova.messages_out import MessageWriter
from naru.protocol.clova.schema import PARAM, known_schema
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.messages import OpaqueTool, ReasoningPolicy, Request, ResponseFormat, Sampling, Tool
from naru.protocol.wire import encode

Out = dict[str, Any]

#: With tools the API refuses a smaller limit (A1.3).
MIN_MAX_TOKENS_WITH_TOOLS = 1_024
_SEEDS = 2**32
#: A1.3: the three levels there are. Budgets by the length that each level has by default.
_EFFORTS = {"minimal": "low", "xhigh": "high", "max": "high"}
_EFFORT_OF_BUDGET = ((5_120, "low"), (10_240, "medium"))
#: There is no JSON mode without a schema: the model is asked (A1.3).
_ASKS_FOR_JSON = "Answer with one JSON object and nothing else."


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """Raises BadRequest, with `param` set, for what CLOVA Studio or this model cannot express."""
    if (request.n or 1) > 1:
        raise _refused("gives one choice a request: `n` above 1 is not possible. Send several requests", "n")
    dropped: list[str] = []
    tools = _tools(request, dropped)
    thinks = quirks.thinking_style == "clova_effort"
    asks_for_json = request.response_format is not None and request.response_format.kind == "json_object"
    writer = MessageWriter(bool(tools))
    fields: Out = {"messages": writer.messages(request.messages, _ASKS_FOR_JSON if asks_for_json else "")}
    if tools:
        fields["tools"] = tools
        _write_choice(request, fields, dropped)
    if request.response_format is not None:
        _write_format(request.response_format, bool(tools), thinks, fields, dropped)
    _write_limit(request, bool(tools), quirks, fields)
    _write_sampling(request.sampling, fields, dropped)
    _write_thinking(request, quirks, fields, dropped)
    if request.stop:
        fields["stop"] = request.stop
    dropped += _lost(request)
    if "includeAiFilters" in request.extra:  # CLOVA's own switch, which a caller writes on purpose
        fields["includeAiFilters"] = request.extra["includeAiFilters"]
    for name in sorted(quirks.drops & fields.keys()):
        del fields[name]
        dropped.append(name)
    for ours, theirs in quirks.renames:
        if ours in fields:
            fields.setdefault(theirs, fields.pop(ours))
    return Forwarded(encode(fields), tuple(dict.fromkeys([*writer.dropped, *dropped])))


def _refused(what: str, param: str) -> BadRequest:
    return BadRequest(f"This model's provider (CLOVA Studio) {what}.", code="unsupported_value", param=param)


def _lost(request: Request) -> list[str]:
    """Bookkeeping and hints that no field is there for (A1.3)."""
    lost = [name for name in ("logprobs", "top_logprobs", "user", "metadata", "service_tier") if getattr(request, name)]
    if request.parallel_tool_calls is False:
        lost.append("parallel_tool_calls")
    return lost + [name for name in request.extra if name != "includeAiFilters"]


# --- Tools ----------------------------------------------------------------------------------------------------------


def _tools(request: Request, dropped: list[str]) -> list[Out]:
    """The tools, or those that the choice allows: there is no other way to restrict it."""
    choice = request.tool_choice
    allowed = choice.names if choice is not None and choice.mode in ("auto", "required") else ()
    found: list[Out] = []
    for tool in request.tools:
        if isinstance(tool, OpaqueTool):
            raise BadRequest(
                f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
                "Leave it out, or choose a model of that API.",
                code="unsupported_tool",
                param="tools",
            )
        if not allowed or tool.name in allowed:
            found.append(_tool_fields(tool, dropped))
    return found


def _tool_fields(tool: Tool, dropped: list[str]) -> Out:
    if tool.strict:
        dropped.append("tools.strict")
    function: Out = {"name": tool.name, "description": tool.description or tool.name}  # it must not be empty
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _write_choice(request: Request, fields: Out, dropped: list[str]) -> None:
    choice = request.tool_choice
    if choice is None:
        return
    names = choice.names if choice.mode == "named" else ()
    if choice.mode == "required":
        # There is no `required`: with one tool it is that one, else the model is left to choose.
        if len(fields["tools"]) == 1:
            names = (fields["tools"][0]["function"]["name"],)
        else:
            dropped.append("tool_choice")
    if names:
        fields["toolChoice"] = {"type": "function", "function": {"name": names[0]}}
    else:
        fields["toolChoice"] = "none" if choice.mode == "none" else "auto"


# --- Everything else ------------------------------------------------------------------------------------------------


def _write_format(form: ResponseFormat, has_tools: bool, thinks: bool, fields: Out, dropped: list[str]) -> None:
    if form.kind == "json_object":
        dropped.append(PARAM)  # asked for in words, not enforced
    if form.kind != "json_schema" or form.schema is None:
        return
    if not thinks:  # the one model that thinks is the one that knows structured output
        raise _refused("has no structured output for this model; HCX-007 has", PARAM)
    if has_tools:
        raise _refused("has no structured output together with tools", PARAM)
    fields["responseFormat"] = {"type": "json", "schema": known_schema(form.schema, dropped)}


def _write_limit(request: Request, has_tools: bool, quirks: Quirks, fields: Out) -> None:
    limit = request.max_output_tokens
    if has_tools:
        limit = max(limit or 0, MIN_MAX_TOKENS_WITH_TOOLS)
    if limit is not None:
        fields[quirks.max_tokens_field or "maxTokens"] = limit


def _write_sampling(sampling: Sampling, fields: Out, dropped: list[str]) -> None:
    """Values outside CLOVA's ranges are moved to the nearest it takes; what has no field is named."""
    if sampling.temperature is not None:
        fields["temperature"] = min(max(sampling.temperature, 0.0), 1.0)
    if sampling.top_p is not None:
        fields["topP"] = min(max(sampling.top_p, 0.01), 1.0)
    if sampling.top_k is not None:
        fields["topK"] = min(max(sampling.top_k, 0), 128)
    if sampling.repetition_penalty is not None:
        fields["repetitionPenalty"] = min(max(sampling.repetition_penalty, 0.01), 2.0)
    if sampling.seed is not None:
        fields["seed"] = sampling.seed % _SEEDS
    fieldless = ("min_p", "presence_penalty", "frequency_penalty")
    dropped += [name for name in fieldless if getattr(sampling, name) is not None]


def _write_thinking(request: Request, quirks: Quirks, fields: Out, dropped: list[str]) -> None:
    """Thinking excludes tools, structured output and `stop`, and is on unless it is switched off (A1.3)."""
    policy = request.reasoning
    if policy.summary is not None:
        dropped.append("reasoning.summary")
    if quirks.thinking_style != "clova_effort":
        named = (
            ("enable_thinking", policy.enabled),
            ("reasoning_effort", policy.effort),
            ("thinking_budget", policy.budget_tokens),
        )
        dropped += [name for name, value in named if value is not None]
        return
    effort = _effort(policy, dict(quirks.effort_values))
    is_wanted = effort not in (None, "none")
    if "tools" in fields or "responseFormat" in fields:
        if is_wanted:
            dropped.append("reasoning_effort")
        effort = "none"
    elif request.stop:
        if is_wanted:
            raise _refused("takes no `stop` while the model thinks; set reasoning_effort to none", "stop")
        effort = "none"
    if effort is not None:
        fields["thinking"] = {"effort": effort}


def _effort(policy: ReasoningPolicy, theirs: dict[str, str]) -> str | None:
    """None: not said, which with CLOVA means low."""
    if policy.enabled is False or policy.effort == "none":
        return "none"
    if policy.effort is not None:
        return theirs.get(policy.effort) or _EFFORTS.get(policy.effort, policy.effort)
    budget = policy.budget_tokens
    if budget is None:
        return "low" if policy.enabled else None
    if budget <= 0:
        return "none"
    return next((effort for tokens, effort in _EFFORT_OF_BUDGET if budget <= tokens), "high")
