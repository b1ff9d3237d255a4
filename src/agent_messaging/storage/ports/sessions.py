"""The port of conversations: sessions, asks, and whoever waits for a message.

A *session* belongs to a pair of agents and a thread. The pair's first message there opens it (`DeliveryStore.append`);
after `end_session` the next message opens a new one. At most one session of a pair and thread is open.

An *ask* is a conversation message whose sender waits. Its life, one guarded change per arrow, the first one wins:

    open ──answered: append or settle──▶ replied
    open ──its deadline, by the asker or by `advance`──▶ timed_out
    open ──end_session──▶ ended
    open ──its delivery became dead, or its responder refused it──▶ failed
    open ──its asker gave up, its process ended, or it was withdrawn──▶ cancelled

Whoever loses the race changes nothing and reports what the row says. An agent has at most one open ask to another one
in each thread.
An ask that ends while its delivery is still queued, or returns to the queue after it ended, takes the delivery along:
done if it was replied, else expired. A claimed delivery is left to its run. While it is open, an ask may go on to
another agent (`ForwardingStore`): its responder, its session and its delivery are others then.

A *wait* says that an agent's own code waits for the next message of another one, in one thread or in any. While it is
registered no `claim` and no claiming `append` takes from these lanes; what is queued there is taken by `take_awaited`.
Whoever registers it calls that before it sleeps and whenever `find_waits` says so.

Where a method takes a `thread` to look into, None is all of them.

The messages of one session are committed in the order of their seq, so that each reading is a prefix of the later ones.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from datetime import datetime
from typing import Protocol

from ...models import AskState, SessionStatus, SessionType
from ...records import dataclass
from .messages import EVERYTHING, MAIN, MessageRow, Narrowing


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One conversation of two agents. `agent_a_id` is the smaller id of the two."""

    session_id: str
    agent_a_id: str
    agent_b_id: str
    thread: str
    session_type: SessionType
    waiting_id: str | None
    """The agent that waits for an answer: the one that began to wait first; None if nobody waits."""
    created_at: datetime
    updated_at: datetime
    """When its last message was stored, or it ended."""
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class SessionCounts:
    """How many messages a session has, the SDK's own (such as its ending) included."""

    messages: int
    read: int


@dataclass(frozen=True, slots=True)
class SessionStatistics:
    """An agent's conversations, all of them and ended ones included; messages are those of the application."""

    sessions: int
    open_sessions: int
    sent: int
    received: int
    unread: int
    partners: int


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The message that answered an ask."""

    message_id: str
    content: str
    metadata: str | None
    checksum: int


@dataclass(frozen=True, slots=True)
class AskRow:
    """An ask as it stands."""

    ask_id: str
    """The id of its message."""
    session_id: str
    asker_id: str
    responder_id: str
    state: AskState
    origin: str | None
    """The process that asked."""
    deadline_at: datetime
    answer: AnswerRow | None = None
    """Where it is replied (and the answer has not been removed)."""
    reason: str | None = None
    """Where it failed: why, as the delivery's log says it."""
    worker: str | None = None
    """The process at work on its message; `find_ended_asks` does not say it."""


@dataclass(frozen=True, slots=True)
class WaitingQuestion:
    """An ask that waits for an agent's answer."""

    message: MessageRow
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class EndedAsk:
    """An ask that a call has just ended, to tell its asker."""

    ask_id: str
    state: AskState
    origin: str | None


@dataclass(frozen=True, slots=True)
class EndedSession:
    """What `end_session` ended."""

    session_id: str
    asks: list[EndedAsk]
    processes: set[str]
    """Those with an ask or a wait that ended with it, and those at work on such an ask."""


@dataclass(frozen=True, slots=True)
class NewWait:
    """An agent's own code waits for a message of another agent."""

    wait_id: str
    recipient_id: str
    sender_id: str
    timeout: float | None
    """Seconds after which it holds nothing back, whatever became of its process; None: as long as that lives."""
    within: str | None = None
    """The id of the message in whose run it waits: meanwhile that run does not hold its lane."""
    thread: str | None = None
    """None: a message of any thread."""


