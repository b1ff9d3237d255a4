"""One thing that has happened, as observers and the log are told of it: with ids and names, never with a payload."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from ..records import dataclass


class FactType(StrEnum):
    """What has happened."""

    SENDING = "sending"
    """It is about to be stored. Only `Observer.sending` is given this, before the fact."""
    STORED = "stored"
    """It is committed."""
    REPEATED = "repeated"
    """Its idempotency key, or the id of its task, was used before; nothing was stored."""
    REFUSED = "refused"
    """Nothing was stored; `reason` has the word for why. `outcome_unknown`: it may be stored all the same."""
    CLAIMED = "claimed"
    """A handler's run begins here; with `how` "pulled", an agent's own code has it."""
    HANDLED = "handled"
    """A handler's run has ended here, after `seconds`. `how` says what its end asks for, and is None where it asks for
    nothing: a turn is used by an act, and what was lost settles nothing."""
    SETTLED = "settled"
    """The end of a claim is committed: `how` is "done", "retry" or "returned"."""
    DEAD = "dead"
    """It was given up: a message is a dead letter, a task has failed."""
    LOST = "lost"
    """The end of a claim was refused: somebody else has it, or it is gone."""
    READ = "read"
    """An agent's own code has taken it, without a claim."""
    EXPIRED = "expired"
    """Nobody began with it in time."""
    WITHDRAWN = "withdrawn"
    """It was taken back, or a task was cancelled."""
    FORWARDED = "forwarded"
    """An ask went on to another agent, `recipient`."""
    REDRIVEN = "redriven"
    """It was given up, and is queued again."""
    TAKEN_OVER = "taken_over"
    """What dead processes had, or what ran too long, is queued again; `count` says how much, messages and tasks."""
    TURN_CHANGED = "turn_changed"
    """A meeting has another turn, `turn`, which `recipient` holds; `how` is the act, or "time"."""
    ENDED = "ended"
    """An ask, a conversation or a meeting has ended; `how` says how an ask did."""


class FactSubject(StrEnum):
    """What it happened to."""

    MESSAGE = "message"
    ASK = "ask"
    """A message whose sender waits for the answer."""
    CONVERSATION = "conversation"
    MEETING = "meeting"
    TASK = "task"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that has happened. What does not apply, or is not known where it happened, is None.

    All observers are given the same object. Type checkers keep it frozen; made so in earnest it would take three times
    as long, and five are made for a note.

    Example:
        @sdk.observers.add
        def see(fact: Fact) -> None:
            if fact.type is FactType.DEAD:
                alarm(f"{fact.recipient} could not handle {fact.message_id}: {fact.reason}")
    """

    type: FactType
    subject: FactSubject
    at: datetime
    message_id: str | None = None
    """Also of an ask."""
    task_id: str | None = None
    meeting_id: str | None = None
    session_id: str | None = None
    kind: str | None = None
    """Of a message: `one_way`, `conversation`, `meeting`, `invitation` or `turn`; of a task its type."""
    sender: str | None = None
    """The external id; of a task its supervisor. An agent that is not known here is named by its inner id."""
    recipient: str | None = None
    """Likewise; of a task its worker."""
    conversation_thread: str | None = None
    topic: str | None = None
    claim: str | None = None
    """The same in all facts of one run, from `CLAIMED` on, and in no other run's."""
    attempt: int | None = None
    turn: int | None = None
    how: str | None = None
    reason: str | None = None
    """As receipts show it: no payload, at most 500 characters."""
    seconds: float | None = None
    size_bytes: int | None = None
    """Of the payload and the metadata, in JSON."""
    process_id: str | None = None
    """Of a process that died; several are parted by a space."""
    count: int = 1
    """So many things are told of by this one fact."""
    traceparent: str | None = None
    """The W3C trace context that travels with the message or the task."""

    @property
    def known(self) -> dict[str, Any]:
        """What it says, by the names that a log record has it under: `fact`, `subject`, and the fields that are set."""
        said: dict[str, Any] = {"fact": self.type.value, "subject": self.subject.value}
        for name in _names():
            if (value := getattr(self, name)) is not None:
                said[name] = value
        if self.count != 1:
            said["count"] = self.count
        return said

    def __str__(self) -> str:
        said = " ".join(
            f"{name}={value:.6f}" if isinstance(value, float) else f"{name}={_in_line(value)}"
            for name, value in self.known.items()
            if name not in ("fact", "subject")
        )
        return f"{self.subject.value} {self.type.value}: {said}"


def _in_line(value: object) -> str:
    """A reason may have several lines, and a fact has one: nobody's error looks like a fact of its own."""
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


@cache
def _names() -> tuple[str, ...]:
    return tuple(one.name for one in fields(Fact) if one.name not in ("type", "subject", "at", "count"))
