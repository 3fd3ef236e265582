"""What is decided about tool servers without one: options, names, schemas, texts, pauses, addresses."""

from __future__ import annotations

import re
from typing import Any, Literal

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from naru.agent.mcp import McpPool, McpServer
from naru.agent.mcp.backoff import Failures
from naru.agent.mcp.names import tool_names
from naru.agent.mcp.options import Options
from naru.agent.mcp.results import NOTHING, result_text
from naru.agent.mcp.schema import plain_schema
from naru.agent.mcp.web import NotPublic, Refusals, is_public, web_client
from naru.testing import RawServer
from naru.testing.script import Script, scripted

ALLOWED = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")


# --- Options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "a"}, "either a command"),
        ({"name": "a", "command": ["x"], "url": "https://x.example"}, "either a command"),
        ({"name": "a__b", "command": ["x"]}, "its name stands before"),
        ({"name": "a_", "command": ["x"]}, "its name stands before"),
        ({"name": "1a", "command": ["x"]}, "its name stands before"),
        ({"name": "a" * 33, "command": ["x"]}, "32 characters at most"),
        ({"name": "a", "command": "npx x"}, 'command is a list of texts: ["npx x"]'),
        ({"name": "a", "command": [" "]}, "the command is empty"),
        ({"name": "a", "command": ["x"], "headers": {"A": "b"}}, "headers are for a url"),
        ({"name": "a", "command": ["x"], "public_only": True}, "nobody far away chooses a command"),
        ({"name": "a", "command": ["x", "a\0b"]}, "hold no NUL"),
        ({"name": "a", "command": ["x"], "timeout_s": 0}, "are above 0"),
        ({"name": "a", "url": "https://x.example", "env": {"A": "b"}}, "env and cwd are for a command"),
        ({"name": "a", "url": "http://x.example"}, "http:// is for this machine only"),
        ({"name": "a", "url": "http://127.0.0.1.evil.example"}, "http:// is for this machine only"),
        ({"name": "a", "url": "https://u:p@x.example"}, "must not hold a user or password"),
        ({"name": "a", "url": "file:///etc/passwd"}, "begins with https://"),
        ({"name": "a", "url": "https://[::1"}, "the url is none"),
    ],
)
def test_options_without_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r"^MCP server ") as caught:
        McpServer(**given)
    assert words in str(caught.value)


def test_options_show_no_secret() -> None:
    web = Options(name="a", url="https://x.example/?key=HUSH", headers={"Authorization": "Bearer HUSH"})
    child = Options(name="a", command=("x", "--key=HUSH"), env={"KEY": "HUSH"})
    assert "HUSH" not in repr(web) + repr(child)


def test_two_servers_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="Two MCP servers are called 'a'"):
        McpPool([McpServer(name="a", command=["x"]), McpServer(name="a", command=["y"])])


def test_include_and_exclude_take_names_and_patterns() -> None:
    options = Options(name="a", command=("x",), include=("read_*", "stat"), exclude=("read_secret",))
    assert [name for name in ("read_file", "read_secret", "stat", "stats", "write") if options.takes(name)] == [
        "read_file",
        "stat",
    ]


# --- Names --------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=90), unique=True, max_size=12))
def test_names_fit_models_differ_and_do_not_depend_on_the_order(tools: list[str]) -> None:
    names = tool_names("files", tools)
    assert all(ALLOWED.match(name) and name.startswith("files__") for name in names.values())
    assert len(set(names.values())) == len(tools)
    assert tool_names("files", tools[::-1]) == names


def test_a_name_that_fits_stays() -> None:
    assert tool_names("a", ["read", "x.y", "x_y"]) == {
        "read": "a__read",
        "x.y": tool_names("a", ["x_y", "x.y"])["x.y"],
        "x_y": "a__x_y",
    }
    assert tool_names("a", ["x.y"]) == {"x.y": "a__x_y"}


# --- Schemas ------------------------------------------------------------------------------------------------------


def test_references_are_written_out_and_asides_left_out() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Arguments",
        "type": "object",
        "properties": {
            "title": {"title": "Title", "type": "string", "default": {"title": "stays"}},
            "place": {"$ref": "#/$defs/Place", "description": "Where"},
            "more": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]}},
        },
        "required": ["title"],
        "$defs": {"Place": {"title": "Place", "type": "object", "properties": {"city": {"type": "string"}}}},
    }
    place = {"type": "object", "properties": {"city": {"type": "string"}}}
    assert plain_schema(schema) == {
        "type": "object",
        "properties": {
            "title": {"type": "string", "default": {"title": "stays"}},
            "place": {**place, "description": "Where"},
            "more": {"type": "array", "items": {"anyOf": [place, {"type": "null"}]}},
        },
        "required": ["title"],
    }


