"""A transcript as a page: Markdown, or one HTML file that needs nothing else. Pure: it makes text of text.

Whatever agents have said is shown and never obeyed. HTML escapes all of it, and forbids scripts and loading anything;
Markdown quotes it line by line, so no message can look like another one's.
"""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from importlib.resources import files
from typing import Any

from ...records import dataclass

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ORDERS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Changes of the direction of writing, which can show a text in another order than it has."""
_MARKED = re.compile(r"([\\`*_\[\]<>#|~])")
_DEFINITION = re.compile(r"^([ \t>*+\-\d.)]*\[(?:\\.|[^\[\]\\])+\]):", re.MULTILINE | re.DOTALL)
"""Where a name for a link may be given: it would hold for the whole page, in what others said, too."""
_COLOURS = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was said, or noted by the SDK."""

    at: datetime
    speaker: str
    """External id."""
    name: str
    content: Any
    """Plain JSON; of a note its sentence."""
    is_note: bool = False
    is_damaged: bool = False
    remark: str = ""
    """Where it went, of what was passed on."""
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above."""

    title: str
    facts: Sequence[tuple[str, str]]
    """Names and values."""


def lone_text(content: Any) -> str | None:
    """The text that a content is: a text, or an object that is one text alone. None if it is anything else."""
    if isinstance(content, Mapping) and len(content) == 1:
        [(name, value)] = content.items()
        return value if isinstance(value, str) and name in ("text", "message", "content") else None
    return content if isinstance(content, str) else None


def text_of(content: Any) -> tuple[str, bool]:
    """The content as it is shown, and whether that is plain text."""
    text = lone_text(content)
    if text is not None:
        return _visible(text), True
    return _visible(json.dumps(content, ensure_ascii=False, indent=2)), False


def _visible(text: str) -> str:
    """Without what is obeyed in place of being shown."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return _ORDERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _line(text: str) -> str:
    """On one line."""
    return " ".join(_visible(text).split())


class Markdown:
    """CommonMark."""

    def __init__(self) -> None:
        self._day: date | None = None

    def begin(self, head: Head) -> str:
        """The title and the facts."""
        facts = "".join(f"- **{_mark(name)}:** {_mark(value)}\n" for name, value in head.facts)
        return f"# {_mark(head.title)}\n\n{facts}"

    def write(self, entry: Entry) -> str:
        """One entry."""
        day = "" if entry.at.date() == self._day else f"\n## {entry.at:%Y-%m-%d}\n"
        self._day = entry.at.date()
        if entry.is_note:
            return f"{day}\n*{entry.at:%H:%M:%S} · {_mark(str(entry.content))}*\n"
        who = f"**{_mark(entry.name)}**" + (f" ({_mark(entry.speaker)})" if entry.name != entry.speaker else "")
        remark = f" · {_mark(entry.remark)}" if entry.remark else ""
        return f"{day}\n{who} · {entry.at:%H:%M:%S}{remark}\n\n{_quote(entry)}"

    def end(self) -> str:
        """The end."""
        return ""


def _mark(text: str) -> str:
    """A text on one line, in which nothing is markup."""
    return _MARKED.sub(r"\\\1", _line(text))


def _quote(entry: Entry) -> str:
    if entry.is_damaged:
        return "> *The stored message is damaged.*\n"
    text, is_plain = text_of(entry.content)
    if is_plain:
        # Agents write Markdown; but no HTML, and nothing that is loaded when it is looked at. A backslash before it
        # would not do: the text may have one there, which takes it away.
        text = text.replace("<", "&lt;").replace("![", "!\\[")
        text = _DEFINITION.sub(r"\1\:", text)
    else:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        text = f"{fence}json\n{text}\n{fence}"
    return "".join(f"> {line}".rstrip() + "\n" for line in text.split("\n"))


class Html:
    """One file with its style inside. It loads nothing and runs nothing."""

    def __init__(self) -> None:
        self._day: date | None = None

    def begin(self, head: Head) -> str:
        """The head of the page, the title and the facts."""
        title = _escape(_line(head.title))
        facts = "".join(
            f"<dt>{_escape(_line(name))}</dt><dd dir=auto>{_escape(_line(value))}</dd>\n" for name, value in head.facts
        )
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
            f'<meta name="referrer" content="no-referrer">\n<title>{title}</title>\n'
            f"<style>\n{_style()}</style>\n</head>\n"
            f"<body>\n<main>\n<h1 dir=auto>{title}</h1>\n<dl>\n{facts}</dl>\n"
        )

    def write(self, entry: Entry) -> str:
        """One entry."""
        day = "" if entry.at.date() == self._day else f"<h2>{entry.at:%Y-%m-%d}</h2>\n"
        self._day = entry.at.date()
        clock = f'<time datetime="{entry.at.isoformat(timespec="milliseconds")}">{entry.at:%H:%M:%S}</time>'
        if entry.is_note:
            return f"{day}<p class=note dir=auto>{clock} · {_escape(_line(str(entry.content)))}</p>\n"
        name = _line(entry.name) or "?"
        id = f" <span>{_escape(_line(entry.speaker))}</span>" if entry.name != entry.speaker else ""
        remark = f" <span>· {_escape(_line(entry.remark))}</span>" if entry.remark else ""
        badge = f'<div class="who c{_colour(entry.speaker)}" aria-hidden=true>{_escape(name[0].upper())}</div>'
        return (
            f"{day}<article>\n{badge}\n"
            f"<header><b><bdi>{_escape(name)}</bdi></b>{id} {clock}{remark}</header>\n"
            f"<div class=said>{_body(entry)}</div>\n</article>\n"
        )

    def end(self) -> str:
        """The end of the page."""
        return "</main>\n</body>\n</html>\n"


def _body(entry: Entry) -> str:
    if entry.is_damaged:
        return "<div class=damaged>The stored message is damaged.</div>"
    text, is_plain = text_of(entry.content)
    shown = f"<div class=text dir=auto>{_escape(text)}</div>" if is_plain else f"<pre dir=auto>{_escape(text)}</pre>"
    if entry.metadata:
        about = _escape(_visible(json.dumps(dict(entry.metadata), ensure_ascii=False, indent=2)))
        shown += f"<details><summary>metadata</summary><pre dir=auto>{about}</pre></details>"
    return shown


def _style() -> str:
    return (files(__package__) / "page.css").read_text(encoding="utf-8")


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _colour(speaker: str) -> int:
    return zlib.crc32(speaker.encode("utf-8", "replace")) % _COLOURS
