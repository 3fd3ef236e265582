"""`naru chat` in scripts: from standard input, to standard output, with exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import Gateway
from tests.process import command


async def test_a_text_and_a_question_go_in_and_plain_text_comes_out(gateway: Gateway, tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, out, err = await command(home, "chat", "sandbox/echo", "요약해줘", stdin="나루는 **나루터**다.\n".encode())
    assert (code, out, err) == (0, "나루는 **나루터**다.\n\n요약해줘\n", "")
    code, out, err = await command(home, "chat", "-m", "sandbox/echo", "--", "sandbox/echo", "--help")
    assert (code, out) == (0, "sandbox/echo --help\n")
    assert not (home / "chats").exists()


async def test_the_key_is_made_once_kept_and_made_anew_when_it_was_revoked(gateway: Gateway, tmp_path: Path) -> None:
    home = tmp_path / "home"
    keys = []
    for _ in range(2):
        assert (await command(home, "chat", "-m", "sandbox/echo", "hi"))[0] == 0
        keys.append(json.loads((home / "chat.key").read_bytes())["id"])
    assert keys[0] == keys[1]
    assert (home / "chat.key").stat().st_mode & 0o777 == 0o600
    await gateway.app.control.revoke_key(keys[0])
    assert (await command(home, "chat", "-m", "sandbox/echo", "hi"))[0] == 0
    assert json.loads((home / "chat.key").read_bytes())["id"] != keys[0]


async def test_json_has_the_answer_its_calls_and_its_cost(gateway: Gateway, tmp_path: Path) -> None:
    asked = ("chat", "-m", "sandbox/tools", "--tools", "weather", "--json", "--session", "a", "서울의 날씨")
    code, out, err = await command(tmp_path / "home", *asked)
    found = json.loads(out)
    assert (code, found["tool_calls"][0]["arguments"]) == (0, {"location": "서울"})
    assert "get_current_weather" in found["text"]
    assert float(found["cost_usd"]) > 0
    assert err.startswith('[get_current_weather {"location":"서울"}]')
    code, out, _ = await command(tmp_path / "home", "chat", "-m", "sandbox/echo", "--continue", "더")
    assert (code, out) == (0, "더\n")
    assert len(json.loads((tmp_path / "home" / "chats" / "a.json").read_bytes())["turns"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("sandbox/ecko",), 2, "Did you mean sandbox/echo"),
        (("-m", "nothing", "hi"), 5, "There is no model 'nothing'"),
        (("-m", "sandbox/echo"), 2, "There is no question"),
        (("-m", "sandbox/echo", "--tools", "wether", "hi"), 2, "Did you mean weather"),
        (("-m", "sandbox/echo", "--think", "much", "hi"), 2, "number of tokens"),
        (("-m", "sandbox/echo", "--continue", "hi"), 5, "no conversation to go on with"),
        (("-m", "sandbox/echo", "--continue", "--session", "a"), 2, "give one"),
        (("-m", "sandbox/echo?cut_after=1", "one two three"), 75, "closed the connection"),
        (("-m", "sandbox/echo", "-f", "nothing.txt", "hi"), 2, "cannot be read"),
    ],
)
async def test_what_is_wrong_is_said_on_standard_error(
    gateway: Gateway, tmp_path: Path, arguments: tuple[str, ...], code: int, hint: str
) -> None:
    got, _, err = await command(tmp_path / "home", "chat", *arguments)
    assert got == code, err
    assert hint in err
    assert "Traceback" not in err


async def test_without_a_gateway_one_is_told_how_to_start_it(tmp_path: Path) -> None:
    code, out, err = await command(tmp_path / "home", "chat", "hi")
    assert (code, out) == (75, "")
    assert "No gateway runs on" in err
    assert "naru serve" in err
