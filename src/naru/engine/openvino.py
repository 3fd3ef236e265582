"""The default engine: openvino-genai's continuous batching, driven by one thread of ours.

`step` computes one token for every running request, and holds Python's lock meanwhile (2026.4); between steps this thread takes
what was asked for, hands out what came, all in one call, and so lets others come to their turn. Prefix caching and batching
are the library's own.
"""

from __future__ import annotations

import importlib
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from naru.engine.openvino_grammar import Trial, structured
from naru.engine.port import Decoding, Deliver, Facts, Load, Piece, Prompt, TokenLogprobs
from naru.engine.vocabulary import Vocabulary
from naru.errors import ConfigError

log = structlog.get_logger("naru.engine")

#: Prompt tokens computed in one step: more would hold up the answers that run beside it.
STEP_TOKENS = 512


class Options(Struct, frozen=True):
    """`cache_gib`: KV memory, in whole GiB. `properties` are the device's, as OpenVINO names them."""

    context: int
    end_ids: frozenset[int]
    device: str = "CPU"
    max_streams: int = 16
    cache_gib: float = 1.0
    takes_images: bool = False
    properties: dict[str, Any] = {}


class _Waiting(Struct):
    number: int
    prompt: Prompt
    decoding: Decoding


class _Running:
    __slots__ = ("decoding", "handle")

    def __init__(self, handle: Any, decoding: Decoding) -> None:
        self.handle = handle
        self.decoding = decoding


class OpenVinoBackend:
    """See port.Backend. `path` is a folder with openvino_model.xml, or a .gguf file. Raises ConfigError."""

    def __init__(self, path: Path, deliver: Deliver, options: Options) -> None:
        self._genai = library()
        self._deliver = deliver
        self._options = options
        self._path = path
        self._trial = Trial(self._genai)
        self._pipe = self._open(path)
        self._tokenizer = self._pipe.get_tokenizer()
        self._lock = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._cancelled: set[int] = set()
        self._running: dict[int, _Running] = {}
        self._is_closing = False
        self._ended = ""  # why nothing more is computed
        with clear_errors(path):
            self._vocabulary = Vocabulary.of_pieces(self._token_bytes(), self._decode)
        self._facts = Facts(
            library=f"openvino-genai {self._genai.__version__.split('-')[0]}",
            device=options.device,
            context=options.context,
            end_ids=options.end_ids or frozenset({int(self._tokenizer.get_eos_token_id())}),
            takes_images=options.takes_images,
            template=str(self._tokenizer.get_original_chat_template()) if path.is_file() else "",
        )
        self._thread = threading.Thread(target=self._run, name="openvino", daemon=True)
        self._thread.start()

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def encode(self, text: str) -> list[int]:
        found = self._tokenizer.encode(text, add_special_tokens=False).input_ids.data
        return [int(token) for token in found.flatten()]

    def start(self, number: int, prompt: Prompt, decoding: Decoding) -> None:
        with self._lock:
            if not self._ended:
                self._waiting.append(_Waiting(number, prompt, decoding))
                self._lock.notify()
                return
        self._deliver([(number, Piece(ending="error", error=self._ended))])

    def cancel(self, number: int) -> None:
        with self._lock:
            self._cancelled.add(number)
            self._lock.notify()

    def load(self) -> Load:
        metrics = self._pipe.get_metrics()
        running = min(int(metrics.scheduled_requests), len(self._running))
        return Load(running, len(self._running) - running + len(self._waiting), float(metrics.cache_usage) / 100)

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._lock.notify()
        self._thread.join()

    # --- The thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Whatever ends the thread, nobody waits for ever because of it."""
        try:
            self._loop()
        except Exception as error:
            log.exception("the OpenVINO engine's thread failed")
            self._end_all(f"The engine failed and has to be started again: {reason_of(error)}")

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not (self._waiting or self._cancelled or self._running or self._is_closing):
                    self._lock.wait()
                if self._is_closing:
                    break
                waiting, self._waiting = self._waiting, []
                cancelled, self._cancelled = self._cancelled, set()
            pieces = self._take(waiting, cancelled) + self._step()
            self._deliver(pieces)  # none, too: whoever hears it comes to his turn
        for running in self._running.values():
            running.handle.cancel()
        self._end_all("The engine was stopped.")

    def _take(self, waiting: Sequence[_Waiting], cancelled: set[int]) -> list[tuple[int, Piece]]:
        failed: list[tuple[int, Piece]] = []
        for each in waiting:
            if each.number in cancelled:
                continue
            try:
                self._running[each.number] = _Running(self._add(each), each.decoding)
            except (RuntimeError, ValueError, OSError) as error:  # Pillow's for what is no picture is an OSError
                failed.append((each.number, Piece(ending="error", error=reason_of(error), is_callers=True)))
        for number in cancelled:
            running = self._running.pop(number, None)
            if running is not None:
                running.handle.cancel()
        return failed

    def _add(self, asked: _Waiting) -> Any:
        if asked.decoding.grammar is not None:
            self._trial.check(asked.decoding.grammar)
        config, prompt = self._config(asked.decoding), asked.prompt
        if prompt.images:
            images = [_tensor_of(image) for image in prompt.images]
            config.apply_chat_template = False
            return self._pipe.add_request(asked.number, prompt.text, images, config)
        openvino, numpy = importlib.import_module("openvino"), importlib.import_module("numpy")
        ids = openvino.Tensor(numpy.array([prompt.ids], dtype=numpy.int64))
        return self._pipe.add_request(asked.number, ids, config)

    def _step(self) -> list[tuple[int, Piece]]:
        if not self._pipe.has_non_finished_requests():
            return self._read()
        try:
            self._pipe.step()
        except RuntimeError as error:
            return self._begin_anew(reason_of(error))
        return self._read()

    def _begin_anew(self, why: str) -> list[tuple[int, Piece]]:
        """A failed step belongs to no one request, and leaves a pipeline that cannot be used any more (2026.4): all that ran
        ends, and the model is loaded again."""
        self._deliver([(number, Piece(ending="error", error=why)) for number in self._running])
        self._running.clear()
        self._pipe = self._open(self._path)
        return []

    def _read(self) -> list[tuple[int, Piece]]:
        pieces = []
        for number, running in list(self._running.items()):
            piece = self._piece(running)
            if piece is not None:
                pieces.append((number, piece))
                if piece.ending:
                    del self._running[number]
        return pieces

    def _piece(self, running: _Running) -> Piece | None:
        handle = running.handle
        ids: list[int] = []
        logprobs: list[float] = []
        reason: Any = None
        while handle.can_read():
            for output in handle.read().values():
                ids += output.generated_ids
                logprobs += output.generated_log_probs
                reason = output.finish_reason
        status = handle.get_status().name
        if status in ("IGNORED", "CANCEL", "STOP"):
            return Piece(
                ids, ending="error", error="The KV memory has no room for this request; use a larger cache_gb."
            )
        if reason is None:
            return None
        ending = {"STOP": "stop", "LENGTH": "length"}.get(reason.name, "")
        if ids and ids[-1] in self._facts.end_ids and ending:
            ids = ids[:-1]
        told = [TokenLogprobs(value) for value in logprobs[: len(ids)]] if running.decoding.logprobs is not None else []
        return Piece(ids, told, ending)  # type: ignore[arg-type]  # one of Ending's

    def _end_all(self, why: str) -> None:
        with self._lock:
            self._ended = why
            numbers = [*self._running, *(each.number for each in self._waiting)]
            self._running.clear()
            self._waiting.clear()
        if numbers:
            self._deliver([(number, Piece(ending="error", error=why)) for number in numbers])

    # --- The library's own objects ----------------------------------------------------------------------------------

    def _open(self, path: Path) -> Any:
        options = self._options
        scheduler = self._genai.SchedulerConfig()
        scheduler.cache_size = math.ceil(options.cache_gib)  # the library counts whole GiB
        scheduler.max_num_seqs = options.max_streams
        scheduler.max_num_batched_tokens = STEP_TOKENS
        scheduler.dynamic_split_fuse = True
        scheduler.enable_prefix_caching = True
        properties = dict(options.properties)
        with clear_errors(path):
            return self._genai.ContinuousBatchingPipeline(str(path), scheduler, options.device, properties)

    def _config(self, decoding: Decoding) -> Any:
        config = self._genai.GenerationConfig()
        config.max_new_tokens = decoding.max_tokens
        config.ignore_eos = decoding.ignores_end
        if not decoding.ignores_end:
            config.stop_token_ids = set(self._facts.end_ids)
        config.do_sample = decoding.temperature > 0
        if config.do_sample:
            config.temperature = decoding.temperature
            config.top_p = decoding.top_p
            config.top_k = decoding.top_k or _ALL
            config.min_p = decoding.min_p
            config.rng_seed = _seed(decoding.seed)
        config.presence_penalty = decoding.presence_penalty
        config.frequency_penalty = decoding.frequency_penalty
        config.repetition_penalty = decoding.repetition_penalty
        config.logprobs = 0 if decoding.logprobs is None else 1
        if decoding.grammar is not None:
            config.structured_output_config = structured(self._genai, decoding.grammar)
        return config

    def _token_bytes(self) -> list[bytes]:
        """By id. Tokens that stand for the same bytes are one entry in the library's table; the others are decoded."""
        table = self._tokenizer.get_vocab()
        by_id = {int(number): bytes(piece) for piece, number in table.items()}
        return [by_id[n] if n in by_id else self._decode([n]).encode() for n in range(max(by_id, default=-1) + 1)]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


