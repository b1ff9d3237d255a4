"""Calls that look at sessions: who talks with whom, what was said, and how much of it is unread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from ...arguments import check_external_id, check_flag, check_instant, check_page, check_thread, parse_choice, parse_id
from ...bodies import open_or_mark
from ...delivery.forwarding import holders_of
from ...delivery.names import AgentName, external_or_none
from ...exceptions import SessionNotFoundError
from ...models import DeliveryState, MessageType, Record, Session, SessionStatus, T
from ...storage.ports import MessageRow, SessionRow, WaitingQuestion
from ..directory import find_agent
from ..listing import check_part, find_place, list_wanted, make_wanted, read_all
from ..missing import explain_missing
from .calls import ConversationCalls

SessionId = str | UUID
OPEN = "open"
"""The word for sessions that are active or waiting."""


class ConversationSessions(ConversationCalls[T]):
    """What is called to look. Nothing here changes anything."""

    async def get_active_sessions(self, agent_external_id: str, *, thread: str | None = None) -> list[Record]:
        """List an agent's open sessions, newest first.

        Args:
            agent_external_id: Whose.
            thread: Those of this thread alone; None is all.

        Returns:
            Mappings with attribute access: session_id, other_agent_id (external), other_agent_name, status ("active",
            or "waiting" while one of the two waits for an answer), created_at, locked_by (who waits, or None), thread
            (None is the main one), ended_at (None).

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            for session in await sdk.conversation.get_active_sessions("alice"):
                print(session.other_agent_id, session.thread, session.status)
        """
        check_external_id(agent_external_id, field="agent_external_id")
        check_thread(thread)

        async def look(agent: AgentName) -> list[SessionRow]:
            read = partial(self.engine.store.sessions.list_sessions, agent.id, open_only=True, thread=thread)
            return await read_all(
                lambda so_far, limit: read(limit=limit, before_id=so_far[-1].session_id if so_far else None)
            )

        return await self._describe_sessions(agent_external_id, look)

    async def list_sessions(
        self,
        agent_external_id: str,
        *,
        status: SessionStatus | str | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        before: SessionId | None = None,
    ) -> list[Record]:
        """List an agent's sessions, newest first, ended ones too.

        Args:
            agent_external_id: Whose.
            status: Only those that are "active", "waiting" or "ended" now, or "open": active or waiting; None is all.
            thread: Those of this thread alone; None is all.
            date_from: Opened at or after this aware instant; None is no bound.
            date_to: Opened at or before it.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            before: The id of a session: only those opened before it, so that a page costs as much however deep it is.
                Pass the id of the last one of the page before. None begins at the newest.

        Returns:
            Mappings as of `get_active_sessions`; ended_at is None while it is open. Empty if there are none.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for session in await sdk.conversation.list_sessions("alice", status="ended", limit=20):
                print(session.other_agent_id, session.ended_at)
        """
        check_external_id(agent_external_id, field="agent_external_id")
        check_page(limit, offset)
        read = partial(
            self.engine.store.sessions.list_sessions,
            open_only=status == OPEN,
            status=_parse_status(status),
            limit=limit,
            offset=offset,
            thread=check_thread(thread),
            date_from=check_instant(date_from, "date_from"),
            date_to=check_instant(date_to, "date_to"),
            before_id=None if before is None else parse_id(before, "before"),
        )
        return await self._describe_sessions(agent_external_id, lambda agent: read(agent.id))

    async def _describe_sessions(
        self, agent_external_id: str, look: Callable[[AgentName], Awaitable[list[SessionRow]]]
    ) -> list[Record]:
        rows = await self.engine.names.look_up(agent_external_id, look)
        agent = await self.engine.names.get(agent_external_id)
        names = await self.engine.names.find_by_id(_agents(rows))

        def describe(row: SessionRow) -> Record:
            other = names.get(row.agent_b_id if row.agent_a_id == agent.id else row.agent_a_id)
            return Record(
                session_id=row.session_id,
                other_agent_id=other.external_id if other else None,
                other_agent_name=other.name if other else None,
                status=_status(row),
                created_at=row.created_at,
                locked_by=external_or_none(names, row.waiting_id),
                thread=row.thread or None,
                ended_at=row.ended_at,
            )

        return [describe(row) for row in rows]

    async def list_open_asks(self, agent_external_id: str, *, limit: int = 100, offset: int = 0) -> list[Record]:
        """List the open asks that wait for an agent's answer, oldest first. It marks, takes and answers nothing.

        It is for screens, and for code that answers later than its handler returned: `reply` with the id of the message
        answers one, `refuse` refuses it, and `forward` passes it on. One that a handler is at work on is among them.

        Args:
            agent_external_id: Who was asked.
            limit: At most so many, 1 to 1,000.
            offset: So many of the oldest are passed over.

        Returns:
            Mappings with attribute access: message_id, sender_id (external; who waits), content (plain JSON), metadata,
            is_damaged (True: the stored payload is not what was sent, and the content is None), thread (None is the
            main one), session_id, created_at, deadline (when the asker stops waiting). Empty if nobody waits.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for ask in await sdk.conversation.list_open_asks("alice"):
                print(ask.sender_id, "waits until", ask.deadline)
        """
        check_external_id(agent_external_id, field="agent_external_id")
        check_page(limit, offset)
        read = partial(self.engine.store.sessions.list_open_asks, limit=limit, offset=offset)
        found = await self.engine.names.look_up(agent_external_id, lambda agent: read(agent.id))
        names = await self.engine.names.find_by_id({one.message.sender_id for one in found})

        def describe(one: WaitingQuestion) -> Record:
            body = open_or_mark(one.message, f"message {one.message.message_id}")
            return Record(
                message_id=one.message.message_id,
                sender_id=external_or_none(names, one.message.sender_id),
                content=body.content,
                metadata=body.metadata,
                is_damaged=body.is_damaged,
                thread=one.message.thread or None,
                session_id=one.message.session_id,
                created_at=one.message.created_at,
                deadline=one.deadline_at,
            )

        return [describe(one) for one in found]

    async def get_messages_in_session(
        self,
        session_id: SessionId,
        include_read: bool = True,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List a session's messages, oldest first, the SDK's own included. Marks nothing as read.

        Args:
            session_id: From `context.session_id` or `get_active_sessions`; ended sessions too.
            include_read: False lists only unread ones.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            message_types: Of these types alone, such as ["user_defined"]; None is all.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            states: Whose delivery is in one of these states, such as ["queued", "dead"]; None is any.
            limit: At most so many, 1 to 1,000; None is all.
            offset: So many are passed over.
            before: The id of a message: only older ones. A page by position costs as much however deep it is, and what
                arrives meanwhile moves nothing.
            after: The id of a message: only newer ones. Pass the id of the last one of the page before.
            newest_first: List from the newest on. Then pass the id of the last one of a page as `before`.

        Returns:
            Mappings with attribute access: message_id, sender_id, sender_name, recipient_id, message_type, content
            (plain JSON), metadata, is_damaged (True: the stored payload is not what was sent, and the content is None),
            is_read, read_at, created_at, thread (None is the main one), way (external ids of the agents that have had
            an ask that was passed on, in order; empty for every other message). What stays of such an ask with an agent
            that passed it on has the type `forwarded` and an id of its own; the ask itself is in the session with the
            agent that has it.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID, or another argument is refused.

        Example:
            unread = await sdk.conversation.get_messages_in_session(session_id, include_read=False)
        """
        check_flag(include_read, "include_read")
        check_part(limit, offset)
        wanted = make_wanted(
            date_from=date_from,
            date_to=date_to,
            message_types=message_types,
            states=states,
            metadata_filter=metadata_filter,
        )
        place = await find_place(self.engine.store.messages, before, after, newest_first)
        row = await self._find_session(session_id)

        async def read(limit: int, offset: int, last: MessageRow | None) -> list[MessageRow]:
            return await self.engine.store.sessions.list_messages(
                row.session_id,
                limit=limit,
                offset=offset,
                unread_only=not include_read,
                narrowing=wanted.narrowing,
                **place.behind(last),
            )

        messages = await list_wanted(read, wanted, limit=limit, offset=offset)
        names = await self.engine.names.find_by_id({row.agent_a_id, row.agent_b_id})
        ways = await self.engine.forwarding.find_ways([message.message_id for message in messages])

        def describe(message: MessageRow) -> Record:
            sender = names.get(message.sender_id)
            body = open_or_mark(message, f"message {message.message_id}")
            return Record(
                message_id=message.message_id,
                sender_id=sender.external_id if sender else None,
                sender_name=sender.name if sender else None,
                recipient_id=external_or_none(names, message.recipient_id),
                message_type=message.message_type,
                content=body.content,
                metadata=body.metadata,
                is_damaged=body.is_damaged,
                is_read=message.read_at is not None,
                read_at=message.read_at,
                created_at=message.created_at,
                way=holders_of(ways.get(message.message_id, ())),
                thread=message.thread or None,
            )

        return [describe(message) for message in messages]

    async def get_conversation_history(
        self,
        session_id: SessionId,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        states: Iterable[DeliveryState | str] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List all of a session's messages, oldest first; see `get_messages_in_session`.

        Example:
            for said in await sdk.conversation.get_conversation_history(session_id, limit=20, newest_first=True):
                print(said.sender_id, said.content)
        """
        return await self.get_messages_in_session(
            session_id,
            date_from=date_from,
            date_to=date_to,
            message_types=message_types,
            metadata_filter=metadata_filter,
            states=states,
            limit=limit,
            offset=offset,
            before=before,
            after=after,
            newest_first=newest_first,
        )

    async def get_transcript(self, session_id: SessionId, *, format: str = "markdown") -> str:
        """Return what was said in a session as a page for people, with all its messages. Marks nothing as read.

        The HTML page is one file that needs nothing else: it loads and runs nothing, follows the light or dark of the
        reader's system, and fits a phone. What agents said is shown as it is, whatever it looks like. Instants are UTC.

        Args:
            session_id: From `context.session_id` or `list_sessions`; ended sessions too.
            format: "markdown" (or "md") or "html".

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID, or there is no such format.

        Example:
            page = await sdk.conversation.get_transcript(session_id, format="html")
            Path("talk.html").write_text(page, encoding="utf-8")
        """
        from ..transcripts import join, session_pieces  # few programs need it

        return await join(session_pieces(self, session_id, format))

    async def get_session(self, session_id: SessionId) -> Session:
        """Look a session up.

        `locked_agent_id` is who waits for an answer. Ids are UUIDs; `get_session_info` has external ids and counts.

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.

        Example:
            session = await sdk.conversation.get_session(context.session_id)
        """
        row = await self._find_session(session_id)
        return Session(
            id=UUID(row.session_id),
            agent_a_id=UUID(row.agent_a_id),
            agent_b_id=UUID(row.agent_b_id),
            thread=row.thread or None,
            status=_status(row),
            locked_agent_id=None if row.waiting_id is None else UUID(row.waiting_id),
            created_at=row.created_at,
            updated_at=row.updated_at,
            ended_at=row.ended_at,
            session_type=row.session_type,
        )

    async def get_session_info(self, session_id: SessionId) -> Record:
        """Describe a session.

        Returns:
            A mapping with attribute access: session_id, agent_a and agent_b (each with id, external, and name), status,
            session_type, is_locked, locked_by, message_count, read_count, unread_count, created_at, updated_at,
            ended_at, thread (None is the main one).

        Raises:
            SessionNotFoundError: There is no such session; a `ValueError`.
            InvalidArgumentError: The id is not a UUID.

        Example:
            info = await sdk.conversation.get_session_info(session_id)
            print(info.status, info.message_count)
        """
        row = await self._find_session(session_id)
        counts = await self.engine.store.sessions.count_messages(row.session_id)
        names = await self.engine.names.find_by_id(_agents([row]))

        def agent(id: str) -> Record:
            known = names.get(id)
            return Record(id=known.external_id if known else None, name=known.name if known else None)

        return Record(
            session_id=row.session_id,
            agent_a=agent(row.agent_a_id),
            agent_b=agent(row.agent_b_id),
            status=_status(row),
            session_type=row.session_type,
            is_locked=row.waiting_id is not None,
            locked_by=external_or_none(names, row.waiting_id),
            message_count=counts.messages,
            read_count=counts.read,
            unread_count=counts.messages - counts.read,
            created_at=row.created_at,
            updated_at=row.updated_at,
            ended_at=row.ended_at,
            thread=row.thread or None,
        )

    async def get_session_statistics(self, agent_id: str | UUID, *, thread: str | None = None) -> Record:
        """Count an agent's conversations and their messages, ended ones included.

        Args:
            agent_id: External id or UUID.
            thread: Those of this thread alone; None is all.

        Returns:
            A mapping with attribute access: agent_id (external), total_conversations, active_sessions, total_messages,
            unread_count, sent_count, received_count, unique_conversation_partners.

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            statistics = await sdk.conversation.get_session_statistics("alice")
            print(statistics.sent_count)
        """
        agent = await find_agent(self.engine, agent_id)
        found = await self.engine.store.sessions.statistics(agent.id, check_thread(thread))
        return Record(
            agent_id=agent.external_id,
            total_conversations=found.sessions,
            active_sessions=found.open_sessions,
            total_messages=found.sent + found.received,
            unread_count=found.unread,
            sent_count=found.sent,
            received_count=found.received,
            unique_conversation_partners=found.partners,
        )

    async def _find_session(self, session_id: SessionId) -> SessionRow:
        """The session of this id.

        Raises:
            SessionNotFoundError: There is none.
            InvalidArgumentError: It is not a UUID.
        """
        id = parse_id(session_id, field="session_id")
        row = await self.engine.store.sessions.find_session(id)
        if row is None:
            raise await explain_missing(self.engine, SessionNotFoundError(session_id=id))
        return row


def _parse_status(status: SessionStatus | str | None) -> SessionStatus | None:
    if status is None or status == OPEN:
        return None
    return parse_choice(SessionStatus, status, "status", "must be open, active, waiting or ended.")


def _status(row: SessionRow) -> SessionStatus:
    if row.ended_at is not None:
        return SessionStatus.ENDED
    return SessionStatus.ACTIVE if row.waiting_id is None else SessionStatus.WAITING


def _agents(rows: Iterable[SessionRow]) -> set[str]:
    return {id for row in rows for id in (row.agent_a_id, row.agent_b_id)}
