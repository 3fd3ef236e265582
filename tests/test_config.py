"""naru.toml, the environment and flags: what wins, what is refused and in which words, and that secrets stay secret."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from naru import config_engines, config_schema
from naru.config import Secret, Settings, environment_names, load_settings
from naru.config_schema import SECTIONS
from naru.errors import ConfigError
from naru.ledger.pricing import FREE, RATES, UNIT_KEYS, Rate, UnitRate, cost_nano
from naru.protocol.messages import Usage
from naru.providers import load_providers

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"
BASE = {"HOME": "/home/someone"}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """./naru.toml is looked for, so each test has a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str = "", environ: dict[str, str] | None = None, **flags: object) -> Settings:
    Path("naru.toml").write_text(text, encoding="utf-8")
    return load_settings(None, BASE | (environ or {}), flags)


def refusal(text: str, environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, environ, **flags)
    return caught.value.message


# --- What wins ----------------------------------------------------------------------------------------------------


def test_without_anything_there_are_defaults_and_the_sandbox() -> None:
    settings = load_settings(None, BASE, {})
    assert (settings.server.host, settings.server.port, settings.server.workers) == ("127.0.0.1", 8000, 1)
    assert settings.server.max_body_bytes == 32 * 1024 * 1024
    assert settings.home == Path("/home/someone/.naru")
    assert settings.store.url.reveal() == "sqlite:////home/someone/.naru/naru.db"
    assert settings.source is None
    assert list(settings.providers) == ["sandbox"]
    assert (settings.models, settings.engines.keys() - {"demo"}) == ({}, set())


def test_flags_beat_variables_beat_the_file_beat_defaults() -> None:
    text = "[server]\nport = 1\nworkers = 4\n[cache]\nttl_s = 1.5\n"
    settings = load(text, {"NARU_PORT": "2", "NARU_HOST": "::1"}, port=3, host=None)
    assert (settings.server.port, settings.server.host, settings.server.workers) == (3, "::1", 4)
    assert settings.server.drain_s == 30
    assert settings.cache.ttl_s == 1.5


def test_every_variable_of_the_table_is_read() -> None:
    texts = {
        "NARU_LOG_LEVEL": ("debug", "debug"),
        "NARU_HOST": ("h", "h"),
        "NARU_PORT": ("1", 1),
        "NARU_WORKERS": ("2", 2),
        "NARU_MAX_BODY_BYTES": ("3", 3),
        "NARU_DRAIN_S": ("0.5", 0.5),
        "NARU_PRE_STOP_S": ("2", 2.0),
        "NARU_ON_DISCONNECT": ("abort", "abort"),
        "NARU_QUEUE_S": ("1.5", 1.5),
        "NARU_FETCH_IMAGES": ("public", "public"),
        "NARU_MAX_IN_FLIGHT": ("100", 100),
        "NARU_MAX_QUEUE": ("0", 0),
        "NARU_HOLD_S": ("3", 3.0),
        "NARU_KEEPALIVE_S": ("5", 5.0),
        "NARU_STORE_URL": ("postgresql://x", Secret("postgresql://x")),
        "NARU_STORE_REDIS": ("redis://x", Secret("redis://x")),
        "NARU_LEDGER_DURABILITY": ("power", "power"),
        "NARU_LEDGER_UNPRICED": ("free", "free"),
        "NARU_LEDGER_DISPLAY_CURRENCY": ("KRW", "KRW"),
        "NARU_LEDGER_KRW_PER_USD": ("1390.5", Decimal("1390.5")),
        "NARU_CACHE_ENABLED": ("yes", True),
        "NARU_CACHE_TTL_S": ("9", 9.0),
        "NARU_CACHE_MAX_BYTES": ("1000", 1000),
        "NARU_CACHE_MAX_ENTRY_BYTES": ("100", 100),
        "NARU_ROUTING_BREAKER_FAILURES": ("3", 3),
        "NARU_ROUTING_BREAKER_OPEN_S": ("4", 4.0),
        "NARU_ROUTING_BREAKER_MAX_OPEN_S": ("5", 5.0),
        "NARU_ROUTING_RETRY_RATIO": ("0.1", 0.1),
        "NARU_LOG_CONTENT": ("on", True),
        "NARU_LOG_RETENTION_DAYS": ("7", 7),
        "NARU_ALERTS_WEBHOOK": ("https://ops.example.com/?token=x", Secret("https://ops.example.com/?token=x")),
        "NARU_ALERTS_SECRET": ("s", Secret("s")),
        "NARU_ALERTS_ALLOW_PRIVATE": ("yes", True),
    }
    assert texts.keys() == environment_names().keys()
    settings = load_settings(None, BASE | {name: text for name, (text, _) in texts.items()}, {})
    for name, key in environment_names().items():
        value = settings
        for part in key.split("."):
            value = getattr(value, part)
        assert value == texts[name][1], name


def test_an_empty_variable_is_an_unset_one() -> None:
    assert load("[server]\nport = 5\n", {"NARU_PORT": "", "NARU_CONFIG": "", "NARU_HOME": ""}).server.port == 5


