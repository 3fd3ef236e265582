"""Templates render as Hugging Face's do, and cannot do more than that (local_serving.md 1.1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from naru.engine.history import prepare
from naru.engine.parse.formats import beginning, detect
from naru.engine.template import MAX_TEMPLATE_BYTES, ChatTemplate, Turn, load
from naru.errors import BadRequest, ConfigError, TooLarge
from tests.engine.cases import QWEN3

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
QWEN = ChatTemplate((Path(__file__).parent / "qwen_like.jinja").read_text(), "qwen_like.jinja")
USER = {"role": "user", "content": "안녕 <b> & 'you' \"me\""}
TOOL = {
    "type": "function",
    "function": {
        "name": "날씨",
        "description": "A < B & 'C' \"D\"",
        "parameters": {
            "type": "object",
            "properties": {"도시": {"type": "object", "properties": {"a": {"enum": ["<", ">"]}}}},
        },
    },
}


def render(source: str, *messages: dict[str, Any], **more: Any) -> str:
    return ChatTemplate(source, "chat_template.jinja", {"bos_token": "<s>"}).render(
        Turn(messages or [USER], NOW, **more)
    )


def qwen(*messages: dict[str, Any], **more: Any) -> str:
    return QWEN.render(Turn(prepare(messages), NOW, **more))


def test_a_question() -> None:
    head = "<|im_start|>user\n안녕 <b> & 'you' \"me\"<|im_end|>\n<|im_start|>assistant\n"
    assert qwen(USER) == head
    assert qwen(USER, enable_thinking=True) == head
    assert qwen(USER, enable_thinking=False) == head + "<think>\n\n</think>\n\n"
    assert beginning(qwen(USER, enable_thinking=False), QWEN3).is_after_tag
    assert detect(QWEN.source) == QWEN3


def test_tools_are_written_as_json_is() -> None:
    expected = (
        '{"type": "function", "function": {"name": "날씨", "description": "A < B & \'C\' \\"D\\"", "parameters": {"type": "object", '
        '"properties": {"도시": {"type": "object", "properties": {"a": {"enum": ["<", ">"]}}}}}}}'
    )
    text = qwen({"role": "system", "content": "짧게"}, USER, tools=[TOOL], add_generation_prompt=False)
    assert text == (
        f"<|im_start|>system\n짧게\n\n# Tools\n<tools>\n{expected}\n</tools><|im_end|>\n"
        "<|im_start|>user\n안녕 <b> & 'you' \"me\"<|im_end|>\n"
    )


def test_a_conversation_with_calls() -> None:
    calls = [
        {"id": "1", "function": {"name": "f", "arguments": '{"도시": "서울 <b>"}'}},
        {"id": "2", "function": {"name": "g", "arguments": {}}},
    ]
    text = qwen(
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "<think>\nforgotten\n</think>\n\nyes"},
        USER,
        {"role": "assistant", "reasoning": "hm\n", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "2", "content": "two"},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
    )
    assert text == (
        "<|im_start|>user\nold<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
        "<|im_start|>user\n안녕 <b> & 'you' \"me\"<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nhm\n</think>\n\nI look.\n"
        '<tool_call>\n{"name": "f", "arguments": {"도시": "서울 <b>"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_last_message_is_continued() -> None:
    last = {"role": "assistant", "content": "The answer is "}
    text = qwen(USER, last, add_generation_prompt=False, continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\nThe answer is ")
    assert beginning(text, QWEN3).has_text
    with pytest.raises(BadRequest):
        qwen(USER, last, continue_final_message=True)
    with pytest.raises(BadRequest):
        qwen(USER, {"role": "assistant", "content": ""}, add_generation_prompt=False, continue_final_message=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ documents is none }}{{ tools is none }}", "<s>TrueTrue"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-03-01"),
        ("{{ {'b': '한<', 'a': [1, 2]} | tojson }}", '{"b": "한<", "a": [1, 2]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ {'a': '한'} | tojson(ensure_ascii=true, indent=1) }}", '{\n "a": "\\ud55c"\n}'),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{% for i in [1, 2] %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}", "1/2False 2/2True "),
        ("{% for i in missing %}{% else %}none{% endfor %}{{ missing }}{{ tools is defined }}", "noneTrue"),
        ("{% macro m(x) %}{% for i in x %}{{ i }}{% endfor %}{% endmacro %}{{ m('ab') }}", "ab"),
        ("{% generation %}a{{ 1 }}{% endgeneration %}", "a1"),
        ("{{ 'a' * 3 ~ 'b' + 'c' }}{{ ' x '.strip().replace('x', 'y') }}{{ '%s-%03d' % ('a', 7) }}", "aaabcya-007"),
    ],
)  # fmt: skip
def test_what_templates_use(source: str, expected: str) -> None:
    assert render(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__class__.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ ''['__class__']['__base__'] }}",
        "{{ ''|attr('__class__')|attr('__mro__') }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
        "{{ 'x'.format_map({'x': raise_exception}).__class__.mro() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self.__init__.__globals__ }}{{ self._TemplateReference__context }}",
        "{{ messages.append(1) }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ lipsum() }}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(1000000) %}{% endfor %}",
        "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
        "{% set x = range(90000) %}{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 1000000000 * ['x'] }}",
        "{{ 10 ** 1000000 }}",
        "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='x') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ 'x'.center(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% set x = 'x' * 90000 %}{{ x.replace('x', x) }}",
    ],
)
def test_what_templates_may_not(source: str) -> None:
    """Refused, or empty: never Python's insides, never for ever."""
    try:
        text = render(source)
    except (ConfigError, BadRequest):
        return
    assert "<class" not in text
    assert "builtins" not in text
    assert len(text) < 100


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a\nb'|indent(1000000000) }}",
        "{{ ('x' * 10000)|replace('x', 'y' * 10000) }}",
        "{{ ['x' * 10000000, 'x' * 10000000]|join }}",
        "{{ range(9999)|map('string')|join('y' * 9999) }}",
        "{{ range(9999)|map('indent', 99999, true)|join }}",
        "{{ '%(x)1000000000d'|format(x=1) }}",
        "{{ '%(x)1000000000d' % {'x': 1} }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:>{w}}'.format('x', w=1000000000) }}",
        "{{ '{:>99999}'.format('x') * 1000 }}",
        "{{ ('{0}' * 1000).format('x' * 100000) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ messages|tojson(indent=1000000) }}",
        "{{ [[1] * 9, [1] * 9]|sum(start=[]) }}",
        "{% set x %}{% for i in range(9999) %}{{ 'y' * 9999 }}{% endfor %}{% endset %}",
        "{% macro f(n) %}{% for i in range(9999) %}{{ n }}{% endfor %}{% endmacro %}{{ f('y' * 9999) }}",
    ],
)
def test_nothing_grows_beyond_a_prompt(source: str) -> None:
    with pytest.raises(ConfigError, match="was stopped"):
        render(source)


