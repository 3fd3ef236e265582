"""The steps of the Transformers engine, without a thread: requests join and leave between any two of them.

A job's way, and what moves it:

    waiting  --room, grammar compiled-->  reading  --last token of its prompt-->  writing  --end, length, error-->  gone
    writing  --no memory-->  waiting (its tokens are read again, prompt and answer)      any  --cancel-->  gone

A step reads a bounded part of new prompts, one at a time, and then writes one token of every batch. Jobs of different adapters
are in different batches, since weights are switched between them; so are jobs of very different lengths, since a batch pads.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import Any

import structlog
import torch
from msgspec import Struct
from transformers.cache_utils import DynamicCache

from naru.engine.hf.grammar import GrammarMask, Grammars
from naru.engine.hf.loading import Loaded, first_line
from naru.engine.hf.media import inputs_of
from naru.engine.hf.options import Options
from naru.engine.hf.rows import Rows
from naru.engine.hf.sampling import Sampler
from naru.engine.port import Decoding, Ending, Load, Piece, Prompt
from naru.errors import NaruError

log = structlog.get_logger("naru.engine")

#: A batch takes a job in if neither side is padded to more than so many times its length, and a bit.
_MAX_PADDING = 4
_FREE_PADDING = 1024

Pieces = list[tuple[int, Piece]]


class Job(Struct, eq=False):
    """One request. `ids` are prompt and answer so far; `read` of them are in the cache; `shift` is what pictures add to a
    token's position; `media` are the model's inputs beside the ids."""

    number: int
    prompt: Prompt
    decoding: Decoding
    grammar: Future[Any] | None
    ids: list[int]
    written: int = 0
    read: int = 0
    shift: int = 0
    media: dict[str, Any] | None = None
    sampler: Sampler | None = None
    mask: GrammarMask | None = None

    @property
    def is_ready(self) -> bool:
        return self.grammar is None or self.grammar.done()


class Batch(Struct, eq=False):
    """Jobs that write together; `jobs` are in the order of the cache's rows."""

    adapter: str
    jobs: list[Job]
    cache: Any

    @property
    def length(self) -> int:
        return max((job.read for job in self.jobs), default=0)

    @property
    def size(self) -> int:
        """Tokens of memory, padding included."""
        return self.length * len(self.jobs)