def test_the_file_is_found_by_flag_variable_folder_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environ = BASE | {"NARU_HOME": str(home)}
    found = []
    for path, port in ((home / "naru.toml", 1), (Path("naru.toml"), 2), (Path("a.toml"), 3), (Path("b.toml"), 4)):
        path.write_text(f"[server]\nport = {port}\n")
        if path.name == "a.toml":
            environ["NARU_CONFIG"] = "a.toml"
        found.append(load_settings(Path("b.toml") if path.name == "b.toml" else None, environ, {}).server.port)
    assert found == [1, 2, 3, 4]


@pytest.mark.parametrize("environ", [{}, {"NARU_CONFIG": "gone.toml"}])
def test_a_file_that_was_named_must_exist(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: there is no such file"):
        load_settings(None if environ else Path("gone.toml"), BASE | environ, {})


def test_home_comes_from_flag_variable_or_the_users_folder() -> None:
    assert load("", {"NARU_HOME": "/a"}, home="/b").home == Path("/b")
    assert load("", {"NARU_HOME": "/a"}).home == Path("/a")
    assert load("").home == Path("/home/someone/.naru")
    assert load("", {"NARU_HOME": "/a"}).store.url.reveal() == "sqlite:////a/naru.db"


# --- Variables inside the file ------------------------------------------------------------------------------------


def test_variables_expand_in_every_text() -> None:
    text = """
    [store]
    url = "sqlite:///${NARU_HOME}/x-${NAME}.db"
    [models.m]
    deployments = [{ provider = "sandbox", model = "${NAME}-$${NAME}" }]
    """
    settings = load(text, {"NAME": "v"})
    assert settings.store.url.reveal() == "sqlite:////home/someone/.naru/x-v.db"
    assert settings.models["m"].deployments[0].model == "v-${NAME}"


def test_an_unset_variable_is_named_with_a_way_out() -> None:
    message = refusal('[providers.deepseek]\napi_key = "${DEEPSEEK_KEY}"\n', {"DEEPSEEK_API_KEY": "sk-hidden"})
    assert "naru.toml: providers.deepseek.api_key: the variable DEEPSEEK_KEY is not set" in message
    assert "did you mean DEEPSEEK_API_KEY?" in message
    assert "enabled = false" in message
    assert "sk-hidden" not in message


def test_a_disabled_provider_needs_no_variable() -> None:
    settings = load('[providers.deepseek]\nenabled = false\napi_key = "${NOT_THERE}"\n')
    assert "deepseek" not in settings.providers


# --- Errors -------------------------------------------------------------------------------------------------------

MODEL = '[models.m]\ndeployments = [{ provider = "sandbox", model = "sandbox/echo" }]\n'

REFUSALS = [
    ("[sever]\nport = 1", "naru.toml: sever: no such key (did you mean server?)"),
    ("[server]\nprot = 1", "naru.toml: server.prot: no such key (did you mean port?)"),
    ("[server]\nxyzzy = 1", "server.xyzzy: no such key. Known here: drain_s, fetch_images, hold_s, host, keepalive_s"),
    ('[server]\nport = "1"', 'server.port: expected a whole number from 0 to 65535, got "1"'),
    ("[server]\nport = 70000", "server.port: expected a whole number from 0 to 65535, got 70000"),
    ("[server]\nport = true", "server.port: expected a whole number from 0 to 65535, got true"),
    ("[server]\nport = 1.5", "got 1.5"),
    ("[server]\nhost = 1", "server.host: expected text in quotes, got 1"),
    ("[server]\ndrain_s = 0", "server.drain_s: expected a number above 0, got 0"),
    ("[server]\ndrain_s = nan", "server.drain_s: expected a number above 0"),
    ("[server]\ndrain_s = inf", "server.drain_s: expected a number above 0"),
    ("[cache]\nenabled = 1", "cache.enabled: expected true or false, got 1"),
    ('[ledger]\ndurability = "proces"', 'expected "process" or "power", got "proces" (did you mean process?)'),
    ('[ledger]\ndisplay_currency = "KRW"', "ledger.krw_per_usd: is missing"),
    ("[ledger]\nkrw_per_usd = 0", "ledger.krw_per_usd: expected a number above 0, got 0"),
    ('log_level = "loud"', 'log_level: expected "debug" or "info" or "warning" or "error", got "loud"'),
    ("server = 5", "server: expected a table, got 5"),
    ("providers = []", "providers: expected a table, got a list"),
    ("providers.x = 1", "providers.x: expected a table, got 1"),
    ("[server\n", "this is not TOML"),
    ('[providers.deepseak]\napi_key = "x"', "providers.deepseak: say its kind; the name is not one (did you mean deepseek?)"),
    ('[providers.x]\nkind = "vlm"', "providers.x.kind: no such kind (did you mean vllm?)"),
    ('[providers."a b"]\nkind = "vllm"', "a provider's name has letters"),
    ("[providers.openai]\n", "providers.openai.api_key: is missing: set OPENAI_API_KEY"),
    ('[providers.openai]\napi_keys = "x"', "providers.openai.api_keys: no such key (did you mean api_key?)"),
    ("[providers.openai]\napi_key = 12345678901234567", "providers.openai.api_key: expected text in quotes"),
    ("[providers.custom]\n", "providers.custom.base_url: custom has no usual address: give its base_url"),
    ('[providers.dashscope]\napi_key = "x"\nregion = "kr"', "providers.dashscope.region: dashscope has no region 'kr'"),
    ('[providers.dashscope]\napi_key = "x"\nregion = "jp"', "only workspace hosts"),
    ('[providers.vllm]\nca_file = "gone.pem"', "providers.vllm.ca_file: there is no file"),
    ('[providers.vllm]\nheaders = { a = 1 }', "providers.vllm.headers.a: expected text in quotes"),
    ("[providers.vllm]\nmax_connections = 0", "max_connections: expected a whole number from 1"),
    ("[models.m]\n", "models.m.deployments: is missing"),
    ("[models.m]\ndeployments = []", "models.m.deployments: needs at least one deployment"),
    ("[models.m]\ndeployments = [1]", "models.m.deployments[0]: expected a table, got 1"),
    ('[models.m]\ndeployments = [{ model = "x" }]', "models.m.deployments[0].provider: is missing"),
    ('[models.m]\ndeployments = [{ provider = "sandbx", model = "x" }]',
     'models.m.deployments[0].provider: "sandbx" is not an enabled provider (did you mean sandbox?)'),
    ('[models.m]\ndeployments = [{ provider = "openai", model = "x" }]',
     "declare [providers.openai] or set OPENAI_API_KEY. Enabled: sandbox"),
    ('[models.m]\ndeployments = [{ provider = "sandbox", model = "x", wieght = 2 }]', "(did you mean weight?)"),
    ('[models.m]\ndeployments = [{ provider = "sandbox", model = "x", endpoint = "responses" }]',
     "models.m.deployments[0].endpoint: sandbox has no such endpoint"),
    ('[models.m]\ndeployments = [{ provider = "vllm", model = "x", region = "kr" }]', "vllm has no region 'kr'"),
    (MODEL + 'strategy = "fastest"', 'models.m.strategy: expected "priority" or "weighted"'),
    (MODEL + 'fallbacks = ["deepseek-caht"]', "models.m.fallbacks[0]: there is no model"),
    (MODEL + 'fallbacks = ["deepseek-caht"]', "(did you mean deepseek-chat?)"),
    (MODEL + 'fallbacks = ["m"]', "models.m.fallbacks: go in a circle: m -> m"),
    (MODEL + 'fallbacks = ["n"]\n' + MODEL.replace(".m]", ".n]") + 'fallbacks = ["other"]\naliases = ["o"]\n'
     + MODEL.replace(".m]", ".other]") + 'fallbacks = ["o"]', "models.n.fallbacks: go in a circle: n -> other -> n"),
    (MODEL + 'aliases = ["n"]\n' + MODEL.replace(".m]", ".n]"), 'models.m.aliases[0]: "n" already names models.n'),
    (MODEL + 'aliases = ["x"]\n' + MODEL.replace(".m]", ".n]") + 'aliases = ["x"]', '"x" already names models.m'),
    (MODEL + "timeouts = { ttft = 5 }", "models.m.timeouts.ttft: no such key (did you mean ttft_s?)"),
    (MODEL + 'hedge = { after = "p42" }', 'models.m.hedge.after: expected "p50" or "p90" or "p95" or "p99"'),
    (MODEL + "hedge = { budget = 1.5 }", "models.m.hedge.budget: expected a number from 0 to 1, got 1.5"),
    (MODEL + "price = 0.42", 'models.m.price: expected "free" or { input = …, output = … }'),
    (MODEL + "price = { output = 1 }", "models.m.price.input: is missing"),
    (MODEL + "price = { per_minute = 1, output = 1 }", "models.m.price.input: is missing"),
    (MODEL + "price = { per_minut = 1 }", "models.m.price.per_minut: no such key (did you mean per_minute?)"),
    (MODEL + "price = { per_minute = 1, per_image = 1 }", "models.m.price.per_image: a price counts one kind of unit"),
    (MODEL + "price = { per_image = -1 }", "models.m.price.per_image: a price is zero or more"),
    (MODEL + 'price = { per_image = "1" }', "models.m.price.per_image: expected a number"),
    (MODEL + "price = { per_hour = 1, least = 0.5 }", "models.m.price.least: expected a whole number of units"),
    (MODEL + "price = { input = 1, least = 10 }", "models.m.price.least: needs one of per_second, per_minute"),
    (MODEL + "price = { input = 1, ouput = 1 }", "models.m.price.ouput: no such key (did you mean output?)"),
    (MODEL + "price = { input = 1, tiers = 2 }", "models.m.price.tiers: expected a table, got 2"),
    (MODEL + "price = { input = 1, tiers = { priority = 0 } }", "models.m.price.tiers.priority: expected a number above 0"),
    (MODEL + 'price = { input = 1, tiers = { flex = "half" } }', 'tiers.flex: expected a number above 0, got "half"'),
    (MODEL + "price = { input = 1, tiers = { flex = nan } }", "tiers.flex: expected a number above 0"),
    (MODEL + "price = { input = 1, tiers = { default = 1 } }", "tiers.default: is what the price itself is for"),
    (MODEL + "price = { input = 1, tiers = { Flex = 1 } }", "tiers.Flex: is what the price itself is for"),
    (MODEL + "price = { input = 1, tiers = { flex = { output = 1 } } }", "tiers.flex.input: is missing"),
    (MODEL + "price = { input = 1, tiers = { flex = { inputs = 1 } } }", "tiers.flex.inputs: no such key (did you mean input?)"),
    (MODEL + "price = { input = 1, tools = { web_serch = 1 } }", "tools.web_serch: no such key (did you mean web_search?)"),
    (MODEL + "price = { input = 1, tools = { web_search = -1 } }", "tools.web_search: a price is zero or more"),
    (MODEL + 'price = { input = 1, tools = "x" }', 'models.m.price.tools: expected a table, got "x"'),
    (MODEL + "price = { input = -1 }", "models.m.price.input: a price is zero or more"),
    (MODEL + "price = { input = 0.0000000001 }", "more than nine decimals"),
    (MODEL + "price = { input = nan }", "models.m.price.input: expected a number"),
    (MODEL + 'price = { input = 1, currency = "KRW" }', "models.m.price.input: a price in KRW needs ledger.krw_per_usd"),
    (MODEL + 'price = { input = 1, currency = "EUR" }', 'models.m.price.currency: expected "USD" or "KRW", got "EUR"'),
    ("[engines.e]\n", "engines.e.model: is missing"),
    ('[engines.e]\nmodel = ""\n', "engines.e: model is empty"),
    ('[engines.e]\nmodel = "m"\ndevise = "GPU"\n', "engines.e.devise: no such key (did you mean device?)"),
    ('[engines.e]\nmodel = "m"\nengine = "vlm"\n', '"ollama", got "vlm" (did you mean vllm?)'),
    ('[engines.e]\nmodel = "m"\nengine = "vllm"\nquant = "4bit"\n', 'engines.e: engine = "vllm" has no quant; its own flags go into'),
    ('[engines.e]\nmodel = "m"\nengine = "ollama"\nadapters = { a = "b" }\n', 'engines.e: engine = "ollama" has no adapters'),
    ('[engines.e]\nmodel = "m"\nadapters = { "a:b" = "x" }\n', 'engines.e: "a:b" is no name for an adapter'),
    ('[engines.e]\nmodel = "m"\nmemory = "lots"\n', 'engines.e: memory: expected a size such as "8gb" or "512mib", got "lots"'),
    ('[engines.e]\nmodel = "m"\nstart_s = 0\n', "engines.e.start_s: expected a number above 0, got 0"),
    ('[engines."a b"]\nmodel = "m"\n', "engines.a b: an engine's name has letters, digits"),
    ('[engines.e]\nmodel = "m"\nenv = { A = "${NOPE}" }\n', "engines.e.env.A: the variable NOPE is not set"),
    ("[mcp.m]\n", 'mcp.m: needs either command = ["program", "argument"] or url = "https://…", and has neither'),
    ('[mcp.m]\ncommand = ["x"]\nurl = "https://x.example"', "mcp.m: needs either command"),
    ('[mcp.m]\ncomand = ["x"]', "mcp.m.comand: no such key (did you mean command?)"),
    ('[mcp.m]\ncommand = "npx x"', 'mcp.m.command: expected a list of texts, as ["…", "…"], got a text'),
    ('[mcp.m]\ncommand = [""]', "mcp.m.command[0]: is empty"),
    ('[mcp.m]\ncommand = ["x"]\nheaders = { a = "b" }', "mcp.m.headers: a command has no headers; what it needs goes into env"),
    ('[mcp.m]\nurl = "https://x.example"\nenv = { A = "b" }', "mcp.m.env: a url has no env; what it needs goes into headers"),
    ('[mcp.m]\nurl = "http://x.example/mcp"', "mcp.m.url: http:// is for this machine only, and x.example is another"),
    ('[mcp.m]\nurl = "https://u:p@x.example"', "mcp.m.url: must not hold a user or password; credentials go into headers"),
    ('[mcp.m]\nurl = "https://[::1"', "mcp.m.url: is not a URL"),
    ('[mcp.m]\ncommand = ["x"]\nneeds_approval = "all"', 'mcp.m.needs_approval: expected a list of texts, as ["…", "…"], or true'),
    ('[mcp.m]\ncommand = ["x"]\ntimeout_s = 0', "mcp.m.timeout_s: expected a number above 0, got 0"),
    ('[mcp.m]\ncommand = ["x", "${NOPE}"]', "mcp.m.command[1]: the variable NOPE is not set"),
    ('[mcp.a__b]\ncommand = ["x"]', "mcp.a__b: the name begins with a letter"),
    ("mcp.m = 1", "mcp.m: expected a table, got 1"),
    ('[engines.sandbox]\nmodel = "m"\n', 'engines.sandbox: a provider is called "sandbox" too'),
    ('[engines.e]\nmodel = "m"\n[models.x]\ndeployments = [{ provider = "e", model = "n" }]\n', 'models.x.deployments[0].model: engines.e has no "n"'),
    ('[engines.e]\nmodel = "m"\n[models.x]\ndeployments = [{ provider = "e", model = "m", endpoint = "responses" }]\n', "engine has no such endpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), REFUSALS, ids=[str(index) for index in range(len(REFUSALS))])
def test_it_is_refused_in_words_that_help(text: str, words: str) -> None:
    message = refusal(text)
    assert message.startswith("naru.toml: ")
    assert words in message


def test_errors_of_variables_and_flags_name_them() -> None:
    assert refusal("", {"NARU_PORT": "abc"}).startswith("environment: NARU_PORT: expected a whole number")
    assert refusal("", {"NARU_CACHE_ENABLED": "maybe"}).startswith("environment: NARU_CACHE_ENABLED: expected true or")
    assert refusal("", port=70000).startswith("command line: --port: expected a whole number from 0 to 65535")
    assert "did you mean server.port?" in refusal("", prot=1)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/v1", "must begin with http:// or https://"),
        ("example.com/v1", "must begin with http:// or https://"),
        ("https://user:pw@example.com/v1", "must not hold a user or password"),
        ("https://example.com/v1?key=1", "must not have a query"),
        ("https://example.com/v1#x", "must not have a query or a fragment"),
        ("https:///v1", "has no host"),
        ("https://example.com:99999/v1", "is not a URL"),
        ("https://[::1/v1", "is not a URL"),
        ("http://2130706433/v1", "neither a name nor an address"),
        ("http://0x7f.1/v1", "neither a name nor an address"),
        ("http://127.0.0.1:8000/v1", "is a private address"),
        ("http://127.0.0.1.:8000/v1", "is a private address"),
        ("http://localhost/v1", "is a private address"),
        ("http://10.0.0.5/v1", "set allow_private = true"),
        ("http://[::ffff:10.0.0.5]/v1", "is a private address"),
        ("http://[fd00::1]/v1", "is a private address"),
        ("http://169.254.169.254/latest", "is a private address"),
        ("http://0.0.0.0/v1", "is a private address"),
    ],
)
def test_base_urls_that_are_refused(url: str, words: str) -> None:
    message = refusal(f'[providers.x]\nkind = "custom"\nbase_url = "{url}"\n')
    assert "naru.toml: providers.x.base_url: " in message
    assert words in message
    assert "pw" not in message.replace("password", "")


@pytest.mark.parametrize(
    ("kind", "url", "more"),
    [
        ("custom", "https://example.com/v1", ""),
        ("custom", "http://8.8.8.8/v1", ""),
        ("custom", "http://10.0.0.5:8000/v1", "allow_private = true"),
        ("vllm", "http://127.0.0.1:9/v1", ""),
        ("vllm", "http://localhost:9/v1", ""),
        ("vllm", "http://[::1]:9/v1", ""),
    ],
)
def test_base_urls_that_are_fine_lose_their_slash(kind: str, url: str, more: str) -> None:
    settings = load(f'[providers.x]\nkind = "{kind}"\nbase_url = "{url}/"\n{more}\n')
    assert settings.providers["x"].base_url == url


def test_a_local_kind_may_not_reach_further_than_loopback_without_leave() -> None:
    assert "is a private address" in refusal('[providers.vllm]\nbase_url = "http://10.0.0.5:8000/v1"\n')


# --- Providers ----------------------------------------------------------------------------------------------------

KEYS = {"OPENAI_API_KEY": "sk-o", "DASHSCOPE_API_KEY": "sk-d"}


def test_keys_in_the_environment_enable_their_providers() -> None:
    settings = load_settings(None, BASE | KEYS, {})
    assert settings.providers.keys() == {"openai", "dashscope", "sandbox"}
    assert settings.providers["openai"].api_key == Secret("sk-o")
    assert settings.providers["dashscope"].region == "sg", "several regions: the default is spelled out"
    assert settings.providers["openai"].region == ""


def test_the_sandbox_can_be_switched_off_and_changes_nothing_else() -> None:
    assert load("[providers.sandbox]\nenabled = false\n", KEYS).providers.keys() == {"openai", "dashscope"}


def test_a_file_with_providers_decides_alone() -> None:
    assert load("[providers.vllm]\n", KEYS).providers.keys() == {"vllm", "sandbox"}


def test_a_deployment_may_bring_in_a_kind_whose_key_is_set() -> None:
    text = '[providers.vllm]\n[models.m]\ndeployments = [{ provider = "dashscope", model = "qwen-plus" }]\n'
    assert load(text, KEYS).providers.keys() == {"vllm", "sandbox", "dashscope"}


def test_a_provider_takes_its_key_from_the_usual_variable() -> None:
    text = '[providers.a]\nkind = "openai"\n[providers.b]\nkind = "openai"\napi_key = "sk-b"\n[providers.ollama]\n'
    providers = load(text, KEYS).providers
    assert (providers["a"].api_key, providers["b"].api_key) == (Secret("sk-o"), Secret("sk-b"))
    assert providers["ollama"].api_key is None


def test_a_ca_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "ca.pem").write_text("x")
    (tmp_path / "conf" / "naru.toml").write_text('[providers.vllm]\nca_file = "ca.pem"\n')
    settings = load_settings(tmp_path / "conf" / "naru.toml", BASE, {})
    assert settings.providers["vllm"].ca_file == tmp_path / "conf" / "ca.pem"


