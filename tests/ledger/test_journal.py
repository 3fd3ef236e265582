"""The journal: what was appended is read back, whatever the process does next; damage ends it and never passes for data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.errors import ConfigError
from naru.ledger.journal import HEAD, MAGIC, Journal, read_records, segments

SMALL = 4096


def payloads(folder: Path, after: tuple[int, int] = (0, 0)) -> list[bytes]:
    return [record.payload for record in read_records(folder, after)]


def test_records_come_back_in_order_across_segments(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    given_ones = [b"%d" % number * 100 for number in range(100)]
    ends = [journal.append(payload) for payload in given_ones]
    assert payloads(tmp_path) == given_ones
    assert [record.end for record in read_records(tmp_path)] == ends == sorted(ends)
    assert len(segments(tmp_path)) > 3
    assert payloads(tmp_path, ends[41]) == given_ones[42:]


def test_a_new_process_starts_a_new_segment(tmp_path: Path) -> None:
    """Nothing is ever written behind a record that may have been cut."""
    Journal(tmp_path, SMALL).append(b"one")
    second = Journal(tmp_path, SMALL)
    second.append(b"two")
    assert payloads(tmp_path) == [b"one", b"two"]
    assert second.number == 2


CHILD = """
import os, sys
from pathlib import Path
from naru.ledger.journal import Journal
journal = Journal(Path(sys.argv[1]), 1 << 16)
for number in range(500):
    journal.append(b"record %d" % number)
sys.stdout.write("ready")
sys.stdout.flush()
os.kill(os.getpid(), 9)
"""


def test_nothing_appended_is_lost_by_sigkill(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"ready")
    assert payloads(tmp_path) == [b"record %d" % number for number in range(500)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=12), st.data())
def test_damage_ends_the_journal_at_a_whole_record(
    tmp_path_factory: pytest.TempPathFactory, given_ones: list[bytes], data: st.DataObject
) -> None:
    """Any byte changed, or the file cut anywhere: what is read is what was written up to there, nothing else."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, SMALL)
    for payload in given_ones:
        journal.append(payload)
    ((_, path),) = segments(folder)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(len(MAGIC), journal.offset - 1))
    if data.draw(st.booleans()):
        whole[at] ^= data.draw(st.integers(1, 255))
    else:
        whole = whole[:at]
    path.write_bytes(whole)
    found = payloads(folder)
    assert found == given_ones[: len(found)]
    assert len(found) >= sum(end <= at for end in _ends(given_ones))


def _ends(given_ones: list[bytes]) -> list[int]:
    ends, offset = [], len(MAGIC)
    for payload in given_ones:
        offset += HEAD.size + len(payload)
        ends.append(offset)
    return ends


def test_a_strange_file_is_not_taken_for_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "0000000001.journal").write_bytes(b"something else" * 10)
    with pytest.raises(ConfigError, match="not a journal of Naru"):
        payloads(tmp_path)
    (tmp_path / "0000000001.journal").write_bytes(bytes(100))
    assert payloads(tmp_path) == []


def test_old_segments_go_and_the_current_one_stays(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    for number in range(100):
        journal.append(b"x" * 200 + b"%d" % number)
    journal.remove_before(journal.number + 5)
    assert [number for number, _ in segments(tmp_path)] == [journal.number]


def test_room_is_made_ahead_and_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room granted, appending goes on into the next segment though nothing more can be allocated."""
    journal = Journal(tmp_path, SMALL)
    journal.append(b"x" * 3000)
    assert journal.has_room(2000)

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    journal.append(b"y" * 2000)
    assert payloads(tmp_path) == [b"x" * 3000, b"y" * 2000]
    assert not journal.has_room(3000)
    journal.close()


def test_closing_removes_what_was_allocated_ahead(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    journal.append(b"x" * 3000)
    assert journal.has_room(2000)
    journal.close()
    assert [number for number, _ in segments(tmp_path)] == [1]
