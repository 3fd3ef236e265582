"""The laws over recorded traffic: 13 providers' requests, answers and streams."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest

from naru.errors import UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from naru.protocol.openai_chat.relay import ChatStreamRelay
from tests.protocol.recordings import answers, exchanges, requests, streams
from tests.protocol.samples import FULL, PLAIN, compact, cut, datas, envelope, price

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(not exchanges(), reason="no recordings here (NARU_TRANSCRIPTS)"),
]

STREAMS = list(streams())


def test_requests_keep_every_field() -> None:
    """Same dialect: only the model changes."""
    quirks = Quirks(has_developer_role=True, thinking_replay_field="reasoning_content")
    for request in requests():
        sent = json.loads(OPENAI_CHAT.forward(OPENAI_CHAT.read(compact(request)), "m", quirks).body)
        messages = [
            {("reasoning_content" if name == "reasoning" else name): value for name, value in message.items()}
            for message in request["messages"]
        ]
        usage = {"stream_options": {"include_usage": True}} if request.get("stream") else {}
        assert sent == {**request, **usage, "messages": messages, "model": "m"}


def test_requests_survive_the_typed_messages() -> None:
    """Decoded, encoded and decoded again, nothing is lost."""
    for recorded in requests():
        request = OPENAI_CHAT.decode_request(OPENAI_CHAT.read(compact(recorded)))
        again = OPENAI_CHAT.decode_request(OPENAI_CHAT.read(OPENAI_CHAT.encode_request(request, FULL).body))
        assert again.messages == request.messages
        assert again.extra == request.extra
        assert (again.tools, again.tool_choice) == (request.tools, request.tool_choice)


def test_answers() -> None:
    """Usage is read from each; each is the same after a round trip and as a stream."""
    for answer in answers():
        body = compact(answer)
        relayed = OPENAI_CHAT.relay_whole(body, PLAIN)
        assert relayed.usage is not None
        assert relayed.usage.total == answer["usage"]["total_tokens"]
        response = OPENAI_CHAT.decode_response(body, PLAIN)
        assert OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response), PLAIN) == response
        encoder = OPENAI_CHAT.stream_encoder(envelope(True), price)
        stream = b"".join(map(encoder.event, response_events(response))) + encoder.close()
        decoder = ChatStreamDecoder(PLAIN)
        assert accumulate([*decoder.feed(stream), *decoder.close()]) == response


def test_answers_lose_nothing_in_a_repair() -> None:
    """What was there is there, except for what the dialect writes otherwise."""
    for answer in answers():
        relayed = json.loads(OPENAI_CHAT.relay_whole(compact(answer), PLAIN).body)
        assert {**relayed, "choices": []} == {**answer, "choices": []}
        for before, after in zip(answer["choices"], relayed["choices"], strict=True):
            kept = {name for name in before["message"] if name not in ("content", "tool_calls")}
            assert {name: after["message"][name] for name in kept} == {name: before["message"][name] for name in kept}
            assert after["finish_reason"] == before["finish_reason"]
            assert isinstance(after["message"].get("content"), str | None)


def relayed(pieces: list[bytes], wants_usage: bool) -> tuple[bytes, ChatStreamRelay]:
    relay = ChatStreamRelay(envelope(wants_usage), PLAIN, price)
    return b"".join(map(relay.feed, pieces)) + relay.close(), relay


def decoded(pieces: list[bytes]) -> tuple[list[Event], UpstreamError | None]:
    decoder = ChatStreamDecoder(PLAIN)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        return events + decoder.close(), None
    except UpstreamError as error:
        return events, error


@pytest.mark.parametrize("stream", [data for _, data in STREAMS], ids=[name for name, _ in STREAMS])
@pytest.mark.parametrize("wants_usage", [False, True])
def test_streams_cut_anywhere(stream: bytes, wants_usage: bool) -> None:
    """Whole = byte by byte = random splits: the bytes relayed and the events decoded."""
    dice = random.Random(7)
    splits = [cut(stream, sorted(dice.choices(range(len(stream)), k=40))) for _ in range(10)]
    splits.append([stream[start:end] for start, end in pairwise(range(len(stream) + 1))])
    out, relay = relayed([stream], wants_usage)
    events, error = decoded([stream])
    for pieces in splits:
        found, again = relayed(pieces, wants_usage)
        assert found == out
        assert (again.usage, again.output_chars, again.is_finished) == (
            relay.usage,
            relay.output_chars,
            relay.is_finished,
        )
        more, fault = decoded(pieces)
        assert more == events
        assert (fault is None) == (error is None)


@pytest.mark.parametrize("stream", [data for _, data in STREAMS], ids=[name for name, _ in STREAMS])
def test_streams_relayed(stream: bytes) -> None:
    """Nothing is lost: each chunk comes out with its fields; an error ends it, else [DONE] and the usage do."""
    out, relay = relayed([stream], wants_usage=True)
    sent = list(datas(b"\n\n".join(b for b in stream.split(b"\n\n") if b.startswith(b"data: "))))
    got = list(datas(b"\n\n".join(b for b in out.split(b"\n\n") if b.startswith(b"data: "))))
    for before, after in zip(sent, got, strict=False):
        assert without_ours(after) == before
    if relay.error is None:
        assert len(got) == len(sent)
        assert relay.is_finished
        assert isinstance(relay.usage, Usage)
        assert b'"naru":{"cost_usd":' in out
    else:
        assert isinstance(relay.error, UpstreamRefused)
        assert not out.endswith(b"[DONE]\n\n")


def without_ours(found: Any) -> Any:
    """The chunk without what Naru added."""
    if not isinstance(found, str):
        (found.get("usage") or {}).pop("naru", None)
        for choice in found["choices"]:
            if "reasoning" in choice["delta"]:
                choice["delta"].pop("reasoning_content", None)
    return found


@pytest.mark.parametrize("stream", [data for _, data in STREAMS], ids=[name for name, _ in STREAMS])
def test_streams_add_up(stream: bytes) -> None:
    """The accumulated answer has the text of all deltas and survives as a whole answer."""
    events, error = decoded([stream])
    if error is not None:
        assert isinstance(error, UpstreamRefused)
        return
    response = accumulate(events)
    body = OPENAI_CHAT.encode_response(response)
    sent = list(datas(b"\n\n".join(b for b in stream.split(b"\n\n") if b.startswith(b"data: "))))[:-1]
    text = "".join(choice["delta"].get("content") or "" for found in sent for choice in found["choices"])
    assert json.loads(body)["choices"][0]["message"]["content"] == (text or None)
    assert OPENAI_CHAT.decode_response(body, PLAIN) == response
