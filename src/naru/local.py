"""A local model in this process, without a server:

    from naru.local import LocalModel

    with LocalModel("naru-demo") as model:
        print(model.chat("안녕하세요!").text)
        for event in model.stream([{"role": "user", "content": "hi"}], thinking_budget=64):
            ...
        answers = model.batch(["one", "two", "three"])      # in parallel, in order, errors in place

What may be said of an answer are the fields of OpenAI's chat completions, Naru's extensions among them (`enable_thinking`,
`thinking_budget`). An engine that crashes takes this process with it: a service serves models through a gateway instead.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct, field

from naru import machine
from naru.config import settings_of_process
from naru.engine.answers import Answer, Switchboard
from naru.engine.embedding import query_text
from naru.engine.files import resolve
from naru.engine.meter import peak_bytes
from naru.engine.model import Model
from naru.engine.opening import Precision, Quant, Wanted, open_model
from naru.engine.port import Adapters, Embedder, Reranker
from naru.engine.vectors import embedded, ranked
from naru.errors import BadRequest, NaruError
from naru.protocol.accumulate import accumulate
from naru.protocol.embeddings.middle import EmbeddingRequest
from naru.protocol.messages import (
    Event,
    FinishReason,
    Reasoning,
    Response,
    Start,
    Text,
    ToolCall,
    Usage,
    UsageReport,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.rerank.middle import Ranked, RerankRequest

#: Long enough for a thread that waits to take Python's lock.
GIVE_WAY_S = 5e-5

Json = dict[str, Any]
Messages = str | Sequence[Mapping[str, Any]]

__all__ = ["GenerationConfig", "LocalAnswer", "LocalModel", "Monitor", "Performance"]


class GenerationConfig(Struct, frozen=True, kw_only=True):
    """How answers are made, unless a call says otherwise. None: as the model's own files say. `extra` holds further fields of
    chat completions."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    extra: Json = field(default_factory=dict)

    def fields(self) -> Json:
        named = {name: getattr(self, name) for name in self.__struct_fields__ if name != "extra"}
        return {name: value for name, value in named.items() if value is not None} | self.extra


