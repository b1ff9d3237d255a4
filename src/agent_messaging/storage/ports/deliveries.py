"""The port of messages on their way: storing, claiming, settling, and what time changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ...models import DeliveryState, Kind, SessionType
from ...records import dataclass
from ..batches import size_of
from .messages import MAIN
from .sessions import EndedAsk


def lane_of(sender_id: str, thread: str) -> str:
    """The lane of what an agent sends in a thread: order is kept, and runs are one at a time, in each by itself."""
    return sender_id + thread  # the id has always the same length


class Answering(StrEnum):
    """How a conversation message treats the open ask, if there is one, of its recipient to its sender.

    The rule is `storage/admission.py`.
    """

    IF_TAKEN = "if_taken"
    """It answers an ask that its sender's own code has taken outside any handler's run. Only for what is made there."""
    REQUIRED = "required"
    """It answers the ask wherever it is made, or the group is refused with NotWaiting. In the run of an ask of the
    recipient it answers that one alone."""


@dataclass(slots=True)
class NewDelivery:
    """One message of a group."""

    message_id: str
    recipient_id: str
    claim: bool = False
    """Claim it in the same commit, if its lane allows (see `DeliveryStore.append`)."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a group is published: it goes to the agents that are subscribed when it commits, but to its sender."""

    first_id: str
    """The id of its first message, the others' follow it: made with `topics.SPARE_BITS` spare bits."""
    topic: str
    is_internal: bool = False
    """It goes to agents of the sender's organization alone."""


@dataclass(slots=True)
class NewGroup:
    """One call's messages: the same payload from one sender to each recipient, stored all or not at all."""

    kind: Kind
    sender_id: str
    content: str
    """JSON text, already checked: no NUL, no lone surrogate, no NaN."""
    metadata: str | None
    """JSON text of an object, checked likewise."""
    checksum: int
    """crc32 of content and metadata as `payloads.checksum` computes it; stored, returned, never interpreted."""
    deliveries: list[NewDelivery]
    """Of a publication `append` fills them in, in the order of the agents' ids."""
    max_attempts: int
    run_limit: float
    """Seconds a run may take; the hard end of a claim made in this commit is that plus CLAIM_MARGIN."""
    deliver_at: datetime | None = None
    """Due then (wall clock); None is at once."""
    expires_in: float | None = None
    """Seconds from now after which it expires if still queued."""
    mailbox_limit: int | None = None
    """Refuse the group if one of its recipients has this many open (queued or claimed) deliveries.

    What the call itself takes out of one, by answering an ask that is still queued, makes room from the next call on.
    """
    call: str = "send"
    """The public call; with sender and key the identity of an idempotent call."""
    idempotency_key: str | None = None
    fingerprint: str = ""
    """Hash of recipients, payload and options; compared where the key was used before."""
    thread: str = MAIN
    """Of kind conversation: the one that it belongs to."""
    is_anywhere: bool = False
    """Of one that `answers`: where the ask that is meant is in another thread, it belongs there instead."""
    session_id: str | None = None
    """Of kind conversation: the id of the session that is opened if the thread of the two agents has no open one."""
    session_type: SessionType = SessionType.ASYNC
    """Of a session that is opened."""
    answers: Answering | None = None
    """Of kind conversation; None answers nothing."""
    ask_timeout: float | None = None
    """Of kind conversation: makes it an ask, with its deadline so many seconds from now. It has one recipient."""
    is_streamed: bool = False
    """Of an ask: its asker reads parts, so a stream begins with it (see `PartStore`)."""
    within: str | None = None
    """The id of the message in whose run the call is made."""
    answers_within: bool = False
    """Of one that `answers`: it answers the ask `within`, and no other one."""
    only_if_expected: bool = False
    """Of an ask whose recipient nobody serves: refuse it with Unexpected, unless the recipient waits for it by an open
    ask that it answers, or a registered wait."""
    notify: bool = False
    """Of kind conversation: leave a notice for `SessionStore.take_notices`, unless the message is an answer, somebody
    waits for it, or its recipient waits for an answer of its sender."""
    publication: Publication | None = None

    @property
    def lane(self) -> str:
        """Of each recipient and kind, the lane that it goes into."""
        return self.sender_id + self.thread  # `lane_of`, written out: each message is asked more than once

    @property
    def size(self) -> int:
        """Bytes of what it stores; of a publication whose recipients are not known yet, for one of them."""
        if self.metadata is None and self.content.isascii():  # most are: a call less for each
            return len(self.content) * (len(self.deliveries) or 1)
        return size_of(self.content, self.metadata) * (len(self.deliveries) or 1)