class Engine:
    """Not for more than one thread at a time."""

    def __init__(self, loaded: Loaded, grammars: Grammars, options: Options) -> None:
        self._loaded = loaded
        self._model = loaded.model
        self._grammars = grammars
        self._options = options
        self._adapter = ""
        self._waiting: deque[Job] = deque()
        self._reading: Batch | None = None  # of one job, whose prompt is being read
        self._writing: list[Batch] = []

    @property
    def has_work(self) -> bool:
        """False also while all that wait do so for their grammars."""
        return bool(self._reading or self._writing or any(job.is_ready for job in self._waiting))

    @property
    def load(self) -> Load:
        running = self._running
        return Load(len(running), len(self._waiting), min(1.0, self._used / self._room) if self._room else 0.0)

    def start(self, number: int, prompt: Prompt, decoding: Decoding, grammar: Future[Any] | None = None) -> None:
        """`grammar` will hold what Grammars.compile gives."""
        self._waiting.append(Job(number, prompt, decoding, grammar, list(prompt.ids)))

    def cancel(self, number: int) -> None:
        """An unknown number is fine."""
        self._waiting = deque(job for job in self._waiting if job.number != number)
        if self._reading and self._reading.jobs[0].number == number:
            self._reading = None
        for batch in list(self._writing):
            self._keep(batch, [job for job in batch.jobs if job.number != number])

    def abandon(self) -> list[int]:
        """Forgets everything; the numbers of what was open."""
        numbers = [job.number for job in (*self._waiting, *self._running)]
        self._waiting.clear()
        self._reading = None
        self._writing = []
        return numbers

    def step(self) -> Pieces:
        """What came of it, in no particular order."""
        pieces: Pieces = []
        with torch.inference_mode():
            self._read(pieces)
            for batch in list(self._writing):
                self._write(batch, pieces)
            self._make_room(pieces)
        return pieces

    # Reading prompts

    def _read(self, pieces: Pieces) -> None:
        left = self._options.prefill_tokens
        while left > 0:
            if self._reading is None and not self._admit(pieces):
                return
            batch = self._reading
            assert batch is not None
            job = batch.jobs[0]
            try:
                count = len(job.ids) - job.read
                if job.media is None and self._loaded.layers is not None:
                    count = min(count, left)
                logits = self._forward_prompt(batch, job, count)
                left -= count
                if job.read == len(job.ids):
                    self._reading = None
                    self._choose(batch, logits, pieces)
                    self._join(batch)
            except Exception as error:  # of a library that we do not know: this request fails, others go on
                self._reading = None
                pieces.append(_failure(job, error))

    def _admit(self, pieces: Pieces) -> bool:
        """The next one that has room and its grammar, if any."""
        if len(self._running) >= self._options.max_running:
            return False
        for job in list(self._waiting):
            if not job.is_ready:
                continue
            try:
                self._prepare(job)
            except Exception as error:  # a grammar, a picture: the caller's fault or a library's
                self._waiting.remove(job)
                pieces.append(_failure(job, error))
                continue
            if self._running and self._room and self._used + len(job.ids) + 1 > self._room:
                return False  # in order: a long one is not overtaken for ever
            self._waiting.remove(job)
            if job.decoding.max_tokens <= job.written:
                pieces.append((job.number, Piece(ending="length")))
                continue
            self._reading = Batch(job.decoding.adapter, [job], self._new_cache())
            return True
        return False

    def _prepare(self, job: Job) -> None:
        """Raises what is wrong with the request. A second time, after memory ran out, it has little left to do."""
        facts = self._loaded.facts
        if job.decoding.adapter and job.decoding.adapter not in facts.adapters:
            raise _Refused(f"There is no adapter {job.decoding.adapter!r}.")
        if (job.prompt.images or job.prompt.audios) and job.media is None:
            self._prepare_media(job)
        if not job.ids:
            raise _Refused("The prompt is empty.")
        if not 0 <= min(job.ids) <= max(job.ids) < self._loaded.vocabulary_size:
            raise _Refused("The prompt has a token that the model does not know.")  # on a GPU it would end the process
        if len(job.ids) >= facts.context and not job.written:
            raise _Refused(f"The prompt has {len(job.ids)} tokens; the model takes {facts.context}, answer included.")
        if job.sampler is None:
            if job.grammar is not None:
                job.mask = self._grammars.follow(job.grammar.result())
            job.sampler = Sampler(job.decoding, job.ids, self._loaded.vocabulary_size, job.mask)

    def _prepare_media(self, job: Job) -> None:
        facts = self._loaded.facts
        if (job.prompt.images and not facts.takes_images) or (job.prompt.audios and not facts.takes_audio):
            raise _Refused("The model reads no pictures." if job.prompt.images else "The model hears no sounds.")
        inputs = inputs_of(self._loaded.processor, job.prompt)
        job.ids = inputs.pop("input_ids")[0].tolist()
        inputs.pop("attention_mask", None)
        job.media = {name: value.to(self._model.device) for name, value in inputs.items()}

    def _forward_prompt(self, batch: Batch, job: Job, count: int) -> Any:
        ids = self._tensor([job.ids[job.read : job.read + count]])
        more: dict[str, Any]
        if job.media is None:
            more = {"position_ids": self._tensor([list(range(job.read, job.read + count))])}
        else:
            more = _media_for(job, ids)
        logits = self._forward(batch, ids, more)
        job.read += count
        if job.media is not None:
            job.shift = _taken_shift(self._model)
        return logits

    # Writing answers

    def _write(self, batch: Batch, pieces: Pieces) -> None:
        length = batch.length
        more: dict[str, Any] = {"position_ids": self._tensor([[job.read + job.shift] for job in batch.jobs])}
        padding = self._tensor([[length - job.read] for job in batch.jobs])
        if bool(padding.any()):
            columns = torch.arange(length + 1, device=self._model.device)
            more["attention_mask"] = (columns >= padding).long()
        try:
            logits = self._forward(batch, self._tensor([job.ids[-1:] for job in batch.jobs]), more)
        except Exception as error:  # most likely no memory: the newest gives way, the others are read again
            self._break_up(batch, error, pieces)
            return
        for job in batch.jobs:
            job.read += 1
        self._choose(batch, logits, pieces)

    def _choose(self, batch: Batch, logits: Any, pieces: Pieces) -> None:
        """One token for each job; who has ended leaves."""
        going = []
        for job, row in zip(batch.jobs, logits, strict=True):
            try:
                piece = self._chosen(job, row)
            except Exception as error:  # numbers that are none, a grammar at its end
                pieces.append(_failure(job, error))
                continue
            pieces.append((job.number, piece))
            if not piece.ending:
                going.append(job)
        self._keep(batch, going)

    def _chosen(self, job: Job, logits: Any) -> Piece:
        assert job.sampler is not None
        chosen = job.sampler.choose(logits)
        decoding = job.decoding
        is_end = chosen.token in self._loaded.facts.end_ids
        if (is_end and not decoding.ignores_end) or (job.mask is not None and job.mask.has_ended):
            return Piece(ending="stop")
        job.ids.append(chosen.token)
        job.written += 1
        is_full = job.written >= decoding.max_tokens or len(job.ids) >= self._loaded.facts.context
        ending: Ending = "length" if is_full else ""
        return Piece((chosen.token,), () if chosen.logprobs is None else (chosen.logprobs,), ending)

    # Batches

    def _join(self, new: Batch) -> None:
        """Into a batch that it fits, or one of its own."""
        if not new.jobs:
            return
        for batch in self._writing:
            if self._loaded.layers is None or not fits(batch.adapter, batch.length, new):
                continue
            try:
                batch.cache.join(new.cache)
            except Exception:
                log.exception("rows could not be joined; their tokens are read again")
                self._requeue([*batch.jobs, *new.jobs])
                self._writing.remove(batch)
                return
            batch.jobs += new.jobs
            return
        self._writing.append(new)

    def _keep(self, batch: Batch, jobs: list[Job]) -> None:
        if len(jobs) == len(batch.jobs):
            return
        length = batch.length
        rows = [row for row, job in enumerate(batch.jobs) if job in jobs]
        batch.jobs = jobs
        if not jobs:
            if batch in self._writing:
                self._writing.remove(batch)
            return
        batch.cache.keep(rows, length - batch.length)

    def _break_up(self, batch: Batch, error: Exception, pieces: Pieces) -> None:
        self._writing.remove(batch)
        newest = batch.jobs.pop()
        pieces.append(_failure(newest, error))
        self._requeue(batch.jobs)

    def _make_room(self, pieces: Pieces) -> None:
        """While there is more than may be, the newest of the largest batch goes back to the queue."""
        while self._room and self._used > self._room and len(self._running) > 1 and self._writing:
            batch = max(self._writing, key=lambda batch: batch.size)
            newest = batch.jobs[-1]
            self._keep(batch, batch.jobs[:-1])
            self._requeue([newest])

    def _requeue(self, jobs: list[Job]) -> None:
        for job in reversed(jobs):
            job.read = 0
            self._waiting.appendleft(job)

    @property
    def _running(self) -> list[Job]:
        reading = self._reading.jobs if self._reading else []
        return [*reading, *(job for batch in self._writing for job in batch.jobs)]

    @property
    def _used(self) -> int:
        return sum(batch.size for batch in self._writing) + (self._reading.size if self._reading else 0)

    @property
    def _room(self) -> int:
        return self._options.cache_tokens

    # The model

    def _new_cache(self) -> Any:
        if self._loaded.layers is None:
            return DynamicCache(config=self._model.config)
        return Rows(self._loaded.layers)

    def _forward(self, batch: Batch, ids: Any, more: dict[str, Any]) -> Any:
        """Logits of each row's last position: [rows, vocabulary], float32, on the CPU."""
        self._use(batch.adapter)
        if self._loaded.keeps_last:
            more["logits_to_keep"] = 1
        output = self._model(input_ids=ids, past_key_values=batch.cache, use_cache=True, **more)
        return output.logits[:, -1].float().cpu()

    def _use(self, adapter: str) -> None:
        if adapter == self._adapter:
            return
        if adapter:
            self._model.set_adapter(adapter)
            self._model.enable_adapters()
        else:
            self._model.disable_adapters()
        self._adapter = adapter

    def _tensor(self, rows: list[list[int]]) -> Any:
        return torch.tensor(rows, device=self._model.device)


