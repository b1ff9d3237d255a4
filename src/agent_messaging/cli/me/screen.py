"""The screen: a list for each tab, what is open beside it, and which keys are offered. `desk` reads the store.

`program` says what the keys do that change something.

The store is looked at by one task, again and again. Where it fails that is said on the line above the keys, and the
looking goes on: nothing that was read before goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import ClassVar
from uuid import UUID

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Static, Tab, Tabs

from ...exceptions import AgentMessagingError
from ...kinds import Kind
from ...models import MeetingStatus, ParticipantStatus, Record
from ..output import clean
from .desk import PAUSE, Desk
from .forms import Confirming, Help, Writing, reason_of
from .keys import Typed
from .lists import EMPTY, MEETING, lines_of
from .opened import OpenLetter, OpenMeeting
from .rows import Rows
from .words import Page, joined, left, number

TABS = {"inbox": "Inbox", "questions": "Questions", "meetings": "Meetings", "sent": "Sent", "found": "Found"}
DEPENDENT = (
    *("answer", "refuse", "forward", "reply", "attend", "speak", "pass_turn", "leave", "begin", "end", "back"),
)
"""The actions that depend on what is open, or under the cursor."""

SILENT = 3.0
"""Seconds of a look at the store after which the person is told that it does not answer."""


class Screen(Typed):
    """What a person sees, and moves about in."""

    TITLE = "agent-messaging"
    CSS_PATH = "me.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - as the toolkit declares it
    VERTICAL_BREAKPOINTS = [(0, "-short"), (25, "-high")]  # noqa: RUF012 - as above
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(place), f"tab('{tab}')", name, show=False) for place, (tab, name) in enumerate(TABS.items(), 1)),
        Binding("r", "answer", "Answer"),
        Binding("x", "refuse", "Refuse"),
        Binding("f", "forward", "Pass on"),
        Binding("r", "reply", "Reply"),
        Binding("t", "attend", "Attend"),
        Binding("s", "speak", "Speak"),
        Binding("p", "pass_turn", "Pass"),
        Binding("l", "leave", "Leave it"),
        Binding("b", "begin", "Begin it"),
        Binding("e", "end", "End it"),
        # Where a line is too short for all of them, these are seen.
        Binding("escape", "back", "Back"),
        Binding("question_mark,f1", "keys", "Keys", key_display="?"),
        Binding("n", "note", "Note"),
        Binding("a", "ask", "Ask"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("q", "leave_program", "Quit"),
        Binding("ctrl+c,ctrl+q", "leave_program", show=False),
    ]

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.animation_level = "none"
        self.desk = desk
        self.tab = "inbox"
        self.opened: OpenLetter | OpenMeeting | None = None
        self.found: list[Record] = []
        self.query_text = ""
        self.trouble = ""
        self.asking: dict[str, str] = {}
        """Whom the questions went to whose answers are waited for, by their keys."""
        self.drafts: dict[str, str] = {}
        """What was written and not sent, by what it was about."""
        self._cursors: dict[str, str | None] = {}
        self._is_paging = False
        self._looks_since: float | None = None
        """When the look began that has not ended."""
        self._shown = ("", "")
        self._said = ""
        self._offered: tuple[object, ...] = ()

    # --- the screen ---------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Tabs(*(Tab(name, id=tab) for tab, name in TABS.items()), id="tabs")
        with Horizontal(id="desk"):
            yield Rows(id="rows")
            with VerticalScroll(id="page"):
                yield Static(id="about")
                yield Static(id="said")
        yield Static(id="state")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(Tabs).can_focus = False
        self.screen_stack[0].set_focus(self.rows)
        self.show_page()
        self.refresh_lists()
        self.let_keys_in()
        self.run_worker(self._watch(), name="watch")
        self.set_interval(1.0, self._tick)

    @property
    def rows(self) -> Rows:
        """The list."""
        return self.screen_stack[0].query_one(Rows)

    @property
    def page_view(self) -> VerticalScroll:
        """What is open beside it."""
        return self.screen_stack[0].query_one("#page", VerticalScroll)

    @property
    def is_seen(self) -> bool:
        """Whether there is still a screen: what was under way when the program ends comes to its end without one."""
        return bool(self.screen_stack) and bool(self.screen_stack[0].query("#head"))

    async def _watch(self) -> None:
        """Look at the store until the program ends."""
        while True:
            self.desk.arrived.clear()
            self._looks_since = monotonic()
            try:
                await self.desk.look(self.tab)
                if self.opened is not None:
                    await self.opened.load()
                self.trouble = ""
            except AgentMessagingError as error:
                self.trouble = reason_of(error)
            self._looks_since = None
            self.refresh_lists()
            self.show_page()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self.desk.arrived.wait()

    def _tick(self) -> None:
        """Times run out."""
        self.refresh_lists()
        self.show_page()

    def refresh_lists(self, *, key: str | None = None) -> None:
        """Show what is known."""
        if not self.is_seen:
            return
        base, desk = self.screen_stack[0], self.desk
        turns = sum(one.current_speaker == desk.agent for one in desk.meetings)
        invited = sum(one.seat is ParticipantStatus.INVITED for one in desk.meetings)
        counts = {"inbox": desk.inbox.unread, "questions": len(desk.questions), "meetings": turns + invited}
        counts |= {"sent": len(self.asking), "found": len(self.found)}
        head = Text(f" {clean(desk.agent)}", style="bold", no_wrap=True, overflow="ellipsis")
        waiting = [
            f"{desk.inbox.unread:,} unread" if desk.inbox.unread else "",
            f"{number(len(desk.questions), 'question')} for you" if desk.questions else "",
            "your turn" if turns else "",
            number(invited, "invitation") if invited else "",
            f"waiting for {number(len(self.asking), 'answer')}" if self.asking else "",
        ]
        head.append(
            f"  {joined(waiting) or 'nothing waits for you'}", style="not bold" if any(waiting) else "not bold dim"
        )
        base.query_one("#head", Static).update(head, layout=False)
        tabs = base.query_one(Tabs)
        for place, (tab, name) in enumerate(TABS.items(), 1):
            label = f"{place} {name}" + (f" {counts[tab]:,}" if counts[tab] else "")
            found = tabs.query_one(f"#{tab}", Tab)
            if found.label_text != label:
                found.label = label
        lines = lines_of(self.tab, desk, self.found)
        empty = f"Nothing matches {self.query_text!r}." if self.tab == "found" and self.query_text else EMPTY[self.tab]
        self.rows.set(lines, empty=clean(empty), key=key)
        if (said := self._state()) != self._said:
            self._said = said
            state = base.query_one("#state", Static)
            state.set_class(bool(self.trouble), "-trouble")
            state.update(Text(clean(said)))
        self._offer()

    def _offer(self) -> None:
        """Show other keys at the bottom, where others can be used now."""
        offered = tuple(self.check_action(one, ()) for one in DEPENDENT)
        if offered != self._offered:
            self._offered = offered
            self.refresh_bindings()

    def _state(self) -> str:
        waits = " The keys that you press wait for it; Ctrl+Q leaves." if self.waits_long else ""
        silent = 0.0 if self._looks_since is None else monotonic() - self._looks_since
        if self.trouble:
            return self.trouble + waits
        if waits or silent > SILENT:
            return f"The store has not answered {f'for {left(silent)}' if silent > SILENT else 'yet'}.{waits}"
        if self.desk.others:
            who = "Another process serves" if self.desk.others == 1 else f"{self.desk.others} other processes serve"
            return f"{who} {self.desk.agent} too: what arrives may be handled there."
        return ""

    def show_page(self, *, is_new: bool = False) -> None:
        """Show what is open, as it is now."""
        if not self.is_seen:
            return
        base, view, opened = self.screen_stack[0], self.page_view, self.opened
        base.set_class(opened is not None, "-reading")
        base.query_one("#about").display = opened is not None
        if opened is None:
            page = Page("")
            page.say("Enter opens what is under the cursor.\n? shows the keys.", "dim")
        else:
            page = opened.page()
        shown, self._shown = self._shown, (page.head.plain, page.body.plain)
        if self._shown[0] != shown[0] or is_new:
            base.query_one("#about", Static).update(page.head)
        if self._shown[1] == shown[1] and not is_new:
            return
        was_at_end = view.max_scroll_y - view.scroll_y < 2
        base.query_one("#said", Static).update(page.body)
        if opened is not None and opened.is_followed and (is_new or was_at_end):
            view.scroll_end(animate=False)
        elif is_new:
            view.scroll_home(animate=False)

    # --- what is meant ------------------------------------------------------------------------------------------------

    @property
    def key(self) -> str | None:
        """The key of what the keys are about: what is open where the person reads it, else what the cursor is on."""
        is_read = self.opened is not None and not self.rows.has_focus
        if is_read and isinstance(self.opened, OpenMeeting):
            return f"{MEETING}{self.opened.key}"
        if is_read and self.opened is not None:
            return self.opened.key
        return self.rows.key

    @property
    def question(self) -> Record | None:
        """The open question that is meant."""
        return next((one for one in self.desk.questions if one.message_id == self.key), None)

    @property
    def letter(self) -> OpenLetter | None:
        """The letter that is read, if somebody else has sent it and there is no question left in it."""
        opened = self.opened
        if not isinstance(opened, OpenLetter) or opened.key != self.key or self.question is not None:
            return None
        return opened if opened.letter.sender != self.desk.agent and opened.letter.kind is not Kind.MEETING else None

    @property
    def meeting(self) -> Record | None:
        """The meeting that is meant."""
        key = self.key or ""
        return next((one for one in self.desk.meetings if f"{MEETING}{one.meeting_id}" == key), None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done with what is meant."""
        meeting = self.meeting
        has_turn = meeting is not None and meeting.current_speaker == self.desk.agent
        is_host = meeting is not None and meeting.host_id == self.desk.agent
        is_on = meeting is not None and meeting.status is not MeetingStatus.ENDED
        match action:
            case "answer" | "refuse" | "forward":
                return self.question is not None
            case "reply":
                return self.letter is not None
            case "attend":
                return meeting is not None and meeting.seat is ParticipantStatus.INVITED
            case "speak" | "pass_turn":
                return has_turn
            case "leave":
                return is_on and not is_host and meeting is not None and meeting.seat is not ParticipantStatus.LEFT
            case "begin":
                return is_host and meeting is not None and meeting.status is MeetingStatus.READY
            case "end":
                return is_host and is_on
            case "back":
                return self.opened is not None
        return True

    def on_key(self, event: events.Key) -> None:
        """Say of a key that it can do nothing now, where it can at other times."""
        is_known = event.key in self._bindings.key_to_bindings and event.key != "escape"
        if is_known and len(self.screen_stack) == 1 and event.key not in self.screen.active_bindings:
            self.say(f"{event.key} has nothing to do here. ? shows the keys.")

    # --- moving about -------------------------------------------------------------------------------------------------

    def action_tab(self, tab: str) -> None:
        """Show another tab."""
        self.query_one(Tabs).active = tab
        self._show_tab(tab)

    @on(Tabs.TabActivated)
    def _clicked(self, event: Tabs.TabActivated) -> None:
        self._show_tab(event.tab.id or "inbox")

    def _show_tab(self, tab: str) -> None:
        if tab == self.tab:
            return
        self._cursors[self.tab] = self.rows.key
        self.tab = tab
        if self.opened is not None and self.screen_stack[0].has_class("-narrow"):
            self.opened = None
            self.show_page(is_new=True)
        self.screen_stack[0].set_focus(self.rows)
        self.refresh_lists(key=self._cursors.get(tab) or "")
        self.desk.look_soon()

    @on(Rows.Moved)
    def _moved(self) -> None:
        self._offer()

    @on(Rows.Reached)
    async def _read_on(self) -> None:
        if self.tab != "inbox" or self.desk.inbox.is_whole or self._is_paging:
            return
        self._is_paging = True
        self.run_worker(self._load_more(), name="page")

    async def _load_more(self) -> None:
        try:
            await self.desk.inbox.load_more()
        except AgentMessagingError as error:
            self.trouble = reason_of(error)
        finally:
            self._is_paging = False
        self.refresh_lists()

    def action_open(self) -> None:
        """Open the line under the cursor."""
        if self.rows.key is not None:
            self.begin(self.open(self.rows.key), name="open")

    async def open(self, key: str) -> None:
        """Open a message, which then counts as read, or a meeting."""
        desk = self.desk
        try:
            opened: OpenLetter | OpenMeeting
            if key.startswith(MEETING):
                opened = OpenMeeting(desk, UUID(key.removeprefix(MEETING)))
            else:
                letter = await desk.read(key)
                place = letter.meeting_id
                if letter.kind is Kind.INVITATION and isinstance(letter.content, dict):
                    place = letter.content.get("meeting_id")
                opened = OpenLetter(desk, letter) if place is None else OpenMeeting(desk, UUID(str(place)))
            await opened.load()
            self.opened = opened
            self.show_page(is_new=True)
            self.screen_stack[0].set_focus(self.page_view)
            if isinstance(opened, OpenLetter):
                await desk.mark_read(opened.letter)
        except AgentMessagingError as error:
            self.say(reason_of(error), is_bad=True)
        self.refresh_lists()

    async def action_back(self) -> None:
        """Back to the list."""
        self.opened = None
        self.screen_stack[0].set_focus(self.rows)
        self.show_page(is_new=True)
        self.refresh_lists()

    def action_keys(self) -> None:
        """Show the keys."""
        self.push_screen(Help())

    def action_leave_program(self) -> None:
        """Leave, after a question where something would be lost."""
        written = [one for one in self.screen_stack if isinstance(one, Writing) and one.text.strip()]
        drafts = len(self.drafts) + len(written)
        who = ", ".join(sorted({*self.asking.values()}))
        losses = [
            f"wait for {number(len(self.asking), 'answer')} ({who})" if self.asking else "",
            f"have not sent {number(drafts, 'draft')}" if drafts else "",
        ]
        if not any(losses):
            self.exit()
            return
        question = f"You {' and '.join(filter(None, losses))}. Leave, and give up?"
        self.push_screen(Confirming(question), lambda yes: self.exit() if yes else None)

    async def action_quit(self) -> None:
        """As `action_leave_program`; the toolkit calls it so."""
        self.action_leave_program()

    def say(self, text: str, *, is_bad: bool = False) -> None:
        """Tell the person something for some seconds."""
        self.notify(clean(text), severity="error" if is_bad else "information", timeout=8, markup=False)