class LocalAnswer(Struct, frozen=True):
    """`seconds` from the request to the last token; `ttft_s` to the first one."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason | None
    usage: Usage
    seconds: float
    ttft_s: float
    response: Response

    @property
    def tokens_per_second(self) -> float:
        return self.usage.output / self.seconds if self.seconds > 0 else 0.0


class LocalModel:
    """`model` is naru-demo, a pulled model's id, a folder or a .gguf file. Options are those of `naru engine serve`. Loading
    blocks; raises ConfigError where the files or this machine do not do. Methods may be called from several threads."""

    def __init__(
        self,
        model: str = "naru-demo",
        config: GenerationConfig | None = None,
        *,
        engine: str = "auto",
        device: str = "CPU",
        context: int = 0,
        max_streams: int = 16,
        quant: Quant = "",
        precision: Precision = "",
        adapters: Adapters | None = None,
        home: Path | None = None,
    ) -> None:
        self.config = config or GenerationConfig()
        self._lock = threading.RLock()
        self._board = Switchboard(self._deliver)
        self._random = random.SystemRandom()
        files = resolve(model, settings_of_process(None, {"home": home}).home)
        wanted = Wanted(
            engine=engine,
            device=device,
            context=context,
            max_streams=max_streams,
            quant=quant,
            precision=precision,
            adapters=adapters or {},
        )
        self.name = files.name
        self._model = open_model(files, wanted, self._board, datetime.now, machine.free_bytes())

    def _run(self, function: Callable[[], None]) -> None:
        """Answers are touched by the engine's thread and by callers: one at a time."""
        with self._lock:
            function()

    def _deliver(self, function: Callable[[], None]) -> None:
        """In the engine's thread, which would keep Python's lock for another step before the caller sees this one's."""
        self._run(function)
        time.sleep(GIVE_WAY_S)

    # --- Text -------------------------------------------------------------------------------------------------------

    def chat(self, messages: Messages, **fields: Any) -> LocalAnswer:
        """One whole answer. A text stands for one user message. Raises BadRequest for what cannot be asked, Overloaded where
        the engine fails."""
        return self._begin(messages, fields).wait()

    def stream(self, messages: Messages, **fields: Any) -> Iterator[Event]:
        """Events as they come: TextDelta, ReasoningDelta, ToolCallStart, ToolCallDelta, Finish, UsageReport. Whoever stops
        listening frees the engine's place."""
        return self._begin(messages, fields).events()

    def batch(self, conversations: Sequence[Messages], **fields: Any) -> list[LocalAnswer | NaruError]:
        """All at once, as many in parallel as the engine takes. In order, with an error in the place of an answer that failed."""
        begun = [self._tried(messages, fields) for messages in conversations]
        return [each if isinstance(each, NaruError) else _waited(each) for each in begun]

    async def achat(self, messages: Messages, **fields: Any) -> LocalAnswer:
        """`chat` beside other work in an event loop."""
        return await asyncio.to_thread(self.chat, messages, **fields)

    def format_chat(self, messages: Messages, **fields: Any) -> str:
        """The prompt as the model's own template writes it."""
        return self._text_model.chat(self._envelope(messages, fields)).plans[0].prompt.text

    def count_tokens(self, messages: Messages, **fields: Any) -> int:
        """Of the prompt."""
        return self._text_model.count(self._envelope(messages, fields))

    def _tried(self, messages: Messages, fields: Json) -> _Pending | NaruError:
        try:
            return self._begin(messages, fields)
        except NaruError as error:
            return error

    def _begin(self, messages: Messages, fields: Json) -> _Pending:
        model, envelope = self._text_model, self._envelope(messages, fields)
        plans = model.chat(envelope).seeded(self._random).plans
        pending = _Pending(self._run)
        with self._lock:
            pending.answer = Answer(
                model.backend, self._board, plans, pending, f"call_{self._random.getrandbits(64):x}_"
            )
        return pending

    def _envelope(self, messages: Messages, fields: Json) -> Any:
        listed = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        name = self._text_model.names[0]
        adapter = fields.pop("adapter", "")
        body = {**self.config.fields(), **fields, "model": f"{name}:{adapter}" if adapter else name, "messages": listed}
        return OPENAI_CHAT.read(msgspec.json.encode(body))

    @property
    def _text_model(self) -> Model:
        if not isinstance(self._model, Model):
            raise BadRequest(f"{self.name} does not write text.")
        return self._model

    # --- Vectors ----------------------------------------------------------------------------------------------------

    def embed(
        self, texts: str | Sequence[str], *, dimensions: int | None = None, instruction: str | None = None
    ) -> list[list[float]]:
        """Vectors of length 1. `instruction` makes queries of the texts (Qwen3-Embedding: documents go without). `dimensions`
        shortens (MRL)."""
        model = self._model
        if not isinstance(model, Embedder):
            raise BadRequest(f"{self.name} does not embed.")
        listed = [texts] if isinstance(texts, str) else list(texts)
        if instruction is not None:
            listed = [query_text(text, instruction) for text in listed]
        request = EmbeddingRequest(model=self.name, inputs=tuple(listed), dimensions=dimensions)
        with self._lock:
            return [list(vector) for vector in embedded(model, request).vectors]

    def rerank(
        self, query: str, documents: Sequence[str], *, instruction: str | None = None, top_n: int | None = None
    ) -> list[Ranked]:
        """Best first; `index` is the document's place."""
        model = self._model
        if not isinstance(model, Reranker):
            raise BadRequest(f"{self.name} does not rerank.")
        request = RerankRequest(
            model=self.name,
            query=query,
            documents=tuple(documents),
            instruct=instruction,
            top_n=top_n,
            return_documents=True,
        )
        with self._lock:
            return list(ranked(model, request).results)

    # --- Life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if isinstance(self._model, Model):
            self._model.backend.close()

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _waited(pending: _Pending) -> LocalAnswer | NaruError:
    try:
        return pending.wait()
    except NaruError as error:
        return error


