"""The catalogue's own words: a model, what it can do, and who offers it."""

from __future__ import annotations

from datetime import date

from msgspec import Raw, Struct

from naru.ledger.pricing import Price


class Capabilities(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What routing and requests need to know of a model (reference/providers.md A0.3). `endpoints` empty: not known.

    `reasoning_style`: none | openai_effort | deepseek | qwen_toggle | qwen_effort | anthropic_budget |
    anthropic_adaptive | gemini_budget | gemini_level | clova_effort | template_kwarg.
    `sampling`: yes | no | only_when_not_thinking. `json_schema`: native | tool_emulation | json_object | none.
    `reasoning_replay`: none | required_with_tools | signature.
    """

    endpoints: tuple[str, ...] = ("chat",)
    reasoning_style: str = "none"
    reasoning_default_on: bool = False
    reasoning_can_disable: bool = True
    efforts: tuple[str, ...] = ()
    reasoning_replay: str = "none"
    sampling: str = "yes"
    tools: bool = True
    tools_with_reasoning: bool = True
    forced_tool_choice: bool = True
    forced_tool_choice_when_thinking: bool = True
    min_max_tokens_with_tools: int = 0
    json_schema: str = "native"
    prefill: bool = False
    image_in: bool = False
    max_images: int | None = None
    audio_in: bool = False
    stream_only: bool = False
    stream_only_when_thinking: bool = False
    logprobs: bool = False
    has_n: bool = False


class Offer(Struct, frozen=True, kw_only=True):
    """One provider's offer of a model. `price` None: unknown, so serving it is refused unless the operator says.

    `region` None: the offer holds in every region of the provider. `defaults`: top-level body fields as JSON, set when
    the caller did not set them (this is how retired ids keep their meaning on the model that replaced them).
    """

    provider: str
    upstream_model: str
    price: Price | None
    region: str | None = None
    defaults: dict[str, Raw] = {}


class Model(Struct, frozen=True, kw_only=True):
    """`context` and `max_output` in tokens, None when unknown. `retires`: the day its provider switches it off.

    `source` says where the figures come from; "seed" marks rows that no refresh may change.
    """

    id: str
    label: str
    family: str
    source: str
    aliases: tuple[str, ...] = ()
    context: int | None = None
    max_output: int | None = None
    capabilities: Capabilities = Capabilities()
    offers: tuple[Offer, ...] = ()
    retires: date | None = None
