"""From an engine's settings to the command that runs it. Pure: nothing is looked up on the machine.

Sources of the flags: vLLM docs, cli/serve and features/lora; SGLang docs, advanced_features/server_arguments and lora; llama.cpp,
tools/server/README.md; Ollama, envconfig/config.go and docs/faq. reference/local_serving.md 3 and reference/providers.md A7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from naru.config import EngineSettings
from naru.engines.families import Parsers, parsers_of
from naru.transport.connect import EngineAddress

#: Ends with its group when standard input does, that is with the gateway, for servers that do not look. The shell becomes the
#: server, so its process id, signals and exit code are the server's own; the watcher stays behind it.
GUARD = (
    "sh",
    "-c",
    'exec 3<&0; (trap "" TERM; cat <&3; kill -s TERM 0; sleep 5; kill -s KILL 0) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null',
    "sh",
)
#: llama-server's slots, where nobody says how many (its README).
LLAMA_SLOTS = 4


class Command(Struct, frozen=True):
    """`argv[0]` is a path, or a name to be found on PATH. `env` is added to the environment. `ready_path` answers 200 once it is
    ready. `warm_up` is the body of a first request, after which it is called ready; b"": it warms up itself. `ends_by_itself`:
    it ends when its standard input does."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready_path: str
    warm_up: bytes
    ends_by_itself: bool

    @property
    def guarded(self) -> tuple[str, ...]:
        """What to run so that it never outlives the gateway."""
        return self.argv if self.ends_by_itself else (*GUARD, *self.argv)


class Site(Struct, frozen=True):
    """Where engines run. `worker` starts Naru's own; `folder` is what relative paths begin at, that of naru.toml."""

    worker: tuple[str, ...]
    home: Path
    folder: Path


def command_for(settings: EngineSettings, site: Site, address: EngineAddress) -> Command:
    """Naru's own worker listens on a Unix socket, every other server on a port of 127.0.0.1."""
    argv, env = _MAKERS[settings.provider_kind](settings, site, address)
    is_own = settings.provider_kind == "engine"
    return Command(
        argv=(*argv, *settings.args),
        env=env | {name: text.reveal() for name, text in settings.env.items()},
        # Ollama has no /health; its version is there at once (docs/api)
        ready_path="/api/version" if settings.engine == "ollama" else "/health",
        warm_up=b"" if is_own else _first_request(settings.model_name),
        ends_by_itself=is_own,
    )


def program_of(settings: EngineSettings, folder: Path) -> str:
    """What has to be there, "" for Naru's own worker: a path, or a name on PATH. Relative paths begin at `folder`."""
    return located(settings.command, folder) or _PROGRAMS[settings.provider_kind]


_PROGRAMS = {"engine": "", "vllm": "vllm", "sglang": "python3", "llamacpp": "llama-server", "ollama": "ollama"}

Made = tuple[list[str], dict[str, str]]


def _worker(settings: EngineSettings, site: Site, address: EngineAddress) -> Made:
    own = (program_of(settings, site.folder), "engine", "serve") if settings.command else site.worker
    argv = [*own, located(settings.model, site.folder), "--socket", str(address), "--home", str(site.home)]
    argv += ["--engine", settings.engine]
    argv += _flag("--device", settings.device) + _flag("--context", settings.context)
    argv += _flag("--max-streams", settings.max_streams) + _flag("--cache-gb", settings.cache_gb)
    argv += _flag("--quant", settings.quant)
    for name, place in settings.adapters.items():
        argv += ["--adapter", f"{name}={located(place, site.folder)}"]
    for name in dict.fromkeys((settings.model_name, *settings.names)):
        argv += ["--name", name]
    return argv, {}


def _vllm(settings: EngineSettings, site: Site, address: EngineAddress) -> Made:
    argv = [program_of(settings, site.folder), "serve", located(settings.model, site.folder), *_listening(address)]
    argv += ["--served-model-name", *dict.fromkeys((settings.model_name, *settings.names))]
    argv += _flag("--max-model-len", settings.context) + _flag("--max-num-seqs", settings.max_streams)
    parsers = parsers_of(settings.model)[0]
    if parsers.tools and not _has(settings, "--tool-call-parser"):
        argv.append("--enable-auto-tool-choice")  # without it a parser is not used (docs, features/tool_calling)
    argv += _parsers(settings, parsers)
    if settings.adapters:
        # An adapter is a model of its own there: it gets the whole name that is asked for.
        named = {f"{settings.model_name}:{name}": place for name, place in settings.adapters.items()}
        argv += ["--enable-lora", "--lora-modules", *_pairs(named.items(), site)]
    return argv, {}


