"""POST /v1/responses/input_tokens, answered here: an estimate, for models whose provider counts nothing."""

from __future__ import annotations

from naru.protocol.counting import Rates, count_input
from naru.protocol.dialect import Envelope
from naru.protocol.openai_responses.request_in import decode_request
from naru.protocol.wire import encode

#: 16 tokens are recorded for five words of instructions and an empty message. An image of usual size, in high detail, is 765
#: tokens by OpenAI's rule (85, and 170 for each of four tiles).
RATES = Rates(once=3, message=4, image=765)


def count_tokens(envelope: Envelope) -> bytes:
    """`{"object": "response.input_tokens", "input_tokens": n}`. Raises BadRequest for what only OpenAI's store holds."""
    count = count_input(decode_request(envelope), RATES)
    return encode({"object": "response.input_tokens", "input_tokens": count})
