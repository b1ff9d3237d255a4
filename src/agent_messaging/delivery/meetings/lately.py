"""Remembers what was said in meetings by acts made here, so that whoever is called next here need not ask the store.

A speech that is committed here is known here. Where all that was said since an agent's last speech was said here, the
agent's turn is shown from memory. The memory of a meeting holds only as long as no other process acts in it, which each
act tells: it ends the turn that the act before it has begun, with as many participants as that one left.
"""

from __future__ import annotations

from dataclasses import field
from datetime import datetime

from ...models import Kind
from ...records import dataclass
from ...storage.assembly.terms import Act, Choose, Pass, Speak
from ...storage.batches import size_of
from ...storage.ports import Acted, MessageRow, NewSpeech, TurnRow

MOST_BYTES = 8 * 1024 * 1024
"""After so much has been said, in all meetings together, the memory begins anew."""
MANY_SEATS = 10_000
"""With so many seats remembered, these are forgotten too: those who wait sit down once more."""


@dataclass(slots=True)
class Course:
    """A meeting as the last act here left it, with what was said in unbroken order up to then."""

    turn: TurnRow
    seats: int
    looks: int
    """The `Lately.looks` when the act began: what was heard of until its answer came may have happened after it."""
    said: list[MessageRow] = field(default_factory=list)


class Lately:
    """The memory of one SDK object.

    Args:
        recent: So many of the newest messages are shown.
    """

    def __init__(self, recent: int) -> None:
        self.recent = recent
        self.looks = 0
        """How often somebody said that anything may have happened elsewhere."""
        self._courses: dict[str, Course] = {}
        self._seats: dict[tuple[str, str], str] = {}
        """By (meeting id, agent id): the process under whose id this SDK object sat down."""
        self._under_way: dict[str, int] = {}
        """By meeting id: acts made here whose answers have not come."""
        self._spoken = 0
        """Bytes of all that was remembered since the memory began."""

    def look(self) -> None:
        """Anything may have happened elsewhere."""
        self.looks += 1

    def begin(self, meeting_id: str) -> int:
        """An act begins here. Returns what `acted` needs."""
        self._under_way[meeting_id] = self._under_way.get(meeting_id, 0) + 1
        return self.looks

    def end(self, meeting_id: str) -> None:
        """The store has answered the act, or will not."""
        self._under_way[meeting_id] -= 1
        if not self._under_way[meeting_id]:
            del self._under_way[meeting_id]

    def acted(
        self, meeting_id: str, acted: Acted, act: Act | None, speech: NewSpeech | None, looks: int | None = None
    ) -> None:
        """Remember an act made here; without an act the meeting changed by time.

        Args:
            looks: What `begin` returned.
        """
        if meeting_id in self._under_way:
            self.looks += 1  # the answer to an earlier act may come yet, and leaves the meeting as it is no more
        before, turn = self._courses.pop(meeting_id, None), acted.turn
        if turn is None or acted.ended_turn != turn.number - 1 or not acted.seats or not is_quiet(act):
            return
        unbroken = before is not None and before.turn.number == acted.ended_turn and before.seats == acted.seats
        said = before.said[1 - self.recent :] if before is not None and unbroken else []
        if isinstance(act, Speak) and speech is not None:
            self._spoken += size_of(speech.content, speech.metadata)
            if self._spoken > MOST_BYTES:
                self._courses.clear()
                self._spoken = 0
                return
            said.append(_row(act.agent_id, speech, turn.started_at))
        if said:
            self._courses[meeting_id] = Course(turn, acted.seats, self.looks if looks is None else looks, said)

    def sat(self, meeting_id: str, agent_id: str, process_id: str) -> None:
        """The store wakes this process when the agent gets the turn."""
        if len(self._seats) >= MANY_SEATS:
            self._seats.clear()
        self._seats[meeting_id, agent_id] = process_id

    def forget(self, meeting_id: str) -> None:
        """Forget what was said in a meeting that is over or gone."""
        self._courses.pop(meeting_id, None)

    def since(self, meeting_id: str, agent_id: str) -> tuple[MessageRow, ...] | None:
        """What was said since the agent's last speech, oldest first; None where that is not remembered."""
        course = self._courses.get(meeting_id)
        if course is None:
            return None
        for place in range(len(course.said) - 1, -1, -1):
            if course.said[place].sender_id == agent_id:
                return tuple(course.said[place + 1 :])
        return None

    def is_waiting(self, meeting_id: str, agent_id: str, process_id: str) -> bool:
        """Whether the agent surely has no turn, and this process is the one to be woken when it gets one.

        Nobody has acted since the last act here but this process, which tells its waiters. If another process acts from
        now on, it wakes this one. (Where the agent waits in two processes, the other one is woken, and this one polls.)
        """
        course = self._courses.get(meeting_id)
        return (
            course is not None
            and course.looks == self.looks
            and course.turn.agent_id != agent_id
            and self._seats.get((meeting_id, agent_id)) == process_id
        )


def is_quiet(act: Act | None) -> bool:
    """Whether an act that ends a turn leaves nothing in the history but its speech."""
    return isinstance(act, Speak | Choose) or (isinstance(act, Pass) and act.reason is None)


def _row(speaker_id: str, speech: NewSpeech, at: datetime) -> MessageRow:
    return MessageRow(
        seq=0,  # not known here: its place is
        message_id=speech.message_id,
        kind=Kind.MEETING,
        sender_id=speaker_id,
        recipient_id=None,
        content=speech.content,
        metadata=speech.metadata,
        checksum=speech.checksum,
        created_at=at,
        read_at=None,
        session_id=None,
    )