def _sglang(settings: EngineSettings, site: Site, address: EngineAddress) -> Made:
    argv = [
        program_of(settings, site.folder),
        "-m",
        "sglang.launch_server",
        "--model-path",
        located(settings.model, site.folder),
    ]
    # One name only; others are the gateway's. `name:adapter` is SGLang's own form (docs, openai_api_completions).
    argv += [*_listening(address), "--served-model-name", settings.model_name]
    argv += _flag("--context-length", settings.context) + _flag("--max-running-requests", settings.max_streams)
    argv += _flag("--device", settings.device) + _parsers(settings, parsers_of(settings.model)[1])
    argv.append("--enable-metrics")  # off without it (docs, references/production_metrics)
    if settings.adapters:
        argv += ["--enable-lora", "--lora-paths", *_pairs(settings.adapters.items(), site)]
    return argv, {}


def _llamacpp(settings: EngineSettings, site: Site, address: EngineAddress) -> Made:
    is_file = settings.model.lower().endswith(".gguf")
    source = ["-m", located(settings.model, site.folder)] if is_file else ["-hf", settings.model]
    argv = [program_of(settings, site.folder), *source, "--alias", settings.model_name, *_listening(address)]
    argv += ["--jinja", "--metrics"]  # tools need the first, load figures the second
    argv += _flag("--device", settings.device) + _flag("--parallel", settings.max_streams)
    if settings.context is not None:
        # -c is for all slots together (README: the context is divided among them)
        argv += ["-c", str(settings.context * (settings.max_streams or LLAMA_SLOTS))]
        argv += [] if settings.max_streams else ["--parallel", str(LLAMA_SLOTS)]
    return argv, {}


def _ollama(settings: EngineSettings, site: Site, address: EngineAddress) -> Made:
    env = {"OLLAMA_HOST": ":".join(_host_and_port(address))}
    if settings.context is not None:
        env["OLLAMA_CONTEXT_LENGTH"] = str(settings.context)
    if settings.max_streams is not None:
        env["OLLAMA_NUM_PARALLEL"] = str(settings.max_streams)
    env["OLLAMA_KEEP_ALIVE"] = "-1"  # when it may go, idle_s says
    return [program_of(settings, site.folder), "serve"], env


_MAKERS: Mapping[str, Callable[[EngineSettings, Site, EngineAddress], Made]] = {
    "engine": _worker,
    "vllm": _vllm,
    "sglang": _sglang,
    "llamacpp": _llamacpp,
    "ollama": _ollama,
}


def _flag(name: str, value: object) -> list[str]:
    return [] if value is None or value == "" else [name, str(value)]


def _listening(address: EngineAddress) -> list[str]:
    host, port = _host_and_port(address)
    return ["--host", host, "--port", port]


def _host_and_port(address: EngineAddress) -> tuple[str, str]:
    assert not isinstance(address, str), "only Naru's own worker listens on a Unix socket"
    return address[0], str(address[1])


def _pairs(adapters: Iterable[tuple[str, str]], site: Site) -> list[str]:
    return [f"{name}={located(place, site.folder)}" for name, place in adapters]


def _has(settings: EngineSettings, flag: str) -> bool:
    return any(arg.partition("=")[0] == flag for arg in settings.args)


def _parsers(settings: EngineSettings, parsers: Parsers) -> list[str]:
    """The operator's own word comes before what is known of the family."""
    known = {"--tool-call-parser": parsers.tools, "--reasoning-parser": parsers.reasoning}
    return [part for flag, name in known.items() if not _has(settings, flag) for part in _flag(flag, name)]


def located(text: str, folder: Path) -> str:
    """A path that begins with ~ or ./ or ../ as a whole one; everything else is a name, or whole already."""
    if text.startswith("~"):
        return str(Path(text).expanduser())
    return str((folder / text).resolve()) if text.startswith(("./", "../")) else text


def _first_request(model: str) -> bytes:
    """As small as it can be."""
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
