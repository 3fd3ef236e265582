"""Requests towards Anthropic: from callers of other dialects, and from its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import BadRequest
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
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
from tests.protocol.anthropic_messages.samples import PATH, PLAIN, body, envelope
from tests.protocol.samples import Json, compact

HI = Message("user", (Text("hi"),))
WEATHER = Tool("get_weather", "Weather.", Raw(b'{"type":"object","properties":{"city":{"type":"string"}}}'))


def read(**fields: Any) -> Request:
    return ANTHROPIC_MESSAGES.decode_request(ANTHROPIC_MESSAGES.read(body(**fields), PATH))


def sent(request: Request, quirks: Quirks = PLAIN) -> Json:
    fields: Json = json.loads(ANTHROPIC_MESSAGES.encode_request(request, quirks).body)
    return fields


def dropped(request: Request, quirks: Quirks = PLAIN) -> tuple[str, ...]:
    return ANTHROPIC_MESSAGES.encode_request(request, quirks).dropped


def asked(*messages: Message, **fields: Any) -> Request:
    """A request as a chat client asks it."""
    return Request("claude", messages or (HI,), dialect="openai_chat", **fields)


def style(name: str, **more: Any) -> Quirks:
    return Quirks(thinking_style=name, **more)


# --- Other callers, Anthropic's models ------------------------------------------------------------------------------


def test_system_messages_at_the_head_become_the_prompt() -> None:
    """Several are paragraphs of one prompt; a later one is said in the user's turn."""
    first, second = Message("system", (Text("A"),)), Message("developer", (Text("B"),))
    fields = sent(asked(first, second, HI, Message("system", (Text("C"),))))
    assert fields["system"] == "A\n\nB"
    assert fields["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "C"}]}
    ]


def test_turns_alternate_and_results_come_first() -> None:
    """Parallel results, wherever they stood, are the head of the one user turn that answers the calls."""
    calls = (ToolCall("call:1", "f", '{"a": 1.50}'), ToolCall("b", "f.g", ""))
    fields = sent(
        asked(
            HI,
            Message("assistant", (Text(" "), *calls)),
            Message("user", (Text("wait"),)),
            Message("tool", (ToolResult("call:1", (Text("one"),)),)),
            Message("tool", (ToolResult("b", (Image("https://x/y.png"),), is_error=True),)),
        )
    )
    _, assistant, answer = fields["messages"]
    ids = [block["id"] for block in assistant["content"]]
    assert [block["type"] for block in assistant["content"]] == ["tool_use", "tool_use"]
    assert [block["input"] for block in assistant["content"]] == [{"a": 1.5}, {}]
    assert assistant["content"][1]["name"] == "f__u002e__g"
    assert ids[1] == "b"
    assert all(char.isalnum() or char in "_-" for char in ids[0])
    assert answer["content"] == [
        {"type": "tool_result", "tool_use_id": ids[0], "content": "one"},
        {
            "type": "tool_result",
            "tool_use_id": "b",
            "content": [{"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}],
            "is_error": True,
        },
        {"type": "text", "text": "wait"},
    ]


def test_numbers_in_arguments_keep_every_digit() -> None:
    """`input` is the text that the model wrote."""
    request = asked(HI, Message("assistant", (ToolCall("a", "f", '{"x": 1.10, "y": 12345678901234567890123}'),)), HI)
    assert (
        b'"input":{"x": 1.10, "y": 12345678901234567890123}' in ANTHROPIC_MESSAGES.encode_request(request, PLAIN).body
    )


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "hello", '"{}"'])
def test_arguments_that_are_no_object_are_not_lost(arguments: str) -> None:
    """They travel under a name of their own, and come back as the text they were."""
    fields = sent(asked(HI, Message("assistant", (ToolCall("a", "f", arguments),)), HI))
    assert fields["messages"][1]["content"][0]["input"] == {"naru_unparsed_arguments": arguments}
    (call,) = read(messages=fields["messages"]).messages[1].parts
    assert isinstance(call, ToolCall)
    assert call.arguments == arguments


