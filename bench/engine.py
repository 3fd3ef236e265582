"""`python -m bench.engine MODEL`: a local model through Naru against the same engine driven bare, in one run.

Bare: a process that calls openvino-genai's continuous batching itself and does nothing else. Through Naru: a client, the
gateway with a key, limits, budget and journal, and the worker process. The same prompts, the same number of tokens, in turns;
each figure is the median of the turns. MODEL is a folder of OpenVINO's IR.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.process import Child, free_port

WORDS = [
    "한국어",
    "문장",
    "하나",
    "the",
    "quick",
    "brown",
    "fox",
    "서울",
    "부산",
    "12",
    "34",
    "date",
    "날씨",
    "model",
    "token",
    "stream",
    "answer",
]
#: A piece of an answer, or of a thought, that is not empty.
TEXT = re.compile(rb'"(?:reasoning_)?content":"[^"]')
#: For an engine's last step for the one who left, and until its threads sleep.
REST_S = 0.3
CONFIG = """
[server]
port = {port}
[engines.bench]
model = "{model}"
max_streams = {streams}
start = "gateway"
names = ["bench"]
"""


class Run(msgspec.Struct, frozen=True):
    """Tokens a second of all streams together, by turn, and the seconds to the first text of lone requests."""

    tokens_s: list[float]
    ttft_s: list[float]


class Load(msgspec.Struct, frozen=True):
    streams: int
    tokens: int
    prompt_words: int
    lone: int


def prompt(seed: int, load: Load) -> str:
    """No two are alike from the first word on, so that no prefix is cached. Both sides get the same ones."""
    words = random.Random(seed).choices(WORDS, k=load.prompt_words)
    return f"{seed} " + " ".join(words)


# --- Bare -----------------------------------------------------------------------------------------------------------


def bare(model: str, load: Load, pipe: Connection) -> None:
    """A child process: told a seed, it measures and tells."""
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = load.streams
    scheduler.cache_size = 2
    scheduler.max_num_batched_tokens = 512
    scheduler.enable_prefix_caching = True
    engine = genai.ContinuousBatchingPipeline(model, scheduler, "CPU", {})
    tokenizer = engine.get_tokenizer()
    config = genai.GenerationConfig()
    config.max_new_tokens, config.ignore_eos, config.do_sample = load.tokens, True, False
    number = 0

    def added(text: str) -> Any:
        nonlocal number
        number += 1
        ids = tokenizer.encode(_template(text), add_special_tokens=False).input_ids
        return engine.add_request(number, ids, config)

    def streams(seed: int) -> float:
        texts = [prompt(seed + n, load) for n in range(load.streams)]
        began = time.perf_counter()
        handles = [added(text) for text in texts]
        written = 0
        while engine.has_non_finished_requests():
            engine.step()
            written += sum(len(out.generated_ids) for h in handles if h.can_read() for out in h.read().values())
        return written / (time.perf_counter() - began)

    def lone(seed: int) -> float:
        """To the first text: half a character is nothing yet, and a model of random weights begins with one often."""
        began = time.perf_counter()
        handle = added(prompt(seed, load))
        made: list[int] = []
        while not _is_text(tokenizer.decode(made) if made else ""):
            engine.step()
            made += [token for out in handle.read().values() for token in out.generated_ids]
        first_s = time.perf_counter() - began
        handle.cancel()
        engine.step()
        return first_s

    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        kind, seed = asked
        pipe.send((streams if kind == "streams" else lone)(seed))


def _is_text(decoded: str) -> bool:
    return bool(decoded) and not decoded.endswith("\ufffd")


def _template(text: str) -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


# --- Through Naru ---------------------------------------------------------------------------------------------------


class Gateway:
    def __init__(self, model: str, load: Load, folder: Path) -> None:
        self.port = free_port()
        config = folder / "naru.toml"
        config.write_text(CONFIG.format(port=self.port, model=model, streams=load.streams))
        environment = {**os.environ, "NARU_HOME": str(folder / "home"), "NARU_CONFIG": str(config)}
        limits = ["--rpm", "100000", "--tpm", "100000000", "--concurrency", "1000", "--budget", "1000usd/day"]
        made = subprocess.run(
            [sys.executable, "-m", "naru", "keys", "create", "bench", "--json", *limits],
            env=environment, capture_output=True, check=True,
        )  # fmt: skip
        self.key = json.loads(made.stdout)["key"]
        command = [sys.executable, "-m", "naru", "serve", "--config", str(config)]
        every = set(os.sched_getaffinity(0))
        self.child = Child(command, log=folder / "log", core=every, environment=environment)

    async def ready(self, within_s: float = 120.0) -> None:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            try:
                await self.stream("hi", 2)
                return
            except (OSError, RuntimeError):
                await asyncio.sleep(0.3)
        raise SystemExit(f"The gateway did not answer:\n{self.child.said()}")

    async def stream(self, text: str, tokens: int, only_first: bool = False) -> tuple[int, float]:
        """(tokens written, seconds to the first) of one streamed answer. A plain socket: an SDK would take the CPU."""
        body = json.dumps(
            {
                "model": "bench", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0,
                "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True,
                "chat_template_kwargs": {"enable_thinking": True},
            }
        ).encode()  # fmt: skip
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head.encode() + body)
        first, received = 0.0, bytearray()
        try:
            while data := await reader.read(65536):
                received += data
                if not first and TEXT.search(received):
                    first = time.perf_counter() - began
                    if only_first:
                        return 0, first
        finally:
            writer.close()
        found = received.rpartition(b'"completion_tokens":')[2].partition(b",")[0]
        if not found.isdigit():
            raise RuntimeError(received[-300:].decode(errors="replace"))
        return int(found), first

    async def streams(self, seed: int, load: Load) -> float:
        """Tokens a second."""
        texts = [prompt(seed + n, load) for n in range(load.streams)]
        began = time.perf_counter()
        answers = await asyncio.gather(*(self.stream(text, load.tokens) for text in texts))
        return sum(count for count, _ in answers) / (time.perf_counter() - began)

    async def lone(self, seed: int, load: Load) -> float:
        _, seconds = await self.stream(prompt(seed, load), load.tokens, only_first=True)
        return seconds


# --- Both -----------------------------------------------------------------------------------------------------------


async def run(model: str, load: Load, turns: int) -> dict[str, Run]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=bare, args=(model, load, theirs), daemon=True)
    child.start()
    found = {"bare": Run([], []), "naru": Run([], [])}

    async def asked(kind: str, seed: int) -> Any:
        ours.send((kind, seed))
        return await asyncio.to_thread(ours.recv)

    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(model, load, Path(folder))
        try:
            await gateway.ready()
            ours.recv()
            for turn in range(turns + 1):  # the first one warms up
                seed = 10_000 * (turn + 1)
                rates = await asked("streams", seed), await gateway.streams(seed, load)
                for run, rate in zip(found.values(), rates, strict=True):
                    run.tokens_s.append(rate)
                for n in range(load.lone):  # one by one, so that a slow moment of the machine meets both
                    await asyncio.sleep(REST_S)
                    bare_s = await asked("lone", seed + 2_000 + n)
                    await asyncio.sleep(REST_S)
                    firsts = bare_s, await gateway.lone(seed + 2_000 + n, load)
                    for run, first in zip(found.values(), firsts, strict=True):
                        run.ttft_s.append(first)
                if not turn:
                    found = {name: Run([], []) for name in found}
        finally:
            gateway.child.stop()
            ours.send(None)
            child.join(5)
            if child.is_alive():
                child.terminate()
    return found


def table(found: dict[str, Run], load: Load) -> Table:
    bare, naru = found["bare"], found["naru"]
    rates = statistics.median(bare.tokens_s), statistics.median(naru.tokens_s)
    firsts = statistics.median(bare.ttft_s) * 1000, statistics.median(naru.ttft_s) * 1000
    more = statistics.median(ours - theirs for ours, theirs in zip(naru.ttft_s, bare.ttft_s, strict=True)) * 1000
    shown = Table("figure", "bare engine", "through Naru", "")
    shown.add_row(
        f"tokens/s, {load.streams} streams of {load.tokens} (median of {len(bare.tokens_s)})",
        f"{rates[0]:.0f}",
        f"{rates[1]:.0f}",
        f"{100 * rates[1] / rates[0]:.1f} %",
    )
    shown.add_row(
        f"time to first text, alone (median of {len(bare.ttft_s)}, and of the differences)", f"{firsts[0]:.1f} ms",
        f"{firsts[1]:.1f} ms", f"{more:+.1f} ms",
    )  # fmt: skip
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("model", help="a folder of OpenVINO's IR")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    load = Load(given.streams, given.tokens, given.words, lone=8)
    found = asyncio.run(run(str(Path(given.model).resolve()), load, given.turns))
    Console().print(table(found, load))


if __name__ == "__main__":
    main()
