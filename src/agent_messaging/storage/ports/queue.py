"""The port of queues: what supervisors and workers tell each other, by priority, each message settled once.

A queue is an agent's, and begins with its first message: its name is any external id, and nothing else need know it.
Two messages are the same if agent and message id are the same, so everything said of one queue concerns no other. The
life of a message is that of a delivery (see `ports`), without `withdrawn`:

    queued ──claim: token+1, attempt+1, owner, lease──▶ claimed ──settle, token newest──▶ done | dead
    claimed ──settle as retry(delay) or give back──▶ queued
    claimed ──owner dead, or the lease over──▶ queued | dead, at the last attempt
    queued ──expire──▶ expired
    dead ──redrive: attempt 0, token kept──▶ queued

`storage/workload.py` says what the end of a claim does, for every backend.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol

from ...models import DeliveryState
from ...records import dataclass
from ..batches import size_of
from .deliveries import Settling
from .retention import Stock

PRIORITIES = range(5)
"""0 is taken first (critical), 4 last (background)."""


@dataclass(frozen=True, slots=True)
class NewQueueMessage:
    """A message for a queue."""

    message_id: str
    """Any external id, made by the caller."""
    agent_id: str
    """Whose queue it goes into. Of a task's message (`NewTask.message`) empty: the worker that is chosen."""
    sender_id: str
    type: str
    priority: int
    content: str
    """JSON text, already checked: no NUL, no lone surrogate, no NaN."""
    metadata: str | None
    """JSON text of an object, checked likewise: what the sender says beside the content."""
    checksum: int
    """crc32 of content and metadata as `payloads.checksum` computes it; stored, returned, never interpreted."""
    max_attempts: int
    expires_in: float | None = None
    """Seconds from now after which it expires if still queued."""

    @property
    def size(self) -> int:
        """Bytes of what it stores."""
        return size_of(self.content, self.metadata)


@dataclass(frozen=True, slots=True)
class Put:
    """What became of the messages, in their order."""

    stored: list[bool]
    """False: the queue has, or had and did not forget, a message with this id. Nothing changed."""
    listeners: set[str] = field(default_factory=set)
    """The processes that wait for messages of these agents (`QueueStore.listen`), to be rung."""


@dataclass(frozen=True, slots=True)
class QueueClaim:
    """What identifies a claim: `settle` with another token than the newest is refused."""

    agent_id: str
    message_id: str
    token: int


@dataclass(frozen=True, slots=True)
class ClaimedQueueMessage:
    """A claim with the message."""

    claim: QueueClaim
    attempt: int
    """1 in the first run."""
    sender_id: str
    type: str
    priority: int
    content: str
    metadata: str | None
    checksum: int
    max_attempts: int
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class QueueSettlement:
    """End one claim."""

    claim: QueueClaim
    how: Settling
    delay: float = 0.0
    """Seconds until a retry is due."""
    reason: str | None = None
    """Why, for RETRY, DEAD and RETURNED; with DONE it says that the work itself failed, for good. At most 500
    characters, no content."""


@dataclass(frozen=True, slots=True)
class QueueAdvanced:
    """What the passing of time changed."""

    released: int = 0
    """Claims whose lease was over, that returned to their queue or died."""
    expired: int = 0
    due: int = 0
    """Retries that became due."""
    next_in: float | None = None
    """Seconds until the next change of this kind; None if none is known."""


