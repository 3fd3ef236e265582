"""The format from the template, the beginning from the prompt's tail (local_serving.md 1.2)."""

from __future__ import annotations

import pytest

from naru.engine.parse.formats import Beginning, Format, beginning, detect
from tests.engine.cases import DS, FORMATS, HCX14, OPEN, PLAIN, QWEN3, SHUT, XML


@pytest.mark.parametrize(
    ("template", "tokens", "formats"),
    [
        ('<tool_call>\\n{"name": … </think>', (), QWEN3),
        ("<tool_call>\n<function=x>\n<parameter=y> </think>", (), XML),
        ("<tool_call>{name}", (), {Format.HERMES}),
        ("<tool_call>NAME\n<arg_key> <think>", (), FORMATS["hcx32"]),
        ("<|im_start|>assistant -> tool/function_call\n", (), HCX14),
        ("<｜tool▁calls▁begin｜> </think>", (), DS),
        ("", ("<｜DSML｜", "<think>"), FORMATS["dsml"]),
        ("plain", ("<think>", "<tool_call>"), set()),
    ],
)
def test_the_format_is_read_off_the_template(
    template: str, tokens: tuple[str, ...], formats: frozenset[Format]
) -> None:
    assert detect(template, tokens) == formats


QUOTED = "<|im_start|>user\nwhat is <think> and <tool_call>?<|im_end|>\n"


@pytest.mark.parametrize(
    ("tail", "formats", "expected"),
    [
        ("", QWEN3, Beginning()),
        (QUOTED + PLAIN, QWEN3, Beginning()),
        (QUOTED + OPEN, QWEN3, Beginning(is_reasoning=True)),
        (QUOTED + SHUT, QWEN3, Beginning(is_after_tag=True)),
        (OPEN + "so far I", QWEN3, Beginning(is_reasoning=True)),
        (SHUT + "The answer is", QWEN3, Beginning(is_after_tag=True, has_text=True)),
        (SHUT + "<tool_call>\n{", QWEN3, Beginning(prefill="<tool_call>\n{")),
        (SHUT + "<tool_call>x</tool_call>", QWEN3, Beginning(is_after_tag=True, has_text=True)),
        ("hi<｜Assistant｜><think>\n", DS, Beginning(is_reasoning=True)),
        ("hi<｜Assistant｜></think>", DS, Beginning(is_after_tag=True)),
        ("no turn known <think>\n", QWEN3, Beginning(is_reasoning=True)),
        ("no turn known </think>\n\n", QWEN3, Beginning(is_after_tag=True)),
        ("<|im_start|>assistant/think\n", HCX14, Beginning(is_reasoning=True)),
        ("<|im_start|>assistant", HCX14, Beginning()),
    ],
)
def test_where_an_answer_begins(tail: str, formats: frozenset[Format], expected: Beginning) -> None:
    assert beginning(tail, formats) == expected
