"""Local engines behind a whole gateway: real processes, which start, crash, hang, grow and rest."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from naru.engines.states import State
from tests.engines.fake import asked, is_alive, program, starts, supervisor, table, until, until_state
from tests.harness import MESSAGES, Gateway, running

LONG = [{"role": "user", "content": " ".join(f"w{n}" for n in range(50))}]


async def is_sound(gateway: Gateway, requests: int) -> list[tuple[str, int, str | None]]:
    """Oldest first: (outcome, status, code) of the entries, of which there is one for each request; the books add up."""
    entries = await gateway.entries()
    assert len(entries) == requests
    assert await gateway.app.control.reports.verify() == []
    return [(each.outcome, each.status, each.error_code) for each in reversed(entries)]


async def test_the_first_request_starts_it(tmp_path: Path) -> None:
    """Not before; the next one finds it. Its names, and the form engine/model, reach the same process under its own name."""
    config = table(tmp_path, model="Qwen/Qwen3-0.6B", more='names = ["small"]\nadapters = { legal = "./legal" }')
    async with running(tmp_path, config) as gateway:
        assert starts(tmp_path) == []
        assert supervisor(gateway).state is State.STOPPED
        for model in ("Qwen/Qwen3-0.6B", "small", "box/small", "box/Qwen/Qwen3-0.6B"):
            status, headers, answer = await gateway.chat(model=model)
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello there"), answer
            assert headers["x-naru-cost-usd"].strip("0.") == ""
            assert headers["x-naru-deployment"].startswith("box/")
        assert (await gateway.chat(model="small:legal"))[2]["model"] == "Qwen/Qwen3-0.6B:legal"
        assert [len(starts(tmp_path)), len(asked(tmp_path))] == [1, 5]
        assert (await gateway.chat(model="box/another"))[0] == 404
        models = [model.id async for model in gateway.openai.models.list()]
        assert {"Qwen/Qwen3-0.6B", "small", "Qwen/Qwen3-0.6B:legal", "small:legal"} <= set(models)
    assert not is_alive(starts(tmp_path)[0])


async def test_many_first_requests_start_it_once(tmp_path: Path) -> None:
    """They join the start under way, streams and others; none of them is answered before it is ready. What they wished is done
    with that: once it is idle and stopped, it stays so."""
    flag = tmp_path / "ready"
    async with running(tmp_path, table(tmp_path, "--ready-file", flag, more="idle_s = 0.3")) as gateway:
        calls = [asyncio.create_task(gateway.chat(model="small")) for _ in range(20)]
        streams = [asyncio.create_task(streamed(gateway)) for _ in range(5)]
        await until(lambda: starts(tmp_path))
        await until(lambda: gateway.app._client.pools[engine_origin(gateway)].wanted == 25)
        assert supervisor(gateway).state is State.STARTING
        flag.touch()
        assert {status for status, _, _ in await asyncio.gather(*calls)} == {200}
        assert set(await asyncio.gather(*streams)) == {"hello there "}
        assert len(starts(tmp_path)) == 1
        assert {end[0] for end in await is_sound(gateway, 25)} == {"completed"}
        await until_state(gateway, "stopped")
        for _ in range(20):
            await asyncio.sleep(0)
        assert (supervisor(gateway).state, len(starts(tmp_path))) == (State.STOPPED, 1)


def engine_origin(gateway: Gateway) -> Any:
    return next(origin for origin in gateway.app._client.pools if origin.scheme == "engine")


async def streamed(gateway: Gateway, model: str = "small", messages: Any = MESSAGES) -> str:
    stream = await gateway.openai.chat.completions.create(model=model, messages=messages, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


async def test_a_client_that_leaves_while_it_starts_stops_nothing(tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    async with running(tmp_path, table(tmp_path, "--ready-file", flag)) as gateway:
        leaving = asyncio.create_task(streamed(gateway))
        await until(lambda: starts(tmp_path))
        leaving.cancel()
        await asyncio.wait({leaving})
        flag.touch()
        assert (await gateway.chat(model="small"))[0] == 200
        assert len(starts(tmp_path)) == 1
        outcomes = [end[0] for end in await is_sound(gateway, 2)]
        assert sorted(outcomes) == ["cancelled", "completed"]


async def test_killed_in_mid_stream(tmp_path: Path) -> None:
    """The client gets what came and an error in the stream; the next request is answered by the next process; one entry each."""
    async with running(tmp_path, table(tmp_path, "--hang-after", 3)) as gateway:
        seen = ""
        stream = await gateway.openai.chat.completions.create(model="small", messages=LONG, stream=True)
        while seen != "w0 w1 w2 ":
            seen += (await anext(stream)).choices[0].delta.content or ""
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        with pytest.raises(openai.APIError) as caught:
            await anext(stream)
        assert caught.value.code == "upstream_incomplete"
        # At once, so also before anybody has heard of the death.
        assert (await gateway.chat(model="small"))[0] == 200
        assert len(starts(tmp_path)) == 2
        engine = supervisor(gateway)
        assert (engine.starts, engine.restarts, engine.trouble) == (2, 1, "")
        assert await is_sound(gateway, 2) == [("partial", 200, "upstream_incomplete"), ("completed", 200, None)]


async def test_a_process_that_dies_at_a_request_is_started_anew(tmp_path: Path) -> None:
    """The request is sent once more on a fresh connection, as with any upstream that closes a kept one; nothing is lost."""
    async with running(tmp_path, table(tmp_path, "--die-after", 2)) as gateway:
        for number in range(6):
            status, _, answer = await gateway.chat(model="small", messages=[{"role": "user", "content": f"n {number}"}])
            assert (status, answer["choices"][0]["message"]["content"]) == (200, f"n {number}")
        assert len(starts(tmp_path)) == 3
        assert {end[0] for end in await is_sound(gateway, 6)} == {"completed"}


async def test_a_request_that_kills_is_not_sent_for_ever(tmp_path: Path) -> None:
    """Twice at most; then its caller hears of it, and everybody else is answered again."""
    async with running(tmp_path, table(tmp_path, "--die-at", "poison")) as gateway:
        status, _, answer = await gateway.chat(model="small", messages=[{"role": "user", "content": "a poison"}])
        assert (status, answer["error"]["code"]) == (502, "upstream_reset")
        assert (await gateway.chat(model="small"))[0] == 200
        assert len(starts(tmp_path)) == 3
        assert [end[0] for end in await is_sound(gateway, 2)] == ["failed", "completed"]


async def test_what_can_never_work_is_said_and_not_tried_again(tmp_path: Path) -> None:
    """Exit code 78: a 503 with the engine's own last sentence for each request, one process in all, until an operator asks."""
    sentence = "This folder holds no model: config.json is missing."
    async with running(tmp_path, table(tmp_path, "--never", sentence)) as gateway:
        for _ in range(3):
            status, _, answer = await gateway.chat(model="small")
            assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
            assert sentence in answer["error"]["message"]
        assert len(starts(tmp_path)) == 1
        assert supervisor(gateway).state is State.FAILED
        assert {end[:2] for end in await is_sound(gateway, 3)} == {("failed", 503)}
        program(tmp_path, name="worker-box")
        gateway.app.engines.restart("box")
        await until_state(gateway, "ready")
        assert (await gateway.chat(model="small"))[0] == 200