def test_blank_text_is_left_out() -> None:
    """Anthropic refuses empty blocks; a turn of nothing else is no turn, and a request of nothing is refused."""
    fields = sent(asked(Message("system", (Text(""),)), HI, Message("assistant", (Text("\n"),)), HI))
    assert fields["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "hi"}]}
    ]
    assert "system" not in fields
    with pytest.raises(BadRequest, match="more than system"):
        sent(asked(Message("system", (Text("A"),))))


def test_the_beginning_of_an_answer_does_not_end_in_white_space() -> None:
    """A last assistant message is continued; only blanks at its end are taken away."""
    assert sent(asked(HI, Message("assistant", (Text("{ \n"),))))["messages"][-1]["content"] == "{"


def test_thinking_of_the_history() -> None:
    """Signed and redacted thinking goes back unchanged; unsigned thinking is left out by name."""
    parts = (Reasoning("a", "sig"), Reasoning("", None, "enc"), Reasoning("b"), Text("t"), Refusal("no"))
    request = asked(HI, Message("assistant", parts), HI)
    assert sent(request)["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "a", "signature": "sig"},
        {"type": "redacted_thinking", "data": "enc"},
        {"type": "text", "text": "t"},
        {"type": "text", "text": "no"},
    ]
    assert dropped(request) == ("messages.reasoning",)


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (Image("data:image/jpg;base64,QQ=="), {"type": "base64", "media_type": "image/jpeg", "data": "QQ=="}),
        (
            File(data="data:application/pdf;base64,QQ=="),
            {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
        ),
        (File(data="JVBERi0x"), {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}),
        (
            File(data="data:text/markdown;base64,IyBB"),
            {"type": "text", "media_type": "text/plain", "data": "# A"},
        ),
        (
            File(data="data:image/png;base64,QQ=="),
            {"type": "base64", "media_type": "image/png", "data": "QQ=="},
        ),
        (File(file_id="f"), {"type": "file", "file_id": "f"}),
    ],
)
def test_media_that_anthropic_takes(part: Image | File, source: Json) -> None:
    """Each as the source that fits it."""
    assert sent(asked(Message("user", (part,))))["messages"][0]["content"][0]["source"] == source


@pytest.mark.parametrize(
    "part",
    [
        Audio("QQ==", "wav"),
        Image("data:image/bmp;base64,QQ=="),
        Image("data:image/png,raw"),
        Image("file:///etc/passwd"),
        File(data="QQ==", media_type="application/zip"),
        File(data="data:text/plain;base64,///"),
    ],
)
def test_media_that_anthropic_does_not_take(part: Audio | Image | File) -> None:
    """Refused by name, never dropped."""
    with pytest.raises(BadRequest) as caught:
        sent(asked(Message("user", (part,))))
    assert caught.value.code == "unsupported_content"


def test_tools_and_choices() -> None:
    """The schema has an object at its top; one call at a time is part of the choice."""
    bare = Tool("f", parameters=Raw(b'{"properties":{}}'))
    fields = sent(asked(tools=(WEATHER, bare, Tool("g", strict=True)), parallel_tool_calls=False))
    assert fields["tools"][0]["input_schema"]["properties"] == {"city": {"type": "string"}}
    assert fields["tools"][1]["input_schema"] == {"type": "object", "properties": {}}
    assert fields["tools"][2] == {"name": "g", "strict": True, "input_schema": {"type": "object", "properties": {}}}
    assert fields["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("choice", "written", "names"),
    [
        (ToolChoice("auto"), {"type": "auto"}, ["get_weather", "f"]),
        (ToolChoice("none"), {"type": "none"}, ["get_weather", "f"]),
        (ToolChoice("required"), {"type": "any"}, ["get_weather", "f"]),
        (ToolChoice("named", ("f",)), {"type": "tool", "name": "f"}, ["get_weather", "f"]),
        (ToolChoice("auto", ("f",)), {"type": "auto"}, ["f"]),
        (ToolChoice("required", ("f",)), {"type": "tool", "name": "f"}, ["f"]),
    ],
)
def test_every_choice_has_its_form(choice: ToolChoice, written: Json, names: list[str]) -> None:
    """A list of allowed tools is what is offered."""
    fields = sent(asked(tools=(WEATHER, Tool("f")), tool_choice=choice))
    assert fields["tool_choice"] == written
    assert [tool["name"] for tool in fields["tools"]] == names


