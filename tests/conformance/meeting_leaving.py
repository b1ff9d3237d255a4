"""How participants leave meetings, and how meetings end."""

from __future__ import annotations

import json

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import (
    DeliveryState,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    TurnEnd,
)
from agent_messaging.storage.assembly.terms import Attend, End, Leave, Refused, Remove, Skip, Speak, Start, Vanish, Why

from .base import StoreFixtures
from .gathering import Feed, Gathering, names_of, remove_agent, speech
from .world import World

INVITED, ATTENDING, WAITING, SPEAKING, LEFT = ParticipantStatus
CREATED, READY, ACTIVE, ENDED = MeetingStatus


class LeavingConformance(StoreFixtures):
    """`Leave`, `Remove`, and agents that are deregistered."""

    async def test_who_leaves_before_the_start_is_not_waited_for(self, world: World) -> None:
        meeting = await Gathering.create(world)
        await meeting.attend(world.bob)
        acted = await meeting.do(Leave(world.carol), at=4)
        assert acted.status is READY
        seat = await meeting.seat(world.carol)
        assert (seat.status, seat.joined_at, seat.left_at) == (LEFT, None, world.at(4))
        assert await meeting.refuses(Attend(world.carol)) is Why.NOT_PARTICIPANT
        await meeting.start()
        assert await meeting.seats() == {world.alice: SPEAKING, world.bob: WAITING, world.carol: LEFT}

    async def test_only_the_invitation_of_who_leaves_is_withdrawn(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        to_bob, to_carol = (one.message_id for one in meeting.plan.invitations)
        other = await Gathering.create(world, invite=True)
        await meeting.do(Leave(world.bob))
        assert await world.state(to_bob) is DeliveryState.WITHDRAWN
        assert await world.state(to_carol) is DeliveryState.QUEUED
        await meeting.do(Remove(world.alice, world.carol))
        assert await world.state(to_carol) is DeliveryState.WITHDRAWN
        assert {await world.state(one.message_id) for one in other.plan.invitations} == {DeliveryState.QUEUED}

    async def test_a_speaker_that_leaves_ends_its_turn(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        acted = await meeting.do(Leave(world.bob), at=5)
        assert acted.turn is not None
        assert (acted.ended_turn, acted.turn.number, acted.turn.agent_id) == (2, 3, world.carol)
        assert await meeting.course() == [
            (1, world.alice, TurnEnd.SPOKE),
            (2, world.bob, TurnEnd.LEFT),
            (3, world.carol, None),
        ]
        assert await meeting.seats() == {world.alice: WAITING, world.bob: LEFT, world.carol: SPEAKING}
        seat = await meeting.seat(world.bob)
        assert (seat.joined_at, seat.left_at) == (world.start, world.at(5))
        names = await names_of(world, [world.bob])
        assert (await meeting.notes())[-1] == {"type": "participant_left", "agent": names[world.bob], "how": "left"}
        changed, left = (await meeting.events())[-2:]
        assert changed.type is MeetingEventType.TURN_CHANGED
        assert (left.type, left.data) == (MeetingEventType.PARTICIPANT_LEFT, {"agent_id": world.bob, "how": "left"})

    async def test_who_left_is_passed_over_and_cannot_be_named(self, world: World) -> None:
        meeting = await Gathering.active(world)
        acted = await meeting.do(Leave(world.bob))
        assert acted.ended_turn is None
        assert await meeting.refuses(Leave(world.bob)) is Why.NOT_PARTICIPANT
        assert await meeting.refuses(Speak(world.alice, 1, world.bob), speech=speech()) is Why.NEXT_NOT_SEATED
        await meeting.speak()
        assert await meeting.holder() == world.carol

    async def test_the_host_removes_and_does_not_leave(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert await meeting.refuses(Leave(world.alice)) is Why.HOST_LEAVES
        assert await meeting.refuses(Remove(world.bob, world.carol)) is Why.NOT_HOST
        assert await meeting.refuses(Remove(world.alice, world.dave)) is Why.NOT_PARTICIPANT
        await meeting.do(Remove(world.alice, world.bob), at=5)
        assert (await meeting.seat(world.bob)).left_at == world.at(5)
        assert (await meeting.events())[-1].data == {"agent_id": world.bob, "how": "removed"}

    async def test_when_all_others_left_the_host_goes_on_alone(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        await meeting.do(Leave(world.carol))
        await meeting.do(Leave(world.bob))
        assert await meeting.holder() == world.alice
        await meeting.speak()
        assert await meeting.holder() == world.alice
        await meeting.end()

    async def test_a_deregistered_agent_leaves_its_meetings_first(self, world: World) -> None:
        created, ready = await Gathering.create(world, invite=True), await Gathering.ready(world)
        active, ended = await Gathering.active(world), await Gathering.active(world)
        await created.attend(world.carol)
        await active.speak()
        await ended.speak()
        await ended.end()
        recorded = len(await ended.events())
        bob = await names_of(world, [world.bob])

        await remove_agent(world, world.bob)

        assert await created.status() is READY
        assert await ready.status() is READY
        assert await active.holder() == world.carol
        for meeting in (created, ready, active):
            assert world.bob not in await meeting.seats()
            left = (await meeting.events())[-1]
            assert (left.type, left.agent_id) == (MeetingEventType.PARTICIPANT_LEFT, world.bob)
            assert left.data == {
                "agent_id": world.bob,
                "agent_external_id": bob[world.bob],
                "how": "deregistered",
            }
            # What it sent is gone, what the others say of it stays.
            assert (await meeting.notes())[-1] == {
                "type": "participant_left",
                "agent": bob[world.bob],
                "how": "deregistered",
            }
            assert world.bob not in {row.sender_id for row in await meeting.history()}
        assert len(await ended.events()) == recorded
        changed = (await active.events())[-2].data
        assert (changed["previous_speaker_id"], changed["previous_speaker_external_id"]) == (world.bob, bob[world.bob])
        # Its turns were taken: they stay.
        assert await active.course() == [
            (1, world.alice, TurnEnd.SPOKE),
            (2, world.bob, TurnEnd.LEFT),
            (3, world.carol, None),
        ]
        await active.speak(world.carol, 3)
        assert (await active.turn()).number == 4
        assert await world.store.check() == []

    async def test_the_speech_of_a_deregistered_agent_is_gone_and_its_event_stays(self, world: World) -> None:
        meeting = await Gathering.active(world)
        feed = await Feed.open(meeting.store)
        await meeting.speak()
        await meeting.speak()
        await remove_agent(world, world.bob)
        posted = [event for event in await meeting.events() if event.type is MeetingEventType.MESSAGE_POSTED]
        assert [(event.agent_id, event.message is None) for event in posted] == [
            (world.alice, False),
            (world.bob, True),
        ]
        assert [row.sender_id for row in await meeting.history() if row.message_type == "user_defined"] == [world.alice]
        assert await meeting.store.count_messages(meeting.id) == len(await meeting.history())
        assert [count.agent_id for count in await meeting.store.count_speeches(meeting.id)] == [world.alice]
        await feed.reads((await meeting.events())[4:])

    async def test_a_meeting_goes_with_its_host(self, world: World) -> None:
        hosted = await Gathering.active(world, world.bob, world.alice, invite=True)
        await hosted.speak()
        running = await hosted.claim_turn()
        waiting = await Gathering.create(world, world.bob, world.carol, invite=True)
        other = await Gathering.active(world)
        messages = [row.message_id for row in (await hosted.duties()).values()]
        messages += [one.message_id for meeting in (hosted, waiting) for one in meeting.plan.invitations]

        await remove_agent(world, world.bob)

        for meeting in (hosted, waiting):
            assert await meeting.store.find_meeting(meeting.id) is None
            assert await meeting.store.list_seats(meeting.id) == []
            assert (await meeting.turns(), await meeting.history(), await meeting.events()) == ([], [], [])
            key = (meeting.id, world.alice)
            assert await meeting.store.find_standings([key]) == {key: None}
            assert await meeting.act(End(world.bob)) is None
        assert await world.deliveries.list_receipts(messages) == []
        assert (await world.settle(running)).moved == [False]
        assert await other.status() is ACTIVE
        timed_out = await other.time_out(1000)
        assert list(timed_out.meetings) == [other.id]

    async def test_an_organizations_agents_leave_the_meetings_of_others(self, world: World) -> None:
        directory = world.store.directory
        mark = new_id()
        other = await directory.add_organization(new_id(), f"other-{mark}", "Other", update_name=False)
        guests = []
        for number in range(2):
            guest = await directory.add_agent(
                new_id(), f"guest-{number}-{mark}", str(other.id), "Guest", update_name=False
            )
            assert guest is not None
            guests.append(str(guest.id))
        visited = await Gathering.active(world, world.alice, *guests, world.bob)
        await visited.speak()
        inside = await Gathering.active(world, *guests)
        across = await Gathering.active(world, guests[0], world.bob)

        assert await directory.remove_organization(f"other-{mark}")

        assert await visited.seats() == {world.alice: WAITING, world.bob: SPEAKING}
        left = [event.agent_id for event in await visited.events() if event.type == "participant_left"]
        assert sorted(agent for agent in left if agent) == sorted(guests)
        assert await visited.holder() == world.bob
        for meeting in (inside, across):
            assert await meeting.store.find_meeting(meeting.id) is None
        await visited.speak(world.bob)
        assert await world.store.check() == []

    async def test_rules_and_store_agree_on_an_agent_that_vanishes(self, world: World) -> None:
        """The act itself is the store's own, and works like any other."""
        meeting = await Gathering.active(world)
        await meeting.do(Vanish(world.bob))
        assert await meeting.seats() == {world.alice: SPEAKING, world.bob: LEFT, world.carol: WAITING}
        assert (await meeting.history())[-1].sender_id == world.alice


class EndOfMeetingConformance(StoreFixtures):
    """`End`."""

    async def test_the_end_leaves_no_turn_and_is_told(self, world: World) -> None:
        meeting = await Gathering.active(world, invite=True)
        await meeting.speak()
        await meeting.do(Leave(world.carol))
        acted = await meeting.end(at=20)
        assert (acted.status, acted.turn, acted.ended_turn, acted.message_id) == (ENDED, None, 2, None)
        row = await meeting.row()
        assert (row.status, row.ended_at, row.turn) == (ENDED, world.at(20), None)
        assert await meeting.course() == [(1, world.alice, TurnEnd.SPOKE), (2, world.bob, TurnEnd.MEETING_ENDED)]
        assert await meeting.seats() == {world.alice: ATTENDING, world.bob: ATTENDING, world.carol: LEFT}
        event = (await meeting.events())[-1]
        assert (event.type, event.data) == (
            MeetingEventType.MEETING_ENDED,
            {"host_id": world.alice, "reason": "host_ended"},
        )
        ending = (await meeting.history())[-1]
        assert (ending.message_type, ending.sender_id) == (MessageType.ENDING, world.alice)
        names = await names_of(world, [world.alice])
        assert json.loads(ending.content)["host"] == names[world.alice]

    async def test_nothing_is_done_in_a_meeting_that_has_ended(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.end()
        for act in (Attend(world.bob), End(world.alice), Start(world.alice), Skip(world.alice), Leave(world.bob)):
            assert (await meeting.refuse(act)).status is ENDED
        assert await meeting.refuses(Speak(world.alice, 1), speech=speech()) is Why.WRONG_STATUS
        assert (await meeting.time_out(1000)).meetings == {}

    async def test_only_the_host_ends(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert await meeting.refuse(End(world.bob)) == Refused(Why.NOT_HOST, ACTIVE)

    async def test_a_meeting_that_never_began_ends_with_its_invitations(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        await meeting.attend(world.bob)
        acted = await meeting.end(at=3)
        assert (acted.status, acted.ended_turn) == (ENDED, None)
        row = await meeting.row()
        assert (row.started_at, row.ended_at) == (None, world.at(3))
        assert {await world.state(one.message_id) for one in meeting.plan.invitations} == {DeliveryState.WITHDRAWN}
        assert await meeting.seats() == {world.alice: ATTENDING, world.bob: ATTENDING, world.carol: INVITED}
