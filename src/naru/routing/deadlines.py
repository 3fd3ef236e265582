"""How long an answer may take where the operator has not said. Pure.

The longer the prompt, the later the first word; the longer the answer that was asked for, the later the last; and a model that
thinks first may be silent for minutes. The seeds' estimate (tokens / speed * 1.5 + 2 s) is kept, with a floor and a ceiling.
"""

from __future__ import annotations

from naru.protocol.dialect import Envelope
from naru.protocol.tokens import estimate_tokens_bytes
from naru.routing.table import Deployment

TTFT_S = 60.0
#: OpenAI's and Anthropic's largest models were seen to think for minutes without a word.
REASONING_TTFT_S = 300.0
#: A slow server still reads so many tokens of a prompt in a second.
PREFILL_TOKENS_PER_S = 1_000.0
MAX_TTFT_S = 900.0

TOTAL_S = 600.0
MAX_TOTAL_S = 3_600.0
#: Up to these TOTAL_S is enough at any rate.
USUAL_OUTPUT = 8_000
USUAL_INPUT_BYTES = 50_000
#: One stream of a slow provider, in tokens a second.
SPEED = 25.0
MARGIN = 1.5
NETWORK_S = 2.0
MOST_OF_IT = 0.8


def ttft_s(deployment: Deployment, envelope: Envelope) -> float:
    """Seconds from the request to the first content."""
    said = deployment.timeouts.ttft_s
    if said is not None:
        return said
    base = REASONING_TTFT_S if deployment.reasons else TTFT_S
    return min(base + estimate_tokens_bytes(envelope.input_bytes) / PREFILL_TOKENS_PER_S, MAX_TTFT_S)


def patience_s(deployment: Deployment, envelope: Envelope, left_s: float) -> float:
    """Seconds for a plain answer while others could be asked. It shows nothing until it is whole, so a long one must not be taken
    for silence: half of the time that is left, or what such an answer usually takes, but never so long that nothing is left."""
    usual_s = ttft_s(deployment, envelope) + (envelope.max_output_tokens or 0) * envelope.n / SPEED
    return max(left_s / 2, min(usual_s, left_s * MOST_OF_IT))


def total_s(deployment: Deployment, envelope: Envelope) -> float:
    """Seconds over all attempts."""
    said = deployment.timeouts.total_s
    if said is not None:
        return said
    start_s = deployment.timeouts.start_s
    output = (envelope.max_output_tokens or 0) * envelope.n
    if output <= USUAL_OUTPUT and envelope.input_bytes <= USUAL_INPUT_BYTES:
        return TOTAL_S + start_s  # as nearly all
    expected = (
        estimate_tokens_bytes(envelope.input_bytes) / PREFILL_TOKENS_PER_S + output / SPEED
    ) * MARGIN + NETWORK_S
    return min(max(expected, TOTAL_S), MAX_TOTAL_S) + start_s
