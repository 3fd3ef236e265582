"""Requests to Converse: turns, tools, forms, thinking, media; what cannot be said is refused or named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL
from naru.protocol.bedrock import BEDROCK
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    OpaqueTool,
    Reasoning,
    ReasoningPolicy,
    Request,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from naru.testing.sandbox.bedrock_request import check, decode
from tests.protocol.bedrock.samples import ALWAYS, BUDGET, CLAUDE, LLAMA, NOVA, PLAIN, PROVIDER, Json, request

TOOL = Tool("f", "d", Raw(b'{"type":"object","properties":{"a":{"type":"integer"}}}'))
SCHEMA = Raw(b'{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}')
MARK = {"cache_control": Raw(b'{"type":"ephemeral"}')}
HOUR = {"cache_control": Raw(b'{"type":"ephemeral","ttl":"1h"}')}


def sent(asked: Request, quirks: Quirks = CLAUDE) -> tuple[Json, tuple[str, ...]]:
    """The body, which the sandbox, as strict as the API's description, accepts."""
    found = BEDROCK.encode_request(asked, quirks)
    check(decode(found.body))
    return json.loads(found.body), found.dropped


def conversation(*messages: Message, dialect: str = "openai_chat", **fields: Any) -> Request:
    return Request("m", messages, dialect=dialect, **fields)


def refused(asked: Request, quirks: Quirks = CLAUDE) -> BadRequest:
    with pytest.raises(BadRequest) as error:
        BEDROCK.encode_request(asked, quirks)
    return error.value


# --- Messages -------------------------------------------------------------------------------------------------------


def test_a_plain_question_is_nothing_but_that() -> None:
    assert sent(request()) == ({"messages": [{"role": "user", "content": [{"text": "안녕"}]}]}, ())


def test_turns_alternate_and_results_stand_first() -> None:
    body, dropped = sent(
        conversation(
            Message("system", (Text("a"),)),
            Message("developer", (Text("b"),)),
            Message("user", (Text("q"),), name="kim"),
            Message(
                "assistant",
                (
                    Reasoning("음", "sig"),
                    Reasoning("", encrypted="aGk="),
                    Text(" "),
                    ToolCall("1", "f.g", '{"a":1.50}'),
                ),
            ),
            Message("tool", (ToolResult("1", (Text("맑음"), Image("data:image/png;base64,aGk="))),)),
            Message("system", (Text("later"),)),
            Message("user", (Text("go on"),)),
        )
    )
    assert body["system"] == [{"text": "a"}, {"text": "b"}]
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "음", "signature": "sig"}}},
                {"reasoningContent": {"redactedContent": "aGk="}},
                {"toolUse": {"toolUseId": "1", "name": "f__u002e__g", "input": {"a": 1.5}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "1",
                        "content": [{"text": "맑음"}, {"image": {"format": "png", "source": {"bytes": "aGk="}}}],
                    }
                },
                {"text": "later"},
                {"text": "go on"},
            ],
        },
    ]
    assert dropped == ("messages.name",)


def test_a_mark_inside_a_result_holds_for_the_result() -> None:
    result = ToolResult("1", (Text("x", MARK), Text("y", {"citations": Raw(b"[]")})))
    messages = (
        Message("user", (Text("q"),)),
        Message("assistant", (ToolCall("1", "f", ""),)),
        Message("tool", (result,)),
    )
    body, dropped = sent(conversation(*messages, dialect="anthropic_messages"))
    assert [next(iter(block)) for block in body["messages"][2]["content"]] == ["toolResult", "cachePoint"]
    assert dropped == ("messages.citations",)


def test_the_beginning_of_an_answer_ends_in_no_white_space() -> None:
    body, _ = sent(conversation(Message("user", (Text("q "),)), Message("assistant", (Text("It is \n"),))))
    assert [message["content"][0]["text"] for message in body["messages"]] == ["q ", "It is"]


def test_what_was_said_before_a_result_comes_after_it() -> None:
    """With its mark of the cache, which stays behind its block."""
    body, _ = sent(
        conversation(
            Message("user", (Text("q"),)),
            Message("assistant", (ToolCall("1", "f", ""),)),
            Message("user", (Text("first", MARK), ToolResult("1", (Text("x"),), extra=MARK))),
        )
    )
    kinds = [next(iter(block)) for block in body["messages"][2]["content"]]
    assert kinds == ["toolResult", "cachePoint", "text", "cachePoint"]


