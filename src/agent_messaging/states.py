"""The states and types that users see, as words. `models` offers them too."""

from __future__ import annotations

from enum import StrEnum


class AgentStatus(StrEnum):
    """Whether somebody serves an agent."""

    ONLINE = "online"
    """A process that lives has a handler for it, or pulls for it."""
    AWAY = "away"
    """None does now, and one did within the setting `handler_grace`: what is sent to the agent is stored."""
    OFFLINE = "offline"
    """None does, nor did a moment ago."""


class SessionStatus(StrEnum):
    """How a session stands."""

    ACTIVE = "active"
    """It is open, and nobody waits for an answer."""
    WAITING = "waiting"
    """It is open, and one side waits for an answer."""
    ENDED = "ended"
    """It is over; the next message of the two opens another one."""


class SessionType(StrEnum):
    """The kind of call that opened a session; informational."""

    SYNC = "sync"
    """An ask opened it."""
    ASYNC = "async"
    """A message whose sender does not wait opened it."""


class MeetingStatus(StrEnum):
    """How a meeting stands."""

    CREATED = "created"
    """Somebody who is invited does not attend yet."""
    READY = "ready"
    """Everybody invited attends; the host may start it."""
    ACTIVE = "active"
    """Somebody has the turn."""
    ENDED = "ended"
    """It is over, and stays so."""


class ParticipantStatus(StrEnum):
    """The state of a participant."""

    INVITED = "invited"
    """It does not attend yet."""
    ATTENDING = "attending"
    """It attends, and the meeting has not started."""
    WAITING = "waiting"
    """It waits for its turn."""
    SPEAKING = "speaking"
    """It has the turn."""
    LEFT = "left"
    """It left, or was removed."""


class MessageType(StrEnum):
    """Who wrote a message: the application, or the SDK about itself."""

    USER_DEFINED = "user_defined"
    """An agent wrote it."""
    SYSTEM = "system"
    """A note of the SDK: who joined, left, passed or was skipped."""
    TIMEOUT = "timeout"
    """A note of the SDK: a turn ended by time."""
    ENDING = "ending"
    """A note of the SDK: the conversation or the meeting has ended."""
    FORWARDED = "forwarded"
    """An ask as it stays with the agent that passed it on. The ask itself, under its id, is with another one."""


class SpeakerSelection(StrEnum):
    """The rule for the next speaker, where the current one names nobody."""

    ROUND_ROBIN = "round_robin"
    """Turns go round in the order of joining."""
    HOST = "host"
    """The host names the next speaker when it speaks; after everybody else the host has the turn."""
    CUSTOM = "custom"
    """A function of the host's process names it."""


class TurnEnd(StrEnum):
    """The way in which a turn ended."""

    SPOKE = "spoke"
    """Its holder spoke."""
    PASSED = "passed"
    """Its holder passed, or its turn handler failed."""
    TIMED_OUT = "timed_out"
    """Its deadline came."""
    SKIPPED = "skipped"
    """The host ended it."""
    LEFT = "left"
    """Its holder left, was removed, or its agent was deregistered."""
    MEETING_ENDED = "meeting_ended"
    """The meeting ended in the middle of it."""


class MeetingEnd(StrEnum):
    """Why a meeting ended."""

    HOST_ENDED = "host_ended"
    """Its host ended it."""
    MAX_TURNS = "max_turns"
    """It has had all its turns."""
    MAX_DURATION = "max_duration"
    """Its time was over."""
    END_WHEN = "end_when"
    """The function `end_when` of its host's process said so."""
    NOBODY = "nobody"
    """The function that chooses its speakers named nobody, or nobody is left who could speak."""