@dataclass(frozen=True, slots=True)
class Claim:
    """What identifies a claim: `settle` with another token than the newest is refused."""

    seq: int
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The group is committed. `claims` has those of its deliveries that were claimed with it, by message id."""

    claims: dict[str, Claim] = field(default_factory=dict)
    session_id: str | None = None
    """Of kind conversation: the session it went to."""
    answered: EndedAsk | None = None
    """The ask it answered. It is then done and read from the start: its recipient's waiting call has it."""
    waiters: frozenset[str] = frozenset()
    """The processes with a registered wait for it: one of them will take it."""
    is_asked: bool = False
    """Of kind conversation: its recipient waits for an answer of its sender, which this is not."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The key was used for the same call before; these are its message ids, in the order of its recipients."""

    message_ids: list[str]


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The key was used before with another fingerprint; nothing was stored."""


@dataclass(frozen=True, slots=True)
class UnknownAgents:
    """The sender or recipients do not exist (any more); nothing was stored."""

    ids: list[str]


@dataclass(frozen=True, slots=True)
class MailboxFull:
    """These recipients' mailboxes are full; nothing was stored."""

    recipient_ids: list[str]


@dataclass(frozen=True, slots=True)
class TooManySubscribers:
    """More agents are subscribed to the topic than a publication of this size goes to; nothing was stored."""

    limit: int


@dataclass(frozen=True, slots=True)
class NotWaiting:
    """The recipient has no open ask to the sender that this answers; nothing was stored."""

    session_id: str | None
    """Their open session in the thread; None if they have none."""
    threads: Sequence[str] = ()
    """Where `is_anywhere`: a few of the threads in which it has some, and more than one may be meant."""


@dataclass(frozen=True, slots=True)
class SessionLocked:
    """The sender has an open ask to the recipient in this thread already; nothing was stored."""

    ask_id: str
    thread: str = MAIN


@dataclass(frozen=True, slots=True)
class MutualWait:
    """The ask would close a circle of asks none of which could end; nothing was stored."""

    path: list[str]
    """The agents in it: from the recipient, each waiting for the next, to the sender, and the recipient again."""


@dataclass(frozen=True, slots=True)
class Unexpected:
    """Nobody waits for the ask (`NewGroup.only_if_expected`); nothing was stored."""


AppendOutcome = (
    Stored
    | Duplicate
    | KeyConflict
    | UnknownAgents
    | MailboxFull
    | TooManySubscribers
    | NotWaiting
    | SessionLocked
    | MutualWait
    | Unexpected
)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Ask for up to `limit` deliveries of one kind for one recipient."""

    recipient_id: str
    kind: Kind
    limit: int
    run_limit: float
    """Seconds a run may take; see NewGroup.run_limit."""
    ordered: bool = True
    """False gives up the order: any due delivery may be taken, oldest first within a sender."""
    after_lane: str | None = None
    """Begin the round with the first lane after this one; None with the first."""
    origin: str | None = None
    """Take only what this process stored (used while it drains)."""


@dataclass(frozen=True, slots=True)
class TurnRef:
    """Names a turn."""

    meeting_id: str
    number: int


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A claim with all that its run needs."""

    claim: Claim
    message_id: str
    kind: Kind
    sender_id: str
    recipient_id: str
    content: str
    metadata: str | None
    checksum: int
    max_attempts: int
    created_at: datetime
    origin: str | None
    """The process that stored it."""
    session_id: str | None = None
    thread: str = MAIN
    ask_timeout: float | None = None
    """Of an ask: the seconds its asker waits. Its run may take so long, if that is more than the request's limit."""
    turn: TurnRef | None = None
    """Of kind turn: the one it is about. None where that is over, as of a dead letter that was redriven too late."""
    topic: str | None = None
    """Of a publication: where it was published."""
    is_streamed: bool = False
    """Of an ask: its asker reads parts."""

    @property
    def lane(self) -> str:
        """Its lane among those of its recipient and kind."""
        return self.sender_id + self.thread  # `lane_of`

    @property
    def size(self) -> int:
        """Bytes of what it brings."""
        return size_of(self.content, self.metadata)


class Settling(StrEnum):
    """How a claim ends."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    RETURNED = "returned"
    """Given back on stop: queued again at once, the attempt not counted."""

    @property
    def event(self) -> str | None:
        """The entry that it leaves in the delivery's log; DONE leaves none."""
        return _EVENTS[self]

    @property
    def state(self) -> DeliveryState:
        """Where it puts the delivery."""
        return _STATES[self]