def test_a_history_of_calls_needs_its_tools_offered_or_not() -> None:
    """Without toolConfig the API refuses it."""
    messages = (
        Message("user", (Text("q"),)),
        Message("assistant", (ToolCall("1", "f", ""),)),
        Message("tool", (ToolResult("1", ()),)),
    )
    body, _ = sent(conversation(*messages))
    assert [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"]] == ["f"]
    assert body["messages"][1]["content"][0]["toolUse"]["input"] == {}
    body, dropped = sent(conversation(*messages, tools=(TOOL,), tool_choice=ToolChoice("none")))
    assert "toolChoice" not in body["toolConfig"]
    assert dropped == ("tool_choice",)


def test_a_failed_result_says_so() -> None:
    messages = (
        Message("user", (Text("q"),)),
        Message("assistant", (ToolCall("1", "f", ""),)),
        Message("tool", (ToolResult("1", (Text("x"),), is_error=True),)),
    )
    assert sent(conversation(*messages))[0]["messages"][2]["content"][0]["toolResult"]["status"] == "error"


@pytest.mark.parametrize("given", ["", "한글", "x" * 65, "a b"])
def test_ids_that_it_does_not_take_become_others_always_the_same(given: str) -> None:
    messages = (
        Message("user", (Text("q"),)),
        Message("assistant", (ToolCall(given, "f", ""),)),
        Message("tool", (ToolResult(given, (Text("x"),)),)),
    )
    body, _ = sent(conversation(*messages))
    use = body["messages"][1]["content"][0]["toolUse"]["toolUseId"]
    assert use == body["messages"][2]["content"][0]["toolResult"]["toolUseId"]
    assert use.startswith("tooluse_")


@pytest.mark.parametrize(
    ("part", "is_sent"),
    [
        (Reasoning("t", "s", extra={"signed_by": Raw(b'"bedrock_converse"')}), True),
        (Reasoning("t", "s", extra={"signed_by": Raw(b'"anthropic_messages"')}), True),
        (Reasoning("t", "s", extra={"signed_by": Raw(b'"gemini"')}), False),
        (Reasoning("t"), False),
    ],
)
def test_thinking_goes_back_where_claude_signed_it(part: Reasoning, is_sent: bool) -> None:
    messages = (Message("user", (Text("q"),)), Message("assistant", (part, Text("a"))), Message("user", (Text("r"),)))
    body, dropped = sent(conversation(*messages, dialect="anthropic_messages"))
    assert ("reasoningContent" in body["messages"][1]["content"][0]) is is_sent
    assert ("messages.reasoning" in dropped) is not is_sent


def test_marks_of_the_cache_become_points_after_their_blocks() -> None:
    asked = conversation(
        Message("system", (Text("long", MARK),)),
        Message("user", (Text("a", HOUR), Text("b"))),
        tools=(Tool("f", extra=MARK),),
        dialect="anthropic_messages",
    )
    body, dropped = sent(asked)
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "long"}, point]
    assert body["messages"][0]["content"] == [
        {"text": "a"},
        {"cachePoint": {"type": "default", "ttl": "1h"}},
        {"text": "b"},
    ]
    assert body["toolConfig"]["tools"][1] == point
    assert dropped == ()
    body, dropped = sent(asked, LLAMA)
    assert "cachePoint" not in json.dumps(body)
    assert dropped == ("cache_control",)


# --- Media ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image("data:image/jpg;base64,aGk="), {"image": {"format": "jpeg", "source": {"bytes": "aGk="}}}),
        (
            Image("s3://bucket/a.PNG"),
            {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.PNG"}}}},
        ),
        (Audio("aGk=", "wav"), {"audio": {"format": "wav", "source": {"bytes": "aGk="}}}),
        (
            File(data="data:application/pdf;base64,aGk=", filename="계약서 v1_final.pdf"),
            {"document": {"format": "pdf", "name": "v1 final", "source": {"bytes": "aGk="}}},
        ),
        (File(data="JVBERi0x"), {"document": {"format": "pdf", "name": "document", "source": {"bytes": "JVBERi0x"}}}),
        (
            File(data="aGk=", media_type="text/x-python", filename="a.py"),
            {"document": {"format": "txt", "name": "a", "source": {"bytes": "aGk="}}},
        ),
        (
            File(url="s3://bucket/a.docx"),
            {
                "document": {
                    "format": "docx",
                    "name": "document",
                    "source": {"s3Location": {"uri": "s3://bucket/a.docx"}},
                }
            },
        ),
        (File(data="data:image/png;base64,aGk="), {"image": {"format": "png", "source": {"bytes": "aGk="}}}),
    ],
)
def test_media(part: Any, block: Json) -> None:
    assert sent(request(part, Text("?")))[0]["messages"][0]["content"][0] == block


