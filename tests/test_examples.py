"""examples/ as users run them: each in a process of its own, against a gateway, with nothing but two variables set."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.harness import running

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
CONFIG = """
[cache]
enabled = true
[agent]
tools = ["weather"]
[providers.sandbox]
[engines.demo]
model = "naru-demo"
"""

#: example -> (model, what it prints)
RUNS = [
    ("tool_agent", "sandbox/tools", ["get_current_weather({'location': '부산'}) -> ", "2 turns, ", "tokens, $0.0"]),
    (
        "streaming",
        "sandbox/tools",
        ["[get_current_weather …]", "[get_current_weather({'location': '서울'})]", "[2 turns, $0.0"],
    ),
    ("batch_queries", "sandbox/tools", ["서울 날씨 어때?\n  ", "12 * 34는?\n  ", "408"]),
    ("many_prompts", "sandbox/echo", ["[0] 안녕하세요, 반갑습니다.", "[2] 오늘 뉴스 요약해줘"]),
    ("usage_tracker", "sandbox/echo", ["of the budget", "today: 3 requests, "]),
    ("production_client", "sandbox/tools", ["안녕하세요!", "408"]),
    ("cached_completion", "sandbox/echo", ["cache: miss, $0.0", "cache: hit, $0.000000000: 안녕하세요!"]),
]


def test_each_example_is_short_and_run_here() -> None:
    assert {path.stem for path in EXAMPLES} == {name for name, _, _ in RUNS}
    assert all(path.read_text().count("\n") < 30 for path in EXAMPLES)


@pytest.mark.parametrize(("name", "model", "words"), RUNS, ids=[name for name, _, _ in RUNS])
async def test_an_example_prints_what_it_promises(tmp_path: Path, name: str, model: str, words: list[str]) -> None:
    said = await printed(tmp_path, name, model)
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(("name", "words"), [("tool_agent", ["서울: 23", "부산: 27"]), ("streaming", ["서울", "부산"])])
async def test_the_demo_model_runs_the_tools(tmp_path: Path, name: str, words: list[str]) -> None:
    pytest.importorskip("openvino_genai", reason="needs openvino-genai (extra `local`)")
    said = await printed(tmp_path, name, "naru-demo")
    assert [word for word in words if word not in said] == [], said


async def printed(home: Path, name: str, model: str) -> str:
    async with running(home, CONFIG) as gateway:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LANG", "HOME")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "examples" / f"{name}.py"), model,
            env={**kept, "NARU_BASE_URL": gateway.url, "NARU_API_KEY": gateway.key, "PYTHONIOENCODING": "utf-8"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()
