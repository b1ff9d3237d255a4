"""Asks functions of this process, between two turns of a meeting, whether it ends and who speaks next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from ...futures import wait_for_all
from ...handlers.threads import DaemonThreads
from ...loggers import get_logger
from ...models import MeetingEnd, MeetingStatus, Record
from ...single_flight import SingleFlight
from ...storage.assembly.terms import Act, Choose, Close, Purpose
from ...storage.ports import MessageRow, Presence, TurnRow
from ..background import Background
from ..retry import describe, is_cancellation
from ..trouble import Trouble
from .records import Records

logger = get_logger("agent_messaging.delivery")

SO_FAR = 1_000
"""The functions are shown at most so many messages, the newest."""
PATIENCE = 1.0
"""Seconds that a function which is cancelled has to end."""

Selector = Callable[[Record], str | Awaitable[str | None] | None]
"""A function that names the next speaker, given the meeting so far; None ends the meeting."""
Condition = Callable[[Record], bool | Awaitable[bool]]
"""A function that says whether the meeting ends, given the meeting so far."""


class Selection:
    """The meetings that functions of this process direct.

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
        self.conditions: dict[str, Condition] = {}
        """By meeting id."""
        self._chairs: dict[str, str] = {}
        """By meeting id: the process that is woken when it is time to choose, as it was last set here."""
        self._selecting: dict[str, SingleFlight] = {}
        self._is_closed = False

    @property
    def directed(self) -> set[str]:
        """The ids of the meetings that functions of this process direct."""
        return self.selectors.keys() | self.conditions.keys()

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks in which functions decide now."""
        return {one.task for one in self._selecting.values() if one.task is not None}

    def direct(self, meeting_id: str, selector: Selector | None = None, condition: Condition | None = None) -> None:
        """Remember functions that direct a meeting hosted here."""
        if selector is not None:
            self.selectors[meeting_id] = selector
        if condition is not None:
            self.conditions[meeting_id] = condition

    def forget(self, meeting_id: str) -> None:
        """Forget a meeting that is over or gone."""
        self.selectors.pop(meeting_id, None)
        self.conditions.pop(meeting_id, None)
        self._chairs.pop(meeting_id, None)
        if meeting_id in self._selecting and self._selecting[meeting_id].is_idle:
            del self._selecting[meeting_id]

    async def aclose(self) -> None:
        """Choose no more."""
        self._is_closed = True
        await wait_for_all(selecting.aclose(patience=PATIENCE) for selecting in self._selecting.values())

    async def take_chairs(self) -> None:
        """Sit for the hosts, so that this process is woken when a speaker is to be chosen."""
        owner = self.presence.process_id
        for meeting_id in [id for id in self.directed if self._chairs.get(id) != owner]:
            meeting = await self.meetings.find_meeting(meeting_id)
            if meeting is not None:
                await self.meetings.sit(meeting_id, meeting.host_id, owner=owner)
                self._chairs[meeting_id] = owner

    def select(self, meeting_id: str) -> None:
        """Have the functions here decide, if it is time."""
        if meeting_id not in self.directed or self._is_closed:
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
            await self._decide(meeting_id)
        finally:
            if meeting_id not in self.directed:
                self._selecting.pop(meeting_id, None)

    async def _decide(self, meeting_id: str) -> None:
        standing = await self.records.find_standing(meeting_id, None, recent=SO_FAR)
        if standing is None or standing.status is MeetingStatus.ENDED:
            self.forget(meeting_id)
            return
        turn, selector, condition = standing.turn, self.selectors.get(meeting_id), self.conditions.get(meeting_id)
        if turn is None or turn.purpose is not Purpose.SELECT or (selector is None and condition is None):
            return
        so_far, seated = await self._describe(meeting_id, turn, standing.said)
        act: Act = Choose(turn.number, None)
        asked, otherwise = "end_when", "the meeting goes on"
        try:
            # Behind the deadline an answer is of no use, and the next turn would wait for it.
            async with asyncio.timeout(turn.left):
                if condition is not None and await self._is_met(meeting_id, condition, so_far):
                    act = Close(turn.number, MeetingEnd.END_WHEN)
                elif selector is not None and turn.next_id is None:
                    asked, otherwise = "the speaker selection", "the order decides"
                    act = await self._choose(turn, selector, so_far, seated)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            logger.warning("%s of meeting %s failed, %s: %s", asked, meeting_id, otherwise, describe(error))
        self.select(meeting_id)  # once more: whoever was chosen may have left meanwhile
        await self.act(meeting_id, act)

    async def _is_met(self, meeting_id: str, condition: Condition, so_far: Record) -> bool:
        """Whether the meeting ends. A condition that fails is not met: the other bounds hold."""
        try:
            return bool(await self.threads.run(condition, so_far))
        except Exception as error:
            logger.warning("end_when of meeting %s failed, the meeting goes on: %s", meeting_id, describe(error))
            return False

    async def _choose(self, turn: TurnRow, selector: Selector, so_far: Record, seated: dict[str, str]) -> Act:
        """Have the function name the next speaker.

        Args:
            seated: The ids of those who can be named, by external id.

        Raises:
            ValueError: It named somebody else.
        """
        chosen: Any = await self.threads.run(selector, so_far)
        if chosen is None:
            return Close(turn.number, MeetingEnd.NOBODY)
        if chosen not in seated:
            raise ValueError(f"it named {chosen!r}, who is not a participant")
        return Choose(turn.number, seated[chosen])

    async def _describe(
        self, meeting_id: str, turn: TurnRow, messages: Iterable[MessageRow]
    ) -> tuple[Record, dict[str, str]]:
        """Describe the meeting so far. Also return the ids of its participants by external id."""
        seats = [seat for seat in await self.meetings.list_seats(meeting_id) if seat.left_at is None]
        before = await self.meetings.list_turns(meeting_id, limit=1, after=turn.number - 2)
        names = await self.names.find_by_id({seat.agent_id for seat in seats} | {one.agent_id for one in before})
        last = next((names.get(one.agent_id) for one in before if one.purpose is Purpose.SPEAK), None)
        seated = {names[seat.agent_id].external_id: seat.agent_id for seat in seats if seat.agent_id in names}
        said, noted = await self.records.describe_apart(messages)
        so_far = Record(
            meeting_id=meeting_id,
            participants=list(seated),
            last_speaker=last.external_id if last else None,
            last_message=said[-1] if said else None,
            turn=turn.number - 1,
            messages=said,
            notes=noted,
        )
        return so_far, seated
