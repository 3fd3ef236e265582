"""Refused before loading: an engine that does not take the model, and a model that does not fit."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from naru.catalog.shapes import cache_bytes
from naru.engine.check import check, inequality, need
from naru.engine.files import ModelFiles, inspect
from naru.engine.supported import load_engines
from naru.errors import ConfigError
from tests.engine_files import models

GB = 10**9
WEIGHTS = 15_700_000_000


@pytest.fixture
def qwen(tmp_path: Path) -> ModelFiles:
    """A model of 8 B parameters as far as its files say; the weights are not on the disk."""
    return msgspec.structs.replace(inspect(models.safetensors(tmp_path / "Qwen3-8B")), weight_bytes=WEIGHTS)


def refusal(files: ModelFiles, engine: str, memory: int = 1000 * GB, context: int = 4096, streams: int = 1) -> str:
    with pytest.raises(ConfigError) as error:
        check(files, engine, memory, context, streams)
    return error.value.message


# --- Memory


def test_the_sentence_is_the_inequality(qwen: ModelFiles) -> None:
    said = refusal(qwen, "transformers", 16 * GB, 32768)
    assert said == (
        "Qwen3-8B is too large for this machine: weights 15.7 GB + KV 4.8 GB (32,768 tokens x 1) + buffers 0.4 GB = 20.9 GB > "
        "16.0 GB free. What would fit: int4 weights (11.3 GB in all), or a smaller model (naru models recommend)."
    )


def test_what_fits_is_said_and_true(qwen: ModelFiles) -> None:
    """A shorter context, fewer streams, fewer bits: each passes when it is tried."""
    said = refusal(qwen, "transformers", 20 * GB, 32768)
    assert "a context of 25,600 tokens, or int4 weights (11.3 GB in all)" in said
    check(qwen, "transformers", 20 * GB, 25600, 1)
    assert refusal(qwen, "transformers", 20 * GB, 25600 + 1024)
    said = refusal(qwen, "transformers", 21 * GB, 32768, 4)
    assert "a context of 8,192 tokens, or one stream, or a smaller model" in said
    check(qwen, "transformers", 21 * GB, 8192, 4)
    assert refusal(qwen, "transformers", 21 * GB, 8192 + 1024, 4)
    check(qwen, "transformers", 21 * GB, 32768, 1)
    assert refusal(qwen, "transformers", 2 * GB).endswith(
        "Take a smaller model: `naru models recommend` names some that fit."
    )


def test_the_terms_are_the_catalogues(qwen: ModelFiles) -> None:
    assert qwen.shape is not None
    one = need(qwen, 100 * GB, 32768, 1)
    four = need(qwen, 100 * GB, 32768, 4, "int8")
    assert one.cache == cache_bytes(qwen.shape, 32768, 2)
    assert four.cache == 4 * cache_bytes(qwen.shape, 32768, 1)
    assert one.weights == WEIGHTS
    assert one.needed == one.weights + one.cache + one.buffers
    assert inequality(one).endswith("= 20.9 GB <= 100.0 GB free")


def test_the_edge_is_exact(qwen: ModelFiles) -> None:
    """The sum itself fits, and one byte less does not."""
    needed = need(qwen, 0, 4096, 2).needed
    check(qwen, "transformers", needed, 4096, 2)
    assert "too large" in refusal(qwen, "transformers", needed - 1, 4096, 2)


def test_layers_that_nobody_counts_go_by_their_weights(qwen: ModelFiles) -> None:
    unknown = msgspec.structs.replace(qwen, shape=None)
    assert "weights 15.7 GB + buffers 0.1 GB = 15.8 GB > 15.0 GB free" in refusal(unknown, "transformers", 15 * GB)
    check(unknown, "transformers", 16 * GB, 32768, 1)


def test_adapters_take_memory_too(tmp_path: Path) -> None:
    models.adapter(models.safetensors(tmp_path / "tiny") / "adapters" / "a", "tiny")
    files = inspect(tmp_path / "tiny")
    assert need(files, GB, 100, 1).weights == files.weight_bytes + 64


def test_contexts_that_are_none_are_refused(qwen: ModelFiles) -> None:
    assert (
        refusal(qwen, "transformers", context=50000)
        == "Qwen3-8B has at most 40,960 tokens of context, and 50,000 were asked for."
    )
    assert "both start at 1" in refusal(qwen, "transformers", context=0)
    assert "both start at 1" in refusal(qwen, "transformers", streams=0)
    with pytest.raises(ConfigError, match=r"No cache type 'q3' is known\. Known: bf16"):
        check(qwen, "transformers", GB, 100, 1, "q3")


# --- Engines


def test_an_engine_that_does_not_read_the_format_says_who_does(qwen: ModelFiles, tmp_path: Path) -> None:
    said = refusal(msgspec.structs.replace(qwen, name="Qwen/Qwen3-8B"), "openvino")
    assert said == (
        "Qwen/Qwen3-8B is in the format safetensors, which the OpenVINO engine does not read; the Transformers engine reads it, and "
        "the OpenVINO engine reads a converted one. Look for one that is converted already: naru models pull "
        "OpenVINO/Qwen3-8B-int4-ov (or -int8-ov)."
    )
    said = refusal(inspect(models.openvino(tmp_path / "ir")), "transformers")
    assert (
        said
        == "ir is in the format openvino, which the Transformers engine does not read; the OpenVINO engine reads it."
    )
    assert "There is no engine 'onnx'. Engines: openvino, transformers." in refusal(qwen, "onnx")


def test_an_architecture_is_refused_by_name(tmp_path: Path) -> None:
    """By the engine that would take it where one does, else by other programs."""
    clova = {**models.QWEN3, "architectures": ["HyperCLOVAXForCausalLM"]}
    said = refusal(inspect(models.openvino(tmp_path / "seed", clova)), "openvino")
    assert said == (
        "The OpenVINO engine does not take HyperCLOVAXForCausalLM for chat (seed). The Transformers engine does, in the format safetensors."
    )
    check(inspect(models.safetensors(tmp_path / "clova", clova)), "transformers", 100 * GB, 4096, 1)
    odd = {**models.QWEN3, "architectures": ["OddForCausalLM"]}
    assert refusal(inspect(models.safetensors(tmp_path / "odd", odd)), "transformers").endswith(
        "vLLM or SGLang may: add one as a provider."
    )
    rerank = inspect(
        models.openvino(tmp_path / "rerank-llama", {**models.QWEN3, "architectures": ["LlamaForCausalLM"]})
    )
    assert "does not take LlamaForCausalLM for rerank" in refusal(rerank, "openvino")


def test_gguf_goes_by_its_own_names(tmp_path: Path) -> None:
    check(inspect(models.gguf(tmp_path / "q.gguf")), "openvino", 100 * GB, 4096, 1)
    starcoder = inspect(models.gguf(tmp_path / "s.gguf", {"general.architecture": "starcoder2"}))
    assert refusal(starcoder, "openvino").endswith("(s). The Transformers engine does.")
    rwkv = inspect(models.gguf(tmp_path / "r.gguf", {"general.architecture": "rwkv7"}))
    assert refusal(rwkv, "openvino").endswith("llama.cpp, Ollama or LM Studio may: add one as a provider.")


def test_a_config_without_a_class_is_let_through(tmp_path: Path) -> None:
    config = {name: value for name, value in models.QWEN3.items() if name != "architectures"}
    check(inspect(models.openvino(tmp_path, config)), "openvino", 100 * GB, 4096, 1)


def test_the_table_has_every_task_of_every_engine() -> None:
    for engine in load_engines().values():
        assert set(engine.classes) == {"chat", "vision", "embedding", "rerank", "speech"}
        assert engine.title[0].isupper()
