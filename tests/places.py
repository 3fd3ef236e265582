"""Where tests find what is not part of the repository."""

from __future__ import annotations

import os
from pathlib import Path


def transcripts_folder() -> Path | None:
    """NARU_TRANSCRIPTS, else ../shared/transcripts beside the repository; None where neither exists."""
    named = os.environ.get("NARU_TRANSCRIPTS")
    folder = Path(named) if named else Path(__file__).parent.parent.parent / "shared" / "transcripts"
    return folder if folder.is_dir() else None