def test_proxies_small_letters_win() -> None:
    environ = {"HTTPS_PROXY": "http://a:pw@p:1", "https_proxy": "http://b", "HTTP_PROXY": "", "NO_PROXY": "x, .y ,"}
    proxies = load("", environ).proxies
    assert proxies.https == Secret("http://b")
    assert proxies.http is None
    assert proxies.no_proxy == ("x", ".y")


def test_the_command_line_finds_a_gateway_elsewhere() -> None:
    client = load("", {"NARU_BASE_URL": "https://naru.example", "NARU_ADMIN_KEY": "nka-1"}).client
    assert (client.base_url, client.admin_key) == ("https://naru.example", Secret("nka-1"))
    assert (load("").client.base_url, load("").client.admin_key, load("").client.api_key) == ("", None, None)
    assert load("", {"NARU_API_KEY": "nk-1"}).client.api_key == Secret("nk-1")


# --- Models and prices --------------------------------------------------------------------------------------------


def test_the_example_of_a_whole_model() -> None:
    text = """
    [providers.gpu1]
    kind = "vllm"
    base_url = "http://10.0.0.5:8000/v1"
    allow_private = true
    region = "kr"
    [models."qwen3-235b-moe-tool-use"]
    strategy = "least_busy"
    deployments = [
      { provider = "gpu1", model = "Qwen/Qwen3-235B-A22B-Instruct-2507", weight = 3 },
      { provider = "dashscope", model = "qwen3-235b-a22b", region = "sg", priority = 2 },
    ]
    fallbacks = ["deepseek-chat", "sandbox/echo?tps=5", "gpu1/anything"]
    price = { input = 0.42, output = 0.42 }
    timeouts = { ttft_s = 5 }
    hedge = { after = "p99" }
    """
    model = load(text, KEYS).models["qwen3-235b-moe-tool-use"]
    assert [(d.provider, d.weight, d.priority, d.region) for d in model.deployments] == [
        ("gpu1", 3, 1, ""),
        ("dashscope", 1, 2, "sg"),
    ]
    assert (model.timeouts.connect_s, model.timeouts.ttft_s) == (5.0, 5.0)
    assert (model.hedge.after, model.hedge.budget) == ("p99", 0.05)
    assert model.price.rows[0].rate == Rate(input=420_000_000, output=420_000_000)
    assert model.price.source == "config"