def test_filters_still_do_what_jinja_does() -> None:
    assert render("{{ 'Today is 20261126: %s' % 'x' }}") == "Today is 20261126: x"
    assert render("{{ 'a,b'|replace(',', '-')|replace('b', 'c', 1) }}") == "a-c"
    assert (
        render("{{ [{'n': 1}, {'n': 2}]|join(', ', attribute='n') }} {{ [{'n': 1}, {'n': 2}]|sum('n') }}") == "1, 2 3"
    )
    assert render("{{ 'a\nb'|indent(2) }}|{{ 'a\nb'|indent('> ', true) }}") == "a\n  b|> a\n> b"
    assert (
        render("{{ '%s is %05.1f'|format('x', 2) }} {{ '%d%%' % 5 }} {{ '{:>4}'.format('x') }}") == "x is 002.0 5%    x"
    )


def test_who_is_at_fault() -> None:
    with pytest.raises(BadRequest, match="refuses the messages: Unexpected role: critic"):
        qwen({"role": "critic", "content": "x"})
    with pytest.raises(ConfigError, match=r"chat_template\.jinja is broken"):
        render("{% if %}")
    with pytest.raises(ConfigError, match=r"chat_template\.jinja was stopped"):
        render("{{ ''.__class__.__mro__ }}")
    with pytest.raises(BadRequest, match="cannot render"):
        render("{{ messages[0].content.nothing() }}")
    with pytest.raises(ConfigError, match="larger"):
        render(" " * (MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(TooLarge):
        render("{% set x = 'x' * 1000000 %}{% for i in range(20) %}{{ x }}{% endfor %}")


def test_only_known_arguments_pass() -> None:
    assert render("{{ thinking }}", kwargs={"thinking": True}) == "True"
    for name in ("messages", "naru_steps", "raise_exception", "whatever"):
        with pytest.raises(BadRequest, match=name):
            render("x", kwargs={name: 1})


def write(folder: Path, name: str, value: object) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def test_where_templates_stand(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": "{{ bos_token }}old", "bos_token": {"content": "<s>"}})
    turn = Turn([USER], NOW)
    assert load(tmp_path).choose().render(turn) == "<s>old"
    write(tmp_path, "chat_template.jinja", "{{ bos_token }}new")
    write(tmp_path, "additional_chat_templates/tool_use.jinja", "tools")
    write(tmp_path, "chat_templates/rag.jinja", "rag")
    found = load(tmp_path)
    assert found.names == ("default", "rag", "tool_use")
    assert found.choose().render(turn) == "<s>new"
    assert found.choose(has_tools=True).render(turn) == "tools"
    assert found.choose("rag").render(turn) == "rag"
    with pytest.raises(ConfigError, match="it has: default, rag, tool_use"):
        found.choose("nothing")


def test_named_templates_in_the_config(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    assert [load(tmp_path).choose(has_tools=has).render(Turn([USER], NOW)) for has in (False, True)] == ["a", "b"]


@pytest.mark.parametrize(
    "config", ["{", "[]", {"chat_template": 1}, {"chat_template": [{"name": "x"}]}, {"chat_template": "{% if %}"}]
)
def test_a_broken_folder_is_named(tmp_path: Path, config: object) -> None:
    write(tmp_path, "tokenizer_config.json", config)
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        load(tmp_path)


def test_a_folder_without_a_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none"):
        load(tmp_path).choose()
