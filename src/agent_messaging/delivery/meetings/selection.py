"""Chooses the next speakers of meetings where a function of this process does so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ...handlers.threads import DaemonThreads
from ...models import MeetingStatus, Record
from ...single_flight import SingleFlight
from ...storage.assembly.terms import Act, Choose, Purpose
from ...storage.ports import Presence, TurnRow
from ..background import Background
from ..retry import describe, is_cancellation
from ..trouble import Trouble
from .records import Records

logger = logging.getLogger("agent_messaging.delivery")

SO_FAR = 1_000
"""The function is shown at most so many messages, the newest."""

Selector = Callable[[Record], str | Awaitable[str | None] | None]
"""It names the next speaker, given the meeting so far; None leaves it to the order of joining."""


class Selection:
    """The meetings whose speakers are chosen by functions of this process.

    Args:
        act: `Meetings.act`.
        threads: They run plain functions.
        trouble: It is told when the store failed while a speaker was chosen.
    """

    def __init__(
        self,
        records: Records,
        presence: Presence,
        threads: DaemonThreads,
        background: Background,
        act: Callable[[str, Act], Awaitable[object]],
        trouble: Trouble,
    ) -> None:
        self.records = records
        self.meetings = records.meetings
        self.names = records.names
        self.presence = presence
        self.threads = threads
        self.background = background
        self.act = act
        self.trouble = trouble
        self.selectors: dict[str, Selector] = {}
        """By meeting id."""
        self._chairs: dict[str, str] = {}
        """By meeting id: the process that is woken when it is time to choose, as it was last set here."""
        self._selecting: dict[str, SingleFlight] = {}
        self._is_closed = False

    def choose_speakers(self, meeting_id: str, function: Selector) -> None:
        """Remember the function that chooses the speakers of a meeting hosted here."""
        self.selectors[meeting_id] = function

    def forget(self, meeting_id: str) -> None:
        """Forget a meeting that is over or gone."""
        self.selectors.pop(meeting_id, None)
        self._chairs.pop(meeting_id, None)
        if meeting_id in self._selecting and self._selecting[meeting_id].is_idle:
            del self._selecting[meeting_id]

    async def aclose(self) -> None:
        """Choose no more."""
        self._is_closed = True
        for selecting in list(self._selecting.values()):
            await selecting.aclose()

    async def take_chairs(self) -> None:
        """Sit for the hosts, so that this process is woken when a speaker is to be chosen."""
        owner = self.presence.process_id
        for meeting_id in [id for id in self.selectors if self._chairs.get(id) != owner]:
            meeting = await self.meetings.find_meeting(meeting_id)
            if meeting is not None:
                await self.meetings.sit(meeting_id, meeting.host_id, owner=owner)
                self._chairs[meeting_id] = owner

    def select(self, meeting_id: str) -> None:
        """Have the function here choose, if it is time."""
        if meeting_id not in self.selectors or self._is_closed:
            return
        selecting = self._selecting.get(meeting_id)
        if selecting is None:
            selecting = self._selecting[meeting_id] = SingleFlight(
                partial(self._select_while_hosted, meeting_id),
                f"choosing the next speaker of meeting {meeting_id}",
                on_failure=self.trouble.note,
                start=self.background.start,
            )
        selecting.request()

    async def _select_while_hosted(self, meeting_id: str) -> None:
        try:
            await self._select_speaker(meeting_id)
        finally:
            if meeting_id not in self.selectors:
                self._selecting.pop(meeting_id, None)

    async def _select_speaker(self, meeting_id: str) -> None:
        standing = (await self.records.find_standings([meeting_id]))[meeting_id]
        if standing is None or standing.status is MeetingStatus.ENDED:
            self.forget(meeting_id)
            return
        turn, function = standing.turn, self.selectors.get(meeting_id)
        if turn is None or turn.purpose is not Purpose.SELECT or function is None:
            return
        chosen = await self._call(meeting_id, function, turn)
        self.select(meeting_id)  # once more: whoever was chosen may have left meanwhile
        await self.act(meeting_id, Choose(turn.number, chosen))

    async def _call(self, meeting_id: str, function: Selector, turn: TurnRow) -> str | None:
        """Return the id of the agent that the function names; None if it names nobody, fails, or takes too long."""
        seats = [seat for seat in await self.meetings.list_seats(meeting_id) if seat.left_at is None]
        before = await self.meetings.list_turns(meeting_id, limit=1, after=turn.number - 2)
        messages = await self.meetings.list_last_messages(meeting_id, None, SO_FAR)
        names = await self.names.find_by_id({seat.agent_id for seat in seats} | {one.agent_id for one in before})
        last = next((names.get(one.agent_id) for one in before if one.purpose is Purpose.SPEAK), None)
        seated = {names[seat.agent_id].external_id: seat.agent_id for seat in seats if seat.agent_id in names}
        said, noted = await self.records.describe_apart(messages)
        so_far = Record(
            meeting_id=meeting_id,
            participants=list(seated),
            last_speaker=last.external_id if last else None,
            turn=turn.number - 1,
            messages=said,
            notes=noted,
        )
        try:
            # Behind the deadline its answer is of no use, and the next turn would wait for it.
            async with asyncio.timeout(turn.left):
                chosen = await self.threads.run(function, so_far)
            if chosen is not None and chosen not in seated:
                raise ValueError(f"it named {chosen!r}, who is not a participant")
            return None if chosen is None else seated[chosen]
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            logger.warning(
                "the speaker selection of meeting %s failed, the order decides: %s", meeting_id, describe(error)
            )
            return None
