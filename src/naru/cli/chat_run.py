"""`naru chat` once its parts are loaded: what was asked, then a chat or one answer."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console

from naru.chat import attach, once, tools
from naru.chat.asked import Asked, asked, default_model, may_be_model
from naru.chat.attach import Attachment
from naru.chat.commands import names_of, think_of
from naru.chat.conversation import Chat, Json, Turn, usage_line
from naru.chat.gateway import Gateway
from naru.chat.paint import STYLES
from naru.chat.prompt import Prompt
from naru.chat.screen import Plain, Screen, Terminal, screen_of
from naru.chat.store import Store
from naru.chat.talk import Talk
from naru.cli.chat_reach import Reached, reach
from naru.cli.exits import INTERRUPTED, OK, PARTIAL, exit_code
from naru.cli.output import print_json
from naru.errors import BadRequest, NotFound

CHATS, HISTORY = "chats", "chat_history"


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """Of the command line. `after`: what follows `--`."""

    words: tuple[str, ...] = ()
    after: list[str] | None = None
    model: str | None = None
    tools: str | None = None
    think: str | None = None
    system: str | None = None
    files: tuple[Path, ...] = ()
    is_continued: bool = False
    session: str | None = None
    config_path: Path | None = None
    as_json: bool = False


def run(given: dict[str, Any]) -> int:
    """The exit code."""
    options = Options(**given)
    if options.is_continued and options.session:
        raise click.UsageError("--continue and --session both say which conversation: give one.")
    reached = reach(options.config_path)
    piped = None if sys.stdin.isatty() else sys.stdin.buffer.read()
    return asyncio.run(_run(options, reached, piped))


async def _run(options: Options, reached: Reached, piped: bytes | None) -> int:
    gateway = reached.gateway
    try:
        known = await gateway.models()
        said = await _asked(options, gateway, known)
        store = Store(reached.home / CHATS)
        chat = _chat(options, said.model, store, gateway, known)
        if said.question or piped is not None or not sys.stdout.isatty():
            return await _once(options, gateway, store, chat, _message(options, said.question, piped))
        return await _talk(options, reached, Talk(gateway, screen_of(_console()), store, chat, known))
    finally:
        await gateway.close()


async def _asked(options: Options, gateway: Gateway, known: Sequence[str]) -> Asked:
    """Which model and which question. Raises NotFound for a --model that there is not."""
    words = options.words
    if options.model:
        if options.model not in known and not await gateway.has(options.model):
            raise NotFound(f"There is no model {options.model!r} here. There are: {', '.join(known)}.")
        return Asked(options.model, " ".join([*words, *(options.after or ())]))
    first = words[0] if words else ""
    is_model = first in known or (may_be_model(first) and await gateway.has(first))
    found = asked(words, is_model, known)
    rest = " ".join([*([found.question] if found.question else []), *(options.after or ())])
    return replace(found, question=rest)


def _chat(options: Options, model: str, store: Store, gateway: Gateway, known: Sequence[str]) -> Chat:
    """The conversation that goes on, with what the command line says; or a new one."""
    before = None
    if options.is_continued:
        before = store.latest()
        if before is None:
            raise NotFound("There is no conversation to go on with yet.")
    elif options.session and store.has(options.session):
        before = store.load(options.session)
    if before is None:
        name = options.session or store.new_name(datetime.now())
        before = Chat(name, model or default_model(known), time.time())
    named = gateway.client.mcp
    return replace(
        before,
        model=model or before.model,
        system=before.system if options.system is None else options.system,
        tools=before.tools if options.tools is None else tools.checked(names_of(options.tools), named),
        think=before.think if options.think is None else think_of(options.think, before.think),
    )


def _message(options: Options, question: str, piped: bytes | None) -> Json:
    """Raises BadRequest where there is nothing to ask."""
    attached: list[Attachment] = [attach.read(path) for path in options.files]
    paths, _ = attach.found(question, lambda path: path.is_file())
    attached += [attach.read(path) for path in paths]
    context = attach.attachment("Standard input", piped) if piped else None
    if isinstance(context, attach.Picture):
        attached.append(context)
    elif context is not None:
        question = f"{context.text.strip()}\n\n{question}".strip()
    if not question and not attached:
        raise BadRequest('There is no question. Write it behind the command: naru chat "…", or into standard input.')
    for each in attached:
        click.echo(attach.shown(each), err=True)
    return {"role": "user", "content": attach.content_of(question, attached)}


async def _once(options: Options, gateway: Gateway, store: Store, chat: Chat, message: Json) -> int:
    """From and to pipes only what was asked to be kept is kept: a script may ask a thousand times."""
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_kept = has_terminal or options.is_continued or options.session is not None

    def save(turn: Turn) -> None:
        if is_kept:
            store.save(chat.with_turn(turn))

    screen = _once_screen(options)
    turn, failure = await once.ask(gateway, screen, chat, message, save, can_ask=has_terminal)
    if len(turn.messages) > 1:
        save(turn)
    if options.as_json:
        print_json(once.as_json(turn))
    if once.was_stopped(turn):
        return INTERRUPTED
    if turn.error:
        click.echo(f"naru: {turn.error}", err=True)
        return PARTIAL if failure is None else exit_code(failure)
    if has_terminal and not options.as_json:
        screen.note(usage_line(turn))
    return OK


def _once_screen(options: Options) -> Screen:
    if options.as_json:
        return Plain(io.StringIO(), sys.stderr)
    return screen_of(_console()) if sys.stdout.isatty() else Plain(sys.stdout, sys.stderr)


async def _talk(options: Options, reached: Reached, talk: Talk) -> int:
    talk.attach(options.files)
    is_plain = not isinstance(talk.screen, Terminal)
    await talk.run(Prompt(reached.home / HISTORY, talk.choices, talk.beside, is_plain))
    return OK


def _console() -> Console:
    return Console(theme=STYLES, highlight=False)
