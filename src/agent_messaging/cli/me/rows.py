"""A list of any length: one line each, drawn when it is seen, with a cursor that stays where it was when lines come."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .words import Line, Lines, columns


def _none(place: int) -> Line:
    raise IndexError(place)


class Rows(ScrollView, can_focus=True):
    """The lines of a tab."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("rows--cursor", "rows--blurred", "rows--new", "rows--dim", "rows--urgent", "rows--at", "rows--who"),
        "rows--empty",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "jump(False)", show=False),
        Binding("end", "jump(True)", show=False),
        Binding("enter", "app.open", "Open"),
    ]

    class Moved(Message):
        """The cursor is on another line."""

    class Reached(Message):
        """The cursor is on the last line: there may be more."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._lines = Lines((), _none)
        self._empty = ""
        self.cursor = 0

    @property
    def chosen(self) -> Line | None:
        """The line under the cursor."""
        return self._lines.make(self.cursor) if self.cursor < len(self._lines) else None

    @property
    def key(self) -> str | None:
        """Its key."""
        return self._lines.keys[self.cursor] if self.cursor < len(self._lines) else None

    def set(self, lines: Lines, *, empty: str, key: str | None = None) -> None:
        """Show these lines, or the sentence where there is none.

        Args:
            lines: From the top.
            empty: What is said where there is none.
            key: The line on which the cursor is to be. None: on the same one as before, if it is still there.
        """
        is_same = key is None
        if is_same:
            key = self.key
        above = self.cursor - self.scroll_offset.y
        self._lines, self._empty = lines, empty
        if key in lines.keys:
            found = lines.keys.index(key)
        else:
            found = min(self.cursor, max(len(lines) - 1, 0)) if is_same else 0
        is_moved, self.cursor = found != self.cursor, found
        self.virtual_size = Size(self.size.width, len(lines))
        if is_moved and self.scroll_offset.y > 0:  # what came above pushes nothing away under the reader's eyes
            self.scroll_to(y=max(0, self.cursor - above), animate=False, force=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        place = y + self.scroll_offset.y
        if not len(self._lines) and y == 0:
            return self._strip([Segment(f"  {self._empty}", base + self._style("empty"))])
        if place >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines.make(place)
        last = self._style(line.tone) if line.tone else Style()
        if place == self.cursor:
            last += self._style("cursor" if self.has_focus else "blurred")
        styles = {name: self._style(name) for name in ("at", "who")}
        cells = columns(line, width)
        return self._strip([Segment(text, base + styles.get(name, Style()) + last) for name, text in cells])

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"rows--{name}", partial=True)

    def _strip(self, segments: list[Segment]) -> Strip:
        return Strip(segments).adjust_cell_length(self.size.width, segments[-1].style)

    def action_move(self, by: int) -> None:
        """Move the cursor by so many lines."""
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        """Move it by a screen."""
        self._go(self.cursor + by * max(1, self.size.height - 1))

    def action_jump(self, to_end: bool) -> None:
        """Move it to the first or the last line."""
        self._go(len(self._lines) - 1 if to_end else 0)

    def _go(self, to: int) -> None:
        to = max(0, min(to, len(self._lines) - 1))
        if to != self.cursor:
            self.cursor = to
            self.scroll_to_region(Region(0, to, 1, 1), animate=False, force=True)
            self.refresh()
            self.post_message(self.Moved())
        if to >= 0 and to == len(self._lines) - 1:
            self.post_message(self.Reached())

    async def on_click(self, event: events.Click) -> None:
        """The line under the mouse is opened by the second click."""
        place = event.y + self.scroll_offset.y
        if place < len(self._lines):
            is_again = place == self.cursor
            self._go(place)
            if is_again:
                await self.run_action("app.open")

    def on_focus(self) -> None:
        """The cursor shows where the keys go."""
        self.refresh()

    def on_blur(self) -> None:
        """As `on_focus`."""
        self.refresh()

    def on_resize(self) -> None:
        """A line has another width, and the cursor stays in sight."""
        self.virtual_size = Size(self.size.width, len(self._lines))
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True)