def test_two_documents_have_two_names() -> None:
    one = File(data="aGk=", filename="a.txt")
    body, _ = sent(request(one, one, Text("?")))
    assert [block["document"]["name"] for block in body["messages"][0]["content"][:2]] == ["a", "a 2"]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (Image("https://a/b.png"), "data:…;base64"),
        (Image("data:image/svg+xml;base64,aGk="), "image/svg"),
        (Image("data:image/png,x"), "not base64"),
        (File(url="https://a/b.pdf"), "by its address"),
        (File(file_id="file-1"), "by its id"),
        (File(data="aGk=", media_type="application/zip"), "application/zip"),
        (Audio("aGk=", "midi"), "midi"),
    ],
)
def test_what_it_cannot_read_is_refused_by_name(part: Any, words: str) -> None:
    error = refused(request(part))
    assert (error.code, error.param) == ("unsupported_content", "messages")
    assert words in error.message


# --- Tools and forms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        (None, None),
        (ToolChoice("auto"), None),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("required", ("f",)), {"tool": {"name": "f"}}),
        (ToolChoice("named", ("f",)), {"tool": {"name": "f"}}),
        (ToolChoice("auto", ("f",)), None),
    ],
)
def test_tools_and_the_choice_among_them(choice: ToolChoice | None, written: Any) -> None:
    body, dropped = sent(request(tools=(TOOL, Tool("g", strict=True)), tool_choice=choice, parallel_tool_calls=False))
    config = body["toolConfig"]
    names = [tool["toolSpec"]["name"] for tool in config["tools"]]
    assert names == (["f"] if choice is not None and choice.names and choice.mode != "named" else ["f", "g"])
    assert config.get("toolChoice") == written
    assert "parallel_tool_calls" in dropped


def test_no_choice_of_tools_is_no_tools() -> None:
    assert "toolConfig" not in sent(request(tools=(TOOL,), tool_choice=ToolChoice("none")))[0]


def test_schemas_keep_every_digit_and_are_objects() -> None:
    body = BEDROCK.encode_request(
        request(tools=(Tool("f", parameters=Raw(b'{"type":"object","x":1.50}')),)), CLAUDE
    ).body
    assert b"1.50" in body
    (tool,) = sent(request(tools=(Tool("f", parameters=Raw(b'{"properties":{}}')),)))[0]["toolConfig"]["tools"]
    assert tool["toolSpec"]["inputSchema"]["json"] == {"type": "object", "properties": {}}


def test_a_schema_for_the_answer() -> None:
    form = ResponseFormat("json_schema", "person", SCHEMA, strict=True)
    body, _ = sent(request(response_format=form))
    written = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (json.loads(written["schema"]), written["name"]) == (json.loads(bytes(SCHEMA)), "person")


def test_where_there_is_no_such_form_a_tool_stands_for_the_answer() -> None:
    form = ResponseFormat("json_schema", "person", SCHEMA)
    config = sent(request(response_format=form), NOVA)[0]["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": ANSWER_TOOL}}
    config = sent(request(response_format=form, tools=(TOOL,)), NOVA)[0]["toolConfig"]
    assert (len(config["tools"]), config["toolChoice"]) == (2, {"any": {}})


def test_json_of_any_shape_is_asked_for_in_words() -> None:
    body, _ = sent(request(response_format=ResponseFormat("json_object")))
    assert "JSON object" in body["system"][0]["text"]


# --- Thinking, sampling, limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quirks", "policy", "thinking", "effort"),
    [
        (CLAUDE, ReasoningPolicy(effort="high"), {"type": "adaptive", "display": "summarized"}, "high"),
        (CLAUDE, ReasoningPolicy(effort="xhigh"), {"type": "adaptive", "display": "summarized"}, "high"),
        (CLAUDE, ReasoningPolicy(enabled=False), {"type": "disabled"}, None),
        (BUDGET, ReasoningPolicy(effort="medium"), {"type": "enabled", "budget_tokens": 2048}, None),
        (BUDGET, ReasoningPolicy(budget_tokens=5000), {"type": "enabled", "budget_tokens": 5000}, None),
        (ALWAYS, ReasoningPolicy(enabled=False), None, "low"),
        (NOVA, ReasoningPolicy(effort="high"), None, None),
    ],
)
def test_thinking(quirks: Quirks, policy: ReasoningPolicy, thinking: Json | None, effort: str | None) -> None:
    body, dropped = sent(request(reasoning=policy), quirks)
    assert body.get("additionalModelRequestFields", {}).get("thinking") == thinking
    assert body.get("outputConfig", {}).get("effort") == effort
    assert ("reasoning_effort" in dropped) is (quirks is NOVA)


