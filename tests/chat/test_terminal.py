"""`naru chat` as a person has it: a real pseudo-terminal before a real gateway."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.agent.test_mcp import PROGRAM, started
from tests.chat.terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, Terminal, chatting
from tests.harness import Gateway
from tests.process import environment


def saved(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "home" / "chats").glob("*.json")
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


async def say(terminal: Terminal, line: str, until: str) -> str:
    terminal.type(line + ENTER)
    return await terminal.prompted(until)


async def test_answers_tools_models_and_cost(gateway: Gateway, tmp_path: Path) -> None:
    async with chatting(tmp_path, environment(tmp_path / "home"), "sandbox/echo", "--tools", "weather") as terminal:
        await terminal.prompted(r"sandbox/echo \(of \d+: /model\)")
        said = ALT_ENTER.join(["## 제목", "", "나루는 **나루터**입니다.", "", "- `하나`"])
        text = await say(terminal, said, r" in · \d+ out · \$0\.\d+ · ")
        assert "\n\n제목\n\n나루는 나루터입니다.\n\n • 하나\nsandbox/echo · " in text
        await say(terminal, "/model sandbox/tools", "model: sandbox/tools")
        text = await say(terminal, "서울의 날씨", r"└ (?s:.*)sandbox/tools · ")
        assert '● get_current_weather {"location": "서울"}\n  └ {"location": "서울"' in text
        await say(terminal, "/model sandbox/think", "model: sandbox/think")
        text = await say(terminal, "생각", r"\(16 thinking\)")
        assert "characters (/think show)\n\n생각\nsandbox/think · " in text
        assert "The user says" not in text
        await say(terminal, "/think show", "The user says: 생각")
        text = await say(terminal, "/cost", r"all +\$0\.0")
        assert [line.split()[:2] for line in text.splitlines() if line.startswith("sandbox/") and " 1 " in line] == [
            ["sandbox/echo", "1"],
            ["sandbox/tools", "1"],
            ["sandbox/think", "1"],
        ]
        await say(terminal, "/modle", "Did you mean /model")
        await say(terminal, "/model sandbox/ecko", "There is no model 'sandbox/ecko'")
        terminal.type(CTRL_D)
        assert await terminal.ended() == 0
    assert [turn["model"] for turn in saved(tmp_path)["turns"]] == ["sandbox/echo", "sandbox/tools", "sandbox/think"]
    entries = await gateway.entries()
    assert sorted(each.outcome for each in entries) == ["completed"] * 4
    assert len({each.key_id for each in entries}) == 1


async def test_ctrl_c_stops_the_answer_upstream_and_keeps_the_chat(gateway: Gateway, tmp_path: Path) -> None:
    async with chatting(tmp_path, environment(tmp_path / "home"), "sandbox/echo?tps=5") as terminal:
        await terminal.prompted("Ctrl-D ends")
        terminal.type(" ".join(f"word{number}" for number in range(200)) + ENTER)
        await terminal.until("\nword0 word1 word2")
        terminal.type(CTRL_C)
        await terminal.prompted("· cut")
        assert [each.outcome for each in await gateway.entries()] == ["cancelled"]
        await say(terminal, "/model sandbox/echo", "model: sandbox/echo")
        await say(terminal, "더", r"\n더\nsandbox/echo · ")
        terminal.type(CTRL_C)
        await terminal.prompted("Ctrl-C again")
        terminal.type(CTRL_C)
        assert await terminal.ended() == 0
    first, second = saved(tmp_path)["turns"]
    assert (first["is_cut"], first["error"], second["is_cut"]) == (True, "stopped", False)
    assert first["messages"][1]["content"].startswith("word0 word1 word2")
    assert "word199" not in first["messages"][1]["content"]


async def test_an_error_is_said_and_the_message_waits_to_be_sent_again(gateway: Gateway, tmp_path: Path) -> None:
    async with chatting(tmp_path, environment(tmp_path / "home"), "sandbox/echo?status=400") as terminal:
        await terminal.prompted("Ctrl-D ends")
        await say(terminal, "첫 질문", r"\n.*status 400|400")
        await say(terminal, "/model sandbox/echo", "model: sandbox/echo")
        await say(terminal, "/retry", r"\n첫 질문\nsandbox/echo · ")
        terminal.type("/quit" + ENTER)
        assert await terminal.ended() == 0
    assert len(saved(tmp_path)["turns"]) == 1


async def test_a_tool_that_changes_something_asks_first(gateway: Gateway, tmp_path: Path) -> None:
    model = 'sandbox/tools?args={"path":"a.txt","content":"hi"}'
    async with chatting(tmp_path, environment(tmp_path / "home"), model, "--tools", "write_file") as terminal:
        await terminal.prompted("Ctrl-D ends")
        terminal.type("써줘" + ENTER)
        await terminal.until(r"Allow write_file\?")
        terminal.type("n" + ENTER)
        await terminal.prompted(r"did not allow this call(?s:.*) in · ")
        assert not (tmp_path / "a.txt").exists()
        terminal.type("다시" + ENTER)
        await terminal.until(r"(?s)다시.*Allow write_file\? \[y\]es, \[n\]o, \[a\]lways:$")
        terminal.type("a" + ENTER)
        await terminal.prompted(r"(?s)Wrote 2 bytes.*Wrote 2 bytes.* in · ")
        assert (tmp_path / "a.txt").read_text() == "hi"
        (tmp_path / "a.txt").unlink()
        await say(terminal, "또", r"› 또(?s:.*)Wrote 2 bytes(?s:.*) in · ")
        assert (tmp_path / "a.txt").exists()


async def test_ctrl_c_at_the_question_stops_the_answer_and_keeps_the_chat(gateway: Gateway, tmp_path: Path) -> None:
    model = 'sandbox/tools?args={"path":"a.txt","content":"hi"}'
    async with chatting(tmp_path, environment(tmp_path / "home"), model, "--tools", "write_file") as terminal:
        await terminal.prompted("Ctrl-D ends")
        terminal.type("써줘" + ENTER)
        await terminal.until(r"Allow write_file\? \[y\]es, \[n\]o, \[a\]lways:$")
        terminal.type(CTRL_C)
        await terminal.prompted("· cut")
        assert not (tmp_path / "a.txt").exists()
        await say(terminal, "/tools off", "tools: off")
        await say(terminal, "/model sandbox/echo", "model: sandbox/echo")
        await say(terminal, "그래", r"\n그래\nsandbox/echo · ")
        terminal.type("/quit" + ENTER)
        assert await terminal.ended() == 0
    first, second = saved(tmp_path)["turns"]
    assert (first["is_cut"], first["error"], second["is_cut"]) == (True, "stopped", False)
    assert first["messages"][-1]["content"] == "Stopped by the user before there was a result."


async def test_a_conversation_goes_on_with_its_files(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    (tmp_path / "notes.txt").write_text("나룻배")
    home = environment(tmp_path / "home")
    async with chatting(tmp_path, home, "-m", "sandbox/echo", "--session", "여행") as terminal:
        await terminal.prompted("Ctrl-D ends")
        await say(
            terminal,
            "cat.png를 @notes.txt와 비교해줘",
            r"attached cat.png \(2 KB\)(?s:.*)put in notes.txt \(3 characters\)(?s:.*) in · ",
        )
        await say(terminal, "/save out.md", r"Wrote out.md \(")
        terminal.type(CTRL_D)
        assert await terminal.ended() == 0
    assert "나룻배" in (tmp_path / "out.md").read_text()
    parts = saved(tmp_path)["turns"][0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]
    async with chatting(tmp_path, home, "--continue") as terminal:
        await terminal.prompted(r"Going on with 여행(?s:.*)\[image\]")
        await say(terminal, "또", r"\n또\nsandbox/echo · ")
        await say(terminal, "/undo", "1 are left")
        assert len(saved(tmp_path)["turns"]) == 1


async def test_a_long_answer_scrolls_by_whole_in_wide_letters(gateway: Gateway, tmp_path: Path) -> None:
    """More lines than the terminal has, in one block that is not finished until the end; nothing is lost or told twice."""
    async with chatting(
        tmp_path, environment(tmp_path / "home"), "-m", "sandbox/echo?tps=400", rows=12, columns=40
    ) as terminal:
        await terminal.prompted("Ctrl-D")
        words = [f"가나다라마바사{number}" for number in range(100)]
        (tmp_path / "long.txt").write_text(" ".join(words))
        await say(terminal, "/system x", "system: x")
        text = await say(terminal, "@long.txt 끝", r"끝\nsandbox/echo\?tps=400 · ")
        answer = text[text.rindex("put in long.txt") :]
        assert [word for word in answer.split() if word.startswith("가나다라")] == words


async def test_without_colours_the_answer_is_plain_text(gateway: Gateway, tmp_path: Path) -> None:
    home = {**environment(tmp_path / "home"), "NO_COLOR": "1"}
    async with chatting(tmp_path, home, "-m", "sandbox/echo") as terminal:
        await terminal.prompted("Ctrl-D")
        await say(terminal, "나루는 **나루터**", r"\n나루는 \*\*나루터\*\*\nsandbox/echo · ")
        assert b"\x1b[1m" not in terminal.raw


async def test_a_tool_server_that_dies_during_a_call_is_said_to_have_and_is_back_for_the_next(
    gateway: Gateway, tmp_path: Path
) -> None:
    config = tmp_path / "chat.toml"
    program = json.dumps([sys.executable, str(PROGRAM), str(tmp_path)])
    config.write_text(f'[mcp.t]\ncommand = {program}\ninclude = ["add", "waits"]\n')
    variables = {**environment(tmp_path / "home"), "NARU_CONFIG": str(config)}
    waits = 'sandbox/tools?only=t__waits&args={"name":"lost"}'
    async with chatting(tmp_path, variables, waits, "--tools", "t") as terminal:
        await terminal.prompted("Ctrl-D ends")
        terminal.type("기다려" + ENTER)
        os.kill(await started(tmp_path, "lost"), signal.SIGKILL)
        await terminal.prompted(r"t was lost before it answered")
        adds = 'sandbox/tools?only=t__add&args={"a":2,"b":3}'
        await say(terminal, f"/model {adds}", "model: sandbox/tools")
        text = await say(terminal, "더해", r"└ 5\n")
        assert '● t__add {"a": 2, "b": 3}' in text
        terminal.type("/quit" + ENTER)
        assert await terminal.ended() == 0
