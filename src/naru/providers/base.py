"""What a provider is: data. A provider that needs code needs a dialect instead.

Each quirk's comment says how the fact is known: (A5.2) is a section of reference/providers.md, (recorded) was seen in
recorded traffic, (docs) stands in the provider's own documentation, (reported) in others' reports of its answers, and
(unverified) is common knowledge that nobody has tested here yet.

What is dropped is a hint (sampling, thinking, bookkeeping), and its name is told to the caller. What decides the form of
an answer (stop, logprobs, logit_bias) is passed on, and the upstream refuses it by name.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Struct

from naru.errors import ConfigError
from naru.protocol.dialect import Quirks

Auth = Literal["bearer", "optional_bearer", "none", "x-api-key", "x-goog-api-key", "api-key"]

#: Fields that are Naru's, Qwen's or an inference server's own. OpenAI answers 400 to unknown body keys (A5.2), Mistral 422.
FOREIGN_FIELDS = frozenset(
    {
        "cache_control",
        "chat_template_kwargs",
        "enable_thinking",
        "min_p",
        "preserve_thinking",
        "reasoning_content",
        "repetition_penalty",
        "thinking",
        "thinking_blocks",
        "thinking_budget",
        "top_k",
    }
)

CHAT_PATHS = {"chat": "/chat/completions", "models": "/models"}
EMBEDDING_PATHS = {**CHAT_PATHS, "embeddings": "/embeddings"}
#: Sound and images, under OpenAI's own paths.
HEAR_PATHS = {"transcription": "/audio/transcriptions", "translation": "/audio/translations"}
SPEAK_PATHS = {"speech": "/audio/speech"}
IMAGE_PATHS = {"images": "/images/generations", "edits": "/images/edits"}
MEDIA_PATHS = {**HEAR_PATHS, **SPEAK_PATHS, **IMAGE_PATHS}
#: The older text completions as well.
TEXT_PATHS = {**EMBEDDING_PATHS, "completions": "/completions"}


#: Quirks of models wherever they run; a provider's own `model_quirks` come after them.
ANYWHERE: tuple[tuple[str, dict[str, Any]], ...] = (
    # the first generation of Qwen3 alone was taught the soft switches (its model card; seed 003)
    ("*qwen3-[0-9]*b*", {"reads_soft_switch": True}),
    ("*qwen3:[0-9]*", {"reads_soft_switch": True}),
    ("*qwen3*-2507*", {"reads_soft_switch": False}),
)


class Provider(Struct, frozen=True, kw_only=True):
    """One kind of upstream: where it answers, how it knows its caller, and how it departs from its dialect.

    `hosts`: region -> base URL with the version path and no trailing slash; the first is the default. Empty: there is
    no usual address, so the configuration gives one. `no_hosts`: region -> why it has none and what to do.
    `address_env`: the variable that usually holds the address of an account of one's own at a service without a common one;
    `address_path`: where the API begins there, added to an address without a path.
    `signs_as`: the name of the service in signatures (AWS), where requests are signed unless there is an API key.
    `priced_as`: the kind whose list prices hold here too.
    `env`: variables that usually hold the API key, best first. `headers`: sent with every request.
    `paths`: endpoint -> path under the base URL; one that begins with `//` starts at the root of the host instead. `only`:
    endpoint -> patterns of the upstream models it takes; an endpoint that is not named takes all. `docs`: the provider's
    own reference.
    `probe_path`: what tells for nothing that it is there; "": its list of models. `load_path`: where it tells how busy it is, as
    gauges of `load_names`: requests running, requests waiting, the part of its KV memory in use, under the names of its versions.
    `model_quirks`: (pattern of the upstream model's name, changed Quirks fields), applied in order; `drops` add up,
    every other field replaces. `is_catalogued`: it has the catalogue's models and no others.
    """

    kind: str
    label: str
    docs: str
    dialect: str = "openai_chat"
    hosts: dict[str, str] = {}
    no_hosts: dict[str, str] = {}
    address_env: str = ""
    address_path: str = ""
    signs_as: str = ""
    priced_as: str = ""
    env: tuple[str, ...] = ()
    auth: Auth = "bearer"
    headers: tuple[tuple[str, str], ...] = ()
    paths: dict[str, str] = msgspec.field(default_factory=CHAT_PATHS.copy)
    only: dict[str, tuple[str, ...]] = {}
    quirks: Quirks = Quirks()
    model_quirks: tuple[tuple[str, dict[str, Any]], ...] = ()
    probe_path: str = ""
    load_path: str = ""
    load_names: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] = ((), (), ())
    is_local: bool = False
    is_catalogued: bool = False

    def base_url(self, region: str | None = None) -> str:
        """The base URL for `region`, or the default one. Raises ConfigError naming the regions there are."""
        if region in self.no_hosts:
            raise ConfigError(f"{self.kind} in {region}: {self.no_hosts[region]}")
        if not self.hosts:
            way = f" or set {self.address_env}" if self.address_env else ""
            raise ConfigError(f"{self.kind} has no usual address: give its base_url{way}")
        if not region:
            return next(iter(self.hosts.values()))
        if region not in self.hosts:
            raise ConfigError(f"{self.kind} has no region {region!r}; it has {', '.join(self.hosts)}")
        return self.hosts[region]

    @property
    def needs_key(self) -> bool:
        return self.auth not in ("optional_bearer", "none")

    def call_paths(self, endpoint: str, model: str) -> tuple[str, str]:
        """Paths under the base URL of a plain and of a streamed call; `{model}` stands for the upstream model's name."""
        plain = self.paths[endpoint]
        stream = self.paths.get(f"{endpoint}_stream", plain)
        name = quote(model, safe="")
        return plain.replace("{model}", name), stream.replace("{model}", name)

    def takes(self, endpoint: str, model: str) -> bool:
        """Whether the endpoint is there and takes the upstream model; matching ignores case. Meant for start-up."""
        patterns = self.only.get(endpoint, ("*",))
        return endpoint in self.paths and any(fnmatchcase(model.lower(), pattern) for pattern in patterns)

    def credential(self, api_key: str) -> dict[str, str]:
        """The header that carries the key."""
        if self.auth == "none":
            return {}
        if self.auth in ("x-api-key", "x-goog-api-key", "api-key"):
            return {self.auth: api_key}
        return {"authorization": f"Bearer {api_key}"}

    def quirks_for(self, model: str) -> Quirks:
        """The quirks for an upstream model; matching ignores case. Meant for start-up, once a deployment."""
        quirks = self.quirks
        name = model.lower()
        for pattern, changes in (*ANYWHERE, *self.model_quirks):
            if fnmatchcase(name, pattern):
                drops = quirks.drops | changes.get("drops", frozenset())
                quirks = msgspec.structs.replace(quirks, **{**changes, "drops": drops})
        return quirks