_EVENTS = {Settling.DONE: None, Settling.RETRY: "failed", Settling.DEAD: "dead", Settling.RETURNED: "returned"}
_STATES = {
    Settling.DONE: DeliveryState.DONE,
    Settling.RETRY: DeliveryState.QUEUED,
    Settling.DEAD: DeliveryState.DEAD,
    Settling.RETURNED: DeliveryState.QUEUED,
}


@dataclass(frozen=True, slots=True)
class NewAnswer:
    """What the run of a conversation message answers to its sender; already encoded and checked."""

    message_id: str
    content: str
    checksum: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """End one claim."""

    claim: Claim
    how: Settling
    delay: float = 0.0
    """Seconds until a retry is due."""
    reason: str | None = None
    """Why, for RETRY, DEAD and RETURNED; kept in the delivery's log. At most 500 characters, no payload."""
    answer: NewAnswer | None = None
    """With DONE, of kind conversation: stored in the same commit (see `DeliveryStore.settle`)."""

    @property
    def size(self) -> int:
        """Bytes of what it stores."""
        if self.reason is not None:
            return size_of(self.reason, None if self.answer is None else self.answer.content)
        if self.answer is None:
            return 0
        return len(self.answer.content) if self.answer.content.isascii() else size_of(self.answer.content)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the settlements, in their order, and what was claimed in the same commit."""

    moved: list[bool]
    """False: the claim was not the newest (or the delivery is gone), and nothing changed."""
    origins: set[str]
    """The processes that stored what reached a final state, or wait for what was stored: they may want to look."""
    claimed: list[ClaimedDelivery]
    ended_asks: list[EndedAsk] = field(default_factory=list)
    """The asks that these settlements ended."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """What the passing of time changed."""

    due: int
    """Scheduled messages and retries that became due."""
    expired_origins: set[str]
    """The processes that stored what expired, asked what timed out, or are at work on such an ask."""
    released: int
    """Claims past their hard end that returned to the queue or died."""
    next_in: float | None
    """Seconds until the next change of this kind; None if none is known."""
    expired: Collection[str] = ()
    """The ids of the messages that nobody had begun with in time, by their ends, then as stored."""


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A delivery as `receipts` shows it."""

    message_id: str
    sender_id: str
    recipient_id: str
    kind: Kind
    state: DeliveryState
    attempt: int
    max_attempts: int
    token: int
    created_at: datetime
    deliver_at: datetime | None
    expires_at: datetime | None
    claimed_at: datetime | None
    settled_at: datetime | None
    read_at: datetime | None
    owner: str | None
    log: list[dict[str, object]]
    """What went wrong, oldest first: {"at": ISO 8601, "event", "attempt", "process", "claimed_at", "reason"}.

    The event is failed, lost, returned, redriven or dead.
    """


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A dead letter."""

    message_id: str
    sender_id: str
    recipient_id: str
    kind: Kind
    content: str
    metadata: str | None
    checksum: int
    attempt: int
    created_at: datetime
    died_at: datetime
    log: list[dict[str, object]]
    topic: str | None = None
    """Of a publication: where it was published."""


@dataclass(frozen=True, slots=True)
class DeliveryStatistics:
    """The state of the whole store's deliveries, for `doctor`."""

    counts: dict[DeliveryState, int]
    oldest_queued_age: float | None
    """Seconds the oldest due, unclaimed delivery has been due; None if there is none."""
    oldest_queued_recipient_id: str | None
    oldest_claim_age: float | None
    """Seconds since the oldest open claim was made."""


