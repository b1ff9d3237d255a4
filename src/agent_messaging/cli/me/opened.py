"""What is open beside the list: a letter with what was said around it, or a meeting. It is read again and again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from ...exceptions import MeetingNotFoundError
from ...kinds import Kind
from ...messaging.transcripts.notes import ENDS, spell
from ...models import AskState, DeliveryState, MeetingStatus, MessageType, ParticipantStatus, Receipt, Record
from ..output import duration
from .desk import Desk, Letter
from .words import Page, cut, joined, left, moment, one_line, plain, seconds_until

if TYPE_CHECKING:
    from ...storage.ports import AskRow

AROUND = 20
"""Messages of a conversation that are shown before and behind the one that is open."""
SAID = 200
"""The newest messages of a meeting that are shown."""
ENDED = {
    AskState.REPLIED: "answered",
    AskState.TIMED_OUT: "nobody answered in time",
    AskState.ENDED: "ended with its conversation",
    AskState.FAILED: "failed",
    AskState.CANCELLED: "given up",
}
FATES = {
    DeliveryState.QUEUED: "waits for its recipient",
    DeliveryState.CLAIMED: "being handled",
    DeliveryState.DONE: "handled",
    DeliveryState.DEAD: "given up",
    DeliveryState.EXPIRED: "expired",
    DeliveryState.WITHDRAWN: "withdrawn",
}


class OpenLetter:
    """A message; of a conversation with what was said before and after it."""

    def __init__(self, desk: Desk, letter: Letter) -> None:
        self.desk = desk
        self.letter = letter
        self.key = letter.message_id
        self.is_followed = letter.kind is Kind.CONVERSATION
        """More may be said, so the end is what the reader wants to see."""
        self._before: Sequence[Record] = ()
        self._after: Sequence[Record] = ()
        self._receipt: Receipt | None = None
        self._ask: AskRow | None = None
        self._text = "[what is stored is damaged]" if letter.is_damaged else cut(plain(letter.content))

    async def load(self) -> None:
        """Read what may have changed."""
        letter, sdk = self.letter, self.desk.sdk
        if letter.kind is Kind.CONVERSATION and letter.session_id is not None:
            list_ = sdk.conversation.get_messages_in_session
            self._after = await list_(letter.session_id, after=letter.message_id, limit=AROUND)
            before = await list_(letter.session_id, before=letter.message_id, limit=AROUND, newest_first=True)
            self._before = before[::-1]
            self._ask = await self.desk.find_ask(letter.message_id)
        if letter.sender == self.desk.agent and letter.kind is not Kind.MEETING:
            self._receipt = await sdk.receipts.get(letter.message_id)

    def page(self) -> Page:
        """The page as it is now."""
        letter, agent = self.letter, self.desk.agent
        is_mine = letter.sender == agent
        word = "question" if self._ask is not None else "note" if letter.kind is Kind.ONE_WAY else "message"
        page = Page(f"{word} to {letter.recipient}" if is_mine else f"{word} of {letter.sender}")
        page.fact("sent", moment(letter.created_at))
        page.fact("thread", letter.thread or "")
        page.fact("topic", letter.topic or "")
        page.fact("with it", json.dumps(letter.metadata, ensure_ascii=False) if letter.metadata else "")
        page.fact("fate", self._fate())
        page.fact("question", *self._standing(is_mine))
        page.fact("id", letter.message_id, "dim")
        for one in self._before:
            self._add(page, one)
        if self._before or self._after:
            page.entry(letter.created_at, letter.sender, self._text, is_mine=is_mine, is_chosen=True)
        else:
            page.say(self._text)
        for one in self._after:
            self._add(page, one)
        return page

    def _add(self, page: Page, one: Record) -> None:
        who = one.sender_id or "?"
        if one.message_type is not MessageType.USER_DEFINED and (sentence := spell(one.content, who)) is not None:
            page.note(one.created_at, sentence)
            return
        text = "[what is stored is damaged]" if one.is_damaged else plain(one.content)
        page.entry(one.created_at, who, text, is_mine=who == self.desk.agent)

    def _standing(self, is_mine: bool) -> tuple[str, str]:
        ask = self._ask
        if ask is None:
            return "", ""
        if ask.state is not AskState.OPEN:
            return joined([ENDED.get(ask.state, str(ask.state)), ask.reason or ""]), ""
        time = left(seconds_until(ask.deadline_at))
        if is_mine:
            return f"{self.letter.recipient} has {time} left to answer", "yellow"
        return f"{self.letter.sender} waits for your answer, {time} left", "bold yellow"

    def _fate(self) -> str:
        receipt = self._receipt
        if receipt is None:
            return ""
        read = "" if receipt.read_at is None else f"read {moment(receipt.read_at)}"
        handled = "" if receipt.settled_at is None else moment(receipt.settled_at)
        return joined([f"{FATES[receipt.state]} {handled}".strip(), read, *receipt.reasons[-1:]])


class OpenMeeting:
    """A meeting: how it stands, and what was said."""

    is_followed = True

    def __init__(self, desk: Desk, meeting_id: UUID) -> None:
        self.desk = desk
        self.meeting_id = meeting_id
        self.key = str(meeting_id)
        self.status: Record = Record()
        self._said: list[Record] = []

    async def load(self) -> None:
        """Read how it stands, and what was said since."""
        meeting = self.desk.sdk.meeting
        status = await meeting.get_meeting_status(self.meeting_id)
        if status is None:
            raise MeetingNotFoundError(meeting_id=str(self.meeting_id))
        if self._said:
            new = await meeting.get_meeting_history(self.meeting_id, after=self._said[-1].message_id, limit=1_000)
            self._said = [*self._said, *new][-SAID:]
        else:
            newest = await meeting.get_meeting_history(self.meeting_id, newest_first=True, limit=SAID)
            self._said = newest[::-1]
        self.status = status

    @property
    def seat(self) -> ParticipantStatus | None:
        """How the agent stands in it; None if it has no seat there."""
        found = (one.status for one in self.status.participant_details if one.agent_id == self.desk.agent)
        return next(found, None)

    @property
    def has_turn(self) -> bool:
        """Whether it is the person's turn."""
        return bool(self.status.current_speaker == self.desk.agent)

    @property
    def others(self) -> list[str]:
        """The participants who may have the next turn."""
        return [name for name in self.status.participants if name != self.desk.agent]

    def page(self) -> Page:
        """The page as it is now."""
        status = self.status
        page = Page(f"meeting of {status.host_id or '?'}")
        page.fact("status", self._standing())
        page.fact("turn", *self._turn())
        details = [one for one in status.participant_details if one.agent_id is not None]
        page.fact("there", ", ".join(f"{one.agent_id} ({one.status.value})" for one in details))
        page.fact("id", str(self.meeting_id), "dim")
        for one in self._said:
            who = one.sender_id or "?"
            if one.message_type is MessageType.USER_DEFINED:
                text = "[what is stored is damaged]" if one.is_damaged else plain(one.content)
                page.entry(one.created_at, who, text, is_mine=who == self.desk.agent)
            else:
                page.note(one.created_at, spell(one.content, who) or one_line(one.content))
        if not self._said:
            page.say("Nothing was said yet.", "dim italic")
        return page

    def _standing(self) -> str:
        status = self.status
        if status.status is MeetingStatus.ENDED:
            return f"ended: {ENDS.get(str(status.end_reason), str(status.end_reason))}"
        if self.seat is ParticipantStatus.INVITED:
            return f"{status.status.value} · you are invited"
        limit = "" if status.turn_duration is None else f"turns of {duration(status.turn_duration)}"
        most = "" if status.max_turns is None else f"{status.turns_taken} of {status.max_turns} turns taken"
        return joined([status.status.value, limit, most])

    def _turn(self) -> tuple[str, str]:
        status = self.status
        if status.current_speaker is None:
            return "", ""
        time = "" if status.turn_deadline is None else f", {left(seconds_until(status.turn_deadline))} left"
        if self.has_turn:
            return f"yours{time}", "bold yellow"
        return f"{status.current_speaker}'s{time}", ""
