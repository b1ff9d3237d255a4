"""The storage seam: what a backend must be able to do, one method per verb of the domain, each one atomic state change.

Every method holds these, so none repeats them:

* After it returns, its change is committed and synced. After one of our errors other than `OutcomeUnknownError` nothing
  changed. After `OutcomeUnknownError`, a cancellation or a crash it happened wholly or not at all; the method says
  how to repeat it safely.
* Ids are canonical lower-case UUID text, made by the caller (UUIDv7). External ids never reach `deliveries`.
* `now` is the instant the store is to believe; None means the store's own clock. Durations are seconds.
* Driver errors leave it as the errors of `exceptions.DatabaseError`, never raw.
* A list argument is one statement or a constant number of them, never one per item, and is bounded by the caller.

The life of a delivery, one guarded change per arrow (`delivery/transitions.py` has the same as a table):

    queued ──claim: token+1, attempt+1, owner──▶ claimed ──settle, token newest──▶ done | dead
    claimed ──settle as retry(delay) or give back──▶ queued
    claimed ──release: owner dead, or past the claim's hard end──▶ queued | dead
    queued ──expire | withdraw──▶ expired | withdrawn
    dead ──redrive: attempt 0, token kept──▶ queued

Order: a *lane* is (recipient, kind, sender). `claim` takes from an ordered lane only its oldest due delivery, and only
while no delivery of the lane is claimed. Between lanes of a recipient it goes round robin, so that no sender starves
another.

Crashes: a delivery whose owner died is *suspect* until it is settled. Of one recipient's suspects at most one is
claimed at a time, so that a message that kills its process is found by itself. When an owner dies while it had
suspects claimed, they alone are blamed: what else it had claimed returns to the queue uncounted and unsuspected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ..models import Agent, DeliveryState, Kind, Organization

CLAIM_MARGIN = 60.0
"""Seconds added to a run's limit for the hard end of its claim, past which even a live owner loses it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; nobody asks for its name."""

    processes: bool
    """Several processes, and several SDK objects, may share the store."""
    durable: bool
    """What is stored outlives the process."""


# --- organizations and agents -----------------------------------------------------------------------------------------


class DirectoryStore(Protocol):
    """Organizations and agents."""

    async def add_organization(self, id: str, external_id: str, name: str, *, update_name: bool) -> Organization:
        """Store the organization, or return the one that has this external id.

        With `update_name` the existing one takes the name. The caller compares what it gets with what it wanted.
        Repeat-safe.
        """
        ...

    async def find_organization(self, external_id: str) -> Organization | None: ...

    async def find_organizations_by_id(self, ids: Collection[str]) -> list[Organization]:
        """Those that exist, in any order."""
        ...

    async def list_organizations(self, limit: int, offset: int) -> list[Organization]:
        """A page in order of external id."""
        ...

    async def remove_organization(self, external_id: str) -> bool:
        """Remove it with its agents, their messages and all that hangs on them; False if there was none."""
        ...

    async def add_agent(
        self, id: str, external_id: str, organization_id: str, name: str, *, update_name: bool
    ) -> Agent | None:
        """Store the agent, or return the one that has this external id; None without that organization.

        With `update_name` an existing agent of the same organization takes the name. Repeat-safe.
        """
        ...

    async def find_agents(self, external_ids: Collection[str]) -> list[Agent]:
        """Those that exist, in any order."""
        ...

    async def find_agents_by_id(self, ids: Collection[str]) -> list[Agent]:
        """Those that exist, in any order."""
        ...

    async def list_agents(self, organization_id: str | None, limit: int, offset: int) -> list[Agent]:
        """A page in order of external id, of one organization or of all."""
        ...

    async def remove_agent(self, external_id: str) -> bool:
        """Remove it with its messages, sent and received, and their deliveries; False if there was none."""
        ...


# --- deliveries -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class NewDelivery:
    """One message of a group."""

    message_id: str
    recipient_id: str
    claim: bool = False
    """Claim it in the same commit, if its lane allows (see `DeliveryStore.append`)."""


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
    max_attempts: int
    run_limit: float
    """Seconds a run may take; the hard end of a claim made in this commit is that plus CLAIM_MARGIN."""
    deliver_at: datetime | None = None
    """Due then (wall clock); None is at once."""
    expires_in: float | None = None
    """Seconds from now after which it expires if still queued."""
    mailbox_limit: int | None = None
    """Refuse the group if one of its recipients has this many open (queued or claimed) deliveries."""
    call: str = "send"
    """The public call; with sender and key the identity of an idempotent call."""
    idempotency_key: str | None = None
    fingerprint: str = ""
    """Hash of recipients, payload and options; compared where the key was used before."""
    session_id: str | None = None


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


