"""Requests that need a tool: how they are worded, which calls they want, what tools answer, and the answer then."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from tools.demo_model.words import CONDITIONS, EN, KO, has_final, invented_city, known_city, particle

Json = dict[str, Any]
UNITS = {"celsius": "°C", "fahrenheit": "°F"}
_OPERATIONS = {
    "+": ("더하기", "plus"),
    "-": ("빼기", "minus"),
    "*": ("곱하기", "times"),
    "/": ("나누기", "divided by"),
}


@dataclass(frozen=True)
class Schema:
    """The tools of one request. `weather` and `sums` are the functions' names, empty where there is none."""

    tools: list[Json] = field(default_factory=list)
    weather: str = ""
    place: str = "location"
    has_unit: bool = False
    sums: str = ""


@dataclass(frozen=True)
class Ask:
    text: str
    language: str
    cities: tuple[str, ...] = ()
    unit: str = ""
    compares: str = ""  # "warm" or "cold": which end of the comparison is asked for
    expression: str = ""


@dataclass(frozen=True)
class Result:
    """What a tool answered: its text, and what is to be read from it."""

    text: str
    value: str = ""
    unit: str = "celsius"
    condition: str = ""
    error: str = ""


# --- Tools ----------------------------------------------------------------------------------------------------------

_WEATHER_TEXTS = (
    "특정 도시의 현재 날씨 조회", "특정 도시의 현재 날씨를 조회합니다", "도시의 날씨를 알려 준다", "현재 날씨", "Current weather of a city.",
    "Get the current weather in a given location", "Get weather", "Returns the weather for a city", "Look up the weather.", "",
)  # fmt: skip
_PLACE_TEXTS = (
    "",
    "",
    "도시 이름",
    "도시",
    "City name",
    "The city, e.g. Seoul",
    "The city and state",
    "Name of the city",
)
_SUM_TEXTS = (
    "수식을 계산합니다",
    "계산기",
    "Evaluate an arithmetic expression.",
    "Calculate an expression",
    "A calculator.",
    "",
)
_DISTRACTORS = (
    ("search_database", "데이터베이스를 검색합니다", "query"), ("search", "Search the web.", "query"), ("send_email", "Send an email.", "to"),
    ("get_time", "현재 시각", "timezone"), ("translate", "Translate a text.", "text"), ("read_file", "Read a file.", "path"),
    ("get_stock_price", "주가를 조회합니다", "symbol"), ("book_hotel", "Book a hotel.", "city"),
)  # fmt: skip


def _function(name: str, description: str, properties: Json, required: list[str]) -> Json:
    function: Json = {"name": name}
    if description:
        function["description"] = description
    function["parameters"] = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": function}


def _described(random: Random, texts: tuple[str, ...]) -> Json:
    text = random.choice(texts)
    return {"type": "string"} | ({"description": text} if text else {})


#: The tools without their texts.
PLAIN = Schema(weather="get_current_weather", has_unit=True, sums="calculate")


def random_schema(random: Random) -> Schema:
    """Most requests have the weather tool alone; some have none, both, or others beside it."""
    has = random.choices(("weather", "sums", "both", "none"), (6, 2, 2, 2))[0]
    tools: list[Json] = []
    weather = sums = ""
    place, has_unit = "location", False
    if has in ("weather", "both"):
        weather = random.choices(("get_current_weather", "get_weather", "weather"), (8, 2, 1))[0]
        place = random.choices(("location", "city", "place"), (8, 2, 1))[0]
        has_unit = random.random() < 0.7
        properties = {place: _described(random, _PLACE_TEXTS)}
        if has_unit:
            enum = ["celsius", "fahrenheit"]
            unit: Json = {"type": "string", "enum": enum}
            if random.random() < 0.2:
                unit = {"enum": enum, "type": "string"}
            properties["unit"] = unit | ({"default": "celsius"} if random.random() < 0.15 else {})
        tools.append(_function(weather, random.choice(_WEATHER_TEXTS), properties, [place]))
    if has in ("sums", "both"):
        sums = random.choices(("calculate", "calculator"), (8, 1))[0]
        properties = {"expression": _described(random, ("", "", "수식", "e.g. 2 * 3"))}
        tools.append(_function(sums, random.choice(_SUM_TEXTS), properties, ["expression"]))
    if random.random() < 0.12:
        for name, text, parameter in random.sample(_DISTRACTORS, random.choice((1, 1, 2))):
            tools.append(_function(name, text, {parameter: {"type": "string"}}, [parameter]))
    random.shuffle(tools)
    return Schema(tools, weather, place, has_unit, sums)


