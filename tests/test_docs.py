"""What the documents say is what the program does: commands, codes, links, tables, and the first programs, which run."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from naru import errors
from naru.cli import naru
from naru.config import load_settings
from naru.providers import load_providers
from tests.process import Process, command, environment, serving

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "naru"
SKIPPED = {"node_modules", "build", "dist"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(ROOT).parts)
)
TWINS = [
    ("README.md", "README.ko.md"),
    ("docs/quickstart.md", "docs/quickstart.ko.md"),
    ("docs/sdk.md", "docs/sdk.ko.md"),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")
NO_STATUS = "—"

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(path: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(path.read_text()) if language in languages]


def without_comments(text: str) -> list[str]:
    """Lines without `# …`; no line of the documents has a # in a string."""
    return [line for line in (re.sub(r"(^|\s)#\s.*$", "", line).rstrip() for line in text.splitlines()) if line]


# --- Commands ---------------------------------------------------------------------------------------------------------


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "tools/build_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_page_is_the_commands_own_help() -> None:
    """`make docs` was run after the last change of a command."""
    assert (ROOT / "docs/cli.md").read_text() == builder().page()


def shell_lines(path: Path) -> Iterator[list[str]]:
    """The words of each line of the page's sh blocks, continuation lines joined, variables at the front left out."""
    for block in blocks(path, "sh"):
        for line in without_comments(block.replace("\\\n", " ")):
            words = shlex.split(line)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words:
                yield words
            yield from (shlex.split(inner) for inner in re.findall(r"\$\(([^)]*)\)", line))


@each_page
def test_commands_in_the_page_are_understood(page: Path) -> None:
    """Every `naru …` has a command and options that exist, every `make …` a target."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in shell_lines(page):
        if words[0] in ("naru", ".venv/bin/naru"):
            context, group = click.Context(naru, info_name="naru"), naru
            for place, word in enumerate(words[1:], start=1):
                found = group.get_command(context, word)
                assert found is not None, words
                if not isinstance(found, click.Group):
                    found.make_parser(click.Context(found)).parse_args(words[place + 1 :])  # raises on unknown options
                    break
                group = found
        elif words[0] == "make":
            assert [word for word in words[1:] if "=" not in word and word not in targets] == [], words


@pytest.mark.parametrize(("english", "korean"), TWINS)
def test_korean_pages_have_the_same_commands(english: str, korean: str) -> None:
    """Block by block, comments apart. Diagrams have words in them and are not compared."""
    kinds = ("sh", "python", "toml", "json", "text")
    pairs = [[without_comments(block) for block in blocks(ROOT / page, *kinds)] for page in (english, korean)]
    assert pairs[0] == pairs[1]
    assert [language for language, _ in FENCE.findall((ROOT / english).read_text())] == [
        language for language, _ in FENCE.findall((ROOT / korean).read_text())
    ]


def curl_bodies(page: str) -> list[dict[str, object]]:
    lines = [words for words in shell_lines(ROOT / page) if words[0] == "curl" and "-d" in words]
    return [json.loads(words[words.index("-d") + 1]) for words in lines]


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_curl_bodies_are_json(page: str) -> None:
    bodies = curl_bodies(page)
    assert bodies
    assert all(body["messages"] for body in bodies)


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_configuration_example_is_accepted(page: str, tmp_path: Path) -> None:
    """Every toml block of the page loads, with the variable that it names set."""
    examples = blocks(ROOT / page, "toml")
    assert examples
    for example in examples:
        file = tmp_path / "naru.toml"
        file.write_text(example)
        settings = load_settings(file, {"NARU_HOME": str(tmp_path), "DEEPSEEK_API_KEY": "sk-example"}, {})
        assert settings.models


# --- Links ------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Headings as GitHub names them: lower case, spaces as dashes, other signs left out."""
    text = FENCE.sub("", path.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@each_page
def test_relative_links_resolve(page: Path) -> None:
    """The file is there, and so is the heading."""
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


# --- Error codes ------------------------------------------------------------------------------------------------------


def error_rows() -> dict[str, str]:
    """code -> its status cell in docs/errors.md."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a code has two rows"
    return {code: status.strip() for code, status in rows}


def texts(node: ast.AST | None) -> set[str]:
    """Literal texts that the expression may be; a call's arguments are not among them."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value else set()


def codes_in(node: ast.AST) -> set[str]:
    """Codes written at this node: `code="…"` as argument, default, assignment (in a tuple too) or key of a dict."""
    if isinstance(node, ast.keyword) and node.arg == "code":
        return texts(node.value)
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "code":
        return texts(node.value)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {text for key, value in pairs if texts(key) == {"code"} for text in texts(value)}
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
        pairs = zip(node.targets[0].elts, node.value.elts, strict=True)
        return {
            text for name, value in pairs if isinstance(name, ast.Name) and name.id == "code" for text in texts(value)
        }
    return set()


def nodes() -> Iterator[ast.AST]:
    for path in SRC.rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def test_every_error_code_has_a_row_and_every_row_a_code() -> None:
    assert {code for node in nodes() for code in codes_in(node)} == error_rows().keys()


def test_error_rows_have_the_status_that_callers_get() -> None:
    """The status of the class that a code belongs to, or is raised with, stands in its row."""
    rows = error_rows()
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.NaruError) and kind is not errors.UpstreamRefused
    }
    statuses = [(kind.code, kind.status) for kind in classes.values() if kind.code]
    for node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
            given = [code for argument in node.keywords for code in codes_in(argument)]
            statuses += [(code, classes[node.func.id].status) for code in given]
    wrong = [
        (code, status, rows[code])
        for code, status in statuses
        if rows[code] != NO_STATUS and str(status) not in rows[code]
    ]
    assert wrong == []


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_table_of_providers_is_whole(page: str) -> None:
    """Every kind has a row; where it has a usual variable, that and its regions are in the row."""
    rows = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("| `")]
    for kind, provider in load_providers().items():
        row = next((line for line in rows if f"`{kind}`" in line.split("|")[1]), "")
        assert row, f"{kind} has no row"
        assert not provider.env or f"| `{provider.env[0]}` | {', '.join(provider.hosts)} |" in row


