"""Printing: a table on a terminal, aligned text in a pipe, JSON for programs."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

from .options import Options

if TYPE_CHECKING:
    from rich.console import Console

PROSE = 24
"""Columns of a terminal that prose needs at least, to be broken over several lines."""
_PROSE = frozenset({"content", "reason"})
"""Headings of what is read and not copied: broken anywhere."""
_LISTS = frozenset({"name", "serves"})
"""Headings of what is broken between words."""
MAX_CONTENT = 200
"""Characters of a payload shown to people; JSON has all of it."""
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys instead of showing them: control characters, ends of lines, changes of the direction
of writing (which can show a text in another order than it has), and halves of characters."""


def show(options: Options, document: Mapping[str, Any], human: Callable[[], None]) -> None:
    """Print a result: the document with `--json`, else what `human` prints."""
    if options.json:
        print_json(document, indent=2)
    else:
        human()


def print_json(document: Any, indent: int | None = None) -> None:
    """Print one JSON document; without `indent` on one line."""
    click.echo(to_json(document, indent))


def to_json(document: Any, indent: int | None = None) -> str:
    """Records become objects, instants ISO 8601. What a terminal would obey is escaped; it reads back as it was."""
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=_plain)
    # Outside of strings JSON has none of these but the ends of its own lines.
    return _OBEYED.sub(lambda found: "\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    return str(value)


# --- for people -------------------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print a line."""
    click.echo(text)


def note(text: str) -> None:
    """Print a line beside the result, to stderr."""
    click.echo(text, err=True)


def tell(text: str) -> None:
    """As `note`, of a program that goes on though nobody reads any more: its terminal or the end of its pipe is gone.

    Stderr then leads nowhere, so that nothing else fails by it either, nor the last flush.
    """
    try:
        note(text)
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)


def count(number: int, noun: str) -> str:
    """`1 message`, `2,000 messages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def clean(text: str, keep: str = "") -> str:
    """Text of unknown origin, on one line and without what a terminal would obey, but for the characters to keep."""
    return _OBEYED.sub(lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], text)


def content(value: Any, limit: int = MAX_CONTENT) -> str:
    """A payload for people: what is one text alone as that text, anything else as JSON; cut if long."""
    text = _lone_text(value)
    text = clean(to_json(value) if text is None else text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def whole(value: Any) -> str:
    """A payload that is what was asked for: text with its lines as they are, anything else as JSON; never cut."""
    text = _lone_text(value)
    return clean(to_json(value)) if text is None else clean(text, keep="\n\t")


def _lone_text(value: Any) -> str | None:
    from ..messaging.transcripts.pages import lone_text

    return lone_text(value)


def shorten(text: str, width: int) -> str:
    """Cut a text to so many columns of a terminal."""
    from rich.text import Text

    line = Text(text)
    line.truncate(width, overflow="ellipsis")
    return line.plain


def instant(value: datetime | None) -> str:
    """An instant in the local time zone, to the second; only the time if it is today."""
    if value is None:
        return ""
    local = value.astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """`340 ms`, `12.3 s`, `5 min`, `1 h 30 min`, `2 days`: rounded, to the second of its two greatest units."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    for size, unit, smaller, lesser in ((86400, "day", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        rounded = round(seconds / smaller) * smaller
        if rounded >= size:
            number, rest = divmod(rounded, size)
            words = f"{number} {unit}s" if unit == "day" and number > 1 else f"{number} {unit}"
            return f"{words} {rest // smaller} {lesser}" if rest else words
    return "1 min"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Print rows under their headings; the sentence `empty` if there are none."""
    if not rows:
        say(empty)
    elif sys.stdout.isatty():
        _draw(columns, rows)
    else:
        lines = [columns, *rows]
        widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
        for line in lines:
            say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console

    context = click.get_current_context(silent=True)
    plain = context is not None and context.color is False
    console = Console(color_system=None if plain else "auto")
    headings, texts = list(columns), [list(row) for row in rows]
    widths = _widths(headings, texts, console.width)
    if widths is None and "id" in columns and "content" in columns:
        # Beside an id of 36 characters too little room is left: it stands under the content.
        id, content = columns.index("id"), columns.index("content")
        for row in texts:
            row[content] += f"\n{row.pop(id)}"
        headings.pop(id)
        widths = _widths(headings, texts, console.width)
    if widths is None:
        _draw_records(columns, rows)
    else:
        _draw_table(console, headings, texts, widths)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """The widths of a table that breaks nothing that a person copies, and leaves prose some room; None if none does."""
    from rich.cells import cell_len

    least, natural = [], []
    for number, column in enumerate(columns):
        lines = [[column], *(row[number].split("\n") for row in rows)]
        natural.append(max(cell_len(one) for cell in lines for one in cell))
        if column in _PROSE:  # what stands under it is copied
            least.append(max(max(min(cell_len(first), PROSE), *map(cell_len, rest), 0) for first, *rest in lines))
        elif column in _LISTS:
            least.append(max(cell_len(word) for cell in lines for word in cell[0].split(" ")))
        else:
            least.append(natural[-1])
    left = width - sum(least) - 2 * (len(columns) - 1)
    if left < 0:
        return None
    for number, most in enumerate(natural):
        more = min(left, most - least[number])
        least[number] += more
        left -= more
    return least


def _draw_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        drawn.add_column(column, width=width, overflow="fold")
    for row in rows:
        cells = [Text(cell) for cell in row]
        for cell in cells:
            if "\n" in cell.plain:
                cell.stylize("dim", cell.plain.index("\n"))
        drawn.add_row(*cells)
    console.print(drawn)


def _draw_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One line for each cell, which the terminal breaks where it must; what is copied from it is whole."""
    width = max(len(column) for column in columns)
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            if cell:
                say(f"{click.style(column.ljust(width), bold=True)}  {cell}")
        say()
