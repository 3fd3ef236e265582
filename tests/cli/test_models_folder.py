"""`naru models show FOLDER`, as a person looks at a download before it is served."""

from __future__ import annotations

import json
from pathlib import Path

from tests.process import command

TEMPLATE = (Path(__file__).parents[1] / "engine" / "qwen_like.jinja").read_text()


async def test_a_folder_says_how_its_model_writes(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (folder / "chat_templates").mkdir()
    (folder / "chat_templates" / "thinker.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}<|im_start|>assistant\n<think>\n{# <function= #}"
    )
    (folder / "chat_templates" / "picky.jinja").write_text("{{ raise_exception('only pictures') }}")
    code, out, err = await command(tmp_path / "home", "models", "show", str(folder))
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert shown["id"] == "tiny"
    default, picky, thinker = shown["chat_templates"]
    assert default["writes"] == ["hermes", "think"]
    assert default["prompt"] == "<|im_start|>user\n안녕하세요!<|im_end|>\n<|im_start|>assistant\n"
    assert not default["starts_in_thought"]
    assert (picky["prompt"], picky["error"]) == (None, "The model's chat template refuses the messages: only pictures")
    assert thinker["writes"] == ["qwen_xml", "think"]
    assert thinker["starts_in_thought"]


async def test_a_folder_without_a_template_says_what_is_missing(tmp_path: Path) -> None:
    code, out, err = await command(tmp_path / "home", "models", "show", str(tmp_path))
    assert (code, out) == (5, "")
    assert "neither chat_template.jinja nor one in tokenizer_config.json" in err
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    code, out, err = await command(tmp_path / "home", "models", "show", str(tmp_path))
    assert (code, out) == (78, "")
    assert "is broken" in err
    code, out, err = await command(tmp_path / "home", "models", "show", "./nowhere")
    assert (code, out, err) == (5, "", "naru: ./nowhere is no folder of model files.\n")


async def test_a_name_is_the_catalogues(tmp_path: Path) -> None:
    code, out, _ = await command(tmp_path / "home", "models", "show", "gpt-4o-mini")
    assert (code, json.loads(out)["id"]) == (0, "gpt-4o-mini")