@dataclass(frozen=True, slots=True)
class WaitRow:
    """A registered wait."""

    wait_id: str
    is_ready: bool
    """A message is there that `take_awaited` would take."""
    is_ended: bool
    """The session that it waits in was ended since it was registered; for any thread, that of the main one."""


@dataclass(frozen=True, slots=True)
class NewEnding:
    """The message by which the SDK records that a session was ended; already encoded."""

    message_id: str
    content: str
    checksum: int


@dataclass(frozen=True, slots=True)
class ReadPage:
    """What was read, oldest first."""

    messages: list[MessageRow] = field(default_factory=list)
    is_last: bool = True
    """Nothing more was unread."""


class SessionStore(Protocol):
    """Conversations. Storing their messages is `DeliveryStore.append`; the answer of a run is part of `settle`."""

    # --- sessions ---

    async def find_session(self, session_id: str) -> SessionRow | None:
        """A session as it stands; None if there is none. A plain read."""
        ...

    async def find_open_session(self, agent_id: str, other_id: str, thread: str = MAIN) -> SessionRow | None:
        """The open session of this pair in a thread, in either order."""
        ...

    async def list_sessions(
        self,
        agent_id: str,
        *,
        open_only: bool = False,
        status: SessionStatus | None = None,
        limit: int,
        offset: int = 0,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        before_id: str | None = None,
    ) -> list[SessionRow]:
        """A page of an agent's sessions, newest first: those of this status, and opened between the dates.

        With `before_id` those that were opened before that one. The order is that of the ids, so it need not exist.
        """
        ...

    async def end_session(
        self, agent_id: str, other_id: str, ending: NewEnding, thread: str = MAIN, *, now: datetime | None = None
    ) -> EndedSession | None:
        """End the open session of this pair in a thread; None if there is none.

        In one commit: the session is ended, its open asks are `ended`, queued deliveries of those expire, the waits of
        the two for this thread are marked as ended, and the ending is stored as a message of type `ending` from the
        first agent to the second: done and read from the start. A wait for any thread ends with the main one. Other
        queued messages stay and are handled, and so does everything in other threads.
        Repeat-safe by the id of the ending: a repeat answers as the first time.
        """
        ...

    async def count_messages(self, session_id: str) -> SessionCounts:
        """How many messages a session has, and how many of them were read. A plain read."""
        ...

    async def statistics(self, agent_id: str, thread: str | None = None) -> SessionStatistics:
        """An agent's conversations in figures. A plain read."""
        ...

    async def list_messages(
        self,
        session_id: str,
        *,
        limit: int,
        offset: int = 0,
        after_seq: int | None = None,
        before_seq: int | None = None,
        newest_first: bool = False,
        unread_only: bool = False,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        """A page of a session's messages between those sequence numbers, oldest or newest first. Marks nothing."""
        ...

    # --- reading ---

    async def read_messages(
        self,
        recipient_id: str,
        *,
        sender_id: str | None = None,
        thread: str | None = None,
        mark: bool = True,
        limit: int,
        after_seq: int | None = None,
        within: str | None = None,
        now: datetime | None = None,
    ) -> ReadPage:
        """The unread conversation messages to an agent, oldest first, of all senders or of one.

        With `mark` they are marked as read in the same commit, so that each is answered to one reader only, and those
        whose delivery is queued are done with it: the agent has taken them itself, no handler will. A claimed one is
        left to its run. An open ask among the queued ones is then taken by the agent's own code, in the run of the
        message `within` or outside any: see `storage/admission.py` for what answers it. `after_seq` begins behind a
        message, for paging without marking. Messages of the SDK's own are never among them, nor is one that is not due
        yet, or that expired before anybody began with it. Not repeatable: a lost answer leaves messages marked that
        nobody saw. An answer that came, but whose caller has gone, goes to `return_messages`.
        """
        ...

    async def return_messages(self, messages: Collection[MessageRow], *, now: datetime | None = None) -> set[str]:
        """Give back what `read_messages` (with `mark`) or `take_awaited` has answered: nobody has it.

        Each becomes unread again, and queued again if it was taken from the queue, as if that call had not looked: an
        ask counts as taken no more; of an ask that has ended meanwhile the delivery expires instead. Only what that
        very call took, which its `read_at` tells: what was read anew since stays read, and so does an ask that was
        answered since. No handler can have been given any of it meanwhile. Answers the processes with a registered wait
        for some of it. Repeat-safe.
        """
        ...

    async def reject_messages(
        self, messages: Collection[MessageRow], reason: str, *, owner: str, now: datetime | None = None
    ) -> list[EndedAsk]:
        """Make dead letters of what `read_messages` (with `mark`) or `take_awaited` has answered: nobody can read it.

        Only what that very call took, as with `return_messages`, and no handler has or had: what is claimed is left to
        its run, and what is done by one stays done. They stay read. Open asks among them end as `failed` with the
        reason, at most 500 characters, which the delivery's log keeps too; these are answered. A repeat changes nothing
        and answers none.
        """
        ...

    # --- asks ---

    async def find_asks(self, ask_ids: Collection[str]) -> list[AskRow]:
        """Those that exist, in any state and order."""
        ...

    async def find_ended_asks(self, ask_ids: Sequence[str]) -> dict[str, AskRow | None]:
        """Of these, the ones that are not open any more; None for those that do not exist (any more)."""
        ...

    async def list_open_asks(self, responder_id: str, *, limit: int, offset: int = 0) -> list[WaitingQuestion]:
        """Those that wait for this agent's answer, oldest first, whoever has begun with them."""
        ...

    async def close_asks(
        self,
        ask_ids: Collection[str],
        state: AskState,
        *,
        responder_id: str | None = None,
        reason: str | None = None,
        now: datetime | None = None,
    ) -> list[AskRow]:
        """End those that are still open as `timed_out`, `cancelled` or `failed`; answer all that exist as they are.

        With `responder_id` only those that this agent has are ended. The reason is kept with those that end.
        With `cancelled`, the answer of one that was replied already becomes unread: its asker has not seen it.
        Repeat-safe: what was read since, in another way, stays read.
        """
        ...

    # --- waits ---

    async def register_wait(self, wait: NewWait, *, owner: str, now: datetime | None = None) -> bool:
        """Hold the lane back from handlers. False without the agents. Repeat-safe by its id."""
        ...

    async def find_waits(self, wait_ids: Sequence[str], now: datetime | None = None) -> dict[str, WaitRow | None]:
        """Of these, the ones that are ready or ended; None for those that do not exist (any more). A plain read."""
        ...

    async def take_awaited(
        self,
        recipient_id: str,
        sender_id: str,
        *,
        thread: str | None = None,
        within: str | None = None,
        now: datetime | None = None,
    ) -> MessageRow | None:
        """Take the oldest unread conversation message of a sender that no handler has or had; None if there is none.

        That is one whose delivery is queued and due, which is done with it, or one stored without a duty to handle it
        (a late answer, what the handler of a message returned). It is marked as read in the same commit, `within` as
        with `read_messages`; each is taken once. Not repeatable: see `read_messages`; `return_messages` gives it back.
        Reads first; takes a write lock only if there is something.
        """
        ...

    async def remove_wait(self, wait_id: str) -> None:
        """Hold nothing back any more. Repeat-safe."""
        ...

    # --- notices ---

    async def take_notices(
        self, recipient_ids: Collection[str] | None, limit: int, *, now: datetime | None = None
    ) -> list[MessageRow]:
        """Take what was left for the notification handlers of these agents (`NewGroup.notify`), or all; oldest first.

        At most so many, and none behind the one with which they reach 8 MiB; none is left where none is answered. Each
        is answered once, at most: a lost answer loses it. Those older than a minute are dropped.
        """
        ...
