"""What a model reference means, and what is said of the files behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from naru.engine.files import inspect, resolve
from naru.engine.store import Pulled, PulledFile, find, parse_reference, pulled_models, save
from naru.errors import BadRequest, ConfigError
from tests.engine_files import models


def pulled(folder: Path, repo: str = "Org/Tiny", commit: str = "c" * 40, at: float = 1.0, file: str = "") -> Pulled:
    return Pulled(
        repo=repo, revision="main", commit=commit, kind="gguf" if file else "safetensors", folder=str(folder),
        files=(PulledFile(file or "model.safetensors", 10, "d" * 64),), license="mit", pulled_at=at, file=file,
    )  # fmt: skip


# --- References


def test_the_shipped_model_has_a_name_of_its_own(tmp_path: Path) -> None:
    demo = models.openvino(tmp_path / "demo")
    files = resolve("naru-demo", tmp_path, demo)
    assert (files.name, files.kind, files.path) == ("naru-demo", "openvino", demo)
    with pytest.raises(ConfigError, match=r"This installation has no naru-demo: .*nowhere is missing or empty"):
        resolve("naru-demo", tmp_path, tmp_path / "nowhere")


def test_folders_and_files_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, from here, and without a dot where nothing else is called so."""
    models.safetensors(tmp_path / "models" / "tiny")
    models.gguf(tmp_path / "tiny.gguf")
    monkeypatch.chdir(tmp_path)
    for reference in (str(tmp_path / "models/tiny"), "./models/tiny", "models/tiny"):
        files = resolve(reference, tmp_path / "home")
        assert (files.name, files.kind) == ("tiny", "safetensors")
    assert resolve("tiny.gguf", tmp_path).kind == "gguf"


def test_a_pulled_model_is_found_by_its_record(tmp_path: Path) -> None:
    """The last one, or that of a revision; a repository hides a folder that is called like it."""
    old, new = models.safetensors(tmp_path / "old"), models.safetensors(tmp_path / "new")
    save(tmp_path, pulled(old, commit="a" * 40, at=1.0))
    save(tmp_path, pulled(new, commit="b" * 40, at=2.0))
    assert resolve("Org/Tiny", tmp_path).path == new
    assert resolve("org/tiny@aaaaaaa", tmp_path).path == old
    assert resolve("Org/Tiny@main", tmp_path).name == "Org/Tiny"
    assert [record.commit[0] for record in pulled_models(tmp_path)] == ["b", "a"]


def test_one_gguf_of_a_repository_is_named_behind_a_colon(tmp_path: Path) -> None:
    for at, name in ((1.0, "a-q4.gguf"), (2.0, "b-q8.gguf")):
        models.gguf(tmp_path / "snapshot" / name)
        save(tmp_path, pulled(tmp_path / "snapshot", "Org/Tiny-GGUF", at=at, file=name))
    assert resolve("Org/Tiny-GGUF:a-q4.gguf", tmp_path).path.name == "a-q4.gguf"
    assert resolve("Org/Tiny-GGUF", tmp_path).name == "Org/Tiny-GGUF:b-q8.gguf"
    assert find(tmp_path, parse_reference("Org/Tiny-GGUF:c.gguf")) is None


