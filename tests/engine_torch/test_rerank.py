"""Scores of Transformers and of OpenVINO, against the computation of Qwen3-Reranker's README."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from naru.engine.hf.options import Options
from naru.engine.hf.rerank import TransformersReranker
from naru.errors import BadRequest, ConfigError
from tests.engine_torch import tiny

pytestmark = pytest.mark.torch

QUERY = "where is the landing?"
DOCUMENTS = ["나루는 배가 닿는 곳입니다.", "", "The ferry crosses the river at noon. " * 9, "seats: 12"]
TASK = "Given a question, find the paragraph that answers it"


def by_hand(folder: Path, instruction: str) -> list[float]:
    """One prompt at a time, as the README writes it, and a softmax over the two tokens."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), Qwen3ForCausalLM.from_pretrained(folder).eval()
    scores = []
    for document in DOCUMENTS:
        ids = tokenizer(prompt(instruction, document), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -1]
        pair = torch.stack([logits[tokenizer.convert_tokens_to_ids(word)] for word in ("no", "yes")])
        scores.append(float(torch.softmax(pair, 0)[1]))
    return scores


def prompt(instruction: str, document: str) -> str:
    return (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided."
        ' Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        f"<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {document}"
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def assert_close(found: Sequence[float], wanted: Sequence[float], tolerance: float) -> None:
    assert found == pytest.approx(wanted, abs=tolerance)
    assert max(wanted) - min(wanted) > 0.1, "the model must tell the documents apart"


def test_transformers_scores(reranker: Path) -> None:
    judge = TransformersReranker(reranker)
    scores, tokens = judge.scores(QUERY, DOCUMENTS, TASK)
    assert_close(scores, by_hand(reranker, TASK), 1e-5)
    tokenizer = AutoTokenizer.from_pretrained(reranker)
    assert tokens == sum(len(tokenizer(prompt(TASK, document))["input_ids"]) for document in DOCUMENTS)
    usual = "Given a web search query, retrieve relevant passages that answer the query"
    assert_close(judge.scores(QUERY, DOCUMENTS)[0], by_hand(reranker, usual), 1e-5)


def test_openvino_scores(reranker: Path, reranker_ir: Path) -> None:
    pytest.importorskip("openvino_genai", reason="OpenVINO's reranker needs openvino_genai")
    from naru.engine.openvino_vectors import OpenVinoReranker

    judge = OpenVinoReranker(reranker_ir)
    scores, tokens = judge.scores(QUERY, DOCUMENTS, TASK)
    assert_close(scores, by_hand(reranker, TASK), 1e-4)
    assert tokens == TransformersReranker(reranker).scores(QUERY, DOCUMENTS, TASK)[1]
    assert judge.scores(QUERY, DOCUMENTS, TASK) == (scores, tokens), "nothing is left of the call before"


def test_openvino_refuses_what_writes_no_text(embedding_ir: Path) -> None:
    pytest.importorskip("openvino_genai", reason="OpenVINO's reranker needs openvino_genai")
    from naru.engine.openvino_vectors import OpenVinoReranker

    with pytest.raises(ConfigError):
        OpenVinoReranker(embedding_ir)


def test_a_long_document_loses_its_end_and_not_the_question(reranker: Path) -> None:
    judge = TransformersReranker(reranker, Options(context=220))
    long = "river " * 500
    scores, tokens = judge.scores(QUERY, [long, long + "ferry"])
    assert tokens == 440
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    with pytest.raises(BadRequest, match="Query and instruction have"):
        judge.scores("river " * 500, ["short"])


def test_a_model_without_the_two_words_is_no_reranker(dense: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense, tmp_path / "model"))
    tiny.tokenizer(folder, texts=["river", "boat"])
    with pytest.raises(ConfigError, match="no reranker"):
        TransformersReranker(folder)