AppendOutcome = Stored | Duplicate | KeyConflict | UnknownAgents | MailboxFull


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
    after_sender: str | None = None
    """Begin the round with the first lane after this sender; None with the first."""
    origin: str | None = None
    """Take only what this process stored (used while it drains)."""


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


class Settling(StrEnum):
    """How a claim ends."""

    DONE = "done"
    RETRY = "retry"
    DEAD = "dead"
    RETURNED = "returned"
    """Given back on stop: queued again at once, the attempt not counted."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """End one claim."""

    claim: Claim
    how: Settling
    delay: float = 0.0
    """Seconds until a retry is due."""
    reason: str | None = None
    """Why, for RETRY, DEAD and RETURNED; kept in the delivery's log. At most 500 characters, no payload."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the settlements, in their order, and what was claimed in the same commit."""

    moved: list[bool]
    """False: the claim was not the newest (or the delivery is gone), and nothing changed."""
    origins: set[str]
    """The processes that stored what reached a final state: their waiters may want to look."""
    claimed: list[ClaimedDelivery]


@dataclass(frozen=True, slots=True)
class Advanced:
    """What the passing of time changed."""

    due: int
    """Scheduled messages and retries that became due."""
    expired_origins: set[str]
    """The processes that stored what expired."""
    released: int
    """Claims past their hard end that returned to the queue or died."""
    next_in: float | None
    """Seconds until the next change of this kind; None if none is known."""


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
        self, groups: Sequence[NewGroup], *, owner: str, repeat: bool = False, now: datetime | None = None
    ) -> list[AppendOutcome]:
        """Store the groups in their order, each all or nothing, in one commit; one outcome per group.

        Checked per group, in this order: the idempotency key, the agents, the mailboxes. One refused group stores
        nothing and hinders no other. Two groups with one new key in one call: the second is answered like any repeat.
        A delivery with `claim` is claimed for `owner` in the same commit if it is due and its lane has nothing
        queued that is due and nothing claimed by another process; the caller guarantees that the lane's own earlier
        run has ended and that at most the first delivery of a lane in one call asks for it. With `claim` refused it
        is queued. `repeat=True` tells that an earlier, unknown attempt at the same groups may have been committed:
        what is stored under these message ids is then answered `Stored` again, with the claims `owner` still holds.
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

        Never returns what is not due, has expired, or would break an ordered lane. Not repeatable: a lost answer leaves
        claims that return through `release` or their hard end; the owner finds them with `list_claims`.
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

        Only the newest token moves a delivery. Repeating a settlement that took effect answers moved=True again as long
        as the delivery was not claimed meanwhile.
        """
        ...

    async def list_claims(self, owner: str) -> list[Claim]:
        """The open claims of a process, to return those whose answer was lost."""
        ...

    async def find_waiting(self, now: datetime | None = None) -> list[tuple[str, Kind]]:
        """The (recipient, kind) pairs with a due, unclaimed delivery. A plain read, cheap enough for every wake-up."""
        ...

    async def advance(self, now: datetime | None = None) -> Advanced:
        """Let time pass: make scheduled deliveries due, expire, and release claims past their hard end. Repeat-safe.

        Reads first; takes a write lock only if something is to change.
        """
        ...

    async def withdraw(self, message_ids: Collection[str]) -> list[str]:
        """End those that are still queued as withdrawn; returns their ids."""
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

    async def statistics(self, now: datetime | None = None) -> DeliveryStatistics: ...


# --- messages as records ----------------------------------------------------------------------------------------------