class MeetingEventType(StrEnum):
    """The types of the events of a meeting."""

    MEETING_STARTED = "meeting_started"
    """The host started it."""
    MEETING_ENDED = "meeting_ended"
    """It ended; the reason says how."""
    TURN_CHANGED = "turn_changed"
    """Somebody else has the turn, or nobody any more."""
    PARTICIPANT_JOINED = "participant_joined"
    """An invited agent attends."""
    PARTICIPANT_LEFT = "participant_left"
    """A participant left, was removed, or was deregistered."""
    TIMEOUT_OCCURRED = "timeout_occurred"
    """A turn ended by time."""
    PARTICIPANT_STATUS_CHANGED = "participant_status_changed"
    """A participant's status was set by hand."""
    MESSAGE_POSTED = "message_posted"
    """Somebody spoke."""
    ERROR_OCCURRED = "error_occurred"
    """A turn handler failed."""


class AskState(StrEnum):
    """open → replied | timed_out | ended | failed | cancelled. The first to end it wins."""

    OPEN = "open"
    """Its asker waits."""
    REPLIED = "replied"
    """It has its answer."""
    TIMED_OUT = "timed_out"
    """Its timeout passed; a later answer is kept as an unread message."""
    ENDED = "ended"
    """The conversation was ended."""
    FAILED = "failed"
    """Its handler failed, its process died again and again, or who was asked has refused it."""
    CANCELLED = "cancelled"
    """The asker gave up, its process ended, or the message was withdrawn."""


class DeliveryState(StrEnum):
    """queued → claimed → done | dead | expired | withdrawn. The last four are final; a dead one can be redriven."""

    QUEUED = "queued"
    """It waits to be handled, or until it is due."""
    CLAIMED = "claimed"
    """A process has a lease on it, as a rule for a run of a handler."""
    DONE = "done"
    """It was handled, or read by its agent."""
    DEAD = "dead"
    """It was given up: a dead letter, which can be redriven."""
    EXPIRED = "expired"
    """Nobody began with it in time."""
    WITHDRAWN = "withdrawn"
    """It was taken back before anybody began with it, or its turn ended otherwise."""

    @property
    def is_final(self) -> bool:
        """Whether the duty to handle the message has ended."""
        return self not in (DeliveryState.QUEUED, DeliveryState.CLAIMED)


class TaskState(StrEnum):
    """queued → assigned → running → done | failed | cancelled | expired. The last four are final."""

    QUEUED = "queued"
    """It waits for a worker."""
    ASSIGNED = "assigned"
    """A worker was chosen for it, and no process runs it that the store knows of."""
    RUNNING = "running"
    """A worker is at work on it."""
    DONE = "done"
    """It has its result."""
    FAILED = "failed"
    """It failed for good, or at its last attempt."""
    CANCELLED = "cancelled"
    """Nobody wants it any more."""
    EXPIRED = "expired"
    """Its deadline passed."""

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self not in (TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING)

    @property
    def is_held(self) -> bool:
        """Whether the task takes room of a worker."""
        return self in (TaskState.ASSIGNED, TaskState.RUNNING)


class Prunable(StrEnum):
    """What retention prunes, each kind by an age of its own."""

    MESSAGES = "messages"
    """Notes and conversation messages, with their deliveries. What belongs to a meeting goes with the meeting."""
    DEAD_LETTERS = "dead_letters"
    """Messages that were given up, also of queues."""
    SESSIONS = "sessions"
    """Conversations that have ended, and have no message left."""
    MEETINGS = "meetings"
    """Meetings that have ended, with all that was said in them, their turns and events."""
    IDEMPOTENCY_KEYS = "idempotency_keys"
    """A key that is pruned is new again: a repeat under it stores its message a second time."""
    TASKS = "tasks"
    """Tasks that have ended, with their results."""
    QUEUE_MESSAGES = "queue_messages"
    """Messages of queues that were done, or have expired."""


class Keeping(StrEnum):
    """Why something that is old enough is not pruned."""

    OPEN = "open"
    """It has not ended."""
    UNREAD = "unread"
    """No handler of its recipient has handled it, and its recipient has not read it."""
    AWAITED = "awaited"
    """Somebody waits for its answer, or is still to be told of it."""
    REFERRED = "referred"
    """Something that stays refers to it."""
