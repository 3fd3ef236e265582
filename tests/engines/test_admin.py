"""What operators see of local engines and do to them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.control.plane import control_plane
from tests.engines.fake import is_alive, starts, supervisor, table, until, until_state
from tests.process import command, serving


async def test_an_engine_is_shown(tmp_path: Path) -> None:
    """State, process, counts, memory and its own words; a viewer sees all but the words."""
    config = table(tmp_path, "--says", "loading Bearer abcdefgh12345", more='names = ["s"]')
    async with control_plane(tmp_path, config) as plane:
        (shown,) = (await plane.ok("GET", "/admin/engines"))["data"]
        assert (shown["name"], shown["engine"], shown["state"], shown["pid"]) == ("box", "auto", "stopped", None)
        assert (shown["models"], shown["starts"], shown["resident_bytes"]) == (["small", "s"], 0, None)
        assert (await plane.chat(plane.caller, model="small"))[0] == 200
        await until(lambda: supervisor(plane.gateway).resident)
        (shown,) = (await plane.ok("GET", "/admin/engines"))["data"]
        assert (shown["state"], shown["pid"], shown["starts"], shown["restarts"]) == (
            "ready",
            starts(tmp_path)[0],
            1,
            0,
        )
        assert shown["resident_bytes"] > 1_000_000
        assert shown["log"][-1] == "loading [redacted]"
        assert Path(shown["log_file"]).read_text().splitlines()[-1] == "loading [redacted]"
        viewer = (await plane.key("v", role="viewer"))["key"]
        status, answer = await plane.ask("GET", "/admin/engines", key=viewer)
        assert (status, "log" in answer["data"][0]) == (200, False)


async def test_a_restart_and_a_stop_are_done_and_noted(tmp_path: Path) -> None:
    """A restart is another process; after a stop the next request starts it again; both stand in the audit."""
    async with control_plane(tmp_path, table(tmp_path)) as plane:
        assert (await plane.chat(plane.caller, model="small"))[0] == 200
        answer = await plane.ok("POST", "/admin/engines/box/restart")
        assert answer["name"] == "box"
        await until(lambda: len(starts(tmp_path)) == 2)
        await until_state(plane.gateway, "ready")
        assert (supervisor(plane.gateway).restarts, supervisor(plane.gateway).failures) == (1, 0)
        await plane.ok("POST", "/admin/engines/box/stop")
        await until_state(plane.gateway, "stopped")
        assert not any(is_alive(pid) for pid in starts(tmp_path))
        assert (await plane.chat(plane.caller, model="small"))[0] == 200
        assert [entry for entry in await plane.audit() if "engine" in entry[0]] == [
            ("engine.stop", "box"),
            ("engine.restart", "box"),
        ]
        status, code, message = await plane.refused("POST", "/admin/engines/bix/stop")
        assert (status, code) == (404, "engine_not_found")
        assert "box" in message


async def test_metrics_tell_states_and_counts(tmp_path: Path) -> None:
    async with control_plane(tmp_path, table(tmp_path)) as plane:
        assert (await plane.chat(plane.caller, model="small"))[0] == 200
        await until(lambda: supervisor(plane.gateway).resident)
        text = (await plane.client.get("/metrics")).text
        assert 'naru_engine_state{engine="box",state="ready"} 1.0' in text
        assert 'naru_engine_state{engine="box",state="stopped"} 0.0' in text
        assert 'naru_engine_starts_total{engine="box"} 1.0' in text
        assert 'naru_engine_restarts_total{engine="box"} 0.0' in text
        assert 'naru_engine_resident_bytes{engine="box"}' in text


async def test_check_says_what_is_missing_and_how_it_goes(tmp_path: Path) -> None:
    """Without a gateway: whether its program is there. With one: how it is, and its last words where it failed."""
    config = (
        table(tmp_path, "--never", "No model in this folder.")
        + '[engines.big]\nengine = "llamacpp"\nmodel = "m.gguf"\ncommand = "/no/such/llama"\n'
    )
    (tmp_path / "check.toml").write_text(config)
    code, found = await checked(tmp_path)
    assert code == 1
    assert found["engine box"] == ("ok", "small: starts with the first request for it")
    assert found["engine big"][0] == "fail"
    assert "[engines.big]" in found["engine big"][1]
    async with serving(tmp_path, config) as gateway:
        await gateway.whole(
            "POST", "/v1/chat/completions", {"model": "small", "messages": [{"role": "user", "content": "x"}]}
        )
        _, found = await checked(tmp_path)
        assert found["engine box"][0] == "fail"
        assert "No model in this folder." in found["engine box"][1]


async def checked(folder: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    code, out, err = await command(folder / "home", "check", "--json", "--config", str(folder / "check.toml"))
    assert out, err
    return code, {each["what"]: (each["state"], each["text"]) for each in json.loads(out)["findings"]}
