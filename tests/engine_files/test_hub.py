"""Downloads from a stand-in for the Hub, with the real huggingface_hub library, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from naru.engine.choose import HubFile, License
from naru.engine.files import resolve
from naru.engine.hub import Hub
from naru.engine.pull import Plan, carry_out, plan
from naru.engine.store import HubReference, Pulled, find, parse_reference, pulled_models, remove
from naru.errors import BadRequest, ConfigError, Forbidden, NotFound, Unauthorized, UpstreamBroken, UpstreamUnreachable
from naru.testing.hub import FakeHub
from naru.testing.weights import write_safetensors
from tests.engine_files import models

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the extra `local` is not installed")

REPO = "Org/Tiny-Chat"
CARD = "---\nlicense: apache-2.0\n---\n# Tiny\n"
WEIGHTS = "model.safetensors"


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeHub]:
    at = models.safetensors(tmp_path / "hub" / REPO)
    write_safetensors(at / WEIGHTS, {"a": ("F32", (100, 1000))})
    (at / "README.md").write_text(CARD)
    (at / "pytorch_model.bin").write_bytes(b"pickle")
    (at / "modeling.py").write_text("import os")
    hub = FakeHub(tmp_path / "hub")
    await hub.start()
    yield hub
    await hub.stop()


class Stopped(Exception):
    """Whatever ends a download from outside."""


class Here:
    """A cache and a NARU_HOME of one test, and the blocking calls in a thread so that the stand-in can answer."""

    def __init__(self, fake: FakeHub, folder: Path) -> None:
        self.home, self.cache, self.pauses = folder / "home", folder / "cache", 0
        self.endpoint = f"http://127.0.0.1:{fake.server.port}"
        self.bytes_seen = 0
        self.files_seen: list[str] = []

    def hub(self, token: str = "") -> Hub:
        return Hub(self.endpoint, token or None, self.cache, self._pause)

    def _pause(self, _: float) -> None:
        self.pauses += 1

    def file(self, file: HubFile, number: int, of: int) -> None:
        self.files_seen.append(f"{number}/{of} {file.path}")

    def bytes(self, more: int) -> None:
        self.bytes_seen += more

    async def plan(self, reference: str = REPO, wanted: str = "auto", token: str = "") -> Plan:
        return await asyncio.to_thread(plan, self.hub(token), parse_reference(reference), wanted)

    async def pull(self, reference: str = REPO, wanted: str = "auto", token: str = "") -> Pulled:
        decided = await self.plan(reference, wanted, token)
        return await asyncio.to_thread(carry_out, self.hub(token), decided, self.home, self, 1_000.0)

    def partials(self) -> list[Path]:
        return list(self.cache.rglob("*.naru.incomplete"))


@pytest.fixture
def here(fake: FakeHub, tmp_path: Path) -> Here:
    return Here(fake, tmp_path)


async def test_a_model_is_pulled_whole(fake: FakeHub, here: Here) -> None:
    """Weights and companions, no pickle and no program; the record resolves; the progress adds up."""
    pulled = await here.pull()
    folder = Path(pulled.folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == (fake.root / REPO / WEIGHTS).read_bytes()
    assert here.bytes_seen == pulled.bytes == sum(file.bytes for file in pulled.files)
    assert here.files_seen[0] == f"1/3 {WEIGHTS}"
    assert (pulled.commit, pulled.license, pulled.kind) == (fake.commit(REPO), "apache-2.0", "safetensors")
    files = resolve(REPO, here.home)
    assert (files.name, files.path, files.weight_bytes) == (REPO, folder, 400_000)
    assert here.partials() == []


async def test_the_cache_is_the_one_that_other_programs_read(fake: FakeHub, here: Here) -> None:
    """The library itself finds every file of the branch without a network."""
    await here.pull()
    found = huggingface_hub.try_to_load_from_cache(REPO, WEIGHTS, cache_dir=here.cache, revision="main")
    assert isinstance(found, str)
    assert Path(found).stat().st_size > 400_000


async def test_the_stand_in_answers_the_librarys_other_questions(fake: FakeHub, here: Here) -> None:
    """The tree with sizes and digests, and one file's metadata, as the library itself asks for them."""
    api = huggingface_hub.HfApi(endpoint=here.endpoint)
    tree = await asyncio.to_thread(lambda: list(api.list_repo_tree(REPO)))
    sizes = {entry.path: entry.size for entry in tree}
    assert sizes[WEIGHTS] == (fake.root / REPO / WEIGHTS).stat().st_size
    url = huggingface_hub.hf_hub_url(REPO, WEIGHTS, endpoint=here.endpoint)
    about = await asyncio.to_thread(huggingface_hub.get_hf_file_metadata, url)
    assert (about.size, about.commit_hash) == (sizes[WEIGHTS], fake.commit(REPO))
    assert about.etag == next(entry.lfs.sha256 for entry in tree if entry.path == WEIGHTS)


