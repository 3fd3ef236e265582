"""Files of one folder, for a model: read, list, search, and write where that is asked for.

A path of the model's is resolved, links included, and must then lie in the folder: `..`, absolute paths and links lead no
further than it. Someone who may change the folder while a call runs could still swap a part of the path; the tools are for a
folder of one's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from naru.agent.function import tool
from naru.agent.tool import Tool, ToolError

MAX_READ_BYTES = 1024 * 1024
MAX_WRITE_CHARS = 1024 * 1024
MAX_LINES = 2000
MAX_ENTRIES = 500
MAX_MATCHES = 100
MAX_MATCH_CHARS = 200
#: Where a search stops looking: so many files, and none over MAX_READ_BYTES.
MAX_SEARCHED = 5000

#: After UTF-8, what Korean Windows writes. What neither can read is taken for binary.
ENCODINGS = ("utf-8-sig", "cp949")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        if not self.root.is_dir():
            raise ValueError(f"{root} is no folder.")

    def inside(self, path: str) -> Path:
        """Where a path of the model's leads. Raises ToolError if that is not in the folder."""
        if "\0" in path:
            raise ToolError("A path cannot hold a NUL.")
        try:
            found = _real(self.root / path)
            if found.is_relative_to(self.root):
                found.lstat()
        except FileNotFoundError:
            pass  # it may be about to be written
        except (OSError, ValueError) as error:  # a name too long, half a surrogate pair, a file taken for a folder
            why = getattr(error, "strerror", "") or "it is no path"
            raise ToolError(f"{path[:200]!r} cannot be followed: {why}.") from None
        if not found.is_relative_to(self.root):
            raise ToolError(
                f"{path[:200]!r} is outside the folder. Give a path relative to it, such as notes/today.txt."
            )
        return found

    def shown(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def text(self, path: str) -> str:
        found = self.inside(path)
        if found.is_dir():
            raise ToolError(f"{path!r} is a folder. List it with list_files.")
        if not found.is_file():
            raise ToolError(f"There is no file {path!r}. See what there is with list_files.")
        return _decoded(_bytes(found, path), path)

    def walk(self, start: Path) -> Iterator[Path]:
        """Files below, in order; links to folders are not followed, so that none leads in a circle. Hidden ones are left out."""
        if not start.exists():
            raise ToolError(f"There is no folder {self.shown(start)!r}.")
        if start.is_file():
            yield start
        for folder, names, files in os.walk(start):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                if not name.startswith(".") and _real(path).is_relative_to(self.root) and path.is_file():
                    yield path


def files(root: str | Path, *, writable: bool = False) -> list[Tool]:
    """`read_file`, `list_files` and `search_files` for one folder, with `writable` also `write_file`, which asks for approval
    before each call. Raises ValueError if `root` is no folder."""
    folder = _Folder(Path(root))
    tools = [_read(folder), _list(folder), _search(folder)]
    return [*tools, _write(folder)] if writable else tools


def _read(folder: _Folder) -> Tool:
    @tool
    def read_file(
        path: Annotated[str, "Relative to the folder"],
        first_line: Annotated[int, "Counted from 1"] = 1,
        lines: Annotated[int, f"At most {MAX_LINES}"] = MAX_LINES,
    ) -> str:
        """Read a text file of the folder, or some lines of it."""
        if first_line < 1 or not 1 <= lines <= MAX_LINES:
            raise ToolError(f"first_line counts from 1, and lines goes from 1 to {MAX_LINES}.")
        every = folder.text(path).splitlines()
        if not every:
            return f"{path} is empty."
        if first_line > len(every):
            raise ToolError(f"{path} has {len(every)} lines.")
        last = min(first_line - 1 + lines, len(every))
        more = f"\n[lines {first_line} to {last} of {len(every)}]" if last - first_line + 1 < len(every) else ""
        return "\n".join(every[first_line - 1 : last]) + more

    return read_file.tool


def _list(folder: _Folder) -> Tool:
    @tool
    def list_files(path: Annotated[str, "Relative to the folder; . is the folder itself"] = ".") -> str:
        """List a folder: a line for each file with its size in bytes, and for each folder with a / at its end."""
        found = folder.inside(path)
        if not found.is_dir():
            raise ToolError(f"There is no folder {path!r}.")
        entries = sorted(os.scandir(found), key=lambda entry: entry.name)
        lines = [_entry(entry) for entry in entries[:MAX_ENTRIES] if not entry.is_symlink() or _stays(folder, entry)]
        if len(entries) > MAX_ENTRIES:
            lines.append(f"[{len(entries) - MAX_ENTRIES} more are not listed]")
        return "\n".join(lines) or "The folder is empty."

    return list_files.tool


def _search(folder: _Folder) -> Tool:
    @tool
    def search_files(
        text: Annotated[str, "Found as it is written, in capitals or not"],
        path: Annotated[str, "Folder or file to search, relative"] = ".",
        name: Annotated[str, "Only files of this name, such as *.md"] = "*",
    ) -> str:
        """Search the text files of the folder and those below it; gives path, line number and line."""
        if not text.strip():
            raise ToolError("Say what to search for.")
        pattern = re.compile(re.escape(text), re.IGNORECASE)
        found: list[str] = []
        for number, file in enumerate(folder.walk(folder.inside(path))):
            if number >= MAX_SEARCHED:
                return "\n".join([*found, f"[stopped after {MAX_SEARCHED} files; search a smaller folder]"])
            if fnmatch(file.name, name) or fnmatch(folder.shown(file), name):
                found += _matches(folder, file, pattern)
            if len(found) > MAX_MATCHES:
                return "\n".join([*found[:MAX_MATCHES], "[there are more; search for something longer]"])
        return "\n".join(found) or f"Nothing holds {text!r}."

    return search_files.tool


def _write(folder: _Folder) -> Tool:
    @tool(needs_approval=True)
    def write_file(path: Annotated[str, "Relative to the folder"], content: str) -> str:
        """Write a text file of the folder, in UTF-8. A file that is there is replaced; folders on the way are made."""
        if len(content) > MAX_WRITE_CHARS:
            raise ToolError(f"The content has {len(content)} characters; {MAX_WRITE_CHARS} are written at most.")
        found = folder.inside(path)
        if found == folder.root or found.is_dir():
            raise ToolError(f"{path!r} is a folder. Name a file.")
        try:
            found.parent.mkdir(parents=True, exist_ok=True)
            size = found.write_bytes(content.encode("utf-8"))
        except (OSError, UnicodeEncodeError) as error:
            raise ToolError(f"{path!r} cannot be written: {getattr(error, 'strerror', '') or error}.") from error
        return f"Wrote {size} bytes to {folder.shown(found)}."

    return write_file.tool


def _real(path: Path) -> Path:
    """Without links. Of a circle of links, itself: Path.resolve raises there, on some versions."""
    return Path(os.path.realpath(path))


def _entry(entry: os.DirEntry[str]) -> str:
    return f"{entry.name}/" if entry.is_dir() else f"{entry.name} ({entry.stat().st_size})"


def _stays(folder: _Folder, link: os.DirEntry[str]) -> bool:
    """A link that leads out, or nowhere, is not shown: nothing can be done with it."""
    target = _real(Path(link.path))
    return target.is_relative_to(folder.root) and target.exists()


def _bytes(found: Path, path: str) -> bytes:
    try:
        with found.open("rb") as file:
            data = file.read(MAX_READ_BYTES + 1)
    except OSError as error:
        raise ToolError(f"{path!r} cannot be read: {error.strerror}") from error
    if len(data) > MAX_READ_BYTES:
        raise ToolError(f"{path!r} has {found.stat().st_size} bytes; files of up to {MAX_READ_BYTES} are read.")
    return data


def text_in(data: bytes) -> str | None:
    """None for what is no text, as far as can be seen."""
    if data.startswith(_UTF16_MARKS):
        return data.decode("utf-16", "replace")
    if b"\0" not in data:
        for encoding in ENCODINGS:
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                pass  # the next one
    return None


def _decoded(data: bytes, path: str) -> str:
    text = text_in(data)
    if text is None:
        raise ToolError(f"{path!r} is no text file, as far as can be seen.")
    return text


def _matches(folder: _Folder, file: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """None in a file that cannot be read as text: a search goes over many, and says what it found."""
    shown = folder.shown(file)
    try:
        lines = _decoded(_bytes(file, shown), shown).splitlines()
    except ToolError:
        return
    for number, line in enumerate(lines, 1):
        if pattern.search(line):
            yield f"{shown}:{number}: {line.strip()[:MAX_MATCH_CHARS]}"
