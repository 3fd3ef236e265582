"""LocalModel on the shipped model: the same answers alone, together, again, and in a stream."""

from __future__ import annotations

import pytest

from naru.errors import BadRequest, ConfigError, NaruError
from naru.local import GenerationConfig, LocalAnswer, LocalModel, Monitor, Performance
from naru.protocol.messages import Finish, ReasoningDelta, TextDelta, UsageReport
from tests.demo.asks import COMPARE, WEATHER

ASKED = [
    f"{city}의 날씨와 {other}의 날씨를 비교해줘"
    for city, other in (("서울", "부산"), ("파리", "런던"), ("대구", "도쿄"))
]


def answer(model: LocalModel, text: str) -> LocalAnswer:
    return model.chat(text, tools=[WEATHER], temperature=0)


def told(found: LocalAnswer | NaruError) -> list[str]:
    assert isinstance(found, LocalAnswer)
    return [found.text, *(call.arguments for call in found.tool_calls)]


def test_batching_and_the_prefix_cache_change_nothing(model: LocalModel) -> None:
    alone = [told(answer(model, text)) for text in ASKED]
    assert [told(each) for each in model.batch(ASKED * 4, tools=[WEATHER], temperature=0)] == alone * 4
    assert [told(answer(model, text)) for text in ASKED] == alone


def test_a_stream_says_what_the_whole_answer_says(model: LocalModel) -> None:
    whole = model.chat("안녕하세요", temperature=0)
    events = list(model.stream("안녕하세요", temperature=0))
    assert "".join(each.text for each in events if isinstance(each, TextDelta)) == whole.text
    assert len([each for each in events if isinstance(each, TextDelta)]) > 3
    assert isinstance(events[-2], Finish)
    assert isinstance(events[-1], UsageReport)
    assert events[-1].usage == whole.usage


def test_errors_stand_in_their_place(model: LocalModel) -> None:
    found = model.batch(["hi", [{"role": "nobody", "content": "x"}], "안녕"])
    assert [type(each) for each in found] == [LocalAnswer, BadRequest, LocalAnswer]


def test_thinking_within_a_budget(model: LocalModel) -> None:
    found = model.chat(COMPARE, tools=[WEATHER], thinking_budget=6, temperature=0)
    assert found.reasoning
    assert 0 < found.usage.reasoning <= 6
    assert [call.name for call in found.tool_calls] == ["get_current_weather"] * 2


def test_who_stops_listening_frees_the_place(model: LocalModel) -> None:
    stream = model.stream(COMPARE, max_tokens=1500, ignore_eos=True)
    next(stream)
    stream.close()
    assert model.chat("hi").text
    assert model._board.open == 0


def test_a_seed_makes_sampling_repeatable_and_without_one_it_varies(model: LocalModel) -> None:
    def sampled(**more: int) -> str:
        return model.chat("hi", temperature=3.0, max_tokens=24, ignore_eos=True, **more).text

    assert sampled(seed=5) == sampled(seed=5)
    assert len({sampled() for _ in range(4)}) > 1


@pytest.mark.parametrize("count", [1, 3])
def test_choices(model: LocalModel, count: int) -> None:
    response = model.chat("안녕하세요", n=count, temperature=0).response
    assert [choice.index for choice in response.choices] == list(range(count))
    assert len({str(choice.parts) for choice in response.choices}) == 1


def test_the_prompt_is_the_models_own_template(model: LocalModel) -> None:
    assert model.format_chat("hi") == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert model.format_chat("hi", enable_thinking=True).endswith("<|im_start|>assistant\n")
    assert model.count_tokens("hi") == model.chat("hi", max_tokens=1).usage.input


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(model: LocalModel) -> None:
    with pytest.raises(BadRequest, match="context is 2048"):
        model.chat("말 " * 3000)


def test_what_the_model_cannot_is_said(model: LocalModel) -> None:
    with pytest.raises(BadRequest, match="does not embed"):
        model.embed("text")
    with pytest.raises(BadRequest, match="does not rerank"):
        model.rerank("q", ["d"])


def test_usual_settings_are_the_models_owner_s(model: LocalModel) -> None:
    config = GenerationConfig(max_tokens=3, enable_thinking=True, extra={"stop": ["x"]})
    assert config.fields() == {"max_tokens": 3, "enable_thinking": True, "stop": ["x"]}


def test_thoughts_are_events_of_their_own(model: LocalModel) -> None:
    kinds = [type(event) for event in model.stream("안녕하세요", enable_thinking=True, temperature=0)]
    assert kinds[0] is ReasoningDelta
    assert TextDelta in kinds


def test_a_monitor_measures_and_advises(model: LocalModel) -> None:
    monitor = Monitor(model, memory_bytes=1 << 40)
    assert monitor.average() is None
    found = monitor.measure("안녕하세요", temperature=0)
    assert found.tokens > 3
    assert 0 < found.ttft_s <= found.seconds
    assert monitor.average() == found
    slow = monitor.judge(Performance(seconds=11, ttft_s=1, tokens=10, tokens_per_second=1, peak_bytes=1 << 40))
    assert slow.status == "degraded"
    assert slow.checks == {"response_time": "slow", "generation_speed": "slow", "memory": "high"}
    assert len(slow.recommendations) == 3
    assert monitor.health("안녕").status in ("healthy", "degraded")


def test_adapters_are_refused_where_they_would_do_nothing() -> None:
    with pytest.raises(ConfigError, match="serves no adapters"):
        LocalModel("naru-demo", adapters={"legal": "/nowhere"})
