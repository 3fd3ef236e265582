"""Gemini requests: the path and the body read, passed on, and put together from what other dialects say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import BadRequest, NotFound
from naru.protocol.dialect import Quirks
from naru.protocol.gemini import GEMINI
from naru.protocol.gemini.contents_out import NO_SIGNATURE
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Refusal,
    Request,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.gemini.samples import BUDGETS, HELLO, LEVELS, PATH, PLAIN, read
from tests.protocol.samples import compact

# --- The path -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model", "is_stream"),
    [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", False),
        ("/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini-2.5-flash", True),
        ("/v1beta/models/gemini-3-pro:streamGenerateContent?key=k&alt=sse", "gemini-3-pro", True),
        ("/v1beta/models/sandbox/echo:generateContent", "sandbox/echo", False),
        ("/v1beta/models/sandbox%2Fecho%3Ftps%3D5:generateContent", "sandbox/echo?tps=5", False),
        ("/v1beta1/publishers/google/models/gemini-3:generateContent", "gemini-3", False),
        ("/v1beta/models/qwen3:8b:generateContent", "qwen3:8b", False),
    ],
)
def test_the_path_names_the_model_and_the_stream(path: str, model: str, is_stream: bool) -> None:
    envelope = read(path)
    assert (envelope.model, envelope.is_stream) == (model, is_stream)


@pytest.mark.parametrize(
    "path", ["/v1beta/models", "/v1beta/models/x:countTokens", "/x", "", "/models/:generateContent"]
)
def test_a_path_without_a_model_is_not_found(path: str) -> None:
    with pytest.raises(NotFound, match="generateContent"):
        read(path)


def test_a_stream_without_alt_sse_says_what_to_add() -> None:
    """Google would send a JSON list there; a caller is told instead of getting another form than it expects."""
    with pytest.raises(BadRequest, match=r"\?alt=sse"):
        read("/v1beta/models/m:streamGenerateContent")


# --- The body -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"contents": []}, "contents"),
        ({"contents": "hi"}, "contents"),
        ({"contents": None}, "contents"),
        ({"model": "models/other"}, "model"),
        ({"api_base": "http://x"}, "api_base"),
        ({"generationConfig": []}, "generationConfig"),
        ({"generationConfig": {"maxOutputTokens": "5"}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"max_output_tokens": 0}}, "generationConfig.maxOutputTokens"),
        ({"generationConfig": {"candidateCount": 10_000}}, "generationConfig.candidateCount"),
        ({"generationConfig": {"stopSequences": "x"}}, "generationConfig.stopSequences"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"[]", "invalid_json"),
        (b'{"contents":', "invalid_json"),
        (b'{"contents":"\xff"}', "invalid_json"),
        (b'{"contents":' + b"[" * 200 + b"]" * 200 + b"}", "nested_too_deep"),
        (b'{"contents":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nested_too_deep"),
    ],
)
def test_bodies_that_are_no_request(body: bytes, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        GEMINI.read(body, PATH)
    assert refused.value.code == code


def test_what_money_needs_is_read_under_either_spelling() -> None:
    """Google's SDK mixes lowerCamelCase and snake_case in one body (recorded)."""
    envelope = read(generation_config={"max_output_tokens": 7, "candidateCount": 2}, model="models/gemini-3-flash")
    assert (envelope.max_output_tokens, envelope.n) == (7, 2)
    assert "model" not in envelope.fields


def test_inline_files_do_not_count_as_text() -> None:
    def size(data: str) -> int:
        part = {"inlineData": {"mimeType": "image/png", "data": data}}
        return read(contents=[{"parts": [part]}]).input_bytes

    assert size("A" * 4_000_000) < 5_000
    assert size("A" * 20_000) > 20_000


# --- Same dialect ---------------------------------------------------------------------------------------------------


