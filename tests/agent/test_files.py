"""Files of a folder: read, list, search, write, and no way out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from naru.agent.builtin import files as module
from naru.agent.builtin.files import files
from naru.agent.tool import Tool, ToolError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "notes").mkdir(parents=True)
    (root / "notes" / "a.txt").write_text("one\ntwo 서울\nthree\n", encoding="utf-8")
    (root / "korean.txt").write_bytes("똠방각하".encode("cp949"))
    (root / "marked.txt").write_bytes("\ufeff서울".encode())
    (root / "wide.txt").write_bytes("서울".encode("utf-16"))
    (root / "picture.png").write_bytes(b"\x89PNG\x00\x01")
    (root / "empty.txt").touch()
    (root / ".hidden").write_text("서울")
    (tmp_path / "secret.txt").write_text("서울 secret")
    (tmp_path / "rooted").mkdir()
    (tmp_path / "rooted" / "s.txt").write_text("서울 secret")
    (root / "way_out").symlink_to(tmp_path)
    (root / "leak.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inner.txt").symlink_to("notes/a.txt")
    (root / "loop").symlink_to("loop")
    return root


def by_name(root: Path, writable: bool = False) -> dict[str, Tool]:
    return {each.name: each for each in files(root, writable=writable)}


async def call(root: Path, name: str, /, **arguments: Any) -> str:
    return str(await by_name(root, writable=True)[name].call(arguments))


async def test_files_are_read_whole_or_in_part(root: Path) -> None:
    assert await call(root, "read_file", path="notes/a.txt") == "one\ntwo 서울\nthree"
    assert (
        await call(root, "read_file", path="notes/../inner.txt", first_line=2, lines=1)
        == "two 서울\n[lines 2 to 2 of 3]"
    )
    assert await call(root, "read_file", path=str(root / "notes" / "a.txt")) == "one\ntwo 서울\nthree"
    assert await call(root, "read_file", path="empty.txt") == "empty.txt is empty."


async def test_encodings(root: Path) -> None:
    assert await call(root, "read_file", path="korean.txt") == "똠방각하"
    assert await call(root, "read_file", path="marked.txt") == "서울"
    assert await call(root, "read_file", path="wide.txt") == "서울"


OUTSIDE = [
    "../secret.txt",
    "notes/../../secret.txt",
    "leak.txt",
    "way_out/secret.txt",
    "/etc/passwd",
    "../rooted/s.txt",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_no_path_leads_out(root: Path, path: str) -> None:
    for name in ("read_file", "list_files", "write_file", "search_files"):
        arguments = {"write_file": {"content": "x"}, "search_files": {"text": "secret"}}.get(name, {})
        with pytest.raises(ToolError, match="is outside the folder"):
            await call(root, name, path=path, **arguments)
    assert (root.parent / "secret.txt").read_text() == "서울 secret"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a\0b", "cannot hold a NUL"),
        ("loop", "cannot be followed|no file"),
        ("a" * 5000, "cannot be followed|no file"),
        ("notes", "is a folder"),
        ("nothing.txt", "There is no file"),
        ("picture.png", "is no text file"),
    ],
)
async def test_what_cannot_be_read_is_told(root: Path, path: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        await call(root, "read_file", path=path)


async def test_sizes_are_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_READ_BYTES", 10)
    with pytest.raises(ToolError, match="files of up to 10 are read"):
        await call(root, "read_file", path="notes/a.txt")
    monkeypatch.setattr(module, "MAX_WRITE_CHARS", 10)
    with pytest.raises(ToolError, match="10 are written at most"):
        await call(root, "write_file", path="new.txt", content="a" * 11)
    monkeypatch.setattr(module, "MAX_ENTRIES", 1)
    assert "more are not listed" in await call(root, "list_files")
    for arguments in ({"first_line": 0}, {"lines": 0}, {"lines": 9999}):
        with pytest.raises(ToolError, match="counts from 1"):
            await call(root, "read_file", path="empty.txt", **arguments)


async def test_a_folder_is_listed_without_links_that_lead_out(root: Path) -> None:
    listed = (await call(root, "list_files")).splitlines()
    assert listed == [
        ".hidden (6)", "empty.txt (0)", "inner.txt (21)", "korean.txt (8)", "marked.txt (9)", "notes/", "picture.png (6)",
        "wide.txt (6)",
    ]  # fmt: skip
    assert await call(root, "list_files", path="notes") == "a.txt (21)"


async def test_a_search_stays_inside_and_passes_over_what_is_no_text(root: Path) -> None:
    assert (await call(root, "search_files", text="서울")).splitlines() == [
        "inner.txt:2: two 서울",
        "marked.txt:1: 서울",
        "wide.txt:1: 서울",
        "notes/a.txt:2: two 서울",
    ]
    assert await call(root, "search_files", text="TWO", name="a.*") == "notes/a.txt:2: two 서울"
    assert await call(root, "search_files", text="two", path="notes/a.txt") == "notes/a.txt:2: two 서울"
    assert await call(root, "search_files", text="t.o") == "Nothing holds 't.o'."
    with pytest.raises(ToolError, match="no folder"):
        await call(root, "search_files", text="x", path="nowhere")


async def test_searches_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MATCHES", 1)
    assert (await call(root, "search_files", text="서울")).endswith("[there are more; search for something longer]")
    monkeypatch.setattr(module, "MAX_SEARCHED", 2)
    assert "stopped after 2 files" in await call(root, "search_files", text="서울")


async def test_writing_is_there_only_where_asked_for_and_wants_approval(root: Path) -> None:
    assert list(by_name(root)) == ["read_file", "list_files", "search_files"]
    assert by_name(root, writable=True)["write_file"].needs_approval
    assert await call(root, "write_file", path="new/b.txt", content="서울\n") == "Wrote 7 bytes to new/b.txt."
    assert (root / "new" / "b.txt").read_bytes() == "서울\n".encode()
    with pytest.raises(ToolError, match="is a folder"):
        await call(root, "write_file", path=".", content="x")
    with pytest.raises(ToolError, match="cannot be followed: Not a directory"):
        await call(root, "write_file", path="empty.txt/b.txt", content="x")
    (root / "gone").symlink_to("nowhere")
    assert await call(root, "write_file", path="gone/c.txt", content="x") == "Wrote 1 bytes to nowhere/c.txt."


async def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(ToolError, match="There is no file"):
        await call(root, "read_file", path="pipe")
    assert "Nothing" in await call(root, "search_files", text="x", name="pipe")


def test_the_folder_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        files(tmp_path / "nowhere")
