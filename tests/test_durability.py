"""What is on the disk when: `durability = "power"` promises it before anything is sent upstream and before an answer goes out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from naru.ledger.journal import Position
from naru.testing.http import Exchange, RawServer
from tests.harness import MESSAGES, running

ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("is_stream", [False, True])
async def test_power_means_on_the_disk_first(tmp_path: Path, is_stream: bool) -> None:
    """When the upstream hears of the request, its record is synced; when the client has a plain answer, the ending is too."""
    synced: list[Position] = []
    at_upstream: list[tuple[Position, Position]] = []

    def answer(exchange: Exchange) -> None:
        at_upstream.append((synced[-1], journal.position))
        if is_stream:
            exchange.start(200, (("content-type", "text/event-stream"),))
            chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
            exchange.send(b"data: " + msgspec.json.encode(chunk) + b"\n\ndata: [DONE]\n\n")
            exchange.end()
        else:
            exchange.answer(200, msgspec.json.encode(ANSWER))

    upstream = RawServer(answer)
    base = await upstream.start()
    provider = f'[providers.own]\nkind="custom"\nbase_url="{base}/v1"\napi_key="x"\nallow_private=true\nprice="free"\n'
    async with running(tmp_path, f'[ledger]\ndurability = "power"\n{provider}') as gateway:
        journal = gateway.app.gateway.ledger.journal
        sync = journal.sync

        def noted() -> None:
            before = journal.position
            sync()
            synced.append(before)

        journal.sync = noted  # type: ignore[method-assign]
        body = msgspec.json.encode({"model": "own/thing", "messages": MESSAGES, "stream": is_stream})
        assert (await gateway.post(body))[0] == 200
        ((on_disk, written),) = at_upstream
        assert on_disk == written
        if not is_stream:
            assert synced[-1] == journal.position
        assert len(synced) >= (1 if is_stream else 2)
    await upstream.stop()