@pytest.mark.parametrize("reference", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B@v1", "Qwen/Q-GGUF:q-Q4_K_M.gguf"])
def test_what_was_not_pulled_says_how_to(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(reference, tmp_path)
    assert error.value.message == f"{reference} is not on this machine. Run: naru models pull {reference}"


def test_a_cache_that_was_emptied_says_so(tmp_path: Path) -> None:
    save(tmp_path, pulled(tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"The files of Org/Tiny are gone from .*Run: naru models pull Org/Tiny"):
        resolve("Org/Tiny", tmp_path)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    save(tmp_path, pulled(tmp_path)).write_text("{")
    with pytest.raises(ConfigError, match=r"c\.json is damaged .*Delete it and pull the model again"):
        pulled_models(tmp_path)


@pytest.mark.parametrize(
    "text", ["qwen3", "a/b/c", "a/../b", "Org/", "Org/x:y.bin", "Org/a--b", "http://x/y", "Org/..", ""]
)
def test_other_texts_are_no_reference(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadRequest, match="is no model of the Hub: write ORG/NAME"):
        parse_reference(text)
    with pytest.raises(ConfigError):
        resolve(text or "''", tmp_path)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot be written.*Point NARU_HOME at a folder you may write"):
        save(tmp_path, pulled(tmp_path))


# --- Wrong folders


def test_a_wrong_folder_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no folder of model files: it has no config\.json, but nothing at all"):
        inspect(tmp_path)
    for name in "gfedcba":
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=r"it has no config\.json, but a, b, c, d, e and 2 more"):
        inspect(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere does not exist"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"is no model: a folder or a \.gguf file is expected"):
        inspect(tmp_path / "a")


def test_a_folder_without_weights_says_why(tmp_path: Path) -> None:
    models.folder(tmp_path, **{"pytorch_model.bin": "pickle"})
    with pytest.raises(
        ConfigError, match=r"has no weights: neither .*can run programs when they are opened and are not read"
    ):
        inspect(tmp_path)
    models.gguf(tmp_path / "a.gguf")
    with pytest.raises(ConfigError, match=r"has \.gguf files; name the one that is meant, such as .*a\.gguf"):
        inspect(tmp_path)


# --- What is said


def test_a_folder_of_safetensors(tmp_path: Path) -> None:
    files = inspect(models.safetensors(tmp_path / "tiny"))
    assert (files.kind, files.architectures, files.task, files.context) == (
        "safetensors",
        ("Qwen3ForCausalLM",),
        "chat",
        40960,
    )
    assert files.weight_bytes == models.TENSOR_BYTES
    assert files.shape is not None
    assert (files.shape.layers, files.shape.kv_heads) == (36, 8)


def test_a_gguf_file_has_the_same_shape(tmp_path: Path) -> None:
    """Its metadata and the config.json of the same model count alike."""
    files = inspect(models.gguf(tmp_path / "tiny-Q8_0.gguf"))
    assert (files.kind, files.architectures, files.task, files.context) == ("gguf", ("qwen3",), "chat", 40960)
    config = inspect(models.safetensors(tmp_path / "tiny", {**models.QWEN3, "vocab_size": 2})).shape
    assert files.shape is not None
    assert config is not None
    same = ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "ffn", "qk_norm")
    assert [getattr(files.shape, name) for name in same] == [getattr(config, name) for name in same]


def test_layers_that_nobody_counts_have_no_shape(tmp_path: Path) -> None:
    assert inspect(models.gguf(tmp_path / "a.gguf", {"general.architecture": "mamba"})).shape is None
    assert (
        inspect(
            models.safetensors(tmp_path / "b", {"model_type": "mamba", "architectures": ["MambaForCausalLM"]})
        ).shape
        is None
    )


BERT = {"model_type": "bert", "max_position_embeddings": 512}
TASKS: list[tuple[str, dict[str, Any], str]] = [
    ("Qwen3-0.6B", models.QWEN3, "chat"),
    ("Qwen3-Embedding-0.6B", models.QWEN3, "embedding"),
    ("Qwen3-Reranker-0.6B", models.QWEN3, "rerank"),
    ("bge-small", {**BERT, "architectures": ["BertModel"]}, "embedding"),
    ("bge-judge", {**BERT, "architectures": ["BertForSequenceClassification"]}, "rerank"),
    ("mpnet", {**BERT, "architectures": ["MPNetForMaskedLM"]}, "embedding"),
    ("gpt2", {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 1024}, "chat"),
    (
        "vl",
        {"model_type": "qwen2_5_vl", "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {}},
        "vision",
    ),
    ("asr", {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, "speech"),
]


@pytest.mark.parametrize(("name", "config", "task"), TASKS)
def test_the_task_is_seen(tmp_path: Path, name: str, config: dict[str, Any], task: str) -> None:
    assert inspect(models.safetensors(tmp_path / name, config)).task == task


def test_files_say_the_task_too(tmp_path: Path) -> None:
    """Sentence-transformers' modules; openvino.genai's parts; GGUF's pooling."""
    plain = models.safetensors(tmp_path / "x")
    (plain / "modules.json").write_text("[]")
    assert inspect(plain).task == "embedding"
    assert inspect(models.openvino(tmp_path / "v", name="openvino_language_model")).task == "vision"
    assert inspect(models.openvino(tmp_path / "s", name="openvino_encoder_model")).task == "speech"
    for pooling, task in ((3, "embedding"), (4, "rerank"), (0, "chat")):
        file = models.gguf(tmp_path / f"{pooling}.gguf", {**models.QWEN3_GGUF, "qwen3.pooling_type": pooling})
        assert inspect(file).task == task
    assert (
        inspect(models.gguf(tmp_path / "n.gguf", {**models.QWEN3_GGUF, "general.name": "Qwen3 Reranker"})).task
        == "rerank"
    )


def test_tokenizers_are_no_weights(tmp_path: Path) -> None:
    models.openvino(tmp_path)
    models.openvino(tmp_path, name="openvino_tokenizer")
    assert inspect(tmp_path).weight_bytes == 640


def test_the_context_of_a_part_counts(tmp_path: Path) -> None:
    config = {"architectures": ["X"], "text_config": {"max_position_embeddings": 77}}
    assert inspect(models.safetensors(tmp_path, config)).context == 77


# --- Adapters


def test_adapters_are_found_by_the_base_that_they_name(tmp_path: Path) -> None:
    """In the model's own folder first, then in NARU_HOME by name or by path; those of other models are not."""
    model, home = models.safetensors(tmp_path / "tiny"), tmp_path / "home"
    models.adapter(model / "adapters" / "own", "whatever")
    models.adapter(home / "adapters" / "named", "tiny", r=4)
    models.adapter(home / "adapters" / "placed", str(model))
    models.adapter(home / "adapters" / "own", "tiny", r=2)
    models.adapter(home / "adapters" / "foreign", "other", r="broken")
    found = resolve(str(model), home).adapters
    assert [(adapter.name, adapter.rank) for adapter in found] == [("named", 4), ("own", 8), ("placed", 8)]
    assert (found[1].alpha, found[1].targets, found[1].weight_bytes) == (16.0, ("q", "v"), 64)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "is an adapter of type 'IA3'; only LORA is served"),
        ({"r": "8"}, "r is '8' and lora_alpha 16; numbers are expected"),
        ({"lora_alpha": None}, "r is 8 and lora_alpha None"),
    ],
)
def test_a_broken_adapter_is_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    model = models.safetensors(tmp_path / "tiny")
    at = models.adapter(model / "adapters" / "bad", "tiny", **changes)
    with pytest.raises(ConfigError) as error:
        inspect(model)
    assert words in error.value.message
    (at / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    (at / "adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"bad has no adapter_model\.safetensors"):
        inspect(model)
