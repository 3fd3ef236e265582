"""naru models show FOLDER: what a model's own files say of how it is spoken to and how it answers."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from naru.engine.history import prepare
from naru.engine.parse.formats import beginning, detect
from naru.engine.template import ChatTemplate, Turn, load
from naru.errors import NaruError, NotFound

#: A question as every chat template takes it, so that a person sees the prompt that it makes.
SAMPLE = ({"role": "user", "content": "안녕하세요!"},)


def is_path(model: str) -> bool:
    """A folder is said as a path, so that one that is called like a model does not hide it."""
    return model.startswith((".", "/", "~"))


def describe(model: str, now: datetime) -> dict[str, Any]:
    """Each chat template of the folder, with the formats it makes the model write. Raises NotFound and ConfigError."""
    folder = Path(model).expanduser().resolve()
    if not folder.is_dir():
        raise NotFound(f"{model} is no folder of model files.")
    templates = load(folder)
    if not templates.names:
        raise NotFound(
            f"{folder} has no chat template: neither chat_template.jinja nor one in tokenizer_config.json. "
            "Download the whole repository of an instruct model; base models have none."
        )
    shown = [{"name": name, **_template(templates.choose(name), now)} for name in templates.names]
    return {"id": folder.name, "source": str(folder), "chat_templates": shown}


def _template(template: ChatTemplate, now: datetime) -> dict[str, Any]:
    formats = detect(template.source)
    about = {"file": template.file, "writes": sorted(format.value for format in formats)}
    try:
        prompt = template.render(Turn(prepare(SAMPLE), now))
    except NaruError as error:
        return {**about, "prompt": None, "error": error.message}
    return {**about, "starts_in_thought": beginning(prompt, formats).is_reasoning, "prompt": prompt}