def test_a_budget_goes_with_little_else() -> None:
    """The limit holds answer and thinking; sampling is left out; a forced tool comes before thinking."""
    policy = ReasoningPolicy(budget_tokens=2000)
    body, dropped = sent(request(reasoning=policy, max_output_tokens=500, sampling=Sampling(temperature=0.5)), BUDGET)
    assert body["inferenceConfig"] == {"maxTokens": 2500}
    assert dropped == ("temperature",)
    forced = request(reasoning=policy, tools=(TOOL,), tool_choice=ToolChoice("required"))
    body, dropped = sent(forced, BUDGET)
    assert "additionalModelRequestFields" not in body
    assert "reasoning" in dropped


def test_sampling_and_limits() -> None:
    sampling = Sampling(temperature=1.5, top_p=0.9, top_k=5, seed=1, presence_penalty=0.5)
    asked = request(
        sampling=sampling, max_output_tokens=7, stop=("x", " "), user="u", service_tier="flex", metadata=Raw(b"{}")
    )
    body, dropped = sent(asked)
    assert body["inferenceConfig"] == {"temperature": 1.0, "maxTokens": 7, "stopSequences": ["x"]}
    assert body["additionalModelRequestFields"] == {"top_k": 5}
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert body["serviceTier"] == {"type": "flex"}
    assert set(dropped) == {"temperature", "top_p", "seed", "presence_penalty", "stop", "user", "metadata"}
    body, dropped = sent(asked, NOVA)
    assert body["inferenceConfig"] == {"temperature": 1.0, "topP": 0.9, "maxTokens": 7, "stopSequences": ["x"]}
    assert "top_k" in dropped
    body, dropped = sent(asked, ALWAYS)
    assert {"temperature", "top_p", "top_k"} <= set(dropped)
    assert body["inferenceConfig"] == {"maxTokens": 7, "stopSequences": ["x"]}


def test_no_limit_is_the_models_own() -> None:
    assert "inferenceConfig" not in sent(request())[0]


def test_converses_own_switches_pass_and_others_are_named() -> None:
    guard = Raw(b'{"guardrailIdentifier":"g","guardrailVersion":"1"}')
    body, dropped = sent(request(extra={"guardrailConfig": guard, "store": Raw(b"true")}))
    assert body["guardrailConfig"]["guardrailIdentifier"] == "g"
    assert dropped == ("store",)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": (OpaqueTool("openai_responses", "web_search", Raw(b"{}")),)}, "tools"),
        ({"tools": (Tool("x" * 65),)}, "tools"),
        ({"tools": (TOOL,), "tool_choice": ToolChoice("named", ("a", "b"))}, "tool_choice"),
    ],
)
def test_what_it_cannot_say_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(request(**fields), PLAIN).param == param


def test_a_conversation_needs_more_than_a_system_message() -> None:
    assert refused(conversation(Message("system", (Text("a"),)))).param == "messages"


# --- Models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "style", "drops"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic_budget", set()),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", "anthropic_budget", {"outputConfig.textFormat"}),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic_budget", {"outputConfig.textFormat"}),
        ("global.anthropic.claude-opus-4-6-v1:0", "anthropic_adaptive", set()),
        ("global.anthropic.claude-opus-5", "anthropic_adaptive", {"temperature", "top_p", "top_k"}),
        ("us.anthropic.claude-haiku-5-5", "anthropic_adaptive", {"temperature", "top_p", "top_k"}),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-fable-5-1", "anthropic_always",
         {"temperature", "top_p", "top_k"}),
        ("us.amazon.nova-pro-v1:0", "none", {"outputConfig.textFormat"}),
        ("meta.llama4-scout-17b-instruct-v1:0", "none", {"outputConfig.textFormat", "cachePoint"}),
    ],
)  # fmt: skip
def test_quirks_by_model(model: str, style: str, drops: set[str]) -> None:
    from_table = PROVIDER.quirks_for(model)
    assert (from_table.thinking_style, set(from_table.drops)) == (style, drops)
