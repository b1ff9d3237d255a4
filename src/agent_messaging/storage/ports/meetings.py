"""The port of meetings: their turns, what is said, and the events that tell of both.

What an act changes is decided by `storage/assembly`, the same for every backend. `act` loads the meeting under a
lock, asks the rules, and writes what they answer in one commit: status, seats, the end of the current turn and the
next one, the speech, notes of the SDK's own, and events. So at any time one turn of an active meeting is current, its
numbers rise by one, and at most one speech is stored under each.

A turn for speaking comes with a delivery of kind `turn` to its holder, for turn handlers: a message of the SDK's own,
of type `system`, from the host, that is never part of the history. It is queued when the turn begins; when the turn
ends, by whatever act, it is withdrawn, also where it is claimed, unless the act settles it (`claim`). Invitations are
deliveries of kind `invitation`.

Deadlines are the store's: `time_out` ends each turn once, whoever calls it. No turn outlasts its meeting, so that is
also how a meeting ends by `max_duration`.

The messages and the events of one meeting are committed in the order of their seq. An agent that is deregistered
leaves its meetings first (`assembly.Vanish`). Those that it hosts are removed with it. Those of others lose its seat
and its messages, and keep its turns and the events.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from ...bodies import open_body
from ...models import MeetingEnd, MeetingEventType, MeetingStatus, ParticipantStatus, SpeakerSelection, TurnEnd
from ...records import dataclass
from ..assembly.terms import Act, Purpose, Refused
from .deliveries import Claim, Duplicate, KeyConflict, UnknownAgents
from .messages import EVERYTHING, MessageRow, Narrowing

A = TypeVar("A", bound=str | None)
"""An agent's id, or None for nobody."""


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """A message to an invited agent, encoded already."""

    message_id: str
    recipient_id: str
    content: str
    checksum: int
    notify: bool = False
    """Leave a notice for `SessionStore.take_notices`."""
    metadata: str | None = None
    """What observers give along, encoded; nothing of a user's."""


@dataclass(frozen=True, slots=True)
class NewMeeting:
    """A meeting to be created."""

    meeting_id: str
    host_id: str
    participant_ids: tuple[str, ...]
    """In the order of joining; the host first, who attends from the start."""
    turn_duration: float | None
    """Seconds; None: turns do not end by time."""
    selection: SpeakerSelection
    invitations: tuple[NewInvitation, ...] = ()
    max_attempts: int = 5
    """Runs of an invitation's handler, and of a turn handler in one turn."""
    max_turns: int | None = None
    max_duration: float | None = None
    """Seconds from the start."""
    host_speaks: bool = True
    end_when: bool = False
    """After each turn the host's process is asked whether the meeting ends."""


@dataclass(frozen=True, slots=True)
class NewSpeech:
    """A speech, encoded and checked already."""

    message_id: str
    content: str
    metadata: str | None
    checksum: int
    idempotency_key: str | None = None
    """Of the call `speak`, by the sender."""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn."""

    number: int
    agent_id: str
    purpose: Purpose
    started_at: datetime
    deadline_at: datetime | None
    left: float | None
    """Of the current one: seconds until its deadline by the store's clock, below 0 when it has passed."""
    ended_at: datetime | None = None
    how: TurnEnd | None = None
    message_id: str | None = None
    """The speech in it; None also if that was removed with its speaker."""
    next_id: str | None = None
    """In a turn for selecting: the agent that has the next turn unless the host's process says otherwise."""


@dataclass(frozen=True, slots=True)
class MeetingRow:
    """A meeting."""

    meeting_id: str
    host_id: str
    status: MeetingStatus
    selection: SpeakerSelection
    turn_duration: float | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    turn: TurnRow | None
    """The current one."""
    max_turns: int | None
    max_duration: float | None
    host_speaks: bool
    turns_taken: int
    """Turns for speaking that have ended."""
    deadline_at: datetime | None
    """When `max_duration` ends it; None before the start."""
    end_reason: MeetingEnd | None

    @property
    def speaking_turn(self) -> TurnRow | None:
        """The current turn, unless the host's process is choosing the next speaker."""
        return self.turn if self.turn is not None and self.turn.purpose is Purpose.SPEAK else None


