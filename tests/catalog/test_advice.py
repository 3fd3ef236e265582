"""Which model for a task: the words, the rules, and that the same question has the same answer."""

from __future__ import annotations

from decimal import Decimal

import pytest

from naru.catalog import load_catalog
from naru.catalog.advice import NEEDS, STRENGTHS, hosted, read_task, strengths_of
from naru.catalog.hardware import GB, Hardware, gpu_named, machine
from naru.catalog.local_advice import local
from naru.catalog.shapes import load_shapes

MODELS = load_catalog(Decimal(1390)).models()
TABLE = load_shapes()


@pytest.mark.parametrize(
    ("text", "needs", "endpoint"),
    [
        ("refactor a Python code base", ["coding"], "chat"),
        ("파이썬 코드를 리팩터링", ["coding", "korean"], "chat"),
        ("prove a theorem in algebra", ["maths"], "chat"),
        ("수학 문제 증명", ["maths", "korean"], "chat"),
        ("read receipts from photos", ["vision"], "chat"),
        ("영수증 사진 읽기", ["vision", "korean"], "chat"),
        ("transcribe meetings", ["transcription"], "transcription"),
        ("회의 녹음 받아쓰기", ["transcription", "korean"], "transcription"),
        ("음성 합성", ["speech", "korean"], "speech"),
        ("generate an image of a ferry", ["images"], "images"),
        ("semantic search over tickets", ["embeddings"], "embeddings"),
        ("RAG용 임베딩", ["embeddings", "korean"], "embeddings"),
        ("rerank search hits", ["rerank"], "rerank"),
        ("검색 결과 재순위", ["rerank", "korean"], "rerank"),
        ("summarise long documents", ["long"], "chat"),
        ("긴 계약서를 번역", ["long", "translation", "korean"], "chat"),
        ("classify thousands of reviews", ["cheap"], "chat"),
        ("수천 건의 리뷰 분류", ["cheap", "korean"], "chat"),
        ("an agent that calls tools", ["agents"], "chat"),
        ("도구를 쓰는 에이전트", ["agents", "korean"], "chat"),
        ("논리적인 추론", ["reasoning", "korean"], "chat"),
        ("say hello", [], "chat"),
        # Words that only begin alike.
        ("storage of planes, booking, drawbacks, codeine", [], "chat"),
        ("정책 문의 응답", ["korean"], "chat"),
    ],
)  # fmt: skip
def test_words_become_needs(text: str, needs: list[str], endpoint: str) -> None:
    task = read_task(text)
    assert list(task.needs) == needs
    assert task.endpoint == endpoint


def test_languages_count() -> None:
    assert list(read_task("chat with customers", ["ko", "en"]).needs) == ["korean"]
    assert read_task("chat with customers", ["en", ""]).needs == {}


def test_every_strength_is_a_need() -> None:
    """A misspelt one would never count."""
    claimed = {item for strengths in STRENGTHS.values() for item in strengths} | {
        s for shape in TABLE.shapes for s in shape.strengths
    }
    assert claimed <= set(NEEDS)
    assert strengths_of("gpt-5.4") == STRENGTHS["gpt-5"]
    assert strengths_of("orpheus") == ()


@pytest.mark.parametrize(
    "text", ["코드 리뷰", "cheap bulk", "photos", "long documents", "임베딩", "tts", "draw", "hello", "transcribe"]
)
def test_hosted_advice_can_do_it_and_says_why(text: str) -> None:
    """At most five, each with a price and a reason, able to do what is asked, not about to retire, not the sandbox."""
    task = read_task(text)
    advice = hosted(task, MODELS)
    assert 1 <= len(advice) <= 5
    by_id = {model.id: model for model in MODELS}
    for item in advice:
        model = by_id[item.model]
        assert item.reasons
        assert "USD" in item.price
        assert model.retires is None
        assert model.family != "sandbox"
        if "vision" in task.needs:
            assert model.capabilities.image_in
        if "long" in task.needs:
            assert (model.context or 0) >= 200_000
    assert advice == hosted(task, MODELS[::-1])


def test_bulk_goes_by_price() -> None:
    """The five for bulk cost less than the five for hard work."""

    def dearest(text: str) -> float:
        return max(float(item.price.split()[0]) for item in hosted(read_task(text), MODELS))

    assert dearest("cheap bulk") <= 0.2 < dearest("agents that write code")


def test_korean_is_known_for_hyperclova() -> None:
    assert hosted(read_task("한국어 고객 응대"), MODELS)[0].family == "hyperclova"
    assert local(read_task("한국어 고객 응대"), TABLE, gpu_named("h100"))[0].family == "hyperclovax-seed"


def test_local_advice_fits_and_is_for_the_task() -> None:
    coding = local(read_task("refactor code"), TABLE, gpu_named("rtx4090"))
    assert coding[0].family in ("qwen3-coder", "qwen2.5-coder")
    assert all(float(item.place.split(", ")[1].split()[0]) <= 21.6 for item in coding)
    assert {item.family for item in local(read_task("rerank"), TABLE, gpu_named("l4"))} == {"qwen3-reranker"}
    assert {item.family for item in local(read_task("임베딩"), TABLE, gpu_named("l4"))} == {"qwen3-embedding"}
    assert all(
        "vl" in item.model or "32b" in item.model for item in local(read_task("photos"), TABLE, gpu_named("h100"))
    )
    assert local(read_task("transcribe"), TABLE, gpu_named("h100")) == []
    assert local(read_task("hello"), TABLE, Hardware(device=machine(GB // 4, None))) == []


def test_a_specialist_does_not_lead_elsewhere() -> None:
    for text in ("긴 글 번역", "summarise letters"):
        assert "coder" not in local(read_task(text), TABLE, gpu_named("h100"))[0].model
