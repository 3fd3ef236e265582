"""One choice of an answer: what the engine makes in, events out. Pure; the worker and LocalModel drive it.

Twice a generation may have to be cut and gone on with, from the same tokens: when the thinking budget is used up (Qwen's
sentence is put behind the thought, unseen by the caller), and when the reasoning is over and a grammar begins to hold. The
engine's prefix cache makes the second prompt cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Raw, Struct

from naru.engine.asking import Plan
from naru.engine.parse.parser import Options, Parser
from naru.engine.parse.text import BUDGET_TEXT, StopScanner
from naru.engine.port import Decoding, Piece, Prompt, TokenLogprobs
from naru.engine.vocabulary import Vocabulary
from naru.protocol.messages import Event, Finish, FinishReason, LogprobsDelta, TextDelta

Encode = Callable[[str], list[int]]
#: What stands between a thought and the answer.
_AFTER_THOUGHT = "\n\n"


class Continuation(Struct, frozen=True):
    """The generation under way is to be cancelled, and this one started in its place."""

    prompt: Prompt
    decoding: Decoding


class Writer:
    """`output` and `reasoning` count the tokens that the model wrote; what was put in for it is not among them."""

    def __init__(
        self, plan: Plan, vocabulary: Vocabulary, encode: Encode, choice: int = 0, call_prefix: str = "call_"
    ) -> None:
        self._plan = plan
        self._vocabulary = vocabulary
        self._encode = encode
        self._choice = choice
        self._parser = Parser(plan.formats, plan.tail, plan.tools, Options(choice=choice, call_prefix=call_prefix))
        self._feeder = vocabulary.feeder()
        self._stops = StopScanner(plan.stops)
        self._ids: list[int] = []
        self._budget = plan.budget
        self._later = plan.later
        self.output = 0
        self.reasoning = 0
        self.is_done = False
        self.error = ""
        self.is_callers_error = False
        #: Set by `take` when the generation has to go on from another prompt; whoever reads it clears it.
        self.continuation: Continuation | None = None
        self._seed = plan.decoding.seed

    def begin(self) -> Continuation:
        """What to start with. Each further choice has a seed of its own."""
        decoding = self._plan.decoding
        seed = None if decoding.seed is None else decoding.seed + self._choice
        self._seed = seed
        first = msgspec.structs.replace(decoding, seed=seed)
        if self._budget == 0 and self._parser.is_reasoning:
            self._cut(BUDGET_TEXT)
            begun, self.continuation = self.continuation, None
            assert begun is not None
            return begun
        return Continuation(self._plan.prompt, first)

    def take(self, piece: Piece) -> list[Event]:
        if self.is_done:
            return []
        events: list[Event] = []
        for at, token in enumerate(piece.ids):
            events += self._token(token, piece.logprobs[at] if at < len(piece.logprobs) else None)
            if self.is_done or self.continuation is not None:
                return events
        if piece.ending == "error":
            self.is_done, self.error, self.is_callers_error = True, piece.error, piece.is_callers
        elif piece.ending:
            events += self._finish(piece.ending)
        return events

    def _token(self, token: int, logprob: TokenLogprobs | None) -> list[Event]:
        self._ids.append(token)
        self.output += 1
        was_reasoning = self._parser.is_reasoning
        events = self._said(self._parser.feed(self._feeder.feed(token)))
        is_reasoning = self._parser.is_reasoning
        self.reasoning += was_reasoning or is_reasoning
        if logprob is not None and not (was_reasoning or is_reasoning or self._parser.is_in_call):
            events.append(LogprobsDelta(self._told(token, logprob), self._choice))
        if self.is_done:
            return events
        if is_reasoning and self._budget is not None and self.reasoning >= self._budget and not self._parser.is_in_call:
            events += self._cut(BUDGET_TEXT)
        elif self._later is not None and was_reasoning and not is_reasoning:
            self._cut(_AFTER_THOUGHT)
        return events

    def _cut(self, put_in: str) -> list[Event]:
        """Ends the generation here; the next one begins behind `put_in`, of which the caller sees nothing."""
        self._feeder = self._vocabulary.feeder()
        events = self._said(self._parser.feed("</think>\n\n")) if put_in is BUDGET_TEXT else []
        self._budget = None
        self._ids += self._encode(put_in)
        left = self._plan.decoding.max_tokens - self.output
        decoding = msgspec.structs.replace(
            self._plan.decoding,
            max_tokens=max(1, left),
            seed=self._seed,
            grammar=self._later or self._plan.decoding.grammar,
        )
        self._later = None
        whole = self._plan.prompt
        prompt = msgspec.structs.replace(
            whole,
            ids=[*whole.ids, *self._ids],
            text=whole.text + self._text_of(self._ids) if whole.images else whole.text,
        )
        self.continuation = Continuation(prompt, decoding)
        return events

    def _text_of(self, ids: Sequence[int]) -> str:
        return b"".join(map(self._vocabulary.text_of, ids)).decode("utf-8", "replace")

    def _said(self, events: Iterable[Event]) -> list[Event]:
        """Content is looked through for stop texts; thoughts and calls are not."""
        if not self._plan.stops:
            return list(events)
        found: list[Event] = []
        for event in events:
            if not isinstance(event, TextDelta):
                found += self._held_back()
                found.append(event)
                continue
            text = self._stops.feed(event.text)
            if text:
                found.append(TextDelta(text, self._choice))
            if self._stops.found is not None:
                self.is_done = True
                return [*found, Finish("stop", self._choice, self._stops.found)]
        return found

    def _held_back(self) -> list[Event]:
        text, self._stops = self._stops.close(), StopScanner(self._plan.stops)
        return [TextDelta(text, self._choice)] if text else []

    def _finish(self, ending: str) -> list[Event]:
        reason: FinishReason = "length" if ending == "length" else "stop"
        events = self._said(self._parser.feed(self._feeder.close()))
        if self.is_done:
            return events
        self.is_done = True
        return events + self._ended(self._parser.close(reason))

    def _ended(self, events: Sequence[Event]) -> list[Event]:
        """The last text may still hold a stop text."""
        self.is_done = False
        said = self._said(events[:-1])
        if not self.is_done:
            said += [*self._held_back(), events[-1]]
        self.is_done = True
        return said

    def _told(self, token: int, found: TokenLogprobs) -> Raw:
        """OpenAI's `logprobs` of one token."""
        likeliest = [self._entry(other, logprob) for other, logprob in found.likeliest]
        entry = {**self._entry(token, found.logprob), "top_logprobs": likeliest}
        return Raw(msgspec.json.encode({"content": [entry], "refusal": None}))

    def _entry(self, token: int, logprob: float) -> dict[str, object]:
        raw = self._vocabulary.text_of(token)
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}