def test_prices_keep_every_digit() -> None:
    """0.1 + 0.2 in floats is not 0.3; the literal is what counts."""
    model = load(MODEL + "price = { input = 0.000000003, output = 1e-9, cached = 3, thinking_output = 8.4 }").models[
        "m"
    ]
    assert model.price.rows[0].rate == Rate(input=3, output=1, cached=3_000_000_000, thinking_output=8_400_000_000)


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ("per_second = 0.0001", UnitRate(unit="second", nano=100_000)),
        ("per_minute = 0.006", UnitRate(unit="second", nano=6_000_000, per=60)),
        ("per_hour = 0.111, least = 10", UnitRate(unit="second", nano=111_000_000, per=3600, least=10)),
        ("per_million_characters = 15", UnitRate(unit="character", nano=15_000_000_000, per=1_000_000)),
        ("per_image = 0.04", UnitRate(unit="image", nano=40_000_000)),
    ],
)
def test_prices_by_the_unit(said: str, units: UnitRate) -> None:
    """Alone, and with tokens beside them."""
    price = load(MODEL + f"price = {{ {said} }}").models["m"].price
    assert price.rows[0].rate == Rate(input=0, units=units)
    price = load(MODEL + f"price = {{ {said}, input = 1, image_output = 2 }}").models["m"].price
    assert price.rows[0].rate == Rate(input=10**9, image_output=2 * 10**9, units=units)