def test_a_choice_among_no_tools_is_not_sent() -> None:
    """Anthropic would refuse it."""
    assert "tool_choice" not in sent(asked(tool_choice=ToolChoice("none"), parallel_tool_calls=False))


SCHEMA = ResponseFormat("json_schema", "answer", Raw(b'{"type":"object"}'))


def test_structured_output() -> None:
    """Natively; by a tool that stands for the answer; by asking for it where there is no schema."""
    assert sent(asked(response_format=SCHEMA))["output_config"] == {
        "format": {"type": "json_schema", "schema": {"type": "object"}}
    }
    emulated = Quirks(drops=frozenset({"output_config.format"}))
    fields = sent(asked(response_format=SCHEMA), emulated)
    assert "output_config" not in fields
    assert fields["tools"] == [
        {"name": "naru_structured_answer", "description": "Give the answer.", "input_schema": {"type": "object"}}
    ]
    assert fields["tool_choice"] == {"type": "tool", "name": "naru_structured_answer"}
    assert sent(asked(response_format=SCHEMA, tools=(WEATHER,)), emulated)["tool_choice"] == {"type": "any"}
    assert "JSON" in sent(asked(response_format=ResponseFormat("json_object")))["system"]
    assert "system" not in sent(asked(response_format=ResponseFormat("text")))


@pytest.mark.parametrize(
    ("name", "policy", "thinking", "effort"),
    [
        ("anthropic_adaptive", ReasoningPolicy(effort="minimal"), "adaptive", "low"),
        ("anthropic_adaptive", ReasoningPolicy(budget_tokens=5_000), "adaptive", "medium"),
        ("anthropic_adaptive", ReasoningPolicy(effort="none"), "disabled", None),
        ("anthropic_adaptive", ReasoningPolicy(), None, None),
        ("anthropic_always", ReasoningPolicy(effort="max"), "adaptive", "max"),
        ("anthropic_always", ReasoningPolicy(enabled=False), None, "low"),
        ("anthropic_budget", ReasoningPolicy(effort="high"), "enabled", None),
        ("anthropic_budget", ReasoningPolicy(enabled=False), None, None),
        ("anthropic_toggle", ReasoningPolicy(effort="high"), "enabled", "high"),
        ("anthropic_toggle", ReasoningPolicy(enabled=False), "disabled", None),
        ("none", ReasoningPolicy(effort="high"), None, None),
        ("openai_effort", ReasoningPolicy(effort="high"), "adaptive", "high"),
        ("openai_effort", ReasoningPolicy(budget_tokens=3_000), "enabled", None),
    ],
)
def test_thinking_is_asked_for_in_the_models_own_form(
    name: str, policy: ReasoningPolicy, thinking: str | None, effort: str | None
) -> None:
    """Adaptive thinking is asked to be shown; without that newer models send it blank."""
    fields = sent(asked(reasoning=policy), style(name))
    assert fields.get("thinking", {}).get("type") == thinking
    assert fields.get("output_config", {}).get("effort") == effort
    if thinking == "adaptive":
        assert fields["thinking"]["display"] == "summarized"