def forwarded(quirks: Quirks, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = GEMINI.forward(read(**fields), "m", quirks)
    return json.loads(found.body), found.dropped


def test_a_model_that_refuses_sampling_gets_none() -> None:
    """3.6-flash and later refuse temperature (A6.2): it is left out, and named."""
    quirks = Quirks(drops=frozenset({"temperature", "topK"}))
    sent, dropped = forwarded(quirks, generationConfig={"temperature": 1, "topK": 2, "seed": 3})
    assert sent["generationConfig"] == {"seed": 3}
    assert dropped == ("temperature", "topK")


@pytest.mark.parametrize(
    ("quirks", "extension", "thinking"),
    [
        (LEVELS, {"reasoning_effort": "low"}, {"thinkingLevel": "low", "includeThoughts": True}),
        (LEVELS, {"enable_thinking": False}, {"thinkingLevel": "minimal", "includeThoughts": False}),
        (LEVELS, {"thinking_budget": 900}, {"thinkingLevel": "low", "includeThoughts": True}),
        (BUDGETS, {"thinking_budget": 900}, {"thinkingBudget": 900, "includeThoughts": True}),
        (BUDGETS, {"enable_thinking": False}, {"thinkingBudget": 0}),
        (PLAIN, {"reasoning_effort": "low"}, None),
    ],
)
def test_the_extensions_of_any_dialect(
    quirks: Quirks, extension: dict[str, Any], thinking: dict[str, Any] | None
) -> None:
    """reasoning_effort, enable_thinking and thinking_budget become thinkingConfig."""
    sent, _ = forwarded(quirks, **extension, generationConfig={"seed": 1})
    assert sent["generationConfig"].pop("thinkingConfig", None) == thinking
    assert sent == {**HELLO, "generationConfig": {"seed": 1}}


def test_more_answers_than_the_model_gives() -> None:
    with pytest.raises(BadRequest, match="candidateCount"):
        forwarded(Quirks(has_n=False), generationConfig={"candidateCount": 2})
    sent, _ = forwarded(Quirks(has_n=False), generationConfig={"candidateCount": 1})
    assert sent["generationConfig"] == {}


def test_a_foreign_signature_does_not_reach_google() -> None:
    """Thoughts of another model, shown to this caller before, would be refused as corrupted (A6.5)."""
    thought = Reasoning("t", "sig", "enc")
    shown = json.loads(GEMINI.encode_request(_request(_assistant(thought), dialect="gemini"), PLAIN).body)
    assert shown["contents"][0]["parts"] == []
    wrapped = {"text": "t", "thought": True, "thoughtSignature": _wrapped(thought)}
    own = {"text": "a", "thoughtSignature": "EqoeCg=="}
    sent, dropped = forwarded(LEVELS, contents=[{"role": "model", "parts": [wrapped, own]}])
    assert sent["contents"][0]["parts"] == [{"text": "t", "thought": True}, own]
    assert dropped == ("contents.thoughtSignature",)


def _wrapped(part: Reasoning) -> str:
    from_encoder = GEMINI.encode_response(
        _answer(part),
        read(),
    )
    return str(json.loads(from_encoder)["candidates"][0]["content"]["parts"][0]["thoughtSignature"])


def _answer(part: Any) -> Any:
    response = OPENAI_CHAT.decode_response(
        compact({"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]}),
        PLAIN,
    )
    return replace(response, choices=(replace(response.choices[0], parts=(part,)),))


# --- From other dialects --------------------------------------------------------------------------------------------


def _request(*messages: Message, **fields: Any) -> Request:
    return Request("m", messages, **{"dialect": "openai_chat", **fields})


def _user(*parts: Any) -> Message:
    return Message("user", parts)


def _assistant(*parts: Any) -> Message:
    return Message("assistant", parts)


def _result(call_id: str, text: str, **more: Any) -> Message:
    return Message("tool", (ToolResult(call_id, (Text(text),), **more),))


def sent(request: Request, quirks: Quirks = PLAIN) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GEMINI.encode_request(request, quirks).body)
    return found


def test_system_messages_are_merged_into_the_instruction() -> None:
    """All of them, in order, wherever they stood; contents are never empty."""
    body = sent(_request(Message("system", (Text("a"),)), Message("developer", (Text("b"),))))
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert body["contents"] == [{"role": "user", "parts": [{"text": " "}]}]


def test_a_tool_loop_of_chat_completions() -> None:
    """Results in one content, in the order of the calls, under the names of the calls; the first call is signed."""
    body = sent(
        _request(
            _user(Text("q")),
            _assistant(Text(""), ToolCall("c1", "f", '{"a":1.50}'), ToolCall("c2", "g", "")),
            _result("c2", "[1]"),
            _result("c1", '{"ok":true}'),
            _user(Text("and?")),
        ),
        LEVELS,
    )
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user", "user"]
    assert body["contents"][1]["parts"] == [
        {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1.50}}, "thoughtSignature": NO_SIGNATURE},
        {"functionCall": {"id": "c2", "name": "g", "args": {}}},
    ]
    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"id": "c1", "name": "f", "response": {"ok": True}}},
        {"functionResponse": {"id": "c2", "name": "g", "response": {"result": "[1]"}}},
    ]