def test_prices_of_tiers_and_tools() -> None:
    """A tier is a part of the price or has rates of its own; tools are for a thousand calls, to the nano-dollar."""
    said = (
        "tiers = { flex = 0.5, priority = { input = 4, output = 20 } }, tools = { web_search = 10, file_search = 2.5 }"
    )
    price = load(MODEL + f"price = {{ input = 2, output = 10, {said} }}").models["m"].price
    assert price.tools == {"web_search": 10_000_000, "file_search": 2_500_000}
    costs = [cost_nano(price, Usage(1000, 100, tier=tier), 0) for tier in ("", "flex", "priority")]
    assert costs == [3_000_000, 1_500_000, 6_000_000]
    won = "[ledger]\nkrw_per_usd = 1000\n" + MODEL + 'price = { input = 1, currency = "KRW", tools = { maps = 1 } }'
    assert load(won).models["m"].price.tools == {"maps": 1000}


def test_free_is_a_price_that_somebody_said() -> None:
    assert load(MODEL + 'price = "free"').models["m"].price is FREE
    assert load(MODEL).models["m"].price is None


def test_prices_in_won_use_the_configured_rate() -> None:
    text = "[ledger]\nkrw_per_usd = 1250\n" + MODEL + 'price = { input = 1250, output = 5000, currency = "KRW" }'
    price = load(text).models["m"].price
    assert price.rows[0].rate == Rate(input=1_000_000_000, output=4_000_000_000)
    assert (price.currency, price.fx) == ("KRW", "1250 KRW/USD")