@dataclass(frozen=True, slots=True)
class QueueMessageRow:
    """A message as the listings show it."""

    agent_id: str
    message_id: str
    sender_id: str
    type: str
    priority: int
    content: str
    metadata: str | None
    checksum: int
    state: DeliveryState
    token: int
    attempt: int
    max_attempts: int
    owner: str | None
    """The process of the newest claim."""
    created_at: datetime
    expires_at: datetime | None
    claimed_at: datetime | None
    settled_at: datetime | None
    reason: str | None
    """The newest reason: of the last failure, of the death, or of an end as DONE that was a failure."""


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The state of one queue, or of all."""

    counts: dict[DeliveryState, int]
    """Of messages that are not pruned. States that no message has are left out."""
    failed: int
    """Those settled as DONE with a reason."""
    by_priority: dict[int, int]
    """Open ones (queued or claimed)."""
    settled_lately: int
    """Those that reached a final state within the last 60 seconds."""
    oldest_queued_age: float | None
    """Seconds since the oldest message that is due and unclaimed was put; None if there is none."""


class QueueStore(Protocol):
    """Queues of messages. All of it is safe under any number of processes."""

    async def put(self, messages: Sequence[NewQueueMessage], *, now: datetime | None = None) -> Put:
        """Store the messages in one commit. Repeat-safe by (agent, message id): a repeat stores nothing.

        Between messages of one queue and priority the order of this call, and of calls that were made one after the
        other, is the order of claims.
        """
        ...

    async def claim(
        self,
        agent_id: str,
        limit: int,
        *,
        owner: str,
        lease: float,
        types: Collection[str] | None = None,
        now: datetime | None = None,
    ) -> list[ClaimedQueueMessage]:
        """Claim up to `limit` messages of a queue: by priority, oldest first within one; of these types, or of any.

        Never returns what is not due or has expired. Messages whose contents are together above `batches.MAX_BYTES`
        come in several calls. The claim ends by itself `lease` seconds from now, unless it is renewed, and with its
        owner. Not repeatable: a lost answer leaves claims that end so. An owner that is known to have ended gets
        nothing.
        """
        ...

    async def settle(self, settlements: Sequence[QueueSettlement], *, now: datetime | None = None) -> list[bool]:
        """End claims in one commit. False: the token was not the newest (or the message is gone); nothing changed.

        A retry at the last attempt is a death. Repeating a settlement that took effect answers True again, as long as
        the message was not claimed meanwhile; another end than the one that took effect is refused.
        """
        ...

    async def renew(self, claims: Sequence[QueueClaim], *, lease: float, now: datetime | None = None) -> list[bool]:
        """Let these claims end `lease` seconds from now. False: that one is no longer held. Repeat-safe."""
        ...

    async def release(self, owners: Collection[str], *, now: datetime | None = None) -> int:
        """Return the claims of these processes, which are known to be dead; at the last attempt the message dies.

        Returns how many they were. Repeat-safe. If one of them had suspects, they alone are blamed; otherwise all that
        it had is: it is counted, and suspect from now on, until a claim of it is settled, and of suspects an owner gets
        one at a time. Where the store knows processes, `ProcessStore.release` does this in its own commit, and
        `ProcessStore.retire` returns the claims of one that stopped, uncounted.
        """
        ...

    async def advance(self, *, now: datetime | None = None) -> QueueAdvanced:
        """Let time pass: end leases, expire, make retries due, in this order. Repeat-safe.

        Reads first; takes a write lock only if something is to change. Changes a bounded number at once: `next_in` is 0
        where there are more.
        """
        ...

    async def listen(self, process_id: str, agent_ids: Collection[str]) -> None:
        """Replace what this process waits for; `put` names it from now on. Ends with the process. Repeat-safe.

        Who listens looks into the queue after this has returned: what was put before rings nobody. A backend that wakes
        those who wait by itself does nothing here.
        """
        ...

    async def list_messages(
        self, agent_id: str | None, states: Collection[DeliveryState] | None, limit: int, offset: int
    ) -> list[QueueMessageRow]:
        """A page, newest first: of one queue or of all, in these states or in any."""
        ...

    async def redrive(self, agent_id: str | None, message_ids: Collection[str] | None) -> int:
        """Queue dead ones again, those named or all: attempt 0, token kept, due now, no expiry. Returns how many."""
        ...

    async def statistics(self, agent_id: str | None = None, *, now: datetime | None = None) -> QueueStatistics:
        """One queue, or all of them, in figures. A plain read."""
        ...

    async def prune(
        self,
        older_than: float,
        limit: int,
        *,
        states: Collection[DeliveryState] | None = None,
        now: datetime | None = None,
    ) -> int:
        """Forget up to `limit` messages that reached a final state more than so many seconds ago; returns how many.

        Of these final states, or of any. Never touches an open one. A forgotten id is new again. Repeat-safe.
        """
        ...

    async def measure(
        self, older_than: float, *, states: Collection[DeliveryState] | None = None, now: datetime | None = None
    ) -> Stock:
        """Count what `prune` would forget without a limit. The bytes are those of the contents, about."""
        ...
