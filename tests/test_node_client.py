"""The official JavaScript client through the gateway. `make test` installs it from tests/node's lock file."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.harness import running

NODE = Path(__file__).parent / "node"
REQUIRED = os.environ.get("NARU_REQUIRE_SERVICES") == "1"


@pytest.mark.services
@pytest.mark.skipif(
    not REQUIRED and (shutil.which("node") is None or not (NODE / "node_modules").is_dir()),
    reason="node or its packages are missing: run `make test` where node and npm are installed",
)
async def test_openai_node_streams_text_and_tool_calls(tmp_path: Path) -> None:
    """Text arrives in pieces, two parallel calls with whole arguments, usage with cost, and errors as its own classes."""
    async with running(tmp_path) as gateway:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(NODE / "chat.mjs"),
            env={"PATH": os.environ["PATH"], "BASE_URL": f"{gateway.url}/v1", "API_KEY": gateway.key},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        seen = json.loads(out)
        assert seen["text"]["text"] == "서울의 날씨와 부산의 날씨를 비교해줘"
        assert seen["text"]["chunks"] > 3
        assert seen["text"]["usage"]["naru"]["cost_usd"] > 0
        calls = seen["calls"]["calls"]
        assert [call["name"] for call in calls] == ["get_current_weather"] * 2
        assert {json.loads(call["arguments"])["location"] for call in calls} == {"서울", "부산"}
        assert seen["calls"]["finish"] == "tool_calls"
        assert seen["error"] == {"status": 404, "code": "model_not_found", "type": "NotFoundError"}
        assert len(await gateway.entries()) == 2
