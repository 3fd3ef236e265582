"""The calculator: what it reads, how exact it is, where it stops."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.agent.builtin.calculator import MAX_CHARS, calculate, evaluate
from naru.agent.tool import ToolError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("0.1 + 0.2", "0.3"),
        ("1/3*3", "1"),
        ("1/3", "0.333333333333333"),
        ("100 / 8", "12.5"),
        ("7 // 2", "3"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("2^3^2", "512"),
        ("-2^2", "-4"),
        ("2**-1", "0.5"),
        ("--3", "3"),
        ("50%", "0.5"),
        ("200 * 10% + 1", "21"),
        ("50% - 0.2", "0.3"),
        ("7%3", "1"),
        ("1,234.5 × 2", "2469"),
        ("max(1,234)", "234"),
        ("max((1,000), 2)", "1000"),
        ("6 ÷ 4", "1.5"),
        ("５＋３", "8"),
        ("3² − 1", "8"),
        ("12 * 34 = ?", "408"),
        ("5!", "120"),
        ("10! / 8!", "90"),
        ("2^100", "1267650600228229401496703205376"),
        ("1000!", "4.02387260077094e+2567"),
        ("sqrt(16)", "4"),
        ("√16 + 1", "5"),
        ("sqrt(2) * sqrt(2)", "2"),
        ("sqrt(2)", "1.4142135623731"),
        ("cbrt(-27)", "-3"),
        ("abs(-2.5)", "2.5"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(1.005, 2)", "1.01"),
        ("floor(-1.5) + ceil(1.2)", "0"),
        ("min(3, 1/2, 2)", "0.5"),
        ("sum(1, 2, 3) / mean(1, 3)", "3"),
        ("gcd(12, 18) * lcm(4, 6)", "72"),
        ("log(e)", "1"),
        ("log10(1000)", "3"),
        ("log2(1/8)", "-3"),
        ("log(9, 3)", "2"),
        ("log(7, 3)", "1.77124374916142"),
        ("ln(2)", "0.693147180559945"),
        ("exp(1)", "2.71828182845905"),
        ("sin(pi)", "0"),
        ("sin(pi / 6)", "0.5"),
        ("cos(radians(60))", "0.5"),
        ("degrees(pi)", "180"),
        ("2.5e3", "2500"),
        ("1e-20", "0.00000000000000000001"),
        ("pi", "3.14159265358979"),
        ("0^0", "1"),
        ("exp(-100000)", "0"),
    ],
)
def test_values(expression: str, value: str) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "nothing to calculate"),
        ("2 +", "A number was expected, not the end"),
        ("(1 + 2", "closing bracket was expected, not the end"),
        ("2 3", "'3' at character 3"),
        ("2(3)", "operator may be missing"),
        ("1..2", "number at character 1"),
        ("0x10", "number at character 1"),
        ("__import__('os').system('true')", "'__import__' is not known. There are: abs"),
        ("(1).real", "'.' at character 4"),
        ("1/0", "Division by zero"),
        ("5 % 0", "Division by zero"),
        ("0^-1", "no negative power"),
        ("(-8)^(1/3)", "among the real numbers"),
        ("sqrt(-1)", "no square root"),
        ("log(0)", "positive numbers"),
        ("log(2, 1)", "not 1"),
        ("asin(2)", "not defined there"),
        ("2.5!", "Factorials are of whole numbers"),
        ("1001!", "from 0 to 1000"),
        ("gcd(1.5, 2)", "Whole numbers"),
        ("round(1, 99)", "whole number of decimals"),
        ("sqrt 2", "Write sqrt with brackets"),
        ("sqrt(1, 2)", "does not take 2 values"),
    ],
)
def test_what_cannot_be_calculated_is_told(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as failure:
        evaluate(expression)
    assert said in str(failure.value)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("9**9**9", "3,900 digits"),
        ("10^3900 * 10^3900", "3,900 digits"),
        ("1e999999999", "too large"),
        ("2.5^1e30", "3,900 digits"),
        ("pi^1e30", "too large"),
        ("exp(1e30)", "too large"),
        ("sin(1e400)", "not defined"),
        ("(" * 60 + "1" + ")" * 60, "deeper than 50"),
        ("-" * 60 + "1", "deeper than 50"),
        ("1" + "^1" * 60, "deeper than 50"),
        ("√" * 900 + "1", "deeper than 50"),
        ("1+" * MAX_CHARS + "1", f"{MAX_CHARS} are read"),
    ],
    ids=lambda text: text[:20],
)
def test_everything_is_bounded(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as failure:
        evaluate(expression)
    assert said in str(failure.value)
    assert len(str(failure.value)) < 500


@given(st.text(st.sampled_from("0123456789.,+-*/%^!() episqrtmaxlog√²×π１あ한\n\0"), max_size=30))
def test_any_text_has_a_value_or_a_tool_error(text: str) -> None:
    try:
        assert evaluate(text)
    except ToolError:
        pass


NUMBERS = st.integers(-10_000, 10_000).map(lambda number: Fraction(number, 100))


@given(NUMBERS, st.sampled_from("+-*"), NUMBERS, st.sampled_from("+-*"), NUMBERS)
def test_decimals_are_exact(a: Fraction, one: str, b: Fraction, two: str, c: Fraction) -> None:
    text = f"{float(a)} {one} ({float(b)} {two} {float(c)})"
    exact = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__}
    assert Fraction(evaluate(text)) == exact[one](a, exact[two](b, c))


async def test_the_tool_is_what_the_demo_model_knows() -> None:
    assert (calculate.tool.name, list(calculate.tool.parameters["properties"])) == ("calculate", ["expression"])
    assert await calculate.tool.call({"expression": "2*3"}) == "6"
