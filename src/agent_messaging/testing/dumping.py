"""The state of asks, sessions and meetings in a store at the end, written to a history for `asks` and `meetings`."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from datetime import datetime

from ..models import MeetingEventType, MessageType
from ..storage import ports
from .history import Chronicle, hash_body

ALL = 100_000
"""A limit that no run reaches."""


async def record_asks(history: Chronicle, sessions: ports.SessionStore, message_ids: Collection[str]) -> None:
    """Dump the asks among these messages."""
    ids = list(message_ids)
    for start in range(0, len(ids), 500):
        for ask in await sessions.find_asks(ids[start : start + 500]):
            answer = None if ask.answer is None else hash_body(json.loads(ask.answer.content))
            history.record("ask.final", message=ask.ask_id, state=ask.state.value, answer=answer, reason=ask.reason)


async def record_hops(
    history: Chronicle, store: ports.Store, message_ids: Collection[str], *, by_name: bool = True
) -> list[str]:
    """Dump which way those of these messages went that are asks; returns the ids of what stayed behind.

    `by_name` says whether the history names agents by their external ids, or by the ids of the store.
    """
    hops = await store.forwarding.list_hops(message_ids)
    ids = {id for hop in hops for id in (hop.from_id, hop.to_id)} if by_name else ()
    names = {str(agent.id): agent.external_id for agent in await store.directory.find_agents_by_id(ids)}
    for hop in hops:
        history.record(
            "hop",
            message=hop.message_id,
            number=hop.number,
            by=names.get(hop.from_id, hop.from_id),
            to=names.get(hop.to_id, hop.to_id),
            kept=hop.kept_id,
            seq=hop.kept_seq,
        )
    return [hop.kept_id for hop in hops]


async def record_sessions(history: Chronicle, sessions: ports.SessionStore, agent_ids: Collection[str]) -> None:
    """Dump every session of these agents."""
    seen: set[str] = set()
    for agent_id in agent_ids:
        for session in await sessions.list_sessions(agent_id, open_only=False, limit=1_000):
            if session.session_id in seen:
                continue
            seen.add(session.session_id)
            since = time.monotonic_ns()
            rows = await sessions.list_messages(session.session_id, limit=ALL)
            history.reading(f"session:{session.session_id}", [row.message_id for row in rows], since)
            hashes = [(hash_body(json.loads(row.content)), row.read_at is None) for row in rows]
            history.record(
                "session.final",
                session=session.session_id,
                waiting=session.waiting_id,
                thread=session.thread or None,
                bodies=[body for body, _ in hashes],
                unread=[body for body, is_unread in hashes if is_unread],
            )


async def record_meetings(history: Chronicle, store: ports.Store) -> None:
    """Dump every meeting: its seats, turns, transcript and the events of its time."""
    for meeting in await store.meetings.list_meetings(None, statuses=None, limit=1_000):
        id = meeting.meeting_id
        seats = await store.meetings.list_seats(id)
        turns = await store.meetings.list_turns(id, limit=ALL)
        since = time.monotonic_ns()
        said = await store.meetings.list_messages(id, limit=ALL)
        history.reading(f"meeting:{id}", [row.message_id for row in said], since)
        since = time.monotonic_ns()
        events = await store.meetings.list_events(id, limit=ALL)
        history.reading(f"events:{id}", [event.seq for event in events], since)
        agents = await store.directory.find_agents_by_id({seat.agent_id for seat in seats})
        names = {str(agent.id): agent.external_id for agent in agents}
        history.record(
            "meeting.final",
            meeting=id,
            utc=time.time(),
            host=names[meeting.host_id],
            status=meeting.status.value,
            selection=meeting.selection.value,
            duration=meeting.turn_duration,
            silent=None if meeting.host_speaks else names[meeting.host_id],
            max_turns=meeting.max_turns,
            deadline=_instant(meeting.deadline_at),
            reason=meeting.end_reason.value if meeting.end_reason else None,
            seats=[
                {"agent": names[seat.agent_id], "order": seat.join_order, "left": _instant(seat.left_at)}
                for seat in seats
            ],
            turns=[
                {
                    "number": turn.number,
                    "agent": names[turn.agent_id],
                    "purpose": turn.purpose.value,
                    "started": _instant(turn.started_at),
                    "deadline": _instant(turn.deadline_at),
                    "ended": _instant(turn.ended_at),
                    "how": turn.how.value if turn.how else None,
                    "message": turn.message_id,
                }
                for turn in turns
            ],
            said=[
                {"id": row.message_id, "sender": names[row.sender_id], "value": value_of(row.content)}
                for row in said
                if row.message_type is MessageType.USER_DEFINED
            ],
            timeouts=[event.data["turn"] for event in events if event.type is MeetingEventType.TIMEOUT_OCCURRED],
            noted=sum(row.message_type is MessageType.TIMEOUT for row in said),
            endings=[event.data["reason"] for event in events if event.type is MeetingEventType.MEETING_ENDED],
            endings_noted=sum(row.message_type is MessageType.ENDING for row in said),
        )


def _instant(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def value_of(content: str) -> str | None:
    """The name by which the programs of a kill test know a message."""
    body = json.loads(content)
    return body.get("value") if isinstance(body, dict) else None
