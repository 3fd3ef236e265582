"""What a chat decides without a terminal: commands, models and questions, blocks of Markdown, files, conversations."""

from __future__ import annotations

import json
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.agent.events import Content, ReasoningText, ToolComplete, ToolResult, ToolStart
from naru.agent.loop import Call, State
from naru.chat import attach, tools
from naru.chat.asked import Asked, asked, default_model, may_be_model
from naru.chat.blocks import Blocks
from naru.chat.commands import Command, Text, names_of, read_line, think_of, thinking_fields
from naru.chat.complete import completions
from naru.chat.conversation import STOPPED, Chat, Turn, dollars, markdown, settled, sums, usage_line
from naru.chat.paint import repaint
from naru.chat.store import Store
from naru.chat.view import Called, Prose, Result, Thought, View
from naru.errors import BadRequest, NotFound
from naru.protocol.messages import Usage
from tests.chat.emulator import Emulator

# --- Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("", None),
        ("  \n ", None),
        ("안녕", Text("안녕")),
        ("/model", Command("model")),
        ("/MODEL  sandbox/echo ", Command("model", "sandbox/echo")),
        ("/system 한 줄\n두 줄", Command("system", "한 줄\n두 줄")),
        ("/exit", Command("quit")),
        ("/?", Command("help")),
        ("/tmp/cat.png 이게 뭐야?", Text("/tmp/cat.png 이게 뭐야?")),
        ("//model is a command", Text("/model is a command")),
        ("1 / 2", Text("1 / 2")),
        ("/ 2", Text("/ 2")),
    ],
)
def test_a_line_is_a_command_or_a_message(line: str, read: Command | Text | None) -> None:
    assert read_line(line) == read


@pytest.mark.parametrize(("line", "near"), [("/modle x", "/model"), ("/sav", "/save"), ("/zzzz", "/help lists")])
def test_an_unknown_command_names_the_nearest(line: str, near: str) -> None:
    with pytest.raises(BadRequest, match=f"There is no command.*{near}"):
        read_line(line)


@pytest.mark.parametrize(
    ("said", "before", "after", "fields"),
    [
        ("", "", "off", {"enable_thinking": False}),
        ("", "off", "on", {"enable_thinking": True}),
        ("", "512", "off", {"enable_thinking": False}),
        ("512", "off", "512", {"enable_thinking": True, "thinking_budget": 512}),
        ("0", "", "off", {"enable_thinking": False}),
        ("High", "", "high", {"reasoning_effort": "high"}),
        ("auto", "off", "", {}),
    ],
)
def test_thinking_is_toggled_bounded_or_left_to_the_model(said: str, before: str, after: str, fields: Any) -> None:
    assert think_of(said, before) == after
    assert thinking_fields(after) == fields


def test_thinking_that_makes_no_sense_is_refused_with_what_does() -> None:
    for said in ("-1", "much", "１２"):
        with pytest.raises(BadRequest, match="on, off, auto, a number of tokens"):
            think_of(said, "")


def test_tools_are_listed_once_and_a_wrong_name_is_told_the_nearest() -> None:
    assert names_of("weather, calculator weather") == ["weather", "calculator"]
    assert names_of("off") == []
    assert tools.checked(["weather", "weather", "write_file"], {}) == ("weather", "write_file")
    with pytest.raises(BadRequest, match="Did you mean weather"):
        tools.checked(["wether"], {})
    assert [tool.needs_approval for tool in tools.made(["write_file"]) if not isinstance(tool, str)] == [True]


# --- Model or question ------------------------------------------------------------------------------------------------

KNOWN = ["naru-demo", "sandbox/echo", "gpt-5"]


@pytest.mark.parametrize(
    ("words", "is_model", "said"),
    [
        ([], False, Asked()),
        (["gpt-5"], True, Asked("gpt-5")),
        (["gpt-5", "안녕", "하세요"], True, Asked("gpt-5", "안녕 하세요")),
        (["안녕"], False, Asked("", "안녕")),
        (["and/or"], False, Asked("", "and/or")),
        (["gpt-4", "is", "old"], False, Asked("", "gpt-4 is old")),
    ],
)
def test_the_first_word_is_a_model_where_there_is_one(words: list[str], is_model: bool, said: Asked) -> None:
    assert asked(words, is_model, KNOWN) == said