#: top_k that lets all tokens through: the library's own default.
_ALL = 2**64 - 1


def library() -> Any:
    """openvino_genai, an optional dependency. Raises ConfigError."""
    try:
        return importlib.import_module("openvino_genai")
    except ImportError as error:
        raise ConfigError(f"The OpenVINO engine needs another package: pip install 'naru[local]' ({error}).") from error


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """What the library says of files that it cannot load, in one line and with the path."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"OpenVINO cannot load {path}: {reason_of(error)}") from error


_CHECK = re.compile(r"Check (?:failed: .*? is false: |'[^']*' failed at \S+)")
_PLACE = re.compile(r"^(?:\[[\d:]+\] )?\S+\.(?:cc|cpp|h|hpp):\d+: ?")


def reason_of(error: Exception) -> str:
    """The library's errors are a place in its source, a condition, and the reason at the end."""
    lines = [_CHECK.sub("", _PLACE.sub("", line.strip())).strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception from")]
    return said[-1] if said else type(error).__name__


def _seed(seed: int | None) -> int:
    return (seed or 0) % 2**32


def _tensor_of(image: bytes) -> Any:
    """An encoded picture as height x width x 3 bytes."""
    pictures, numpy = importlib.import_module("PIL.Image"), importlib.import_module("numpy")
    openvino, io = importlib.import_module("openvino"), importlib.import_module("io")
    with pictures.open(io.BytesIO(image)) as picture:
        return openvino.Tensor(numpy.array(picture.convert("RGB"))[None])
