"""Jinja as Hugging Face sets it up, with bounds: no template reaches Python, loops for ever, or builds more than a prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: No number in a template or a request is a length or a count above this.
_MAX_NUMBER = 100_000
_WIDTH = re.compile(r"%[^%a-zA-Z]*(\d{5,}|\*)")
_STEPS_FILTER = "naru_steps"
_SIZED_FILTER = "naru_sized"
#: Methods of a string whose result can be far longer than it.
_GROWING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "format", "format_map", "translate"}
)


class Refused(jinja2.TemplateError):
    """The template called raise_exception."""


class OutOfBounds(Exception):
    """The template loops or grows beyond what any prompt needs."""


class Steps:
    """How many rounds one rendering has left, for all its loops together."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise OutOfBounds("it loops too long")


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote, for training; here it prints its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own attribute)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """Every loop is counted, and every operation that makes long text out of short is measured before it is done."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, max_size: int) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self._max_size = max_size
        self.filters["tojson"] = tojson
        self.filters[_STEPS_FILTER] = _counted
        self.filters[_SIZED_FILTER] = self._sized
        del self.globals["lipsum"]  # random text
        self.globals["range"] = _short_range

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, _STEPS_FILTER, [], [], None, None, lineno=loop.lineno)
        for concat in tree.find_all(nodes.Concat):
            concat.nodes = [
                nodes.Filter(part, _SIZED_FILTER, [], [], None, None, lineno=concat.lineno) for part in concat.nodes
            ]
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (abs(left) > _MAX_NUMBER or abs(right) > 64):
            raise OutOfBounds("a power is too large")
        if operator == "*":
            self._check(max(_length(left) * _number(right), _length(right) * _number(left)))
        if operator == "+":
            self._check(_length(left) + _length(right))
        if operator == "%" and isinstance(left, str) and _WIDTH.search(left):
            raise OutOfBounds("a field is too wide")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in _GROWING:
            if any(_number(arg) > _MAX_NUMBER for arg in args) or re.search(
                r"\d{5,}", owner if name == "format" else ""
            ):
                raise OutOfBounds("a field is too wide")
            __self._check(_grown(name, owner, args))
        return super().call(__context, __obj, *args, **kwargs)

    def _sized(self, value: Any) -> Any:
        self._check(_length(value))
        return value

    def _check(self, size: int) -> None:
        if size > self._max_size:
            raise OutOfBounds("it builds too long a text")


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Hugging Face's filter. Jinja's own escapes `<>&'` and everything that is not ASCII: other tokens, worse tool use."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@jinja2.pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    steps = context.resolve(_STEPS_FILTER)
    for value in values:
        steps.take()
        yield value


def _short_range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > _MAX_NUMBER:
        raise OutOfBounds(f"range() of more than {_MAX_NUMBER}")
    return numbers


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


_Estimate = Callable[[str, tuple[Any, ...]], int]


def _grown(name: str, text: str, args: tuple[Any, ...]) -> int:
    estimate = _ESTIMATES.get(name)
    return estimate(text, args) if estimate else 0


def _replaced(text: str, args: tuple[Any, ...]) -> int:
    if len(args) < 2 or not (isinstance(args[0], str) and isinstance(args[1], str)):
        return 0
    found = text.count(args[0]) if args[0] else len(text) + 1
    return len(text) + found * len(args[1])


def _joined(text: str, args: tuple[Any, ...]) -> int:
    parts = args[0] if args and isinstance(args[0], list | tuple | str) else ()
    return len(text) * len(parts) + sum(map(_length, parts))


_ESTIMATES: dict[str, _Estimate] = {"replace": _replaced, "join": _joined}
