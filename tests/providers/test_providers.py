"""Providers are data: each is whole, each quirk is a known field with a reason, and regions answer or explain."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import naru.providers
from naru.errors import ConfigError
from naru.protocol.dialect import Quirks
from naru.providers import load_providers
from naru.providers.base import FOREIGN_FIELDS

FOLDER = Path(naru.providers.__file__).parent
FILES = sorted(file for file in FOLDER.glob("*.py") if file.name not in ("__init__.py", "base.py"))
PROVIDERS = load_providers()
THINKING_STYLES = {
    *("openai_effort", "deepseek", "qwen_toggle", "qwen_effort", "template_kwarg", "openrouter", "none"),
    *("anthropic_adaptive", "anthropic_always", "anthropic_budget", "anthropic_toggle"),
    *("gemini_budget", "gemini_level", "gemini", "clova_effort"),
}

each = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def test_every_file_of_the_folder_is_a_provider_named_after_it() -> None:
    assert [kind.replace("-", "_") for kind in PROVIDERS] == [file.stem for file in FILES]
    assert all(name == provider.kind for name, provider in PROVIDERS.items())


NEEDED = {
    *("openai", "deepseek", "dashscope", "groq", "mistral", "openrouter", "together", "xai", "zai", "huggingface"),
    *(
        "cerebras",
        "vllm",
        "sglang",
        "ollama",
        "lmstudio",
        "llamacpp",
        "foundry_local",
        "custom",
        "holysheep",
        "sandbox",
    ),
}


def test_the_providers_that_documents_promise_are_there() -> None:
    assert PROVIDERS.keys() >= NEEDED


@each
def test_addresses_are_plain_https_or_loopback(provider) -> None:
    for base in provider.hosts.values():
        url = urlsplit(base)
        assert url.scheme == ("http" if provider.is_local else "https"), base
        assert not base.endswith("/")
        is_versionless = provider.kind == "bedrock"
        assert url.path.strip("/") or is_versionless, "the version path belongs to the base URL"
        assert (url.hostname == "127.0.0.1") == provider.is_local
    assert all(path.startswith("/") for path in provider.paths.values())
    assert {"chat", "messages", "generate", "converse", "clova_v3"} & provider.paths.keys()


@each
def test_hosted_providers_say_where_their_key_comes_from(provider) -> None:
    assert bool(provider.env) == (provider.auth not in ("optional_bearer", "none"))
    assert provider.docs.startswith("https://")


@each
def test_every_model_pattern_gives_valid_quirks(provider) -> None:
    for pattern, changes in provider.model_quirks:
        assert changes.keys() <= set(Quirks.__struct_fields__)
        quirks = provider.quirks_for(pattern.replace("*", "x").replace("[", "").replace("]", ""))
        assert quirks.thinking_style in THINKING_STYLES
    assert provider.quirks.thinking_style in THINKING_STYLES
    assert provider.quirks.think_tag in ("inline", "open_implied", "none")


def quirk_lines(file: Path) -> list[tuple[int, str]]:
    """The lines on which a quirk is set: keywords of Quirks(…), keys of dicts that hold its fields."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Quirks":
            found += [(keyword.value.lineno, str(keyword.arg)) for keyword in node.keywords]
        if isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            found += [(node.lineno, name) for name in names if name in Quirks.__struct_fields__]
    return found


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_quirk_has_its_reason_written_above_it(file: Path) -> None:
    """A comment stands over the quirk, or over the first of neighbours that share it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    for line, name in quirk_lines(file):
        above = line - 2
        while above >= 0 and lines[above].strip().startswith(("(", '"')):
            above -= 1
        inside = lines[line].strip() if line < len(lines) else ""
        assert lines[above].strip().startswith("#") or inside.startswith("#"), (
            f"{file.name}:{line}: {name} has no reason"
        )


def test_an_unknown_region_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no region 'kr'; it has sg, cn, us, hk"):
        PROVIDERS["dashscope"].base_url("kr")


@pytest.mark.parametrize(("region", "host"), [("jp", "ap-northeast-1"), ("eu", "eu-central-1")])
def test_regions_with_workspace_hosts_only_say_what_to_write(region: str, host: str) -> None:
    with pytest.raises(ConfigError, match=rf"WorkspaceId.*{host}"):
        PROVIDERS["dashscope"].base_url(region)


def test_the_first_region_is_the_default() -> None:
    assert PROVIDERS["dashscope"].base_url() == "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    assert PROVIDERS["dashscope"].base_url("cn") == "https://dashscope.aliyuncs.com/compatible-mode/v1"
    assert PROVIDERS["holysheep"].base_url() == "https://api.holysheep.ai/v1"


@pytest.mark.parametrize("kind", ["custom", "foundry_local", "sandbox"])
def test_without_a_usual_address_the_error_asks_for_one(kind: str) -> None:
    with pytest.raises(ConfigError, match="give its base_url"):
        PROVIDERS[kind].base_url()


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.4-mini", "GPT-6.1-sol", "o3", "o4-mini-2025-04-16"])
def test_openai_reasoning_series(model: str) -> None:
    quirks = PROVIDERS["openai"].quirks_for(model)
    assert quirks.max_tokens_field == "max_completion_tokens"
    assert quirks.thinking_style == "openai_effort"
    assert quirks.drops >= FOREIGN_FIELDS | {"presence_penalty"}, "a model's drops add to its provider's"


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "text-embedding-3-small", "omni-moderation-latest"])
def test_older_openai_models_keep_what_the_caller_wrote(model: str) -> None:
    quirks = PROVIDERS["openai"].quirks_for(model)
    assert quirks == PROVIDERS["openai"].quirks
    assert quirks.max_tokens_field is None
    assert "top_k" in quirks.drops


def test_deepseek_needs_its_reasoning_back() -> None:
    quirks = PROVIDERS["deepseek"].quirks_for("deepseek-flash")
    assert (quirks.thinking_style, quirks.thinking_replay_field) == ("deepseek", "reasoning_content")
    assert not quirks.has_developer_role
    assert "seed" in quirks.drops


@pytest.mark.parametrize(
    ("model", "is_stream_only"),
    [("qwq-plus", True), ("qwen3-235b-a22b-thinking-2507", True), ("qwen3.8-omni-flash", True), ("qwen-plus", False)],
)
def test_dashscope_models_that_only_stream(model: str, is_stream_only: bool) -> None:
    assert PROVIDERS["dashscope"].quirks_for(model).is_stream_only is is_stream_only


@pytest.mark.parametrize(
    ("model", "style"),
    [
        ("grok-4", "none"),
        ("grok-4-0709", "none"),
        ("grok-3", "none"),
        ("grok-4.20-multi-agent-0309", "none"),
        ("grok-code-fast-1", "none"),
        ("grok-3-mini-fast", "openai_effort"),
        ("grok-4.3", "openai_effort"),
    ],
)
def test_grok_models_that_refuse_an_effort(model: str, style: str) -> None:
    assert PROVIDERS["xai"].quirks_for(model).thinking_style == style


@each
def test_nothing_that_decides_the_answers_form_is_dropped(provider) -> None:
    """Quirks.drops is for what changes no answer; the rest the upstream has to refuse by name."""
    decisive = {"stop", "n", "logprobs", "top_logprobs", "logit_bias", "tools", "tool_choice", "response_format"}
    dropped = provider.quirks.drops.union(*(changes.get("drops", ()) for _, changes in provider.model_quirks))
    assert not dropped & decisive


def test_the_reasoning_field_differs_between_servers() -> None:
    fields = {kind: PROVIDERS[kind].quirks.thinking_field for kind in ("vllm", "sglang", "ollama", "llamacpp")}
    assert fields == {
        "vllm": "reasoning",
        "sglang": "reasoning_content",
        "ollama": "reasoning",
        "llamacpp": "reasoning_content",
    }


def test_loading_providers_imports_nothing_heavy() -> None:
    """Cold start is a promise: data files may not pull in a server, a client or a price list."""
    code = (
        "import sys; from naru.providers import load_providers; load_providers(); "
        "print([name for name in ('asyncio', 'naru.catalog', 'naru.config', 'httptools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
