"""A run that was broken off goes on from its file, and does only what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.client.reply import Json, Outcome, Reply
from naru.client.resume import ResumeFile, key_of
from naru.errors import BadRequest, Unauthorized
from naru.protocol.messages import Usage
from naru.testing import FakeClock
from tests.client.servers import Server
from tests.client.test_fanout import Scripted, ask_all, texts

REPLY = Reply(
    text="답", reasoning="hm", message={"role": "assistant", "content": "답"}, usage=Usage(input=3, output=2, cached=1),
    cost_nano=1_234, headers={"x-request-id": "req_1", "date": "today"},
)  # fmt: skip


def test_a_second_run_does_only_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    first = Scripted({"prompt 3": [BadRequest("no")]})
    before, _ = ask_all(first.send, texts(8), resume=file)
    assert file.read_bytes().count(b"\n") == 8
    second = Scripted({})
    after, took_s = ask_all(second.send, texts(8), resume=file)
    assert [text for _, text in second.came] == ["prompt 3"]
    assert [outcome.text for outcome in after] == [f"re: {text}" for text in texts(8)]
    assert [outcome.was_resumed for outcome in after] == [number != 3 for number in range(8)]
    assert [o.cost_nano for o in after if o.was_resumed] == [o.cost_nano for o in before if o.ok]
    assert took_s < 1
    third = Scripted({})
    ask_all(third.send, texts(8), resume=file)
    assert third.came == []


def test_a_changed_prompt_or_place_or_model_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    ask_all(Scripted({}).send, ["a", "b"], resume=file)
    server = Scripted({})
    ask_all(server.send, ["b", "b"], resume=file)
    assert [text for _, text in server.came] == ["b"]
    server = Scripted({})
    ask_all(server.send, ["a", "b"], resume=file, model="another")
    assert len(server.came) == 2


def test_a_run_that_dies_keeps_what_was_answered(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"

    async def send(body: Json) -> Reply:
        if body["messages"][-1]["content"] == "prompt 5":
            raise ZeroDivisionError
        return REPLY

    with pytest.raises(ZeroDivisionError):
        ask_all(send, texts(9), resume=file, concurrency=1)
    server = Scripted({})
    ask_all(server.send, texts(9), resume=file)
    assert [text for _, text in server.came] == texts(9)[5:]


def test_what_was_never_sent_is_not_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    ask_all(Scripted({"prompt 0": [Unauthorized("no")]}).send, texts(5), resume=file, concurrency=1)
    assert file.read_bytes().count(b"\n") == 1


@given(cut=st.integers(0, 400))
def test_a_torn_last_line_is_cut_off_and_asked_again(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.mktemp("torn") / "out.jsonl"
    with ResumeFile(file, FakeClock()) as out:
        for index in range(2):
            out.add(f"key{index}", Outcome(index=index, reply=REPLY, attempts=1))
    whole = file.read_bytes()
    first, kept = whole.index(b"\n") + 1, max(0, len(whole) - cut)
    file.write_bytes(whole[:kept])
    expected = (kept == len(whole)) + (kept >= first)
    with ResumeFile(file, FakeClock()) as out:
        assert len(out.replies) == expected
        out.add("key9", Outcome(index=9, reply=REPLY, attempts=1))
    with ResumeFile(file, FakeClock()) as out:
        assert set(out.replies) == {*[f"key{index}" for index in range(expected)], "key9"}


def test_a_reply_comes_back_as_it_was_but_for_headers_of_no_use(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with ResumeFile(file, FakeClock()) as out:
        out.add("k", Outcome(index=0, reply=REPLY, attempts=2))
    with ResumeFile(file, FakeClock()) as out:
        found = out.replies["k"]
    assert (found.text, found.reasoning, found.message, found.usage, found.cost_nano) == (
        REPLY.text, REPLY.reasoning, REPLY.message, REPLY.usage, REPLY.cost_nano,
    )  # fmt: skip
    assert found.headers == {"x-request-id": "req_1"}


@pytest.mark.parametrize("content", [b"Dear diary,\n", b"Dear diary", b'{"a": 1}\n', b"\xff\xfe\n", b'[{"index":'])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "diary"
    file.write_bytes(content)
    server = Server()
    with pytest.raises(ValueError, match="diary cannot be resumed from: line 1"):
        ask_all(server.send, ["a"], resume=file)
    assert file.read_bytes() == content
    assert server.came_s == []


def test_one_run_at_a_time_writes_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with ResumeFile(file, FakeClock()), pytest.raises(ValueError, match="Another run is writing"):
        ResumeFile(file, FakeClock()).__enter__()
    with ResumeFile(file, FakeClock()):
        """The lock went with the first."""


def test_keys_do_not_depend_on_the_order_of_fields() -> None:
    assert key_of({"a": 1, "b": [{"c": 2, "d": 3}]}, 0) == key_of({"b": [{"d": 3, "c": 2}], "a": 1}, 0)
    assert key_of({"a": 1}, 0) != key_of({"a": 1}, 1)