def test_models_before_3_need_no_signature() -> None:
    assert "thoughtSignature" not in str(sent(_request(_assistant(ToolCall("c", "f", "{}"))), BUDGETS))


def test_a_signature_kept_by_an_openai_client_goes_back() -> None:
    """extra_content.google.thought_signature, the form of Google's own compatible endpoint (A6.1)."""
    extra = {"extra_content": Raw(b'{"google":{"thought_signature":"EqoeCg=="}}')}
    found = GEMINI.encode_request(_request(_assistant(ToolCall("c", "f", "{}", extra=extra))), LEVELS)
    assert json.loads(found.body)["contents"][0]["parts"][0]["thoughtSignature"] == "EqoeCg=="
    assert found.dropped == ()


def test_odd_arguments_and_results() -> None:
    """Malformed arguments stay readable, free text has its name, errors are errors, a wrapped look-alike stays text."""
    body = sent(
        _request(
            _assistant(ToolCall("a", "f", '{"x":'), ToolCall("b", "grep", "a|b", "custom")),
            _result("a", "no", is_error=True),
            _result("b", '{"result":"x"}'),
        )
    )
    calls = [part["functionCall"]["args"] for part in body["contents"][0]["parts"]]
    assert calls == [{"arguments": '{"x":'}, {"input": "a|b"}]
    answers = [part["functionResponse"]["response"] for part in body["contents"][1]["parts"]]
    assert answers == [{"error": "no"}, {"result": '{"result":"x"}'}]


def test_a_result_of_no_call_is_refused() -> None:
    with pytest.raises(BadRequest, match="`nowhere`"):
        sent(_request(_result("nowhere", "x")))


def test_media() -> None:
    body = sent(
        _request(
            _user(
                Image("data:image/png;base64,aGk="),
                Image("https://a/b.webp?x=1"),
                Image("gs://b/c"),
                Audio("aGk=", "mp3"),
                File(data="data:application/pdf;base64,aGk=", filename="a.pdf"),
                File(data="aGk=", filename="b.csv"),
                File(url="https://a/c.mp4"),
            )
        )
    )
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"mimeType": "image/webp", "fileUri": "https://a/b.webp?x=1"}},
        {"fileData": {"fileUri": "gs://b/c"}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "aGk="}},
        {"inlineData": {"mimeType": "text/csv", "data": "aGk="}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://a/c.mp4"}},
    ]


@pytest.mark.parametrize(
    "part", [File(file_id="file-abc"), File(data="aGk="), Image("data:image/svg+xml,<svg/>")], ids=["id", "type", "uri"]
)
def test_media_that_cannot_be_sent(part: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        sent(_request(_user(part)))
    assert refused.value.code == "unsupported_content"


def test_what_another_model_thought_stays_away() -> None:
    """Unsigned or signed by somebody else, thoughts are left out and named; refusals are text."""
    request = _request(_assistant(Reasoning("t", "s"), Refusal("no")))
    found = GEMINI.encode_request(request, LEVELS)
    assert json.loads(found.body)["contents"] == [{"role": "model", "parts": [{"text": "no"}]}]
    assert found.dropped == ("messages.reasoning",)


def test_tools_and_the_choice() -> None:
    """Functions in one tool with their whole schema; another API's own tool is refused by name."""
    schema = Raw(b'{"type":"object","properties":{},"additionalProperties":false,"$defs":{}}')
    tools = (Tool("f", "d", schema, True), Tool("g"), OpaqueTool("gemini", "googleSearch", Raw(b'{"googleSearch":{}}')))
    body = sent(_request(_user(Text("x")), tools=tools, tool_choice=ToolChoice("named", ("f",))))
    declared = [{"name": "f", "description": "d", "parametersJsonSchema": json.loads(bytes(schema))}, {"name": "g"}]
    assert body["tools"] == [{"functionDeclarations": declared}, {"googleSearch": {}}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    with pytest.raises(BadRequest, match="`web_search`"):
        sent(_request(_user(Text("x")), tools=(OpaqueTool("openai_responses", "web_search", Raw(b"{}")),)))


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("auto", ("f",)), {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}),
    ],
)
def test_choices_of_tools(choice: ToolChoice, config: dict[str, Any]) -> None:
    body = sent(_request(_user(Text("x")), tool_choice=choice))
    assert body["toolConfig"]["functionCallingConfig"] == config


