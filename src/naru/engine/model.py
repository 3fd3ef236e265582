"""A model that is ready to answer: its engine, its templates and what its files say of decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from naru.engine.asking import Defaults, Plan, Rendered, Rules, plan, plan_chat
from naru.engine.parse.formats import detect
from naru.engine.port import Backend
from naru.engine.template import Templates
from naru.engine.weights import read_json
from naru.errors import BadRequest, NotFound
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Request
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions.read import prompts_of

Json = dict[str, Any]
Now = Callable[[], datetime]


class Asked(Struct, frozen=True):
    """A request with one plan for each prompt in it; chat has one prompt."""

    request: Request
    plans: tuple[Plan, ...]

    def seeded(self, random: Random) -> Asked:
        """A request without a seed of its own gets one, or the library would sample the same for everybody."""
        if self.request.sampling.seed is not None:
            return self
        plans = []
        for each in self.plans:
            decoding = msgspec.structs.replace(each.decoding, seed=random.getrandbits(31))
            plans.append(msgspec.structs.replace(each, decoding=decoding))
        return Asked(self.request, tuple(plans))


class Model:
    """`names` are those that callers may write; `base:adapter` chooses an adapter. `now` is for templates that print a date."""

    def __init__(
        self, names: Sequence[str], backend: Backend, templates: Templates, defaults: Defaults, now: Now
    ) -> None:
        self.names = tuple(names)
        self.backend = backend
        formats = frozenset(each for name in templates.names for each in detect(templates.choose(name).source))
        self.rules = Rules(templates, formats, defaults, backend.facts)
        self._now = now

    @property
    def served(self) -> list[str]:
        return [*self.names, *(f"{name}:{adapter}" for name in self.names for adapter in self.rules.facts.adapters)]

    def chat(self, envelope: Envelope) -> Asked:
        """Raises BadRequest, NotFound."""
        adapter = self._adapter(envelope.model)
        request = OPENAI_CHAT.decode_request(envelope)
        messages = _list(envelope, "messages")
        tools = _list(envelope, "tools") if "tools" in envelope.fields else []
        if not self.rules.templates.names:
            raise BadRequest(
                f"{self.names[0]} has no chat template, so it is no chat model. Use /v1/completions.", param="messages"
            )
        rendered = plan_chat(request, messages, tools, self.rules, self._now())
        return Asked(request, (self._plan(rendered, request, adapter),))

    def completions(self, envelope: Envelope) -> Asked:
        """Text is continued as it stands: no template, no parser."""
        adapter = self._adapter(envelope.model)
        request = _raw_request(envelope)
        plans = []
        for prompt in prompts_of(envelope.fields["prompt"]):
            ids = self.backend.encode(prompt) if isinstance(prompt, str) else list(prompt)
            rendered = Rendered(prompt if isinstance(prompt, str) else "", frozenset())
            plans.append(plan(rendered, ids, request, self.rules, adapter))
        return Asked(request, tuple(plans))

    def count(self, envelope: Envelope) -> int:
        """Tokens of a chat request's prompt."""
        return len(self.chat(envelope).plans[0].prompt.ids)

    def _plan(self, rendered: Rendered, request: Request, adapter: str) -> Plan:
        return plan(rendered, self.backend.encode(rendered.text), request, self.rules, adapter)

    def _adapter(self, model: str) -> str:
        if model in self.names:
            return ""
        name, colon, adapter = model.rpartition(":")
        if colon and name in self.names and adapter in self.rules.facts.adapters:
            return adapter
        raise NotFound(f"This engine serves {', '.join(self.served)}; it has no {model!r}.", code="model_not_found")


def _list(envelope: Envelope, name: str) -> list[Json]:
    value = msgspec.json.decode(envelope.fields[name])
    return value if isinstance(value, list) else []


#: Of text completions, what only makes sense elsewhere.
_NOT_TAKEN = ("suffix", "echo", "best_of", "logit_bias", "use_beam_search")


def _raw_request(envelope: Envelope) -> Request:
    """A text completion's fields are chat's, but for the prompt and `logprobs`, a number there."""
    fields = {name: raw for name, raw in envelope.fields.items() if name != "prompt"}
    for name in _NOT_TAKEN:
        if name in fields and msgspec.json.decode(fields[name]):
            raise BadRequest(f"`{name}` is not supported by local engines.", code="unsupported_parameter", param=name)
    count = fields.pop("logprobs", None)
    fields["messages"] = msgspec.Raw(b'[{"role":"user","content":"."}]')
    request = OPENAI_CHAT.decode_request(msgspec.structs.replace(envelope, fields=fields))
    wanted = msgspec.json.decode(count) if count is not None else None
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        request = msgspec.structs.replace(request, logprobs=True, top_logprobs=wanted)
    prompts = len(prompts_of(envelope.fields["prompt"]))
    return msgspec.structs.replace(request, messages=(), n=max(1, envelope.n // prompts))


def defaults_of(folder: Path) -> Defaults:
    """Raises ConfigError."""
    path = folder / "generation_config.json"
    return Defaults.of(read_json(path) if path.is_file() else {})