async def test_a_start_that_crashes_is_told_with_its_last_words_and_tried_again(tmp_path: Path) -> None:
    """Each request gets the failure of the start that it waited for; the next start comes after a pause, with the request after."""
    async with running(tmp_path, table(tmp_path, "--says", "no such device", "--exit", 3)) as gateway:
        status, _, answer = await gateway.chat(model="small")
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
        assert "exit code 3" in answer["error"]["message"]
        assert "no such device" in answer["error"]["message"]
        engine = supervisor(gateway)
        assert (engine.state, engine.failures) == (State.BACKING_OFF, 1)
        await until_state(gateway, "stopped")  # nobody waits, so nothing is tried
        assert len(starts(tmp_path)) == 1
        program(tmp_path, name="worker-box")
        assert (await gateway.chat(model="small"))[0] == 200
        assert len(starts(tmp_path)) == 2


async def test_a_start_may_take_longer_than_a_connection(tmp_path: Path) -> None:
    """The model's connect_s is for its servers; start_s is added to it for an engine, and to the whole."""
    flag = tmp_path / "ready"
    config = table(tmp_path, "--ready-file", flag) + (
        '[models.quick]\ndeployments = [{ provider = "box", model = "small" }]\ntimeouts = { connect_s = 0.05 }\n'
    )
    async with running(tmp_path, config) as gateway:
        waiting = asyncio.create_task(gateway.chat(model="quick"))
        await until(lambda: starts(tmp_path))
        clock = gateway.app._client.loop.time
        begun = clock()
        await until(lambda: clock() > begun + 0.2)
        flag.touch()
        assert (await waiting)[0] == 200
        timeouts = gateway.app.gateway.table.resolve("quick").deployments[0].timeouts
        assert (timeouts.connect_s, timeouts.start_s) == (0.05, 600.0)


