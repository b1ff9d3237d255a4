"""The records and enums that users see, and the mapping that query methods return. Data only, no behaviour.

Instants are aware UTC datetimes. Records are snapshots: they do not follow later changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Protocol, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypeVar

from .kinds import HandlerContext as HandlerContext
from .kinds import Kind as Kind
from .states import AgentStatus as AgentStatus
from .states import AskState as AskState
from .states import DeliveryState as DeliveryState
from .states import Keeping as Keeping
from .states import MeetingEnd as MeetingEnd
from .states import MeetingEventType as MeetingEventType
from .states import MeetingStatus as MeetingStatus
from .states import MessageType as MessageType
from .states import ParticipantStatus as ParticipantStatus
from .states import Prunable as Prunable
from .states import SessionStatus as SessionStatus
from .states import SessionType as SessionType
from .states import SpeakerSelection as SpeakerSelection
from .states import TaskState as TaskState
from .states import TurnEnd as TurnEnd

T_OneWay = TypeVar("T_OneWay", default=Any)
"""Payload type of one-way messages; the default of the two others."""
T_Conversation = TypeVar("T_Conversation", default=T_OneWay)
T_Meeting = TypeVar("T_Meeting", default=T_OneWay)
T = TypeVar("T", default=Any)


class _Record(BaseModel):
    # Built at first use, so that importing the package stays quick.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, defer_build=True)


class Organization(_Record):
    """A group of agents."""

    id: UUID
    external_id: str
    name: str
    created_at: datetime
    updated_at: datetime


class Agent(_Record):
    """Somebody who sends and receives. `external_id` is unique over all organizations."""

    id: UUID
    external_id: str
    organization_id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class Session(_Record):
    """One conversation of two agents, from its first message to `end_conversation`."""

    id: UUID
    agent_a_id: UUID
    agent_b_id: UUID
    thread: str | None = None
    """None is the main one."""
    status: SessionStatus
    locked_agent_id: UUID | None = None
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    session_type: SessionType | None = None


class Meeting(_Record):
    """Several agents, one of whom speaks at a time."""

    id: UUID
    host_id: UUID
    status: MeetingStatus
    current_speaker_id: UUID | None = None
    turn_duration: float | None = None
    """Seconds; None is no limit."""
    max_turns: int | None = None
    max_duration: float | None = None
    """Seconds from the start."""
    turn_started_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: MeetingEnd | None = None


class MeetingParticipant(_Record):
    """An agent's place in a meeting; turns go round by `join_order`."""

    id: UUID
    meeting_id: UUID
    agent_id: UUID
    status: ParticipantStatus
    join_order: int
    is_locked: bool
    joined_at: datetime | None = None
    left_at: datetime | None = None


class Message(_Record, Generic[T]):
    """One payload from one sender to one recipient or one meeting."""

    id: UUID
    sender_id: UUID
    recipient_id: UUID | None = None
    session_id: UUID | None = None
    thread: str | None = None
    """Of a conversation; None is the main one."""
    meeting_id: UUID | None = None
    message_type: MessageType
    content: T
    read_at: datetime | None = None
    created_at: datetime
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PrunedKind:
    """What pruning came to, of one kind."""

    kind: Prunable
    number: int
    """So many were pruned, or would be."""
    size_bytes: int
    """What they took, about."""
    kept: Mapping[Keeping, int]
    """Those that are old enough and stay all the same, by the reason."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune came to."""

    kinds: tuple[PrunedKind, ...]
    is_dry_run: bool
    """Nothing was pruned, only counted."""
    released_bytes: int = 0
    """They went back to the system. What did not is filled by new messages."""
    advice: str | None = None
    """What to do where a store that is full of free pages cannot give them back."""

    @property
    def number(self) -> int:
        """Of all kinds."""
        return sum(one.number for one in self.kinds)

    @property
    def size_bytes(self) -> int:
        """Of all kinds, about."""
        return sum(one.size_bytes for one in self.kinds)


class Asker(Protocol):
    """The one who waits for the answer of a handler's run, as the SDK sees it."""

    @property
    def has_left(self) -> bool:
        """Whether it does not wait any more."""
        ...

    async def wait_until_left(self) -> None:
        """Wait until it does not wait any more."""
        ...


class Passing(Protocol):
    """What passes the ask of a handler's run on, as the SDK does it."""

    async def forward(self, to_external_id: str) -> tuple[str, ...]: ...