@pytest.mark.parametrize("reference", ["#/$defs/Node", "https://elsewhere.example/schema", "#/$defs/Gone", "#"])
def test_a_reference_without_an_end_stays_with_its_definitions(reference: str) -> None:
    definitions = {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}}
    schema = {"type": "object", "properties": {"node": {"$ref": reference}}, "$defs": definitions}
    assert plain_schema(schema) == schema


def test_a_schema_of_nothing_is_one_of_an_object() -> None:
    assert plain_schema({}) == {"type": "object", "properties": {}}


# --- Results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "structured", "said"),
    [
        (["one", "two"], None, "one\ntwo"),
        ([], None, NOTHING),
        ([], {"a": "가"}, '{"a": "가"}'),
        (['{"a": 1}'], {"a": 1}, '{"a": 1}'),
        (["3"], {"result": 3}, "3"),
        (["text"], {"result": "text"}, "text"),
        (["12"], {"result": "12"}, "12"),
        (['{"a": 1}', '{"a": 2}'], {"result": [{"a": 1}, {"a": 2}]}, '{"a": 1}\n{"a": 2}'),
        (["Two were found."], {"found": [1, 2]}, 'Two were found.\n{"found": [1, 2]}'),
    ],
)
def test_texts_and_structured_content_are_told_once(content: list[str], structured: Any, said: str) -> None:
    blocks: list[ContentBlock] = [TextContent(text=text) for text in content]
    assert result_text(CallToolResult(content=blocks, structured_content=structured)) == said


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (
            ImageContent(data="QUJD" * 1024, mime_type="image/png"),
            "[image/png, 3 KiB: only text can be passed on here]",
        ),
        (
            ResourceLink(name="n", uri="file:///n.txt", mime_type="text/plain", description="Notes"),
            "[resource n: file:///n.txt (text/plain; Notes)]",
        ),
        (EmbeddedResource(resource=TextResourceContents(uri="a://b", text="inside")), "[resource a://b]\ninside"),
        (
            EmbeddedResource(resource=BlobResourceContents(uri="a://b", blob="QUJD")),
            "[resource a://b: a file of an unknown kind, 3 bytes: only text can be passed on here]",
        ),
    ],
)
def test_what_is_no_text_is_named(block: ContentBlock, said: str) -> None:
    assert result_text(CallToolResult(content=[block])) == said


# --- Pauses -------------------------------------------------------------------------------------------------------


def test_the_first_failure_costs_no_wait_and_later_ones_up_to_half_a_minute() -> None:
    failures = Failures()
    waits = []
    for _ in range(12):
        failures = failures.another(100.0)
        waits.append(failures.wait_s(100.0))
    assert waits[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert waits[-1] == 30.0
    assert (failures.wait_s(129.0), failures.wait_s(131.0)) == (1.0, 0.0)


# --- Addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.0.0.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("::1", False), ("fd00::1", False), ("fe80::1", False),
        ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False), ("64:ff9b::808:808", True), ("2002:7f00:1::", False),
    ],
)  # fmt: skip
def test_addresses_of_the_public_internet(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("ending", ["fin", "reset", "nobody"])
async def test_a_connection_that_breaks_before_an_answer_is_lost(ending: Literal["fin", "reset", "nobody"]) -> None:
    """The SDK would send the next request just so."""
    server = RawServer(scripted(Script(is_silent=True, ending="fin" if ending == "nobody" else ending)))
    url = await server.start()
    if ending == "nobody":
        await server.stop()
    lost: list[bool] = []
    async with web_client(Options(name="a", url=url), Refusals(), lambda: lost.append(True)) as web:
        with pytest.raises(httpx2.TransportError):
            await web.post(url)
    assert lost == [True]
    await server.stop()


@pytest.mark.parametrize("url", ["http://localhost:1/mcp", "https://127.0.0.1/mcp", "https://[::1]/mcp"])
async def test_an_address_that_a_remote_caller_chose_leads_nowhere_private(url: str) -> None:
    async with web_client(Options(name="a", url=url, public_only=True), Refusals(), lambda: None) as web:
        with pytest.raises(NotPublic):
            await web.post(url)
    assert issubclass(NotPublic, httpx2.TransportError)
