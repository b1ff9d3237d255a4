"""What an agent has before it, as the store has it now, and how a person serves the agent. It knows of no screen.

A person needs no run. The agent's handler only takes notice: so its messages are settled when they have reached the
person, no claim waits for anybody, and whatever ends this process, nothing is lost. An ask stays open after its handler
has returned nothing, until somebody answers or refuses it, here or in another process, or its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...bodies import open_or_mark
from ...exceptions import MessageNotFoundError
from ...kinds import SENT, Kind
from ...models import AskState, MeetingStatus, MessageContext, ParticipantStatus, Record
from ...storage.ports import Role
from ..external import read_names
from ..mailbox import describe
from ..services import read_services
from .inbox import Inbox

if TYPE_CHECKING:
    from ... import AgentMessaging
    from ...storage.ports import AskRow

PAUSE = 0.5
"""Seconds between two looks, unless something arrives here. What another process takes, or does, is seen by a look."""
MOST = 1_000
"""Open questions, and agents of each page, that are read at once."""
MEETINGS, OPEN_MEETINGS = 100, 30
"""The newest meetings that are listed; of so many that have not ended it is known who attends."""
SELDOM = 2.0
"""Seconds between two looks at what is not shown."""
OUTBOX = 100
"""The newest messages that the agent has sent."""
NAMES, OFFERED = 10_000, 5
"""Names that completion knows, and those that it offers at once."""
SLOTS = 100
"""Messages of which notice is taken at once."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message, whole."""

    message_id: str
    kind: Kind
    sender: str
    recipient: str
    content: Any
    metadata: dict[str, Any]
    is_damaged: bool
    thread: str | None
    topic: str | None
    session_id: str | None
    meeting_id: str | None
    created_at: Any


