"""port.Backend on Transformers: the engine's steps in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from naru.engine.hf.engine import Engine, Pieces
from naru.engine.hf.grammar import Grammars
from naru.engine.hf.loading import ids_of, load
from naru.engine.hf.options import Options
from naru.engine.port import Decoding, Deliver, Facts, Load, Piece, Prompt
from naru.engine.vocabulary import Vocabulary

log = structlog.get_logger("naru.engine")

Command = Callable[[Engine], None]


class TransformersBackend:
    """Loads in the caller's thread, which takes as long as the weights do; raises ConfigError."""

    def __init__(self, folder: Path, deliver: Deliver, options: Options | None = None) -> None:
        options = options or Options()
        self._loaded = load(folder, options)
        facts = self._loaded.facts
        self._grammars = Grammars(self._loaded.tokenizer, self._loaded.vocabulary_size, facts.end_ids)
        self._engine = Engine(self._loaded, self._grammars, options)
        self._deliver = deliver
        self._load = Load()
        self._changed = threading.Condition()
        self._inbox: list[Command] = []
        self._is_closing = False
        # A large schema takes seconds to compile; meanwhile the others write on.
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="naru-grammar")
        self._thread = threading.Thread(target=self._run, name="naru-transformers", daemon=True)
        self._thread.start()

    @property
    def facts(self) -> Facts:
        return self._loaded.facts

    @property
    def vocabulary(self) -> Vocabulary:
        return self._loaded.vocabulary

    def encode(self, text: str) -> list[int]:
        return ids_of(self._loaded.tokenizer, text)

    def start(self, number: int, prompt: Prompt, decoding: Decoding) -> None:
        compiled: Future[Any] | None = None
        if decoding.grammar is not None and not self._is_closing:
            compiled = self._compiler.submit(self._grammars.compile, decoding.grammar)
            compiled.add_done_callback(lambda _: self._wake())
        if not self._post(lambda engine: engine.start(number, prompt, decoding, compiled)):
            self._tell([(number, _closing())])

    def cancel(self, number: int) -> None:
        self._post(lambda engine: engine.cancel(number))

    def load(self) -> Load:
        return self._load

    def close(self) -> None:
        """Returns when the step under way is done and what was open has been told. May be called again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()
        self._compiler.shutdown(wait=False, cancel_futures=True)

    def _post(self, command: Command) -> bool:
        """False once the engine is closing: nobody would read it."""
        with self._changed:
            if self._is_closing:
                return False
            self._inbox.append(command)
            self._changed.notify()
            return True

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while self._take():
            pieces = self._step()
            self._load = self._engine.load
            self._tell(pieces)
        self._tell(
            [(number, Piece(ending="error", error="The engine is closing.")) for number in self._engine.abandon()]
        )

    def _take(self) -> bool:
        """Waits for something to do; False when the end has come."""
        with self._changed:
            while not (self._inbox or self._engine.has_work or self._is_closing):
                self._changed.wait()
            commands, self._inbox = self._inbox, []
        for command in commands:
            command(self._engine)
        return not self._is_closing

    def _step(self) -> Pieces:
        try:
            return self._engine.step()
        except Exception as error:  # a bug of ours; nobody may wait for ever because of it
            log.exception("a step of the engine failed")
            sentence = f"The engine failed: {error}"
            return [(number, Piece(ending="error", error=sentence)) for number in self._engine.abandon()]

    def _tell(self, pieces: Pieces) -> None:
        if not pieces:
            return
        try:
            self._deliver(pieces)
        except Exception:  # the receiver's own failure must not end the model's thread
            log.exception("what the engine wrote could not be delivered")


def _closing() -> Piece:
    return Piece(ending="error", error="The engine is closing.")