def test_a_budget_leaves_room_for_the_answer() -> None:
    """At least 1,024, and less than max_tokens, which the caller meant for the answer."""
    fields = sent(asked(reasoning=ReasoningPolicy(budget_tokens=100), max_output_tokens=500), style("anthropic_budget"))
    assert fields["thinking"] == {"type": "enabled", "budget_tokens": 1_024}
    assert fields["max_tokens"] == 1_524
    fields = sent(asked(reasoning=ReasoningPolicy(effort="high")), style("anthropic_budget"))
    assert fields["max_tokens"] > fields["thinking"]["budget_tokens"]


def test_a_forced_call_goes_before_a_budget_of_thinking() -> None:
    """Refused together by Anthropic; the choice decides what the answer is."""
    request = asked(tools=(WEATHER,), tool_choice=ToolChoice("required"), reasoning=ReasoningPolicy(effort="high"))
    assert "thinking" not in sent(request, style("anthropic_budget"))
    assert dropped(request, style("anthropic_budget")) == ("reasoning",)
    assert "thinking" in sent(request, style("anthropic_adaptive"))


def test_efforts_are_spelled_as_the_model_knows_them() -> None:
    """`effort_values` maps what a model lacks."""
    quirks = style("anthropic_adaptive", effort_values=(("xhigh", "high"),))
    assert sent(asked(reasoning=ReasoningPolicy(effort="xhigh")), quirks)["output_config"] == {"effort": "high"}


def test_max_tokens_is_always_there() -> None:
    """Anthropic requires it; more of it where thinking counts towards it."""
    assert sent(asked())["max_tokens"] == 4_096
    assert sent(asked(), style("anthropic_always"))["max_tokens"] == 16_384
    assert sent(asked(max_output_tokens=7))["max_tokens"] == 7


def test_sampling() -> None:
    """Only what is taken together is sent, on Anthropic's scale; hints that it lacks are named."""
    request = asked(sampling=Sampling(temperature=1.5, top_p=0.5, seed=1, frequency_penalty=0.1))
    assert sent(request)["temperature"] == 1.0
    assert "top_p" not in sent(request)
    assert set(dropped(request)) == {"temperature", "top_p", "seed", "frequency_penalty"}
    request = asked(sampling=Sampling(temperature=0.5, top_k=3), reasoning=ReasoningPolicy(effort="low"))
    assert "temperature" not in sent(request, style("anthropic_budget"))
    assert "temperature" not in sent(asked(sampling=Sampling(0.5)), Quirks(drops=frozenset({"temperature"})))


def test_the_rest_of_a_chat_request() -> None:
    """Users are opaque ids, tiers are Anthropic's, blank stop sequences are refused upstream and so left out."""
    request = asked(user="u1", service_tier="default", stop=("END", " "), metadata=Raw(b'{"a":"b"}'))
    fields = sent(request)
    assert (fields["metadata"], fields["service_tier"], fields["stop_sequences"]) == (
        {"user_id": "u1"},
        "standard_only",
        ["END"],
    )
    assert dropped(request) == ("stop", "metadata")
    assert dropped(asked(user="a@b.c", service_tier="flex")) == ("user", "service_tier")


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}, {"top_logprobs": 3}])
def test_what_would_change_the_form_of_the_answer_is_refused(fields: Json) -> None:
    """By name, before anything is sent."""
    with pytest.raises(BadRequest):
        sent(asked(**fields))


def test_other_apis_tools_and_long_names_are_refused() -> None:
    """By name."""
    custom = OPENAI_CHAT.decode_request(
        OPENAI_CHAT.read(
            compact(
                {
                    "model": "m",
                    "messages": [{"role": "user", "content": "x"}],
                    "tools": [{"type": "custom", "custom": {}}],
                }
            ),
            "/v1/chat/completions",
        )
    )
    for request in (custom, asked(tools=(Tool("x" * 129),))):
        with pytest.raises(BadRequest) as caught:
            sent(request)
        assert caught.value.param == "tools"