class _Pending:
    """answers.Listener for a thread that waits."""

    answer: Answer

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run
        self._queue: queue.SimpleQueue[list[Event] | NaruError | None] = queue.SimpleQueue()
        self._began = time.monotonic()
        self._first: float | None = None

    def on_events(self, events: list[Event]) -> None:
        if self._first is None:
            self._first = time.monotonic()
        self._queue.put(events)

    def on_end(self, usage: Usage) -> None:
        self._queue.put([UsageReport(usage)])
        self._queue.put(None)

    def on_failure(self, error: NaruError, usage: Usage) -> None:
        self._queue.put(error)

    def events(self) -> Iterator[Event]:
        try:
            while (found := self._queue.get()) is not None:
                if isinstance(found, NaruError):
                    raise found
                yield from found
        finally:
            self._run(self.answer.cancel)

    def wait(self) -> LocalAnswer:
        response = accumulate([Start("", "", 0), *self.events()])
        seconds = time.monotonic() - self._began
        choice = response.choices[0]
        return LocalAnswer(
            text="".join(part.text for part in choice.parts if isinstance(part, Text)),
            reasoning="".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
            tool_calls=tuple(part for part in choice.parts if isinstance(part, ToolCall)),
            finish_reason=choice.finish_reason,
            usage=response.usage or Usage(),
            seconds=seconds,
            ttft_s=(self._first or time.monotonic()) - self._began,
            response=response,
        )


# --- Watching -------------------------------------------------------------------------------------------------------


class Performance(Struct, frozen=True):
    """Of one answer, or the mean of several. `peak_bytes` is the largest resident memory of this process so far."""

    seconds: float
    ttft_s: float
    tokens: float
    tokens_per_second: float
    peak_bytes: float


class Health(Struct, frozen=True):
    """`status`: healthy | degraded | unhealthy. `checks`: what was looked at -> good | slow | high."""

    status: str
    checks: dict[str, str]
    recommendations: tuple[str, ...]
    error: str = ""


class Monitor:
    """How a LocalModel does: `measure` asks it something, `average` looks back, `health` judges and says what to do.

    Bounds as people feel them: ten seconds for an answer, five tokens a second (slower than reading).
    """

    SLOW_S = 10.0
    SLOW_TOKENS_S = 5.0

    def __init__(self, model: LocalModel, memory_bytes: int | None = None) -> None:
        """`memory_bytes`: what the machine has; by default it is looked up."""
        self._model = model
        self._memory = memory_bytes if memory_bytes is not None else machine.memory_bytes()
        self.history: list[Performance] = []

    def measure(self, prompt: str, **fields: Any) -> Performance:
        answer = self._model.chat(prompt, **{"max_tokens": 256, **fields})
        found = Performance(
            answer.seconds, answer.ttft_s, answer.usage.output, answer.tokens_per_second, float(peak_bytes())
        )
        self.history.append(found)
        return found

    def average(self, last: int = 10) -> Performance | None:
        """Of the last measurements; None before the first."""
        recent = self.history[-last:]
        if not recent:
            return None
        sums = [sum(getattr(each, name) for each in recent) for name in Performance.__struct_fields__]
        return Performance(*(total / len(recent) for total in sums))

    def health(self, prompt: str = "Hello, how are you?") -> Health:
        try:
            found = self.measure(prompt)
        except NaruError as error:
            return Health("unhealthy", {}, ("Look at the error, then load the model again.",), error.message)
        return self.judge(found)

    def judge(self, found: Performance) -> Health:
        checks, advice = {}, []
        for name, is_bad, word, what in (
            ("response_time", found.seconds > self.SLOW_S, "slow", "Limit max_tokens, or take a smaller or quantised model."),
            (
                "generation_speed", found.tokens_per_second < self.SLOW_TOKENS_S, "slow",
                "`naru models fit` tells what this machine can reach; int8 or int4 weights are faster.",
            ),
            (
                "memory", found.peak_bytes > 0.8 * self._memory, "high",
                "Serve with a smaller context or fewer streams, or take a smaller model.",
            ),
        ):  # fmt: skip
            checks[name] = word if is_bad else "good"
            if is_bad:
                advice.append(what)
        return Health("degraded" if advice else "healthy", checks, tuple(advice))
