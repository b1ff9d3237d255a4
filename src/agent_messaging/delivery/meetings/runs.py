"""Prepares the runs of turn handlers, and uses their turns. `delivery/runs.py` runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Any
from uuid import UUID

from ...exceptions import DatabaseError, OutcomeUnknownError
from ...handlers.running import make_context
from ...loggers import get_logger
from ...models import MessageContext, MessageType, Turn
from ...payloads import checksum, encode
from ...records import dataclass
from ...storage.assembly.terms import Act, Attend, Pass, Speak
from ...storage.ports import Acted, Claim, ClaimedDelivery, NewAnswer, NewSpeech, TurnRef
from ..names import AgentName
from .records import Records

logger = get_logger("agent_messaging.delivery")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between attempts at a store that does not answer, while a turn lasts."""


@dataclass(frozen=True, slots=True)
class TurnRun:
    """A run of a turn handler."""

    turn: TurnRef
    delivery: ClaimedDelivery
    """Its payload is the latest speech, or the facts of the meeting where nothing was said yet."""
    context: MessageContext
    left: float | None
    """Seconds until the turn's deadline."""


class TurnRuns:
    """The runs of turn handlers in this process.

    Args:
        act: `Meetings.act`.
    """

    def __init__(self, records: Records, act: Callable[..., Awaitable[object]]) -> None:
        self.records = records
        self.meetings = records.meetings
        self.names = records.names
        self.act = act
        self.failures: dict[str, dict[str, int]] = {}
        """By meeting id and agent id: how many runs of the agent's turn handler in a row failed here."""

    def forget(self, meeting_id: str) -> None:
        """Forget a meeting that is over or gone."""
        self.failures.pop(meeting_id, None)

    async def prepare(self, delivery: ClaimedDelivery, ref: TurnRef, agent: AgentName) -> TurnRun | None:
        """Prepare the run of a turn handler; None if the turn is over."""
        meeting_id, number = ref.meeting_id, ref.number
        standing = await self.records.find_standing(meeting_id, agent.id)
        turn = standing.turn if standing is not None else None
        if standing is None or turn is None or turn.number != number:
            return None
        messages, notes = await self.records.describe_apart(standing.said)
        shown = Turn(number, turn.deadline_at, tuple(messages), has_ended=False, notes=tuple(notes))
        said = [row for row in standing.said if row.message_type == MessageType.USER_DEFINED]
        speaker: AgentName | None = None
        if said:
            last = said[-1]
            subject_delivery = replace(
                delivery, content=last.content, metadata=last.metadata, checksum=last.checksum, sender_id=last.sender_id
            )
            speaker = (await self.names.find_by_id({last.sender_id})).get(last.sender_id)
        else:
            content = encode(await self._facts(meeting_id), limit_bytes=1_000_000)
            subject_delivery = replace(delivery, content=content, metadata=None, checksum=checksum(content, None))
        if speaker is None:
            speaker = (await self.names.find_by_id({delivery.sender_id})).get(delivery.sender_id, agent)
        context = make_context(subject_delivery, speaker, agent)
        context = replace(context, meeting_id=UUID(meeting_id), is_meeting_message=True, turn=shown)
        return TurnRun(ref, subject_delivery, context, turn.left)

    async def _facts(self, meeting_id: str) -> dict[str, Any]:
        meeting = await self.meetings.find_meeting(meeting_id)
        seats = await self.meetings.list_seats(meeting_id)
        names = await self.names.find_by_id({seat.agent_id for seat in seats})
        host = names.get(meeting.host_id) if meeting is not None else None
        return {
            "meeting_id": meeting_id,
            "host": host.external_id if host else None,
            "participants": [
                names[seat.agent_id].external_id for seat in seats if seat.left_at is None and seat.agent_id in names
            ],
            "turn_duration": meeting.turn_duration if meeting is not None else None,
        }

    async def attend(self, meeting_id: str, agent_id: str) -> None:
        """Attend for an agent whose turn handler takes every invitation; too late or twice it changes nothing."""
        await self.act(meeting_id, Attend(agent_id))

    def count_failures(self, run: TurnRun, agent_id: str) -> int:
        """Return how often in a row the agent's turn handler has failed here in this meeting."""
        return self.failures.get(run.turn.meeting_id, {}).get(agent_id, 0)

    def ran(self, run: TurnRun, agent_id: str, *, failed: bool) -> None:
        """Count a run of a turn handler that has ended by itself."""
        meeting_id = run.turn.meeting_id
        of_meeting = self.failures.setdefault(meeting_id, {})
        if failed:
            of_meeting[agent_id] = of_meeting.get(agent_id, 0) + 1
        else:
            of_meeting.pop(agent_id, None)
        if not of_meeting:  # a meeting that stands here is looked at whenever anything may have changed
            del self.failures[meeting_id]

    async def use_turn(
        self, run: TurnRun, agent_id: str, claim: Claim, answer: NewAnswer | None, reason: str | None
    ) -> None:
        """Speak or pass for a turn handler, under the turn's number and the claim. It is tried while the turn lasts."""
        act: Act
        speech = None
        if answer is not None:
            # A host that is to name the next speaker cannot do so by what its handler returns.
            act = Speak(agent_id, run.turn.number, by_order=True)
            speech = NewSpeech(answer.message_id, answer.content, None, answer.checksum)
        else:
            act = Pass(agent_id, run.turn.number, reason)
        loop = asyncio.get_running_loop()
        deadline = None if run.left is None else loop.time() + run.left
        pause = FIRST_PAUSE
        while True:
            try:
                outcome = await self.act(run.turn.meeting_id, act, speech=speech, claim=claim)
            except (DatabaseError, OutcomeUnknownError) as error:
                if not error.retryable or (deadline is not None and loop.time() + pause > deadline):
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if not isinstance(outcome, Acted):
                logger.info(
                    "turn %d of meeting %s was over before its handler had ended", run.turn.number, run.turn.meeting_id
                )
            return

    async def find_over(self, turns: Collection[TurnRef]) -> list[TurnRef]:
        """Find the turns that are over."""
        found = await self.records.find_standings({turn.meeting_id for turn in turns})
        current = {id: standing.turn for id, standing in found.items() if standing is not None}
        return [turn for turn in turns if (now := current.get(turn.meeting_id)) is None or now.number != turn.number]