class DeliveryStore(Protocol):
    """Messages on their way. All of it is safe under any number of processes."""

    async def append(
        self,
        groups: Sequence[NewGroup],
        *,
        owner: str,
        repeat: bool = False,
        budget: float | None = None,
        now: datetime | None = None,
    ) -> list[AppendOutcome]:
        """Store the groups in their order, each all or nothing, in one commit; one outcome per group.

        Checked per group, in this order: the idempotency key, the agents, and of kind conversation whether it answers,
        the open asks (SessionLocked), the circles (MutualWait; see `storage/circles.py`), whether it is expected; last
        the mailboxes, which an answer does not count for. One refused group stores nothing and hinders no other. Two
        groups with one new key in one call: the second is answered like any repeat.
        A conversation message has one recipient. It goes to the open session of the pair in its thread, or opens one.
        One that answers an ask ends it as `replied`, is itself done and read, and the message of the ask becomes read
        with it. Where a wait is registered for its lane, it is never claimed here.
        A delivery with `claim` is claimed for `owner` in the same commit if it is due, its lane has nothing queued that
        is due and nothing claimed by another process, and the owner has not ended; the caller guarantees that the
        lane's own earlier run has ended and that at most the first delivery of a lane in one call asks for it. With
        `claim` refused it is queued. `repeat=True` tells that an earlier, unknown attempt at the same groups may have
        been committed: what is stored under these message ids is then answered `Stored` again, with the claims `owner`
        still holds, and with the session and the ask it answered. `budget` is how many seconds a store
        that repeats failed tries by itself may do so: it alone knows whether one of them may have been committed.
        A publication goes to each agent once that is subscribed to its topic when the transaction commits, and the
        changes of subscriptions and the removals of agents come wholly before or wholly after it. With `repeat` it goes
        to those that it went to. Publications that are too much for one transaction together (`topics.address`) are
        refused with DatabaseError, for the caller to store them apart.
        """
        ...

    async def find_repeat(
        self, sender_id: str, call: str, idempotency_key: str, fingerprint: str
    ) -> AppendOutcome | None:
        """What `append` would answer to a repeat of this call: Duplicate, KeyConflict, or None if the key is new."""
        ...

    async def claim(
        self, requests: Sequence[ClaimRequest], *, owner: str, now: datetime | None = None
    ) -> list[ClaimedDelivery]:
        """Claim what the requests ask for: at most `limit` each, lanes round robin, oldest first within a lane.

        Never returns what is not due, has expired, would break an ordered lane, or belongs to a lane for which a wait
        is registered. A claimed delivery whose run has made an ask that is open does not hold its lane: it waits
        itself. An owner that has ended (retired, or released by others that took it for dead) gets nothing, here and
        with `append` and `settle`: nobody would look for the claims of one that ended. Not repeatable: a lost answer
        leaves claims that return through `release` or their hard end; the owner finds them with `list_claims`.
        """
        ...

    async def settle(
        self,
        settlements: Sequence[Settlement],
        requests: Sequence[ClaimRequest] = (),
        *,
        owner: str,
        now: datetime | None = None,
    ) -> Settled:
        """End claims and, in the same commit, claim again what `requests` ask for (also what these settlements freed).

        Only the newest token moves a delivery. Of an ask, DEAD ends it as `failed` with the reason. An answer is stored
        as a message in the delivery's session, done from the start: if the delivery is an ask that is open it ends it
        as `replied` and is read, otherwise it is unread; the message of an ask becomes read with its answer, also with
        a late one. Nothing is stored for a settlement that did not move.
        Repeating a settlement that took effect answers moved=True again, and tells again of the ask that it ended, as
        long as the delivery was not claimed meanwhile, whatever else became of it (redriven, expired, withdrawn, read);
        another end than the one that took effect is refused.
        """
        ...

    async def list_claims(self, owner: str) -> list[Claim]:
        """The open claims of a process, to return those whose answer was lost."""
        ...

    async def find_waiting(self, now: datetime | None = None) -> list[tuple[str, Kind]]:
        """The (recipient, kind) pairs with a due, unclaimed delivery. A plain read, cheap enough for every wake-up."""
        ...

    async def advance(self, now: datetime | None = None) -> Advanced:
        """Let time pass. Repeat-safe.

        In this order: time out asks, so that what is queued for those that are over expires, and what returns for them
        too; release claims past their hard end; expire, because what returns may have expired; make scheduled
        deliveries due, because what expired never becomes due.

        Reads first; takes a write lock only if something is to change.
        """
        ...

    async def withdraw(self, message_ids: Collection[str]) -> list[str]:
        """End those that are still queued as withdrawn; returns their ids. Of an ask, that ends it as `cancelled`."""
        ...

    async def list_receipts(self, message_ids: Collection[str]) -> list[ReceiptRow]:
        """Those that exist, in any order."""
        ...

    async def list_dead(self, recipient_id: str | None, limit: int, offset: int) -> list[DeadRow]:
        """A page, newest first."""
        ...

    async def redrive(self, message_ids: Collection[str] | None, recipient_id: str | None) -> list[tuple[str, str]]:
        """Queue dead letters again, those named or all (of a recipient): attempt 0, token kept, due now, no expiry.

        Returns (message id, recipient id) of those that moved.
        """
        ...

    async def statistics(self, now: datetime | None = None) -> DeliveryStatistics:
        """The deliveries of the whole store in figures. Ages are never below 0. A plain read."""
        ...
