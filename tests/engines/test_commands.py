"""The command line of each kind of engine, from its settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.config import EngineSettings, Secret
from naru.engines.commands import Command, Site, command_for, program_of
from naru.engines.families import FAMILIES, parsers_of

SITE = Site(("python", "-m", "naru", "engine", "serve"), Path("/home/naru"), Path("/etc/naru"))
PORT = ("127.0.0.1", 4711)
SOCKET = "/run/box.sock"


def made(**fields: Any) -> Command:
    settings = EngineSettings(**{"name": "box", "model": "m", **fields})
    return command_for(settings, SITE, SOCKET if settings.provider_kind == "engine" else PORT)


def line(**fields: Any) -> str:
    return " ".join(made(**fields).argv)


OWN = "python -m naru engine serve"
LISTEN = "--host 127.0.0.1 --port 4711"
CASES: list[tuple[dict[str, Any], str]] = [
    ({}, f"{OWN} m --socket {SOCKET} --home /home/naru --engine auto --name m"),
    (
        {
            "engine": "openvino", "device": "GPU", "context": 8192, "max_streams": 16, "cache_gb": 2.5, "quant": "4bit",
            "adapters": {"legal": "./legal", "tax": "org/tax"}, "names": ("small", "m"), "args": ("--loud",),
        },
        f"{OWN} m --socket {SOCKET} --home /home/naru --engine openvino --device GPU --context 8192 --max-streams 16 --cache-gb 2.5"
        " --quant 4bit --adapter legal=/etc/naru/legal --adapter tax=org/tax --name m --name small --loud",
    ),
    ({"command": "/opt/naru"}, f"/opt/naru engine serve m --socket {SOCKET} --home /home/naru --engine auto --name m"),
    ({"engine": "vllm"}, f"vllm serve m {LISTEN} --served-model-name m"),
    (
        {
            "engine": "vllm", "model": "Qwen/Qwen3-8B", "context": 32768, "max_streams": 64, "names": ("q",),
            "adapters": {"legal": "./legal"}, "args": ("--gpu-memory-utilization", "0.8"), "command": "/opt/vllm/bin/vllm",
        },
        f"/opt/vllm/bin/vllm serve Qwen/Qwen3-8B {LISTEN} --served-model-name Qwen/Qwen3-8B q --max-model-len 32768 --max-num-seqs 64"
        " --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
        " --enable-lora --lora-modules Qwen/Qwen3-8B:legal=/etc/naru/legal --gpu-memory-utilization 0.8",
    ),
    (
        {"engine": "vllm", "model": "Qwen/Qwen3-8B", "args": ("--tool-call-parser=mine", "--reasoning-parser", "other")},
        f"vllm serve Qwen/Qwen3-8B {LISTEN} --served-model-name Qwen/Qwen3-8B --tool-call-parser=mine --reasoning-parser other",
    ),
    (
        {"engine": "sglang", "model": "Qwen/Qwen3-8B", "context": 4096, "max_streams": 8, "device": "cuda", "adapters": {"a": "o/a"}},
        f"python3 -m sglang.launch_server --model-path Qwen/Qwen3-8B {LISTEN} --served-model-name Qwen/Qwen3-8B --context-length 4096"
        " --max-running-requests 8 --device cuda --tool-call-parser qwen25 --reasoning-parser qwen3 --enable-metrics"
        " --enable-lora --lora-paths a=o/a",
    ),
    (
        {"engine": "llamacpp", "model": "./q.gguf", "context": 4096, "max_streams": 2},
        f"llama-server -m /etc/naru/q.gguf --alias q {LISTEN} --jinja --metrics --parallel 2 -c 8192",
    ),
    (
        {"engine": "llamacpp", "model": "org/q-GGUF:Q4_K_M", "context": 4096},
        f"llama-server -hf org/q-GGUF:Q4_K_M --alias org/q-GGUF:Q4_K_M {LISTEN} --jinja --metrics -c 16384 --parallel 4",
    ),
    ({"engine": "ollama", "model": "qwen3:0.6b"}, "ollama serve"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "wanted"), CASES, ids=range(len(CASES)))
def test_the_command_line(fields: dict[str, Any], wanted: str) -> None:
    assert line(**fields) == wanted


def test_ollama_is_told_by_its_environment() -> None:
    """It has no flags for these; the model stays until idle_s says otherwise."""
    command = made(engine="ollama", model="qwen3:0.6b", context=8192, max_streams=3, env={"OLLAMA_DEBUG": Secret("1")})
    assert command.env == {
        "OLLAMA_HOST": "127.0.0.1:4711",
        "OLLAMA_CONTEXT_LENGTH": "8192",
        "OLLAMA_NUM_PARALLEL": "3",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_DEBUG": "1",
    }
    assert command.ready_path == "/api/version"


def test_others_are_warmed_up_and_guarded_and_our_own_is_neither() -> None:
    """What does not look at its standard input is run behind something that does; the first request is as small as can be."""
    own, other = made(), made(engine="vllm")
    assert (own.warm_up, own.guarded) == (b"", own.argv)
    assert msgspec.json.decode(other.warm_up)["max_tokens"] == 1
    assert msgspec.json.decode(other.warm_up)["model"] == "m"
    assert other.guarded[0] == "sh"
    assert other.guarded[-len(other.argv) :] == other.argv
    assert (own.ready_path, other.ready_path) == ("/health", "/health")


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs sh")
def test_the_guard_hands_on_every_argument_and_the_exit_code() -> None:
    """Blanks, quotes and dollars among them."""
    odd = ("a b", "$HOME", "it's", "*")
    command = msgspec.structs.replace(made(engine="vllm"), argv=("sh", "-c", 'printf "%s|" "$@"; exit 7', "sh", *odd))
    done = subprocess.run(
        command.guarded, stdin=subprocess.PIPE, capture_output=True, start_new_session=True, timeout=20
    )
    assert (done.returncode, done.stdout.decode()) == (7, "a b|$HOME|it's|*|")


@pytest.mark.parametrize(
    ("model", "vllm", "sglang"),
    [
        ("Qwen/Qwen3-0.6B", ("hermes", "qwen3"), ("qwen25", "qwen3")),
        ("Qwen/Qwen3-4B-Instruct-2507", ("hermes", ""), ("qwen25", "")),
        ("Qwen/Qwen3-4B-Thinking-2507", ("hermes", "qwen3"), ("qwen25", "qwen3")),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", ("qwen3_coder", ""), ("qwen3_coder", "")),
        ("Qwen/Qwen3.5-27B", ("qwen3_coder", "qwen3"), ("qwen3_coder", "qwen3")),
        ("Qwen/Qwen3-Embedding-0.6B", ("", ""), ("", "")),
        ("/models/DeepSeek-R1-Distill-Qwen-7B", ("", "deepseek_r1"), ("", "deepseek-r1")),
        ("deepseek-ai/DeepSeek-R1-0528", ("deepseek_v3", "deepseek_r1"), ("deepseekv3", "deepseek-r1")),
        ("deepseek-ai/DeepSeek-V3.1", ("deepseek_v31", "deepseek_v3"), ("deepseekv31", "deepseek-v3")),
        ("naver-hyperclovax/HyperCLOVAX-SEED-Think-14B", ("", ""), ("", "")),
    ],
)
def test_parsers_go_by_family(model: str, vllm: tuple[str, str], sglang: tuple[str, str]) -> None:
    ours = [(each.tools, each.reasoning) for each in parsers_of(model)]
    assert ours == [vllm, sglang]


def test_no_family_is_hidden_by_one_above_it() -> None:
    """Each pattern, as a name, finds its own row."""
    for pattern, vllm, sglang in FAMILIES:
        assert parsers_of(pattern.replace("*", "-").replace("[5-9]", "5")) == (vllm, sglang), pattern


def test_what_has_to_be_installed() -> None:
    settings = {
        kind: EngineSettings(name="x", model="m", engine=kind) for kind in ("auto", "vllm", "llamacpp", "ollama")
    }
    assert [program_of(each, SITE.folder) for each in settings.values()] == ["", "vllm", "llama-server", "ollama"]
    for command, found in (("/opt/v", "/opt/v"), ("./v", "/etc/naru/v"), ("../v", "/etc/v"), ("v", "v")):
        assert program_of(EngineSettings(name="x", model="m", engine="vllm", command=command), SITE.folder) == found
