"""A web page as text: title, headings, lists and links stay; scripts, styles and tags go."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urljoin

_HIDDEN = frozenset(("script", "style", "noscript", "template", "svg", "iframe", "object", "select"))
_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "dd",
            "details",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
        ),
        *(
            "footer",
            "form",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hr",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
        ),
        *("summary", "table", "title", "tr", "ul"),
    )
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"title": "# ", "li": "- "}
_META = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([a-zA-Z0-9_.:-]+)""", re.IGNORECASE)
#: The standard of browsers (encoding.spec.whatwg.org) reads these as their larger relatives: most EUC-KR pages are CP949.
_WIDER = {"euc-kr": "cp949", "euc_kr": "cp949", "ks_c_5601-1987": "cp949", "ksc5601": "cp949", "iso-8859-1": "cp1252"}
_WIDER |= {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "us-ascii": "cp1252", "latin1": "cp1252"}


def decoded(body: bytes, charset: str) -> str:
    """By its byte order mark, the header's `charset`, the page's own <meta>, else UTF-8, else CP949: in that order, as browsers
    do. Bytes that do not fit become U+FFFD."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if body.startswith(mark):
            return body.decode(name, "replace")
    named = _META.search(body[:4096])
    stated = charset or (named.group(1).decode("ascii") if named else "")
    try:
        return body.decode(_WIDER.get(stated.lower(), stated) or "utf-8", "replace" if stated else "strict")
    except LookupError:
        return body.decode("utf-8", "replace")  # an encoding that nobody knows
    except UnicodeDecodeError:
        return body.decode("cp949", "replace")


def as_text(html: str, url: str) -> str:
    """`url` is where the page is: links are told whole."""
    reader = _Reader(url)
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.url = url
        self.parts: list[str] = []
        #: The hidden element that is open, and how often inside itself.
        self.hidden = ""
        self.hidden_depth = 0
        self.link = ""
        self.link_start = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.hidden:
            self.hidden_depth += tag == self.hidden
            return
        if tag in _HIDDEN:
            self.hidden, self.hidden_depth = tag, 1
            return
        values = dict(attrs)
        if tag == "base" and values.get("href"):
            self.url = _joined(self.url, values["href"] or "")
        elif tag == "a" and values.get("href"):
            self.link, self.link_start = values["href"] or "", len(self.parts)
        elif tag == "img" and (values.get("alt") or "").strip():
            self.parts.append(f"[{values['alt']}]")
        elif tag == "br":
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" | ")
        elif tag in _BLOCKS:
            self.parts.append(("\n" if tag in ("li", "tr") else "\n\n") + _HEADINGS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if self.hidden:
            self.hidden_depth -= tag == self.hidden
            if self.hidden_depth == 0:
                self.hidden = ""
        elif tag == "a" and self.link:
            self._end_link()
        elif tag in _BLOCKS and tag not in ("li", "tr"):
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(re.sub(r"\s+", " ", data))

    def _end_link(self) -> None:
        """As Markdown has it; without words, or within the page, or to a script, it is none."""
        words = " ".join("".join(self.parts[self.link_start :]).split())
        target = _joined(self.url, self.link.strip())
        if words and target.startswith(("http://", "https://")) and not self.link.startswith("#"):
            self.parts[self.link_start :] = [f"[{words}]({target})"]
        self.link = ""


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target)
    except ValueError:  # "http://[" is not for urljoin
        return target
