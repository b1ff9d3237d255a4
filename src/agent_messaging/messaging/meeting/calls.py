"""What all calls of meetings share: the engine, the names of the agents, and the way of an act into the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic

from ...arguments import check_external_id, parse_id
from ...config import MessagingConfig
from ...delivery.engine import Engine
from ...delivery.names import AgentName
from ...exceptions import IdempotencyConflictError, MeetingNotFoundError
from ...ids import uuid7
from ...models import T
from ...storage.assembly.terms import Act, Why
from ...storage.ports import Acted, Duplicate, KeyConflict, MeetingRow, NewSpeech, SeatRow
from ..door import Door
from ..missing import explain_missing
from ..posting import seal_body
from .arguments import MeetingId
from .refusals import explain


class MeetingCalls(Door, Generic[T]):
    """The calls of one SDK object."""

    def __init__(self, find_engine: Callable[[], Engine], settings: MessagingConfig) -> None:
        super().__init__(find_engine)
        self.settings = settings

    async def _act(
        self,
        meeting_id: str,
        act: Act,
        agent: AgentName,
        other: AgentName | None = None,
        *,
        speech: NewSpeech | None = None,
        before_start: bool = False,
    ) -> Acted | Duplicate | None:
        """Have the store decide an act; None if there was nothing to change. `explain` has the arguments.

        Event handlers that are registered already hear of it.

        Raises:
            AgentMessagingError: The act was refused. The error says why.
        """
        await self.engine.events.ready()
        outcome = await self.engine.meetings.act(meeting_id, act, speech=speech)
        if outcome is None:
            raise await self._missing(meeting_id)
        if isinstance(outcome, KeyConflict):
            raise IdempotencyConflictError(idempotency_key=(speech.idempotency_key if speech else None) or "")
        if isinstance(outcome, Acted | Duplicate):
            return outcome
        if outcome.why is Why.NOTHING:
            return None
        raise await explain(self.engine.names, outcome, agent, other, before_start=before_start)

    async def _agent_in(
        self, agent_external_id: str, meeting_id: MeetingId, *, field: str = "agent_external_id"
    ) -> tuple[str, AgentName]:
        check_external_id(agent_external_id, field=field)
        id = parse_id(meeting_id, field="meeting_id")
        names = self.engine.names
        return id, names.cached(agent_external_id) or await names.get(agent_external_id)

    async def _find_next(self, external_id: str | None) -> AgentName | None:
        if external_id is None:
            return None
        check_external_id(external_id, field="next_speaker_external_id")
        return await self.engine.names.get(external_id, role="next speaker")

    async def _find_meeting(self, meeting_id: MeetingId) -> MeetingRow | None:
        return await self.engine.store.meetings.find_meeting(parse_id(meeting_id, field="meeting_id"))

    async def _get_meeting(self, meeting_id: MeetingId) -> MeetingRow:
        if (row := await self._find_meeting(meeting_id)) is None:
            raise await self._missing(parse_id(meeting_id, field="meeting_id"))
        return row

    async def _missing(self, meeting_id: str) -> MeetingNotFoundError:
        """The error where there is no such meeting."""
        return await explain_missing(self.engine, MeetingNotFoundError(meeting_id=meeting_id))

    async def _seats(self, row: MeetingRow) -> list[SeatRow]:
        return await self.engine.store.meetings.list_seats(row.meeting_id)

    def _speech(self, message: Any, metadata: Mapping[str, Any] | None) -> NewSpeech:
        return NewSpeech(uuid7(), *seal_body(message, metadata, self.settings))