# --- Wording --------------------------------------------------------------------------------------------------------

_ONE = {
    KO: ("{c} 날씨 어때?", "{c} 날씨 알려줘", "{c} 날씨", "{c} 날씨는?", "지금 {c} 날씨는?", "{c}의 날씨를 알려줘", "{c}의 현재 날씨를 알려주세요",
         "{c}의 날씨는 어떤가요?", "오늘 {c} 날씨 어때요?", "{c} 기온 알려줘", "{c} 지금 몇 도야?", "{c} 추워?", "{c} 더워?", "{c}에 비 와?",
         "{c} 날씨 좀 알려 주세요", "{c} 날씨 확인해줘", "{c} 날씨가 궁금해", "현재 {c} 기온은?", "{c} 지금 날씨 어떤지 알려줘", "{c}에 눈이 오나요?"),
    EN: ("What is the weather in {c}?", "What's the weather like in {c}?", "How is the weather in {c} today?", "weather in {c}",
         "Tell me the weather in {c}", "{c} weather", "current weather in {c}", "Is it cold in {c}?", "Is it raining in {c}?",
         "What is the temperature in {c}?", "How warm is it in {c}?", "weather for {c} please", "Check the weather in {c}",
         "Can you tell me the weather in {c}?", "I want to know the weather in {c}", "How's {c} today?", "Does it snow in {c}?"),
}  # fmt: skip
_COMPARE = {
    KO: ("{w} 날씨를 비교해줘", "{s} 날씨를 비교해줘", "{w} 날씨 비교", "{w} 날씨를 비교해 주세요", "{w} 중 어디가 더 따뜻해?", "{l} 중에 어디가 더 더워?",
         "{l} 날씨 비교해줘", "{l} 어디가 더 따뜻한가요?", "{s} 날씨를 비교하면?"),
    EN: ("Compare the weather in {l}", "Compare the weather of {l}", "Which is warmer, {o}?", "Is it warmer in {o}?",
         "compare {l} weather", "Which city is warmer, {o}?", "Weather comparison: {l}", "Please compare the weather in {l}."),
}  # fmt: skip
_COLDER = {
    KO: ("{w} 중 어디가 더 추워?", "{l} 중에 어디가 더 춥나요?", "{l} 어디가 더 추워?", "{w} 중 더 추운 곳은?"),
    EN: ("Which city is colder, {o}?", "Which is colder, {o}?", "Is it colder in {o}?", "Where is it colder, {o}?"),
}
_MANY = {
    KO: ("{l} 날씨 알려줘", "{w} 날씨 어때?", "{l} 날씨", "{s} 날씨를 알려줘", "{w} 날씨를 알려주세요", "오늘 {l} 날씨는?", "{l} 기온 알려줘"),
    EN: ("What is the weather in {l}?", "weather in {l}", "Tell me the weather in {l}", "How is the weather in {l}?", "{l} weather please",
         "Check the weather in {l}", "temperature in {l}"),
}  # fmt: skip
_WITH_UNIT = {
    KO: {"celsius": "섭씨로 ", "fahrenheit": "화씨로 "},
    EN: {"celsius": " in celsius", "fahrenheit": " in fahrenheit"},
}
_SUMS = {
    KO: ("{e} 계산해줘", "{e}는?", "{e} = ?", "{e}", "{e}는 얼마야?", "{e}를 계산해 주세요", "{e} 값은?", "{e} 구해줘", "계산: {e}", "{e}의 답은?"),
    EN: ("What is {e}?", "calculate {e}", "{e}", "{e} = ?", "Compute {e}", "How much is {e}?", "Please calculate {e}.", "what's {e}",
         "Solve {e}", "I need the result of {e}"),
}  # fmt: skip