def test_fallbacks_that_join_without_a_circle_are_fine() -> None:
    text = (
        MODEL + 'fallbacks = ["n", "o"]\n'
        + MODEL.replace(".m]", ".n]") + 'fallbacks = ["o"]\n'
        + MODEL.replace(".m]", ".o]")
    )  # fmt: skip
    assert load(text).models.keys() == {"m", "n", "o"}


# --- Secrets ------------------------------------------------------------------------------------------------------


def test_no_secret_shows_in_a_repr() -> None:
    text = """
    [store]
    url = "postgresql://naru:HUSH@db/naru"
    redis = "redis://:HUSH@cache"
    [providers.openai]
    api_key = "HUSH"
    headers = { "X-Token" = "HUSH" }
    """
    settings = load(text, {"HTTPS_PROXY": "http://u:HUSH@proxy", "NARU_ADMIN_KEY": "HUSH"})
    for shown in (repr(settings), str(settings), repr(settings.providers["openai"].api_key), f"{settings.store.url}"):
        assert "HUSH" not in shown
    assert settings.providers["openai"].api_key.reveal() == "HUSH"
    assert settings.providers["openai"].headers["X-Token"].reveal() == "HUSH"


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ('webhook = "https://a.example/x"', "alerts.secret", "always signed"),
        ('webhook = "https://a.example/x"\nsecret = ""', "alerts.secret", "always signed"),
        ('secret = "s"', "alerts.webhook", "no address"),
        ('webhook = "ftp://a.example"\nsecret = "s"', "alerts.webhook", "http:// or https://"),
        ('webhook = "https://u:p@a.example"\nsecret = "s"', "alerts.webhook", "user or password"),
        ('webhook = "http://10.0.0.1/x"\nsecret = "s"', "alerts.webhook", "allow_private = true"),
        ('webhook = "http://[::1"\nsecret = "s"', "alerts.webhook", "not a URL"),
    ],
)
def test_alerts_that_could_not_be_sent_or_trusted_are_refused(text: str, key: str, hint: str) -> None:
    """Never unsigned, never to nowhere, and the message shows neither the address nor the secret."""
    message = refusal(f"[alerts]\n{text}\n")
    assert key in message
    assert hint in message
    assert "a.example" not in message


