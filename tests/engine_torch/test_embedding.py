"""Vectors of Transformers and of OpenVINO, against what a reader of Qwen3-Embedding's README would compute by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch
from transformers import AutoTokenizer, Qwen3Model

from naru.engine.embedding import query_text
from naru.engine.hf.embedding import TransformersEmbedder
from naru.engine.hf.options import Options
from naru.errors import BadRequest, ConfigError
from tests.engine_torch import tiny

pytestmark = pytest.mark.torch

TEXTS = [
    "나루는 배가 닿는 곳입니다.",
    "ferry",
    query_text("where is the landing?"),
    "",
    "The ferry crosses the river at noon. " * 12,
    "x",
]


def by_hand(folder: Path, texts: Sequence[str]) -> list[list[float]]:
    """One text at a time, no padding: the last hidden state of <|endoftext|>, divided by its length."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), Qwen3Model.from_pretrained(folder).eval()
    vectors = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, -1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
        with torch.no_grad():
            last = model(input_ids=ids).last_hidden_state[0, -1]
        vectors.append((last / last.norm()).tolist())
    return vectors


def assert_close(found: list[list[float]], wanted: list[list[float]], tolerance: float) -> None:
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), atol=tolerance, rtol=0)


def test_transformers_vectors(embedding: Path) -> None:
    embedder = TransformersEmbedder(embedding)
    vectors, tokens = embedder.embed(TEXTS)
    assert_close(vectors, by_hand(embedding, TEXTS), 1e-5)
    tokenizer = AutoTokenizer.from_pretrained(embedding)
    assert tokens == sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    assert embedder.dimensions == len(vectors[0]) == 64


def test_openvino_vectors(embedding: Path, embedding_ir: Path) -> None:
    pytest.importorskip("openvino_genai", reason="OpenVINO's embedder needs openvino_genai")
    from naru.engine.openvino_vectors import OpenVinoEmbedder

    embedder = OpenVinoEmbedder(embedding_ir)
    vectors, tokens = embedder.embed(TEXTS)
    assert_close(vectors, by_hand(embedding, TEXTS), 1e-4)
    assert tokens == TransformersEmbedder(embedding).embed(TEXTS)[1]
    assert embedder.dimensions == 64
    with pytest.raises(BadRequest, match=f"takes {tiny.CONTEXT}"):
        embedder.embed(["word " * 3000])
    with pytest.raises(ConfigError, match=r"openvino_model\.xml"):
        OpenVinoEmbedder(embedding)
    with pytest.raises(ConfigError, match="on TPU"):
        OpenVinoEmbedder(embedding_ir, "TPU")


def test_a_text_that_is_too_long_is_refused_or_cut(embedding: Path) -> None:
    """Cut before its end token, which stays."""
    embedder = TransformersEmbedder(embedding, Options(context=20))
    long = "the ferry and the river and the landing and the boat and the water and the noon"
    tokenizer = AutoTokenizer.from_pretrained(embedding)
    ids = tokenizer(long)["input_ids"]
    with pytest.raises(BadRequest, match=rf"Text 1 has {len(ids)} tokens; the model takes 20"):
        embedder.embed(["short", long])
    vectors, tokens = embedder.embed([long], truncate=True)
    assert tokens == 20
    with torch.no_grad():
        cut = torch.tensor([ids[:19] + ids[-1:]])
        last = Qwen3Model.from_pretrained(embedding).eval()(input_ids=cut).last_hidden_state[0, -1]
    assert_close(vectors, [(last / last.norm()).tolist()], 1e-5)


@pytest.mark.parametrize(("key", "pooling"), [("pooling_mode_mean_tokens", "mean"), ("pooling_mode_cls_token", "cls")])
def test_other_families_say_what_their_vector_is(embedding: Path, tmp_path: Path, key: str, pooling: str) -> None:
    folder = Path(shutil.copytree(embedding, tmp_path / "model"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({key: True}))
    texts = ["the ferry", "나루 나루 나루 나루"]
    vectors, _ = TransformersEmbedder(folder).embed(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), Qwen3Model.from_pretrained(folder).eval()
    for text, vector in zip(texts, vectors, strict=True):
        with torch.no_grad():
            hidden = model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state[0]
        wanted = hidden.mean(0) if pooling == "mean" else hidden[0]
        assert_close([vector], [(wanted / wanted.norm()).tolist()], 1e-5)
