"""From requests to plans: thinking, budgets, grammars, limits."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.engine.asking import Defaults, Plan, Rules, plan, plan_chat
from naru.engine.parse.formats import Format, detect
from naru.engine.port import Facts
from naru.engine.template import ChatTemplate, Templates
from naru.errors import BadRequest
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.engine.letters import END, decode, encode

#: Qwen3's switch, in words of our own.
HYBRID = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}# {{ tools | length }} tools <tool_call>{% endif %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
ALWAYS = "{% for m in messages %}{{ m.content }}{% endfor %}<|im_start|>assistant\n<think>\n{# </think> #}"
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def rules(template: str = HYBRID, context: int = 1000, **more: Any) -> Rules:
    facts = Facts("library 1", "CPU", context, frozenset({END}), **more)
    return Rules(Templates({"default": ChatTemplate(template, "t")}, "t"), detect(template), Defaults(), facts)


def asked(rules: Rules, **fields: Any) -> Plan:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    envelope = OPENAI_CHAT.read(json.dumps(body).encode())
    request = OPENAI_CHAT.decode_request(envelope)
    rendered = plan_chat(request, body["messages"], body.get("tools", []), rules, datetime(2026, 1, 1))
    return plan(rendered, encode(rendered.text), request, rules)


def test_the_prompt_is_the_templates_and_the_rest_of_the_context_may_be_written() -> None:
    found = asked(rules())
    assert decode(found.prompt.ids) == found.prompt.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert found.decoding.max_tokens == 1000 - len(found.prompt.ids)
    assert asked(rules(), max_tokens=5).decoding.max_tokens == 5


@pytest.mark.parametrize(
    ("fields", "is_off", "budget"),
    [
        ({}, False, None),
        ({"enable_thinking": False}, True, None),
        ({"enable_thinking": True}, False, None),
        ({"thinking_budget": 64}, False, 64),
        ({"thinking_budget": 0}, True, None),
        ({"reasoning_effort": "none"}, True, None),
        ({"reasoning_effort": "low"}, False, 1024),
        ({"reasoning_effort": "max"}, False, None),
        ({"thinking": {"type": "disabled"}}, True, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 77}}, False, 77),
        ({"chat_template_kwargs": {"enable_thinking": False}}, True, None),
    ],
)
def test_one_policy_on_thinking_in_all_its_spellings(fields: dict[str, Any], is_off: bool, budget: int | None) -> None:
    found = asked(rules(context=100_000), **fields)
    assert found.prompt.text.endswith("</think>\n\n") is is_off
    assert found.budget == budget


def test_a_budget_that_would_eat_the_answer_leaves_a_quarter_of_it() -> None:
    assert asked(rules(), thinking_budget=500, max_tokens=100).budget == 75
    assert asked(rules(), thinking_budget=50, max_tokens=100).budget == 50
    assert asked(rules(), thinking_budget=50, max_tokens=1).budget == 0


def test_a_schema_binds_at_once_where_nothing_is_thought_first() -> None:
    found = asked(rules(), response_format=FORMAT)
    assert found.decoding.grammar is not None
    assert found.decoding.grammar.kind == "json_schema"
    assert json.loads(found.decoding.grammar.text) == SCHEMA
    assert found.later is None
    assert asked(rules(), response_format={"type": "text"}).decoding.grammar is None


def test_a_schema_waits_for_the_end_of_the_thought() -> None:
    for found in (
        asked(rules(ALWAYS), response_format=FORMAT),
        asked(rules(), response_format=FORMAT, enable_thinking=True),
    ):
        assert found.decoding.grammar is None
        assert found.later is not None
        assert found.prompt.text.endswith("<think>\n")


def test_a_required_call_is_written_in_the_models_own_form() -> None:
    found = asked(rules(), tools=[TOOL], tool_choice="required", enable_thinking=False)
    assert found.decoding.grammar is not None
    assert found.decoding.grammar.kind == "structural_tag"
    tag = json.loads(found.decoding.grammar.text)["format"]
    assert tag["tags"][0]["begin"] == '<tool_call>\n{"name": "f", "arguments": '
    assert tag["at_least_one"]
    assert not tag["stop_after_first"]
    one = asked(rules(), tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    assert one.decoding.grammar is not None
    assert json.loads(one.decoding.grammar.text)["format"]["stop_after_first"]


def test_a_model_without_a_form_of_its_own_writes_a_list() -> None:
    plain = "{{ messages[0].content }}{{ tools }}<|im_start|>assistant\n"
    found = asked(rules(plain), tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    assert Format.JSON_LIST in found.formats
    assert found.decoding.grammar is not None
    schema = json.loads(found.decoding.grammar.text)
    assert schema["items"]["anyOf"][0]["properties"]["name"] == {"const": "f"}


def test_a_choice_of_none_hides_the_tools() -> None:
    assert "tools" not in asked(rules(), tools=[TOOL], tool_choice="none").prompt.text
    assert "1 tools" in asked(rules(), tools=[TOOL]).prompt.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "'g'"),
        ({"messages": [{"role": "user", "content": "x" * 1000}]}, "context is 1000"),
        ({"temperature": 11}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
        ({"stop": [str(n) for n in range(17)]}, "stop"),
        ({"chat_template_kwargs": {"now": 1}}, "chat_template_kwargs.now"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
                    }
                ]
            },
            "no pictures",
        ),
    ],
)
def test_what_cannot_be_asked_is_said(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        asked(rules(), **fields)


def test_an_engine_without_grammars_says_so() -> None:
    with pytest.raises(BadRequest, match="grammar"):
        asked(rules(has_grammars=False), response_format=FORMAT)


@pytest.mark.parametrize(
    ("config", "temperature"),
    [({}, 1.0), ({"do_sample": False, "temperature": 0.7}, 0.0), ({"do_sample": True, "temperature": 0.6}, 0.6)],
)
def test_what_a_caller_does_not_say_the_models_file_says(config: dict[str, Any], temperature: float) -> None:
    own = msgspec.structs.replace(rules(), defaults=Defaults.of(config))
    assert asked(own).decoding.temperature == temperature
    assert asked(own, temperature=0.3).decoding.temperature == 0.3


def test_a_models_file_is_data_not_trusted(tmp_path: Path) -> None:
    assert Defaults.of({"temperature": "hot", "top_k": None, "top_p": 0.5}) == Defaults(top_p=0.5)
