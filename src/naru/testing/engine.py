"""A local engine without a model, as a program: it takes the place of `naru engine serve` or of vLLM where processes are the
matter. Standard library only, so that it starts at once.

    python -m naru.testing.engine engine serve MODEL --socket PATH          like Naru's own worker
    python -m naru.testing.engine serve MODEL --host 127.0.0.1 --port P     like vLLM

It repeats the last user text word by word. Switches of its own come after: see `switches`. Other flags are taken and ignored.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Of sysexits.h: with these settings, never.
EX_CONFIG = 78


def switches() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("words", nargs="*", help="engine, serve, and the model")
    parser.add_argument("--socket", default="", help="path of the Unix socket to listen on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--note", default="", help="file that gets a line with the process id at each start")
    parser.add_argument("--asked", default="", help="file that gets the path of each request")
    parser.add_argument("--says", default="", help="a line for standard error at the start")
    parser.add_argument("--exit", type=int, default=None, help="end with this code at the start")
    parser.add_argument("--never", default="", help="end with code 78 and this sentence at the start")
    parser.add_argument("--ready-file", default="", help="not ready before this file is there")
    parser.add_argument("--ballast-mb", type=int, default=0, help="memory to hold, in MB")
    parser.add_argument("--die-after", type=int, default=0, help="end without an answer at the request after so many")
    parser.add_argument("--die-at", default="", help="end without an answer at a request with this word")
    parser.add_argument(
        "--hang-after", type=int, default=0, help="a stream stops, but does not end, after so many words"
    )
    parser.add_argument("--ignore-term", action="store_true", help="SIGTERM does nothing")
    parser.add_argument("--ignore-stdin", action="store_true", help="goes on when standard input ends")
    return parser


class Engine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model = args.words[-1] if args.words else ""
        self.ballast = bytearray(os.urandom(1024) * 1024 * args.ballast_mb)
        self.served = 0
        self.lock = threading.Lock()
        self.address_family = socket.AF_UNIX if args.socket else socket.AF_INET
        super().__init__(args.socket or (args.host, args.port), Handler)

    def server_bind(self) -> None:
        if not self.args.socket:
            super().server_bind()
            return
        mask = os.umask(0o177)
        self.socket.bind(self.args.socket)
        os.umask(mask)
        self.server_name, self.server_port = "localhost", 0

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        return connection, address or ("local", 0)

    def count(self) -> None:
        """Of requests for answers. The one too many kills the process, as a native library does."""
        with self.lock:
            self.served += 1
            if self.args.die_after and self.served > self.args.die_after:
                os.abort()

    @property
    def is_ready(self) -> bool:
        return not self.args.ready_file or Path(self.args.ready_file).exists()


class Handler(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: what an engine says is a test's own business."""

    def do_GET(self) -> None:
        self._note()
        if self.path == "/health":
            is_ready = self.server.is_ready
            self._answer(200 if is_ready else 503, {"status": "ok" if is_ready else "loading"})
        elif self.path == "/metrics":
            text = (
                "naru_engine_requests_running 0\nnaru_engine_requests_waiting 0\nnaru_engine_kv_cache_usage_ratio 0\n"
            )
            self._send(200, "text/plain", text.encode())
        else:
            self._answer(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})

    def do_POST(self) -> None:
        self._note()
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._answer(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})
            return
        self.server.count()
        words = str(body["messages"][-1]["content"]).split()
        if self.server.args.die_at in words:
            os.abort()
        usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
        if body.get("stream"):
            self._stream(body["model"], words, usage)
        else:
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer(200, self._shape("chat.completion", body["model"], [choice], usage))

    def _stream(self, model: str, words: list[str], usage: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for place, word in enumerate(words):
            if self.server.args.hang_after and place == self.server.args.hang_after:
                threading.Event().wait()
            delta = {"role": "assistant", "content": word + " "}
            self._event(self._shape("chat.completion.chunk", model, [{"index": 0, "delta": delta}]))
        done = {"index": 0, "delta": {}, "finish_reason": "stop"}
        self._event(self._shape("chat.completion.chunk", model, [done]))
        self._event(self._shape("chat.completion.chunk", model, [], usage))
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _shape(self, kind: str, model: str, choices: list[Any], usage: dict[str, int] | None = None) -> dict[str, Any]:
        return {"id": "chatcmpl-test", "object": kind, "created": 0, "model": model, "choices": choices, "usage": usage}

    def _event(self, value: object) -> None:
        self._chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _answer(self, status: int, value: object) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        _append(self.server.args.asked, self.path)


def _append(file: str, line: str) -> None:
    if file:
        with Path(file).open("a") as notes:
            notes.write(f"{line}\n")


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> None:
    args, _ = switches().parse_known_args()
    _append(args.note, str(os.getpid()))
    if args.says:
        sys.stderr.write(f"{args.says}\n")
    if args.never:
        sys.stderr.write(f"{args.never}\n")
        sys.exit(EX_CONFIG)
    if args.exit is not None:
        sys.exit(args.exit)
    if args.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not args.ignore_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    Engine(args).serve_forever(poll_interval=60)


if __name__ == "__main__":
    main()
