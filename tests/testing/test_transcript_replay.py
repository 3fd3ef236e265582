"""Recordings: read without loss, served in any pieces. Real ones when they are there, made ones always."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.testing.replay import Cuts, Interaction, ReplayServer, Skipped, load_interactions, pieces

TRANSCRIPTS = Path(
    os.environ.get("NARU_TRANSCRIPTS") or Path(__file__).resolve().parents[2].parent / "shared" / "transcripts"
)

STREAM = 'data: {"말":"안녕 👋"}\n\ndata: [DONE]\n\n'

RECORDING = """
interactions:
- request:
    method: post
    uri: https://api.example.com/v1/chat?x=1
    headers: {}
    parsed_body: {"model": "m", "messages": [{"role": "user", "content": "안녕"}]}
  response:
    status: {code: 200, message: OK}
    headers:
      Content-Type: [text/event-stream; charset=utf-8]
      Content-Encoding: [gzip]
      Content-Length: ['9999']
      X-Kept: [one, two]
    body: {string: "data: {\\"말\\":\\"안녕 👋\\"}\\n\\ndata: [DONE]\\n\\n"}
- request: {method: GET, uri: https://api.example.com/v1/models, body: ''}
  response:
    status: {code: 429}
    headers: {content-type: application/json, retry-after: ['2']}
    parsed_body: {"error": {"message": "천천히", "digits": 12345678901234567890, "part": 0.1}}
- request: {method: GET, uri: https://api.example.com/file}
  response: {status: 200, headers: {}, body: {base64_string: AAEC}}
- request: {method: GET, uri: https://api.example.com/text, body: not json}
  response: {status: {code: 200}, headers: {}, body: plain}
- request_sample: {json: {}}
  response_sample: {}
- request: {method: GET, uri: https://api.example.com/}
  response: {headers: {}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "good.yaml").write_text(RECORDING)
    (tmp_path / "broken.yml").write_text("interactions: [")
    (tmp_path / "other.yaml").write_text("- 1\n")
    (tmp_path / "notes.txt").write_text("no recording")
    return tmp_path


@pytest.fixture
def made(folder: Path) -> list[Interaction]:
    return load_interactions(folder)


def test_every_form_of_body_is_read(made: list[Interaction]) -> None:
    stream, limited, binary, text = made
    assert (stream.file, stream.index, stream.method, stream.path) == ("sub/good.yaml", 0, "POST", "/v1/chat?x=1")
    assert stream.request_json["messages"][0]["content"] == "안녕"
    assert (stream.body.decode(), stream.content_type, stream.is_stream) == (STREAM, "text/event-stream", True)
    assert (limited.status, limited.is_stream, limited.request_json) == (429, False, None)
    assert limited.body.decode() == '{"error":{"message":"천천히","digits":12345678901234567890,"part":0.1}}'
    assert (binary.body, binary.content_type) == (b"\x00\x01\x02", "")
    assert (text.body, text.request_json) == (b"plain", None)


def test_what_is_no_http_interaction_is_reported(folder: Path) -> None:
    skipped: list[Skipped] = []
    load_interactions(folder, skipped)
    found = {(entry.file, entry.index): entry.reason for entry in skipped}
    assert set(found) == {("broken.yml", None), ("other.yaml", None), ("sub/good.yaml", 4), ("sub/good.yaml", 5)}
    assert found["broken.yml", None].startswith("not YAML")
    assert "request_sample" in found["sub/good.yaml", 4]
    assert "status" in found["sub/good.yaml", 5]


@given(body=st.binary(max_size=60), cuts=st.lists(st.integers(-5, 70), max_size=8))
def test_pieces_are_always_the_whole(body: bytes, cuts: list[int]) -> None:
    for how in ("whole", "bytes", cuts):
        cut: Cuts = how  # type: ignore[assignment]
        assert b"".join(pieces(body, cut)) == body
    assert len(pieces(body, "bytes")) == len(body)
    inside = {cut for cut in cuts if 0 < cut < len(body)}
    assert len(pieces(body, cuts)) == len(inside) + 1


@pytest.fixture
async def servers() -> AsyncIterator[list[ReplayServer]]:
    started: list[ReplayServer] = []
    yield started
    for server in started:
        await server.stop()


async def get(origin: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, list[str], list[bytes]]:
    """Status, header lines, and the chunks of the body."""
    host, port = origin.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{extra}\r\n".encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    chunks: list[bytes] = []
    if "transfer-encoding: chunked" not in lines:
        return int(lines[0].split()[1]), lines[1:], [rest]
    while size := int(rest.partition(b"\r\n")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        chunks.append(rest[:size])
        rest = rest[size + 2 :]
    return int(lines[0].split()[1]), lines[1:], chunks


async def test_a_recording_is_served_with_its_own_headers_only(
    made: list[Interaction], servers: list[ReplayServer]
) -> None:
    servers.append(ReplayServer(made[:1]))
    status, lines, chunks = await get(await servers[0].start())
    assert (status, chunks) == (200, [made[0].body])
    assert lines == [
        "content-type: text/event-stream; charset=utf-8",
        "x-kept: one",
        "x-kept: two",
        "transfer-encoding: chunked",
    ]
    assert servers[0].received[0].target == "/"


async def test_pieces_are_chunks_of_their_own(made: list[Interaction], servers: list[ReplayServer]) -> None:
    servers.append(ReplayServer(made[:1], cuts="bytes"))
    origin = await servers[0].start()
    body = made[0].body
    assert (await get(origin))[2] == [body[at : at + 1] for at in range(len(body))]
    servers[0].cuts = (3, 20)
    assert (await get(origin))[2] == [body[:3], body[3:20], body[20:]]


async def test_several_are_served_in_order_and_then_no_more(
    made: list[Interaction], servers: list[ReplayServer]
) -> None:
    servers.append(ReplayServer(made[:2]))
    origin = await servers[0].start()
    assert [(await get(origin))[0] for _ in range(2)] == [200, 429]
    status, _, chunks = await get(origin, "/late")
    assert (status, b"no interaction is left for GET /late" in chunks[0]) == (500, True)


async def test_one_is_chosen_by_header_or_path(made: list[Interaction], servers: list[ReplayServer]) -> None:
    servers.append(ReplayServer(made, by_path=True))
    origin = await servers[0].start()
    assert (await get(origin, x_replay_index="2"))[2] == [b"\x00\x01\x02"]
    assert (await get(origin, "/text"))[2] == [b"plain"]
    assert (await get(origin, "/v1/chat?x=1", "POST"))[2] == [made[0].body]
    assert (await get(origin, "/text"))[0] == 500
    assert (await get(origin, x_replay_index="99"))[0] == 500


@pytest.mark.transcripts
@pytest.mark.skipif(not TRANSCRIPTS.is_dir(), reason="no recordings here (NARU_TRANSCRIPTS)")
def test_the_real_recordings_are_read() -> None:
    """Every interaction is read, or left out for a named reason; JSON stays JSON and every stream has events."""
    skipped: list[Skipped] = []
    interactions = load_interactions(TRANSCRIPTS, skipped)
    assert len(interactions) > 300
    assert all("not an HTTP interaction" in entry.reason for entry in skipped)
    for interaction in interactions:
        if interaction.content_type == "application/json" and interaction.body:
            json.loads(interaction.body)
        if interaction.is_stream:
            assert b"data:" in interaction.body
