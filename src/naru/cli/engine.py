"""naru engine serve MODEL: one local model, in a process of its own, over OpenAI's HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import stat
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import click
import msgspec
import structlog
import uvicorn
import uvloop
from msgspec import Struct

from naru import config, log
from naru.catalog.hardware import bytes_of
from naru.cli.exits import OK
from naru.clock import SystemClock
from naru.engine.answers import LoopPost, Switchboard
from naru.engine.files import ModelFiles, resolve
from naru.engine.model import Model
from naru.engine.opening import ENGINES, Precision, Quant, Wanted, open_model
from naru.engine.worker import HOT, Worker
from naru.errors import ConfigError
from naru.machine import free_bytes
from naru.transport.fast import fast_protocol
from naru.transport.server import Server, Waits, listen

MAX_BODY_BYTES = 64 << 20
#: Open answers may go on for so long after SIGTERM.
DRAIN_S = 5.0
KEEP_ALIVE_S = 3600


class Given(Struct, frozen=True):
    """The options, as click hands them over."""

    host: str
    port: int
    engine: str
    device: str
    context: int
    max_streams: int
    cache_gb: float
    names: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    socket_path: Path | None = None
    quant: Quant | None = None
    precision: Precision | None = None
    memory: str | None = None
    home: Path | None = None


@click.group("engine")
def command() -> None:
    """Run local models."""


@command.command("serve")
@click.argument("model")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8001, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--socket", "socket_path", type=click.Path(path_type=Path), help="A Unix socket to listen on instead.")
@click.option("--name", "names", multiple=True, help="The model's name in requests; may be given several times.")
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto", show_default=True)
@click.option("--device", default="CPU", show_default=True, help="CPU, GPU, NPU (OpenVINO); CPU, CUDA (Transformers).")
@click.option(
    "--context", type=int, default=0, help="Tokens of prompt and answer.  [default: the model's, at most 8192]"
)
@click.option("--max-streams", type=click.IntRange(1, 1024), default=16, show_default=True, help="Answers at once.")
@click.option("--cache-gb", type=float, default=0.0, help="Memory of the KV cache.  [default: as it is needed]")
@click.option("--quant", type=click.Choice(["8bit", "4bit"]), help="Quantise at load (Transformers).")
@click.option(
    "--precision", type=click.Choice(["f32", "bf16"]), help="Arithmetic.  [default: as the device does it best]"
)
@click.option("--adapter", "adapters", multiple=True, metavar="NAME=PATH", help="A LoRA adapter, served as MODEL:NAME.")
@click.option("--memory", help="Memory that it may take, such as 8GiB.  [default: what is free]")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="NARU_HOME, where pulled models are.")
def serve(model: str, **options: object) -> int:
    """Serve MODEL: naru-demo, a pulled model such as Qwen/Qwen3-0.6B, a folder, or a .gguf file.

    It answers /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank and /v1/models as OpenAI does, without keys:
    keys, limits and money are the gateway's. A gateway starts engines by itself ([engines.x] in naru.toml).

    Exit code 78: these files or options will never work; the last line says why.
    """
    given = msgspec.convert(options, type=Given)
    settings = config.settings_of_process(None, {"home": given.home})
    log.configure(settings.log_level)
    files = resolve(model, settings.home)
    wanted = Wanted(
        engine=given.engine,
        device=given.device,
        context=given.context,
        max_streams=given.max_streams,
        cache_gib=given.cache_gb,
        quant=given.quant or "",
        precision=given.precision or "",
        adapters=_adapters(given.adapters),
        names=given.names or (files.name,),
    )
    listener = _listen(given.socket_path, given.host, given.port)
    memory_bytes = bytes_of(given.memory, "--memory") if given.memory else free_bytes()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(files, wanted, listener, memory_bytes))


async def run(files: ModelFiles, wanted: Wanted, listener: socket.socket, memory_bytes: int) -> int:
    """Everything between a bound socket and the exit code."""
    loop = asyncio.get_running_loop()
    board = Switchboard(LoopPost(loop))
    began = loop.time()
    model = await asyncio.to_thread(open_model, files, wanted, board, datetime.now, memory_bytes)
    worker = Worker(wanted.names, model, board, SystemClock(), random.SystemRandom())
    gc.collect()
    gc.freeze()
    server = Server(
        uvicorn.Config(
            worker.web(),
            http=fast_protocol(worker.serve, frozenset(path.encode() for path in HOT), MAX_BODY_BYTES),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        ),
        waits=Waits(0, DRAIN_S),
        on_drain=lambda: None,
        on_cut=lambda: None,
        on_started=lambda: _announce(worker, listener, loop.time() - began),
    )
    end_with_parent(lambda: server.handle_exit(signal.SIGTERM, None))
    try:
        await server.serve(sockets=[listener])
    finally:
        if isinstance(model, Model):
            await asyncio.to_thread(model.backend.close)
    return server.exit_code or OK


def end_with_parent(end: Callable[[], None]) -> None:
    """A gateway keeps a pipe to us open; when it is gone, however it went, the pipe ends, and so do we."""
    descriptor = sys.stdin.fileno() if sys.stdin is not None else -1
    # libuv, and so uvloop, makes pipes to children of sockets.
    kind = os.fstat(descriptor).st_mode if descriptor >= 0 else 0
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            end()

    loop.add_reader(descriptor, readable)


def _listen(path: Path | None, host: str, port: int) -> socket.socket:
    if path is None:
        return listen(host, port)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {path}: {error.strerror or error}. Choose another with --socket."
        ) from error
    finally:
        os.umask(before)
    return made


def _adapters(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not name or not equals or not path or ":" in name:
            raise ConfigError(f"--adapter {each}: write it as NAME=PATH; the name holds no colon.")
        found[name] = path
    return found


def _announce(worker: Worker, listener: socket.socket, took_s: float) -> None:
    model = worker.model
    engine = f"{model.backend.facts.library} on {model.backend.facts.device}" if isinstance(model, Model) else ""
    at = listener.getsockname()
    where = at if isinstance(at, str) else f"http://{at[0]}:{at[1]}/v1"
    structlog.get_logger("naru.engine").info(
        "the engine answers", models=", ".join(worker.served), at=where, engine=engine, loaded_in_s=round(took_s, 2)
    )
