"""Sessions as users see them: who talks with whom, what was said, and how much of it is unread. Reading only."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from ..arguments import check_external_id, parse_id
from ..bodies import open_or_mark
from ..delivery.engine import Engine
from ..delivery.names import AgentName
from ..exceptions import SessionNotFoundError
from ..models import Record, SessionStatus
from ..storage.ports import MessageRow, SessionRow

PAGE = 1_000
"""Rows asked for at once."""
SessionId = str | UUID


async def list_active(engine: Engine, agent_external_id: str) -> list[Record]:
    """See `Conversation.get_active_sessions`."""
    check_external_id(agent_external_id, field="agent_external_id")

    async def look(agent: AgentName) -> list[SessionRow]:
        rows: list[SessionRow] = []
        while True:
            page = await engine.store.sessions.list_sessions(agent.id, open_only=True, limit=PAGE, offset=len(rows))
            rows += page
            if len(page) < PAGE:
                return rows

    rows = await engine.names.ask(agent_external_id, look)
    agent = await engine.names.get(agent_external_id)
    names = await engine.names.find_by_id(_agents(rows))

    def describe(row: SessionRow) -> Record:
        other = names.get(row.agent_b_id if row.agent_a_id == agent.id else row.agent_a_id)
        return Record(
            session_id=row.session_id,
            other_agent_id=other.external_id if other else None,
            other_agent_name=other.name if other else None,
            status=_status(row),
            created_at=row.created_at,
            locked_by=_external(names, row.waiting_id),
        )

    return [describe(row) for row in rows]


async def list_messages(engine: Engine, session_id: SessionId, *, include_read: bool) -> list[Record]:
    """See `Conversation.get_messages_in_session`."""
    row = await find(engine, session_id)
    messages: list[MessageRow] = []
    while True:
        page = await engine.store.sessions.list_messages(
            row.session_id,
            limit=PAGE,
            after_seq=messages[-1].seq if messages else None,
            unread_only=not include_read,
        )
        messages += page
        if len(page) < PAGE:
            break
    names = await engine.names.find_by_id({row.agent_a_id, row.agent_b_id})

    def describe(message: MessageRow) -> Record:
        sender = names.get(message.sender_id)
        body = open_or_mark(message, f"message {message.message_id}")
        return Record(
            message_id=message.message_id,
            sender_id=sender.external_id if sender else None,
            sender_name=sender.name if sender else None,
            recipient_id=_external(names, message.recipient_id),
            message_type=message.message_type,
            content=body.content,
            metadata=body.metadata,
            is_damaged=body.is_damaged,
            is_read=message.read_at is not None,
            read_at=message.read_at,
            created_at=message.created_at,
        )

    return [describe(message) for message in messages]


async def get_info(engine: Engine, session_id: SessionId) -> Record:
    """See `Conversation.get_session_info`."""
    row = await find(engine, session_id)
    counts = await engine.store.sessions.count_messages(row.session_id)
    names = await engine.names.find_by_id(_agents([row]))

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
        locked_by=_external(names, row.waiting_id),
        message_count=counts.messages,
        read_count=counts.read,
        unread_count=counts.messages - counts.read,
        created_at=row.created_at,
        updated_at=row.updated_at,
        ended_at=row.ended_at,
    )


async def get_statistics(engine: Engine, agent_id: str | UUID) -> Record:
    """See `Conversation.get_session_statistics`."""
    agent = await find_agent(engine, agent_id)
    found = await engine.store.sessions.statistics(agent.id)
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


async def find(engine: Engine, session_id: SessionId) -> SessionRow:
    """The session of this id.

    Raises:
        SessionNotFoundError: There is none.
        InvalidArgumentError: It is not a UUID.
    """
    id = parse_id(session_id, field="session_id")
    row = await engine.store.sessions.find_session(id)
    if row is None:
        raise SessionNotFoundError(session_id=id)
    return row


async def find_agent(engine: Engine, agent_id: str | UUID, *, field: str = "agent_id") -> AgentName:
    """An agent by its UUID or its external id, as it is in the store now.

    Raises:
        AgentNotFoundError: There is none; names the closest.
    """
    if isinstance(agent_id, UUID):
        agent_id = str(agent_id)
    check_external_id(agent_id, field=field)
    await engine.names.refresh([agent_id])
    known = await engine.names.find_all([agent_id])
    if agent_id in known:
        return known[agent_id]
    if _is_uuid(agent_id):
        by_id = await engine.names.find_by_id([agent_id.lower()])
        if by_id:
            return by_id[agent_id.lower()]
    return await engine.names.get(agent_id)  # raises, with suggestions


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _status(row: SessionRow) -> SessionStatus:
    if row.ended_at is not None:
        return SessionStatus.ENDED
    return SessionStatus.ACTIVE if row.waiting_id is None else SessionStatus.WAITING


def _agents(rows: Iterable[SessionRow]) -> set[str]:
    return {id for row in rows for id in (row.agent_a_id, row.agent_b_id)}


def _external(names: dict[str, AgentName], id: str | None) -> str | None:
    return names[id].external_id if id is not None and id in names else None