async def test_a_long_pause_is_told_and_not_waited_for(tmp_path: Path) -> None:
    """With the seconds that are left, so that another deployment, or a later try, can answer."""
    async with running(tmp_path, table(tmp_path, "--exit", 3)) as gateway:
        supervisor(gateway).failures = 10
        assert (await gateway.chat(model="small"))[0] == 503
        status, headers, answer = await gateway.chat(model="small")
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
        assert 30 < int(headers["retry-after"]) < 80
        assert len(starts(tmp_path)) == 1


async def test_another_deployment_answers_while_it_cannot(tmp_path: Path) -> None:
    """An engine is a deployment like any other: its failure is a failover."""
    config = table(tmp_path, "--never", "No.") + (
        '[models.both]\ndeployments = [{ provider = "box", model = "small" }, '
        '{ provider = "sandbox", model = "sandbox/echo", priority = 2 }]\n'
    )
    async with running(tmp_path, config) as gateway:
        status, headers, _ = await gateway.chat(model="both")
        assert (status, headers["x-naru-deployment"]) == (200, "sandbox/echo")
        assert headers["x-naru-attempts"] == "2"


async def test_what_is_never_ready_is_ended(tmp_path: Path) -> None:
    """After start_s, with what it said last."""
    config = table(tmp_path, "--ready-file", tmp_path / "no", "--says", "still loading", more="start_s = 2")
    async with running(tmp_path, config) as gateway:
        status, _, answer = await gateway.chat(model="small")
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
        assert "start_s = 2" in answer["error"]["message"]
        assert "still loading" in answer["error"]["message"]
        assert not is_alive(starts(tmp_path)[0])


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The message says what to install or to write; nothing is tried again."""
    config = '[engines.big]\nengine = "vllm"\nmodel = "m"\ncommand = "/no/such/vllm"\n'
    async with running(tmp_path, config) as gateway:
        status, _, answer = await gateway.chat(model="m")
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")
        assert '"/no/such/vllm" was not found' in answer["error"]["message"]
        assert "[engines.big]" in answer["error"]["message"]
        assert supervisor(gateway, "big").state is State.FAILED


async def test_another_kind_of_server_on_a_port(tmp_path: Path) -> None:
    """vLLM's command line, a loopback port, a first request before it is called ready; it ends with the gateway."""
    worker = program(tmp_path, "--ignore-stdin")
    config = f'[engines.big]\nengine = "vllm"\nmodel = "m"\ncommand = "{worker}"\n'
    async with running(tmp_path, config) as gateway:
        assert (await gateway.chat(model="m"))[0] == 200
        assert asked(tmp_path) == ["/v1/chat/completions"] * 2
        engine = supervisor(gateway, "big")
        assert engine.process is not None
        assert engine.address[0] == "127.0.0.1"
        assert starts(tmp_path) == [engine.process.pid]
    await until(lambda: not is_alive(starts(tmp_path)[0]))


async def test_an_idle_engine_is_stopped_and_comes_back(tmp_path: Path) -> None:
    """While a request is under way it is not idle, however long that takes. Stopping is no failure."""
    async with running(tmp_path, table(tmp_path, "--hang-after", 3, more="idle_s = 0.3")) as gateway:
        stream = await gateway.openai.chat.completions.create(model="small", messages=LONG, stream=True)
        async for _ in stream:
            break
        looked = gateway.app._client.loop.time()
        await until(lambda: gateway.app._client.loop.time() > looked + 0.6)
        assert supervisor(gateway).state is State.READY
        await stream.close()
        await until_state(gateway, "stopped")
        assert not is_alive(starts(tmp_path)[0])
        assert (supervisor(gateway).trouble, supervisor(gateway).failures) == ("", 0)
        assert (await gateway.chat(model="small"))[0] == 200
        assert (len(starts(tmp_path)), supervisor(gateway).restarts) == (2, 0)