def test_a_lone_word_that_is_nearly_a_model_is_not_asked() -> None:
    with pytest.raises(BadRequest, match=r"Did you mean naru-demo\? .* naru chat -- naru-dmo"):
        asked(["naru-dmo"], False, KNOWN)
    assert not may_be_model("two words")
    assert not may_be_model("")


@pytest.mark.parametrize(
    ("known", "model"),
    [
        (["sandbox/echo", "text-embedding-3", "naru-demo", "gpt-5", "o9"], "gpt-5"),
        (["sandbox/embed", "sandbox/echo", "naru-demo"], "naru-demo"),
        (["sandbox/rerank", "sandbox/echo", "sandbox/tools"], "sandbox/echo"),
    ],
)
def test_the_default_is_the_first_real_chat_model(known: list[str], model: str) -> None:
    assert default_model(known) == model


def test_without_a_chat_model_there_is_no_default() -> None:
    with pytest.raises(BadRequest, match="no chat model"):
        default_model(["text-embedding-3"])


# --- Blocks of Markdown -----------------------------------------------------------------------------------------------

ANSWER = "# 제목\n문단의\n두 줄\n\n- a\n\n- b\n  c\n\n```python\nx = 1\n\n# y\n```\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\n\n1. x\n\n2. y\n끝"
BLOCKS = [
    "# 제목",
    "문단의\n두 줄",
    "- a\n\n- b\n  c",
    "```python\nx = 1\n\n# y\n```",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "> q",
    "1. x\n\n2. y\n끝",
]
PIECE = st.sampled_from(
    ["# h", "a", "- x", "1. y", "  z", "```", "```py", "~~~", "| a | b |", "|---|---|", "> q", "---", "***", "    code", "", "\n", " ",
     "<div>", "안녕", "#", "=", "[a]: x", "\t", "- ", "\n- c"]
)  # fmt: skip


def blocks_of(*pieces: str) -> list[str]:
    blocks = Blocks()
    return [block for piece in pieces for block in blocks.feed(piece)] + blocks.close()


def test_blocks_are_the_same_at_every_split() -> None:
    assert blocks_of(ANSWER) == BLOCKS
    assert blocks_of(*ANSWER) == BLOCKS
    for place in range(len(ANSWER)):
        assert blocks_of(ANSWER[:place], ANSWER[place:]) == BLOCKS


@given(st.lists(PIECE, max_size=12).map("\n".join))
def test_any_text_has_the_same_blocks_letter_by_letter(text: str) -> None:
    assert blocks_of(*text) == blocks_of(text)


def test_a_block_is_finished_as_soon_as_nothing_can_change_it() -> None:
    blocks = Blocks()
    assert blocks.feed("# h") == []
    assert blocks.feed("\n") == ["# h"]
    assert blocks.feed("one\n") == []
    assert blocks.feed("\n") == ["one"]
    assert blocks.feed("```\nx\n\ny\n``") == []
    assert blocks.feed("`\n") == ["```\nx\n\ny\n```"]
    assert blocks.feed("- a\n\n") == []  # a list may go on after a blank line


def test_a_models_text_is_no_program_for_the_terminal() -> None:
    assert blocks_of("\x1b]0;title\x07a\x1b[2Jb\x9b1mc\ttab") == ["]0;titlea[2Jb1mc\ttab"]


# --- The picture ------------------------------------------------------------------------------------------------------

LINES = st.lists(st.text("ab가", max_size=6), max_size=6)


@given(st.lists(LINES, max_size=5))
def test_repainting_gives_the_picture_that_is_meant(pictures: list[list[str]]) -> None:
    """Whatever was there before, above it nothing changes."""
    screen = Emulator(12, 20, lambda text: None)
    screen.feed("above\r\n")
    old: list[str] = []
    for new in pictures:
        screen.feed(repaint(old, new).replace("\n", "\r\n"))
        old = new
        assert screen.lines[: len(new) + 1] == ["above", *new]
        assert not any(screen.lines[len(new) + 1 :])


