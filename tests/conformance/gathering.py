"""A meeting in a world, and short forms of the verbs of `MeetingStore`, so that a test shows only what it is about."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Kind, MeetingStatus, ParticipantStatus, SpeakerSelection, TurnEnd
from agent_messaging.payloads import checksum
from agent_messaging.storage.assembly.terms import Act, Attend, End, Pass, Refused, Speak, Start, Why
from agent_messaging.storage.ports import (
    Acted,
    Claim,
    ClaimedDelivery,
    Created,
    Duplicate,
    EventPage,
    EventRow,
    KeyConflict,
    MeetingRow,
    MeetingStore,
    MessageRow,
    NewInvitation,
    NewMeeting,
    NewSpeech,
    ReceiptRow,
    Role,
    SeatRow,
    TimedOut,
    TurnRow,
)
from agent_messaging.testing.waiting import eventually

from .world import World

DURATION = 60.0
"""Seconds of a turn, where a test does not say otherwise."""


def speech(content: str = '"my view"', *, metadata: str | None = None, **options: Any) -> NewSpeech:
    """Something to say."""
    options = {"message_id": new_id(), "checksum": checksum(content, metadata), **options}
    return NewSpeech(content=content, metadata=metadata, **options)


def invitation(recipient: str, content: str = '"come"', **options: Any) -> NewInvitation:
    """An invitation."""
    return NewInvitation(new_id(), recipient, content, checksum(content, options.get("metadata")), **options)


def plan(*agents: str, invite: bool = False, **options: Any) -> NewMeeting:
    """A meeting of these; the first is the host."""
    options = {"turn_duration": DURATION, "selection": SpeakerSelection.ROUND_ROBIN, **options}
    if invite:
        options["invitations"] = tuple(invitation(agent) for agent in agents[1:])
    return NewMeeting(new_id(), agents[0], agents, **options)


@dataclass(slots=True)
class Gathering:
    """One meeting. Times are seconds after the world's start."""

    world: World
    plan: NewMeeting

    @classmethod
    async def create(cls, world: World, *agents: str, at: float = 0.0, **options: Any) -> Gathering:
        """A meeting of these; the first is the host. Nobody else attends yet."""
        agents = agents or (world.alice, world.bob, world.carol)
        meeting = cls(world, plan(*agents, **options))
        created = await meeting.store.create(meeting.plan, owner=world.owner, now=world.at(at))
        assert isinstance(created, Created), created
        return meeting

    @classmethod
    async def ready(cls, world: World, *agents: str, **options: Any) -> Gathering:
        """A meeting that everybody attends."""
        meeting = await cls.create(world, *agents, **options)
        await meeting.attend()
        return meeting

    @classmethod
    async def active(cls, world: World, *agents: str, **options: Any) -> Gathering:
        """A meeting that has begun: the host has turn 1."""
        meeting = await cls.ready(world, *agents, **options)
        await meeting.start()
        return meeting

    @property
    def store(self) -> MeetingStore:
        return self.world.store.meetings

    @property
    def id(self) -> str:
        return self.plan.meeting_id

    @property
    def host(self) -> str:
        return self.plan.host_id

    def through(self, world: World) -> Gathering:
        """The same meeting through another store."""
        return replace(self, world=world)

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def act(
        self,
        act: Act,
        *,
        speech: NewSpeech | None = None,
        claim: Claim | ClaimedDelivery | None = None,
        owner: str | None = None,
        at: float = 0.0,
    ) -> Acted | Refused | Duplicate | KeyConflict | None:
        """Any act, with any outcome."""
        return await self.store.act(
            self.id,
            act,
            owner=owner or self.world.owner,
            speech=speech,
            claim=claim.claim if isinstance(claim, ClaimedDelivery) else claim,
            now=self.world.at(at),
        )

    async def do(self, act: Act, **options: Any) -> Acted:
        """An act that must not be refused."""
        outcome = await self.act(act, **options)
        assert isinstance(outcome, Acted), outcome
        return outcome

    async def refuse(self, act: Act, **options: Any) -> Refused:
        """An act that must be refused, and change nothing."""
        before = await self.everything()
        outcome = await self.act(act, **options)
        assert isinstance(outcome, Refused), outcome
        assert await self.everything() == before
        return outcome

    async def refuses(self, act: Act, **options: Any) -> Why:
        """Why an act is refused."""
        return (await self.refuse(act, **options)).why

    async def attend(self, *agents: str, at: float = 0.0) -> None:
        """These attend, or all who have not yet."""
        for agent in agents or self.plan.participant_ids[1:]:
            await self.do(Attend(agent), at=at)

    async def start(self, *, next_id: str | None = None, **options: Any) -> Acted:
        """The host starts, without an opening message."""
        return await self.do(Start(self.host, False, next_id), **options)

    async def speak(
        self, agent: str | None = None, number: int | None = None, *, next_id: str | None = None, **options: Any
    ) -> Acted:
        """The holder of the turn, where no other is named, says something."""
        options.setdefault("speech", speech())
        return await self.do(Speak(agent or await self.holder(), number, next_id), **options)

    async def pass_on(self, agent: str | None = None, **options: Any) -> Acted:
        """The holder of the turn, where no other is named, passes."""
        return await self.do(Pass(agent or await self.holder()), **options)

    async def end(self, **options: Any) -> Acted:
        """The host ends the meeting."""
        return await self.do(End(self.host), **options)

    async def time_out(self, at: float, limit: int = 100) -> TimedOut:
        """Let turns end by time, those of all meetings."""
        return await self.store.time_out(limit, now=self.world.at(at))

    # --- what there is ------------------------------------------------------------------------------------------------

    async def row(self, at: float = 0.0) -> MeetingRow:
        """The meeting, which exists."""
        row = await self.store.find_meeting(self.id, self.world.at(at))
        assert row is not None
        return row

    async def status(self) -> MeetingStatus:
        return (await self.row()).status

    async def turn(self, at: float = 0.0) -> TurnRow:
        """The current turn, which exists."""
        turn = (await self.row(at)).turn
        assert turn is not None
        return turn

    async def holder(self) -> str:
        """Who has the turn."""
        return (await self.turn()).agent_id

    async def seats(self) -> dict[str, ParticipantStatus]:
        """Where the participants stand, in the order of joining."""
        return {seat.agent_id: seat.status for seat in await self.store.list_seats(self.id)}

    async def seat(self, agent: str) -> SeatRow:
        """The seat of a participant."""
        return next(seat for seat in await self.store.list_seats(self.id) if seat.agent_id == agent)

    async def turns(self) -> list[TurnRow]:
        """All turns. Without what is left of the current one, which depends on when one looks."""
        return [replace(turn, left=None) for turn in await self.store.list_turns(self.id, limit=1000)]

    async def course(self) -> list[tuple[int, str, TurnEnd | None]]:
        """The turns in short: number, holder, and how it ended."""
        return [(turn.number, turn.agent_id, turn.how) for turn in await self.turns()]

    async def history(self) -> list[MessageRow]:
        """All that was said."""
        return await self.store.list_messages(self.id, limit=1000)

    async def last(self, agent_id: str | None, recent: int) -> list[MessageRow]:
        """What was said since the agent's last speech."""
        found = await self.store.find_standings([(self.id, agent_id)], recent=recent)
        standing = found[self.id, agent_id]
        assert standing is not None
        return list(standing.said)

    async def notes(self) -> list[dict[str, Any]]:
        """The SDK's own messages of the history."""
        return [json.loads(row.content) for row in await self.history() if row.message_type != "user_defined"]

    async def events(self) -> list[EventRow]:
        """All that happened."""
        return await self.store.list_events(self.id, limit=1000)

    async def event_types(self, after: int = 0) -> list[str]:
        """What happened behind so many events, by type."""
        return [event.type.value for event in (await self.events())[after:]]

    async def duties(self) -> dict[int, MessageRow]:
        """The messages of kind turn to the participants, by the number of the turn."""
        found = {}
        for agent in self.plan.participant_ids:
            for row in await self.world.store.messages.list_messages(agent, Role.RECIPIENT, Kind.TURN, limit=1000):
                subject = json.loads(row.content)
                if subject["meeting_id"] == self.id:
                    assert subject["turn"] not in found, "two deliveries of one turn"
                    found[subject["turn"]] = row
        return found

    async def duty(self, number: int) -> ReceiptRow:
        """The delivery of a turn."""
        return await self.world.receipt((await self.duties())[number].message_id)

    async def claim_turn(self, agent: str | None = None, *, at: float = 0.0, **options: Any) -> ClaimedDelivery:
        """Claim the delivery of the current turn, where its holder has no older one."""
        claimed = await self.world.claim_one(
            agent or await self.holder(), kind=Kind.TURN, now=self.world.at(at), **options
        )
        assert claimed.turn is not None
        assert claimed.turn.meeting_id == self.id
        return claimed

    async def everything(self) -> list[object]:
        """All that is known of the meeting."""
        duties = await self.duties()
        messages = [*(row.message_id for row in duties.values()), *(one.message_id for one in self.plan.invitations)]
        receipts = await self.world.deliveries.list_receipts(messages)
        return [
            await self.store.find_meeting(self.id, self.world.start),
            await self.store.list_seats(self.id),
            await self.turns(),
            await self.history(),
            await self.events(),
            duties,
            sorted(receipts, key=lambda receipt: receipt.message_id),
        ]


