"""docs/conformance.md from the results of tests/conformance: `make docs` runs both. Never edited by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "conformance.md"
FEATURES = (
    "text", "stream", "tools", "parallel_tools", "tool_stream", "reasoning", "image", "json_schema", "usage", "errors",
    "stop", "n",
)  # fmt: skip
NAMES = {
    "openai_chat": "OpenAI Chat",
    "openai_responses": "OpenAI Responses",
    "anthropic_messages": "Anthropic Messages",
    "gemini": "Gemini",
    "clova": "CLOVA Studio v3",
    "bedrock": "Bedrock Converse",
}
CLIENTS = {
    "openai_chat": "`openai` chat.completions",
    "openai_responses": "`openai` responses",
    "anthropic_messages": "`anthropic` messages",
    "gemini": "`google-genai`",
}
INTRO = """# Conformance

Every client's official SDK, through a running gateway, to an upstream of every dialect. Written by `make docs` from the results
of `tests/conformance`; a cell is what its test showed.

✓ works · ✗ fails, with the reason below · ○ refused by name: the upstream's protocol cannot do it · – the client's protocol
has no such thing

What stands behind the upstreams is the [sandbox](sandbox.md) behind each protocol's wire. CLOVA Studio's and Bedrock's are the
sandbox's own and as strict as the service; the others are Naru's own codecs from the other side. That Naru also agrees with
what the providers really send is shown by recorded traffic: `make test-transcripts`.
"""


def main(results: Path) -> None:
    cells = json.loads(results.read_text())
    PAGE.write_text(page(cells))
    failed = sum(cell["outcome"] == "failed" for cell in cells)
    print(f"{PAGE.relative_to(ROOT)}: {len(cells)} results, {failed} failed")


def page(cells: list[dict[str, str]]) -> str:
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for cell in cells:
        found.setdefault((cell["client"], cell["upstream"], cell["feature"]), []).append(cell)
    clients = [name for name in CLIENTS if any(key[0] == name for key in found)]
    upstreams = [name for name in NAMES if any(key[1] == name for key in found)]
    notes: list[str] = []
    parts = [INTRO]
    for client in clients:
        parts.append(f"## Client: {CLIENTS[client]}\n")
        parts.append("| upstream | " + " | ".join(feature.replace("_", " ") for feature in FEATURES) + " |")
        parts.append("|---|" + ":-:|" * len(FEATURES))
        for upstream in upstreams:
            marks = [mark(found.get((client, upstream, feature), []), notes) for feature in FEATURES]
            parts.append(f"| {NAMES[upstream]} | " + " | ".join(marks) + " |")
        parts.append("")
    if notes:
        parts.append("## Reasons\n")
        parts += [f"{number}. {note}" for number, note in enumerate(notes, start=1)]
        parts.append("")
    return "\n".join(parts)


def mark(cells: list[dict[str, str]], notes: list[str]) -> str:
    """The worst of a cell's results (streamed and plain may differ), with a number for its reason."""
    for outcome, sign in (("failed", "✗"), ("limit", "○"), ("skipped", "–")):
        for cell in cells:
            if cell["outcome"] == outcome:
                return sign if outcome == "skipped" else f"{sign} {numbered(cell['reason'], notes)}"
    return "✓" if cells else " "


def numbered(reason: str, notes: list[str]) -> int:
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