def test_what_stays_is_not_painted_again() -> None:
    assert repaint(["a", "b"], ["a", "b"]) == ""
    assert "a" not in repaint(["a", "b"], ["a", "c"]).replace("\x1b[1A", "")


def test_events_become_things_to_show() -> None:
    view = View(0.0)
    assert view.feed(ReasoningText("음"), 1.0) == []
    assert view.tail(3.0).kind == "thinking"
    assert view.feed(Content("하나"), 3.5) == [Thought("음", 2.5)]
    assert view.feed(ToolStart(0, "c", "weather"), 4.0) == [Prose("하나")]
    assert view.tail(4.5).text == "weather("
    assert view.feed(ToolComplete(0, "c", "weather", {}, '{"a":1}'), 5.0) == [Called("weather", '{"a": 1}')]
    assert view.feed(ToolComplete(1, "d", "weather", {}, "{}"), 5.0) == [Called("weather", "{}")]
    long = "\n".join("abcdef")
    assert view.feed(ToolResult(1, "d", "weather", "{}", long, False), 6.0) == [
        Result("weather", "a\nb\nc\n… 3 more lines", False)
    ]
    assert view.feed(ToolResult(0, "c", "weather", "{}", "no", True), 6.0) == [Result("weather", "no", True)]


# --- Files ------------------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.mark.parametrize(
    ("text", "found", "missing"),
    [
        ("이 cat.png를 설명해줘", ["cat.png"], []),
        ("'my cat.png' and my\\ cat.png", ["my cat.png"], []),
        ("what is /tmp/x/cat.PNG?", [], []),
        ("compare cat.png, cat.png.", ["cat.png"], []),
        ("@notes.txt를 요약해줘", ["notes.txt"], []),
        ('@"my notes.txt" 요약', ["my notes.txt"], []),
        ("@notes.txt, @nothing.txt", ["notes.txt"], ["nothing.txt"]),
        ("mail me@notes.txt or @someone", [], []),
        ("notes.txt is text and stays a word", [], []),
    ],
)
def test_files_are_found_in_a_message(text: str, found: list[str], missing: list[str]) -> None:
    there = {"cat.png", "my cat.png", "notes.txt", "my notes.txt"}
    paths, gone = attach.found(text, lambda path: str(path) in there)
    assert ([str(path) for path in paths], gone) == (found, missing)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"text", ""),
    ],
)
def test_pictures_are_known_by_their_bytes(data: bytes, kind: str) -> None:
    assert attach.picture_kind(data) == kind


def test_a_message_has_texts_before_it_and_pictures_behind() -> None:
    text = attach.attachment("a.md", "```\n나루\n```\n".encode("cp949"))
    picture = attach.attachment("a.bin", PNG)
    assert attach.content_of("q", []) == "q"
    assert attach.content_of("q", [text]) == "a.md:\n````\n```\n나루\n```\n````\n\nq"
    parts = attach.content_of("q", [text, picture])
    assert [part["type"] for part in parts if isinstance(part, dict)] == ["text", "image_url"]
    with pytest.raises(BadRequest, match="neither text nor a picture"):
        attach.attachment("a.zip", b"PK\0\0")


# --- Completion -------------------------------------------------------------------------------------------------------


def test_completion_knows_commands_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.md").touch()
    (tmp_path / ".hidden").touch()
    choices = {"model": lambda: KNOWN, "tools": lambda: ["weather", "web_fetch"], "load": lambda: ["one"]}

    def offered(before: str) -> list[tuple[str, int]]:
        return [(each.text, each.replaced) for each in completions(before, choices)]

    assert offered("/mo") == [("/model", 3)]
    assert offered("/model san") == [("sandbox/echo", 3)]
    assert offered("/tools weather,web") == [("web_fetch", 3)]
    assert offered("/load o") == [("one", 1)]
    assert offered("요약 @") == [("notes.txt", 0), ("sub/", 0)]
    assert offered("@sub/d") == [("deep.md", 1)]
    assert offered("/image .h") == [(".hidden", 2)]
    assert offered("a@") == offered("hello") == offered("/tmp/x") == []


