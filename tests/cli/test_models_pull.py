"""`naru models pull`, `list`, `show` and `remove` as a person types them, against a stand-in for the Hub."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from naru.testing.hub import FakeHub
from naru.testing.weights import write_safetensors
from tests.engine_files import models
from tests.process import environment

pytest.importorskip("huggingface_hub", reason="the extra `local` is not installed")

REPO = "Org/Tiny-Chat"
WEIGHTS = "model.safetensors"
STOP = 20_000_000


class Shell:
    """One NARU_HOME and one Hugging Face home, with a Hub that is on this machine."""

    def __init__(self, folder: Path, hub: FakeHub) -> None:
        self.folder, self.home, self.hub = folder, folder / "home", hub
        self.variables = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server.port}",
            "HF_HOME": str(folder / "hf"),
            "HOME": str(folder),
        }

    async def start(self, *arguments: str, **variables: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "naru", *arguments, env={**environment(self.home), **self.variables, **variables},
            cwd=self.folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        process = await self.start(*arguments, **variables)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    at = models.safetensors(tmp_path / "hub" / REPO)
    (at / "README.md").write_text("---\nlicense: mit\n---\n")
    hub = FakeHub(tmp_path / "hub")
    await hub.start()
    yield Shell(tmp_path, hub)
    await hub.stop()


async def test_a_model_is_pulled_listed_shown_and_removed(shell: Shell) -> None:
    code, out, err = await shell.run("models", "pull", REPO)
    assert code == 0, err
    folder = out.splitlines()[0].removeprefix(f"{REPO} is here: ")
    assert out.splitlines()[1] == f"Serve it: naru engine serve {REPO}"
    assert Path(folder).is_relative_to(shell.folder / "hf" / "hub" / "models--Org--Tiny-Chat")
    assert "Licence of Org/Tiny-Chat: mit" in err
    assert "The OpenVINO engine does not read safetensors. Converted: none was found under the usual names." in err
    code, out, _ = await shell.run("models", "pull", REPO)
    assert (code, "was here already, and is whole" in out) == (0, True)

    code, out, _ = await shell.run("models", "list", "--local", "--json")
    (entry,) = [model for model in json.loads(out)["local"] if model["origin"] == "pulled"]
    assert (entry["id"], entry["kind"], entry["weight_bytes"], entry["path"]) == (
        REPO,
        "safetensors",
        models.TENSOR_BYTES,
        folder,
    )
    code, out, _ = await shell.run("models", "list")
    offered, local = out.split("\n\n")
    assert offered.splitlines()[0].split("\t") == ["model", "label", "context", "source", "deployments"]
    assert [REPO, "chat", "safetensors", "0 MB", "40960", folder] in [line.split("\t") for line in local.splitlines()]

    code, out, err = await shell.run("models", "show", REPO)
    shown = json.loads(out)
    assert (shown["id"], shown["task"], shown["engines"], shown["chat_templates"]) == (
        REPO,
        "chat",
        ["transformers"],
        [],
    )
    assert shown["inequality"].startswith("weights 0 MB + KV 4.8 GB (32,768 tokens x 1) + buffers")

    code, out, _ = await shell.run("models", "remove", REPO)
    assert (code, out.startswith(f"{REPO} (commit ")) == (0, True)
    assert not Path(folder).exists()
    code, _, err = await shell.run("models", "remove", REPO)
    assert (code, err) == (5, f"naru: {REPO} was not pulled to this machine. Pulled: none.\n")


async def test_programs_read_json(shell: Shell) -> None:
    """The result on standard output; a line of progress for each file on standard error."""
    code, out, err = await shell.run("models", "pull", REPO, "--json")
    assert code == 0
    result = json.loads(out)
    assert (result["id"], result["license"], result["commit"]) == (REPO, "mit", shell.hub.commit(REPO))
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 3]
    assert lines[-1]["done_bytes"] == lines[-1]["total_bytes"] == result["bytes"]


async def test_a_killed_download_is_continued(shell: Shell) -> None:
    """SIGKILL in the middle; the second run asks for what is missing and for nothing else."""
    weights = shell.hub.root / REPO / WEIGHTS
    write_safetensors(weights, {"a": ("F32", (6000, 1000))})
    shell.hub.faults.hang[WEIGHTS] = STOP  # more than sockets hold: by then some of it is in the file
    process = await shell.start("models", "pull", REPO)
    await shell.hub.server.watch.until(lambda: shell.hub.sent[WEIGHTS] >= STOP)
    process.kill()
    await process.communicate()
    (partial,) = (shell.folder / "hf").rglob("*.naru.incomplete")
    have = partial.stat().st_size
    assert 0 < have <= STOP
    shell.hub.faults.hang.clear()
    shell.hub.sent.clear()
    code, out, err = await shell.run("models", "pull", REPO)
    assert code == 0, err
    assert shell.hub.sent[WEIGHTS] == weights.stat().st_size - have
    assert (Path(out.split(": ")[1].splitlines()[0]) / WEIGHTS).read_bytes() == weights.read_bytes()


async def test_a_custom_licence_has_to_be_accepted(shell: Shell) -> None:
    card = "---\nlicense: other\nlicense_name: hyperclovax-seed\nlicense_link: LICENSE\n---\n"
    (shell.hub.root / REPO / "README.md").write_text(card)
    code, out, err = await shell.run("models", "pull", REPO)
    assert (code, out) == (2, "")
    assert "(hyperclovax-seed (LICENSE)) is not a plain open one: read it, then add --accept-license." in err
    assert shell.hub.sent[WEIGHTS] == 0
    code, _, _ = await shell.run("models", "pull", REPO, "--accept-license")
    assert code == 0


async def test_offline_nothing_is_asked_for(shell: Shell) -> None:
    """What is here is used; what is not is refused; no request leaves the machine."""
    code, _, err = await shell.run("models", "pull", REPO, HF_HUB_OFFLINE="1")
    assert (code, err) == (78, "naru: HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it for this command.\n")
    assert shell.hub.server.requests == 0
    await shell.run("models", "pull", REPO)
    asked = shell.hub.server.requests
    code, out, _ = await shell.run("models", "pull", REPO, HF_HUB_OFFLINE="1")
    assert (code, "is here already; nothing was downloaded" in out) == (0, True)
    assert shell.hub.server.requests == asked


async def test_tokens_and_errors_have_exit_codes(shell: Shell) -> None:
    """A gated model wants HF_TOKEN (4); one that is not there 5; contradictions 2; a Hub in trouble 75."""
    shell.hub.faults.gated.add(REPO)
    shell.hub.faults.tokens.add("hf_good")
    code, _, err = await shell.run("models", "pull", REPO)
    assert code == 4
    assert "is gated: ask for access on its page, then set HF_TOKEN" in err
    code, _, _ = await shell.run("models", "pull", REPO, HF_TOKEN="hf_good")
    assert code == 0
    code, _, err = await shell.run("models", "pull", "Org/Nothing")
    assert (code, "has no model Org/Nothing" in err) == (5, True)
    code, _, err = await shell.run("models", "pull", f"{REPO}@main", "--revision", "v2")
    assert (code, err) == (2, f"naru: {REPO}@main says main and --revision says v2. Leave one of the two out.\n")
    shell.hub.faults.status = 500
    code, _, err = await shell.run("models", "pull", REPO)
    assert (code, "answered with status 500" in err) == (75, True)


async def test_one_gguf_is_chosen_by_name(shell: Shell) -> None:
    for name in ("t-Q4_K_M.gguf", "t-IQ2_S.gguf"):
        models.gguf(shell.hub.root / "Org/Tiny-GGUF" / name)
    (shell.hub.root / "Org/Tiny-GGUF" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    code, out, _ = await shell.run("models", "pull", "Org/Tiny-GGUF", "--file", "t-IQ2_S.gguf")
    assert code == 0
    assert out.endswith("Serve it: naru engine serve Org/Tiny-GGUF:t-IQ2_S.gguf\n")
    assert shell.hub.sent["t-Q4_K_M.gguf"] == 0


async def test_local_models_are_listed_without_a_gateway(shell: Shell) -> None:
    """The gateway of NARU_BASE_URL does not answer: what is on this machine is shown all the same."""
    await shell.run("models", "pull", REPO)
    away = {"NARU_BASE_URL": "http://127.0.0.1:9", "NARU_ADMIN_KEY": "nka-x"}
    code, out, err = await shell.run("models", "list", **away)
    assert code != 0
    assert REPO in out
    assert err.startswith("naru: ")
    code, out, _ = await shell.run("models", "list", "--local", **away)
    assert (code, REPO in out) == (0, True)


async def test_a_broken_local_model_is_listed_with_its_problem(shell: Shell) -> None:
    code, out, _ = await shell.run("models", "pull", REPO, "--json")
    (Path(json.loads(out)["path"]) / WEIGHTS).resolve().write_bytes(b"")
    code, out, _ = await shell.run("models", "list", "--local")
    assert (code, "model.safetensors is empty: the download was cut off" in out) == (0, True)


async def test_tuning_is_checked_before_anything_is_loaded(shell: Shell) -> None:
    """`naru tune lora --check` on a model that is here, and a mistake in the data with its line."""
    await shell.run("models", "pull", REPO)
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data = shell.folder / "data.jsonl"
    data.write_text(json.dumps(good))
    code, out, err = await shell.run("tune", "lora", REPO, "data.jsonl", "--check")
    assert (code, out, err) == (0, f"1 examples, and {REPO} can be trained.\n", "")
    data.write_text(json.dumps(good) + '\n{"messages": []}')
    code, _, err = await shell.run("tune", "lora", REPO, "data.jsonl", "--check")
    assert (code, err) == (2, "naru: data.jsonl cannot be trained on. line 2: 'messages' is no list of messages.\n")
    code, _, err = await shell.run("tune", "lora", "Org/Other", "data.jsonl")
    assert (code, "Run: naru models pull Org/Other" in err) == (78, True)
