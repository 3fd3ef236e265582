"""`python -m bench.fanout [--prompts N] [--rpm N] [--given] [--json FILE]`: many prompts in real time through a gateway whose
model allows `--rpm` requests a minute and fails on a tenth and is busy on a twentieth of them.

`--given`: the caller knows the figure and passes it; otherwise it is learned from the answers' headers. The ideal time is that of
as many requests at the model's rate, less what may pass at once where that is learned.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import structlog
from openai import AsyncOpenAI
from tools.inprocess import listening

from naru.app import App
from naru.client.endpoint import Endpoint
from naru.client.fanout import FanOut, fan_out
from naru.client.progress import progress_bar
from naru.client.reply import Json, Outcome, Reply
from naru.clock import SystemClock
from naru.config import load_settings
from naru.errors import NaruError

CONFIG = """
[providers.sandbox]
kind = "sandbox"

[models.limited]
deployments = [{{ provider = "sandbox", model = "echo?ttft_ms=200&fail_rate=0.1&busy_rate=0.05&retry_after=1&seed=7" }}]
limits = {{ rpm = {rpm} }}
price = {{ input = 1.0, output = 2.0 }}
"""

#: How the gateway's own refusals begin (limits/refusals.py); the sandbox's, which it passes on, do not.
OWN_WORDS = "Limit reached"


class Sender:
    """The client's own way to an endpoint, one try a call. Counts what was refused, by the words of the refusal."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._endpoint = Endpoint(client)
        self.sent = 0
        self.said: Counter[str] = Counter()

    async def send(self, body: Json) -> Reply:
        self.sent += 1
        try:
            return await self._endpoint.reply(body)
        except NaruError as error:
            is_limit = error.status == 429 and OWN_WORDS in error.message
            self.said["429 by the limit" if is_limit else f"{error.status} as told"] += 1
            raise


async def measure(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    file = home / "naru.toml"
    file.write_text(CONFIG.format(rpm=options.rpm))
    app = App(load_settings(file, {"NARU_HOME": str(home / "home"), "HOME": str(home)}, {}))
    await app.start()
    prompts = [f"prompt {number}" for number in range(options.prompts)]
    async with listening(app) as port:
        assert app.first_keys is not None
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key=app.first_keys.caller, max_retries=0
        ) as client:
            sender, clock = Sender(client), SystemClock()
            chosen = FanOut(model="limited", rpm=options.rpm if options.given else None, concurrency=100)
            begun = time.monotonic()
            with progress_bar(clock) as observe:
                outcomes = await fan_out(prompts, sender.send, chosen, clock, random.random, observe)
            took_s = time.monotonic() - begun
    return figures(options, outcomes, sender, took_s)


def figures(options: argparse.Namespace, outcomes: list[Outcome], sender: Sender, took_s: float) -> dict[str, Any]:
    at_once = 0 if options.given else options.rpm
    ideal_s = max(0, sender.sent - at_once) / options.rpm * 60
    right = sum(outcome.ok and outcome.text == f"prompt {number}" for number, outcome in enumerate(outcomes))
    return {
        "prompts": options.prompts,
        "answered, in order": right,
        "requests": sender.sent,
        "refusals": dict(sender.said),
        "refused by the limit, share": round(sender.said["429 by the limit"] / sender.sent, 4),
        "time, s": round(took_s, 1),
        "ideal time, s": round(ideal_s, 1),
        "cost, nano-dollars": sum(outcome.cost_nano or 0 for outcome in outcomes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    parser.add_argument("--prompts", type=int, default=2_000)
    parser.add_argument("--rpm", type=int, default=600)
    parser.add_argument("--given", action="store_true", help="pass the figure to the client")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )  # a line for each fault otherwise
    with tempfile.TemporaryDirectory(prefix="naru-fanout-") as folder:
        found = asyncio.run(measure(options, Path(folder)))
    for name, value in found.items():
        print(f"{name:30} {value}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["answered, in order"] == options.prompts else 1


if __name__ == "__main__":
    sys.exit(main())