async def test_what_is_here_is_not_downloaded_again(fake: FakeHub, here: Here) -> None:
    await here.pull()
    sent = dict(fake.sent)
    assert (await here.plan()).missing == 0
    await here.pull()
    assert dict(fake.sent) == sent


async def test_a_cut_transfer_goes_on_in_the_same_call(fake: FakeHub, here: Here) -> None:
    fake.faults.cut[WEIGHTS] = 150_000
    pulled = await here.pull()
    size = (fake.root / REPO / WEIGHTS).stat().st_size
    assert fake.sent[WEIGHTS] == size
    assert here.pauses == 1
    assert here.bytes_seen == pulled.bytes


async def test_a_stopped_download_goes_on_in_the_next_one(fake: FakeHub, here: Here) -> None:
    """The second pull fetches only the rest, and asks for it by range."""
    decided = await here.plan()
    size = (fake.root / REPO / WEIGHTS).stat().st_size

    def stop_at(more: int) -> None:
        here.bytes_seen += more
        if here.bytes_seen >= 150_000:
            raise Stopped

    fake.faults.hang[WEIGHTS] = 150_000
    hub, file = here.hub(), decided.choice.files[0]
    assert file.path == WEIGHTS
    with pytest.raises(Stopped):
        await asyncio.to_thread(hub.fetch, decided.listing, file, stop_at)
    (partial,) = here.partials()
    have = partial.stat().st_size
    assert have == 150_000
    fake.faults.hang.clear()
    fake.sent.clear()
    assert (await here.plan()).missing == decided.missing - have
    await here.pull()
    assert fake.sent[WEIGHTS] == size - have
    ranges = [request.header("range") for request in fake.server.received if request.header("range")]
    assert f"bytes={have}-" in ranges


async def test_a_transfer_that_brings_nothing_is_given_up(fake: FakeHub, here: Here) -> None:
    decided = await here.plan()
    fake.faults.status = 503
    with pytest.raises(UpstreamUnreachable, match="answered with status 503"):
        await asyncio.to_thread(carry_out, here.hub(), decided, here.home, here, 0.0)
    assert pulled_models(here.home) == []
    assert find(here.home, HubReference(REPO)) is None


async def test_a_wrong_digest_is_refused_and_deleted(fake: FakeHub, here: Here) -> None:
    fake.faults.wrong.add(WEIGHTS)
    with pytest.raises(
        UpstreamBroken, match=r"model\.safetensors arrived wrong: its digest is [0-9a-f]{64} and the Hub"
    ):
        await here.pull()
    assert here.partials() == []
    assert pulled_models(here.home) == []
    fake.faults.wrong = {"config.json"}
    with pytest.raises(UpstreamBroken, match=r"config\.json arrived wrong: its digest is [0-9a-f]{40} and the Hub"):
        await here.pull()
    fake.faults.wrong.clear()
    await here.pull()


async def test_a_blob_that_was_damaged_later_is_fetched_again(fake: FakeHub, here: Here) -> None:
    pulled = await here.pull()
    weights = Path(pulled.folder) / WEIGHTS
    good = weights.read_bytes()
    weights.resolve().write_bytes(good[:-1] + b"\x01")
    await here.pull()
    assert weights.read_bytes() == good


async def test_a_gated_repository_wants_a_token(fake: FakeHub, here: Here) -> None:
    fake.faults.gated.add(REPO)
    fake.faults.tokens.add("hf_good")
    with pytest.raises(Forbidden, match=r"Org/Tiny-Chat is gated: ask for access on its page, then set HF_TOKEN"):
        await here.pull()
    with pytest.raises(Forbidden, match="gated"):
        await here.pull(token="hf_bad")
    await here.pull(token="hf_good")
    told = {request.path.split("/")[1] for request in fake.server.received if request.header("authorization")}
    assert told == {"api", "Org"}, "the other host to which LFS files are sent on is not told the token"


async def test_what_is_not_there_is_named(fake: FakeHub, here: Here) -> None:
    with pytest.raises(NotFound, match=r"has no model Org/Nothing, or it is private: then set HF_TOKEN"):
        await here.pull("Org/Nothing")
    with pytest.raises(NotFound, match="Org/Tiny-Chat has no revision 'v9'"):
        await here.pull(f"{REPO}@v9")
    fake.faults.status = 403
    with pytest.raises(Unauthorized, match="refuses the token"):
        await here.pull()
    await fake.stop()
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await here.pull()


async def test_a_full_disk_is_seen_before_the_download(fake: FakeHub, here: Here) -> None:
    """The stand-in states more bytes than any disk has."""
    fake.faults.sizes[WEIGHTS] = 10**18
    with pytest.raises(ConfigError, match=r"1000000000\.0 GB are to be downloaded and .* free in .*cache"):
        await here.pull()
    assert not here.cache.exists()