def test_secrets_compare_by_value_and_know_whether_they_are_empty() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")


# --- Engines ------------------------------------------------------------------------------------------------------


def test_an_engine_has_its_settings_and_usual_ones() -> None:
    text = """
    [engines.gpu]
    engine = "vllm"
    model = "org/m"
    context = 4096
    names = ["m"]
    adapters = { law = "./law" }
    args = ["--x", "1"]
    env = { TOKEN = "${SECRET_TOKEN}" }
    price = { input = 1 }
    memory = "1.5 GiB"
    start = "gateway"
    [engines.small]
    model = "s"
    """
    engines = load(text, {"SECRET_TOKEN": "HUSH"}).engines
    gpu, small = engines["gpu"], engines["small"]
    assert gpu.served == {"org/m": "org/m", "m": "org/m", "org/m:law": "org/m:law", "m:law": "org/m:law"}
    assert (gpu.memory_bytes, gpu.env["TOKEN"].reveal(), gpu.provider_kind) == (3 << 29, "HUSH", "vllm")
    assert "HUSH" not in repr(gpu)
    assert (small.start, small.start_s, small.idle_s, small.memory_bytes) == ("first_use", 600.0, 0.0, 0)
    assert (small.price.is_free, small.served, small.provider_kind) == (True, {"s": "s"}, "engine")


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("8gb", 8_000_000_000), ("8 GB", 8_000_000_000), ("512MiB", 512 << 20), ("1.5kb", 1500), ("77", 77)],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert config_schema.size_of(text) == size


def test_another_process_is_needed_for_what_it_is_started_with_only() -> None:
    """Every field is one or the other."""
    engine = config_schema.EngineSettings(name="e", model="m", engine="sglang")
    others = {
        "model": "n", "engine": "vllm", "device": "x", "context": 1, "max_streams": 1, "adapters": {"a": "b"}, "command": "c",
        "args": ("a",), "env": {"a": Secret("b")}, "names": ("n",),
    }  # fmt: skip
    changed = {name: msgspec.structs.replace(engine, **{name: value}).version for name, value in others.items()}
    assert len({engine.version, *changed.values()}) == len(others) + 1
    own = config_schema.EngineSettings(name="e", model="m")
    assert (
        len(
            {
                own.version,
                *(msgspec.structs.replace(own, **{k: v}).version for k, v in (("cache_gb", 1.0), ("quant", "4bit"))),
            }
        )
        == 3
    )
    same = {"price": None, "start": "gateway", "start_s": 1.0, "idle_s": 1.0, "memory": "1gb"}
    for name, value in same.items():
        assert msgspec.structs.replace(engine, **{name: value}).version == engine.version
    fields = set(config_schema.EngineSettings.__struct_fields__)
    assert fields == others.keys() | same.keys() | {"name", "cache_gb", "quant"}


def test_an_engine_is_a_provider_to_models_and_fallbacks() -> None:
    """Its name hides a kind of that name, and its models may be fallen back to."""
    text = """
    [engines.vllm]
    model = "org/m"
    names = ["m"]
    [models.x]
    deployments = [{ provider = "vllm", model = "m" }]
    fallbacks = ["org/m", "vllm/m"]
    """
    settings = load(text)
    assert set(settings.providers) == {"sandbox"}
    assert settings.upstreams["vllm"].kind == "engine"


