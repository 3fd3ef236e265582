"""Arithmetic of the calculator: fractions where it is exact, decimals of 40 digits where it cannot be (roots, logarithms, sines).

So 0.1 + 0.2 is 0.3, and a third times three is one. Everything is bounded: see `sized`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException, localcontext
from fractions import Fraction

import msgspec

#: Exact, or as near as 40 digits come.
Number = Fraction | Decimal

#: About 3,900 digits; Python refuses to write out whole numbers of more than 4,300.
MAX_BITS = 13_000
MAX_FACTORIAL = 1000
MAX_WHOLE_DIGITS = 100
MAX_EXACT_DECIMALS = 30
SIGNIFICANT_DIGITS = 15
_NEAR = Fraction(1, 10**30)


class Unfit(Exception):
    """What cannot be calculated. The message is one sentence."""


def _context() -> Context:
    return Context(prec=40, Emax=MAX_BITS, Emin=-MAX_BITS)


def sized(value: Number) -> Number:
    """The value, if it is of a size that can be dealt with."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise Unfit("The result is too large.")
        return value
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise Unfit("A number has more than 3,900 digits.")
    return value


def decimal(value: Number) -> Decimal:
    if isinstance(value, Decimal):
        return value
    with localcontext(_context()):
        return Decimal(value.numerator) / Decimal(value.denominator)


def _approximate(work: Callable[[], Decimal]) -> Decimal:
    try:
        with localcontext(_context()):
            return work()
    except (DecimalException, OverflowError) as error:
        raise Unfit("The result is too large or not defined.") from error


def plus(left: Number, right: Number) -> Number:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left + right
    return _approximate(lambda: decimal(left) + decimal(right))


def times(left: Number, right: Number) -> Number:
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left * right
    return _approximate(lambda: decimal(left) * decimal(right))


def _negative(value: Number) -> Number:
    """`-value` would round a Decimal to the 28 digits of Python's default context."""
    return times(value, Fraction(-1))


def divided(left: Number, right: Number) -> Number:
    if right == 0:
        raise Unfit("Division by zero is not defined.")
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left / right
    return _approximate(lambda: decimal(left) / decimal(right))


def divided_whole(left: Number, right: Number) -> Number:
    return Fraction(math.floor(_exact(divided(left, right))))


def remainder(left: Number, right: Number) -> Number:
    """With the sign of the right side, as in Python."""
    return plus(left, _negative(times(right, divided_whole(left, right))))


def power(base: Number, exponent: Number) -> Number:
    if base == 0 and exponent < 0:
        raise Unfit("Zero has no negative power.")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if base not in (0, 1, -1) and (bits - 1) * abs(exponent.numerator) > MAX_BITS:
            raise Unfit("The power has more than 3,900 digits.")
        if base in (0, 1, -1):
            return base if exponent.numerator % 2 or base == 1 else Fraction(int(base != 0 or exponent == 0))
        return Fraction(base**exponent.numerator)
    if base < 0:
        raise Unfit("A negative number has no such power among the real numbers.")
    if isinstance(base, Fraction) and exponent == Fraction(1, 2):
        return _sqrt([base])
    return _approximate(lambda: decimal(base) ** decimal(exponent))


def factorial(value: Number) -> Number:
    if isinstance(value, Decimal) or value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise Unfit(f"Factorials are of whole numbers from 0 to {MAX_FACTORIAL}.")
    return Fraction(math.factorial(value.numerator))


def _settled(value: Number) -> Number:
    """A decimal within 30 decimals of a whole number is that number: 3 out of log10(1000)."""
    if isinstance(value, Fraction):
        return value
    nearest = Fraction(value.to_integral_value(ROUND_HALF_UP))
    return nearest if abs(Fraction(value) - nearest) < _NEAR else value


def _exact(value: Number) -> Fraction:
    """For what has steps: rounding, whole division."""
    return Fraction(_settled(value))


def _sqrt(given: list[Number]) -> Number:
    (value,) = given
    if value < 0:
        raise Unfit("A negative number has no square root among the real numbers.")
    if isinstance(value, Fraction):
        root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
        if root * root == value:
            return root
    return _approximate(lambda: decimal(value).sqrt())


def _cbrt(given: list[Number]) -> Number:
    (value,) = given
    if value < 0:
        return _negative(_cbrt([_negative(value)]))
    third = _approximate(lambda: decimal(value) ** (Decimal(1) / 3)) if value else Decimal(0)
    return _settled(third)


def _round(given: list[Number]) -> Number:
    """Half away from zero, as schools teach it."""
    digits = given[1] if len(given) > 1 else Fraction(0)
    if isinstance(digits, Decimal) or digits.denominator != 1 or abs(digits) > MAX_EXACT_DECIMALS:
        raise Unfit(f"round takes a whole number of decimals, up to {MAX_EXACT_DECIMALS}.")
    scale = Fraction(10) ** digits.numerator
    scaled = abs(_exact(given[0])) * scale
    rounded = Fraction(math.floor(scaled + Fraction(1, 2))) / scale
    return -rounded if given[0] < 0 else rounded


