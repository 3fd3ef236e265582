"""A folder of repositories, served as the Hugging Face Hub serves them, with faults to order. For rehearsing downloads.

    hub = FakeHub(folder)                # folder/ORG/NAME/config.json, …
    base = await hub.start()             # HF_ENDPOINT=base
    hub.faults.cut["model.safetensors"] = 1000
    ...
    await hub.stop()

Served are the routes that the huggingface_hub library calls for models: information with sizes and digests, the tree, and
`resolve`, which sends files of LFS on to another host name (localhost), as the Hub sends them to its CDN. A card is the front
matter of README.md. Each content has one commit, the digest of all its files; its branch is `main`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from naru.testing.http import Exchange, RawServer

#: What the Hub keeps in LFS whatever its size.
LFS_ENDINGS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".model")
PIECE_BYTES = 64 * 1024
_INFO = re.compile(r"/api/models/([^/]+/[^/]+?)(?:/(revision|tree)/([^/?]+))?(?:/.*)?")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BLOB = re.compile(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)")
_RANGE = re.compile(r"bytes=(\d+)-")


class HubFaults(msgspec.Struct):
    """Paths are those in the repository. `cut`: the connection is closed after so many bytes of the body, once. `hang`: nothing
    more after so many, until the peer leaves. `wrong`: the last byte is another one. `sizes`: stated instead of the true size.
    `gated`: repositories, or names of them, that want a token out of `tokens`. `status`: every answer has it."""

    cut: dict[str, int] = msgspec.field(default_factory=dict)
    hang: dict[str, int] = msgspec.field(default_factory=dict)
    wrong: set[str] = msgspec.field(default_factory=set)
    sizes: dict[str, int] = msgspec.field(default_factory=dict)
    gated: set[str] = msgspec.field(default_factory=set)
    tokens: set[str] = msgspec.field(default_factory=set)
    status: int = 0


class FakeHub:
    """`sent` counts the bytes of content that were sent of each path; `server` has the requests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults = HubFaults()
        self.sent: Counter[str] = Counter()
        self.server = RawServer(self._handle)

    async def start(self) -> str:
        """The endpoint, such as http://127.0.0.1:40123."""
        return await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()

    def commit(self, repo: str) -> str:
        """40 hexadecimal digits that stand for the content of the repository."""
        folder = self.root / repo
        lines = (f"{path} {hashlib.sha1((folder / path).read_bytes()).hexdigest()}" for path in self._paths(repo))
        return hashlib.sha1("\n".join(lines).encode()).hexdigest()

    def _paths(self, repo: str) -> list[str]:
        folder = self.root / repo
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    # --- Routes

    async def _handle(self, exchange: Exchange) -> None:
        path = unquote(exchange.received.path)
        if self.faults.status:
            exchange.answer(self.faults.status, b'{"error": "to order"}')
        elif match := _INFO.fullmatch(path):
            self._info(exchange, match[1], match[2] or "", match[3] or "")
        elif match := _RESOLVE.fullmatch(path):
            await self._resolve(exchange, match[1], match[2], match[3])
        elif (match := _BLOB.fullmatch(path)) and (self.root / match[1] / match[3]).is_file():
            await self._content(exchange, match[1], match[3], ())
        else:
            _refuse(exchange, 404, "EntryNotFound", "no such path")

    def _is_refused(self, exchange: Exchange, repo: str, revision: str) -> bool:
        if not (self.root / repo).is_dir():
            _refuse(exchange, 401, "RepoNotFound", "Repository not found")  # the Hub tells strangers nothing more
        elif revision not in ("", "main", self.commit(repo)):
            _refuse(exchange, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return False
        return True

    def _info(self, exchange: Exchange, repo: str, what: str, revision: str) -> None:
        if self._is_refused(exchange, repo, revision):
            return
        files = [self._file(repo, path) for path in self._paths(repo)]
        if what == "tree":
            answer: Any = [{"type": "file", "path": f["rfilename"], "oid": f["blobId"], **_sized(f)} for f in files]
        else:
            answer = {
                "id": repo,
                "modelId": repo,
                "sha": self.commit(repo),
                "gated": "manual" if repo in self.faults.gated else False,
                "cardData": _card(self.root / repo / "README.md"),
                "siblings": files
                if "blobs=" in exchange.received.target
                else [{"rfilename": f["rfilename"]} for f in files],
                "tags": [],
            }
        exchange.answer(200, json.dumps(answer).encode())

    def _file(self, repo: str, path: str) -> dict[str, Any]:
        content = (self.root / repo / path).read_bytes()
        size = self.faults.sizes.get(path, len(content))
        about: dict[str, Any] = {"rfilename": path, "size": size, "blobId": _blob_id(content)}
        if path.endswith(LFS_ENDINGS):
            about["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
        return about

    async def _resolve(self, exchange: Exchange, repo: str, revision: str, path: str) -> None:
        if self._is_refused(exchange, repo, revision):
            return
        token = (exchange.received.header("authorization") or "").removeprefix("Bearer ")
        if repo in self.faults.gated and token not in self.faults.tokens:
            _refuse(exchange, 403 if token else 401, "GatedRepo", f"Access to model {repo} is restricted.")
            return
        if path not in self._paths(repo):
            _refuse(exchange, 404, "EntryNotFound", "Entry not found")
            return
        about, commit = self._file(repo, path), self.commit(repo)
        digest = about["lfs"]["sha256"] if "lfs" in about else about["blobId"]
        headers = (("x-repo-commit", commit), ("etag", f'"{digest}"'), ("accept-ranges", "bytes"))
        if "lfs" in about:
            place = f"http://localhost:{self.server.port}/cdn/{repo}/{commit}/{path}"
            linked = (("x-linked-etag", f'"{digest}"'), ("x-linked-size", str(about["size"])), ("location", place))
            exchange.start(302, (*headers, *linked), 0)
            exchange.end()
        else:
            await self._content(exchange, repo, path, headers)

    async def _content(self, exchange: Exchange, repo: str, path: str, headers: tuple[tuple[str, str], ...]) -> None:
        content = (self.root / repo / path).read_bytes()
        if path in self.faults.wrong:
            content = content[:-1] + bytes((content[-1] ^ 1,))
        match = _RANGE.fullmatch(exchange.received.header("range") or "")
        start = int(match[1]) if match else 0
        if match and start >= len(content):
            exchange.answer(416, b"", (("content-range", f"bytes */{len(content)}"),))
            return
        part = (("content-range", f"bytes {start}-{len(content) - 1}/{len(content)}"),) if match else ()
        exchange.start(206 if match else 200, (*headers, *part), len(content) - start)
        if exchange.received.method != "HEAD":
            await self._body(exchange, path, content[start:])
        exchange.end()

    async def _body(self, exchange: Exchange, path: str, content: bytes) -> None:
        cut, hang = self.faults.cut.pop(path, None), self.faults.hang.get(path)
        limit = min((len(content), *(each for each in (cut, hang) if each is not None)))
        for at in range(0, limit, PIECE_BYTES):
            piece = content[at : min(at + PIECE_BYTES, limit)]
            exchange.send(piece)
            await exchange.drained()
            self.sent[path] += len(piece)
            self.server.watch.changed()
        if limit == cut:
            exchange.close()
        elif limit == hang:
            await exchange.hang()


def _refuse(exchange: Exchange, status: int, code: str, message: str) -> None:
    headers = (("content-type", "application/json"), ("x-error-code", code), ("x-error-message", message))
    exchange.answer(
        status, b"" if exchange.received.method == "HEAD" else json.dumps({"error": message}).encode(), headers
    )


def _blob_id(content: bytes) -> str:
    """Git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sized(file: dict[str, Any]) -> dict[str, Any]:
    return {"size": file["size"]} | ({"lfs": {**file["lfs"], "oid": file["lfs"]["sha256"]}} if "lfs" in file else {})


def _card(readme: Path) -> dict[str, str]:
    """The lines `key: value` between the two `---` at the beginning; nothing more of YAML."""
    if not readme.is_file():
        return {}
    match = re.match(r"---\n(.*?)\n---", readme.read_text(), re.DOTALL)
    lines = match[1].splitlines() if match else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value.strip()}
