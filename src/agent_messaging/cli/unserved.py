"""The doctor's findings about messages for agents whom nobody serves, and the ways to take them without a handler.

Each next step can be carried out as it stands: a command of this program, or a call in Python.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ..kinds import Kind
from ..records import dataclass
from .commands import command
from .mailbox import read_mailbox

if TYPE_CHECKING:
    from .. import AgentMessaging

NAMED = 5
"""Agents named in one finding."""
LOOKED_AT = 200
"""The newest messages of an agent among which a question that waits is looked for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, and what to do. Without `is_problem` it is worth knowing, but may be meant."""

    problem: str
    next_step: str
    is_problem: bool = True


async def look_at_unserved(sdk: AgentMessaging, waiting: Collection[tuple[str, Kind]]) -> list[Finding]:
    """One finding for each kind that waits for agents whom no live process serves."""
    found = []
    for kind, judge in JUDGES.items():
        ids = {id for id, one in waiting if one is kind}
        if ids:
            found += await judge(sdk, ids)
    return found


async def name_agents(sdk: AgentMessaging, ids: Collection[str]) -> str:
    """The first of these agents, by name, each in quotes: a name may have a comma in it."""
    names = sorted(repr(name) for _, name in await _first(sdk, ids))
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return ", ".join(names) + more


async def _first(sdk: AgentMessaging, ids: Collection[str]) -> list[tuple[str, str]]:
    found = await sdk.store.directory.find_agents_by_id(sorted(ids)[:NAMED])
    return [(str(agent.id), agent.external_id) for agent in found]


async def _notes(sdk: AgentMessaging, ids: set[str]) -> list[Finding]:
    names = await name_agents(sdk, ids)
    [(_, name), *_rest] = await _first(sdk, ids) or [("", "…")]
    return [
        Finding(
            f"Messages wait for {names}, which no live process serves.",
            f"Start the process that registers the handler, or take them: `{command('receive', name, limit='100')}`.",
        )
    ]


async def _conversations(sdk: AgentMessaging, ids: set[str]) -> list[Finding]:
    """Questions are answered by a reply; what nobody waits for is read."""
    replies: list[str] = []
    asked: set[str] = set()
    for id, _ in await _first(sdk, ids):
        page = await _newest(sdk, id, Kind.CONVERSATION)
        for one in page:
            if one["reply"] is not None:
                asked.add(id)
                replies.append(one["reply"])
    found = []
    if asked:
        found.append(
            Finding(
                f"Questions wait for {await name_agents(sdk, asked)}, and no live process with a conversation handler "
                "serves them.",
                f"Start the process that registers the handler, or answer: `{replies[-1]}`.",
            )
        )
    if others := ids - asked:
        [(_, name), *_rest] = await _first(sdk, others) or [("", "…")]
        found.append(
            Finding(
                f"Conversation messages wait for {await name_agents(sdk, others)}, and no live process with a "
                "conversation handler serves them.",
                "Start the process that registers the handler, or read them in code: "
                f"`await sdk.conversation.get_unread_messages({name!r})`.",
            )
        )
    return found


async def _invitations(sdk: AgentMessaging, ids: set[str]) -> list[Finding]:
    """The invitation of an agent that attends already, perhaps by hand, is no duty any more."""
    invited: list[tuple[str, str, str]] = []
    for id, name in await _first(sdk, ids):
        for one in await _newest(sdk, id, Kind.INVITATION):
            meeting = one["content"].get("meeting_id") if isinstance(one["content"], dict) else None
            seats = await sdk.store.meetings.list_seats(meeting) if meeting else []
            if any(seat.agent_id == id and seat.status.value == "invited" for seat in seats):
                invited.append((id, name, str(meeting)))
    if not invited:
        return []
    _, name, meeting = invited[-1]
    return [
        Finding(
            f"Invitations to meetings wait for {await name_agents(sdk, {id for id, _, _ in invited})}, which no live "
            "process serves.",
            f"Start the process that registers the handler, or attend: `{command('meetings attend', name, meeting)}`.",
        )
    ]


async def _turns(sdk: AgentMessaging, ids: set[str]) -> list[Finding]:
    """No problem where agents speak by hand, which nobody can see."""
    from ..models import MeetingStatus

    [(id, name), *_rest] = await _first(sdk, ids) or [("", "…")]
    active = await sdk.store.meetings.list_meetings(id, statuses={MeetingStatus.ACTIVE}, limit=LOOKED_AT)
    meeting = next((one.meeting_id for one in active if one.turn is not None and one.turn.agent_id == id), "ID")
    return [
        Finding(
            f"A turn in a meeting waits for {await name_agents(sdk, ids)}, and no live process with a turn handler "
            "serves them.",
            "Start the process that registers the turn handler, or speak: "
            f"`{command('meetings speak', name, meeting, text='…')}`. "
            f"How the meeting stands: `{command('meetings show', meeting)}`.",
            is_problem=False,
        )
    ]


async def _newest(sdk: AgentMessaging, agent_id: str, kind: Kind) -> Sequence[dict[str, Any]]:
    return await read_mailbox(sdk, agent_id, [kind], unread=False, limit=LOOKED_AT, offset=0)


JUDGES = {
    Kind.ONE_WAY: _notes,
    Kind.CONVERSATION: _conversations,
    Kind.INVITATION: _invitations,
    Kind.TURN: _turns,
}
