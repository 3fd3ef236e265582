"""The cases of the parser: T01 to T74 of the specification, each as (id, formats, prompt tail, text, what it says).

What is not a case of this table: T22, T25, T26, T41, T42, T55 have tests of their own in the files beside; T40 is the parser's
`is_reasoning`; T43 is plain text by definition and stands here as that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from naru.engine.parse.formats import Format
from naru.protocol.messages import FinishReason, Tool

QWEN3 = frozenset({Format.THINK, Format.HERMES})
XML = frozenset({Format.THINK, Format.QWEN_XML})
DS = frozenset({Format.THINK, Format.DEEPSEEK})
DSML = frozenset({Format.THINK, Format.DSML})
HCX32 = frozenset({Format.THINK, Format.HYPERCLOVA_32B})
HCX14 = frozenset({Format.HYPERCLOVA_14B})
FORMATS = {"qwen3": QWEN3, "xml": XML, "ds": DS, "dsml": DSML, "hcx32": HCX32, "hcx14": HCX14}

PLAIN = "<|im_start|>assistant\n"
OPEN = "<|im_start|>assistant\n<think>\n"
SHUT = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


def tool(name: str, **properties: object) -> Tool:
    schema = {"type": "object", "properties": properties, "$defs": {"count": {"type": "integer"}}}
    return Tool(name, parameters=msgspec.Raw(msgspec.json.encode(schema)))


TOOLS = (
    tool(
        "f",
        s={"type": "string"},
        i={"type": "integer"},
        n={"type": "number"},
        b={"type": "boolean"},
        o={"type": "object"},
        a={"type": "array"},
        any={"anyOf": [{"type": "integer"}, {"type": "null"}]},
        one={"oneOf": [{"type": "boolean"}, {"type": "string"}]},
        ref={"$ref": "#/$defs/count"},
        e={"enum": [1, 2]},
        es={"enum": ["x", "1"]},
        nul={"type": "integer", "nullable": True},
        two={"type": ["number", "null"]},
        도시={"type": "string"},
    ),
    tool("g"),
)


@dataclass(frozen=True)
class Case:
    id: str
    formats: frozenset[Format]
    tail: str
    text: str
    content: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reasoning: str = ""
    finish: FinishReason | None = None  # None: tool_calls with calls, stop without
    has_tools: bool = True

    @property
    def reason(self) -> FinishReason:
        return self.finish or ("tool_calls" if self.calls else "stop")


def q(id: str, text: str, content: str = "", *calls: tuple[str, str], **more: object) -> Case:
    """A Qwen3 case with thinking off."""
    return Case(id, QWEN3, SHUT, text, content, calls, **more)  # type: ignore[arg-type]


def x(id: str, text: str, content: str = "", *calls: tuple[str, str], **more: object) -> Case:
    """A Qwen3-Coder case."""
    return Case(id, XML, PLAIN, text, content, calls, **more)  # type: ignore[arg-type]


def d(id: str, text: str, content: str = "", *calls: tuple[str, str], **more: object) -> Case:
    return Case(id, DS, "<｜Assistant｜></think>", text, content, calls, **more)  # type: ignore[arg-type]


def m(id: str, text: str, content: str = "", *calls: tuple[str, str], **more: object) -> Case:
    return Case(id, DSML, "<｜Assistant｜></think>", text, content, calls, **more)  # type: ignore[arg-type]


def h(id: str, text: str, content: str = "", *calls: tuple[str, str], **more: object) -> Case:
    return Case(id, HCX32, SHUT, text, content, calls, **more)  # type: ignore[arg-type]


def one(arguments: str, name: str = "f") -> str:
    return '<tool_call>\n{"name": "' + name + '", "arguments": ' + arguments + "}\n</tool_call>"


def fn(*parameters: str, name: str = "f") -> str:
    return f"<tool_call>\n<function={name}>\n" + "".join(parameters) + "</function>\n</tool_call>"


def par(key: str, value: str) -> str:
    return f"<parameter={key}>\n{value}\n</parameter>\n"


_FENCED = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{}\n```json\n{}\n```<｜tool▁call▁end｜>"
_BARE = "<｜tool▁call▁begin｜>{}<｜tool▁sep｜>{}<｜tool▁call▁end｜>"
_HEADER = "<|im_end|>\n<|im_start|>assistant -> tool/function_call\n"


def block(*calls: str) -> str:
    return "<｜tool▁calls▁begin｜>" + "\n".join(calls) + "<｜tool▁calls▁end｜>"


def invoke(*parameters: str, name: str = "f", space: str = "") -> str:
    return f'<｜DSML｜{space}invoke name="{name}">\n' + "".join(parameters) + f"</｜DSML｜{space}invoke>\n"


def dp(key: str, value: str, string: str = "", space: str = "") -> str:
    mark = f' string="{string}"' if string else ""
    return f'<｜DSML｜{space}parameter name="{key}"{mark}>{value}</｜DSML｜{space}parameter>\n'


def wrap(body: str, name: str = "tool_calls") -> str:
    return f"<｜DSML｜{name}>\n{body}</｜DSML｜{name}>"


CALLS = (
    q("T01-newline", one('{"s": "x"}'), "", ("f", '{"s": "x"}')),
    q("T01-compact", '<tool_call>{"name":"f","arguments":{"s":"x"}}</tool_call>', "", ("f", '{"s":"x"}')),
    q("T02-two", one("{}") + "\n" + one('{"i": 1}', "g"), "", ("f", "{}"), ("g", '{"i": 1}')),
    q("T02-three", one("{}") * 3, "", ("f", "{}"), ("f", "{}"), ("f", "{}")),
    q("T02-in-one-tag", '<tool_call>{"name":"f","arguments":{}}\n{"name":"g","arguments":{}}</tool_call>', "", ("f", "{}"), ("g", "{}")),
    q("T02-list-in-a-tag", '<tool_call>[{"name":"f","arguments":{}},{"name":"g","arguments":{}}]</tool_call>', "", ("f", "{}"), ("g", "{}")),
    q("T03-text", "Hello, world.\n", "Hello, world.\n"),
    q("T03-words", "a < b { x } tool_call <tool_ call> [1] <b>", "a < b { x } tool_call <tool_ call> [1] <b>"),
    q("T03-no-tools", one("{}"), one("{}"), has_tools=False),
    q("T04-garbage", "<tool_call>garbage</tool_call>", "<tool_call>garbage</tool_call>"),
    q("T04-no-outer-brace", '<tool_call>\n{"name": "f", "arguments": {"i": 1}\n</tool_call>', "", ("f", '{"i": 1}')),
    q("T04-no-inner-brace", '<tool_call>\n{"name": "f", "arguments": {"i": 1\n</tool_call>', "", ("f", '{"i": 1\n'), finish="length"),
    q("T04-brace-too-many", '<tool_call>\n{"name": "f", "arguments": {"i": 1}}}\n</tool_call>', "", ("f", '{"i": 1}')),
    q("T04-no-name", '<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>'),
    q("T04-unclosed-then-valid", '<tool_call>\n{"name": "f", "arguments": {}}\n' + one("{}", "g"), "", ("f", "{}"), ("g", "{}")),
    q("T04-open-string-then-valid", '<tool_call>\n{"name": "f", "arguments": {"s": "x}}\n</tool_call>\n' + one("{}", "g"), "", ("f", '{"s": "x}}'), ("g", "{}"), finish="length"),
    q("T04-garbage-then-valid", "<tool_call>oops</tool_call>\n" + one("{}"), "<tool_call>oops</tool_call>", ("f", "{}")),
    q("T04-single-quotes", "<tool_call>{'name': 'f'}</tool_call>", "<tool_call>{'name': 'f'}</tool_call>"),
    q("T05-no-end-tag", '<tool_call>\n{"name": "f", "arguments": {"i": 1}}', "", ("f", '{"i": 1}')),
    q("T05-mid-end-tag", '<tool_call>\n{"name": "f", "arguments": {"i": 1}}\n</tool_c', "", ("f", '{"i": 1}')),
    q("T05-next-mid-tag", one("{}") + "\n<tool_c", "<tool_c", ("f", "{}")),
    q("T05-mid-arguments", '<tool_call>\n{"name": "f", "arguments": {"s": "ab', "", ("f", '{"s": "ab'), finish="length"),
    q("T05-mid-name", '<tool_call>\n{"name": "f', '<tool_call>\n{"name": "f'),
    q("T05-last-cut", one("{}") + '\n<tool_call>\n{"name": "g", "arguments": {"i"', "", ("f", "{}"), ("g", '{"i"'), finish="length"),
    q("T05-mid-tag", "hi <tool_c", "hi <tool_c"),
    q("T06-empty", one("{}"), "", ("f", "{}")),
    q("T06-blank", one("{ \n}"), "", ("f", "{ \n}")),
    q("T06-missing", '<tool_call>{"name": "f"}</tool_call>', "", ("f", "{}")),
    q("T06-null", one("null"), "", ("f", "{}")),
    q("T06-empty-string", one('""'), "", ("f", "{}")),
    q("T07-types", one('{"i": -1, "n": 1.50, "b": true, "z": null, "o": {"a": [1, [2, {"x": []}]]}}'), "", ("f", '{"i": -1, "n": 1.50, "b": true, "z": null, "o": {"a": [1, [2, {"x": []}]]}}')),
    q("T07-big-integer", one('{"i": 12345678901234567890}'), "", ("f", '{"i": 12345678901234567890}')),
    q("T07-duplicate-keys", one('{"i": 1, "i": 2}'), "", ("f", '{"i": 1, "i": 2}')),
    q("T07-deep", one('{"a": ' + "[" * 200 + "]" * 200 + "}"), "", ("f", '{"a": ' + "[" * 200 + "]" * 200 + "}")),
    q("T08-escapes", one(r'{"s": "\n\"\\\uD55C \ud83d\ude00 한글 😀"}'), "", ("f", r'{"s": "\n\"\\\uD55C \ud83d\ude00 한글 😀"}')),
    q("T09-around", "before\n" + one("{}") + "\nbetween\n" + one("{}", "g") + "\n\nafter", "before\nbetween\n\nafter", ("f", "{}"), ("g", "{}")),
    q("T10-identical", one('{"i": 1}') + "\n" + one('{"i": 1}'), "", ("f", '{"i": 1}'), ("f", '{"i": 1}')),
    q("T11-unknown", one("{}", "nobody"), "", ("nobody", "{}")),
    q("T11-mixed", one("{}") + one("{}", "nobody") + one("{}", "g"), "", ("f", "{}"), ("nobody", "{}"), ("g", "{}")),
    q("T12-json", one('{"s": "} ] , ; </tool_call> <tool_call> <function=x> {"}'), "", ("f", '{"s": "} ] , ; </tool_call> <tool_call> <function=x> {"}')),
    x("T12-xml", fn(par("s", "} ] , ; a </tool_call> b <tool_call> <function=x> c")), "", ("f", '{"s": "} ] , ; a </tool_call> b <tool_call> <function=x> c"}')),
    q("T13-shell", one('{"s": "mkdir -p test/{test1,test2"}'), "", ("f", '{"s": "mkdir -p test/{test1,test2"}')),
    x("T13-xml", fn(par("s", "mkdir -p test/{test1,test2")), "", ("f", '{"s": "mkdir -p test/{test1,test2"}')),
    q("T14-parameters", '<tool_call>{"name": "f", "parameters": {"i": 1}}</tool_call>', "", ("f", '{"i": 1}')),
    q("T14-order", '<tool_call>{"arguments": {"name": "no", "i": 1}, "name": "f"}</tool_call>', "", ("f", '{"name": "no", "i": 1}')),
    q("T14-other-keys", '<tool_call>{"id": "1", "type": {"name": "no"}, "name": "f", "arguments": {}}</tool_call>', "", ("f", "{}")),
    q("T15-string", one(r'"{\"s\": \"a\\nb \uD55C \ud83d\ude00\"}"'), "", ("f", '{"s": "a\\nb 한 😀"}')),
    q("T15-lone-surrogate", one(r'"{\"s\": \"\ud83d\"}"'), "", ("f", '{"s": "\\ud83d"}')),
    q("T16-names", one("{}", "a.b-c") + one("{}", "날씨") + one("{}", "functions.f"), "", ("a.b-c", "{}"), ("날씨", "{}"), ("functions.f", "{}")),
    Case("T17-list", QWEN3 | {Format.JSON_LIST}, SHUT, '[{"name": "f", "arguments": {}}, {"name": "g", "parameters": {"i": 1}}]', "", (("f", "{}"), ("g", '{"i": 1}'))),
    Case("T17-object", QWEN3 | {Format.JSON_LIST}, SHUT, '{"name": "f", "arguments": {}}', "", (("f", "{}"),)),
    Case("T17-other-list", QWEN3 | {Format.JSON_LIST}, SHUT, '[{"city": "x"}, 1]', '[{"city": "x"}, 1]'),
    q("T20-lone-bracket", "a <", "a <"),
    q("T20-near-tags", "<<tool_call<tool_call>x <think", "<<tool_call<tool_call>x <think"),
    q("T20-same-piece", "text" + one('{"i": 1}'), "text", ("f", '{"i": 1}')),
    Case("T21-all-at-once", XML, OPEN, "hm</think>" + fn(par("i", "1")) + "\n<tool_call>\n<function=g>", "", (("f", '{"i": 1}'), ("g", "{}")), "hm"),
    Case("T21-hermes", QWEN3, OPEN, "hm</think>" + one('{"i": 1}') + '<tool_call>{"na', '<tool_call>{"na', (("f", '{"i": 1}'),), "hm"),
    q("T24-finish", one("{}"), "", ("f", "{}"), finish="tool_calls"),
    Case("T27-blanks", QWEN3, PLAIN, "<think>\nhm\n</think>\n\n \n" + one("{}"), "", (("f", "{}"),), "hm"),
    Case("T27-order", QWEN3, PLAIN, "<think>\nhm\n</think>\n\nI look.\n\n" + one("{}"), "I look.", (("f", "{}"),), "hm"),
)  # fmt: skip

REASONING = (
    Case("T30-off", QWEN3, SHUT, "Hi", "Hi"),
    Case("T30-instruct", QWEN3, PLAIN, "  Hi\n", "  Hi\n"),
    Case("T31-in-the-prompt", QWEN3, OPEN, "hm\n</think>\n\nHi", "Hi", (), "hm"),
    Case("T31-r1", DS, "<｜Assistant｜><think>\n", "\nhm</think>Hi", "Hi", (), "hm"),
    Case("T31-nowhere", QWEN3, PLAIN, "hm\n</think>\n\nHi", "hm\n\nHi"),
    Case("T32-unclosed", QWEN3, PLAIN, "<think>\nhm, and", "", (), "hm, and"),
    Case("T32-half-a-tag", QWEN3, OPEN, "hm</thi", "", (), "hm</thi"),
    Case("T33-empty", QWEN3, PLAIN, "<think>\n\n</think>\n\nHi", "Hi"),
    Case("T33-nothing-between", QWEN3, PLAIN, "<think></think>Hi", "Hi"),
    Case("T34-two-blocks", QWEN3, PLAIN, "<think>a</think>\n<think>b</think>\nHi", "Hi", (), "ab"),
    Case("T34-later-block", QWEN3, PLAIN, "<think>a</think>Hi <think>b</think>", "Hi <think>b</think>", (), "a"),
    Case("T35-twice", QWEN3, OPEN, "a</think>\n</think>\n\nHi", "Hi", (), "a"),
    Case("T35-opened-twice", QWEN3, OPEN, "<think>\na</think>Hi", "Hi", (), "a"),
    Case("T36-quoted", QWEN3, SHUT, "Use `<think>` and `</think>`.", "Use `<think>` and `</think>`."),
    Case("T36-in-thought", QWEN3, OPEN, "the tag <think> is</think>Hi", "Hi", (), "the tag <think> is"),
    Case("T37-implicit", XML, OPEN, "hm\n" + fn(par("i", "1")), "", (("f", '{"i": 1}'),), "hm"),
    Case("T37-mention", XML, OPEN, "the <tool_call> tag\n</think>Hi", "Hi", (), "the <tool_call> tag"),
    Case("T37-hermes-mentions", QWEN3, OPEN, "like " + one("{}") + "\n</think>Hi", "Hi", (), "like " + one("{}")),
    Case("T37-deepseek", DS, "<｜Assistant｜><think>", "hm" + block(_BARE.format("f", "{}")), "", (("f", "{}"),), "hm"),
    Case("T38-tools-only", frozenset({Format.HERMES}), PLAIN, "a</think>b" + one("{}"), "a</think>b", (("f", "{}"),)),
    Case("T39-budget", QWEN3, OPEN, "hm\n\nI have to give the solution now.\n</think>\n\nHi", "Hi", (), "hm\n\nI have to give the solution now."),
    Case("T39-budget-0", QWEN3, SHUT, "\n</think>\n\nHi", "Hi"),
    Case("T40-tools-after-thought", QWEN3, OPEN, "hm</think>\n\n" + one("{}"), "", (("f", "{}"),), "hm"),
    Case("T43-bare-preamble", QWEN3, SHUT, "Thinking process: 1. x", "Thinking process: 1. x"),
    Case("T40-prefilled", QWEN3, SHUT + '<tool_call>\n{"name": "f", "arguments": ', '{"i": 1}}\n</tool_call>', "", (("f", '{"i": 1}'),)),
    Case("T40-prefilled-xml", XML, SHUT + "<tool_call>\n<function=f>\n", par("i", "1") + "</function>\n</tool_call>", "", (("f", '{"i": 1}'),)),
    Case("T40-continued", QWEN3, SHUT + "The answer", " <think> is 1", " <think> is 1"),
    Case("leak-end-token", QWEN3, SHUT, "Hi<|im_end|>\n", "Hi"),
)  # fmt: skip

CODER = (
    x("T50-types", fn(par("i", "5"), par("n", "1e3"), par("b", "True"), par("o", '{"x": [1]}'), par("a", "[1, 2]")), "", ("f", '{"i": 5, "n": 1e3, "b": true, "o": {"x": [1]}, "a": [1, 2]}')),
    x("T50-unions", fn(par("any", "3"), par("any", "null"), par("one", "false"), par("one", "no"), par("ref", "7"), par("e", "2"), par("es", "1"), par("nul", "null"), par("two", "1.5")), "", ("f", '{"any": 3, "any": null, "one": false, "one": "no", "ref": 7, "e": 2, "es": "1", "nul": null, "two": 1.5}')),
    x("T50-null-string", fn(par("s", "null"), par("s", "nullify")), "", ("f", '{"s": null, "s": "nullify"}')),
    x("T50-fallback", fn(par("i", "five"), par("a", "[1,"), par("zz", "12")), "", ("f", '{"i": "five", "a": "[1,", "zz": "12"}')),
    x("T50-big-integer", fn(par("i", "12345678901234567890")), "", ("f", '{"i": 12345678901234567890}')),
    x("T51-no-close", fn("<parameter=s>\nx\n", par("i", "1")), "", ("f", '{"s": "x", "i": 1}')),
    x("T51-closed-twice", fn("<parameter=s>\nx\n</parameter>\n</parameter>\n", par("i", "1")), "", ("f", '{"s": "x", "i": 1}')),
    x("T51-no-function-end", "<tool_call>\n<function=f>\n" + par("s", "x") + "</tool_call>", "", ("f", '{"s": "x"}')),
    x("T51-neither-end", "<tool_call>\n<function=f>\n<parameter=s>\nx\n</function>\n</tool_call>", "", ("f", '{"s": "x"}')),
    x("T51-only-outer-end", "<tool_call>\n<function=f>\n<parameter=s>\nx\n</tool_call>", "", ("f", '{"s": "x"}')),
    x("T51-no-tool-call", "<function=f>\n" + par("s", "x") + "</function>", "", ("f", '{"s": "x"}')),
    x("T51-unclosed-name", "<tool_call>\n<function=f\n" + fn(name="g"), "<tool_call>\n<function=f", ("g", "{}")),
    x("T51-cut", "<tool_call>\n<function=f>\n<parameter=s>\nab", "", ("f", '{"s": "ab'), finish="length"),
    x("T51-cut-after-value", "<tool_call>\n<function=f>\n<parameter=s>\nab\n</parameter>", "", ("f", '{"s": "ab"}')),
    x("T52-text-before", "I look.\n" + fn(par("s", "x")), "I look.", ("f", '{"s": "x"}')),
    x("T52-html", fn(par("s", "<b>x</b> </parameter> &amp; <![CDATA[y]]> a<b </function> z")), "", ("f", '{"s": "<b>x</b> </parameter> &amp; <![CDATA[y]]> a<b </function> z"}')),
    x("T52-several", fn(par("s", "x")) + "\n" + fn(name="g"), "", ("f", '{"s": "x"}'), ("g", "{}")),
    x("T53-one-newline", fn(par("s", "\n  def f():\n    pass\n")), "", ("f", '{"s": "\\n  def f():\\n    pass\\n"}')),
    x("T53-inline", fn("<parameter=s>  x </parameter>\n"), "", ("f", '{"s": "  x "}')),
    x("T53-empty", fn("<parameter=s>\n</parameter>\n", "<parameter=s></parameter>\n"), "", ("f", '{"s": "", "s": ""}')),
    x("T54-unknown", fn(par("q", "1"), name="nobody"), "", ("nobody", '{"q": "1"}')),
    x("T54-no-parameters", fn(name="g"), "", ("g", "{}")),
    x("T54-json-body", '<tool_call>\n<function=f>\n{"i": 1}\n</function>\n</tool_call>', "", ("f", '{"i": 1}')),
)  # fmt: skip

DEEPSEEK = (
    d("T60-fenced", block(_FENCED.format("f", '{"i": 1}'), _FENCED.format("g", "{}")), "", ("f", '{"i": 1}'), ("g", "{}")),
    d("T60-bare", block(_BARE.format("f", '{"i": 1}'), _BARE.format("g", "{}")), "", ("f", '{"i": 1}'), ("g", "{}")),
    d("T60-pretty", block(_BARE.format("f", '{\n  "i": 1\n}')), "", ("f", '{\n  "i": 1\n}')),
    d("T60-none", block(_BARE.format("f", "")), "", ("f", "{}")),
    d("T60-cut", "<｜tool▁calls▁begin｜>" + _BARE.format("f", '{"s": "a')[: -len("<｜tool▁call▁end｜>")], "", ("f", '{"s": "a'), finish="length"),
    m("T61-string-true", wrap(invoke(dp("i", "12", "true"))), "", ("f", '{"i": "12"}')),
    m("T61-string-false", wrap(invoke(dp("q", "12", "false"), dp("o", '{"a": 1}', "false"))), "", ("f", '{"q": 12, "o": {"a": 1}}')),
    m("T61-missing", wrap(invoke(dp("q", "[1]"), dp("r", "text"), dp("s", "5"))), "", ("f", '{"q": [1], "r": "text", "s": "5"}')),
    m("T61-json-body", wrap('<｜DSML｜invoke name="f">\n{"i": 1}\n</｜DSML｜invoke>\n'), "", ("f", '{"i": 1}')),
    *(m(f"T62-{name}", wrap(invoke(dp("s", "x", "true")), name), "", ("f", '{"s": "x"}')) for name in ("tool_calls", "toolcalls", "tool", "function_calls")),
    m("T62-spaced", wrap(invoke(dp("s", "x", "true", " "), space=" "), " calls"), "", ("f", '{"s": "x"}')),
    m("T63-redirect", wrap(invoke(dp("s", "ls 2>&1", "true"))), "", ("f", '{"s": "ls 2>&1"}')),
    m("T63-near", wrap(invoke(dp("s", "a</｜DSML｜parameter b", "true"))), "", ("f", '{"s": "a</｜DSML｜parameter b"}')),
    m("T64-closers", wrap(invoke()) + "</｜DSML｜tool_calls></｜DSML｜invoke>", "", ("f", "{}")),
    d("T64-closers-v3", block(_BARE.format("f", "{}")) + "<｜tool▁calls▁end｜>" * 3 + "<｜end▁of▁sentence｜>", "", ("f", "{}")),
    d("T65-text-after", "I look." + block(_BARE.format("f", "{}")) + "and so on", "I look.", ("f", "{}")),
    m("T65-text-after-dsml", "I look.\n\n" + wrap(invoke()) + "and so on", "I look.", ("f", "{}")),
    m("T66-no-wrapper", invoke(dp("s", "x", "true")) + invoke(name="g"), "", ("f", '{"s": "x"}'), ("g", "{}")),
)  # fmt: skip

_ARGS = "<tool_call>f\n<arg_key>{}</arg_key>\n<arg_value>{}</arg_value>\n</tool_call>"
HYPERCLOVA = (
    h("T70-string", _ARGS.format("s", "12"), "", ("f", '{"s": "12"}')),
    h("T70-korean", _ARGS.format("도시", "서울 <b>"), "", ("f", '{"도시": "서울 <b>"}')),
    h("T70-json", _ARGS.format("zz", '{"a": [1]}'), "", ("f", '{"zz": {"a": [1]}}')),
    h("T70-text", _ARGS.format("zz", "오늘, [1"), "", ("f", '{"zz": "오늘, [1"}')),
    h("T70-several", _ARGS.format("i", "1") + "\n" + _ARGS.format("b", "true"), "", ("f", '{"i": 1}'), ("f", '{"b": true}')),
    h("T70-none", "<tool_call>g\n</tool_call>", "", ("g", "{}")),
    h("T70-closer-in-value", _ARGS.format("s", "a </tool_call> b"), "", ("f", '{"s": "a </tool_call> b"}')),
    h("T70-not-a-call", "<tool_call>and so on\n", "<tool_call>and so on\n"),
    Case("T71-off", HCX32 | {Format.JSON_LIST}, SHUT, '[{"name": "f", "arguments": {}}]', "", (("f", "{}"),)),
    Case("T71-on", HCX32 | {Format.JSON_LIST}, OPEN, 'hm</think>\n[{"name": "f", "arguments": {}}]', "", (("f", "{}"),), "hm"),
    Case("T71-on-at-once", HCX32 | {Format.JSON_LIST}, OPEN, '[{"name": "f", "arguments": {}}]', "", (("f", "{}"),)),
    Case("T72-header", HCX14, "<|im_start|>assistant/think\n", "hm" + _HEADER + '[{"name": "f", "arguments": {"s": "]"}}, {"name": "nobody", "arguments": {}}]<|im_end|>', "", (("f", '{"s": "]"}'), ("nobody", "{}")), "hm"),
    Case("T72-no-thought", HCX14, "<|im_start|>assistant", ' -> tool/function_call\n[{"name": "f", "arguments": {}}]', "", (("f", "{}"),)),
    Case("T72-prefilled", HCX14, "<|im_start|>assistant -> tool/function_call\n", '[{"name": "f", "arguments": {}}]', "", (("f", "{}"),)),
    Case("T72-stripped", HCX14, "<|im_start|>assistant/think\n", 'hm\nassistant -> tool/function_call\n[{"name": "f", "arguments": {}}]', "", (("f", "{}"),), "hm"),
    Case("T72-bare", HCX14, "<|im_start|>assistant\n", '[{"name": "f", "arguments": {}}]', "", (("f", "{}"),)),
    Case("T73-think", HCX14, "<|im_start|>assistant/think\n", "hm\n<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>", "Hi", (), "hm"),
    Case("T73-own-think", HCX14, "<|im_start|>assistant", "/think\nhm<|im_end|>\n<|im_start|>assistant\nHi", "Hi", (), "hm"),
    Case("T74-list", HCX14, "<|im_start|>assistant\n", "[1, 2] is a list", "[1, 2] is a list"),
    Case("T74-objects", HCX14, "<|im_start|>assistant\n", '[{"name": "Alice"}, {"x": 1}]', '[{"name": "Alice"}, {"x": 1}]'),
    Case("T74-object", HCX14, "<|im_start|>assistant\n", '[{"a": 1}', '[{"a": 1}'),
)  # fmt: skip

CASES = (*CALLS, *REASONING, *CODER, *DEEPSEEK, *HYPERCLOVA)
