"""Agents, what they send to each other, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic
from uuid import UUID

from ..kinds import Kind
from ..states import DeliveryState, Keeping, MessageType, Prunable, SessionStatus, SessionType
from .base import Snapshot, T


class Organization(Snapshot):
    """A group of agents."""

    id: UUID
    external_id: str
    name: str
    created_at: datetime
    updated_at: datetime


class Agent(Snapshot):
    """Somebody who sends and receives. `external_id` is unique over all organizations."""

    id: UUID
    external_id: str
    organization_id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class Session(Snapshot):
    """One conversation of two agents, from its first message to `end_conversation`."""

    id: UUID
    agent_a_id: UUID
    agent_b_id: UUID
    thread: str | None = None
    """The name of its thread; None is the main one."""
    status: SessionStatus
    locked_agent_id: UUID | None = None
    """Who waits for an answer; None: nobody does."""
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    session_type: SessionType | None = None


class Message(Snapshot, Generic[T]):
    """One payload from one sender to one recipient or one meeting."""

    id: UUID
    sender_id: UUID
    recipient_id: UUID | None = None
    session_id: UUID | None = None
    thread: str | None = None
    """The thread of a conversation message; None is the main one."""
    meeting_id: UUID | None = None
    message_type: MessageType
    content: T
    read_at: datetime | None = None
    """When its recipient read it; None: it is unread."""
    created_at: datetime
    metadata: dict[str, Any] | None = None
    """What was sent beside the payload, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """An agent gets what is published on the topics that a pattern matches."""

    agent_id: str
    """External id."""
    pattern: str
    created_at: datetime


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
    """Nobody begins with it after that; None: it does not expire."""
    claimed_at: datetime | None
    """The newest claim."""
    settled_at: datetime | None
    """When it ended; None: it has not."""
    read_at: datetime | None
    process: str | None
    """The incarnation id of the process with the newest claim."""
    reasons: tuple[str, ...]
    """Why it failed, oldest first; of a dead letter, why it died."""
    events: tuple[ReceiptEvent, ...]
    """Its life so far, oldest first."""
    way: tuple[str, ...] = ()
    """The external ids of the agents that have had an ask which was passed on, in order. The last one has it."""

    @property
    def is_final(self) -> bool:
        """Whether the duty to handle it has ended: done, dead, expired or withdrawn."""
        return self.state.is_final


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
    """The topic of a message that was published."""


@dataclass(frozen=True, slots=True)
class PrunedKind:
    """What pruning came to, of one kind."""

    kind: Prunable
    number: int
    """How many were pruned, or would be."""
    size_bytes: int
    """The bytes that they took, about."""
    kept: Mapping[Keeping, int]
    """How many are old enough and stay all the same, by the reason."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune came to."""

    kinds: tuple[PrunedKind, ...]
    is_dry_run: bool
    """Whether nothing was pruned, only counted."""
    released_bytes: int = 0
    """The bytes that went back to the system. New messages fill the rest."""
    advice: str | None = None
    """What to do where a store that is full of free pages cannot give them back."""

    @property
    def number(self) -> int:
        """How many were pruned, or would be, of all kinds."""
        return sum(one.number for one in self.kinds)

    @property
    def size_bytes(self) -> int:
        """The bytes that they took, of all kinds, about."""
        return sum(one.size_bytes for one in self.kinds)