async def test_requests_that_come_as_it_is_stopped_are_answered(tmp_path: Path) -> None:
    """None is given a connection to the process that is about to end."""
    async with running(tmp_path, table(tmp_path)) as gateway:
        assert (await gateway.chat(model="small"))[0] == 200
        for round in range(5):
            gateway.app.engines.halt("box")
            answers = await asyncio.gather(*(gateway.chat(model="small") for _ in range(4)))
            assert {status for status, _, _ in answers} == {200}
            assert len(starts(tmp_path)) <= round + 2
        assert {end[0] for end in await is_sound(gateway, 21)} == {"completed"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_one_that_is_stopped_gets_no_further_request(tmp_path: Path) -> None:
    """Its idle connections are closed at once, though it still holds their other end."""
    async with running(tmp_path, table(tmp_path)) as gateway:
        assert (await gateway.chat(model="small"))[0] == 200
        pool, pid = gateway.app._client.pools[engine_origin(gateway)], starts(tmp_path)[0]
        assert (len(pool.open), pool.in_use) == (1, 0)
        os.kill(pid, signal.SIGSTOP)  # it can neither end nor close anything
        # Of two signals that wait for a busy process the lower number is taken first, and that is SIGTERM.
        await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        gateway.app.engines.halt("box")
        await until_state(gateway, "stopping")
        assert len(pool.open) == 0
        waiting = asyncio.create_task(gateway.chat(model="small"))
        await until(lambda: pool.wanted)
        os.kill(pid, signal.SIGCONT)
        assert (await waiting)[0] == 200
        assert len(starts(tmp_path)) == 2


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_an_engine_that_grew_too_large_is_started_anew(tmp_path: Path) -> None:
    """A request under way may finish first; each time in a row is followed by a longer pause, as after a crash."""
    config = table(tmp_path, "--ballast-mb", 80, more='memory = "60mb"')
    async with running(tmp_path, config) as gateway:
        assert (await gateway.chat(model="small"))[0] == 200
        await until(lambda: len(starts(tmp_path)) >= 2)
        engine = supervisor(gateway)
        assert engine.restarts >= 1
        assert engine.failures >= 1
        await until(lambda: not is_alive(starts(tmp_path)[0]))
        program(tmp_path, name="worker-box")
        await until(lambda: engine.state is State.READY and engine.resident is not None and engine.resident < 60e6)


async def test_one_that_starts_with_the_gateway(tmp_path: Path) -> None:
    """Without a request, and again after a crash without a request."""
    async with running(tmp_path, table(tmp_path, more='start = "gateway"')) as gateway:
        assert starts(tmp_path) == []  # an App that only answers a command starts nothing
        gateway.app.run_engines()
        await until_state(gateway, "ready")
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        await until(lambda: len(starts(tmp_path)) == 2)
        await until_state(gateway, "ready")


async def test_a_deaf_engine_does_not_outlive_the_gateway(tmp_path: Path) -> None:
    """Not the one that ignores SIGTERM, either; its socket goes with it."""
    async with running(tmp_path, table(tmp_path, "--ignore-term", more="")) as gateway:
        assert (await gateway.chat(model="small"))[0] == 200
        engine = supervisor(gateway)
        socket = Path(str(engine.address))
        assert socket.stat().st_mode & 0o777 == 0o600
        await engine.close(grace_s=0.05)
        assert not is_alive(starts(tmp_path)[0])
        assert not socket.exists()
        status, _, answer = await gateway.chat(model="small")
        assert (status, answer["error"]["code"]) == (503, "engine_unavailable")


async def test_two_engines_of_one_model_share_its_requests(tmp_path: Path) -> None:
    """Two graphics cards, say: the one with fewer requests in hand is asked."""
    config = table(tmp_path, name="one") + table(tmp_path, name="two")
    async with running(tmp_path, config) as gateway:
        route = gateway.app.gateway.table.resolve("small")
        assert [deployment.id for deployment in route.deployments] == ["one/small", "two/small"]
        first = asyncio.create_task(gateway.chat(model="small"))
        second = asyncio.create_task(gateway.chat(model="small"))
        used = {(await each)[1]["x-naru-deployment"] for each in (first, second)}
        assert used == {"one/small", "two/small"}


async def test_anthropic_and_gemini_clients_reach_it(tmp_path: Path) -> None:
    """As any upstream that speaks chat completions."""
    async with running(tmp_path, table(tmp_path)) as gateway:
        body = {"model": "small", "max_tokens": 9, "messages": [{"role": "user", "content": "hi you"}]}
        status, _, answer = await gateway.post(msgspec.json.encode(body), "/v1/messages")
        assert (status, msgspec.json.decode(answer)["content"][0]["text"]) == (200, "hi you")