class Parts(Protocol):
    """What sends the parts of a handler's answer, as the SDK does it."""

    async def send(self, payload: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class FinalAnswer(Generic[T]):
    """The answer of a handler that yields the parts before it: the last thing that it yields.

    Without one, the answer is the list of what the handler has yielded.

    Example:
        @register_conversation_handler(agent="writer")
        async def on_request(request: dict, context: MessageContext) -> AsyncIterator[object]:
            text = ""
            async for token in generate(request["topic"]):
                text += token
                yield token
            yield FinalAnswer({"text": text})
    """

    value: T
    """What a handler that does not yield would return; None answers nothing."""


@dataclass(frozen=True)  # without slots, so that `make_context` can fill it in one go
class MessageContext:
    """The facts about a message that a handler gets beside its payload.

    The SDK makes it. A test of a handler makes its own, with the fields it reads: `MessageContext("alice", "bob")`.
    """

    sender_id: str
    """The sender's external id."""
    receiver_id: str
    """The recipient's external id."""
    organization_id: str = ""
    """The external id of the recipient's organization."""
    handler_context: HandlerContext = HandlerContext.ONE_WAY
    message_id: UUID | None = None
    """The same in every run of this message: use it to make a handler idempotent."""
    session_id: str | None = None
    meeting_id: UUID | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    sender_name: str = ""
    recipient_name: str = ""
    message_type: MessageType = MessageType.USER_DEFINED
    requires_reply: bool = False
    is_meeting_message: bool = False
    turn: Turn | None = None
    """In a turn handler: the turn it is called for, with what was said since the agent's last speech."""
    attempt: int = 1
    """1 in the first run; a repeat (after a failure, a crash or a timeout) counts up."""
    thread: str | None = None
    """Of a conversation message: the name of its thread; None is the main one."""
    topic: str | None = None
    """Of a message that was published: the topic, not the pattern by which the agent is subscribed."""
    asker: Asker | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of an ask; see `is_abandoned`."""
    passing: Passing | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of a conversation message; see `forward`."""
    parts: Parts | None = field(default=None, repr=False, compare=False)
    """Made by the SDK for the run of an ask whose asker reads parts; see `part`."""

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for the answer of this run any more.

        That is so when the asker was cancelled, timed out or died, when the conversation was ended, and when the
        asker's agent was removed, in whatever process. It costs nothing to read, in a thread too. A run that was told
        in no other way sees it within a second, or within the slow poll (0.25 s on SQLite, 2 s on PostgreSQL) if that
        is later. It is False in the run of any other message: nobody waits for its answer.

        Example:
            for page in report.pages:
                if context.is_abandoned:
                    return None
                await render(page)
        """
        return self.asker is not None and self.asker.has_left

    async def wait_abandoned(self) -> None:
        """Wait until nobody waits for the answer of this run any more; see `is_abandoned`.

        An asker in this process, and as a rule one in another, is noticed at once; one that was killed, when its
        process is found dead (0.25 s on SQLite; on PostgreSQL when its lease is over, some seconds). In the run of any
        other message it waits until it is cancelled.

        Raises:
            EventLoopError: It is called in a thread. A plain function reads `is_abandoned`.
        """
        if self.asker is None:
            await asyncio.get_running_loop().create_future()
        else:
            await self.asker.wait_until_left()

    async def part(self, payload: Any) -> None:
        """Send a part of the answer to the asker, before the answer.

        An asker that iterates over `sdk.conversation.ask` gets it, in whatever process, as a rule within some
        milliseconds; what is sent within 50 ms goes together. For any other message, and when the asker has gone, the
        call does nothing: so `send_and_wait` ignores parts, at no cost. Parts are not promised: only the answer is
        kept. After a crash the new run sends its parts from the beginning, and the asker is told.

        A run that is 10,000 parts or 16 MiB ahead of its asker waits here until that has read, or gone.

        Args:
            payload: As of `one_way.send`, and of its size.

        Raises:
            PayloadError: It cannot be stored as JSON, or is too large.
            EventLoopError: It is called in a thread. Make the handler `async def`.

        Example:
            async def on_request(request: dict, context: MessageContext) -> dict:
                for chapter in request["chapters"]:
                    await context.part(await write(chapter))
                return {"chapters": len(request["chapters"])}
        """
        if self.parts is not None:
            await self.parts.send(payload)
        await asyncio.sleep(0)  # a handler that awaits nothing else would keep everything else from running

    async def forward(self, to_external_id: str) -> tuple[str, ...]:
        """Pass the ask of this run on to another agent, whose answer the asker gets as if it had asked that one.

        The ask goes along as it is: the asker, its message with its id, its deadline, and its thread. When this
        returns that is committed, and the run owes no answer: what the handler returns is dropped with a warning, and a
        `reply` to this ask is refused. Repeating the call does nothing more. If it is cancelled the outcome is unknown,
        and a repeat tells.

        Args:
            to_external_id: The new agent.

        Returns:
            The way of the ask: the external ids of all agents that have had it, the new one last.

        Raises:
            SessionStateError: Nobody waits for an answer of this run (any more), the ask went to another agent already,
                or it was passed on 16 times.
            ClaimLostError: The run was taken over by another one, or it has ended.
            MutualWaitError: The new agent waits for the asker, and could not answer; names the circle.
            SessionLockError: The asker waits for the new agent already, in the same thread.
            AgentNotFoundError: There is no such agent (any more); names the closest.
            NoHandlerRegisteredError: Nobody serves the new agent, and it does not wait for the asker's message.
            MailboxFullError: The new agent's mailbox is full.
            InvalidArgumentError: The new agent is the asker, or has the ask already.
            EventLoopError: The call comes from a thread. Make the handler `async def`.
            OutcomeUnknownError: The store did not answer in time. Repeat the call.
            DatabaseError: The store failed; nothing was changed.
            RuntimeError: This is the context of no conversation message.

        Example:
            @register_conversation_handler(agent="front")
            async def on_question(question: dict, context: MessageContext) -> dict | None:
                if question["topic"] == "billing":
                    await context.forward("billing")
                    return None
                return {"text": "Have you turned it off and on again?"}
        """
        if self.passing is None:
            raise RuntimeError(
                "There is no ask to pass on: only the SDK's context of a conversation message has one. In a test of a "
                "handler, give MessageContext(..., passing=...) an object with an async forward()."
            )
        return await self.passing.forward(to_external_id)

    @property
    def sender_external_id(self) -> str:
        """The sender's external id."""
        return self.sender_id

    @property
    def recipient_external_id(self) -> str:
        """The recipient's external id."""
        return self.receiver_id


class Record(dict[str, Any]):
    """A mapping whose keys can be read as attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no key {name!r}; the keys are {', '.join(self)}") from None


class MeetingStatusResponse(Record):
    """How a meeting stands: what `get_meeting_status` returns.

    It is a mapping; the names below are keys and attributes alike. `state`, `host_id` and `current_speaker` are other
    names of what stands before them. Agents are external ids.
    """

    meeting_id: UUID
    status: MeetingStatus
    state: MeetingStatus
    host_external_id: str | None
    host_id: str | None
    current_speaker_external_id: str | None
    current_speaker: str | None
    participants: list[str | None]
    """In the order of joining, the host first, without those who left."""
    participant_count: int
    participant_details: list[Record]
    """Of all of them: agent_id, join_order, status, joined_at, left_at."""
    turn: int | None
    turn_duration: float | None
    turn_started_at: datetime | None
    turn_deadline: datetime | None
    seconds_left: float | None
    """Of the turn, when it was asked."""
    turns_taken: int
    max_turns: int | None
    max_duration: float | None
    """Seconds from the start."""
    deadline: datetime | None
    host_speaks: bool
    speaker_selection: SpeakerSelection
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: MeetingEnd | None


class Invitation(_Record):
    """An invitation to a meeting, for the annotation of a handler: `async def handler(message: Note | Invitation, …)`.

    A handler without an annotation gets it as a mapping of the same names. `context.is_meeting_message` tells it from
    other messages, and `context.meeting_id` is what `attend_meeting` takes.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    meeting_id: UUID
    host: str
    """External id."""
    participants: list[str]
    """External ids in the order of joining, the host first."""
    turn_duration: float | None
    """Seconds; None: turns do not end by time."""
    max_turns: int | None = None
    """With so many turns the meeting ends; None: it does not end by turns."""
    max_duration: float | None = None
    """Seconds from its start after which the meeting ends; None: it does not end by time."""


class EventData(Record):
    """The data of a meeting event: keys in `_id` are UUIDs, each with a twin in `_external_id`."""


_D = TypeVar("_D", default=EventData)


@dataclass(frozen=True, slots=True)
class MeetingEventPayload(Generic[_D]):
    """An event, as its handler receives it.

    Annotated as `MeetingEventPayload[TurnChangedEventData]`, or with another model of `agent_messaging.event_data`, a
    handler gets its data as that model.
    """

    meeting_id: UUID
    event_type: MeetingEventType
    data: _D
    """Its keys can be read as attributes too; they depend on the event."""
    timestamp: datetime = None  # type: ignore[assignment]
    """Now, where it is left out or None."""
    agent_external_id: str | None = None
    """The agent that the event is about; None also where that agent is not known any more."""

    def __post_init__(self) -> None:
        if self.timestamp is None:
            object.__setattr__(self, "timestamp", datetime.now(UTC))
        if type(self.data) is dict:
            object.__setattr__(self, "data", EventData(cast(dict[str, Any], self.data)))


@dataclass(frozen=True, slots=True)
class MeetingEvent(MeetingEventPayload[_D]):
    """A meeting event, with the names that older code gives to the types of events."""

    AGENT_JOINED: ClassVar = MeetingEventType.PARTICIPANT_JOINED
    AGENT_LEFT: ClassVar = MeetingEventType.PARTICIPANT_LEFT
    AGENT_SPOKE: ClassVar = MeetingEventType.MESSAGE_POSTED
    AGENT_TIMED_OUT: ClassVar = MeetingEventType.TIMEOUT_OCCURRED
    MEETING_STARTED: ClassVar = MeetingEventType.MEETING_STARTED
    MEETING_ENDED: ClassVar = MeetingEventType.MEETING_ENDED


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that an agent has, or the end of its meeting; false at the end."""

    number: int | None
    """Acts can be bound to it; None at the end."""
    deadline: datetime | None
    """When it ends by itself; None: never."""
    messages: tuple[Record, ...]
    """The speeches since the agent's last one, oldest first, as `get_meeting_history` returns them."""
    has_ended: bool = False
    """The meeting is over."""
    notes: tuple[Record, ...] = ()
    """The SDK's own notes since then: who joined, left, passed or let its time run out, and the ending. These and the
    messages are the newest hundred of both."""

    def __bool__(self) -> bool:
        return not self.has_ended


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a meeting that has ended."""

    meeting_id: UUID
    reason: MeetingEnd
    """Why it ended."""
    messages: tuple[Record, ...]
    """What was said, oldest first. As of `get_meeting_history`."""
    notes: tuple[Record, ...]
    """What the SDK noted: who joined, left, passed or let its time run out, and the ending."""
    turns: int
    """Turns that were taken, those without a speech included."""
    duration: float
    """Seconds from its start to its end; 0 if it was never started."""


@dataclass(frozen=True, slots=True)
class ReceiptEvent:
    """One fact in the life of a delivery."""

    at: datetime
    event: str
    """stored, forwarded (passed on: the reason says by whom to whom), claimed, failed, lost (its process died),
    returned (given back uncounted), redriven, or a final state."""
    attempt: int | None = None
    process: str | None = None
    """The incarnation id of the process concerned."""
    reason: str | None = None
    host: str | None = None
    """The host of that process; None where there is none, or its end is so long ago (a week) that it is forgotten."""
    pid: int | None = None
    """Its process id there, likewise."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The life of a delivery, as its sender can see it. Each fact in it is durable."""

    message_id: str
    sender_id: str
    """External id."""
    recipient_id: str
    """External id."""
    kind: Kind
    state: DeliveryState
    attempt: int
    """Runs so far; a run given back uncounted is not among them."""
    max_attempts: int
    token: int
    """Claims so far; only the newest can settle."""
    created_at: datetime
    deliver_at: datetime | None
    """When it becomes due, for a scheduled message or a retry; None when it is due."""
    expires_at: datetime | None
    claimed_at: datetime | None
    """The newest claim."""
    settled_at: datetime | None
    read_at: datetime | None
    process: str | None
    """The incarnation id of the process with the newest claim."""
    reasons: tuple[str, ...]
    """Why it failed, oldest first; of a dead letter, why it died."""
    events: tuple[ReceiptEvent, ...]
    """Its life so far, oldest first."""
    way: tuple[str, ...] = ()
    """Of an ask that was passed on: the external ids of the agents that have had it, in order. The last one has it."""

    @property
    def is_final(self) -> bool:
        """Whether the duty to handle it has ended: done, dead, expired or withdrawn."""
        return self.state.is_final


@dataclass(frozen=True, slots=True)
class Subscription:
    """An agent gets what is published on the topics that a pattern matches."""

    agent_id: str
    """External id."""
    pattern: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, with the reasons."""

    message_id: str
    sender_id: str
    recipient_id: str
    kind: Kind
    content: Any
    """Plain JSON. If the stored message is damaged, this is None, the metadata are empty, and the reasons say so."""
    metadata: Mapping[str, Any]
    attempt: int
    reasons: tuple[str, ...]
    created_at: datetime
    died_at: datetime
    topic: str | None = None
    """Of a message that was published: the topic."""
