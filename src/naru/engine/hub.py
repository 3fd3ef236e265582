"""The Hugging Face Hub: what is in a repository, and one file of it onto the disk, whole and checked.

HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and HF_HUB_CACHE are read by the huggingface_hub library itself (extra `local`).
Files go into the cache that Transformers, vLLM and every other program of that library share: what one of them has is not
downloaded again, and no model is on the disk twice.

The transfer is ours, because the library throws a partial file away when its process ends (file_download.py,
`_download_to_tmp_and_move`, in 1.21 and 2.4). The cache's layout is the documented one: a blob is named by the digest that
the Hub states, and the library makes the snapshot's links.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from naru.catalog.ways import gb
from naru.engine.choose import HubFile, License
from naru.engine.store import HubReference
from naru.errors import ConfigError, Forbidden, NaruError, NotFound, Unauthorized, UpstreamBroken, UpstreamUnreachable

#: Between two pieces of a body.
TIMEOUT_S = 30.0
#: Tries in a row that bring nothing, and the pause between them.
TRIES, PAUSE_S = 3, 1.0

OnBytes = Callable[[int], None]


class Listing(Struct, frozen=True):
    """A repository at one commit. `files` with sizes and digests."""

    repo: str
    revision: str
    commit: str
    files: tuple[HubFile, ...]
    license: License


class Hub:
    """One Hub and one cache. What is not given is the library's: from the environment, or its defaults. `wait` pauses, in
    seconds, before what broke off is tried again."""

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        cache: Path | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wait = wait
        self._library = _library()
        self._endpoint = endpoint
        self._token = token
        self._api = self._library.HfApi(endpoint=endpoint, token=token, library_name="naru")
        self.cache = cache or Path(self._library.constants.HF_HUB_CACHE)

    def list(self, asked: HubReference) -> Listing:
        """Raises NotFound, Forbidden (gated), ConfigError (offline) and UpstreamError."""
        with self._errors(asked.repo, asked.revision):
            info = self._api.model_info(asked.repo, revision=asked.revision or None, files_metadata=True)
        files = tuple(_file(sibling, asked.repo) for sibling in info.siblings or ())
        return Listing(asked.repo, asked.revision or "main", str(info.sha), files, _license(info.card_data))

    def exists(self, repo: str) -> bool:
        """Whether there is such a repository; False as well when nobody can say."""
        try:
            with self._errors(repo, ""):
                self._api.model_info(repo)
        except NaruError:
            return False
        return True

    def missing_bytes(self, listing: Listing, files: tuple[HubFile, ...]) -> int:
        """What is still to be downloaded, blobs and partial files of the cache apart."""
        return sum(file.size - self._have(listing.repo, file) for file in files)

    def check_space(self, needed: int) -> None:
        """Raises ConfigError where the cache's disk has less than `needed` bytes left."""
        folder = next(path for path in (self.cache, *self.cache.parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ConfigError(
                f"{gb(needed)} are to be downloaded and {gb(free)} are free in {self.cache}. Make room, or set HF_HOME to a "
                "folder on a larger disk."
            )

    def fetch(self, listing: Listing, file: HubFile, on_bytes: OnBytes) -> Path:
        """The file in the snapshot of the listing's commit, its digest checked. A partial one is continued. `on_bytes`
        hears of bytes as they come, those that were there already first. Raises UpstreamError when the transfer breaks off
        or the digest is wrong, ConfigError when another process downloads the same file or the disk refuses it."""
        blob = self._blob(listing.repo, file)
        try:
            if not (blob.is_file() and _digest_of(blob, file) == file.digest):
                self._download(listing, file, blob, on_bytes)
            else:
                on_bytes(file.size)
            return self._link(listing, file)
        except NaruError:
            raise
        except OSError as error:
            raise ConfigError(f"{file.path} cannot be written to {blob.parent}: {error}.") from error

    # --- One file

    def _download(self, listing: Listing, file: HubFile, blob: Path, on_bytes: OnBytes) -> None:
        blob.parent.mkdir(parents=True, exist_ok=True)
        partial = _partial(blob)
        with partial.open("ab") as output:
            _lock(output, partial)
            have = output.tell() if output.tell() <= file.size else 0
            on_bytes(have)
            output.truncate(have)
            idle = 0
            while have < file.size:
                before = have
                problem = self._transfer(listing, file, output, on_bytes)
                have = output.tell()
                idle = 0 if have > before else idle + 1
                if have < file.size and idle >= TRIES:
                    raise UpstreamUnreachable(
                        f"The download of {file.path} broke off at {have:,} of {file.size:,} bytes ({problem}). Run the same "
                        "command again: it goes on from there."
                    )
                if have < file.size:
                    self._wait(PAUSE_S)
            output.flush()
        found = _digest_of(partial, file)
        if found != file.digest:
            partial.unlink()
            raise UpstreamBroken(
                f"{file.path} arrived wrong: its digest is {found} and the Hub states {file.digest}. It was deleted; run the "
                "same command again."
            )
        partial.replace(blob)

    def _transfer(self, listing: Listing, file: HubFile, output: IO[bytes], on_bytes: OnBytes) -> str:
        """One GET of what is missing. Returns why it ended early, or nothing. Raises for what another try cannot change."""
        library, have = self._library, output.tell()
        url = library.hf_hub_url(listing.repo, file.path, revision=listing.commit, endpoint=self._endpoint)
        headers = library.utils.build_hf_headers(token=self._token, library_name="naru")
        headers |= {"accept-encoding": "identity"} | ({"range": f"bytes={have}-"} if have else {})
        try:
            with library.get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
                with self._errors(listing.repo, listing.revision):
                    library.utils.hf_raise_for_status(response)
                if have and response.status_code != 206:  # the whole file: start again
                    output.truncate(0)
                    on_bytes(-have)
                for (
                    chunk
                ) in response.iter_bytes():  # of any size: what waits to fill one would be lost with the connection
                    if output.tell() + len(chunk) > file.size:
                        return "more bytes came than the Hub stated"
                    output.write(chunk)
                    on_bytes(len(chunk))
        except library.errors.HTTPError as error:  # the HTTP client's own: httpx's up to 1.x, httpx2's from 2.0 on
            return str(error) or type(error).__name__
        return ""

    def _link(self, listing: Listing, file: HubFile) -> Path:
        """The library finds the blob and links it into the snapshot; a branch's name then stands for the commit."""
        with self._errors(listing.repo, listing.revision):
            path = self._library.hf_hub_download(
                listing.repo,
                file.path,
                revision=listing.commit,
                cache_dir=self.cache,
                endpoint=self._endpoint,
                token=self._token,
            )
        ref = self._folder(listing.repo) / "refs" / listing.revision
        if listing.revision != listing.commit and not (ref.is_file() and ref.read_text() == listing.commit):
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(listing.commit)
        return Path(path)

    def _have(self, repo: str, file: HubFile) -> int:
        blob = self._blob(repo, file)
        if blob.is_file():
            return file.size
        partial = _partial(blob)
        return min(partial.stat().st_size, file.size) if partial.is_file() else 0

    def _blob(self, repo: str, file: HubFile) -> Path:
        return self._folder(repo) / "blobs" / file.digest

    def _folder(self, repo: str) -> Path:
        return self.cache / f"models--{repo.replace('/', '--')}"

    # --- Errors

    @contextmanager
    def _errors(self, repo: str, revision: str) -> Iterator[None]:
        """The library's errors as ours, each with what to do."""
        errors = self._library.errors
        try:
            yield
        except errors.OfflineModeIsEnabled as error:
            raise ConfigError("HF_HUB_OFFLINE is set, so nothing is downloaded. Unset it for this command.") from error
        except errors.GatedRepoError as error:
            raise Forbidden(
                f"{repo} is gated: ask for access on its page, then set HF_TOKEN to a token of that account "
                f"({self._api.endpoint}/settings/tokens)."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise NotFound(f"{repo} has no revision {revision!r}.", code="model_not_found") from error
        except errors.RepositoryNotFoundError as error:
            raise NotFound(
                f"{self._api.endpoint} has no model {repo}, or it is private: then set HF_TOKEN.",
                code="model_not_found",
            ) from error
        except errors.EntryNotFoundError as error:
            raise NotFound(f"{repo} has no such file any more: {error}", code="model_not_found") from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise Unauthorized(
                    f"{self._api.endpoint} refuses the token (status {status}) for {repo}. Check HF_TOKEN, and what it may do."
                ) from error
            raise UpstreamUnreachable(
                f"{self._api.endpoint} answered with status {status} for {repo}. Try again later."
            ) from error
        except (errors.HTTPError, ConnectionError) as error:
            raise UpstreamUnreachable(
                f"{self._api.endpoint} cannot be reached ({error}). Check the network, HTTPS_PROXY and HF_ENDPOINT."
            ) from error


def _library() -> Any:
    """The optional package. Raises ConfigError that says how to install it."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise ConfigError("Downloads need the huggingface_hub package: pip install 'naru[local]'") from error
    return huggingface_hub


def _file(sibling: Any, repo: str) -> HubFile:
    path, parts = str(sibling.rfilename), str(sibling.rfilename).split("/")
    if sibling.size is None or sibling.blob_id is None or ".." in parts or "" in parts:
        raise UpstreamBroken(f"The Hub does not state size and digest of {path} in {repo}.")
    return HubFile(path, int(sibling.size), str(sibling.blob_id), str(sibling.lfs.sha256) if sibling.lfs else "")


def _license(card: Any) -> License:
    def text(name: str) -> str:
        value = getattr(card, name, None)
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return "" if value is None else str(value)

    return License(text("license"), text("license_name"), text("license_link"))


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.naru.incomplete")


def _lock(output: IO[bytes], partial: Path) -> None:
    try:
        fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"Another process downloads {partial} now. Wait for it, or end it.") from None
    if os.fstat(output.fileno()).st_nlink == 0 or not partial.exists():  # it was finished between opening and locking
        raise ConfigError(f"Another process finished {partial} just now. Run the same command again.")


def _digest_of(path: Path, file: HubFile) -> str:
    """SHA-256 of an LFS file; for others git's: SHA-1 of a header with the size, then the content."""
    if file.sha256:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