async def test_a_size_that_was_stated_wrong_ends_the_download(fake: FakeHub, here: Here) -> None:
    fake.faults.sizes[WEIGHTS] = 1_000
    with pytest.raises(UpstreamUnreachable, match="more bytes came than the Hub stated"):
        await here.pull()


async def test_only_pickles_are_refused(fake: FakeHub, here: Here) -> None:
    (fake.root / REPO / WEIGHTS).unlink()
    with pytest.raises(BadRequest, match=r"only as pytorch_model\.bin, in Python's pickle format"):
        await here.pull()


async def test_conversions_that_exist_are_offered(fake: FakeHub, here: Here) -> None:
    models.openvino(fake.root / "OpenVINO/Tiny-Chat-int4-ov")
    models.gguf(fake.root / "Org/Tiny-Chat-GGUF" / "tiny-Q4_K_M.gguf")
    both = ("OpenVINO/Tiny-Chat-int4-ov", "Org/Tiny-Chat-GGUF")
    assert (await here.plan()).conversions == both
    with pytest.raises(
        NotFound, match=r"no weights in the format openvino; it has: safetensors\. There is also: OpenVINO/"
    ):
        await here.plan(wanted="openvino")
    assert (await here.pull(both[0])).kind == "openvino"
    pulled = await here.pull(both[1])
    assert (pulled.reference, pulled.path.name) == (f"{both[1]}:tiny-Q4_K_M.gguf", "tiny-Q4_K_M.gguf")
    assert resolve(both[1], here.home).kind == "gguf"


async def test_files_that_make_no_model_get_no_record(fake: FakeHub, here: Here) -> None:
    """What the Hub has may itself be broken."""
    (fake.root / REPO / WEIGHTS).write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ConfigError, match="is cut off inside its header"):
        await here.pull()
    assert pulled_models(here.home) == []


async def test_two_pulls_of_one_file_do_not_write_over_each_other(fake: FakeHub, here: Here) -> None:
    """While one waits for the stand-in, another one is told so."""
    decided = await here.plan()
    fake.faults.hang[WEIGHTS] = 65_536
    hub, file = here.hub(), decided.choice.files[0]
    first = asyncio.create_task(asyncio.to_thread(_ends_early, hub, decided, file))
    await fake.server.watch.until(lambda: fake.sent[WEIGHTS] >= 65_536)
    with pytest.raises(ConfigError, match="Another process downloads"):
        await asyncio.to_thread(here.hub().fetch, decided.listing, file, here.bytes)
    fake.faults.status = 500
    fake.server.drop_connections()
    await first


def _ends_early(hub: Hub, decided: Plan, file: HubFile) -> None:
    with pytest.raises(UpstreamUnreachable):
        hub.fetch(decided.listing, file, lambda _: None)


async def test_removing_keeps_what_others_use(fake: FakeHub, here: Here) -> None:
    """Two commits share their weights: with the first its link goes, with the second the blob."""
    old = await here.pull()
    (fake.root / REPO / "config.json").write_text(json.dumps({**models.QWEN3, "vocab_size": 1000}))
    new = await here.pull()
    assert old.commit != new.commit
    blob = (Path(new.folder) / WEIGHTS).resolve()
    assert (Path(old.folder) / WEIGHTS).resolve() == blob
    await asyncio.to_thread(remove, here.home, parse_reference(f"{REPO}@{old.commit[:12]}"))
    assert not Path(old.folder).exists()
    assert blob.is_file()
    assert [pulled.commit for pulled in pulled_models(here.home)] == [new.commit]
    assert resolve(REPO, here.home).path == Path(new.folder)
    remove(here.home, parse_reference(REPO))
    assert not blob.exists()
    with pytest.raises(NotFound, match=r"was not pulled to this machine\. Pulled: none"):
        remove(here.home, parse_reference(REPO))


async def test_a_blob_that_repositories_share_is_only_unlinked(fake: FakeHub, here: Here, tmp_path: Path) -> None:
    """A newer library keeps large files once for all repositories; its file is not this model's to delete."""
    pulled = await here.pull()
    blob = (Path(pulled.folder) / WEIGHTS).resolve()
    shared = tmp_path / "shared"
    blob.rename(shared)
    blob.symlink_to(shared)
    remove(here.home, parse_reference(REPO))
    assert shared.is_file()
    assert not blob.is_symlink()


async def test_the_licence_is_the_cards(fake: FakeHub, here: Here) -> None:
    assert (await here.plan()).listing.license == License("apache-2.0")
    (fake.root / REPO / "README.md").write_text(
        "---\nlicense: other\nlicense_name: hyperclovax-seed\nlicense_link: LICENSE\n---\n"
    )
    found = (await here.plan()).listing.license
    assert (str(found), found.is_open) == ("hyperclovax-seed (LICENSE)", False)
    (fake.root / REPO / "README.md").unlink()
    assert str((await here.plan()).listing.license) == "none stated"