class _Refused(Exception):
    """The request cannot be served; the text is for the caller."""


def fits(adapter: str, length: int, new: Batch) -> bool:
    """Whether a batch of this adapter and length takes in a new one without too much padding on either side."""
    shorter, longer = sorted((length, new.length))
    return adapter == new.adapter and longer <= _MAX_PADDING * shorter + _FREE_PADDING


def _failure(job: Job, error: Exception) -> tuple[int, Piece]:
    if isinstance(error, _Refused | NaruError):
        return job.number, Piece(ending="error", error=str(error))
    log.error("a request failed in the engine", number=job.number, exc_info=error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(error):
        return job.number, Piece(ending="error", error="The engine has not enough memory for this request.")
    return job.number, Piece(ending="error", error=f"The engine failed on this request: {first_line(error)}")


def _media_for(job: Job, ids: Any) -> dict[str, Any]:
    """The inputs beside the ids. After memory ran out the ids are longer, by the answer so far, which is text."""
    more = dict(job.media or {})
    if (types := more.get("mm_token_type_ids")) is not None:
        longer = torch.zeros_like(ids)
        longer[:, : types.shape[1]] = types
        more["mm_token_type_ids"] = longer
    more["attention_mask"] = torch.ones_like(ids)
    return more


def _taken_shift(model: Any) -> int:
    """What the pictures of the prompt just read add to later positions, where the model counts these in three dimensions; it
    leaves that number with itself, where the next prompt must not find it."""
    modules: list[Any] = [model, getattr(model, "model", None), getattr(model, "thinker", None)]
    for module in modules:
        if (deltas := getattr(module, "rope_deltas", None)) is not None:
            module.rope_deltas = None
            return int(deltas.flatten()[0])
    return 0
