"""Meetings from their creation to their end: who takes part, who may act, and what an act leaves behind.

Which acts are allowed is tested with the rules (`storage/assembly`). Here it is shown that a store asks them with
the meeting as it is, writes all that they answer, and nothing where they refuse.
"""

from __future__ import annotations

import json

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import (
    DeliveryState,
    Kind,
    MeetingEventType,
    MeetingStatus,
    MessageType,
    ParticipantStatus,
    SpeakerSelection,
    TurnEnd,
)
from agent_messaging.storage.assembly.rules import SELECTION_LIMIT
from agent_messaging.storage.assembly.terms import (
    Absent,
    Attend,
    Choose,
    End,
    Leave,
    Pass,
    Purpose,
    Refused,
    Remove,
    Skip,
    Speak,
    Start,
    Why,
)
from agent_messaging.storage.ports import Created, Role, UnknownAgents

from .base import StoreFixtures
from .gathering import DURATION, Gathering, invitation, names_of, plan, speech, spoken
from .meeting_bounds import BoundConformance
from .meeting_leaving import EndOfMeetingConformance, LeavingConformance
from .meeting_records import MeetingRecordConformance
from .meeting_turns import TurnConformance
from .world import World

INVITED, ATTENDING, WAITING, SPEAKING, LEFT = ParticipantStatus
CREATED, READY, ACTIVE, ENDED = MeetingStatus