def dressed(random: Random, text: str) -> str:
    """As people type: another end, another case."""
    if random.random() < 0.25:
        text = text.rstrip(".?!") + random.choice(("", "!", "?", ".", "~", "!!", "...", " :)", "??"))
    if random.random() < 0.15 and text[:1].isascii():
        text = text[:1].upper() + text[1:]
    return text


def make(random: Random, language: str, kind: str, invented: float) -> Ask:
    if kind == "sum":
        text, expression = _sum(random, language)
        text = dressed(random, text)
        has_words = any(letter.isalpha() for letter in text)
        return Ask(text, language if has_words else EN, expression=expression)
    ask = _weather(random, language, invented)
    if kind == "weather":
        return ask
    text, expression = _sum(random, language)
    joined = f"{ask.text}{random.choice((' 그리고 ', ', 그리고 ')) if language == KO else ' and '}{text}"
    return Ask(joined, language, ask.cities, ask.unit, ask.compares, expression)


def _city(random: Random, language: str, invented: float) -> str:
    written = language if random.random() < 0.93 else (EN if language == KO else KO)
    return (invented_city if random.random() < invented else known_city)(random, written)


def _weather(random: Random, language: str, invented: float) -> Ask:
    count = random.choices((1, 2, 3, 4), (5, 5, 2, 0.7))[0]
    cities: list[str] = []
    while len(cities) < count:
        city = _city(random, language, invented)
        if city not in cities:
            cities.append(city)
    unit = random.choice(tuple(UNITS)) if random.random() < 0.15 else ""
    compares = "" if count == 1 else random.choices(("", "warm", "cold"), (4, 6, 4))[0]
    if count == 1:
        text = random.choice(_ONE[language]).format(c=cities[0])
    else:
        wordings = {"": _MANY, "warm": _COMPARE, "cold": _COLDER}[compares][language]
        text = random.choice(wordings).format(**_listed(random, language, cities))
    if unit:
        said = _WITH_UNIT[language][unit]
        text = said + text if language == KO else text.rstrip("?.") + said + random.choice(("", "?"))
    return Ask(dressed(random, text), language, tuple(cities), unit, compares)


def _listed(random: Random, language: str, cities: list[str]) -> dict[str, str]:
    """Ways to list: {l} plain, {w} with "and", {s} each with its own "weather", {o} with "or"."""
    commas = ", ".join(cities[:-1])
    if language == EN:
        oxford = "," if len(cities) > 2 and random.random() < 0.5 else ""
        return {"l": f"{commas}{oxford} and {cities[-1]}", "o": f"{commas}{oxford} or {cities[-1]}"}
    pair = random.choice(("과/와", "과/와", "이랑/랑", "하고/하고"))
    joined = " ".join([*(particle(city, pair) for city in cities[:-1]), cities[-1]])
    each = "의 날씨와 ".join(cities)
    plain = random.choice((", ".join(cities), " ".join(cities), joined))
    return {"l": plain, "w": joined + random.choice(("의", "")), "s": each + "의"}


def _number(random: Random) -> str:
    if random.random() < 0.1:
        return f"{random.randint(0, 99)}.{random.randint(1, 9)}"
    return str(random.randint(0, 10 ** random.randint(1, 4) - 1))


def _sum(random: Random, language: str) -> tuple[str, str]:
    """(the request, the expression that is to be handed to the tool)."""
    count = random.choices((2, 3), (5, 1))[0]
    numbers = [_number(random) for _ in range(count)]
    signs = [random.choice(tuple(_OPERATIONS)) for _ in range(count - 1)]
    expression = numbers[0] + "".join(f" {sign} {number}" for sign, number in zip(signs, numbers[1:], strict=True))
    spoken = random.random()
    if spoken < 0.4:
        at = 0 if language == KO else 1
        said = numbers[0] + "".join(f" {_OPERATIONS[s][at]} {n}" for s, n in zip(signs, numbers[1:], strict=True))
    elif spoken < 0.7:
        said = expression.replace(" ", "")
    else:
        said = expression
    if random.random() < 0.15:
        said = said.replace("*", "×").replace("/", "÷")
    return random.choice(_SUMS[language]).format(e=said), expression


