"""The terms of the rules of meetings: the meeting as it stands, acts, refusals, and the changes of an act."""

from __future__ import annotations

from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from ...models import (
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
    TurnEnd,
)
from ...records import dataclass

INVITED, ATTENDING, WAITING, SPEAKING, LEFT = ParticipantStatus


class Purpose(StrEnum):
    """The purpose of a turn."""

    SPEAK = "speak"
    SELECT = "select"
    """The process of its holder, the host, names the next speaker, or ends the meeting."""


# --- the meeting as it stands -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seat:
    """A participant."""

    agent_id: str
    join_order: int
    status: ParticipantStatus

    @property
    def is_taken(self) -> bool:
        """Whether the agent is still a participant."""
        return self.status is not LEFT


@dataclass(frozen=True, slots=True)
class CurrentTurn:
    """The current turn."""

    number: int
    agent_id: str
    purpose: Purpose
    is_over: bool
    """Its deadline has passed by the store's clock."""
    next_id: str | None = None
    """In a turn for selecting: the agent that has the next turn unless the host's process says otherwise."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A meeting, as the rules need it."""

    host_id: str
    status: MeetingStatus
    selection: SpeakerSelection
    turn_duration: float | None
    """Seconds; None: turns do not end by time."""
    seats: tuple[Seat, ...]
    """By join order; the host has 0."""
    turn: CurrentTurn | None
    last_speaker_id: str | None
    """The holder of the newest turn for speaking. Where the host names the speakers, turns of the host do not count."""
    host_speaks: bool = True
    """The host has its turns like everybody. Otherwise it has those alone for which it is named."""
    end_when: bool = False
    """After each turn the host's process is asked whether the meeting ends."""
    turns_left: int | None = None
    """Turns for speaking that have not ended yet; None: any number."""
    left: float | None = None
    """Seconds that the meeting has left, at its start all that it has; None: it does not end by time."""

    def find_seat(self, agent_id: str) -> Seat | None:
        """The agent's seat, also one that was left."""
        return next((seat for seat in self.seats if seat.agent_id == agent_id), None)


# --- acts -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ends a meeting by itself, as its host says at the start; None leaves it as it was created."""

    max_turns: int | None = None
    max_duration: float | None = None
    """Seconds from the start."""
    end_when: bool | None = None

    def bind(self, meeting: Assembly) -> Assembly:
        """Return the meeting, which has not started, with these bounds."""
        return replace(
            meeting,
            turns_left=meeting.turns_left if self.max_turns is None else self.max_turns,
            left=meeting.left if self.max_duration is None else self.max_duration,
            end_when=meeting.end_when if self.end_when is None else self.end_when,
        )


@dataclass(frozen=True, slots=True)
class Attend:
    """An invited agent says that it is there."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Absent:
    """An agent that attends goes back to being invited, before the start."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """The host starts, with an opening message (which the caller stores) or without."""

    agent_id: str
    has_message: bool = False
    next_id: str | None = None
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True)
class Speak:
    """The holder of the turn says something, which the caller stores, and the turn passes on."""

    agent_id: str
    number: int | None = None
    """The turn it is meant for; None is whichever is current."""
    next_id: str | None = None
    by_order: bool = False
    """It cannot name anybody. Where the host has to name the next speaker, the order decides."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The holder of the turn passes it on without a word."""

    agent_id: str
    number: int | None = None
    reason: str | None = None
    """Why, where its handler failed."""
    next_id: str | None = None


@dataclass(frozen=True, slots=True)
class Choose:
    """The host's process names the next speaker, in a turn for selecting; None leaves it to the order."""

    number: int
    next_id: str | None


@dataclass(frozen=True, slots=True)
class Close:
    """The host's process ends the meeting, in a turn for selecting."""

    number: int
    reason: MeetingEnd


@dataclass(frozen=True, slots=True)
class TimeOut:
    """The deadline of a turn has passed."""

    number: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The host ends the current turn of somebody."""

    agent_id: str
    number: int | None = None
    """The turn it is meant for; None is whichever is current."""


@dataclass(frozen=True, slots=True)
class Leave:
    """A participant leaves."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Remove:
    """The host removes a participant."""

    agent_id: str
    removed_id: str


