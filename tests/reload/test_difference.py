"""What differs between two configurations, in words, and what of it a running gateway can take over. Pure."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from naru.config import Settings, load_settings
from naru.reload import Change, Outcome, difference, needs_restart, taken_over

BASE = """
[providers.deepseek]
api_key = "sk-old-secret-0001"
headers = { "X-Team" = "old-header-secret" }
[models.chat]
deployments = [{ provider = "deepseek", model = "deepseek-chat" }, { provider = "sandbox", model = "echo", priority = 2 }]
"""
MODEL = "models.chat"


def read(folder: Path, text: str) -> Settings:
    file = folder / "naru.toml"
    file.write_text(text)
    return load_settings(file, {"HOME": str(folder)}, {})


def said(folder: Path, old: str, new: str) -> list[str]:
    return [str(change) for change in difference(read(folder, old), read(folder, new))]


CASES = {
    "nothing": (BASE, BASE + "# a remark\n", []),
    "a number": ("", "[server]\ndrain_s = 10\n", ["server.drain_s: 30.0 -> 10.0"]),
    "a switch": ("", "[log]\ncontent = true\n", ["log.content: false -> true"]),
    "a choice": ("", 'log_level = "error"\n', ["log_level: info -> error"]),
    "a rate": ("", "[ledger]\nkrw_per_usd = 1390.5\n", ["ledger.krw_per_usd: not set -> 1390.5"]),
    "a secret": (BASE, BASE.replace("0001", "0002"), ["providers.deepseek.api_key: changed"]),
    "a header": (BASE, BASE.replace("old-header", "new-header"), ["providers.deepseek.headers.X-Team: changed"]),
    "another header": (
        BASE, BASE.replace('"X-Team" =', '"X-Other" ='),
        ["providers.deepseek.headers.X-Team: removed", "providers.deepseek.headers.X-Other: added"],
    ),
    "a provider": (
        BASE, BASE + '[providers.box]\nkind = "custom"\napi_key = "k"\nbase_url = "https://box.example.com/v1"\n',
        ["providers.box: added"],
    ),
    "a webhook": (
        "", '[alerts]\nwebhook = "https://ops.example.com/hook-secret"\nsecret = "sign-secret"\n',
        ["alerts.webhook: set", "alerts.secret: set"],
    ),
    "no webhook": (
        '[alerts]\nwebhook = "https://ops.example.com/hook-secret"\nsecret = "sign-secret"\n', "",
        ["alerts.webhook: taken out", "alerts.secret: taken out"],
    ),
    "a model": (BASE, BASE.replace("models.chat", "models.talk"), ["models.chat: removed", "models.talk: added"]),
    "an engine": (
        '[engines.a]\nmodel = "naru-demo"\n', '[engines.a]\nmodel = "naru-demo"\n[engines.b]\nmodel = "naru-demo"\n',
        ["engines.b: added"],
    ),
    "a weight": (
        BASE, BASE.replace('"deepseek-chat"', '"deepseek-chat", weight = 3'),
        [f"{MODEL}.deployments[deepseek/deepseek-chat].weight: 1 -> 3"],
    ),
    "a deployment": (
        BASE, BASE.replace('model = "echo"', 'model = "think"'),
        [f"{MODEL}.deployments[sandbox/echo]: removed", f"{MODEL}.deployments[sandbox/think]: added"],
    ),
    "the order": (
        "[models.m]\ndeployments = [{ provider = 'sandbox', model = 'echo' }, { provider = 'sandbox', model = 'json' }]\n",
        "[models.m]\ndeployments = [{ provider = 'sandbox', model = 'json' }, { provider = 'sandbox', model = 'echo' }]\n",
        ["models.m.deployments: in another order"],
    ),
    "twins": (
        "[models.m]\ndeployments = [{ provider = 'sandbox', model = 'echo' }, { provider = 'sandbox', model = 'echo' }]\n",
        "[models.m]\ndeployments = [{ provider = 'sandbox', model = 'echo' }, "
        "{ provider = 'sandbox', model = 'echo', weight = 2 }]\n",
        ["models.m.deployments[sandbox/echo#2].weight: 1 -> 2"],
    ),
    "limits": (BASE, BASE + "limits = { rpm = 5 }\n", [f"{MODEL}.limits: not set -> set"]),
    "a limit": (
        BASE + "limits = { rpm = 5 }\n", BASE + "limits = { rpm = 6, tpm = 100 }\n",
        [f"{MODEL}.limits.rpm: 5 -> 6", f"{MODEL}.limits.tpm: not set -> 100"],
    ),
    "names": (BASE, BASE + 'aliases = ["a", "b"]\n', [f"{MODEL}.aliases: none -> a, b"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_difference_has_its_words(case: str, tmp_path: Path) -> None:
    old, new, words = CASES[case]
    assert said(tmp_path, old, new) == words


def test_a_price_is_told_by_its_versions(tmp_path: Path) -> None:
    """The versions are those of ledger entries."""
    cheap, dear = (read(tmp_path, BASE + f"price = {{ input = {n} }}\n") for n in (1, 2))
    versions = [settings.models["chat"].price.version for settings in (cheap, dear)]  # type: ignore[union-attr]
    assert [str(each) for each in difference(cheap, dear)] == [
        f"models.chat.price: version {versions[0]} -> version {versions[1]}"
    ]
    assert str(difference(read(tmp_path, BASE), cheap)[0]).startswith("models.chat.price: none of its own -> version ")


def test_no_secret_is_ever_told(tmp_path: Path) -> None:
    """Keys, headers, webhook addresses, the store's password, and texts that may be a key in the wrong place."""
    old = BASE + '[alerts]\nwebhook = "https://e.example.com/hook-secret"\nsecret = "sign-secret"\n'
    more = '[providers.box]\nkind = "custom"\nbase_url = "https://a.example.com/path-secret-1"\napi_key = "k"\n'
    new = old.replace("-secret", "-secret-2").replace("0001", "0002") + '[store]\nredis = "redis://u:pw-secret@h"\n'
    old, new = old + more, new + more.replace("secret-1", "secret-9")
    text = "\n".join(said(tmp_path, old, new)) + "\n".join(said(tmp_path, new, ""))
    assert "providers.box.base_url: changed" in text
    assert "store.redis" in text
    assert "secret-2" not in text
    for secret in ("sk-old", "header-secret", "hook-secret", "sign-secret", "pw-secret", "path-secret"):
        assert secret not in text


