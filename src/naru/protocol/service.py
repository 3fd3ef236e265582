"""How an answer was served, beside its tokens: the tier, and the tools that the provider ran itself.

Both come from the answer: who asks for priority may be served as everyone else, and is billed so (providers.md A4.4, A5.4, C1
to C3). Their names are the providers' own words; parts of one tier are joined by `+` (Anthropic's `fast+us`).
"""

from __future__ import annotations

from collections.abc import Iterable

from naru.protocol.dialect import Envelope
from naru.protocol.wire import text_of

#: Words for the service that the list price is for. `on_demand` is Groq's; `global` and `not_available` are Anthropic's, of
#: the place.
USUAL_TIERS = frozenset(
    {"", "default", "standard", "standard_only", "on_demand", "unspecified", "global", "not_available"}
)
#: Left to the account's settings: any tier but the ones that have to be asked for by name.
OPEN_TIERS = frozenset({"", "auto"})
#: Cheaper than the list everywhere, so never served to who did not ask.
CHEAP_TIERS = frozenset({"flex", "batch"})
#: Dearer, and only for who asks for them by name.
ASKED_TIERS = frozenset({"fast", "ultrafast"})
#: Tools that a provider runs and bills by the call, as prices name them.
SERVER_TOOLS = (
    "web_search",
    "web_search_preview",
    "web_fetch",
    "file_search",
    "code_interpreter",
    "image_generation",
    "grounded_prompt",
    "maps",
)
#: Fields of a request that ask for a tier.
TIER_FIELDS = frozenset({"service_tier", "serviceTier", "speed", "inference_geo"})
_MAX_CHARS = 40
#: No answer is made of a million searches; a count that says so is not believed.
_MAX_CALLS = 1_000_000

ServerTools = tuple[tuple[str, int], ...]


def tier_of(*names: str | None) -> str:
    """The tier that an answer names, in parts; empty for the usual one."""
    parts = [name.strip().lower().removeprefix("service_tier_") for name in names if name]
    return "+".join(part[:_MAX_CHARS] for part in parts if part not in USUAL_TIERS and part != "auto")


def asked_tier(envelope: Envelope) -> str:
    """The tier that a request asks for, in any dialect's form; empty where it leaves the choice to the account."""
    fields = envelope.fields
    named = [text_of(fields.get(name)) for name in ("service_tier", "serviceTier", "speed", "inference_geo")]
    asked = [name.lower() for name in named if name]
    return tier_of(*asked) or ("default" if asked and "auto" not in asked else "")


def tools_of(counts: Iterable[tuple[str, int | None]]) -> ServerTools:
    """Counts by tool, without those that were not used or that cannot be believed."""
    return tuple((name, count) for name, count in counts if count is not None and 0 < count <= _MAX_CALLS)
