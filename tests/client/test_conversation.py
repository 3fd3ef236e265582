"""A conversation remembers everything, sends what fits, and can be kept and forked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from naru.client.conversation import SUMMARY_HEAD, AsyncConversation, Conversation
from naru.client.reply import Json, Reply
from naru.client.trim import DoesNotFit
from naru.errors import UpstreamError
from tests.client.servers import reply_to


class Model:
    """Keeps the bodies; answers, or fails where `error` is set."""

    def __init__(self) -> None:
        self.bodies: list[Json] = []
        self.error: Exception | None = None

    def ask(self, body: Json) -> Reply:
        self.bodies.append(body)
        if self.error is not None:
            raise self.error
        return reply_to(body)

    async def send(self, body: Json) -> Reply:
        return self.ask(body)

    async def stream(self, body: Json) -> AsyncIterator[str | Reply]:
        reply = self.ask(body)
        for word in reply.text.split():
            yield word
        yield reply

    def pieces(self, body: Json) -> Iterator[str | Reply]:
        reply = self.ask(body)
        yield reply.text
        yield reply

    @property
    def sent(self) -> list[str]:
        return [message["content"] for message in self.bodies[-1]["messages"]]


async def test_each_question_goes_with_what_was_said() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m", system="be brief", temperature=0)
    assert (await talk.ask("one")).text == "re: one"
    await talk.ask("two")
    assert model.sent == ["be brief", "one", "re: one", "two"]
    assert model.bodies[-1]["model"] == "m"
    assert model.bodies[-1]["temperature"] == 0
    assert [message["role"] for message in talk.messages] == ["system", "user", "assistant", "user", "assistant"]


async def test_a_stream_is_remembered_when_it_has_ended() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m", stream=model.stream)
    *words, reply = [piece async for piece in talk.stream("one")]
    assert words == ["re:", "one"]
    assert isinstance(reply, Reply)
    assert len(talk.messages) == 2
    left = talk.stream("two")
    assert await anext(left) == "re:"
    await left.aclose()  # type: ignore[attr-defined]
    assert len(talk.messages) == 2
    await talk.ask("three")
    assert model.sent == ["one", "re: one", "three"]


async def test_a_failure_leaves_nothing_behind() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m")
    model.error = UpstreamError("down")
    with pytest.raises(UpstreamError):
        await talk.ask("one")
    model.error = None
    await talk.ask("one")
    assert model.sent == ["one"]


async def test_old_turns_are_not_sent_but_remembered() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m", system="s", context_tokens=60, max_tokens=20)
    for number in range(8):
        await talk.ask(f"question {number}")
    assert model.sent[0] == "s"
    assert model.sent[-1] == "question 7"
    assert "question 0" not in model.sent
    assert len(talk.messages) == 17
    assert len(talk.dropped) + len(model.sent) == 16
    with pytest.raises(DoesNotFit, match="max_tokens"):
        await talk.ask("long " * 100)
    assert len(talk.messages) == 17


async def test_what_is_dropped_is_summarised_once_and_sent_in_its_place() -> None:
    model, seen = Model(), []

    async def summarize(so_far: str, news: list[Json]) -> str:
        seen.extend(message["content"] for message in news)
        return f"{len(seen)} before"

    talk = AsyncConversation(model.send, "m", system="s", context_tokens=70, summarize=summarize)
    for number in range(9):
        await talk.ask(f"question {number}")
    assert model.sent[:2] == ["s", SUMMARY_HEAD + f"{len(talk.dropped)} before"]
    assert seen == [message["content"] for message in talk.dropped]
    assert len(talk.dropped) >= 4
    assert len(talk.dropped) + len(model.sent) - 1 == 18


async def test_the_result_of_a_tool_goes_on_without_a_question() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m")
    with pytest.raises(ValueError, match="nothing to answer"):
        await talk.ask()
    call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk.add({"role": "user", "content": "q"}, {"role": "assistant", "content": None, "tool_calls": [call]})
    talk.add({"role": "tool", "tool_call_id": "x", "content": "42"})
    assert (await talk.ask()).text == "re: 42"


async def test_one_question_at_a_time() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def send(body: Json) -> Reply:
        asked.set()
        await go.wait()
        return reply_to(body)

    talk = AsyncConversation(send, "m")
    first = asyncio.create_task(talk.ask("one"))
    await asked.wait()
    with pytest.raises(RuntimeError, match="fork"):
        await talk.ask("two")
    go.set()
    await first
    assert (await talk.ask("two")).text == "re: two"


async def test_a_fork_goes_its_own_way() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m", system="s", stop=["x"])
    await talk.ask("one")
    other = talk.fork()
    await other.ask("two")
    other.fields["stop"].append("y")
    other.messages[0]["content"] = "changed"
    await talk.ask("three")
    assert model.sent == ["s", "one", "re: one", "three"]
    assert model.bodies[-1]["stop"] == ["x"]


async def test_a_saved_conversation_goes_on_where_it_was(tmp_path: Path) -> None:
    model, file = Model(), tmp_path / "talk.json"
    talk = AsyncConversation(model.send, "m", system="말은 짧게", context_tokens=500, temperature=0.5)
    await talk.ask("하나")
    talk.save(file)
    again = AsyncConversation.load(file, model.send)
    await again.ask("둘")
    assert model.sent == ["말은 짧게", "하나", "re: 하나", "둘"]
    assert (model.bodies[-1]["temperature"], again.context_tokens) == (0.5, 500)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


def test_what_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "talk.json"
    folder.mkdir()
    with pytest.raises(OSError, match="talk"):
        Conversation(Model().ask, "m").save(folder)
    assert list(tmp_path.iterdir()) == [folder]


async def test_the_longest_answer_needs_room_too() -> None:
    model = Model()
    talk = AsyncConversation(model.send, "m", context_tokens=1_000, max_tokens=880)
    await talk.ask("one " * 60)
    await talk.ask("two " * 60)
    assert len(model.sent) == 1
    with pytest.raises(DoesNotFit):
        await talk.ask("three " * 200)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"{}", b'{"naru":"conversation/2","model":"m","context_tokens":null,"fields":{},"messages":[]}'],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "odd.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.json is"):
        Conversation.load(file, Model().ask)


def test_fields_that_a_conversation_has_itself_are_refused() -> None:
    with pytest.raises(ValueError, match="`messages`"):
        Conversation(Model().ask, "m", messages=[])
    with pytest.raises(ValueError, match="context_tokens"):
        Conversation(Model().ask, "m", context_tokens=0)


def test_the_twin_without_await_does_the_same(tmp_path: Path) -> None:
    model, file = Model(), tmp_path / "talk.json"
    talk = Conversation(
        model.ask, "m", stream=model.pieces, summarize=lambda so_far, news: f"{so_far}+", context_tokens=60
    )
    assert talk.ask("one").text == "re: one"
    assert [type(piece) for piece in talk.stream("two")] == [str, Reply]
    other = talk.fork()
    for number in range(6):
        other.ask(f"question {number}")
    assert model.sent[0].startswith(SUMMARY_HEAD + "+")
    talk.save(file)
    Conversation.load(file, model.ask).ask("three")
    assert model.sent == ["one", "re: one", "two", "re: two", "three"]
    with pytest.raises(ValueError, match="without a `stream`"):
        list(Conversation(model.ask, "m").stream("x"))
