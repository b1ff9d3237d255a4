"""The dialogs: writing a message, naming something on one line, a question before something is lost, and the help."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, cast

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from ...arguments import seconds_of
from ...exceptions import AgentMessagingError, NoHandlerRegisteredError
from ...ids import uuid7
from ..errors import explain
from ..output import clean
from .desk import names_for
from .keys import Typed
from .words import cut, left, seconds_until

WAIT = "10m"
"""How long the answer to a question is waited for, where the person says nothing else."""
QUOTED = 2_000
"""Characters of what is answered that stand above the answer."""
Names = Callable[[], Awaitable[Sequence[str]]]
"""Reads the names that may be meant."""
SHAPES = ("text", '{"text": …}', "JSON")
"""What a text becomes on its way: itself, an object that is this text alone, or the value that it spells."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a person has written."""

    to: str
    text: str
    payload: Any
    """What the text becomes."""
    wait: float
    """Seconds for which an answer is waited for."""
    key: str
    """Under which a repeat stores it once."""


class NameInput(Input):
    """A name, completed by Tab from those that fit what is written."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", show=False)]

    def __init__(self, *, placeholder: str = "", id: str = "name") -> None:
        super().__init__(placeholder=placeholder, id=id)
        self.names: Sequence[str] = ()

    def fitting(self) -> list[str]:
        """The names that may be meant."""
        return names_for(self.names, self.value)

    def action_complete(self) -> None:
        """Take the first name that fits; where it stands there already, go on to the next field."""
        fitting = self.fitting()
        if self.value and fitting and self.value not in self.names:
            self.value = fitting[0]
            self.cursor_position = len(self.value)
        else:
            self.screen.focus_next()


class Dialog(ModalScreen[bool]):
    """A dialog that does something: it stays open, with the reason, where that is refused.

    Args:
        title: What it is about, on one line.
        act: What is done with what the person has written.
        until: When it is too late for it.
        names: Reads the names that may be meant.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel"),
        Binding("ctrl+s", "send", "Send", priority=True),
        Binding("ctrl+q", "app.leave_program", show=False),
    ]

    def __init__(
        self,
        title: str,
        act: Callable[[Written], Awaitable[object]],
        *,
        until: datetime | None = None,
        names: Names | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._act = act
        self._until = until
        self._names = names
        self._is_sending = self._is_sent = False
        self._key, self._keyed = str(uuid7()), ""

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="dialog", can_focus=False):
            yield Static(self._heading(), id="heading")
            yield from self.fields()
            yield Static(id="problem")
            yield Static(self.hint(), id="hint")

    def fields(self) -> Iterable[Any]:
        """What is filled in."""
        raise NotImplementedError

    def hint(self) -> Text:
        """The keys."""
        return keys(("Ctrl+S", "send"), ("Esc", "cancel"))

    def written(self) -> Written:
        """What the person has written.

        Raises:
            ValueError: It cannot be used; says why.
        """
        raise NotImplementedError

    def on_mount(self) -> None:
        """Count the time down, and read the names."""
        if self._names is not None:
            cast(Typed, self.app).begin(self._read_names(self._names), name="names")
        if self._until is not None:
            self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        self.query_one("#heading", Static).update(self._heading(), layout=False)

    async def _read_names(self, read: Names) -> None:
        names = await read()
        for name in self.query(NameInput):
            name.names = names
        self.show_names()

    @on(Input.Changed, "#name")
    def show_names(self) -> None:
        """Show the names that fit what is written."""
        for name in self.query(NameInput):
            shown = [] if name.value in name.names else name.fitting()
            text = Text("  ".join(shown), style="dim", no_wrap=True, overflow="ellipsis")
            self.query_one("#names", Static).update(text, layout=False)

    def _heading(self) -> Text:
        text = Text(clean(self._title), style="bold")
        if self._until is not None:
            seconds = seconds_until(self._until)
            text.append(f"  {left(seconds)} left" if seconds else "  too late", style="bold yellow")
        return text

    def _key_for(self, what: str) -> str:
        """One key for the same thing, however often it is tried."""
        if self._keyed and self._keyed != what:
            self._key = str(uuid7())
        self._keyed = what
        return self._key

    def complain(self, text: str) -> None:
        """Say what is wrong."""
        problem = self.query_one("#problem", Static)
        problem.update(Text(clean(text)))
        self.call_after_refresh(problem.scroll_visible, animate=False)

    def action_cancel(self) -> None:
        """Leave it, unless it is on its way."""
        if not self._is_sending:
            self.dismiss(False)

    def action_send(self) -> None:
        """Do it."""
        if self._is_sending:
            return
        try:
            written = self.written()
        except ValueError as error:
            self.complain(str(error))
            return
        self._is_sending = True
        self.complain("…")
        cast(Typed, self.app).begin(self._send(written), name="send")

    async def _send(self, written: Written) -> None:
        try:
            await self._act(written)
        except AgentMessagingError as error:
            self.complain(reason_of(error))
        else:
            self._is_sent = True
            self.close_sent()
        finally:
            self._is_sending = False

    def on_resize(self) -> None:
        """Keep the field in sight where the keys go."""
        if self.focused is not None:
            self.call_after_refresh(self.focused.scroll_visible, animate=False)

    @on(events.ScreenResume)
    def close_sent(self) -> None:
        """Close when it is done, but not while a question about leaving stands above."""
        if self._is_sent and self.app.screen is self:
            self.dismiss(True)