# --- Conversations ----------------------------------------------------------------------------------------------------


def turn(**fields: Any) -> Turn:
    messages = ({"role": "user", "content": "질문\n둘째 줄"}, {"role": "assistant", "content": "답"})
    return Turn(**{"messages": messages, "model": "m", "at": 1.0, "seconds": 1.25, **fields})


def test_a_conversation_is_kept_whole_and_for_its_owner(tmp_path: Path) -> None:
    store = Store(tmp_path / "chats")
    chat = Chat(
        "일", "m", 1.0, system="s", tools=("weather",), think="512", turns=(turn(usage=Usage(input=3), cost_nano=5),)
    )
    store.save(chat)
    assert store.load("일") == chat
    assert stat.S_IMODE((tmp_path / "chats" / "일.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "chats").stat().st_mode) == 0o700
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant"]
    store.save(Chat("이", "m", 2.0))
    assert store.names()[0] == "이"
    assert store.latest() == Chat("이", "m", 2.0)
    assert [path.name for path in (tmp_path / "chats").iterdir() if path.suffix != ".json"] == []


def test_what_is_no_conversation_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadRequest, match="no saved conversation"):
        store.load("bad")
    with pytest.raises(NotFound, match="The latest: bad"):
        store.load("good")
    for name in ("..", ".hidden", ""):
        with pytest.raises(BadRequest, match="no name for a conversation"):
            store.load(name)
    noon = datetime(2026, 1, 2, 12, 0, 0)
    assert store.new_name(noon) == "2026-01-02-120000"
    store.save(Chat("2026-01-02-120000", "m", 1.0))
    assert store.new_name(noon) == "2026-01-02-120000-2"


def test_a_run_that_was_stopped_leaves_no_call_without_its_result() -> None:
    asked_for = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}, {"id": "b"}]}
    calls = (Call("a", "f", "{}", "done", result="1"), Call("b", "f", "{}", "running"))
    user = {"role": "user", "content": "q"}
    told = settled(State((user, asked_for), calls=calls))
    assert [(each["tool_call_id"], each["content"]) for each in told[2:]] == [("a", "1"), ("b", STOPPED)]
    assert settled(State((user,)), "반쯤", "생각") == (
        user,
        {"role": "assistant", "content": "반쯤", "reasoning_content": "생각"},
    )


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0"),
        (1, "$0.000000001"),
        (123_000, "$0.000123"),
        (500_000_000, "$0.50"),
        (12_000_000_000, "$12"),
        (10**12, "$1000"),
    ],
)
def test_money_is_shown_exactly(nano: int, text: str) -> None:
    assert dollars(nano) == text


def test_figures_are_summed_by_model() -> None:
    one = turn(usage=Usage(input=1000, output=20, cached=5, reasoning=7), cost_nano=1_000)
    found = sums([one, turn(model="other"), one])
    assert [(each.model, each.turns, each.usage.input, each.cost_nano, each.unknown) for each in found] == [
        ("m", 2, 2000, 2_000, 0),
        ("other", 1, 0, 0, 1),
    ]
    assert usage_line(one) == "m · 1,000 in (5 cached) · 20 out (7 thinking) · $0.000001 · 1.2 s"


def test_the_export_has_questions_answers_calls_and_cuts() -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    messages = (
        {
            "role": "user",
            "content": [{"type": "text", "text": "질문"}, {"type": "image_url", "image_url": {"url": "data:"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "```"},
        {"role": "assistant", "content": "답"},
    )
    text = markdown(Chat("n", "m", 1.0, turns=(turn(messages=messages, is_cut=True, error="stopped"),)))
    for part in (
        "# 질문\n",
        "## You\n\n질문\n[picture]",
        '- `f({"x":1})`',
        "````text\n```\n````",
        "## m\n\n답",
        "[cut: stopped]",
    ):
        assert part in text
    assert json.loads(Chat("n", "m", 1.0).dump())["version"] == 1