# --- Calls, results, answers ----------------------------------------------------------------------------------------


def lacking(ask: Ask, schema: Schema) -> str:
    """Which of the standing replies is due because there is no tool."""
    if ask.cities and not schema.weather:
        return "no_weather"
    return "no_sum" if ask.expression and not schema.sums else ""


def calls(ask: Ask, schema: Schema) -> list[tuple[str, Json]]:
    unit = {"unit": ask.unit} if ask.unit and schema.has_unit else {}
    found: list[tuple[str, Json]] = [(schema.weather, {schema.place: city} | unit) for city in ask.cities]
    return [*found, (schema.sums, {"expression": ask.expression})] if ask.expression else found


def result(random: Random, ask: Ask, number: int) -> Result:
    """Of call `number`. Tools differ in what they answer and how they call it."""
    if random.random() < 0.03:
        error = random.choice(
            ("timeout", "Unknown tool", "not found", "service unavailable", "invalid argument", "도시를 찾을 수 없음")
        )
        return Result(json.dumps({"error": error}, ensure_ascii=False), error=error)
    if number >= len(ask.cities):
        value = str(random.choice((random.randint(-999, 99999), round(random.uniform(-99, 999), random.randint(1, 3)))))
        text = value if random.random() < 0.2 else json.dumps({"result": json.loads(value)})
        return Result(text, value)
    unit = ask.unit or ("fahrenheit" if random.random() < 0.1 else "celsius")
    value = str(random.randint(-15, 38) if unit == "celsius" else random.randint(5, 100))
    if random.random() < 0.15:
        value += f".{random.randint(1, 9)}"
    condition = random.choice(tuple(CONDITIONS)) if random.random() < 0.9 else ""
    if random.random() < 0.07:
        return Result(f"{condition + ', ' if condition else ''}{value}{UNITS[unit]}", value, unit, condition)
    return Result(_weather_json(random, ask.cities[number], unit, value, condition), value, unit, condition)


def _weather_json(random: Random, city: str, unit: str, value: str, condition: str) -> str:
    fields: list[tuple[str, Any]] = []
    if random.random() < 0.85:
        fields.append((random.choice(("location", "location", "city")), city))
    fields.append((random.choice(("temperature", "temperature", "temp")), json.loads(value)))
    if random.random() < 0.85 or unit != "celsius":
        fields.append(("unit", unit))
    if condition:
        fields.append((random.choice(("condition", "condition", "weather", "description")), condition))
    if random.random() < 0.25:
        fields.append((random.choice(("humidity", "wind_speed", "pressure")), random.randint(1, 99)))
    if random.random() < 0.25:
        random.shuffle(fields)
    compact = random.random() < 0.15
    return json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":") if compact else None)


def answer(ask: Ask, found: list[Result]) -> str:
    weather, sums = found[: len(ask.cities)], found[len(ask.cities) :]
    parts = [_city_line(ask, city, each) for city, each in zip(ask.cities, weather, strict=True)]
    if ask.compares and not any(each.error for each in weather) and len({each.unit for each in weather}) == 1:
        parts.append(_verdict(ask, weather))
    parts += [_sum_line(ask, each) for each in sums]
    return "\n".join(parts)


def comparison(random: Random, language: str, invented: float) -> str:
    """An answer whose last line names one of its cities."""
    while True:
        ask = _weather(random, language, invented)
        ask = replace(ask, unit=ask.unit or random.choices(("", "fahrenheit"), (3, 1))[0])
        found = [result(random, ask, number) for number in range(len(ask.cities))]
        lines = answer(ask, found).split("\n")
        if len(lines) > len(ask.cities) and ": " in lines[-1]:
            return "\n".join(lines)