def test_configuration_knows_every_kind() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    assert [kind for kind in load_providers() if f"`{kind}`" not in text] == []


# --- The first programs run -------------------------------------------------------------------------------------------


async def run_python(gateway: Process, page: str) -> str:
    """What the page's first python block prints, with a key of its own and this gateway's port."""
    code, out, _ = await command(gateway.home, "keys", "create", "docs", "--json")
    assert code == 0
    source = blocks(ROOT / page, "python")[0]
    assert "127.0.0.1:8000" in source
    program = gateway.home.parent / "program.py"
    program.write_text(source.replace("127.0.0.1:8000", f"127.0.0.1:{gateway.port}"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), env={**environment(gateway.home), "NARU_API_KEY": json.loads(out)["key"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, failure = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, failure.decode()
    return printed.decode()


async def test_the_quick_start_does_what_it_shows(tmp_path: Path) -> None:
    """Two tool calls, their results in the final text, exactly the output on the page; then two requests in `usage`."""
    async with serving(tmp_path) as gateway:
        printed = await run_python(gateway, "docs/quickstart.md")
        calls = [line for line in printed.splitlines() if line.startswith("get_current_weather(")]
        assert ["서울" in calls[0], "부산" in calls[1], len(calls)] == [True, True, 2]
        final = printed.split(calls[1])[1]
        assert "서울" in final
        assert "부산" in final
        shown, usage = blocks(ROOT / "docs/quickstart.md", "text")
        assert printed == shown
        async with asyncio.timeout(20):
            rows: list[list[str]] = []
            while len(rows) < 3:  # entries are written within 50 ms
                _, out, _ = await command(gateway.home, "usage", "--by", "request")
                rows = [line.split("\t") for line in out.splitlines()]
        promised = usage.splitlines()
        assert promised[0].split() == " ".join(rows[0]).split()
        for line, row in zip(promised[1:], rows[1:], strict=True):
            assert line.split()[1:7] == row[1:7]


async def test_the_first_page_does_what_it_shows(tmp_path: Path) -> None:
    """curl's body is answered, the program prints a call for each city, and every metric is explained."""
    async with serving(tmp_path) as gateway:
        for body in curl_bodies("README.md"):
            assert b"200 OK" in await gateway.whole("POST", "/v1/chat/completions", body)
        printed = (await run_python(gateway, "README.md")).splitlines()
        assert [line.split()[0] for line in printed] == ["get_current_weather"] * 2
        metrics = (await gateway.whole("GET", "/metrics")).decode()
        kinds = re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE)
        table = (ROOT / "docs/operations.md").read_text()
        assert [name for name, kind in kinds if f"| `{name}` | {kind} |" not in table] == []
        assert set(re.findall(r"^\| `(naru_\w+)`", table, re.MULTILINE)) == {name for name, _ in kinds}


async def test_the_page_of_the_sdk_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """Its blocks are one program; the Korean page has the same ones."""
    async with serving(tmp_path) as gateway:
        program = tmp_path / "sdk.py"
        program.write_text("\n".join(blocks(ROOT / "docs/sdk.md", "python")))
        made = {"NARU_API_KEY": gateway.key, "NARU_BASE_URL": f"http://127.0.0.1:{gateway.port}"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), env={**environment(gateway.home), **made}, cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, failure = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, failure.decode()
    lines = printed.decode().splitlines()
    assert lines[0].startswith("안녕하세요! ")
    assert any(line.endswith("max_turns ['get_current_weather']") for line in lines)
    assert "done" in lines
    assert lines[-5:] == ["one", "two", "three", "안녕하세요!", "또 만나요"]
