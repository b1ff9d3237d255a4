"""What is written on the screen: one line of a list, a page about one thing, and the words for times and states.

Whatever others wrote is shown and never obeyed, by the terminal or by the screen: `plain` and `one_line` take out what
a terminal obeys, and all of it becomes `Text`, which has no markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from ..output import clean

LONGEST, SHORTER = 100_000, 4_000
"""Characters of the message that is open, about 2,000 lines, and of each that is shown around it. More would take the
screen seconds to lay out."""
LINE = 300
"""Characters of a message in a list."""
NEW, DIM, URGENT = "new", "dim", "urgent"
"""The tones of a line: not read yet, over, and not to be missed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list."""

    key: str
    at: str
    """An instant, or how long there is left."""
    who: str
    what: str
    text: str
    tone: str = ""


def plain(content: Any) -> str:
    """A payload as people read it: text, or an object that is one text alone, as it is; anything else as JSON."""
    from ...messaging.transcripts.pages import text_of

    return clean(text_of(content)[0].expandtabs(4), keep="\n")


def one_line(content: Any) -> str:
    """The beginning of a payload on one line."""
    from ...messaging.transcripts.pages import text_of

    text, _ = text_of(content)
    return clean(" ".join(text[: 2 * LINE].split()))[:LINE]


def is_text_object(content: Any) -> bool:
    """Whether it is an object that is one text alone, which an answer to it should be too."""
    return isinstance(content, Mapping) and list(content) == ["text"] and isinstance(content["text"], str)


def cut(text: str, most: int = LONGEST) -> str:
    """A text that the screen can lay out, and how much there is beside it."""
    return (
        text if len(text) <= most else f"{text[:most]}\n… and {len(text) - most:,} characters more, which --json shows"
    )


def fit(text: str, width: int) -> str:
    """The text in exactly so many columns."""
    line = Text(text)
    line.truncate(width, overflow="ellipsis", pad=True)
    return line.plain


def clock(at: datetime | None) -> str:
    """The time of today, or the day: at most six columns."""
    if at is None:
        return ""
    local, now = at.astimezone(), datetime.now().astimezone()
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%d %b}" if local.year == now.year else f"{local:%Y}"


def moment(at: datetime | None) -> str:
    """The day and the time in full."""
    return "" if at is None else f"{at.astimezone():%a %d %b %Y, %H:%M:%S}"


def seconds_until(deadline: datetime) -> float:
    """How long there is left; 0 when it is over."""
    return max(0.0, (deadline - datetime.now(UTC)).total_seconds())


def left(seconds: float) -> str:
    """A time that runs out: `42 s`, `4:05`, `2 h`, `3 d`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600} h" if whole < 2 * 86400 else f"{whole // 86400} d"


def number(count: int, noun: str) -> str:
    """`1 question`, `2 questions`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def joined(parts: Iterable[str]) -> str:
    """The parts that are not empty, with a dot between them."""
    return " · ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a list, of which each is made when it is seen."""

    keys: Sequence[str]
    make: Callable[[int], Line]

    def __len__(self) -> int:
        return len(self.keys)


class Page:
    """What is shown about one thing: facts, and what was said."""

    def __init__(self, title: str) -> None:
        self.head = Text(clean(title), style="bold")
        self.body = Text()

    def fact(self, name: str, value: str, style: str = "") -> None:
        """Add a fact; an empty one is left out."""
        if value:
            self.head.append(f"\n{name:<9}", style="dim not bold")
            self.head.append(clean(value), style=f"not bold {style}".strip())

    def say(self, text: str, style: str = "") -> None:
        """Add text as it is."""
        self.body.append(cut(text), style=style)

    def entry(self, at: datetime, who: str, text: str, *, is_mine: bool = False, is_chosen: bool = False) -> None:
        """Add what somebody said."""
        if self.body:
            self.body.append("\n\n")
        colour = "cyan" if is_mine else "green"
        self.body.append(clean(who), style=f"bold {colour}")
        self.body.append(f"  {clock(at)}", style="dim")
        if is_chosen:
            self.body.append("  ◂", style="bold yellow")
        self.body.append("\n")
        self.body.append(cut(text, LONGEST if is_chosen else SHORTER))

    def note(self, at: datetime, text: str) -> None:
        """Add what the SDK notes."""
        if self.body:
            self.body.append("\n\n")
        self.body.append(f"{clock(at)}  {clean(text)}", style="dim italic")


def columns(line: Line, width: int) -> list[tuple[str, str]]:
    """The cells of a line with their names, together exactly so many columns wide."""
    wide = width >= 70
    who = 16 if wide else 11
    what = 11 if wide else 0
    mark = {NEW: "● ", URGENT: "◆ "}.get(line.tone, "  ")
    cells = [("mark", mark), ("at", f"{fit(line.at, 6)} "), ("who", f"{fit(line.who, who)} ")]
    if what:
        cells.append(("what", f"{fit(line.what, what)} "))
        text = line.text
    else:
        text = joined([line.what, line.text]) if line.tone == URGENT or not line.text else line.text
    used = sum(cell_len(cell) for _, cell in cells)
    return [*cells, ("text", fit(text, max(0, width - used)))]