def _condition(ask: Ask, condition: str) -> str:
    return CONDITIONS[condition][0 if ask.language == KO else 1]


def _city_line(ask: Ask, city: str, found: Result) -> str:
    if found.error:
        return f"{city}: " + _error(ask, found)
    condition = f", {_condition(ask, found.condition)}" if found.condition else ""
    return f"{city}: {found.value}{UNITS[found.unit]}{condition}"


def _error(ask: Ask, found: Result) -> str:
    return f"도구의 오류 ({found.error})" if ask.language == KO else f"error of the tool ({found.error})"


def _verdict(ask: Ask, found: list[Result]) -> str:
    degrees = [float(each.value) for each in found]
    end = (min if ask.compares == "cold" else max)(degrees)
    is_korean = ask.language == KO
    if degrees.count(end) > 1:
        return "기온이 같은 곳이 있습니다." if is_korean else "Some places are equal."
    what = {"warm": ("더 따뜻한 곳", "Warmer"), "cold": ("더 추운 곳", "Colder")}[ask.compares][0 if is_korean else 1]
    return f"{what}: {ask.cities[degrees.index(end)]}"


def _sum_line(ask: Ask, found: Result) -> str:
    return _error(ask, found) if found.error else f"{ask.expression} = {found.value}"


# --- Thinking -------------------------------------------------------------------------------------------------------

_WHY = {
    "hello": ("인사말이다. 인사로 답하고, 할 수 있는 일을 말한다.", "This is a greeting. I greet back and say what I can do."),
    "thanks": ("감사의 말이다. 짧게 답한다.", "This is a thank you. I answer briefly."),
    "bye": ("작별 인사이다. 작별 인사로 답한다.", "This is a goodbye. I say goodbye."),
    "who": ("내가 누구인지 묻는다. 작은 시연용 모델이라고 답한다.", "The user asks who I am. I say that I am a tiny demonstration model."),
    "other": (
        "인사도, 날씨도, 계산도 아니다. 배운 적이 없는 질문이다. 그렇다고 솔직하게 말하고, 진짜 모델을 더하는 방법을 알려 준다.",
        "This is no greeting, no weather and no arithmetic. I have not learned it. I say so honestly, and how to add a real model.",
    ),
    "no_weather": ("날씨를 묻지만 날씨 도구가 없다. 필요한 도구를 알려 준다.", "The user asks for the weather, but there is no tool for it. I say which one I need."),
    "no_sum": ("계산을 원하지만 계산 도구가 없다. 필요한 도구를 알려 준다.", "The user wants a calculation, but there is no tool for it. I say which one I need."),
}  # fmt: skip


def why(kind: str, language: str) -> str:
    return _WHY[kind][0 if language == KO else 1]


def plan(ask: Ask, schema: Schema) -> str:
    """Before the calls."""
    is_korean = ask.language == KO
    parts = []
    if ask.cities:
        names = ", ".join(ask.cities)
        count = len(ask.cities)
        parts.append(
            f"날씨를 묻는 도시: {names}. 도시는 {count}곳이므로 {schema.weather} 도구를 {count}번 부른다."
            if is_korean
            else f"The user asks for the weather in: {names}. That makes {count}, so I call {schema.weather} {count} times."
        )
    if ask.expression:
        parts.append(
            f"계산할 식: {ask.expression}. {schema.sums} 도구를 부른다."
            if is_korean
            else f"The expression is: {ask.expression}. I call {schema.sums}."
        )
    return "\n".join(parts)


def reading(ask: Ask, found: list[Result]) -> str:
    """Between the results and the answer."""
    values = ", ".join(each.error or each.value for each in found)
    return (
        f"도구의 결과: {values}. 이것으로 답한다."
        if ask.language == KO
        else f"The tools say: {values}. I answer with that."
    )


__all__ = [
    "Ask",
    "Result",
    "Schema",
    "answer",
    "calls",
    "comparison",
    "dressed",
    "has_final",
    "lacking",
    "make",
    "plan",
    "random_schema",
    "reading",
    "result",
    "why",
]
