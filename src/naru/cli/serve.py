"""naru serve"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shlex
import signal
import socket
import sys
from pathlib import Path

import click
import structlog
import uvicorn
import uvloop

from naru import __version__, config, log
from naru.app import App
from naru.cli.exits import OK
from naru.endpoints import HOT
from naru.errors import ConfigError
from naru.transport.fast import fast_protocol
from naru.transport.server import Server, Waits, listen

#: Longer than the idle time of usual load balancers and clients (60 s), so that they close first.
KEEP_ALIVE_S = 75
#: Requests make few cycles; collecting every 700 allocations costs a tenth of the CPU.
GC_THRESHOLDS = (20_000, 20, 50)
TRY_MODELS = ("naru-demo", "sandbox/echo")
TRY_TEXT = "안녕하세요!"


@click.command("serve")
@click.option("--config", "config_path", type=click.Path(dir_okay=False, path_type=Path), help="naru.toml to use.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 picks a free one.  [default: 8000]")
@click.option("--workers", type=int, help="Processes.  [default: 1]")
def command(config_path: Path | None, host: str | None, port: int | None, workers: int | None) -> int:
    """Run the gateway until SIGTERM or Ctrl-C, then let open streams finish.

    naru.toml is read again when it is saved and on SIGHUP; a file with a mistake changes nothing.
    """

    def load(path: Path | None) -> config.Settings:
        return config.settings_of_process(path, {"host": host, "port": port, "workers": workers})

    settings = load(config_path)
    if settings.server.workers > 1:
        raise ConfigError(
            "server.workers: SQLite has one writer, so this version runs one process. Start further gateways with a NARU_HOME "
            "each, or leave workers at 1."
        )
    log.configure(settings.log_level)
    listener = listen(settings.server.host, settings.server.port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(App(settings, load=load), listener))


async def run(app: App, listener: socket.socket) -> int:
    """Everything between a bound socket and the exit code."""
    await app.start()
    settle_memory()
    await app.open_control()
    app.run_engines()
    server = Server(
        uvicorn.Config(
            app,
            http=fast_protocol(app.serve, frozenset(path.encode() for path in HOT), app.settings.server.max_body_bytes),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        ),
        waits=waits_of(app.settings),
        on_drain=app.drain,
        on_cut=app.cut_streams,
        on_started=lambda: announce(app, listener),
    )
    app.on_taken = lambda settings: setattr(server, "waits", waits_of(settings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up, app, server, has_terminal())
    app.watch()
    try:
        await server.serve(sockets=[listener])
    finally:
        await app.stop()
    structlog.get_logger("naru").info("stopped", exit_code=server.exit_code)
    return server.exit_code or OK


def waits_of(settings: config.Settings) -> Waits:
    return Waits(settings.server.pre_stop_s, settings.server.drain_s)


def hung_up(app: App, server: Server, had_terminal: bool) -> None:
    """SIGHUP. A closing terminal is a wish to stop, and streams may finish then too; anybody else wants a reload."""
    if had_terminal and not has_terminal():
        server.handle_exit(signal.SIGTERM, None)
    else:
        app.reload("signal")


def has_terminal() -> bool:
    """Whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def settle_memory() -> None:
    """What was made at start stays: it is taken out of the collector's sight, which then runs for cycles of requests only."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def announce(app: App, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    base_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    lines = [f"Naru {__version__} listens on {base_url}"]
    if app.settings.source:
        lines.append(f"Configuration: {app.settings.source}")
    providers = [name for name in app.settings.providers if name != "sandbox"]
    if providers:
        lines.append(f"Providers: {', '.join(providers)}")
    elif not app.settings.engines:
        lines.append("No provider is configured yet: only sandbox/… models answer. `naru check` says how to add one.")
    if app.settings.engines:
        models = (f"{engine.model_name} ({name})" for name, engine in app.settings.engines.items())
        lines.append(f"Local engines: {', '.join(models)}")
    lines.append(
        f"NARU_HOME: {app.settings.home}   (other commands: NARU_HOME={app.settings.home} {sys.argv[0]} keys list)"
    )
    lines.append("")
    keys = app.first_keys
    if keys is None:
        lines += [
            f"OpenAI clients: base_url = {base_url}/v1 and one of your keys (`naru keys list`, `naru keys create NAME`)."
        ]
    else:
        served = {name for engine in app.settings.engines.values() for name in engine.served}
        model = next((name for name in TRY_MODELS if name in served), TRY_MODELS[-1])
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": TRY_TEXT}]}, ensure_ascii=False)
        lines += [
            "First start. These two keys are shown only now; Naru keeps digests.",
            f"  admin key  {keys.admin}",
            f"  your key   {keys.caller}",
            "",
            "Try it:",
            f"  curl {base_url}/v1/chat/completions \\",
            f'    -H "Authorization: Bearer {keys.caller}" -H "Content-Type: application/json" \\',
            f"    -d {shlex.quote(body)}",
            "",
            f"OpenAI clients: base_url = {base_url}/v1, api_key = your key.",
        ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