def test_the_shipped_model_is_there_only_where_nothing_else_is() -> None:
    """And only where it is installed; what a file says of engines or providers is all that there is."""
    demo = {"demo": config_engines.DEMO}
    assert config_engines.DEMO.start == "first_use"
    assert config_engines.with_demo({}, load(MODEL).providers, True) == demo
    assert config_engines.with_demo({}, load("[providers.sandbox]\nenabled = false\n").providers, True) == demo
    assert config_engines.with_demo({}, load().providers, False) == {}
    assert config_engines.with_demo({}, load("", {"OPENAI_API_KEY": "sk-x"}).providers, True) == {}
    own = load('[engines.e]\nmodel = "m"\n')
    assert config_engines.with_demo(own.engines, own.providers, True) == own.engines


def test_the_shipped_model_needs_its_files_and_what_runs_it(tmp_path: Path) -> None:
    assert not config_engines.is_demo_installed(tmp_path, "json")
    (tmp_path / "engine" / "demo").mkdir(parents=True)
    assert config_engines.is_demo_installed(tmp_path, "json")
    assert not config_engines.is_demo_installed(tmp_path, "no_such_module_anywhere")


def test_engines_see_no_credentials_but_the_hubs() -> None:
    environ = {
        "PATH": "/bin", "OPENAI_API_KEY": "x", "AWS_SECRET_ACCESS_KEY": "x", "NARU_ADMIN_KEY": "x", "HF_TOKEN": "h",
        "CLOVASTUDIO_API_KEY": "x", "CUDA_VISIBLE_DEVICES": "1", "NARU_HOME": "/n",
    }  # fmt: skip
    assert set(config_engines.environment_for_engines(environ)) == {
        "PATH",
        "HF_TOKEN",
        "CUDA_VISIBLE_DEVICES",
        "NARU_HOME",
    }


# --- Servers of tools ---------------------------------------------------------------------------------------------


def test_a_server_of_tools_is_a_program_or_an_address() -> None:
    text = """
    [mcp.files]
    command = ["npx", "-y", "files", "--key=${TOKEN}"]
    env = { TOKEN = "${TOKEN}" }
    include = ["read_*"]
    needs_approval = ["write_*"]
    [mcp.git-hub]
    url = "https://mcp.example/mcp?key=${TOKEN}"
    headers = { Authorization = "Bearer ${TOKEN}" }
    timeout_s = 5
    needs_approval = true
    [mcp.off]
    enabled = false
    command = ["x", "${NOT_THERE}"]
    """
    servers = load(text, {"TOKEN": "HUSH"}).mcp
    files, github = servers["files"], servers["git-hub"]
    assert list(servers) == ["files", "git-hub"]
    assert [part.reveal() for part in files.command] == ["npx", "-y", "files", "--key=HUSH"]
    assert (files.env, files.include, files.needs_approval) == ({"TOKEN": Secret("HUSH")}, ("read_*",), ("write_*",))
    assert (github.url.reveal(), github.timeout_s) == ("https://mcp.example/mcp?key=HUSH", 5.0)
    assert (github.needs_approval, files.timeout_s, files.connect_timeout_s) == (("*",), 60.0, 30.0)
    assert "HUSH" not in repr(servers)


# --- The document -------------------------------------------------------------------------------------------------


def documented_rows() -> dict[str, list[str]]:
    rows = (
        re.split(r"(?<!\\)\|", line)[1:-1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line[:2] == "| "
    )
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in rows}


def setting_keys() -> set[str]:
    """Every field of every structure, under the name the document gives it."""
    prefixes = {
        **SECTIONS,
        "providers": config_schema.ProviderSettings,
        "models": config_schema.ModelSettings,
        "models.deployments": config_schema.DeploymentSettings,
        "models.timeouts": config_schema.Timeouts,
        "models.hedge": config_schema.HedgeSettings,
        "engines": config_schema.EngineSettings,
        "mcp": config_schema.McpSettings,
    }
    keys = {f"{prefix}.{name}" for prefix, cls in prefixes.items() for name in cls.__struct_fields__ if name != "name"}
    price = {f"price.{name}" for name in (*RATES, *UNIT_KEYS, "least", "currency", "tiers", "tools")}
    return keys | price | {"home", "log_level"}


def test_every_setting_has_a_row_in_the_document_and_every_row_a_setting() -> None:
    rows = documented_rows()
    assert setting_keys() - rows.keys() == set()
    assert {key for key in rows if key not in ("setting", "---")} - setting_keys() == set()
    text = DOCS.read_text(encoding="utf-8")
    assert all(f"`proxies.{name}`" in text for name in config_schema.ProxySettings.__struct_fields__)
    assert all(f"`client.{name}`" in text for name in config_schema.ClientSettings.__struct_fields__)


def test_the_document_has_the_real_defaults_and_variables() -> None:
    rows = documented_rows()
    variables = {key: name for name, key in environment_names().items()}
    for section, cls in SECTIONS.items():
        for field in msgspec.structs.fields(cls):
            value = field.default.reveal() if isinstance(field.default, Secret) else field.default
            shown = "none" if value is None else f"`{msgspec.json.encode(value).decode()}`"
            key = f"{section}.{field.name}"
            assert rows[key][:2] == [shown, f"`{variables[key]}`"], key


def test_every_example_of_the_document_loads() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 9
    for block in blocks:
        load(block)


def test_the_document_names_every_kind_and_its_variable() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for provider in load_providers().values():
        assert f"`{provider.kind}`" in text
        assert all(f"`{name}`" in text for name in provider.env[:1])
