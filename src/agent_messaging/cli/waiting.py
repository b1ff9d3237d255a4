"""What waits for an agent to act: questions, invitations, meetings to be started, turns. It changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..kinds import Kind
from ..records import dataclass
from .commands import command
from .external import read_names
from .mailbox import reply_command
from .output import clean, duration

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging

PAGE, MOST = 200, 1_000
"""Meetings, and open asks, that are looked at."""
COLUMNS = 80
"""Of a terminal, as narrow as they are in use."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that waits for an agent."""

    kind: str
    """question, invitation, start (of a meeting that it hosts) or turn."""
    id: str
    """Of the message that asks, or of the meeting."""
    by: str
    """The external id of the one that waits: the asker, or the host of the meeting."""
    seconds_left: float | None
    """Until it is too late; None: that has no end."""
    command: str
    """The command that does it."""
    thread: str | None = None
    """Of a question; None is the main one."""
    content: Any = None
    """Of a question."""
    turn: int | None = None
    """The number of the turn."""

    @property
    def message_kind(self) -> Kind:
        """The kind of messages that tell of it."""
        return {"question": Kind.CONVERSATION, "turn": Kind.TURN}.get(self.kind, Kind.INVITATION)

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f" ({duration(max(self.seconds_left, 0.0))} left)"
        match self.kind:
            case "question":
                text = f"{self.by} waits for the answer"
            case "invitation":
                text = f"{self.by} invites to a meeting"
            case "start":
                text = "all attend, and the meeting can be started"
            case _:
                text = f"turn {self.turn} of {self.by}'s meeting is current"
        # On a line of its own, a command with an id fits into 80 columns, and is copied whole; a longer one has two.
        line = f"  {clean(self.command)}"
        if len(line) > COLUMNS:
            line = line.replace(" --", " \\\n    --", 1)
        return f"{clean(f'{text}{left}')}:\n{line}"


async def read_duties(
    sdk: AgentMessaging, agent: Agent, kinds: Sequence[Kind] = tuple(Kind), *, thread: str | None = None
) -> list[Duty]:
    """What waits for an agent, the turns first, then what is of these kinds of messages.

    Args:
        kinds: CONVERSATION has the questions, INVITATION the invitations and what is to be started, TURN the turns.
        thread: Only questions of this thread; None is any.
    """
    found: list[Duty] = []
    if thread is None and not {Kind.INVITATION, Kind.TURN}.isdisjoint(kinds):
        found += [duty for duty in await _of_meetings(sdk, agent) if duty.message_kind in kinds]
    if Kind.CONVERSATION in kinds:
        found += await _questions(sdk, agent, thread)
    return sorted(found, key=lambda duty: duty.kind != "turn")


async def _of_meetings(sdk: AgentMessaging, agent: Agent) -> list[Duty]:
    from ..states import MeetingStatus, ParticipantStatus

    id, meetings = str(agent.id), sdk.store.meetings
    statuses = {MeetingStatus.CREATED, MeetingStatus.READY, MeetingStatus.ACTIVE}
    rows = await meetings.list_meetings(id, statuses=statuses, limit=PAGE)
    standings = await meetings.find_standings([(row.meeting_id, id) for row in rows])
    names = await read_names(sdk.store, {row.host_id for row in rows})
    duties = []
    for row in rows:
        meeting, host = row.meeting_id, names.get(row.host_id, row.host_id)
        standing, turn = standings[meeting, id], row.speaking_turn
        if turn is not None and turn.agent_id == id:
            speak = command("meetings speak", agent.external_id, meeting, text="…")
            duties.append(Duty("turn", meeting, host, turn.left, speak, turn=turn.number))
        elif row.status is MeetingStatus.READY and row.host_id == id:
            start = command("meetings start", agent.external_id, meeting)
            duties.append(Duty("start", meeting, host, None, start))
        elif standing is not None and standing.seat is ParticipantStatus.INVITED:
            attend = command("meetings attend", agent.external_id, meeting)
            duties.append(Duty("invitation", meeting, host, None, attend))
    return duties


async def _questions(sdk: AgentMessaging, agent: Agent, thread: str | None) -> list[Duty]:
    """The open asks of others, in the order in which they were asked."""
    duties = []
    for ask in await sdk.conversation.list_open_asks(agent.external_id, limit=MOST):
        if thread in (None, ask.thread):
            asker, left = ask.sender_id or "?", (ask.deadline - datetime.now(UTC)).total_seconds()
            answer = reply_command(agent.external_id, asker, ask.thread)
            duties.append(Duty("question", ask.message_id, asker, left, answer, ask.thread, ask.content))
    return duties
