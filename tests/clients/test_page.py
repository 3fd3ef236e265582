"""The programs of docs/clients.md run as they stand there, and no client of the page is without a test."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.page import PAGE, at, snippet
from tests.harness import Gateway, running

NODE = Path(__file__).parent.parent / "node"
REQUIRED = os.environ.get("NARU_REQUIRE_SERVICES") == "1"

#: (title, which of its programs) -> what it prints.
PRINTED = {
    ("OpenAI, Python", 0): "안녕하세요\n안녕하세요\n",
    ("Anthropic", 0): r"\d+\n안녕하세요",
    ("Google Gen AI", 0): r"\d+\n안녕하세요\n",
    ("LangChain", 0): "안녕하세요\n",
    ("LangChain", 1): "64\n",
    (
        "OpenAI Agents SDK",
        0,
    ): r"도구 결과입니다\.\n- get_current_weather\(서울\): 서울: 맑음\n- get_current_weather\(부산\): 부산: 맑음\n",
}
ELSEWHERE = {"OpenAI, Node", "Claude Code", "Codex"}


async def output(gateway: Gateway, *command: str, cwd: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "NARU_API_KEY": gateway.key}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, failure = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, failure.decode()
    return printed.decode()


def test_every_section_is_run() -> None:
    titles = set(re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE))
    assert titles == {title for title, _ in PRINTED} | ELSEWHERE
    assert PAGE.read_text().count("```python") == len(PRINTED)


@pytest.mark.parametrize(("title", "place"), PRINTED)
async def test_python_programs(title: str, place: int, tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        program = tmp_path / "program.py"
        program.write_text(at(snippet(title, "python", place), gateway.port))
        printed = await output(gateway, sys.executable, "-W", "ignore", str(program), cwd=tmp_path)
        assert re.fullmatch(PRINTED[title, place], printed), printed


@pytest.mark.services
@pytest.mark.skipif(
    not REQUIRED and (shutil.which("node") is None or not (NODE / "node_modules").is_dir()),
    reason="node or its packages are missing: run `make test` where node and npm are installed",
)
async def test_the_node_program(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
        program = tmp_path / "program.mjs"
        program.write_text(at(snippet("OpenAI, Node", "js"), gateway.port))
        assert await output(gateway, "node", str(program), cwd=tmp_path) == "안녕하세요\n"