@dataclass(frozen=True, slots=True)
class Vanish:
    """A participant's agent is about to be deregistered. (A meeting goes with its host's agent.)"""

    agent_id: str


@dataclass(frozen=True, slots=True)
class End:
    """The host ends the meeting."""

    agent_id: str


Act = Attend | Absent | Start | Speak | Pass | Choose | Close | TimeOut | Skip | Leave | Remove | Vanish | End


# --- refusals ---------------------------------------------------------------------------------------------------------


class Why(StrEnum):
    """Why an act is refused."""

    NOT_HOST = "not_host"
    HOST_LEAVES = "host_leaves"
    NOT_PARTICIPANT = "not_participant"
    """`agent_id` is not a participant (any more)."""
    WRONG_STATUS = "wrong_status"
    """The meeting's status forbids it."""
    NOT_READY = "not_ready"
    """`missing` have not attended."""
    NOT_YOUR_TURN = "not_your_turn"
    """`agent_id` has the turn; None: nobody, while the next speaker is being chosen."""
    TURN_LOST = "turn_lost"
    """The turn meant is over, or never was; `number` is current."""
    NEXT_NOT_SEATED = "next_not_seated"
    """The next speaker named, `agent_id`, is not a participant (any more)."""
    NEXT_MISSING = "next_missing"
    """In this meeting the host names the next speaker."""
    NOTHING = "nothing"
    """There is nothing to change: it was done already."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing changes."""

    why: Why
    status: MeetingStatus
    agent_id: str | None = None
    number: int | None = None
    missing: tuple[str, ...] = ()


# --- changes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something to record. Its data name agents by ids, under keys that end in `_id` or `_ids`.

    Under keys that end in `_external_id` ids stand too; the external ids are stored in their place.
    """

    type: MeetingEventType
    agent_id: str | None = None
    """The agent that it is about."""
    data: dict[str, Any] = field(default_factory=dict)
    has_message: bool = False
    """It is about the message that the act stores."""


@dataclass(frozen=True, slots=True)
class Note:
    """A message of the SDK's own for the history. External ids are stored in the place of its agents' ids."""

    type: MessageType
    about_id: str
    """Its sender."""
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NewTurn:
    """The next turn. It is current from the instant at which the last one ended."""

    number: int
    agent_id: str
    purpose: Purpose
    limit: float | None
    """Seconds; None has no deadline."""
    next_id: str | None = None
    """See `CurrentTurn`."""


@dataclass(slots=True)
class Changes:
    """The changes of an act."""

    status: MeetingStatus | None = None
    seats: dict[str, ParticipantStatus] = field(default_factory=dict)
    """Those whose status changes."""
    ended: list[tuple[NewTurn | None, TurnEnd]] = field(default_factory=list)
    """The turns that end. None is the current one; the opening begins and ends in this act."""
    turn: NewTurn | None = None
    """The turn that is current from now on."""
    starts: Bounds | None = None
    """The meeting starts, with these bounds."""
    end_reason: MeetingEnd | None = None
    """The meeting ends, so no turn is current from now on."""
    speech_turn: int | None = None
    """The number of the turn under which the act's message is stored."""
    events: list[Event] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    withdraws_invitations: bool = False
    """Invitations that nobody has taken up are withdrawn, of those who leave, or of everybody if nobody leaves."""


Decision = Changes | Refused


def agents_named(changes: Changes) -> set[str]:
    """Find the agents whose external ids are stored with the changes."""
    contents = [*(note.content for note in changes.notes), *(event.data for event in changes.events)]
    return {value for content in contents for key, value in content.items() if _names_agent(key) and value}


def render(content: dict[str, Any], external_ids: dict[str, str]) -> dict[str, Any]:
    """Return the content of a note, or the data of an event, as it is stored, with external ids."""
    return {
        key: external_ids.get(value, value) if _names_agent(key) and value else value for key, value in content.items()
    }


def _names_agent(key: str) -> bool:
    return key in _AGENT_KEYS or key.endswith("_external_id")


_AGENT_KEYS = frozenset({"agent", "host", "timed_out_agent", "next_speaker"})
"""Of notes."""