class Desk:
    """The things that wait for one person, and those that the person has done.

    Args:
        agent: External id of the agent as which the person takes part.
        agent_id: Its id.
    """

    def __init__(self, sdk: AgentMessaging[Any], agent: str, agent_id: str) -> None:
        self.sdk = sdk
        self.agent = agent
        self.agent_id = agent_id
        self.inbox = Inbox(sdk, agent_id)
        self.questions: list[Record] = []
        """Open asks that wait for this agent, the one that ends first on top."""
        self.meetings: list[Record] = []
        """With `seat`, the agent's status in those that have not ended."""
        self.sent: list[dict[str, Any]] = []
        self.others = 0
        """Other live processes that serve the agent: what arrives may go to them."""
        self.names: list[str] = []
        self.arrived = asyncio.Event()
        """Set: something has come, or was done here. It is worth while to look."""
        self._next: dict[str, float] = {}
        """When what is not shown is looked at again, by the clock of the loop."""

    @classmethod
    async def open(cls, sdk: AgentMessaging[Any], agent: str) -> Desk:
        """The desk of an agent, which is served from now on.

        Raises:
            AgentNotFoundError: There is no such agent; names the closest.
        """
        found = await sdk.get_agent(agent)
        desk = cls(sdk, agent, str(found.id))
        await desk.inbox.begin()
        sdk.register_handler(agent, ordered=False, concurrency=SLOTS)(desk._take_notice)
        return desk

    async def _take_notice(self, message: Any, context: MessageContext) -> None:
        """Settle what has arrived: it is in the inbox. An ask goes on waiting."""
        self.arrived.set()

    # --- looking ------------------------------------------------------------------------------------------------------

    async def look(self, shown: str) -> None:
        """Read what has changed.

        Args:
            shown: The tab that the person sees. What belongs to another one is looked at less often.

        Raises:
            AgentNotFoundError: The agent was removed.
            DatabaseError, OutcomeUnknownError: The store failed. What was read before stays as it was.
        """
        known = await self._read_questions()
        await self.inbox.follow(known)
        if len(known) < MOST and self.inbox.open_asks - known:
            await self._read_questions()  # one came between the two reads: whoever sees it in the inbox may answer it
        if self._is_due("meetings", shown):
            self.meetings = await self._list_meetings()
        if self._is_due("sent", shown):
            self.sent = await self._list_sent()
        if self._is_due("others", shown):
            services = await read_services(self.sdk)
            self.others = sum(any(s.agent_id == self.agent_id for s in one.services) for one in services.processes)

    async def _read_questions(self) -> set[str]:
        questions = await self.sdk.conversation.list_open_asks(self.agent, limit=MOST)
        self.questions = sorted(questions, key=lambda one: one.deadline)
        return {one.message_id for one in questions}

    def _is_due(self, part: str, shown: str) -> bool:
        now = asyncio.get_running_loop().time()
        if part != shown and now < self._next.get(part, 0.0):
            return False
        self._next[part] = now + SELDOM
        return True

    def look_soon(self) -> None:
        """Something was done here: look at everything."""
        self._next.clear()
        self.arrived.set()

    async def _list_meetings(self) -> list[Record]:
        found = await self.sdk.meeting.list_meetings(self.agent, limit=MEETINGS)
        known = {one.meeting_id: one for one in self.meetings}
        listed, looked = [], 0
        for one in found:
            before = known.get(one.meeting_id)
            seat = None
            is_as_before = before is not None and (before.status, before.turn) == (one.status, one.turn)
            if before is not None and is_as_before and one.status is MeetingStatus.ACTIVE:
                seat = before.seat
            elif one.status is not MeetingStatus.ENDED and looked < OPEN_MEETINGS:
                looked += 1
                seat = await self._seat(one.meeting_id)
            listed.append(Record(one, seat=seat))
        return sorted(listed, key=_place)

    async def _seat(self, meeting_id: UUID) -> ParticipantStatus | None:
        """How the agent stands in a meeting; None if it has no seat there."""
        status = await self.sdk.meeting.get_meeting_status(meeting_id)
        details = [] if status is None else status.participant_details
        return next((one.status for one in details if one.agent_id == self.agent), None)

    async def _list_sent(self) -> list[dict[str, Any]]:
        messages = self.sdk.store.messages
        pages = [await messages.list_messages(self.agent_id, Role.SENDER, kind, limit=OUTBOX) for kind in SENT]
        rows = sorted((row for page in pages for row in page), key=lambda row: -row.seq)[:OUTBOX]
        known = {one["message_id"]: one for one in self.sent}
        # What has ended as it was shown needs no second look.
        fixed = {row.message_id for row in rows if _is_settled(known.get(row.message_id), row.read_at)}
        fresh = await describe(self.sdk, [row for row in rows if row.message_id not in fixed])
        known |= {one["message_id"]: one for one in self.inbox.slim(fresh)}
        return [known[row.message_id] for row in rows]

    async def list_names(self) -> None:
        """Read the names of the agents, for completion."""
        names: list[str] = []
        while len(names) < NAMES and (page := await self.sdk.list_agents(limit=MOST, offset=len(names))):
            names += [agent.external_id for agent in page]
        self.names = [name for name in names if name != self.agent]

    # --- one thing ----------------------------------------------------------------------------------------------------

    async def read(self, message_id: str) -> Letter:
        """Read one message, whole. It marks nothing.

        Raises:
            MessageNotFoundError: There is none (any more).
        """
        store = self.sdk.store
        seq = await store.messages.find_seq(message_id)
        rows = [] if seq is None else await store.search.load([seq])
        if not rows:
            raise MessageNotFoundError(message_id=message_id)
        [row] = rows
        ids = {id for id in (row.sender_id, row.recipient_id) if id}
        names = await read_names(store, ids)
        body = open_or_mark(row, f"message {message_id}")
        return Letter(
            message_id,
            row.kind,
            names.get(row.sender_id, row.sender_id),
            names.get(row.recipient_id or "", row.recipient_id or ""),
            body.content,
            body.metadata,
            body.is_damaged,
            row.thread or None,
            row.topic,
            row.session_id,
            row.meeting_id,
            row.created_at,
        )

    async def mark_read(self, letter: Letter) -> None:
        """Say that the person has seen a message."""
        if letter.recipient != self.agent:
            return
        if letter.kind is Kind.ONE_WAY:
            await self.sdk.one_way.mark_messages_read(self.agent, message_ids=letter.message_id)
        elif letter.kind is Kind.CONVERSATION:
            await self.sdk.conversation.mark_messages_read(self.agent, letter.message_id)
        self.inbox.read(letter.message_id)

    async def find_ask(self, ask_id: str) -> AskRow | None:
        """How an ask stands; None where the message is no ask."""
        return next(iter(await self.sdk.store.sessions.find_asks([ask_id])), None)

    async def search(self, query: str) -> list[Record]:
        """What the agent has sent, received, or heard in its meetings, the newest first."""
        find: Callable[..., Any] = self.sdk.search_messages
        found = [
            *await find(query, recipient_id=self.agent, limit=100),
            *await find(query, sender_id=self.agent, limit=100),
        ]
        heard = await find(query, kinds=[Kind.MEETING], limit=200)
        mine = {str(one.meeting_id) for one in self.meetings}
        found += [one for one in heard if str(one.meeting_id) in mine]
        unique = {one.message_id: one for one in found}
        return sorted(unique.values(), key=lambda one: one.created_at, reverse=True)


def _place(meeting: Record) -> tuple[int, int]:
    """Where it stands in the list: first where something waits for the person, last what has ended."""
    waits = {ParticipantStatus.SPEAKING: 0, ParticipantStatus.INVITED: 1}
    return meeting.status is MeetingStatus.ENDED, waits.get(meeting.seat, 2)


def _is_settled(known: dict[str, Any] | None, read_at: Any) -> bool:
    """Whether a message that was sent is as it was shown, and stays so."""
    return known is not None and known["ask"] is not AskState.OPEN and (known["read_at"] is None) == (read_at is None)


def names_for(names: Sequence[str], begun: str) -> list[str]:
    """The names that may be meant: those that begin so before those that have it inside, whatever their case."""
    wanted = begun.casefold()
    if not wanted:
        return list(names[:OFFERED])
    ranked = [(0 if name.casefold().startswith(wanted) else 1, name) for name in names if wanted in name.casefold()]
    return [name for _, name in sorted(ranked)[:OFFERED]]