@dataclass(frozen=True, slots=True)
class SeatRow:
    """A participant of a meeting."""

    seat_id: str
    agent_id: str
    join_order: int
    status: ParticipantStatus
    joined_at: datetime | None
    """When it attended; None if it has not, or went back to being invited."""
    left_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an agent stands in a meeting, for callers that wait."""

    status: MeetingStatus
    seat: ParticipantStatus | None
    """None: it is not a participant."""
    turn: TurnRow | None
    """The current turn, whoever holds it."""
    said: tuple[MessageRow, ...] = ()
    """The newest messages since the agent's last speech, oldest first, as many as were asked for."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of a meeting."""

    seq: int
    meeting_id: str
    type: MeetingEventType
    agent_id: str | None
    content: str
    """JSON text of an object, with ids of agents. Readers add the external ids; the event has those of an agent that it
    removed."""
    checksum: int
    """Of the content, as of a message without metadata."""
    created_at: datetime
    message: MessageRow | None = None
    """The speech, of MESSAGE_POSTED."""

    @property
    def metadata(self) -> None:
        """It has none."""
        return None

    @property
    def data(self) -> dict[str, Any]:
        """The content as a fresh mapping.

        Raises:
            StorageCorruptError: It is not what was stored.
        """
        data: dict[str, Any] = open_body(self, f"event {self.seq} of meeting {self.meeting_id}").content
        return data


@dataclass(frozen=True, slots=True)
class EventPage:
    """A piece of the feed of all meetings' events."""

    events: list[EventRow]
    cursor: str
    """Where the next piece begins."""
    is_end: bool
    """Nothing was behind it."""


@dataclass(frozen=True, slots=True)
class Created:
    """The meeting is stored."""

    status: MeetingStatus


@dataclass(frozen=True, slots=True)
class Acted:
    """A meeting as an act left it."""

    status: MeetingStatus
    turn: TurnRow | None
    """The one that is current now."""
    ended_turn: int | None = None
    """The number of the turn that the act ended."""
    message_id: str | None = None
    """The speech that was stored."""
    processes: set[str] = field(default_factory=set)
    """The processes to be woken: that of the new speaker (in a turn for selecting, of the host), those of agents that
    leave, the one whose turn handler runs in vain, and everybody's when the status changes."""
    seats: int = 0
    """Its participants, without those who left; 0 in the answer to a repeat."""


Outcome = Acted | Refused | Duplicate | KeyConflict | None
"""What became of an act; None without such a meeting."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The changes that time brought."""

    meetings: dict[str, Acted]
    next_in: float | None
    """Seconds until the next deadline of a turn; None if there is none."""


@dataclass(frozen=True, slots=True)
class SpeechCount:
    """The speeches of an agent in a meeting, counted."""

    agent_id: str
    messages: int
    first_at: datetime
    last_at: datetime
    length: int
    """Characters of JSON."""


@dataclass(frozen=True, slots=True)
class MeetingStatistics:
    """An agent's meetings."""

    hosted: int
    participated: int
    """Meetings of others in which it is or was a participant that attended."""
    active_hosted: int
    messages: int
    spoke_in: int
    average_duration: float | None
    """Seconds from start to end, of its ended meetings that were started, hosted ones included."""