class Feed:
    """A reader of the feed of all meetings' events, from where it is opened."""

    def __init__(self, store: MeetingStore, cursor: str, limit: int, most_bytes: int = 1024 * 1024) -> None:
        self.store = store
        self.cursor = cursor
        self.limit = limit
        self.most_bytes = most_bytes
        self.events: list[EventRow] = []

    @classmethod
    async def open(cls, store: MeetingStore, limit: int = 100) -> Feed:
        """Begin where the feed ends now."""
        return cls(store, await store.find_cursor(), limit)

    async def read(self) -> list[EventRow]:
        """What is new, to the end of the feed as it is now."""
        new: list[EventRow] = []
        while True:
            page = await self.read_page()
            new += page.events
            if not page.events:
                return new

    async def read_page(self) -> EventPage:
        """One page more."""
        page = await self.store.read_events(self.cursor, self.limit, most_bytes=self.most_bytes)
        assert len(page.events) <= self.limit
        self.cursor = page.cursor
        self.events += page.events
        return page

    async def reads(self, expected: list[EventRow]) -> None:
        """Read until there is as much as expected, and compare.

        What is committed may be held back for a moment by a transaction that began before it and has not ended, also
        one of somebody else.
        """
        await eventually(self.read_all, until=lambda events: len(events) >= len(expected))
        assert self.events == expected

    async def reaches(self, meeting_id: str, seqs: list[int]) -> None:
        """Read until as much of one meeting was read, and compare."""

        async def read() -> list[int]:
            await self.read()
            return [event.seq for event in self.of(meeting_id)]

        await eventually(read, until=lambda read: len(read) >= len(seqs))
        assert await read() == seqs

    async def read_all(self) -> list[EventRow]:
        """All that was read so far, after one more reading."""
        await self.read()
        return self.events

    def of(self, meeting_id: str) -> list[EventRow]:
        """What was read of one meeting."""
        return [event for event in self.events if event.meeting_id == meeting_id]


async def names_of(world: World, agents: Iterable[str]) -> dict[str, str]:
    """The external ids of agents that exist."""
    return {str(agent.id): agent.external_id for agent in await world.store.directory.find_agents_by_id(set(agents))}


async def remove_agent(world: World, agent: str) -> None:
    """Deregister an agent."""
    (external_id,) = (await names_of(world, [agent])).values()
    assert await world.store.directory.remove_agent(external_id)


def spoken(rows: Collection[MessageRow]) -> list[str]:
    """The ids of the speeches among these."""
    return [row.message_id for row in rows if row.message_type == "user_defined"]