def _log(given: list[Number]) -> Number:
    if len(given) > 1:
        return _log_to(given[0], given[1])
    value = given[0]
    if value <= 0:
        raise Unfit("Only positive numbers have a logarithm.")
    return Fraction(0) if value == 1 else _approximate(lambda: decimal(value).ln())


def _log_to(value: Number, base: Number) -> Number:
    if base <= 0 or base == 1:
        raise Unfit("The base of a logarithm is positive and not 1.")
    return _settled(divided(_log([value]), _log([base])))


def _by_float(function: Callable[[float], float]) -> Callable[[list[Number]], Number]:
    """Of `math`, to 15 decimals, so that sin(pi) is 0."""

    def call(given: list[Number]) -> Number:
        try:
            return decimal(Fraction(str(round(function(float(given[0])), SIGNIFICANT_DIGITS))))
        except (ValueError, OverflowError) as error:
            raise Unfit("That function is not defined there.") from error

    return call


def _whole(given: list[Number]) -> list[int]:
    exact = [_exact(value) for value in given]
    if any(value.denominator != 1 for value in exact):
        raise Unfit("Whole numbers are needed there.")
    return [value.numerator for value in exact]


def _sum(given: list[Number]) -> Number:
    total: Number = Fraction(0)
    for value in given:
        total = plus(total, value)
    return total


class Function(msgspec.Struct, frozen=True):
    """`call` gets from `least` to `most` numbers."""

    call: Callable[[list[Number]], Number]
    least: int = 1
    most: int = 1


_MANY = 1000
_PI = Decimal("3.141592653589793238462643383279502884197")
CONSTANTS: dict[str, Number] = {
    "pi": _PI,
    "tau": Decimal("6.283185307179586476925286766559005768394"),
    "e": Decimal("2.718281828459045235360287471352662497757"),
}
FUNCTIONS: dict[str, Function] = {
    "sqrt": Function(_sqrt),
    "cbrt": Function(_cbrt),
    "abs": Function(lambda given: _negative(given[0]) if given[0] < 0 else given[0]),
    "round": Function(_round, 1, 2),
    "floor": Function(lambda given: Fraction(math.floor(_exact(given[0])))),
    "ceil": Function(lambda given: Fraction(math.ceil(_exact(given[0])))),
    "min": Function(lambda given: min(given, key=lambda value: Fraction(value)), 1, _MANY),
    "max": Function(lambda given: max(given, key=lambda value: Fraction(value)), 1, _MANY),
    "sum": Function(_sum, 1, _MANY),
    "mean": Function(lambda given: divided(_sum(given), Fraction(len(given))), 1, _MANY),
    "pow": Function(lambda given: power(given[0], given[1]), 2, 2),
    "mod": Function(lambda given: remainder(given[0], given[1]), 2, 2),
    "gcd": Function(lambda given: Fraction(math.gcd(*_whole(given))), 1, _MANY),
    "lcm": Function(lambda given: Fraction(math.lcm(*_whole(given[:10]))), 1, 10),
    "factorial": Function(lambda given: factorial(given[0])),
    "exp": Function(lambda given: _approximate(lambda: decimal(given[0]).exp())),
    "log": Function(_log, 1, 2),
    "ln": Function(_log),
    "log10": Function(lambda given: _log_to(given[0], Fraction(10))),
    "log2": Function(lambda given: _log_to(given[0], Fraction(2))),
    "sin": Function(_by_float(math.sin)),
    "cos": Function(_by_float(math.cos)),
    "tan": Function(_by_float(math.tan)),
    "asin": Function(_by_float(math.asin)),
    "acos": Function(_by_float(math.acos)),
    "atan": Function(_by_float(math.atan)),
    "degrees": Function(lambda given: divided(times(given[0], Fraction(180)), _PI)),
    "radians": Function(lambda given: divided(times(given[0], _PI), Fraction(180))),
}


def shown(value: Number) -> str:
    """In full where it is exact and short, else 15 significant digits."""
    if isinstance(value, Fraction):
        if value.denominator == 1 and len(text := str(value.numerator)) <= MAX_WHOLE_DIGITS:
            return text
        exact = _decimal_digits(value)
        if exact is not None:
            return exact
    with localcontext(_context()) as context:
        rounded = context.create_decimal(decimal(value))
        context.prec = SIGNIFICANT_DIGITS
        rounded = +rounded
    if rounded == 0:
        return "0"
    # Without an exponent while it is a number that people write so.
    return format(rounded.normalize(), "f" if -7 < rounded.adjusted() < 21 else "E").replace("E", "e")


def _decimal_digits(value: Fraction) -> str | None:
    """All decimals of a fraction that ends, if there are few enough."""
    scaled = value * 10**MAX_EXACT_DECIMALS
    if scaled.denominator != 1 or len(str(abs(int(value)))) > MAX_EXACT_DECIMALS:
        return None
    sign, digits = "-" if value < 0 else "", str(abs(scaled.numerator)).rjust(MAX_EXACT_DECIMALS + 1, "0")
    return f"{sign}{digits[:-MAX_EXACT_DECIMALS]}.{digits[-MAX_EXACT_DECIMALS:].rstrip('0')}"