def test_the_rest_of_a_chat_request() -> None:
    """Limits and sampling under Google's names; what changes no answer is left out and named."""
    found = GEMINI.encode_request(
        _request(
            _user(Text("x")),
            max_output_tokens=9,
            n=2,
            stop=("a",),
            sampling=Sampling(temperature=0.5, top_p=0.25, top_k=3, min_p=0.1, seed=4, presence_penalty=1.0),
            logprobs=True,
            top_logprobs=2,
            response_format=ResponseFormat("json_schema", "n", Raw(b'{"type":"object"}'), True, "d"),
            user="u",
            metadata=Raw(b"{}"),
            parallel_tool_calls=False,
            service_tier="default",
            extra={"logit_bias": Raw(b"{}")},
        ),
        PLAIN,
    )
    body = json.loads(found.body)
    assert body["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.25,
        "topK": 3,
        "seed": 4,
        "presencePenalty": 1.0,
        "maxOutputTokens": 9,
        "candidateCount": 2,
        "stopSequences": ["a"],
        "responseLogprobs": True,
        "logprobs": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    assert body["serviceTier"] == "standard"
    assert set(found.dropped) == {
        "min_p", "parallel_tool_calls", "user", "metadata", "response_format.description", "logit_bias",
    }  # fmt: skip


PRO_25 = Quirks(thinking_style="gemini_budget", effort_values=(("none", "128"), ("minimal", "128")))
PRO_3 = Quirks(thinking_style="gemini_level", effort_values=(("none", "low"), ("minimal", "low"), ("medium", "high")))


@pytest.mark.parametrize(
    ("policy", "quirks", "config", "dropped"),
    [
        (ReasoningPolicy(), LEVELS, None, ()),
        (ReasoningPolicy(effort="high"), LEVELS, {"thinkingLevel": "high", "includeThoughts": True}, ()),
        (ReasoningPolicy(effort="max"), LEVELS, {"thinkingLevel": "xhigh", "includeThoughts": True}, ()),
        (ReasoningPolicy(effort="none"), LEVELS, {"thinkingLevel": "minimal", "includeThoughts": False}, ()),
        (ReasoningPolicy(effort="none"), PRO_3, {"thinkingLevel": "low", "includeThoughts": False}, ()),
        (ReasoningPolicy(effort="medium"), PRO_3, {"thinkingLevel": "high", "includeThoughts": True}, ()),
        (ReasoningPolicy(enabled=True), LEVELS, {"includeThoughts": True}, ()),
        (ReasoningPolicy(budget_tokens=9_000), LEVELS, {"thinkingLevel": "high", "includeThoughts": True}, ()),
        (
            ReasoningPolicy(effort="low", budget_tokens=9_000),
            LEVELS,
            {"thinkingLevel": "low", "includeThoughts": True},
            ("thinking_budget",),
        ),
        (ReasoningPolicy(effort="medium"), BUDGETS, {"thinkingBudget": 2_048, "includeThoughts": True}, ()),
        (ReasoningPolicy(enabled=False), BUDGETS, {"thinkingBudget": 0}, ()),
        (ReasoningPolicy(enabled=False), PRO_25, {"thinkingBudget": 128}, ()),
        (ReasoningPolicy(enabled=True), BUDGETS, {"thinkingBudget": -1, "includeThoughts": True}, ()),
        (ReasoningPolicy(effort="low"), PLAIN, None, ("reasoning_effort",)),
    ],
)
def test_one_policy_on_thinking(
    policy: ReasoningPolicy, quirks: Quirks, config: dict[str, Any] | None, dropped: tuple[str, ...]
) -> None:
    """A budget or a level, never both; who asks for thinking in another dialect sees it."""
    found = GEMINI.encode_request(_request(_user(Text("x")), reasoning=policy), quirks)
    assert json.loads(found.body).get("generationConfig", {}).get("thinkingConfig") == config
    assert found.dropped == dropped
