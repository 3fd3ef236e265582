"""Jinja as Hugging Face sets it up, with bounds: no template reaches Python, loops for ever, or builds more than a prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format, do_indent, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: No number in a template or a request is a length or a count above this.
_MAX_NUMBER = 100_000
_MAX_INDENT = 64
_STAR = re.compile(r"%(\([^)]*\))?[^%a-zA-Z]*\*|\{[^{}]*\{")  # %*d, {:{w}}
_FIELD = re.compile(r"[%{][^\s%{}]*")
_DIGITS = re.compile(r"\d+")
_STEPS_FILTER = "naru_steps"
_SIZED_FILTER = "naru_sized"
#: Methods of a string whose result can be far longer than it.
_GROWING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "format", "format_map", "translate"}
)
#: Filters for web pages, which no chat template has use for and whose results can be far longer than what goes in.
_UNUSED = ("batch", "center", "filesizeformat", "pprint", "random", "slice", "urlize", "wordwrap", "xmlattr")


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
        self._bound_filters()
        del self.globals["lipsum"]  # random text
        self.globals["range"] = _short_range

    def _bound_filters(self) -> None:
        for unused in _UNUSED:
            del self.filters[unused]
        self.filters |= {
            "tojson": tojson,
            "replace": self._replace,
            "join": self._join,
            "indent": self._indent,
            "format": self._format,
            "sum": self._sum,
            _STEPS_FILTER: _counted,
            _SIZED_FILTER: self._sized,
        }

    def concat(self, pieces: Iterable[str]) -> str:
        """Jinja joins what a macro, a block or `{% set %}…{% endset %}` has printed with this."""
        return self._joined(pieces, "")

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
        if operator == "%" and isinstance(left, str):
            self._check(_printed(left, right))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        # Jinja wraps str.format.
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in _GROWING:
            values = (*args, *kwargs.values())
            if any(_number(value) > _MAX_NUMBER for value in values):
                raise OutOfBounds("a field is too wide")
            __self._check(_grown(name, owner, values))
        return super().call(__context, __obj, *args, **kwargs)

    def _replace(self, text: Any, old: Any, new: Any, count: int | None = None) -> str:
        text, old, new = str(text), str(old), str(new)
        self._check(_replaced(text, (old, new)))
        return str(text.replace(old, new, -1 if count is None else count))

    def _join(self, values: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            values = map(make_attrgetter(self, attribute), values)
        return self._joined(map(str, values), str(d))

    def _joined(self, pieces: Iterable[str], between: str) -> str:
        parts = []
        size = 0
        for piece in pieces:
            size += len(piece) + len(between)
            self._check(size)
            parts.append(piece)
        return between.join(parts)

    def _indent(self, text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        text = str(text)
        self._check(len(text) + (text.count("\n") + 1) * (_number(width) + _length(width)))
        return do_indent(text, width, first, blank)

    def _format(self, text: Any, *args: Any, **kwargs: Any) -> str:
        self._check(_printed(str(text), (*args, *kwargs.values())))
        return do_format(text, *args, **kwargs)

    def _sum(self, values: Iterable[Any], attribute: str | int | None = None, start: Any = 0) -> Any:
        if attribute is not None:
            values = map(make_attrgetter(self, attribute), values)
        if isinstance(start, list | tuple):
            raise OutOfBounds("sum() of lists; a loop can join them")
        return sum(values, start)

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
    if _number(indent) > _MAX_INDENT or any(len(text) > _MAX_INDENT for text in separators or ()):
        raise OutOfBounds("tojson() with so much space")
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


def _printed(text: str, values: Any) -> int:
    """At most how long `text % values` is, or `text.format(*values)`, by the widest field that the text or a value asks for."""
    if _STAR.search(text):
        raise OutOfBounds("a field is as wide as a value says")
    widest = max((int(digits[:9]) for part in _FIELD.findall(text) for digits in _DIGITS.findall(part)), default=0)
    items = values.values() if isinstance(values, dict) else values if isinstance(values, list | tuple) else (values,)
    longest = max((_length(item) for item in items), default=0)
    return len(text) + (text.count("%") + text.count("{")) * max(widest, longest)


_Estimate = Callable[[str, tuple[Any, ...]], int]


def _grown(name: str, text: str, values: tuple[Any, ...]) -> int:
    estimate = _ESTIMATES.get(name)
    return estimate(text, values) if estimate else 0


def _replaced(text: str, args: tuple[Any, ...]) -> int:
    if len(args) < 2 or not (isinstance(args[0], str) and isinstance(args[1], str)):
        return 0
    found = text.count(args[0]) if args[0] else len(text) + 1
    return len(text) + found * len(args[1])


def _joined(text: str, args: tuple[Any, ...]) -> int:
    parts = args[0] if args and isinstance(args[0], list | tuple | str) else ()
    return len(text) * len(parts) + sum(map(_length, parts))


_ESTIMATES: dict[str, _Estimate] = {"replace": _replaced, "join": _joined, "format": _printed, "format_map": _printed}