class MeetingStore(Protocol):
    """Meetings. All of it is safe under any number of processes."""

    async def create(self, meeting: NewMeeting, *, owner: str, now: datetime | None = None) -> Created | UnknownAgents:
        """Store a meeting with its invitations, in one commit. Repeat-safe by its id.

        It is `created`, or `ready` where the host is alone.
        """
        ...

    async def act(
        self,
        meeting_id: str,
        act: Act,
        *,
        owner: str,
        speech: NewSpeech | None = None,
        claim: Claim | None = None,
        now: datetime | None = None,
    ) -> Outcome:
        """Have the rules decide an act, and write its changes; None without such a meeting.

        In one commit. `speech` belongs to Start with a message and to Speak. Repeating an act with a speech (by its id)
        stores nothing and answers as the first time, with the status and the turn of now; other acts are judged anew.
        Then the speech's idempotency key is judged, before anything else. With `claim`, the claim on a turn's delivery,
        the act happens only if that is the newest and still open, and settles it as done; otherwise it is refused as
        TURN_LOST. Attend remembers `owner` as the process to be woken.
        """
        ...

    async def time_out(self, limit: int, *, now: datetime | None = None) -> TimedOut:
        """End the current turns whose deadline has passed, of at most so many meetings, each once. Repeat-safe.

        The first to end are those whose deadlines are the earliest, and of one instant those of the oldest meetings.
        Reads first; takes a write lock only if something is to change.
        """
        ...

    async def sit(self, meeting_id: str, agent_id: str, *, owner: str) -> Standing | None:
        """Remember the process to be woken when the agent gets the turn or the meeting ends. Repeat-safe.

        It answers how the agent stands, as `find_standings`. The process is woken for each change from then on.
        It reads first, and writes only if another process is seated.
        """
        ...

    async def find_meeting(self, meeting_id: str, now: datetime | None = None) -> MeetingRow | None:
        """A meeting as it stands; None if there is none. A plain read."""
        ...

    async def list_seats(self, meeting_id: str) -> list[SeatRow]:
        """All participants, in the order of joining, those who left included."""
        ...

    async def list_meetings(
        self,
        agent_id: str | None,
        *,
        statuses: Collection[MeetingStatus] | None,
        limit: int,
        offset: int = 0,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        before_id: str | None = None,
    ) -> list[MeetingRow]:
        """A page, newest first: of all meetings, or of those that an agent hosts or has a seat in, left ones too.

        They were created between the dates, and with `before_id` before that one. The order is that of the ids, so it
        need not exist.
        """
        ...

    async def find_standings(
        self, keys: Sequence[tuple[str, A]], now: datetime | None = None, *, called: bool = False, recent: int = 0
    ) -> dict[tuple[str, A], Standing | None]:
        """Where agents stand, by (meeting id, agent id); None without such a meeting. A plain read.

        Without an agent (None) it is how the meeting stands, and nobody has a seat. `recent` is how many messages each
        one brings along of those since the agent's last speech: of more the newest. Without an agent all count.

        With `called` only the agents are listed that may speak, or never will (again), because the meeting has ended or
        they are not in it.
        """
        ...

    async def list_messages(
        self,
        meeting_id: str,
        *,
        limit: int,
        offset: int = 0,
        after_seq: int | None = None,
        before_seq: int | None = None,
        newest_first: bool = False,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        """A page of the history between those sequence numbers, oldest or newest first.

        Speeches and the SDK's own notes. They have no deliveries, so states do not count.
        """
        ...

    async def list_turns(self, meeting_id: str, *, limit: int, after: int = 0) -> list[TurnRow]:
        """A page of the turns behind that number, in their order, the current one included."""
        ...

    async def list_events(self, meeting_id: str, *, limit: int, after_seq: int = 0) -> list[EventRow]:
        """A page of a meeting's events behind that sequence number, oldest first."""
        ...

    async def find_cursor(self) -> str:
        """Where the feed of all events ends now."""
        ...

    async def read_events(self, cursor: str, limit: int, *, most_bytes: int) -> EventPage:
        """The events of all meetings behind the cursor. None is skipped, even if it commits late. A plain read.

        There are at most `limit`, and none behind the one with which data, messages and metadata reach `most_bytes`.
        """
        ...

    async def record_event(
        self,
        meeting_id: str,
        type: MeetingEventType,
        agent_id: str | None,
        data: dict[str, Any],
        *,
        now: datetime | None = None,
    ) -> bool:
        """Record an event of a caller's own; False without such a meeting. Not repeat-safe."""
        ...

    async def count_speeches(self, meeting_id: str) -> list[SpeechCount]:
        """Count the speeches of each agent that has spoken, in any order. Notes of the SDK do not count."""
        ...

    async def count_messages(self, meeting_id: str) -> int:
        """Count the messages of the history."""
        ...

    async def statistics(self, agent_id: str) -> MeetingStatistics:
        """An agent's meetings in figures. A plain read."""
        ...
