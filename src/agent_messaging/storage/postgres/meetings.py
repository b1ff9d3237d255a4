"""Meetings in PostgreSQL: creating them, time, and reading. `acts` changes them.

The feed of events is exact although transactions commit in another order than they take their numbers: its cursor is a
snapshot, and a page is what has been committed between that one and the next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import asyncpg

from ...exceptions import DatabaseError, StorageBusyError
from ...ids import uuid7
from ...models import (
    Kind,
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
    TurnEnd,
)
from ...payloads import checksum
from ..acts import Wanted, first_round
from ..aside import read
from ..assembly.rules import decide
from ..assembly.terms import Act, Changes, TimeOut
from ..batcher import ALONE, Alone, Batcher, batch_reads
from ..minutes import Minutes, dump, judge
from ..ports import (
    EVERYTHING,
    Acted,
    Claim,
    Created,
    EventPage,
    EventRow,
    MeetingRow,
    MeetingStatistics,
    MessageRow,
    Narrowing,
    NewMeeting,
    NewSpeech,
    Outcome,
    SeatRow,
    SpeechCount,
    Standing,
    TimedOut,
    TurnRow,
    UnknownAgents,
)
from ..sql import Queries
from . import acts
from .engine import Connection, Engine, count_of
from .messages import narrow, to_message

T = TypeVar("T")
A = TypeVar("A", bound=str | None)

_SQL = Queries(__package__, "meetings")
_TRIES = 5
_AT_ONCE = 100
"""Acts in one transaction."""
_SAID = (
    *("seq", "message_id", "kind", "sender_id", "recipient_id", "content", "metadata", "checksum"),
    *("created_at", "read_at", "session_id", "message_type"),
)
"""The columns of a message that find_standings brings along."""
_MOMENT = 0.25
"""Seconds for which acts of one transaction wait for a lock."""


class _LostRace(Exception):
    """Another transaction stored the same meeting, or used the same idempotency key, first."""


class PostgresMeetings:
    """See `ports.MeetingStore`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._acts = Batcher(
            self._act_together,
            self._act_alone,
            choose=first_round,
            budget=engine.call_timeout,
            at_once=_AT_ONCE,
            size=attrgetter("size"),
        )
        self._seats = batch_reads(self._find_seats, budget=engine.call_timeout, at_once=_AT_ONCE)

    # --- what changes them ---

    async def create(self, meeting: NewMeeting, *, owner: str, now: datetime | None = None) -> Created | UnknownAgents:
        is_alone = len(meeting.participant_ids) == 1
        status = MeetingStatus.READY if is_alone else MeetingStatus.CREATED
        invitations = meeting.invitations

        async def work(connection: Connection) -> Created | UnknownAgents:
            agents = list(meeting.participant_ids)
            rows = await connection.fetch(_SQL["find_existing"], meeting.meeting_id, agents)
            if any(row["is_stored"] for row in rows):
                return Created(status)
            known = {row["id"] for row in rows}
            if missing := [agent_id for agent_id in agents if agent_id not in known]:
                return UnknownAgents(missing)
            values = [
                now,
                meeting.meeting_id,
                meeting.host_id,
                str(status),
                str(meeting.selection),
                meeting.turn_duration,
                meeting.max_attempts,
                [uuid7() for _ in agents],
                agents,
                [invitation.message_id for invitation in invitations],
                [invitation.recipient_id for invitation in invitations],
                [invitation.content for invitation in invitations],
                [invitation.checksum for invitation in invitations],
                [invitation.notify for invitation in invitations],
                owner,
                meeting.max_turns,
                meeting.max_duration,
                meeting.host_speaks,
                meeting.end_when,
                [invitation.metadata for invitation in invitations],
            ]
            try:
                await connection.execute(_SQL["create_meeting"], *values)
            except asyncpg.UniqueViolationError:
                raise _LostRace from None
            return Created(status)

        return await self._contend(work, repeatable=True)

    async def act(
        self,
        meeting_id: str,
        act: Act,
        *,
        owner: str,
        speech: NewSpeech | None = None,
        claim: Claim | None = None,
        now: datetime | None = None,
    ) -> Outcome:
        return await self._acts(Wanted(meeting_id, act, owner, speech, claim, now))

    async def _act_together(self, wanted: list[Wanted], budget: float) -> list[Outcome | Alone]:
        """Do in one transaction the acts whose meetings nobody holds; each is in a meeting of its own."""

        async def work(connection: Connection) -> list[Outcome | Alone]:
            locked = await acts.try_lock(connection, [one.meeting_id for one in wanted], _MOMENT)
            free = [one for one in wanted if one.meeting_id in locked]
            outcomes = iter(await _act(connection, free)) if free else iter(())
            return [next(outcomes) if one.meeting_id in locked else ALONE for one in wanted]

        return await self._contend(work, repeatable=wanted[0].speech is not None, budget=budget)

    async def _act_alone(self, wanted: Wanted, budget: float) -> Outcome:
        async def work(connection: Connection) -> Outcome:
            await acts.lock(connection, [wanted.meeting_id])
            (outcome,) = await _act(connection, [wanted])
            return outcome

        # Only a speech tells, by its id, that a try before was committed.
        return await self._contend(work, repeatable=wanted.speech is not None, budget=budget)

    async def time_out(self, limit: int, *, now: datetime | None = None) -> TimedOut:
        next_in = await self._find_next(now)
        if next_in is None or next_in > 0:
            return TimedOut({}, next_in)

        try:
            acted = await self._engine.run(partial(self._time_out_due, limit=limit, now=now), write=True)
        except DatabaseError as error:
            if error.retryable:
                raise
            # A meeting cannot be read or changed. Nothing was written, so each is tried by itself.
            acted = await self._time_out_each(limit, now)
        return TimedOut(acted, await self._find_next(now))

    async def _time_out_due(self, connection: Connection, limit: int, now: datetime | None) -> dict[str, Acted]:
        found = await connection.fetch(_SQL["time_out_find"], now, limit)
        numbers = {row["meeting_id"]: row["number"] for row in found}
        acted = await self._time_out(connection, numbers, now)
        await self._forget(connection, numbers, acted)
        return acted

    async def _time_out_each(self, limit: int, now: datetime | None) -> dict[str, Acted]:
        """End each turn in a transaction of its own. A turn for which that fails is not due any more."""
        found = await self._engine.run(
            lambda connection: connection.fetch(_SQL["time_out_find"], now, limit), write=True, repeatable=True
        )
        numbers = {row["meeting_id"]: row["number"] for row in found}
        acted: dict[str, Acted] = {}
        for meeting_id, number in numbers.items():

            async def one(connection: Connection, id: str = meeting_id, number: int = number) -> dict[str, Acted]:
                await acts.lock(connection, [id])
                return await self._time_out(connection, {id: number}, now)

            try:
                acted |= await self._engine.run(one, write=True)
            except DatabaseError as error:
                if error.retryable:
                    raise
                self._engine.aside.tell(f"meeting {meeting_id}", error)
        await self._engine.run(partial(self._forget, numbers=numbers, acted=acted), write=True, repeatable=True)
        return acted

    @staticmethod
    async def _time_out(connection: Connection, numbers: dict[str, int], now: datetime | None) -> dict[str, Acted]:
        minutes = Minutes(owner=None)
        for meeting in await acts.gather(connection, list(numbers), now) if numbers else ():
            wanted = Wanted(meeting.meeting_id, TimeOut(numbers[meeting.meeting_id]))
            decision = decide(meeting.assembly, wanted.act)
            if isinstance(decision, Changes):
                minutes.add(wanted, meeting, decision)
        await acts.write(connection, minutes)
        return minutes.acted

    @staticmethod
    async def _forget(connection: Connection, numbers: dict[str, int], acted: dict[str, Acted]) -> None:
        if left := [meeting_id for meeting_id in numbers if meeting_id not in acted]:
            await connection.execute(_SQL["time_out_forget"], left, [numbers[meeting_id] for meeting_id in left])

    async def _find_next(self, now: datetime | None) -> float | None:
        (row,) = await self._fetch("time_out_next", now)
        return None if row["next_in"] is None else max(row["next_in"], 0.0)

    async def sit(self, meeting_id: str, agent_id: str, *, owner: str) -> Standing | None:
        row = await self._seats((meeting_id, agent_id, owner))
        if row["is_known"] is False:
            await self._engine.change(_SQL["sit"], meeting_id, agent_id, owner, repeatable=True)
            row = await self._seats((meeting_id, agent_id, owner))
        return read(_standing, row, "how the meeting stands")

    async def _find_seats(self, wanted: list[tuple[str, str, str]], budget: float) -> list[Any]:
        return list(await self._fetch_within(budget, "sit_find", *map(list, zip(*wanted, strict=True))))

    async def record_event(
        self,
        meeting_id: str,
        type: MeetingEventType,
        agent_id: str | None,
        data: dict[str, Any],
        *,
        now: datetime | None = None,
    ) -> bool:
        text = dump(data)
        values = (meeting_id, str(type), agent_id, text, checksum(text, None), now)
        status = await self._engine.run(
            lambda connection: connection.execute(_SQL["record_event"], *values),
            write=True,
            single=True,
        )
        return count_of(status) > 0

    # --- meetings and seats ---

    async def find_meeting(self, meeting_id: str, now: datetime | None = None) -> MeetingRow | None:
        rows = await self._fetch("find_meeting", meeting_id, now)
        return read(_meeting, rows[0], "the meeting") if rows else None

    async def list_seats(self, meeting_id: str) -> list[SeatRow]:
        rows = await self._fetch("list_seats", meeting_id)
        return self._engine.aside.all(_seat, rows, "a participant")

    async def list_meetings(
        self,
        agent_id: str | None,
        *,
        statuses: Collection[MeetingStatus] | None,
        limit: int,
        offset: int = 0,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        before_id: str | None = None,
    ) -> list[MeetingRow]:
        wanted = [str(status) for status in (MeetingStatus if statuses is None else set(statuses))]
        page = (wanted, limit, offset, date_from, date_to, before_id)
        if agent_id is None:
            rows = await self._fetch("list_meetings", *page)
        else:
            rows = await self._fetch("list_meetings_of", *page, agent_id)
        return self._engine.aside.all(_meeting, rows, "a meeting")

    async def find_standings(
        self, keys: Sequence[tuple[str, A]], now: datetime | None = None, *, called: bool = False, recent: int = 0
    ) -> dict[tuple[str, A], Standing | None]:
        if not keys:
            return {}
        meeting_ids, agent_ids = [key[0] for key in keys], [key[1] for key in keys]
        rows = await self._fetch("find_standings", meeting_ids, agent_ids, now, called, recent)
        found: dict[tuple[str, A], list[Any]] = {}
        for row in rows:
            found.setdefault((row["meeting_id"], row["agent_id"]), []).append(row)
        one = partial(self._engine.aside.one, _standing_after, what="how a meeting stands")
        return {key: one(rows) for key, rows in found.items()}

    # --- what was said and done ---

    async def list_messages(
        self,
        meeting_id: str,
        *,
        limit: int,
        offset: int = 0,
        after_seq: int | None = None,
        before_seq: int | None = None,
        newest_first: bool = False,
        narrowing: Narrowing = EVERYTHING,
    ) -> list[MessageRow]:
        name = "list_meeting_messages_newest" if newest_first else "list_meeting_messages"
        page = (meeting_id, limit, offset, after_seq, before_seq, *narrow(narrowing))
        return [to_message(row) for row in await self._fetch(name, *page)]

    async def list_turns(self, meeting_id: str, *, limit: int, after: int = 0) -> list[TurnRow]:
        rows = await self._fetch("list_turns", meeting_id, after, limit)
        return self._engine.aside.all(_turn, rows, f"a turn of meeting {meeting_id}")

    async def count_speeches(self, meeting_id: str) -> list[SpeechCount]:
        return [SpeechCount(**row) for row in await self._fetch("count_speeches", meeting_id)]

    async def count_messages(self, meeting_id: str) -> int:
        (row,) = await self._fetch("count_meeting_messages", meeting_id)
        return int(row["count"])

    async def statistics(self, agent_id: str) -> MeetingStatistics:
        (row,) = await self._fetch("meeting_statistics", agent_id)
        return MeetingStatistics(**row)

    # --- events ---

    async def list_events(self, meeting_id: str, *, limit: int, after_seq: int = 0) -> list[EventRow]:
        rows = await self._fetch("list_events", meeting_id, after_seq, limit)
        return self._engine.aside.all(_event, rows, "an event")

    async def find_cursor(self) -> str:
        """A snapshot: what it does not show is read from here, and only that."""
        (row,) = await self._fetch("find_cursor")
        return str(row["cursor"])

    async def read_events(self, cursor: str, limit: int, *, most_bytes: int) -> EventPage:
        """See the port. Within a meeting in the order of seq, which there is that of commits.

        A cursor is a snapshot; inside a stretch that is longer than a page it is "since/until/seq".
        """
        since, _, rest = cursor.partition("/")
        until, _, seq = rest.partition("/")
        rows = await self._fetch("read_events", since, until or None, int(seq or 0), limit, most_bytes)
        until, found = rows[0]["until"], rows[0]["found"] or 0
        rows = [row for row in rows if row["seq"] is not None]
        is_last = len(rows) == found < limit
        events = self._engine.aside.all(_event, rows, "an event")
        return EventPage(events, until if is_last else f"{since}/{until}/{rows[-1]['seq']}", is_last)

    async def _contend(
        self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool, budget: float | None = None
    ) -> T:
        """Run `work` again where another transaction stored the same first, as it finds then."""
        for _ in range(_TRIES):
            try:
                return await self._engine.run(work, write=True, repeatable=repeatable, budget=budget)
            except _LostRace:
                continue
        raise StorageBusyError("Others stored the same ids or keys again and again; nothing was stored. Try again.")

    async def _fetch(self, name: str, *values: object) -> Any:
        return await self._fetch_within(None, name, *values)

    async def _fetch_within(self, budget: float | None, name: str, *values: object) -> Any:
        return await self._engine.fetch(_SQL[name], *values, budget=budget)