class CreationConformance(StoreFixtures):
    """`create`."""

    async def test_a_meeting_is_stored_as_it_was_planned(self, world: World) -> None:
        meeting = await Gathering.create(
            world, world.bob, world.dave, world.alice, selection=SpeakerSelection.HOST, turn_duration=12.5, at=3
        )
        row = await meeting.row()
        assert (row.meeting_id, row.host_id, row.status) == (meeting.id, world.bob, CREATED)
        assert (row.selection, row.turn_duration) == (SpeakerSelection.HOST, 12.5)
        assert (row.created_at, row.started_at, row.ended_at, row.turn) == (world.at(3), None, None, None)

    async def test_a_meeting_without_a_limit_for_turns(self, world: World) -> None:
        meeting = await Gathering.create(world, turn_duration=None)
        assert (await meeting.row()).turn_duration is None

    async def test_the_host_attends_from_the_start_and_the_others_are_invited(self, world: World) -> None:
        meeting = await Gathering.create(world, world.carol, world.bob, world.alice, at=3)
        host, *others = await meeting.store.list_seats(meeting.id)
        assert (host.agent_id, host.join_order, host.status) == (world.carol, 0, ATTENDING)
        assert (host.joined_at, host.left_at) == (world.at(3), None)
        assert [(seat.agent_id, seat.join_order, seat.status) for seat in others] == [
            (world.bob, 1, INVITED),
            (world.alice, 2, INVITED),
        ]
        assert [(seat.joined_at, seat.left_at) for seat in others] == [(None, None)] * 2
        assert len({host.seat_id, *(seat.seat_id for seat in others)}) == 3

    async def test_nothing_is_recorded_yet(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        assert (await meeting.events(), await meeting.history(), await meeting.turns()) == ([], [], [])

    async def test_a_host_alone_is_ready(self, world: World) -> None:
        alone = plan(world.alice)
        assert await world.store.meetings.create(alone, owner=world.owner, now=world.start) == Created(READY)
        together = plan(world.alice, world.bob)
        assert await world.store.meetings.create(together, owner=world.owner, now=world.start) == Created(CREATED)
        row = await world.store.meetings.find_meeting(alone.meeting_id)
        assert row is not None
        assert row.status is READY

    async def test_agents_that_do_not_exist_are_named_and_nothing_is_stored(self, world: World) -> None:
        nobody, noone = new_id(), new_id()
        for agents, unknown in [
            ((world.alice, nobody, world.bob, noone), {nobody, noone}),
            ((nobody, world.alice), {nobody}),
        ]:
            refused = plan(*agents, invitations=(invitation(world.bob, notify=True),))
            outcome = await world.store.meetings.create(refused, owner=world.owner, now=world.start)
            assert isinstance(outcome, UnknownAgents)
            assert set(outcome.ids) == unknown
            assert await world.store.meetings.find_meeting(refused.meeting_id) is None
            assert await world.store.meetings.list_seats(refused.meeting_id) == []
        assert await world.deliveries.find_waiting(world.start) == []
        assert await world.sessions.take_notices([world.bob], 10) == []

    async def test_creating_again_changes_nothing(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        before = await meeting.everything()
        again = await meeting.store.create(meeting.plan, owner=new_id(), now=world.at(5))
        assert again == Created(CREATED)
        assert await meeting.everything() == before
        await meeting.attend()
        before = await meeting.everything()
        assert isinstance(await meeting.store.create(meeting.plan, owner=new_id(), now=world.at(5)), Created)
        assert await meeting.everything() == before

    async def test_invitations_are_deliveries_to_those_invited(self, world: World) -> None:
        carried = '{"é": 1}'
        invitations = (invitation(world.bob, '{"é": "bob"}', metadata=carried), invitation(world.carol))
        meeting = await Gathering.create(world, invitations=invitations, max_attempts=3, at=2)
        for agent, sent in zip((world.bob, world.carol), invitations, strict=True):
            claimed = await world.claim_one(agent, kind=Kind.INVITATION, now=world.at(2))
            assert (claimed.message_id, claimed.kind) == (sent.message_id, Kind.INVITATION)
            assert (claimed.sender_id, claimed.recipient_id) == (meeting.host, agent)
            assert (claimed.content, claimed.metadata, claimed.checksum) == (sent.content, sent.metadata, sent.checksum)
            assert (claimed.max_attempts, claimed.created_at) == (3, world.at(2))
            assert (claimed.origin, claimed.ask_timeout, claimed.session_id) == (world.owner, None, None)
            assert (await world.settle(claimed, now=world.at(2))).moved == [True]
        (row,) = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.INVITATION, limit=9)
        assert (row.message_id, row.message_type) == (invitations[0].message_id, MessageType.SYSTEM)

    async def test_those_who_ask_for_it_get_a_notice(self, world: World) -> None:
        invitations = (invitation(world.bob, notify=True), invitation(world.carol))
        await Gathering.create(world, invitations=invitations)
        rows = await world.sessions.take_notices([world.bob, world.carol, world.alice], 10)
        assert [(row.message_id, row.kind) for row in rows] == [(invitations[0].message_id, Kind.INVITATION)]
        assert await world.sessions.take_notices([world.bob], 10) == []

    async def test_sixty_take_part(self, world: World) -> None:
        names = [f"extra-{number}-{new_id()}" for number in range(60)]
        agents = []
        for name in names:
            agent = await world.store.directory.add_agent(
                new_id(), name, world.organization_id, name, update_name=False
            )
            assert agent is not None
            agents.append(str(agent.id))
        meeting = await Gathering.create(world, *agents, invite=True)
        await meeting.attend()
        await meeting.start()
        for _ in range(60):
            await meeting.pass_on()
        assert [agent for _, agent, _ in await meeting.course()] == [*agents, agents[0]]
        assert list(await meeting.seats()) == agents


class AttendanceConformance(StoreFixtures):
    """`Attend` and `Absent`."""

    async def test_when_everybody_attends_the_meeting_is_ready(self, world: World) -> None:
        meeting = await Gathering.create(world)
        acted = await meeting.do(Attend(world.carol), at=1)
        assert (acted.status, acted.turn, acted.ended_turn, acted.message_id) == (CREATED, None, None, None)
        assert await meeting.seats() == {world.alice: ATTENDING, world.bob: INVITED, world.carol: ATTENDING}
        acted = await meeting.do(Attend(world.bob), at=2)
        assert acted.status is READY
        assert await meeting.status() is READY
        assert (await meeting.seat(world.carol)).joined_at == world.at(1)
        assert (await meeting.seat(world.bob)).joined_at == world.at(2)

    async def test_attending_is_noted_and_recorded(self, world: World) -> None:
        meeting = await Gathering.create(world)
        await meeting.do(Attend(world.bob), at=4)
        (event,) = await meeting.events()
        assert (event.meeting_id, event.type) == (meeting.id, MeetingEventType.PARTICIPANT_JOINED)
        assert (event.agent_id, event.data) == (world.bob, {"agent_id": world.bob})
        assert (event.created_at, event.message) == (world.at(4), None)
        (note,) = await meeting.history()
        assert (note.kind, note.message_type, note.sender_id) == (Kind.MEETING, MessageType.SYSTEM, world.bob)
        assert (note.recipient_id, note.session_id, note.created_at) == (None, None, world.at(4))
        names = await names_of(world, [world.bob])
        assert json.loads(note.content) == {"type": "participant_joined", "agent": names[world.bob]}

    async def test_attending_leaves_the_invitation_to_its_handler(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        await meeting.do(Attend(world.bob))
        (claimed,) = await world.claim(world.bob, kind=Kind.INVITATION)
        assert (await world.settle(claimed)).moved == [True]

    async def test_attending_again_changes_nothing(self, world: World) -> None:
        meeting = await Gathering.ready(world)
        assert await meeting.refuse(Attend(world.bob), at=9) == Refused(Why.NOTHING, READY)

    async def test_going_back_to_being_invited(self, world: World) -> None:
        meeting = await Gathering.ready(world)
        acted = await meeting.do(Absent(world.bob), at=5)
        assert acted.status is CREATED
        assert await meeting.seats() == {world.alice: ATTENDING, world.bob: INVITED, world.carol: ATTENDING}
        event = (await meeting.events())[-1]
        assert event.type is MeetingEventType.PARTICIPANT_STATUS_CHANGED
        assert event.data == {"agent_id": world.bob, "previous_status": "attending", "current_status": "invited"}
        assert (await meeting.seat(world.bob)).joined_at is None
        assert (await meeting.do(Attend(world.bob), at=6)).status is READY

    async def test_others_than_those_invited_cannot_attend(self, world: World) -> None:
        meeting = await Gathering.create(world)
        assert await meeting.refuse(Attend(world.dave)) == Refused(Why.NOT_PARTICIPANT, CREATED, world.dave)
        assert await meeting.refuses(Absent(world.alice)) is Why.WRONG_STATUS

    async def test_an_act_in_no_meeting(self, world: World) -> None:
        meeting = await Gathering.active(world)
        for act in (Attend(world.bob), Start(world.alice), Speak(world.alice), Leave(world.bob), End(world.alice)):
            assert await meeting.store.act(new_id(), act, owner=world.owner, now=world.start) is None


class StartConformance(StoreFixtures):
    """`Start`."""

    async def test_without_an_opening_message_the_host_has_turn_one(self, world: World) -> None:
        meeting = await Gathering.ready(world)
        acted = await meeting.start(at=5)
        assert (acted.status, acted.ended_turn, acted.message_id) == (ACTIVE, None, None)
        turn = acted.turn
        assert turn is not None
        assert (turn.number, turn.agent_id, turn.purpose) == (1, world.alice, Purpose.SPEAK)
        assert (turn.started_at, turn.deadline_at) == (world.at(5), world.at(5 + DURATION))
        assert turn.left == pytest.approx(DURATION, abs=0.001)
        assert (turn.ended_at, turn.how, turn.message_id) == (None, None, None)
        row = await meeting.row(5)
        assert (row.status, row.started_at, row.ended_at) == (ACTIVE, world.at(5), None)
        assert row.turn == turn
        assert await meeting.seats() == {world.alice: SPEAKING, world.bob: WAITING, world.carol: WAITING}
        started, changed = (await meeting.events())[2:]
        assert (started.type, started.data) == (
            MeetingEventType.MEETING_STARTED,
            {"host_id": world.alice, "participant_ids": [world.alice, world.bob, world.carol]},
        )
        assert (changed.type, changed.data) == (
            MeetingEventType.TURN_CHANGED,
            {"previous_speaker_id": None, "current_speaker_id": world.alice, "turn": 1},
        )

    async def test_with_an_opening_message_that_was_turn_one(self, world: World) -> None:
        meeting = await Gathering.ready(world)
        opening = speech('{"é": 1.0}', metadata='{"m": []}')
        acted = await meeting.do(Start(world.alice, True), speech=opening, at=5)
        assert (acted.status, acted.ended_turn, acted.message_id) == (ACTIVE, 1, opening.message_id)
        assert acted.turn is not None
        assert (acted.turn.number, acted.turn.agent_id) == (2, world.bob)
        first, second = await meeting.turns()
        assert (first.number, first.agent_id, first.purpose, first.how) == (
            1,
            world.alice,
            Purpose.SPEAK,
            TurnEnd.SPOKE,
        )
        assert (first.started_at, first.ended_at, first.message_id) == (world.at(5), world.at(5), opening.message_id)
        assert (second.number, second.agent_id, second.how) == (2, world.bob, None)
        said = (await meeting.history())[-1]
        assert (said.message_id, said.sender_id, said.message_type) == (
            opening.message_id,
            world.alice,
            MessageType.USER_DEFINED,
        )
        assert (said.content, said.metadata, said.checksum) == ('{"é": 1.0}', '{"m": []}', opening.checksum)
        # Nobody is to handle a turn that is over.
        assert list(await meeting.duties()) == [2]

    async def test_the_host_may_name_the_first_speaker(self, world: World) -> None:
        silent = await Gathering.ready(world)
        acted = await silent.start(next_id=world.carol)
        assert acted.turn is not None
        assert (acted.turn.number, acted.turn.agent_id) == (1, world.carol)
        spoken_first = await Gathering.ready(world)
        acted = await spoken_first.do(Start(world.alice, True, world.carol), speech=speech())
        assert acted.turn is not None
        assert (acted.turn.number, acted.turn.agent_id) == (2, world.carol)

    async def test_a_start_that_is_refused(self, world: World) -> None:
        meeting = await Gathering.create(world, invite=True)
        await meeting.attend(world.bob)
        refused = await meeting.refuse(Start(world.alice))
        assert refused == Refused(Why.NOT_READY, CREATED, missing=(world.carol,))
        await meeting.attend(world.carol)
        assert await meeting.refuse(Start(world.bob)) == Refused(Why.NOT_HOST, READY)
        opening = speech(idempotency_key="k", fingerprint="f")
        refused = await meeting.refuse(Start(world.alice, True, world.dave), speech=opening)
        assert refused == Refused(Why.NEXT_NOT_SEATED, READY, world.dave)
        await meeting.do(Start(world.alice, True), speech=opening)
        assert await meeting.refuse(Start(world.alice)) == Refused(Why.WRONG_STATUS, ACTIVE)

    async def test_invitations_that_nobody_took_up_are_withdrawn(self, world: World) -> None:
        meeting = await Gathering.ready(world, invite=True)
        other = await Gathering.create(world, invite=True)
        running = await world.claim_one(world.carol, kind=Kind.INVITATION)
        await meeting.start()
        to_bob, to_carol = (one.message_id for one in meeting.plan.invitations)
        assert await world.state(to_bob) is DeliveryState.WITHDRAWN
        # A run that has begun goes on, and those of other meetings stay.
        assert running.message_id == to_carol
        assert (await world.settle(running)).moved == [True]
        assert {await world.state(one.message_id) for one in other.plan.invitations} == {DeliveryState.QUEUED}

    async def test_a_meeting_of_one(self, world: World) -> None:
        meeting = await Gathering.active(world, world.alice)
        assert (await meeting.row()).turn is not None
        await meeting.speak()
        await meeting.pass_on()
        assert await meeting.course() == [
            (1, world.alice, TurnEnd.SPOKE),
            (2, world.alice, TurnEnd.PASSED),
            (3, world.alice, None),
        ]
        assert await meeting.seats() == {world.alice: SPEAKING}


class SpeakingConformance(StoreFixtures):
    """`Speak`, `Pass`, `Skip`, and `Choose`."""

    async def test_what_is_said_is_in_the_history_and_the_turn_goes_on(self, world: World) -> None:
        meeting = await Gathering.active(world)
        said = speech('["é"]', metadata='{"tone":"calm"}')
        acted = await meeting.speak(world.alice, 1, speech=said, at=10)
        assert (acted.status, acted.ended_turn, acted.message_id) == (ACTIVE, 1, said.message_id)
        assert acted.turn == await meeting.turn(10)
        assert (acted.turn.number, acted.turn.agent_id, acted.turn.deadline_at) == (2, world.bob, world.at(70))
        row = (await meeting.history())[-1]
        assert (row.message_id, row.kind, row.sender_id, row.recipient_id) == (
            said.message_id,
            Kind.MEETING,
            world.alice,
            None,
        )
        assert (row.content, row.metadata, row.checksum) == (said.content, said.metadata, said.checksum)
        assert (row.message_type, row.created_at) == (MessageType.USER_DEFINED, world.at(10))
        assert (row.read_at, row.session_id) == (None, None)
        first = (await meeting.turns())[0]
        assert (first.how, first.ended_at, first.message_id) == (TurnEnd.SPOKE, world.at(10), said.message_id)
        assert await meeting.seats() == {world.alice: WAITING, world.bob: SPEAKING, world.carol: WAITING}
        posted, changed = (await meeting.events())[4:]
        assert (posted.type, posted.agent_id) == (MeetingEventType.MESSAGE_POSTED, world.alice)
        assert posted.data == {"sender_id": world.alice, "turn": 1}
        assert posted.message == row
        assert (changed.type, changed.agent_id, changed.message) == (MeetingEventType.TURN_CHANGED, world.bob, None)
        assert changed.data == {"previous_speaker_id": world.alice, "current_speaker_id": world.bob, "turn": 2}

    async def test_what_is_said_is_for_nobody_to_handle(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        assert await world.deliveries.find_waiting(world.start) == [(world.bob, Kind.TURN)]
        assert (await world.read(world.bob)).messages == []

    async def test_turns_go_round_in_the_order_of_joining(self, world: World) -> None:
        meeting = await Gathering.active(world, world.carol, world.alice, world.bob)
        for _ in range(4):
            await meeting.speak()
        holders = [world.carol, world.alice, world.bob, world.carol, world.alice]
        assert [(number, agent) for number, agent, _ in await meeting.course()] == list(enumerate(holders, 1))
        assert len(spoken(await meeting.history())) == 4

    async def test_the_speaker_may_name_the_next_also_itself(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak(next_id=world.carol)
        await meeting.speak(next_id=world.carol)
        await meeting.speak()
        assert [agent for _, agent, _ in await meeting.course()] == [world.alice, world.carol, world.carol, world.alice]

    async def test_passing_says_nothing(self, world: World) -> None:
        meeting = await Gathering.active(world)
        before = await meeting.history()
        acted = await meeting.do(Pass(world.alice, 1), at=10)
        assert (acted.ended_turn, acted.message_id) == (1, None)
        assert await meeting.course() == [(1, world.alice, TurnEnd.PASSED), (2, world.bob, None)]
        assert await meeting.history() == before
        assert await meeting.event_types(4) == ["turn_changed"]

    async def test_passing_for_a_reason_is_noted(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.do(Pass(world.alice, 1, "it raised"))
        names = await names_of(world, [world.alice])
        assert (await meeting.notes())[-1] == {
            "type": "turn_passed",
            "agent": names[world.alice],
            "reason": "it raised",
        }
        error, _ = (await meeting.events())[4:]
        assert error.type is MeetingEventType.ERROR_OCCURRED
        assert error.data["affected_agent_id"] == world.alice

    async def test_acts_of_others_and_under_other_turns_change_nothing(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        assert await meeting.refuse(Speak(world.carol), speech=speech()) == Refused(
            Why.NOT_YOUR_TURN, ACTIVE, world.bob, 2
        )
        for number in (1, 3):
            assert await meeting.refuse(Speak(world.bob, number), speech=speech()) == Refused(
                Why.TURN_LOST, ACTIVE, world.bob, 2
            )
        assert await meeting.refuses(Pass(world.alice, 1)) is Why.TURN_LOST
        assert await meeting.refuses(Speak(world.dave), speech=speech()) is Why.NOT_PARTICIPANT
        assert await meeting.refuses(Speak(world.bob, 2, world.dave), speech=speech()) is Why.NEXT_NOT_SEATED

    async def test_a_turn_whose_time_is_over_is_lost_although_nobody_has_ended_it(self, world: World) -> None:
        meeting = await Gathering.active(world)
        assert await meeting.refuses(Speak(world.alice, 1), speech=speech(), at=61) is Why.TURN_LOST
        assert await meeting.refuses(Pass(world.alice, 1), at=61) is Why.TURN_LOST
        await meeting.speak(world.alice, 1, at=59)

    async def test_the_host_skips_a_turn(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        assert await meeting.refuses(Skip(world.bob)) is Why.NOT_HOST
        assert await meeting.refuses(Skip(world.alice, 1)) is Why.TURN_LOST
        acted = await meeting.do(Skip(world.alice, 2), at=5)
        assert acted.ended_turn == 2
        await meeting.do(Skip(world.alice), at=5)
        assert [how for _, _, how in await meeting.course()] == [TurnEnd.SPOKE, TurnEnd.SKIPPED, TurnEnd.SKIPPED, None]
        names = await names_of(world, [world.bob])
        assert {"type": "turn_skipped", "agent": names[world.bob]} in await meeting.notes()

    async def test_a_host_that_names_the_speakers(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.HOST)
        assert await meeting.refuses(Speak(world.alice), speech=speech()) is Why.NEXT_MISSING
        await meeting.speak(next_id=world.carol)
        await meeting.speak()
        assert await meeting.holder() == world.alice

    async def test_a_host_that_names_nobody_leaves_it_to_the_order_of_the_others(self, world: World) -> None:
        """However it ends its turns; all the others get theirs."""
        meeting = await Gathering.active(
            world, world.alice, world.bob, world.carol, world.dave, selection=SpeakerSelection.HOST
        )
        await meeting.speak(next_id=world.carol)
        await meeting.do(Pass(world.carol))
        await meeting.do(Pass(world.alice))
        assert await meeting.holder() == world.dave
        await meeting.speak()
        await meeting.do(Speak(world.alice, by_order=True), speech=speech())
        assert await meeting.holder() == world.bob
        await meeting.do(Leave(world.bob))
        await meeting.do(Skip(world.alice))
        assert await meeting.holder() == world.carol

    async def test_a_selection_is_a_turn_of_the_hosts_in_which_nobody_speaks(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM)
        await meeting.speak()
        turn = await meeting.turn()
        assert (turn.number, turn.agent_id, turn.purpose) == (2, world.alice, Purpose.SELECT)
        assert turn.deadline_at == world.at(SELECTION_LIMIT)
        assert set((await meeting.seats()).values()) == {WAITING}
        assert list(await meeting.duties()) == [1]
        assert await meeting.refuse(Speak(world.alice), speech=speech()) == Refused(Why.NOT_YOUR_TURN, ACTIVE, None, 2)
        assert await meeting.refuses(Choose(1, world.carol)) is Why.TURN_LOST
        assert await meeting.refuses(Choose(2, world.dave)) is Why.NEXT_NOT_SEATED
        acted = await meeting.do(Choose(2, world.carol), at=3)
        assert acted.turn is not None
        assert (acted.ended_turn, acted.turn.number, acted.turn.agent_id) == (2, 3, world.carol)
        selected = (await meeting.turns())[1]
        assert (selected.how, selected.message_id, selected.ended_at) == (TurnEnd.PASSED, None, world.at(3))
        assert (await meeting.events())[-1].data == {
            "previous_speaker_id": world.alice,
            "current_speaker_id": world.carol,
            "turn": 3,
        }

    async def test_a_selection_left_to_the_order_goes_on_behind_the_last_speaker(self, world: World) -> None:
        meeting = await Gathering.active(world, selection=SpeakerSelection.CUSTOM)
        await meeting.speak(next_id=world.bob)
        await meeting.speak()
        await meeting.do(Choose(3, None))
        assert await meeting.holder() == world.carol
        await meeting.do(Skip(world.alice))
        await meeting.do(Skip(world.alice))
        assert await meeting.holder() == world.alice

    async def test_all_of_it_is_sound(self, world: World) -> None:
        """The checksums of the messages that the store wrote by itself are right."""
        meeting = await Gathering.active(world, invite=True)
        await meeting.speak(speech=speech('{"é":"株"}', metadata='{"a":1}'))
        await meeting.time_out(100)
        await meeting.do(Leave(world.bob), at=100)
        await meeting.end(at=100)
        assert await world.store.check() == []


class WakingConformance(StoreFixtures):
    """Which processes an act names: `Acted.processes`, `Attend`, and `sit`."""

    async def seated(self, world: World) -> tuple[Gathering, str, str]:
        """A ready meeting; bob's and carol's processes."""
        meeting = await Gathering.create(world)
        processes = new_id(), new_id()
        for agent, process in zip((world.bob, world.carol), processes, strict=True):
            await meeting.do(Attend(agent), owner=process)
        return meeting, *processes

    async def test_the_process_that_attended_for_the_next_speaker_is_named(self, world: World) -> None:
        meeting, of_bob, of_carol = await self.seated(world)
        assert world.owner in (await meeting.start(owner=new_id())).processes
        acted = await meeting.speak(owner=new_id())
        assert of_bob in acted.processes
        acted = await meeting.speak(owner=new_id())
        assert of_carol in acted.processes
        assert of_bob not in acted.processes

    async def test_a_process_that_sits_takes_the_place_of_the_one_before(self, world: World) -> None:
        meeting, of_bob, of_carol = await self.seated(world)
        await meeting.start()
        process = new_id()
        await meeting.store.sit(meeting.id, world.bob, owner=process)
        await meeting.store.sit(meeting.id, world.bob, owner=process)
        acted = await meeting.speak(owner=new_id())
        assert process in acted.processes
        assert of_bob not in acted.processes
        acted = await meeting.speak(owner=new_id())
        assert of_carol in acted.processes
        assert process not in acted.processes

    async def test_sitting_where_there_is_no_seat_changes_nothing(self, world: World) -> None:
        meeting = await Gathering.active(world)
        before = await meeting.everything()
        await meeting.store.sit(meeting.id, world.dave, owner=new_id())
        await meeting.store.sit(new_id(), world.bob, owner=new_id())
        assert await meeting.everything() == before

    async def test_sitting_says_nothing_of_attendance(self, world: World) -> None:
        meeting = await Gathering.create(world)
        process = new_id()
        await meeting.store.sit(meeting.id, world.bob, owner=process)
        assert await meeting.seats() == {world.alice: ATTENDING, world.bob: INVITED, world.carol: INVITED}
        assert process in (await meeting.end(owner=new_id())).processes

    async def test_at_the_start_and_the_end_everybodys_are_named(self, world: World) -> None:
        meeting, of_bob, of_carol = await self.seated(world)
        everybody = {world.owner, of_bob, of_carol}
        assert (await meeting.start(owner=new_id())).processes >= everybody
        assert (await meeting.end(owner=new_id())).processes >= everybody

    async def test_the_host_names_the_next_speaker_in_its_process(self, world: World) -> None:
        meeting = await Gathering.create(world, selection=SpeakerSelection.CUSTOM)
        of_bob = new_id()
        for agent in (world.bob, world.carol):
            await meeting.do(Attend(agent), owner=of_bob)
        await meeting.start(owner=of_bob)
        assert world.owner in (await meeting.speak(owner=of_bob)).processes
        assert of_bob in (await meeting.do(Choose(2, world.bob))).processes

    async def test_who_leaves_or_is_removed_is_told(self, world: World) -> None:
        meeting, of_bob, of_carol = await self.seated(world)
        await meeting.start()
        assert of_bob in (await meeting.do(Leave(world.bob), owner=new_id())).processes
        assert of_carol in (await meeting.do(Remove(world.alice, world.carol), owner=new_id())).processes

    async def test_the_process_whose_turn_handler_runs_in_vain_is_named(self, world: World) -> None:
        meeting = await Gathering.active(world)
        await meeting.speak()
        runner = new_id()
        await meeting.claim_turn(world.bob, owner=runner)
        acted = await meeting.speak(world.bob, 2, owner=new_id())
        assert runner in acted.processes

    async def test_a_turn_that_ends_by_time_wakes_the_next_speakers_process(self, world: World) -> None:
        meeting, of_bob, _ = await self.seated(world)
        await meeting.start()
        acted = (await meeting.time_out(61)).meetings[meeting.id]
        assert of_bob in acted.processes


class MeetingConformance(
    CreationConformance,
    AttendanceConformance,
    StartConformance,
    SpeakingConformance,
    LeavingConformance,
    EndOfMeetingConformance,
    WakingConformance,
    TurnConformance,
    BoundConformance,
    MeetingRecordConformance,
):
    """All of `MeetingStore`, and what it leaves in the other ports."""
