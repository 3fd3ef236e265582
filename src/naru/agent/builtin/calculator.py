"""A calculator that reads what models and people write. Nothing is given to Python's `eval`: a parser of its own knows numbers,
operators and the functions below, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

from naru.agent.builtin.numbers import (
    CONSTANTS,
    FUNCTIONS,
    Number,
    Unfit,
    divided,
    divided_whole,
    plus,
    power,
    remainder,
    shown,
    sized,
    times,
)
from naru.agent.builtin.numbers import factorial as factorial_of
from naru.agent.function import tool
from naru.agent.tool import ToolError

MAX_CHARS = 1000
#: Brackets and signs inside one another. Each level is a few frames of Python's stack.
MAX_DEPTH = 50

#: What is written on paper, in Korean and Chinese text, and in code. Fullwidth forms stand 0xFEE0 above ASCII.
_SPELLINGS = {
    **{code + 0xFEE0: chr(code) for code in range(0x21, 0x7F)},
    **{ord(char): "*" for char in "×·⋅∙"},
    **{ord(char): "/" for char in "÷∕"},
    **{ord(char): "-" for char in "−–—"},
    ord("²"): "^2",
    ord("³"): "^3",
    ord("π"): "pi",
    0x3000: " ",
    0xA0: " ",
}
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])"
_PLAIN = re.compile(_NUMBER)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w.,])")
_NAME = re.compile(r"[A-Za-z_]\w*")
_STARTS_A_VALUE = re.compile(r"[\d.(A-Za-z√]")
_SUMS: dict[str, Callable[[Number, Number], Number]] = {"+": plus, "-": lambda a, b: plus(a, times(b, Fraction(-1)))}
_PRODUCTS: dict[str, Callable[[Number, Number], Number]] = {
    "//": divided_whole,
    "*": times,
    "/": divided,
    "%": remainder,
}


@tool
def calculate(
    expression: Annotated[str, "Such as 2 * (3 + 4) or sqrt(2) ^ 3"],
) -> str:
    """Evaluate an arithmetic expression: + - * / // % ^, brackets, 10% as 0.1, sqrt, round, min, max, log (natural), sin
    (radians), pi and the like."""
    return evaluate(expression)


def evaluate(expression: str) -> str:
    """The value as text: exact where it is a whole number of up to 100 digits or a decimal of up to 30, else 15 significant
    digits. Raises ToolError, which says what is wrong and where."""
    text = expression.translate(_SPELLINGS).strip().rstrip("=? ")
    if len(text) > MAX_CHARS:
        raise ToolError(
            f"The expression has {len(text)} characters; {MAX_CHARS} are read at most. Calculate it in parts."
        )
    try:
        return shown(_Reader(text).whole())
    except Unfit as error:
        raise ToolError(f"{error} The expression was: {expression[:200]}") from None


class _Reader:
    """Reads and calculates at once, from left to right. Each method takes one level of binding, loosest first."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        #: Inside a function's brackets a comma stands between arguments; elsewhere it groups thousands.
        self.calls = 0

    def whole(self) -> Number:
        if not self.text:
            raise Unfit("There is nothing to calculate.")
        value = self.sum()
        if self._next():
            raise Unfit(
                f"{self._next()!r} at character {self.at + 1} is not understood; an operator may be missing before it."
            )
        return value

    def sum(self) -> Number:
        value = self.product()
        while operator := self._takes("+", "-"):
            value = sized(_SUMS[operator](value, self.product()))
        return value

    def product(self) -> Number:
        value = self.signed()
        while not self._ahead("**") and (operator := self._takes(*_PRODUCTS)):
            value = sized(_PRODUCTS[operator](value, self.signed()))
        return value

    def signed(self) -> Number:
        """A sign binds looser than a power on its right: -2^2 is -4."""
        self._goes_deeper()
        sign = self._takes("+", "-")
        value = self.signed() if sign else self.power()
        self.depth -= 1
        return times(value, Fraction(-1)) if sign == "-" else value

    def power(self) -> Number:
        base = self.postfix()
        if self._takes("**", "^"):
            return sized(power(base, self.signed()))  # from the right: 2^3^2 is 2^9
        return base

    def postfix(self) -> Number:
        value = self.value()
        while True:
            if self._ahead("!"):
                self._takes("!")
                value = factorial_of(value)
            elif self._is_percent():
                self._takes("%")
                value = divided(value, Fraction(100))
            else:
                return value

    def _is_percent(self) -> bool:
        """`50%`, but not `50 % 7`: whether a value follows."""
        if not self._ahead("%"):
            return False
        rest = self.text[self.at + 1 :].lstrip()
        return not _STARTS_A_VALUE.match(rest)

    def value(self) -> Number:
        if self._takes("("):
            return self._bracketed()
        if self._takes("√"):
            self._goes_deeper()
            root = FUNCTIONS["sqrt"].call([self.value()])
            self.depth -= 1
            return root
        start = self._next()
        if start.isascii() and (start.isdigit() or start == "."):
            return self._number()
        name = _NAME.match(self.text, self.at)
        if name is None:
            found = f"{start!r} at character {self.at + 1}" if start else "the end"
            raise Unfit(f"A number was expected, not {found}.")
        self.at = name.end()
        return self._named(name.group().lower())

    def _bracketed(self) -> Number:
        calls, self.calls = self.calls, 0
        value = self.sum()
        self._close()
        self.calls = calls
        return value

    def _number(self) -> Number:
        grouped = None if self.calls else _GROUPED.match(self.text, self.at)
        found = grouped or _PLAIN.match(self.text, self.at)
        if found is None:
            raise Unfit(f"The number at character {self.at + 1} is not understood.")
        self.at = found.end()
        text = found.group().replace(",", "")
        exponent = text.lower().partition("e")[2]
        if exponent and abs(int(exponent)) > MAX_CHARS:
            raise Unfit(f"{text} is too large or too small.")
        return sized(Fraction(text))

    def _named(self, name: str) -> Number:
        if name in CONSTANTS:
            return CONSTANTS[name]
        function = FUNCTIONS.get(name)
        if function is None:
            raise Unfit(f"{name!r} is not known. There are: {', '.join(sorted([*FUNCTIONS, *CONSTANTS]))}.")
        if not self._takes("("):
            raise Unfit(f"Write {name} with brackets, as in {name}(2).")
        self.calls += 1
        given = [self.sum()]
        while self._takes(","):
            given.append(self.sum())
        self._close()
        self.calls -= 1
        if not function.least <= len(given) <= function.most:
            raise Unfit(f"{name} does not take {len(given)} values.")
        return sized(function.call(given))

    def _goes_deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unfit(f"It is nested deeper than {MAX_DEPTH} levels.")

    def _close(self) -> None:
        if not self._takes(")"):
            found = f"{self._next()!r} at character {self.at + 1}" if self._next() else "the end"
            raise Unfit(f"A closing bracket was expected, not {found}.")

    def _next(self) -> str:
        """The next character that is no blank, or nothing."""
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _ahead(self, token: str) -> bool:
        self._next()
        return self.text.startswith(token, self.at)

    def _takes(self, *tokens: str) -> str:
        """The first of the tokens that stands here, and moves behind it."""
        for token in tokens:
            if self._ahead(token):
                self.at += len(token)
                return token
        return ""
