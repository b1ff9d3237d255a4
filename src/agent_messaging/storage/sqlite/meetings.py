"""Meetings in SQLite: creating them, time, and reading. `acts` changes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile
from typing import Any, TypeVar
from uuid import UUID

import apsw

from ...exceptions import DatabaseError, StorageCorruptError
from ...ids import uuid7
from ...models import (
    Kind,
    MeetingEnd,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
)
from ...payloads import checksum
from ..acts import Wanted, rounds
from ..aside import read
from ..assembly.terms import Act, TimeOut
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
from . import acts, notices
from .clock import (
    Instant,
    StoreClock,
    first_of,
    seconds_left,
    to_datetime,
    to_datetime_or_none,
    to_microseconds_or_none,
)
from .engine import Engine, fetch, fetch_page
from .filing import file, find_next
from .rows import encode, message_row, narrow, turn_row, turn_row_or_none

A = TypeVar("A", bound=str | None)

_SQL = Queries(__package__, "meetings")


class SQLiteMeetings:
    """See `ports.MeetingStore`."""

    def __init__(self, engine: Engine, clock: StoreClock) -> None:
        self._engine = engine
        self._clock = clock

    # --- changes ---

    async def create(self, meeting: NewMeeting, *, owner: str, now: datetime | None = None) -> Created | UnknownAgents:
        return await self._engine.write(lambda con: _create(con, meeting, owner, self._clock.now(now)))

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
        wanted = Wanted(meeting_id, act, owner, speech, claim, now)
        return await self._engine.write_together(self._act, wanted, size=wanted.size)

    def _act(self, connection: apsw.Connection, wanted: list[Wanted]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(wanted)
        for round in rounds(wanted):
            first = wanted[round[0]]
            together = [wanted[position] for position in round]
            answers = acts.act(connection, together, first.owner, self._clock.now(first.now))
            for position, answer in zip(round, answers, strict=True):
                outcomes[position] = answer
        return outcomes

    async def time_out(self, limit: int, *, now: datetime | None = None) -> TimedOut:

        def end(connection: apsw.Connection, *, singly: bool = False) -> tuple[dict[str, Acted], int | None]:
            instant = self._clock.now(now)
            found = fetch(connection, _SQL["time_out_find"], {"now": instant.due, "limit": limit})
            wanted = [Wanted(meeting_id, TimeOut(number)) for meeting_id, number in found]
            act = self._time_out_each if singly else acts.act
            outcomes = act(connection, wanted, None, instant)
            ended, left = {}, []
            for (_, number), one, outcome in zip(found, wanted, outcomes, strict=True):
                if isinstance(outcome, Acted):
                    ended[one.meeting_id] = outcome
                else:
                    left.append((one.meeting_id, number))
            if left:
                connection.execute(_SQL["time_out_forget"], {"rows": encode(left)})
            return ended, _next_deadline(connection)

        meetings: dict[str, Acted] = {}
        next_due = await self._engine.read(_next_deadline)
        if next_due is not None and next_due <= self._clock.now(now).due:
            try:
                meetings, next_due = await self._engine.write(end)
            except DatabaseError as error:
                if error.retryable:
                    raise
                # A meeting cannot be read or changed. Nothing was written, so each is tried by itself.
                meetings, next_due = await self._engine.write(partial(end, singly=True))
        return TimedOut(meetings, seconds_left(next_due, self._clock.now(now)))

    def _time_out_each(
        self, connection: apsw.Connection, wanted: Sequence[Wanted], owner: str | None, instant: Instant
    ) -> list[Outcome]:
        """Act on each under a savepoint of its own; an act that fails is answered with None."""
        outcomes: list[Outcome] = []
        for one in wanted:
            try:
                with connection:
                    outcomes += acts.act(connection, [one], owner, instant)
            except (StorageCorruptError, apsw.SQLError, apsw.ConstraintError, apsw.MismatchError) as error:
                self._engine.aside.tell(f"meeting {one.meeting_id}", error)
                outcomes.append(None)
        return outcomes

    async def sit(self, meeting_id: str, agent_id: str, *, owner: str) -> Standing | None:
        parameters: dict[str, object] = {"meeting": meeting_id, "agent": agent_id, "owner": owner}

        def sit(connection: apsw.Connection) -> Any:
            connection.execute(_SQL["sit"], parameters).close()
            return fetch(connection, _SQL["sit_find"], parameters)

        found = await self._engine.read_together(_find_seats, parameters)
        if found is not None and found[0] == 0:
            found = await self._engine.write(sit)
        return None if found is None else _standing(found[1:], self._clock.now())

    async def record_event(
        self,
        meeting_id: str,
        type: MeetingEventType,
        agent_id: str | None,
        data: dict[str, Any],
        *,
        now: datetime | None = None,
    ) -> bool:
        text = encode(data)
        parameters = {
            "meeting": meeting_id,
            "type": type,
            "agent": agent_id,
            "data": text,
            "checksum": checksum(text, None),
        }

        def record(connection: apsw.Connection) -> bool:
            connection.execute(_SQL["record_event"], {**parameters, "at": self._clock.now(now).at})
            return connection.changes() > 0

        return await self._engine.write(record)

    # --- meetings ---

    async def find_meeting(self, meeting_id: str, now: datetime | None = None) -> MeetingRow | None:
        row = await self._fetch("find_meeting", meeting=meeting_id)
        return None if row is None else read(partial(_meeting, instant=self._clock.now(now)), row, "the meeting")

    async def list_seats(self, meeting_id: str) -> list[SeatRow]:
        rows = await self._fetch("list_seats", meeting=meeting_id)
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
        name = "list_meetings" if agent_id is None else "list_meetings_of"
        wanted: dict[str, Any] = {status.value: statuses is None or status in statuses for status in MeetingStatus}
        wanted |= {"from": to_microseconds_or_none(date_from), "to": to_microseconds_or_none(date_to)}
        rows = await self._fetch(name, agent=agent_id, before=before_id, limit=limit, offset=offset, **wanted)
        instant = self._clock.now()
        return self._engine.aside.all(partial(_meeting, instant=instant), rows, "a meeting")

    async def find_standings(
        self, keys: Sequence[tuple[str, A]], now: datetime | None = None, *, called: bool = False, recent: int = 0
    ) -> dict[tuple[str, A], Standing | None]:
        if not keys:
            return {}
        rows = await self._engine.read(partial(_find_standings, keys=keys, called=called, recent=recent))
        instant = self._clock.now(now)
        one = partial(self._engine.aside.one, partial(_standing, instant=instant), what="how a meeting stands")
        return {key: one(row) for key, *row in rows}

    async def list_turns(self, meeting_id: str, *, limit: int, after: int = 0) -> list[TurnRow]:
        rows = await self._fetch("list_turns", meeting=meeting_id, limit=limit, after=after)
        instant = self._clock.now()
        return self._engine.aside.all(partial(turn_row, instant=instant), rows, f"a turn of meeting {meeting_id}")

    # --- messages ---

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
        parameters: dict[str, Any] = {"meeting": meeting_id, "limit": limit, "offset": offset}
        parameters |= {"after": after_seq, "before": before_seq, **narrow(narrowing)}
        name = "list_meeting_messages_newest" if newest_first else "list_meeting_messages"
        return [message_row(row) for row in await self._fetch_page(name, parameters)]

    async def count_speeches(self, meeting_id: str) -> list[SpeechCount]:
        return [
            SpeechCount(agent_id, messages, to_datetime(first_at), to_datetime(last_at), length)
            for agent_id, messages, first_at, last_at, length in await self._fetch("count_speeches", meeting=meeting_id)
        ]

    async def count_messages(self, meeting_id: str) -> int:
        (count,) = await self._fetch("count_meeting_messages", meeting=meeting_id)
        return int(count)

    async def statistics(self, agent_id: str) -> MeetingStatistics:
        return MeetingStatistics(*await self._fetch("meeting_statistics", agent=agent_id))

    # --- events ---

    async def list_events(self, meeting_id: str, *, limit: int, after_seq: int = 0) -> list[EventRow]:
        parameters = {"meeting": meeting_id, "limit": limit, "after_seq": after_seq}
        return self._engine.aside.all(_event, await self._fetch_page("list_events", parameters), "an event")

    async def find_cursor(self) -> str:
        (seq,) = await self._fetch("find_cursor")
        return str(seq)

    async def read_events(self, cursor: str, limit: int, *, most_bytes: int) -> EventPage:
        parameters = {"limit": limit, "after_seq": int(cursor), "most_bytes": most_bytes}
        found, rows = await self._fetch("read_events", **parameters)
        events = self._engine.aside.all(_event, rows, "an event")
        return EventPage(events, str(rows[-1][0]) if rows else cursor, len(rows) == found < limit)

    async def _fetch(self, name: str, **parameters: object) -> Any:
        return await self._engine.read(partial(fetch, sql=_SQL[name], parameters=parameters))

    async def _fetch_page(self, name: str, parameters: Mapping[str, object]) -> list[Any]:
        return await self._engine.read(partial(fetch_page, sql=_SQL[name], parameters={"offset": 0, **parameters}))


def _create(connection: apsw.Connection, meeting: NewMeeting, owner: str, instant: Instant) -> Created | UnknownAgents:
    parameters: dict[str, object] = {"meeting": meeting.meeting_id, "host": meeting.host_id, "owner": owner}
    parameters |= {"agents": encode(meeting.participant_ids)}
    stored, missing = fetch(connection, _SQL["find_existing"], parameters)
    if stored is not None:
        return Created(MeetingStatus(stored))
    if missing:
        return UnknownAgents(missing)
    status = MeetingStatus.CREATED if len(meeting.participant_ids) > 1 else MeetingStatus.READY
    parameters |= {"status": status, "selection": meeting.selection, "turn_duration": meeting.turn_duration}
    parameters |= {"max_attempts": meeting.max_attempts, "at": instant.at, "now": instant.due}
    parameters |= {"max_turns": meeting.max_turns, "max_duration": meeting.max_duration}
    parameters |= {"host_speaks": meeting.host_speaks, "end_when": meeting.end_when}
    connection.execute(_SQL["create_meeting"], parameters)
    seats = [(uuid7(), agent_id) for agent_id in meeting.participant_ids]
    connection.execute(_SQL["create_seats"], {**parameters, "rows": encode(seats)})
    if meeting.invitations:
        _invite(connection, meeting, parameters, instant)
    return Created(status)


def _invite(connection: apsw.Connection, meeting: NewMeeting, parameters: dict[str, object], instant: Instant) -> None:
    invitations, host_id = meeting.invitations, meeting.host_id
    messages = [
        (
            meeting.meeting_id,
            invitation.message_id,
            Kind.INVITATION,
            MessageType.SYSTEM,
            host_id,
            invitation.recipient_id,
            invitation.content,
            invitation.metadata,
            invitation.checksum,
        )
        for invitation in invitations
    ]
    first = find_next(connection)
    connection.execute(_SQL["act_insert_messages"], {**parameters, "first": first, "rows": encode(messages)})
    deliveries = [
        (seq, invitation.recipient_id, Kind.INVITATION, host_id, meeting.max_attempts, None)
        for seq, invitation in enumerate(invitations, first)
    ]
    connection.execute(_SQL["act_insert_deliveries"], {**parameters, "rows": encode(deliveries)})
    file(connection, first, first + len(messages) - 1)
    told = [
        (seq, invitation.recipient_id, None) for seq, invitation in enumerate(invitations, first) if invitation.notify
    ]
    if told:
        notices.leave(connection, told, instant)


def _find_seats(connection: apsw.Connection, wanted: list[dict[str, object]]) -> list[Any]:
    return [fetch(connection, _SQL["sit_find"], one) for one in wanted]


def _find_standings(
    connection: apsw.Connection, keys: Sequence[tuple[str, A]], called: bool, recent: int
) -> list[tuple[Any, ...]]:
    """The rows, each behind its key; in pieces where what was said is too big for one text (a gigabyte)."""
    try:
        found = fetch(
            connection, _SQL["find_standings"], {"keys": encode(list(keys)), "called": called, "recent": recent}
        )
        return [(keys[number], *row) for number, *row in found]
    except apsw.TooBigError:
        middle = len(keys) // 2
        if middle:
            return [
                row
                for half in (keys[:middle], keys[middle:])
                for row in _find_standings(connection, half, called, recent)
            ]
    ((meeting_id, agent_id),) = keys
    page = {"meeting": meeting_id, "limit": recent, "offset": 0, "after": None, "before": None, **narrow(EVERYTHING)}
    newest = fetch_page(connection, _SQL["list_meeting_messages_newest"], page)
    said = takewhile(lambda row: row[3] != agent_id or row[11] != MessageType.USER_DEFINED, newest)
    return [(*row[:-1], list(said)) for row in _find_standings(connection, keys, called, 0)]


def _next_deadline(connection: apsw.Connection) -> int | None:
    return first_of(fetch(connection, _SQL["time_out_next"], {}))


def _meeting(row: list[Any], instant: Instant) -> MeetingRow:
    meeting_id, host_id, status, selection, turn_duration, created_at, started_at, ended_at, *bounds, turn = row
    max_turns, max_duration, host_speaks, turns_taken, deadline_at, end_reason = bounds
    return MeetingRow(
        meeting_id=meeting_id,
        host_id=host_id,
        status=MeetingStatus(status),
        selection=SpeakerSelection(selection),
        turn_duration=turn_duration,
        created_at=to_datetime(created_at),
        started_at=to_datetime_or_none(started_at),
        ended_at=to_datetime_or_none(ended_at),
        turn=turn_row_or_none(turn, instant),
        max_turns=max_turns,
        max_duration=max_duration,
        host_speaks=bool(host_speaks),
        turns_taken=turns_taken,
        deadline_at=to_datetime_or_none(deadline_at),
        end_reason=None if end_reason is None else MeetingEnd(end_reason),
    )


def _standing(row: list[Any], instant: Instant) -> Standing | None:
    status, seat, turn, *said = row  # newest first
    if status is None:
        return None
    return Standing(
        MeetingStatus(status),
        None if seat is None else ParticipantStatus(seat),
        turn_row_or_none(turn, instant),
        tuple(message_row(one) for rows in said for one in reversed(rows)),
    )


def _seat(row: list[Any]) -> SeatRow:
    seat_id, agent_id, join_order, status, joined_at, left_at = row
    return SeatRow(
        seat_id=str(UUID(seat_id)),
        agent_id=str(UUID(agent_id)),
        join_order=join_order,
        status=ParticipantStatus(status),
        joined_at=to_datetime_or_none(joined_at),
        left_at=to_datetime_or_none(left_at),
    )


def _event(row: list[Any]) -> EventRow:
    seq, meeting_id, type, agent_id, content, sum, created_at, message = row
    return EventRow(
        seq=seq,
        meeting_id=meeting_id,
        type=MeetingEventType(type),
        agent_id=agent_id,
        content=content,
        checksum=sum,
        created_at=to_datetime(created_at),
        message=None if message is None else message_row(message),
    )
