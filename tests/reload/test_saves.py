"""Whether a file was saved, whatever an editor does. Each `poll` is one second; no second passes here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from naru.watch import Saves, Watcher


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "naru.toml"
    path.write_text("one")
    return path


def polls(saves: Saves, count: int = 4) -> list[bool]:
    return [saves.poll() for _ in range(count)]


def test_what_is_there_at_first_was_no_save(file: Path) -> None:
    assert polls(Saves(lambda: file)) == [False] * 4


def test_a_save_counts_once_when_it_looks_the_same_twice(file: Path) -> None:
    saves = Saves(lambda: file)
    file.write_text("two, and longer")
    assert polls(saves) == [False, True, False, False]


def test_a_file_renamed_onto_it_counts(file: Path, tmp_path: Path) -> None:
    """As vi, and Kubernetes with its symbolic links, do it: same size, same time of writing."""
    saves = Saves(lambda: file)
    other = tmp_path / "other"
    other.write_text("ONE")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.rename(file)
    assert polls(saves) == [False, True, False, False]


def test_a_link_that_points_elsewhere_counts(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    saves = Saves(lambda: link)
    (tmp_path / "next").write_text("two")
    (tmp_path / "new-link").symlink_to(tmp_path / "next")
    (tmp_path / "new-link").rename(link)
    assert polls(saves) == [False, True, False, False]


def test_a_file_written_in_pieces_counts_when_it_is_whole(file: Path) -> None:
    saves = Saves(lambda: file)
    found = []
    for text in ("t", "tw", "two"):
        file.write_text(text)
        found.append(saves.poll())
    assert found == [False] * 3
    assert polls(saves) == [True, False, False, False]


def test_the_same_content_is_no_save(file: Path) -> None:
    """`touch`, a new mode, or saving without a change."""
    saves = Saves(lambda: file)
    file.write_text("one")
    os.utime(file, (1, 1))
    file.chmod(0o600)
    assert polls(saves) == [False] * 4


def test_a_file_gone_for_a_moment_is_no_save(file: Path) -> None:
    """Between unlink and rename there is nothing to read."""
    saves = Saves(lambda: file)
    file.unlink()
    assert not saves.poll()
    file.write_text("one")
    assert polls(saves) == [False] * 4


def test_a_file_that_stays_away_is_told_once_and_so_is_its_return(file: Path) -> None:
    saves = Saves(lambda: file)
    file.unlink()
    assert polls(saves) == [False, True, False, False]
    file.write_text("one")
    assert polls(saves) == [False, True, False, False]


def test_what_was_read_for_another_reason_is_no_save(file: Path) -> None:
    """After SIGHUP the same file is not read once more; what is written after that is."""
    saves = Saves(lambda: file)
    file.write_text("two")
    assert not saves.poll()
    saves.note()
    assert polls(saves) == [False] * 4
    file.write_text("three")
    assert polls(saves) == [False, True, False, False]


def test_a_first_file_counts(tmp_path: Path) -> None:
    """A gateway that started without one sees it come."""
    file = tmp_path / "naru.toml"
    saves = Saves(lambda: file if file.is_file() else None)
    assert polls(saves) == [False] * 4
    file.write_text("one")
    assert polls(saves) == [False, True, False, False]


async def test_the_watcher_goes_on_until_it_is_stopped(file: Path) -> None:
    saved = asyncio.Event()
    watcher = Watcher(Saves(lambda: file), saved.set, every_s=0.001)
    watcher.start()
    for text in ("two", "three"):
        file.write_text(text)
        async with asyncio.timeout(5):
            await saved.wait()
        saved.clear()
    watcher.stop()
    assert watcher._timer is not None
    assert watcher._timer.cancelled()