def test_a_stream_is_asked_for() -> None:
    """By the caller, or because the upstream knows nothing else."""
    assert sent(asked(is_stream=True))["stream"] is True
    assert sent(asked(), Quirks(is_stream_only=True))["stream"] is True
    assert "stream" not in sent(asked())


# --- Same dialect ---------------------------------------------------------------------------------------------------


def forwarded(quirks: Quirks, **fields: Any) -> tuple[Json, tuple[str, ...]]:
    found = ANTHROPIC_MESSAGES.forward(envelope(**fields), "theirs", quirks)
    return json.loads(found.body), found.dropped


def test_extensions_become_anthropics_fields() -> None:
    """What the caller wrote in Anthropic's form wins over an extension."""
    fields, _ = forwarded(style("anthropic_adaptive"), reasoning_effort="high")
    assert fields["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert fields["output_config"] == {"effort": "high"}
    assert "reasoning_effort" not in fields
    assert forwarded(style("none"), enable_thinking=True)[1] == ("enable_thinking",)


def test_compatible_servers_get_what_they_take() -> None:
    """Tool types and the billing block go where a quirk says so; server tools keep their type."""
    quirks = Quirks(drops=frozenset({"tools.type", "system.billing", "temperature"}), renames=(("top_k", "k"),))
    fields, lost = forwarded(
        quirks,
        system=[{"type": "text", "text": "x-anthropic-billing-header: a"}, {"type": "text", "text": "Be brief."}],
        tools=[{"type": "custom", "name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "w"}],
        temperature=1,
        top_k=3,
    )
    assert fields["system"] == [{"type": "text", "text": "Be brief."}]
    assert fields["tools"] == [{"name": "f", "input_schema": {}}, {"type": "web_search_20250305", "name": "w"}]
    assert fields["k"] == 3
    assert lost == ("temperature",)


def test_structured_output_that_a_server_lacks_is_refused() -> None:
    """Passed through, it would be ignored in silence."""
    with pytest.raises(BadRequest) as caught:
        forwarded(
            Quirks(drops=frozenset({"output_config.format"})),
            output_config={"format": {"type": "json_schema", "schema": {}}},
        )
    assert caught.value.param == "output_config.format"


def test_the_same_request_twice_is_the_same() -> None:
    """An attempt leaves the envelope as it was for the next one."""
    found = envelope(reasoning_effort="high", temperature=1)
    before = dict(found.fields)
    quirks = style("anthropic_budget", drops=frozenset({"temperature"}))
    first = ANTHROPIC_MESSAGES.forward(found, "a", quirks)
    assert ANTHROPIC_MESSAGES.forward(replace(found, model="x"), "a", quirks).body == first.body
    assert found.fields == before


@pytest.mark.parametrize(
    ("most", "budget", "is_stream", "limit"),
    [
        (128_000, None, True, 128_000),
        (128_000, None, False, 21_333),
        (8_192, None, False, 8_192),
        (64_000, 30_000, False, 46_384),
        (64_000, 60_000, False, 64_000),
        (64_000, 30_000, True, 64_000),
        (None, None, True, 4_096),
        (None, 30_000, False, 46_384),
    ],
)
def test_without_a_limit_the_models_own_holds(
    most: int | None, budget: int | None, is_stream: bool, limit: int
) -> None:
    """As far as a whole answer is done within ten minutes; a fixed number only where the catalogue knows none."""
    quirks = Quirks(thinking_style="anthropic_budget", max_output=most)
    policy = ReasoningPolicy(budget_tokens=budget)
    asked = Request("m", (Message("user", (Text("q"),)),), is_stream=is_stream, reasoning=policy, dialect="openai_chat")
    assert json.loads(ANTHROPIC_MESSAGES.encode_request(asked, quirks).body)["max_tokens"] == limit
    own = replace(asked, max_output_tokens=7, reasoning=ReasoningPolicy())
    assert json.loads(ANTHROPIC_MESSAGES.encode_request(own, quirks).body)["max_tokens"] == 7