async def _act(connection: Connection, wanted: Sequence[Wanted]) -> list[Outcome]:
    """Do all acts and answer each. Their meetings are locked; each has a meeting and a key of its own."""
    minutes = Minutes(wanted[0].owner)
    outcomes: list[Outcome] = []
    for one, asked in zip(wanted, await acts.find_questions(connection, wanted), strict=True):
        judged = judge(one, asked)
        if isinstance(judged, Changes):
            assert asked.meeting is not None
            judged = minutes.add(one, asked.meeting, judged)
        outcomes.append(judged)
    if not await acts.write(connection, minutes):
        raise _LostRace
    return outcomes


def _meeting(row: Any) -> MeetingRow:
    return MeetingRow(
        meeting_id=row["meeting_id"],
        host_id=row["host_id"],
        status=MeetingStatus(row["status"]),
        selection=SpeakerSelection(row["selection"]),
        turn_duration=row["turn_duration"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        turn=acts.to_turn(row),
        max_turns=row["max_turns"],
        max_duration=row["max_duration"],
        host_speaks=row["host_speaks"],
        turns_taken=row["turns_taken"],
        deadline_at=row["deadline_at"],
        end_reason=None if row["end_reason"] is None else MeetingEnd(row["end_reason"]),
    )


def _seat(row: Any) -> SeatRow:
    return SeatRow(**{**row, "status": ParticipantStatus(row["status"])})


def _standing(row: Any) -> Standing | None:
    if row["status"] is None:
        return None
    seat = None if row["seat"] is None else ParticipantStatus(row["seat"])
    return Standing(MeetingStatus(row["status"]), seat, acts.to_turn(row))


def _standing_after(rows: list[Any]) -> Standing | None:
    """With what was said, which has a row for each message."""
    standing = _standing(rows[0])
    if standing is None or rows[0]["seq"] is None:
        return standing
    return replace(standing, said=tuple(to_message({name: row[name] for name in _SAID}) for row in rows))


def _turn(row: Any) -> TurnRow:
    turn = acts.to_turn(row)
    assert turn is not None
    return replace(
        turn,
        ended_at=row["ended_at"],
        how=None if row["how"] is None else TurnEnd(row["how"]),
        message_id=row["message_id"],
    )


def _event(row: Any) -> EventRow:
    message = None
    if row["said_seq"] is not None:
        message = MessageRow(
            seq=row["said_seq"],
            message_id=row["said_id"],
            kind=Kind.MEETING,
            sender_id=row["said_by"],
            recipient_id=None,
            content=row["content"],
            metadata=row["metadata"],
            checksum=row["checksum"],
            created_at=row["said_at"],
            read_at=None,
            session_id=None,
            message_type=MessageType(row["message_type"]),
        )
    return EventRow(
        seq=row["seq"],
        meeting_id=row["meeting_id"],
        type=MeetingEventType(row["type"]),
        agent_id=row["agent_id"],
        content=row["data"],
        checksum=row["data_checksum"],
        created_at=row["created_at"],
        message=message,
    )
