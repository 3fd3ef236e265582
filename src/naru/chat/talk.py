"""A chat at a terminal: a prompt, an answer, and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from msgspec.structs import replace
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from naru.chat import attach, tools
from naru.chat.attach import Attachment
from naru.chat.commands import COMMANDS, KEYS, Command, names_of, read_line, think_of
from naru.chat.complete import Choices
from naru.chat.conversation import Chat, Json, Turn, dollars, markdown, sums, text_of, usage_line
from naru.chat.gateway import STOPPED, Answering, Gateway, Hooks
from naru.chat.permission import Permission
from naru.chat.prompt import Prompt
from naru.chat.screen import Screen, keys_held, on_interrupt
from naru.chat.store import Store
from naru.errors import BadRequest, NaruError, NotFound

LISTED = 15


class Talk:
    """`known` are the models of the gateway's list."""

    def __init__(self, gateway: Gateway, screen: Screen, store: Store, chat: Chat, known: list[str]) -> None:
        self._gateway = gateway
        self.screen = screen
        self._store = store
        self._known = known
        self.chat = chat
        self._attached: list[Attachment] = []
        #: A message that got no answer at all, for /retry.
        self._unsent: Json | None = None
        self._default = ""
        self._answer: asyncio.Task[Turn] | None = None
        self._permission = Permission(screen.note, self.stop)

    @property
    def choices(self) -> Choices:
        return {
            "model": lambda: self._known,
            "tools": lambda: tools.known(self._gateway.client.mcp),
            "load": self._store.names,
        }

    def attach(self, paths: Sequence[Path]) -> None:
        """To the next message. Raises BadRequest."""
        for path in paths:
            self._attached.append(attach.read(path))
            self.screen.note(f"{attach.shown(self._attached[-1])}; it goes with the next message")

    def beside(self) -> str:
        """What stands at the right of the prompt."""
        spent = sum(each.cost_nano for each in sums(self.chat.turns))
        parts = [self.chat.model]
        parts += [f"tools {','.join(self.chat.tools)}"] if self.chat.tools else []
        parts += [f"think {self.chat.think}"] if self.chat.think else []
        parts += [dollars(spent)] if spent else []
        return " · ".join(parts)

    async def run(self, prompt: Prompt) -> None:
        """Until the end is asked for."""
        self._greet()
        was_interrupted = False
        while True:
            default, self._default = self._default, ""
            self.screen.note("")
            try:
                line = await prompt.line(default)
            except EOFError:
                break
            except KeyboardInterrupt:
                if was_interrupted:
                    break
                was_interrupted = True
                self.screen.note("Ctrl-C again, or Ctrl-D, ends the chat.")
                continue
            was_interrupted = False
            if not await self.take(line):
                break
        if self.chat.turns:
            self.screen.note(f"Kept as {self.chat.name}: naru chat --continue goes on.")

    async def take(self, line: str) -> bool:
        """One line of the user's; False ends the chat. What goes wrong is said."""
        try:
            read = read_line(line)
            if isinstance(read, Command):
                return await self._command(read)
            if read is not None:
                await self.send(self._message(read.text))
        except NaruError as error:
            self.screen.error(error.message)
        return True

    def _greet(self) -> None:
        others = f" (of {len(self._known)}: /model)" if len(self._known) > 1 else ""
        self.screen.note(f"{self.chat.model}{others} · /help · Ctrl-D ends · {self._gateway.where}")
        if self.chat.turns:
            self.screen.note(f"Going on with {self.chat.name}: {self.chat.title} ({len(self.chat.turns)} turns)")
            last = self.chat.turns[-1].messages[-1]
            if last["role"] == "assistant" and text_of(last):
                self.screen.show(Markdown(text_of(last)))

    # --- Messages -----------------------------------------------------------------------------------------------------

    def _message(self, text: str) -> Json:
        """With the files that it names. Raises BadRequest for one that cannot be sent."""
        paths, missing = attach.found(text, lambda path: path.is_file())
        attached = [*self._attached, *(attach.read(path) for path in paths)]
        for each in attached[len(self._attached) :]:
            self.screen.note(attach.shown(each))
        for name in missing:
            self.screen.note(f"There is no file {name}; @{name} is sent as it stands.")
        self._attached = []
        return {"role": "user", "content": attach.content_of(text, attached)}

    async def send(self, message: Json) -> None:
        """Asks, shows and keeps."""
        hooks = Hooks(self._permission.ask, lambda turn: self._store.save(self.chat.with_turn(turn)))
        answering = Answering(self._gateway, self.screen, hooks)
        with keys_held():
            self._answer = asyncio.create_task(answering.run(self.chat, message))
            with on_interrupt(self.stop):
                turn = await self._answer
            self._answer = None
        self._take_turn(message, turn)

    def _take_turn(self, message: Json, turn: Turn) -> None:
        if len(turn.messages) > 1:
            self._unsent = None
            self.chat = self.chat.with_turn(turn)
            if turn.is_cut and turn.error != STOPPED:
                self.screen.error(turn.error)
            self.screen.note(usage_line(turn) + (" · cut" if turn.is_cut else ""))
        else:
            # Two messages of the user's in a row are refused by some models: this one waits until it is sent again.
            self._unsent = message
            stopped = turn.error == STOPPED
            say = self.screen.note if stopped else self.screen.error
            say("Stopped before an answer; /retry asks again." if stopped else turn.error or "There was no answer.")
        if self.chat.turns or self._store.has(self.chat.name):
            self._store.save(self.chat)

    def stop(self) -> None:
        if self._answer is not None:
            self._answer.cancel()

    # --- Commands -----------------------------------------------------------------------------------------------------

    async def _command(self, command: Command) -> bool:
        if command.name == "quit":
            return False
        said = _COMMANDS[command.name](self, command.argument)
        if said is not None:
            await said
        return True

    async def _model(self, name: str) -> None:
        if not name:
            self._known = await self._gateway.models()
            for known in self._known:
                self.screen.note(f"{'▸' if known == self.chat.model else ' '} {known}")
            return
        if name not in self._known and not await self._gateway.has(name):
            raise NotFound(f"There is no model {name!r} here. /model lists them.")
        self.chat = replace(self.chat, model=name)
        self.screen.note(f"model: {name}")

    def _tools(self, text: str) -> None:
        named = self._gateway.client.mcp
        if not text:
            table = Table(box=None, show_header=False, pad_edge=False)
            for name, is_on, purpose in tools.described(self.chat.tools, named):
                table.add_row("▸" if is_on else " ", escape(name), Text(purpose, style="chat.note"))
            self.screen.show(table)
            return
        self.chat = replace(self.chat, tools=tools.checked(names_of(text), named))
        self.screen.note(f"tools: {', '.join(self.chat.tools) or 'off'}")

    def _think(self, text: str) -> None:
        if text.lower() == "show":
            self.screen.show(Text(self.chat.reasoning or "The last answer told no thoughts.", style="chat.thought"))
            return
        self.chat = replace(self.chat, think=think_of(text, self.chat.think))
        tokens = " tokens at most" if self.chat.think.isdigit() else ""
        self.screen.note(f"thinking: {self.chat.think or 'as the model does'}{tokens}")

    def _system(self, text: str) -> None:
        if text:
            self.chat = replace(self.chat, system="" if text.lower() == "off" else text)
        self.screen.note(f"system: {self.chat.system or 'none'}")

    def _image(self, path: str) -> None:
        if not path:
            raise BadRequest("Which picture? /image PATH")
        found = attach.read(attach.path_of(path.strip("'\"")))
        if not isinstance(found, attach.Picture):
            raise BadRequest(f"{path} is no picture (PNG, JPEG, GIF, WebP). @{path} in a message puts a text in.")
        self._attached.append(found)
        self.screen.note(f"{attach.shown(found)}; it goes with the next message")

    async def _retry(self, _: str) -> None:
        message = self._unsent
        if message is None:
            if not self.chat.turns:
                raise BadRequest("There is nothing to ask again yet.")
            message = self.chat.turns[-1].messages[0]
            self.chat = self.chat.without_last()
        await self.send(message)

    def _undo(self, _: str) -> None:
        if not self.chat.turns:
            raise BadRequest("There is nothing to undo.")
        message = self.chat.turns[-1].messages[0]
        self.chat = self.chat.without_last()
        self._store.save(self.chat)
        self._default = text_of(message) if isinstance(message["content"], str) else ""
        self.screen.note(f"Dropped the last turn; {len(self.chat.turns)} are left.")

    def _clear(self, _: str) -> None:
        name = self._store.new_name(datetime.now())
        self.chat = replace(self.chat, name=name, created_at=time.time(), turns=())
        self._unsent, self._attached = None, []
        self.screen.note("A new conversation.")

    def _save(self, name: str) -> None:
        if not self.chat.turns:
            raise BadRequest("There is nothing to save yet.")
        file = Path(name or f"{self.chat.name}.md").expanduser()
        data = self.chat.dump() if file.suffix == ".json" else markdown(self.chat).encode()
        try:
            with file.open("wb" if name else "xb") as opened:
                opened.write(data)
        except OSError as error:
            raise BadRequest(f"{file} cannot be written: {error.strerror}. /save FILE names another.") from error
        self.screen.note(f"Wrote {file} ({len(data):,} bytes).")

    def _load(self, name: str) -> None:
        if not name:
            for each in self._store.names()[:LISTED]:
                self.screen.note(f"{'▸' if each == self.chat.name else ' '} {each}  {self._title(each)}")
            return
        self.chat = self._store.load(name)
        self._unsent, self._attached = None, []
        self._greet()

    def _title(self, name: str) -> str:
        try:
            return self._store.load(name).title
        except NaruError as error:
            return f"[{error.message}]"

    def _cost(self, _: str) -> None:
        found = sums(self.chat.turns)
        if not found:
            raise BadRequest("Nothing was asked yet, so nothing was spent.")
        table = Table("model", box=None, pad_edge=False, header_style="bold")
        for column in ("turns", "in", "cached", "out", "thinking", "cost"):
            table.add_column(column, justify="right", no_wrap=True)
        for each in found:
            usage, cost = each.usage, dollars(each.cost_nano) + (f" + {each.unknown} not told" if each.unknown else "")
            figures = (each.turns, usage.input, usage.cached, usage.output, usage.reasoning)
            table.add_row(escape(each.model), *(f"{figure:,}" for figure in figures), cost)
        if len(found) > 1:
            table.add_row("all", *[""] * 5, dollars(sum(each.cost_nano for each in found)))
        self.screen.show(table)

    def _help(self, _: str) -> None:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, (argument, text) in COMMANDS.items():
            table.add_row(escape(f"/{name} {argument}"), escape(text))
        for key, text in KEYS:
            table.add_row(key, text)
        self.screen.show(table)


_COMMANDS: Mapping[str, Callable[[Talk, str], Awaitable[None] | None]] = {
    "model": Talk._model,
    "tools": Talk._tools,
    "think": Talk._think,
    "system": Talk._system,
    "image": Talk._image,
    "retry": Talk._retry,
    "undo": Talk._undo,
    "clear": Talk._clear,
    "save": Talk._save,
    "load": Talk._load,
    "cost": Talk._cost,
    "help": Talk._help,
}
