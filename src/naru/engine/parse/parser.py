"""One state machine for one answer: generated text in, events out; whole and streamed agree by construction (2.2 rule 1).

    parser = Parser(detect(template.source), prompt[-4096:], request.tools)
    for piece in generated:
        events = parser.feed(piece)
    events = parser.close("stop")

It never raises on what a model writes, and loses none of it but markup and the blanks around markup; what follows
DeepSeek's calls is dropped, as its format has no text there (T65). A call that has been announced cannot be taken back: if
it breaks, its arguments stay as the model wrote them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from naru.engine.parse.closing import closing_of
from naru.engine.parse.deepseek import DeepSeekCall
from naru.engine.parse.emit import Blanks, Emitter
from naru.engine.parse.formats import Format, beginning
from naru.engine.parse.grammars import ARG_KEYS, DSML, XML, Grammar
from naru.engine.parse.jsoncalls import JsonCalls
from naru.engine.parse.jsonvalue import BLANK, Status
from naru.engine.parse.lexer import Cursor, Terminals
from naru.engine.parse.schema import Schemas
from naru.engine.parse.tables import END_TOKENS, Act, State, tables, terminals
from naru.engine.parse.tagged import TaggedCall, Tags
from naru.protocol.messages import Event, Finish, FinishReason, OpaqueTool, Tool

_BEHIND_TAG = Terminals(("{", "[", "<function="))
_BEHIND_TAG_IN_THOUGHT = Terminals(("<function=",))
_THOUGHT = (State.THINK_FRESH, State.THINKING)
#: After their calls, these formats have no text.
_FINAL = frozenset({Act.DEEPSEEK, Act.INVOKE})


class Options(Struct, frozen=True):
    """`incomplete` is about a call that the end cut off (rule 3). One whose name has not come is given as text or dropped;
    of one that is begun the arguments stay as they came, or `repair` closes their strings and brackets.

    Ids are `call_prefix` and the call's number: a prefix that names the answer makes them unique.
    """

    choice: int = 0
    call_prefix: str = "call_"
    incomplete: Literal["text", "drop", "repair"] = "text"
    end_tokens: tuple[str, ...] = END_TOKENS


class _Body(Protocol):
    def run(self, cursor: Cursor) -> Status: ...
    def end(self) -> None: ...


class Parser:
    """`prompt_tail` is the end of the rendered prompt, the longer the better; without tools no call is looked for."""

    def __init__(
        self,
        formats: Collection[Format],
        prompt_tail: str = "",
        tools: Sequence[Tool | OpaqueTool] = (),
        options: Options = Options(),  # noqa: B008 (it is frozen)
    ) -> None:
        self._formats = frozenset(formats)
        self._options = options
        self._schemas = Schemas(tools)
        self._tables = tables(self._formats, bool(tools), options.end_tokens)
        self._terminals = terminals(self._tables)
        self._grammars: dict[str, Tags] = {}
        self._cursor = Cursor()
        self._emit = Emitter(options.choice, options.call_prefix)
        self._blanks = Blanks()
        self._body: _Body | None = None
        self._from = State.FRESH  # the state that the call at hand was met in
        self._act = Act.ABSORB
        self._calls_before = 0
        self._drops_text = False
        self._has_said = False  # content, before the tag at hand
        self._half = ""  # a high surrogate whose other half may follow
        self._steps = 0
        self._begin(prompt_tail, bool(tools))

    def _begin(self, tail: str, has_tools: bool) -> None:
        start = beginning(tail, self._formats)
        can_think = bool(self._formats & {Format.THINK, Format.HYPERCLOVA_14B})
        self._is_after_tag = start.is_after_tag
        self._has_thought = start.is_after_tag or start.is_reasoning
        self._has_block = False  # of reasoning, before the one that may come
        self._state = State.TEXT if start.has_text else State.FRESH
        if start.is_reasoning and can_think:
            self._think()
        elif start.prefill and has_tools:
            self._is_after_tag = True
            self._cursor.push(start.prefill)
            self._go()

    @property
    def is_reasoning(self) -> bool:
        """Whether the next token is thinking: for the budget, the count of reasoning tokens, and the start of a grammar."""
        return self._state in _THOUGHT or (self._body_is_open and self._from in _THOUGHT)

    @property
    def is_in_call(self) -> bool:
        """A thinking budget must not cut here (1.5)."""
        return self._body_is_open

    @property
    def work(self) -> int:
        """Steps taken and characters looked at, for the tests' bounds."""
        return self._steps + self._cursor.scanned

    @property
    def _body_is_open(self) -> bool:
        return self._state in (State.OPENED, State.BODY)

    def feed(self, text: str) -> list[Event]:
        self._cursor.push(self._whole_characters(text))
        self._go()
        return self._emit.drain()

    def close(self, reason: FinishReason = "stop", stop_sequence: str | None = None) -> list[Event]:
        """The rest, and one Finish: calls make `stop` into `tool_calls` (T24), a call cut off makes it `length`."""
        self._cursor.push("\ufffd" if self._half else "")
        self._cursor.is_final = True
        self._go()
        self._end_call()
        if self._state is State.TEXT or (self._state is State.FRESH and not self._is_after_tag):
            self._emit_text(self._blanks.flush())
        elif self._state is State.THINKING:
            self._emit.reasoning(self._blanks.flush())
        if reason == "stop" and self._emit.calls:
            reason = "length" if self._emit.has_broken_call else "tool_calls"
        return [*self._emit.drain(), Finish(reason, self._options.choice, stop_sequence)]

    def _end_call(self) -> None:
        if not self._body_is_open:
            return
        if self._body is not None:
            self._body.end()
        if self._cursor.is_marked:
            raw = self._cursor.unmark()
            if self._options.incomplete != "drop":
                self._give_back(raw)
            return
        self._state, self._is_after_tag = State.FRESH, True
        if self._emit.has_broken_call and self._options.incomplete == "repair":
            self._emit.arguments(closing_of(self._emit.last_arguments))

    def _whole_characters(self, text: str) -> str:
        """Surrogates are joined to characters, and a half that stays alone is replaced: events must be valid UTF-8."""
        if self._half:
            text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] < "\udc00":
            text, self._half = text[:-1], text[-1]
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return text

    # --- Steps: False waits for more text ------------------------------------------------------------------------

    def _go(self) -> None:
        while self._step():
            self._steps += 1

    def _step(self) -> bool:
        match self._state:
            case State.FRESH | State.THINK_FRESH:
                return self._fresh()
            case State.TEXT | State.THINKING:
                return self._text()
            case State.OPENED:
                return self._opened()
            case State.BODY:
                return self._run_body()

    def _fresh(self) -> bool:
        self._blanks.hold(self._cursor.run(BLANK))
        found = self._cursor.here(self._terminals[self._state])
        if found is None or (not found and self._cursor.is_empty):
            return False
        if found:
            self._do(self._tables[self._state][found], found)
        else:
            self._begin_text()
        return True

    def _begin_text(self) -> None:
        """The first text after a tag: the line breaks before it are markup, any indentation is its own (1.1). Where text
        came before the tag already, they keep the two apart."""
        if self._state is State.THINK_FRESH or (self._is_after_tag and not self._has_said):
            self._blanks.hold(self._blanks.flush().lstrip("\n"))
        self._state = State.THINKING if self._state is State.THINK_FRESH else State.TEXT
        if self._state is State.THINKING:
            self._emit.block += self._has_block
            self._has_block = True

    def _text(self) -> bool:
        text, found = self._cursor.until(self._terminals[self._state])
        self._say(text)
        if found:
            self._do(self._tables[self._state][found], found)
        return bool(found)

    def _say(self, text: str) -> None:
        ready = self._blanks.text(text)
        if ready and self._state is State.THINKING:
            self._emit.reasoning(ready)
        else:
            self._emit_text(ready)

    def _emit_text(self, text: str) -> None:
        if text and not self._drops_text:
            self._has_said = True
            self._emit.text(text)

    def _opened(self) -> bool:
        self._cursor.run(BLANK)
        in_thought = self._from in _THOUGHT
        found = self._cursor.here(_BEHIND_TAG_IN_THOUGHT if in_thought else _BEHIND_TAG)
        if found is None or (not found and self._cursor.is_empty):
            return False
        self._state = State.BODY
        if found == "<function=":
            self._body = self._tagged(XML)
        elif found:
            self._cursor.back(1)
            self._body = JsonCalls(self._emit, "</tool_call>", ("<tool_call>",))
        elif Format.HYPERCLOVA_32B in self._formats and self._cursor.peek() != "<":
            self._body = self._tagged(ARG_KEYS)
        else:
            self._give_back(self._cursor.unmark())
        return True

    def _run_body(self) -> bool:
        assert self._body is not None
        status = self._body.run(self._cursor)
        if status is Status.MORE:
            return False
        self._body = None
        if self._emit.calls > self._calls_before:
            self._blanks.drop()
            self._from, self._is_after_tag = State.FRESH, True
            self._drops_text |= self._act in _FINAL
        if status is Status.BROKEN or self._cursor.is_marked:
            self._give_back(self._cursor.unmark())
        else:
            self._state = State.FRESH
        return True

    def _give_back(self, raw: str) -> None:
        """What looked like a call is text of the state it was met in (rule 11)."""
        self._body = None
        self._state = self._from
        if self._state in (State.FRESH, State.THINK_FRESH):
            self._begin_text()
        self._say(raw)

    # --- What tags do --------------------------------------------------------------------------------------------

    def _do(self, act: Act, tag: str) -> None:
        match act:
            case Act.THINK:
                self._think()
            case Act.UNTHINK | Act.ABSORB:
                self._absorb()
            case Act.ORPHAN_UNTHINK if self._has_thought:
                self._say(tag)
            case Act.ORPHAN_UNTHINK:
                self._has_thought = True
                self._absorb()
            case _:
                self._open(act, tag)

    def _think(self) -> None:
        self._blanks.drop()
        self._state = State.THINK_FRESH
        self._has_thought = True

    def _absorb(self) -> None:
        self._blanks.drop()
        self._state = State.FRESH
        self._is_after_tag = True

    def _open(self, act: Act, tag: str) -> None:
        self._from, self._act = self._state, act
        self._calls_before = self._emit.calls
        self._state = State.BODY
        self._body = None
        if act in (Act.BARE, Act.BARE_KNOWN):
            self._cursor.back(len(tag))
            tag = ""
        self._cursor.mark(tag)
        match act:
            case Act.OPEN:
                self._state = State.OPENED
            case Act.FUNCTION:
                self._body = self._tagged(XML)
            case Act.INVOKE:
                self._body = self._tagged(DSML)
            case Act.DEEPSEEK:
                self._body = DeepSeekCall(self._emit)
            case Act.BARE_KNOWN:
                self._body = JsonCalls(self._emit, "", is_known=self._schemas.__contains__)
            case _:
                self._body = JsonCalls(self._emit, "", self._options.end_tokens)

    def _tagged(self, grammar: Grammar) -> TaggedCall:
        tags = self._grammars.get(grammar.name_end + grammar.opens[0])
        if tags is None:
            tags = self._grammars[grammar.name_end + grammar.opens[0]] = Tags(grammar)
        return TaggedCall(self._emit, grammar, tags, self._schemas)