class Role(StrEnum):
    """Which side of a message an agent is on."""

    SENDER = "sender"
    RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A message as the listings show it."""

    seq: int
    message_id: str
    kind: Kind
    sender_id: str
    recipient_id: str | None
    content: str
    metadata: str | None
    checksum: int
    created_at: datetime
    read_at: datetime | None
    session_id: str | None


class MessageStore(Protocol):
    """Messages as records, to read and to mark as read. Reading never acknowledges."""

    async def list_messages(
        self,
        agent_id: str,
        role: Role,
        kind: Kind,
        *,
        limit: int,
        offset: int = 0,
        unread_only: bool = False,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        after_seq: int | None = None,
    ) -> list[MessageRow]:
        """A page, newest first; `date_from` and `date_to` are inclusive.

        With `after_seq` the page is oldest first and begins behind that sequence number (for following a mailbox).
        """
        ...

    async def mark_read(
        self, recipient_id: str, kind: Kind, *, sender_id: str | None = None, now: datetime | None = None
    ) -> int:
        """Mark all unread ones as read and return how many they were."""
        ...

    async def count_messages(self, agent_id: str, role: Role, kind: Kind, *, read: bool | None = None) -> int:
        """How many there are: all, those read (True) or those unread (False)."""
        ...


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Service:
    """A process's word that it serves an agent."""

    agent_id: str | None
    """None: every agent."""
    kind: Kind
    explicit: bool
    """By a handler of the agent's own, not by a global handler or by pulling."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """A started SDK object: one incarnation of a process."""

    process_id: str
    host: str
    pid: int
    started_at: datetime
    ended_at: datetime | None
    """When it stopped or was found dead; None while it lives."""
    end_reason: str | None
    """stopped | died."""
    seconds_since_end: float | None
    services: tuple[Service, ...]
    """What it serves, or served when it ended."""


class ProcessStore(Protocol):
    """Who lives, and who serves whom."""

    async def publish(self, process_id: str, services: Collection[Service]) -> None:
        """Replace what this process says it serves."""
        ...

    async def list_processes(self, ended_within: float) -> list[ProcessRow]:
        """The live ones, and those that ended within so many seconds."""
        ...

    async def retire(self, process_id: str) -> None:
        """Mark this process as stopped, and return every claim it still holds to the queue, uncounted. Repeat-safe.

        Nobody looks for the claims of a process that stopped before their hard end. So one whose runs go on all the
        same must not be retired: others notice when it is really gone, and take over.
        """
        ...

    async def release(self, process_ids: Collection[str], now: datetime | None = None) -> int:
        """Mark these processes as died; return their claims to the queue, at the last attempt to the dead letters.

        Guarded by "not ended": each death is dealt with once. Returns how many claims moved. Repeat-safe.
        """
        ...


class Presence(Protocol):
    """This process's sign of life, and its doorbell. Rows are the truth: a lost ring only costs time."""

    process_id: str
    """The incarnation. Changes only between `on_lost` and its return."""
    poll_interval: float
    """Seconds between the slow polls that back the wake-ups."""

    async def start(self, on_ring: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Appear as a live process and listen. Both callbacks are called on the loop that called `start`.

        `on_lost` tells that others may have taken this incarnation for dead: a new `process_id` is in force, every
        claim of the old one is lost, services must be published anew.
        """
        ...

    def ring(self, process_ids: Iterable[str]) -> None:
        """Wake these processes soon. Never blocks, never raises; rings in quick succession are merged."""
        ...

    async def has_changed(self) -> bool:
        """Whether anything may have been committed by others since the last call; cheap."""
        ...

    async def find_dead(self) -> list[str]:
        """The processes not ended that are known to be dead (their lock is free, or their lease is over)."""
        ...

    async def aclose(self) -> None: ...


# --- the whole --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What `doctor` prints of a store; `warnings` each end with what to do."""

    backend: str
    location: str
    """Without a password."""
    version: str
    schema_version: int
    durability: dict[str, str]
    warnings: tuple[str, ...]


class Store(Protocol):
    """A backend. Built without I/O; usable between `open` and `aclose`."""

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def directory(self) -> DirectoryStore: ...
    @property
    def deliveries(self) -> DeliveryStore: ...
    @property
    def messages(self) -> MessageStore: ...
    @property
    def processes(self) -> ProcessStore: ...
    @property
    def presence(self) -> Presence: ...

    async def open(self, *, initialize: bool = True) -> None:
        """Connect, check that the store is ours and safe, and bring the schema up to date.

        `initialize=False` only verifies the schema: `SchemaVersionError` names the command to run. Safe to call from
        many processes at once.
        """
        ...

    async def describe(self) -> StoreFacts: ...

    async def check(self) -> list[str]:
        """Look for damage: the integrity of the store and the checksum of every message. Each finding is a sentence."""
        ...

    async def aclose(self) -> None:
        """Give everything back. Idempotent, also after a failed `open`."""
        ...
