"""The port of passing on, by which an open ask goes from the agent that has it to another one.

`storage/forwarding.py` says when it may be done.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ...models import AskState
from ...records import dataclass
from .deliveries import Claim, MailboxFull, MutualWait, SessionLocked, Unexpected, UnknownAgents


@dataclass(frozen=True, slots=True)
class NewForward:
    """One agent passes an open ask on."""

    message_id: str
    """The ask."""
    holder_id: str
    """The agent that has it."""
    to_id: str
    kept_id: str
    """The id, new, under which the message stays in the conversation of the asker and the holder."""
    session_id: str
    """The id of the session that is opened if the asker and the new agent have none in the thread."""
    claim: Claim | None = None
    """The claim of the run that passes it on; None: the holder's own code does."""
    only_if_expected: bool = False
    """Nobody serves the new agent: refuse it with Unexpected, unless a wait of that agent is registered."""
    mailbox_limit: int | None = None
    """Refuse it if the new agent's mailbox has so many open deliveries."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of an ask's way."""

    message_id: str
    """The ask."""
    number: int
    """1 is the first."""
    from_id: str
    to_id: str
    kept_id: str
    """The message as it stays with the one that passed it on."""
    kept_seq: int
    stored_at: datetime
    """When that message was stored; of the first hop, when the ask was made."""
    forwarded_at: datetime


@dataclass(frozen=True, slots=True)
class Forwarded:
    """It is committed."""

    asker_id: str
    session_id: str
    """The session of the asker and the new agent."""
    left: float
    """Seconds until the ask's deadline."""
    waiters: frozenset[str] = frozenset()
    """The processes with a registered wait for it."""


class Obstacle(StrEnum):
    """Why an ask cannot be passed on."""

    NOT_ASKED = "not_asked"
    """No ask has this id (any more)."""
    NOT_HELD = "not_held"
    """Another agent has it."""
    PASSED_ON = "passed_on"
    """This agent, or this run, has passed it on to somebody else."""
    ENDED = "ended"
    AT_WORK = "at_work"
    """A run of the agent has it: only that run may pass it on."""
    CLAIM_LOST = "claim_lost"
    """The run's claim is over."""
    TO_ASKER = "to_asker"
    TO_HOLDER = "to_holder"
    TOO_FAR = "too_far"
    """It has been passed on `MOST_HOPS` times."""


@dataclass(frozen=True, slots=True)
class Unforwardable:
    """Nothing was changed."""

    why: Obstacle
    state: AskState | None = None
    """Of an ask that has ended."""
    holder_id: str | None = None
    """The agent that has it, where it is another one than the caller says."""


ForwardRefusal = Unforwardable | UnknownAgents | SessionLocked | MutualWait | Unexpected | MailboxFull
ForwardOutcome = Forwarded | ForwardRefusal


class ForwardingStore(Protocol):
    """Asks on their way from agent to agent."""

    async def forward(self, forward: NewForward, *, owner: str, now: datetime | None = None) -> ForwardOutcome:
        """Pass an open ask on, or answer why not.

        In one commit: a message with the ask's id and content, from the asker to the new agent, is stored in their
        session of the same thread, which is opened if need be; its delivery is queued, with all its attempts before it;
        the ask is its own now, with the same deadline, and nobody has taken it. What was stored before stays with the
        agent that passed it on, under the id `kept_id` and with the type `forwarded`: done and read, whatever claim was
        on it. A run is fenced by its claim: an answer that comes with an older one is refused.
        Repeat-safe by `kept_id`, and by the run or the agent that has passed it on: a repeat to the same agent answers
        as the first time.
        """
        ...

    async def list_hops(self, message_ids: Collection[str]) -> list[Hop]:
        """The ways of these asks, and of asks of which one of these has stayed behind; in order within each."""
        ...