class Writing(Dialog):
    """A message.

    Args:
        quote: What is answered.
        names: Reads the names of those to whom it may go; None where that is clear.
        label: What the name is.
        text: The text that stands there.
        is_question: The person says how long the answer is waited for.
        is_text_object: It becomes an object that is this text alone, as what it answers.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+t", "shape", "Shape", priority=True)]

    def __init__(
        self,
        title: str,
        act: Callable[[Written], Awaitable[object]],
        *,
        until: datetime | None = None,
        quote: str = "",
        names: Names | None = None,
        label: str = "To",
        text: str = "",
        is_question: bool = False,
        is_text_object: bool = False,
    ) -> None:
        super().__init__(title, act, until=until, names=names)
        self._quote, self._label, self._text = quote, label, text
        self._is_question = is_question
        self._shape = 1 if is_text_object else 0

    def fields(self) -> Iterable[Any]:
        if self._quote:
            with VerticalScroll(id="quote", can_focus=False):
                yield Static(Text(cut(self._quote)[:QUOTED]))
        if self._names is not None:
            yield NameInput(placeholder=self._label)
            yield Static(id="names")
        if self._is_question:
            yield Input(WAIT, placeholder="Wait for the answer: 90s, 10m, 2h", id="wait")
        yield TextArea(self._text, soft_wrap=True, tab_behavior="focus", show_line_numbers=False, id="text")

    def hint(self) -> Text:
        return keys(("Ctrl+S", "send"), ("Ctrl+T", f"as {SHAPES[self._shape]}"), ("Tab", "next"), ("Esc", "cancel"))

    def on_mount(self) -> None:
        super().on_mount()
        area = self.query_one("#text", TextArea)
        area.move_cursor(area.document.end)
        is_named_first = self._names is not None and self._label == "To"
        self.set_focus(self.query_one(NameInput) if is_named_first else area)

    @property
    def text(self) -> str:
        """As it stands."""
        return self.query_one("#text", TextArea).text

    def action_shape(self) -> None:
        """Change what the text becomes: text, an object with it, or JSON."""
        self._shape = (self._shape + 1) % len(SHAPES)
        self.query_one("#hint", Static).update(self.hint())

    @on(Input.Submitted)
    def _go_on(self) -> None:
        self.focus_next()

    def written(self) -> Written:
        to = "" if self._names is None else self.query_one(NameInput).value.strip()
        if self._names is not None and self._label == "To" and not to:
            raise ValueError("Say to whom it goes.")
        wait = seconds_of(self.query_one("#wait", Input).value) if self._is_question else 0.0
        if wait is None or (self._is_question and wait <= 0):
            raise ValueError("Say how long you wait for the answer: 90s, 10m, 2h.")
        text = self.text
        if not text.strip():
            raise ValueError("There is nothing to send yet.")
        payload: Any = text
        if self._shape == 1:
            payload = {"text": text}
        elif self._shape == 2:
            try:
                payload = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"This is not JSON: {error}. Ctrl+T sends it as text.") from error
        return Written(to, text, payload, wait, self._key_for(f"{self._shape} {to}\n{text}"))


class Naming(Dialog):
    """One line: a name, a reason, or what is looked for."""

    def __init__(
        self,
        title: str,
        act: Callable[[Written], Awaitable[object]],
        *,
        label: str,
        verb: str,
        names: Names | None = None,
        until: datetime | None = None,
    ) -> None:
        super().__init__(title, act, until=until, names=names)
        self._label, self._verb = label, verb

    def fields(self) -> Iterable[Any]:
        yield NameInput(placeholder=self._label)
        yield Static(id="names")

    def hint(self) -> Text:
        return keys(("Enter", self._verb), ("Esc", "cancel"))

    @on(Input.Submitted)
    def _done(self) -> None:
        self.action_send()

    def written(self) -> Written:
        value = self.query_one(NameInput).value.strip()
        if not value:
            raise ValueError(f"{self._label}.")
        return Written(value, value, value, 0.0, self._key_for(value))


class Confirming(ModalScreen[bool]):
    """A question before something is lost."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes"),
        Binding("n,escape,q,ctrl+c", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(Text(clean(self._question), style="bold"), id="heading")
            yield Static(keys(("y", "yes"), ("n", "no")), id="hint")

    def action_answer(self, yes: bool) -> None:
        """Take the answer."""
        self.dismiss(yes)


class Help(ModalScreen[None]):
    """The keys, and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,f1,ctrl+c", "leave", "Close")]
    TEXT: ClassVar[Sequence[tuple[str, Sequence[tuple[str, str]]]]] = (
        (
            "Everywhere",
            (
                ("1 … 5", "Inbox, Questions, Meetings, Sent, Found"),
                ("↑ ↓ PgUp PgDn", "move, or scroll what is open"),
                ("Enter", "open; a message then counts as read"),
                ("Esc", "back to the list"),
                ("n", "write a note to an agent"),
                ("a", "ask an agent; the answer comes to Sent"),
                ("/", "search what you have sent, received and heard"),
                ("q", "leave; what came stays in the store"),
            ),
        ),
        (
            "A question that waits for you  ◆",
            (
                ("r", "answer it"),
                ("x", "refuse it; its asker is told at once, with your reason"),
                ("f", "pass it on; the other agent's answer is yours"),
            ),
        ),
        ("Any other message  ● is not read yet", (("r", "reply to its sender"),)),
        (
            "A meeting  ◆ you are invited, or it is your turn",
            (
                ("t", "attend"),
                ("s", "speak; you may name the next speaker"),
                ("p", "pass without a word"),
                ("l", "leave it"),
                ("b, e", "begin it, end it; its host alone can"),
            ),
        ),
        (
            "While you write",
            (("Ctrl+S", "send"), ("Ctrl+T", 'as text, as {"text": …}, or as JSON'), ("Tab", "complete a name; next")),
        ),
    )

    def compose(self) -> ComposeResult:
        parts: list[RenderableType] = []
        for title, lines in self.TEXT:
            table = Table.grid(padding=(0, 1))
            table.add_column(width=15, no_wrap=True, style="cyan")
            table.add_column(ratio=1)
            for key, what in lines:
                table.add_row(key, what)
            parts += [Text(title, style="bold"), Padding(table, (0, 0, 1, 2))]
        parts.append(
            Text("Agents may ask you while this is open. An ask waits until you answer, refuse, or its time is over.")
        )
        with VerticalScroll(id="dialog", classes="help"):
            yield Static(Group(*parts))

    def action_leave(self) -> None:
        """Close it."""
        self.dismiss(None)


def reason_of(error: AgentMessagingError) -> str:
    """What went wrong, with the next step where a person can take it here."""
    return error.problem if isinstance(error, NoHandlerRegisteredError) else explain(error)[1]


def keys(*pairs: tuple[str, str]) -> Text:
    """Keys and what they do, on one line."""
    text = Text()
    for key, what in pairs:
        if text:
            text.append("   ")
        text.append(key, style="bold cyan")
        text.append(f" {what}", style="dim")
    return text
