"""The command line as people and scripts use it, in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.process import command, serving


async def test_keys_without_a_running_gateway(tmp_path: Path) -> None:
    """Create prints the key on stdout alone; list and show hide it; revoke ends it; a missing one is exit 5."""
    home = tmp_path / "home"
    code, out, err = await command(home, "keys", "create", "alice", "--expires", "30d", "--models", "a,b")
    assert code == 0
    key = out.strip()
    assert key.startswith("nk-")
    assert "only this once" in err
    assert str(home) in err
    _, listed, _ = await command(home, "keys", "list", "--json")
    (shown,) = json.loads(listed)["data"]
    assert (shown["name"], shown["state"], shown["models"]) == ("alice", "active", ["a", "b"])
    assert key not in listed
    code, out, _ = await command(home, "keys", "revoke", "alice")
    assert code == 0
    assert "Revoked" in out
    code, _, err = await command(home, "keys", "show", "bob")
    assert (code, "naru keys list" in err) == (5, True)


async def test_the_ledger_can_be_exported_without_a_running_gateway(tmp_path: Path) -> None:
    """An answer that is streamed comes to its end in this process too."""
    code, out, err = await command(tmp_path / "home", "ledger", "export", "--json")
    assert (code, json.loads(out), err) == (0, [], "")


async def test_json_stays_json_beside_a_warning(tmp_path: Path) -> None:
    """A setting without effect is warned about on stderr; stdout is what a script parses."""
    file = tmp_path / "naru.toml"
    file.write_text('[store]\nredis = "redis://127.0.0.1:1"\n')
    code, out, err = await command(tmp_path / "home", "keys", "list", "--json", "--config", str(file))
    assert (code, json.loads(out)) == (0, {"data": []})
    assert "store.redis" in err


async def test_commands_reach_the_running_gateway(tmp_path: Path) -> None:
    """A key made by the command line works at once, and usage shows what was spent with it."""
    async with serving(tmp_path) as gateway:
        _, out, _ = await command(gateway.home, "keys", "create", "bob", "--json")
        gateway.key = json.loads(out)["key"]
        body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}
        assert b"200 OK" in await gateway.whole("POST", "/v1/chat/completions", body)
        assert (gateway.home / "control.sock").stat().st_mode & 0o777 == 0o600
        code = 1
        for _ in range(20):
            code, out, _ = await command(gateway.home, "usage", "--by", "key", "--json")
            if json.loads(out)["data"]:
                break
        (row,) = json.loads(out)["data"]
        assert (code, row["group"], row["requests"]) == (0, "bob", 1)
        code, out, _ = await command(gateway.home, "explain", "-", "--json", stdin=json.dumps(body).encode())
        assert (code, json.loads(out)["attempts"][0]["deployment"]) == (0, "sandbox/echo")


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("keys", "create", "x", "--expires", "never"), 2, "30d"),
        (("usage", "--by", "moon"), 2, "deployment"),
        (("usage", "--since", "yesterday"), 2, "as in 30d"),
        (("models", "show", "deepseek-chta"), 5, "deepseek-chat"),
        (("serve", "--port", "99999"), 78, "65535"),
        (("serve", "--config", "/nowhere/naru.toml"), 78, "no such file"),
        (("nonsense",), 2, "No such command"),
    ],
)
async def test_wrong_use_is_told_what_to_do(tmp_path: Path, arguments: tuple[str, ...], code: int, hint: str) -> None:
    """The exit code of its kind, a sentence on stderr, no traceback."""
    got, _, err = await command(tmp_path / "home", *arguments)
    assert got == code, err
    assert hint in err
    assert "Traceback" not in err


async def test_models_and_check(tmp_path: Path) -> None:
    """The sandbox is listed, a model's price has source and version, and check says that only the sandbox is there."""
    home = tmp_path / "home"
    _, out, _ = await command(home, "models", "list", "--json")
    assert "sandbox/echo" in [model["id"] for model in json.loads(out)["data"]]
    _, out, _ = await command(home, "models", "show", "deepseek-v3")
    shown = json.loads(out)
    assert shown["id"] == "deepseek-chat"
    assert shown["offers"][0]["price"]["version"]
    assert "seed" in {offer["price"]["source"] for offer in shown["offers"]}
    _, out, _ = await command(home, "models", "aliases", "--json")
    assert json.loads(out)["deepseek-v3"] == "deepseek-chat"
    code, out, _ = await command(home, "check", "--json")
    states = {finding["what"]: finding["state"] for finding in json.loads(out)["findings"]}
    assert (code, states["NARU_HOME"], states["providers"]) == (0, "ok", "warn")


async def test_help_names_every_command(tmp_path: Path) -> None:
    """`naru --help` without loading the commands; each has help of its own."""
    _, out, _ = await command(tmp_path / "home", "--help")
    for name in ("serve", "check", "keys", "models", "usage", "explain"):
        assert f"  {name} " in out
