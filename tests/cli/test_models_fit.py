"""`naru models fit` and `naru models recommend` as people and scripts use them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from naru.errors import ConfigError
from naru.machine import copy_bandwidth, free_bytes, memory_bytes
from tests.catalog.test_model_config import QWEN3
from tests.process import command, environment


async def test_fits_is_0_and_the_inequality_is_shown(tmp_path: Path) -> None:
    code, out, err = await command(tmp_path / "home", "models", "fit", "Qwen/Qwen3-8B", "--gpu", "h100")
    assert (code, err) == (0, "")
    assert "= 22.0 GB <= 0.90 x 80 GB = 72.0 GB: fits, 50.0 GB left" in out
    assert "Sequences of 32,768 tokens at once: 11" in out
    assert "not promises" in out


async def test_does_not_fit_is_1_and_ways_are_shown(tmp_path: Path) -> None:
    code, out, err = await command(tmp_path / "home", "models", "fit", "deepseek-v3", "--gpu", "h100x8")
    assert (code, err) == (1, "")
    assert "does not fit, 17.1 GB too much" in out
    assert "--quant int4: 48.5 GB <= 72.0 GB, fits" in out
    assert "--gpu h200x8" in out


async def test_on_a_terminal_it_is_a_table(tmp_path: Path) -> None:
    """The terms in columns, without tabs; the inequality is one line, for the terminal to break."""
    ours, theirs = os.openpty()
    arguments = (sys.executable, "-m", "naru", "models", "fit", "qwen3-8b", "--gpu", "h100")
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=theirs, env=environment(tmp_path / "home"), cwd=tmp_path
    )
    os.close(theirs)
    try:
        assert await asyncio.wait_for(process.wait(), 30) == 0
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
    assert "weights      16.4 GB" in shown
    assert "\t" not in shown
    assert "= 22.0 GB <= 0.90 x 80 GB = 72.0 GB: fits, 50.0 GB left" in shown


async def test_json_has_all_numbers(tmp_path: Path) -> None:
    arguments = ("models", "fit", "qwen3-235b-a22b", "--gpu", "h100x8", "--quant", "int4", "--context", "32k", "--json")
    code, out, _ = await command(tmp_path / "home", *arguments)
    data = json.loads(out)
    sizes = data["bytes_on_each_device"]
    assert code == 0
    assert sizes["weights"] + sizes["kv_cache"] + sizes["activations"] + sizes["runtime"] == sizes["needed"]
    assert sizes["usable"] - sizes["needed"] == sizes["left"]
    assert (data["parameters"], data["plan"]["context"], data["fits"], data["ways"]) == (
        235_093_634_560,
        32768,
        True,
        [],
    )
    assert data["hardware"]["bandwidth_source"] == "listed"
    assert data["speed"]["ceiling_tokens_per_s"] > data["speed"]["likely_tokens_per_s"][1]


async def test_this_machine_is_measured(tmp_path: Path) -> None:
    """Without --gpu: its RAM, and a bandwidth that is said to be measured."""
    code, out, _ = await command(tmp_path / "home", "models", "fit", "qwen3-0.6b", "--context", "1k", "--json")
    data = json.loads(out)
    assert code in (0, 1)
    assert data["hardware"]["device"] == "cpu"
    assert data["hardware"]["bandwidth_source"] == "measured"
    assert data["hardware"]["bandwidth_bytes_per_s"] > 10**8


async def test_a_folder_with_a_config_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN3))
    code, out, _ = await command(
        tmp_path / "home", "models", "fit", str(folder), "--memory", "24GiB", "--quant", "int8", "--json"
    )
    data = json.loads(out)
    assert (code, data["model"], data["parameters"], data["speed"]) == (0, "my-model", 8_190_735_360, None)
    (folder / "config.json").write_text("{")
    code, _, err = await command(tmp_path / "home", "models", "fit", str(folder), "--gpu", "h100")
    assert (code, err.count("\n"), "config.json is not JSON" in err) == (2, 1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("qwen3-8bb", "--gpu", "h100"), 5, "Did you mean qwen3-8b"),
        (("deepseek-v4-pro", "--gpu", "h100"), 5, "1.6 T parameters"),
        (("qwen3-8b", "--gpu", "voodoo2"), 2, "Known: h100"),
        (("qwen3-8b", "--gpu", "h100", "--memory", "24GiB"), 2, "not both"),
        (("qwen3-8b", "--gpu", "h100", "--context", "200k"), 2, "at most 131,072 tokens"),
        (("qwen3-8b", "--gpu", "h100x3"), 2, "cannot share evenly"),
        (("qwen3-8b", "--gpu", "h100", "--quant", "int1"), 2, "Known: bf16"),
        (("./nowhere", "--gpu", "h100"), 2, "no folder with a config.json"),
        (("model.gguf", "--gpu", "h100"), 2, "other files are not read"),
    ],
)
async def test_wrong_use_is_told_what_to_do(tmp_path: Path, arguments: tuple[str, ...], code: int, hint: str) -> None:
    got, out, err = await command(tmp_path / "home", "models", "fit", *arguments)
    assert (got, out) == (code, ""), err
    assert hint in err
    assert "Traceback" not in err


async def test_recommend_says_what_it_read_and_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    code, out, _ = await command(home, "models", "recommend", "파이썬 코드 리뷰 에이전트", "--gpu", "rtx4090")
    assert code == 0
    assert "The task needs: coding" in out
    assert "qwen3-coder-30b-a3b" in out
    assert "Assumed:" in out
    code, out, _ = await command(home, "models", "recommend", "임베딩", "--gpu", "l4", "--local", "--json")
    data = json.loads(out)
    assert (code, data["hosted"], data["endpoint"]) == (0, None, "embeddings")
    assert data["local"][0]["model"].startswith("qwen3-embedding")
    code, out, _ = await command(home, "models", "recommend", "transcribe", "--gpu", "l4", "--local")
    assert (code, "no model whose shape is known" in out) == (1, True)
    code, _, err = await command(home, "models", "recommend", " ")
    assert (code, "Say what" in err) == (2, True)


# --- The machine


def test_memory_is_the_smaller_of_machine_and_container(tmp_path: Path) -> None:
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal:       16384000 kB\nMemFree:  1 kB\n")
    assert memory_bytes(meminfo, limit) == 16384000 * 1024
    limit.write_text("max\n")
    assert memory_bytes(meminfo, limit) == 16384000 * 1024
    limit.write_text("1073741824\n")
    assert memory_bytes(meminfo, limit) == 2**30
    meminfo.write_text("")
    with pytest.raises(ConfigError, match="--memory 16GiB"):
        memory_bytes(meminfo, limit)
    with pytest.raises(ConfigError, match="--memory 16GiB"):
        memory_bytes(tmp_path / "none", limit)


def test_free_memory_is_the_smaller_of_machine_and_container(tmp_path: Path) -> None:
    """What is left of the container's limit; the machine's where there is none; never less than nothing."""
    meminfo, limit, used = (tmp_path / name for name in ("meminfo", "memory.max", "memory.current"))
    meminfo.write_text("MemTotal:       16384000 kB\nMemAvailable:  8192000 kB\n")
    assert free_bytes(meminfo, limit, used) == 8192000 * 1024
    limit.write_text("1073741824\n")
    used.write_text("73741824\n")
    assert free_bytes(meminfo, limit, used) == 10**9
    used.write_text("2073741824\n")
    assert free_bytes(meminfo, limit, used) == 0
    meminfo.write_text("MemTotal: 1 kB\n")
    with pytest.raises(ConfigError, match="does not say MemAvailable"):
        free_bytes(meminfo, limit, used)


def test_bandwidth_is_measured_within_its_time() -> None:
    assert copy_bandwidth(size=1 << 20, limit_s=0.05) > 10**7