def test_what_a_process_holds_on_to_waits_for_a_restart(tmp_path: Path) -> None:
    """Every setting of the file is in one of two lists, and what is taken over has all of the one and none of the other."""
    old = read(tmp_path, "")
    fields = {section: getattr(old, section).__struct_fields__ for section in ("server", "store", "ledger", "log")}
    waiting = {f"{s}.{name}" for s, names in fields.items() for name in names if needs_restart(f"{s}.{name}")}
    assert waiting == {
        "server.host", "server.port", "server.workers", "server.max_body_bytes", "store.url", "store.redis",
    }  # fmt: skip
    text = """
    log_level = "error"
    [server]
    host = "::1"
    port = 1
    workers = 2
    max_body_bytes = 5
    queue_s = 3
    drain_s = 4
    [store]
    url = "sqlite:///elsewhere.db"
    [ledger]
    durability = "power"
    """
    new = read(tmp_path, text)
    taken = taken_over(old, new)
    assert {each.key for each in difference(taken, new)} == waiting - {"store.redis"}
    assert {each.key for each in difference(old, taken)} == {
        "log_level", "server.queue_s", "server.drain_s", "ledger.durability",
    }  # fmt: skip
    assert not any(each.needs_restart for each in difference(old, taken))


def test_an_outcome_tells_what_waits() -> None:
    changes = (Change("server.port", "1 -> 2", True), Change("models.m", "added"))
    shown = msgspec.to_builtins(Outcome(1.0, "api", "applied", "naru.toml", changes).shown())
    assert shown["changes"] == [{"key": "models.m", "change": "added"}]
    assert shown["needs_restart"] == [{"key": "server.port", "change": "1 -> 2"}]
