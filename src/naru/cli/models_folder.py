"""naru models show FOLDER: what a model's own files say of it, of how it is spoken to and how it answers."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from naru.engine.check import check_architecture, inequality, need
from naru.engine.files import ModelFiles, inspect, resolve
from naru.engine.history import prepare
from naru.engine.parse.formats import beginning, detect
from naru.engine.supported import load_engines
from naru.engine.template import ChatTemplate, Turn, load
from naru.errors import ConfigError, NaruError, NotFound

#: Tokens for which the fit is computed, where the model has so many.
USUAL_CONTEXT = 32768
#: A question as every chat template takes it, so that a person sees the prompt that it makes.
SAMPLE = ({"role": "user", "content": "안녕하세요!"},)


def is_path(model: str) -> bool:
    """A folder is said as a path, so that one that is called like a model does not hide it."""
    return model.startswith((".", "/", "~"))


def describe(model: str, home: Path, now: datetime, free: int) -> dict[str, Any]:
    """The files, whether they fit into `free` bytes, and each chat template with the formats it makes the model write.
    Raises NotFound and ConfigError."""
    path = _path(model, home)
    try:
        files, problem = inspect(path, name="" if is_path(model) else model, home=home), ""
    except ConfigError as error:  # what is wrong is shown; the templates may be whole
        files, problem = None, error.message
    templates = load(path if path.is_dir() else path.parent)
    if not templates.names and files is None:
        raise NotFound(
            f"{path} has no chat template: neither chat_template.jinja nor one in tokenizer_config.json; nor is it a model: "
            f"{problem}"
        )
    shown = [{"name": name, **_template(templates.choose(name), now)} for name in templates.names]
    about = {"problem": problem} if files is None else _files(files, free)
    return {"id": path.name if is_path(model) else model, "source": str(path), **about, "chat_templates": shown}


def _path(model: str, home: Path) -> Path:
    """A folder or a .gguf file, by its path or as a model that is here."""
    if not is_path(model):
        return resolve(model, home).path
    path = Path(model).expanduser().resolve()
    if not path.is_dir() and path.suffix != ".gguf":
        raise NotFound(f"{model} is no folder of model files.")
    return path


def _files(files: ModelFiles, free: int) -> dict[str, Any]:
    """Bytes and tokens; the inequality for one stream of the usual context."""
    context = min(files.context or USUAL_CONTEXT, USUAL_CONTEXT)
    found = need(files, free, context, 1)
    return {
        "task": files.task,
        "kind": files.kind,
        "architectures": list(files.architectures),
        "context": files.context or None,
        "weight_bytes": files.weight_bytes,
        "engines": [name for name in load_engines() if _is_taken(files, name)],
        "fits": found.fits,
        "inequality": inequality(found),
        "adapters": [
            {"name": each.name, "base": each.base, "rank": each.rank, "path": str(each.path)} for each in files.adapters
        ],
    }


def _is_taken(files: ModelFiles, engine: str) -> bool:
    try:
        check_architecture(files, engine)
    except ConfigError:
        return False
    return True


def _template(template: ChatTemplate, now: datetime) -> dict[str, Any]:
    formats = detect(template.source)
    about = {"file": template.file, "writes": sorted(format.value for format in formats)}
    try:
        prompt = template.render(Turn(prepare(SAMPLE), now))
    except NaruError as error:
        return {**about, "prompt": None, "error": error.message}
    return {**about, "starts_in_thought": beginning(prompt, formats).is_reasoning, "prompt": prompt}
