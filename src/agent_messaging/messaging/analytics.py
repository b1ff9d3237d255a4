"""Makes records of meetings: how they stand, what was said when, who took part how much. It only reads."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from ..delivery.engine import Engine
from ..delivery.events import OpenEvent, agents_of, event_data, kept_names, open_events
from ..delivery.names import external_or_none
from ..models import MeetingEnd, MeetingStatusResponse, ParticipantStatus, Record, Transcript, TurnEnd
from ..storage.assembly.terms import Purpose
from ..storage.ports import EventRow, MeetingRow, MessageRow, SeatRow, TurnRow
from .directory import find_agent
from .listing import read_all


async def describe(engine: Engine, row: MeetingRow) -> Record:
    """Describe a meeting as it stands, without its participants."""
    turn = row.speaking_turn
    names = await engine.names.find_by_id({row.host_id, *([turn.agent_id] if turn else ())})
    host = external_or_none(names, row.host_id)
    speaker = None if turn is None else external_or_none(names, turn.agent_id)
    return Record(
        meeting_id=UUID(row.meeting_id),
        status=row.status,
        state=row.status,
        host_id=host,
        host_external_id=host,
        current_speaker=speaker,
        current_speaker_external_id=speaker,
        turn=None if turn is None else turn.number,
        turn_duration=row.turn_duration,
        turns_taken=row.turns_taken,
        max_turns=row.max_turns,
        max_duration=row.max_duration,
        deadline=row.deadline_at,
        host_speaks=row.host_speaks,
        turn_started_at=None if turn is None else turn.started_at,
        turn_deadline=None if turn is None else turn.deadline_at,
        seconds_left=None if turn is None or turn.left is None else max(0.0, turn.left),
        speaker_selection=row.selection,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
    )


async def describe_with_seats(engine: Engine, row: MeetingRow) -> MeetingStatusResponse:
    """Describe a meeting as it stands."""
    seats = await engine.store.meetings.list_seats(row.meeting_id)
    names = await engine.names.find_by_id({seat.agent_id for seat in seats})
    seated = [external_or_none(names, seat.agent_id) for seat in seats if seat.status is not ParticipantStatus.LEFT]
    details = [
        Record(
            agent_id=external_or_none(names, seat.agent_id),
            join_order=seat.join_order,
            status=seat.status,
            joined_at=seat.joined_at,
            left_at=seat.left_at,
        )
        for seat in seats
    ]
    described = await describe(engine, row)
    return MeetingStatusResponse(
        described, participants=seated, participant_count=len(seated), participant_details=details
    )


async def get_transcript(engine: Engine, row: MeetingRow) -> Transcript:
    """See `MeetingManager.wait_until_ended`."""
    said, noted = await engine.meetings.records.describe_apart(await _all_messages(engine, row.meeting_id))
    return Transcript(
        meeting_id=UUID(row.meeting_id),
        reason=row.end_reason or MeetingEnd.HOST_ENDED,
        messages=tuple(said),
        notes=tuple(noted),
        turns=row.turns_taken,
        duration=max(0.0, _span(row.started_at, row.ended_at) or 0.0),
    )


async def get_details(engine: Engine, row: MeetingRow) -> Record:
    """See `MeetingManager.get_meeting_details`."""
    seats = await engine.store.meetings.list_seats(row.meeting_id)
    names = await engine.names.find_by_id({row.host_id, *(seat.agent_id for seat in seats)})
    turn = row.speaking_turn
    seated = [seat for seat in seats if seat.status is not ParticipantStatus.LEFT]

    def person(id: str | None) -> Record | None:
        known = names.get(id or "")
        return None if known is None else Record(id=known.external_id, name=known.name)

    return Record(
        meeting_id=UUID(row.meeting_id),
        host=person(row.host_id),
        status=row.status,
        current_speaker=person(turn.agent_id if turn else None),
        turn_duration_seconds=row.turn_duration,
        turn_started_at=None if turn is None else turn.started_at,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        participants=[external_or_none(names, seat.agent_id) for seat in seated],
        participant_count=len(seated),
        attending_count=sum(seat.status is not ParticipantStatus.INVITED for seat in seated),
        message_count=await engine.store.meetings.count_messages(row.meeting_id),
    )


async def list_participants(engine: Engine, row: MeetingRow, seats: Sequence[SeatRow]) -> list[Record]:
    """See `MeetingManager.get_participant_history`."""
    names = await engine.names.find_by_id({seat.agent_id for seat in seats})
    return [
        Record(
            id=UUID(seat.seat_id),
            agent_id=external_or_none(names, seat.agent_id),
            agent_name=names[seat.agent_id].name if seat.agent_id in names else None,
            status=seat.status,
            join_order=seat.join_order,
            is_locked=seat.status is ParticipantStatus.WAITING,
            joined_at=seat.joined_at,
            left_at=seat.left_at,
        )
        for seat in seats
    ]


async def get_statistics(engine: Engine, agent_id: UUID | str) -> Record:
    """See `MeetingManager.get_meeting_statistics`."""
    agent = await find_agent(engine, agent_id)
    found = await engine.store.meetings.statistics(agent.id)
    return Record(
        agent_id=agent.external_id,
        hosted_meetings=found.hosted,
        participated_meetings=found.participated,
        active_hosted=found.active_hosted,
        total_messages_sent=found.messages,
        meetings_spoke_in=found.spoke_in,
        avg_meeting_duration_seconds=found.average_duration,
    )


async def analyse_participation(engine: Engine, row: MeetingRow, seats: Sequence[SeatRow]) -> Record:
    """See `MeetingManager.get_participation_analysis`."""
    counts = {count.agent_id: count for count in await engine.store.meetings.count_speeches(row.meeting_id)}
    names = await engine.names.find_by_id({seat.agent_id for seat in seats} | counts.keys())
    seconds: defaultdict[str, float] = defaultdict(float)
    for turn in await _speaking_turns(engine, row.meeting_id):
        if turn.how is TurnEnd.SPOKE:  # who is silent until the turn ends has not spoken
            seconds[turn.agent_id] += _duration(turn) or 0.0
    whole = sum(seconds.values())
    by_participant: dict[str, Record] = {}
    for seat in seats:
        count = counts.get(seat.agent_id)
        by_participant[external_or_none(names, seat.agent_id) or seat.agent_id] = Record(
            message_count=count.messages if count else 0,
            first_message_at=count.first_at if count else None,
            last_message_at=count.last_at if count else None,
            total_content_length=count.length if count else 0,
            speaking_time_seconds=seconds[seat.agent_id],
            speaking_time_percentage=100 * seconds[seat.agent_id] / whole if whole else 0.0,
            status=seat.status,
        )
    spoke = [name for name, one in by_participant.items() if one.message_count]
    order = sorted(by_participant, key=lambda name: by_participant[name].message_count)
    return Record(
        total_participants=len(seats),
        active_participants=len(spoke),
        inactive_participants=len(seats) - len(spoke),
        participation_rate=100 * len(spoke) / len(seats) if seats else 0.0,
        by_participant=by_participant,
        most_active=order[-1] if spoke else None,
        least_active=order[0] if spoke else None,
        total_messages=sum(count.messages for count in counts.values()),
    )


async def get_timeline(engine: Engine, row: MeetingRow) -> Record:
    """See `MeetingManager.get_meeting_timeline`."""
    messages = await _all_messages(engine, row.meeting_id)
    events = await _all_events(engine, row.meeting_id)
    described = await engine.meetings.records.describe(messages)
    external = await _names_in(engine, events)
    said = dict(zip((message.seq for message in messages), described, strict=True))
    entries: list[Record] = []
    data_of = dict(events)
    for one in in_order(messages, [event for event, _ in events]):
        if isinstance(one, MessageRow):
            message = said[one.seq]
            entry = Record(
                type="message",
                is_damaged=message.is_damaged,
                timestamp=message.created_at,
                sender_id=message.sender_id,
                message_type=message.message_type,
                message_id=message.message_id,
                content=message.content,
            )
        else:
            entry = Record(
                type="event",
                timestamp=one.created_at,
                event_type=one.type,
                agent_id=external.get(one.agent_id or ""),
                data=dict(event_data(one, data_of[one], external)),
            )
        entries.append(entry)
    return Record(
        meeting_id=UUID(row.meeting_id),
        started_at=row.started_at,
        ended_at=row.ended_at,
        duration_seconds=_span(row.started_at, row.ended_at),
        status=row.status,
        end_reason=row.end_reason,
        timeline=entries,
    )


async def get_turn_statistics(engine: Engine, row: MeetingRow) -> Record:
    """See `MeetingManager.get_turn_statistics`."""
    turns = await _speaking_turns(engine, row.meeting_id)
    names = await engine.names.find_by_id({turn.agent_id for turn in turns})
    external = {id: name.external_id for id, name in names.items()}
    if any(turn.agent_id not in external for turn in turns):
        external |= await _names_in(engine, await _all_events(engine, row.meeting_id))
    spoken = [turn for turn in turns if turn.message_id is not None]
    durations = [seconds for turn in turns if (seconds := _duration(turn)) is not None]
    taken = Counter(turn.agent_id for turn in turns)
    sent = Counter(turn.agent_id for turn in spoken)
    timeouts = Counter(turn.agent_id for turn in turns if turn.how is TurnEnd.TIMED_OUT)
    seconds_of: defaultdict[str, float] = defaultdict(float)
    for turn in turns:
        seconds_of[turn.agent_id] += _duration(turn) or 0.0
    return Record(
        total_turns=len(turns),
        total_messages=len(spoken),
        avg_messages_per_turn=len(spoken) / len(turns) if turns else 0.0,
        unique_speakers=len(sent),
        turn_changes=max(0, len(turns) - 1),
        avg_turn_seconds=sum(durations) / len(durations) if durations else None,
        turns=[
            Record(
                number=turn.number,
                agent_id=external.get(turn.agent_id),
                started_at=turn.started_at,
                ended_at=turn.ended_at,
                duration_seconds=_duration(turn),
                how=turn.how,
            )
            for turn in turns
        ],
        participants_turn_stats={
            external.get(id, id): Record(
                turns_taken=number,
                messages_sent=sent[id],
                avg_messages_per_turn=sent[id] / number,
                timeouts=timeouts[id],
                total_seconds=seconds_of[id],
            )
            for id, number in taken.items()
        },
    )


# --- pages ------------------------------------------------------------------------------------------------------------


async def _all_messages(engine: Engine, meeting_id: str) -> list[MessageRow]:
    list_messages = engine.store.meetings.list_messages
    return await read_all(
        lambda so_far, limit: list_messages(meeting_id, limit=limit, after_seq=so_far[-1].seq if so_far else None)
    )


async def _all_events(engine: Engine, meeting_id: str) -> list[OpenEvent]:
    list_events = engine.store.meetings.list_events
    return open_events(
        await read_all(
            lambda so_far, limit: list_events(meeting_id, limit=limit, after_seq=so_far[-1].seq if so_far else 0)
        )
    )


async def _names_in(engine: Engine, events: Sequence[OpenEvent]) -> dict[str, str]:
    """Find, by id, the external ids of the agents that events are about, also of those removed meanwhile."""
    names = await engine.names.find_by_id(agents_of(events))
    kept = {id: name for _, data in events for id, name in kept_names(data).items()}
    return kept | {id: name.external_id for id, name in names.items()}


async def _speaking_turns(engine: Engine, meeting_id: str) -> list[TurnRow]:
    list_turns = engine.store.meetings.list_turns
    turns = await read_all(
        lambda so_far, limit: list_turns(meeting_id, limit=limit, after=so_far[-1].number if so_far else 0)
    )
    return [turn for turn in turns if turn.purpose is Purpose.SPEAK]


def in_order(messages: Sequence[MessageRow], events: Sequence[EventRow]) -> Iterator[MessageRow | EventRow]:
    """Merge the messages and the events of one meeting, each in the order of seq, as they happened.

    Messages and events are numbered apart. All that one act wrote has one instant, and its messages stand before its
    events. So the order holds although the clock was set back; only acts that wrote no event go by the clock.
    """
    instants = {event.created_at for event in events}
    last = {message.created_at: place for place, message in enumerate(messages)}
    place = 0
    for event in events:
        until = last.get(event.created_at, -1)
        while place < len(messages) and (
            place <= until
            or (messages[place].created_at not in instants and messages[place].created_at <= event.created_at)
        ):
            yield messages[place]
            place += 1
        yield event
    yield from messages[place:]


def _duration(turn: TurnRow) -> float | None:
    return _span(turn.started_at, turn.ended_at)


def _span(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
