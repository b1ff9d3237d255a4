"""A meeting whose participants are processes, which die, freeze or leave: one turn at a time, each ended once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, MeetingEventType
from agent_messaging.testing.report import Report
from tests.processes.harness import DATABASE, SEED, STRIKES, Child, Lab, MakeLab, Nemesis
from tests.processes.participant import LOST, SPOKE, TURN
from tests.processes.program import READY
from tests.support import eventually

CREW = ("alice", "bob", "carol")


async def create_meeting(lab: Lab, duration: float, crew: Sequence[str] = CREW, **bounds: Any) -> str:
    """A meeting of the crew, hosted by the first of it."""
    await lab.register(*crew)
    async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:
        return str(await sdk.meeting.create_meeting(crew[0], list(crew[1:]), duration, **bounds))


async def end_meeting(lab: Lab, meeting: str) -> None:
    async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:
        await sdk.meeting.end_meeting("alice", meeting)


async def judge_after(nemesis: Nemesis, meeting: str) -> Report:
    """End the meeting, see everybody leave of itself, and judge what the nemesis could not break."""
    await end_meeting(nemesis.lab, meeting)
    for participant in nemesis.victims:
        assert await participant.wait() == 0, participant.output
    report = await nemesis.lab.judge()
    assert nemesis.done["kill"] >= 2
    assert report.turn_violations == 0
    return report


def start_participant(lab: Lab, agent: str, meeting: str, **settings: Any) -> Child:
    return lab.start("participant", agent, agent=agent, meeting=meeting, starts=agent == "alice", **settings)


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_a_meeting_under_random_kills(make_lab: MakeLab) -> None:
    """No turn is lost, doubled or stolen, and each silence ends once, whoever is there to end it."""
    async with make_lab(limits={"takeover_kill": None}, seed=SEED) as lab:
        meeting = await create_meeting(lab, 0.8)
        manner = {"pace": 0.3, "silent": 0.15, "names": 0.2, "others": list(CREW), "read": True, "seed": SEED}
        crew = [start_participant(lab, agent, meeting, **manner) for agent in CREW]
        await lab.wait_for("turn.shown", 3)
        nemesis = Nemesis(lab, crew, longest_pause=2.0)
        await nemesis.rage(STRIKES, windows=4, interval=0.65)  # for 20 s
        report = await judge_after(nemesis, meeting)
        assert report.turns["spoke"] > 5
        assert report.turns["timed_out"] > 0
        assert report.reads > 5


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_turn_handlers_under_random_kills(make_lab: MakeLab) -> None:
    """Two of three take part by turn handlers, which pass and fail too: their runs are taken over, and fenced."""
    async with make_lab(limits={"takeover_kill": None}, seed=SEED) as lab:
        meeting = await create_meeting(lab, 0.8)
        manner: dict[str, Any] = {"pace": 0.2, "read": True, "seed": SEED}
        by_hand = start_participant(lab, "alice", meeting, silent=0.3, **manner)
        manner = {**manner, "handles": True, "passes": 0.2, "fails": 0.2, "messaging": {"retry_delay": 0.1}}
        crew = [by_hand, *(start_participant(lab, agent, meeting, **manner) for agent in CREW[1:])]
        await lab.wait_for("turn.shown", 3)
        nemesis = Nemesis(lab, crew, longest_pause=2.0)
        await nemesis.rage(STRIKES // 2, windows=4, interval=0.6)
        # All of it happens in time; how much of it did while they were killed, the machine decides.
        for act, count in (("speak", 12), ("pass", 1), ("time_out", 1)):
            await lab.wait_for("act.ok", count, act=act)
        report = await judge_after(nemesis, meeting)
        said = [event for event in lab.events() if event["e"] == "act.ok" and event.get("value") is not None]
        assert [event for event in said if not event["value"].startswith("alice")], "by turn handlers"
        assert report.turns["passed"] > 0
        assert report.turns["timed_out"] > 0


async def test_the_turn_handler_of_a_killed_process_runs_again_in_the_time_that_is_left(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 60.0, CREW[:2])
        start_participant(lab, "alice", meeting, pace=0.01)
        bob = start_participant(lab, "bob", meeting, handles=True, pace=1000.0)
        await bob.wait_for(f"{TURN} 2")
        await lab.kill(bob)
        start_participant(lab, "bob", meeting, handles=True, pace=0.01)
        await lab.wait_for("act.ok", act="speak", ended_turn=4)
        await end_meeting(lab, meeting)

        report = await lab.judge()

        shown = [event for event in lab.events() if event["e"] == "turn.shown" and event["turn"] == 2]
        assert [event["p"] for event in shown] == ["bob.0", "bob.1"]
        assert shown[0]["deadline"] == pytest.approx(shown[1]["deadline"], abs=0.01)
        assert report.turn_violations == report.turns["timed_out"] == 0


async def test_the_turn_handler_of_a_frozen_process_says_nothing_in_an_old_turn(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 1.0, CREW[:2])
        start_participant(lab, "alice", meeting, pace=0.01)
        bob = start_participant(lab, "bob", meeting, handles=True, pace=0.5)
        await bob.wait_for(f"{TURN} 2")
        lab.pause(bob)
        await lab.wait_for("act.ok", act="time_out", ended_turn=2)
        lab.resume(bob)
        await bob.wait_for(f"{TURN} 4")
        await lab.wait_for("act.ok", act="speak", ended_turn=4)
        await end_meeting(lab, meeting)

        report = await lab.judge()

        assert report.turn_violations == 0
        assert report.turns["timed_out"] >= 1


async def test_a_killed_speaker_has_the_remaining_time_after_its_restart(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 60.0)
        alice = start_participant(lab, "alice", meeting, pace=1000.0)
        bob = start_participant(lab, "bob", meeting)
        carol = start_participant(lab, "carol", meeting)
        await alice.wait_for(f"{TURN} 1")
        for child in (alice, bob, carol):
            await lab.kill(child)
        start_participant(lab, "alice", meeting)
        [bob, carol] = [lab.restart(child) for child in (bob, carol)]
        await lab.wait_for("speak.ok", 3)
        await end_meeting(lab, meeting)

        report = await lab.judge()

        shown = [event for event in lab.events() if event["e"] == "turn.shown" and event["turn"] == 1]
        assert [event["p"] for event in shown] == ["alice.0", "alice.1"]
        assert shown[0]["deadline"] == pytest.approx(shown[1]["deadline"], abs=0.01)
        assert report.turns["timed_out"] == 0


async def test_a_frozen_process_cannot_act_on_an_old_turn(make_lab: MakeLab) -> None:
    """Also not when the turn has come round to its agent again, and is this agent's at that moment."""
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 1.0, CREW[:2])
        alice = start_participant(lab, "alice", meeting, pace=0.5)
        bob = start_participant(lab, "bob", meeting, pace=0.05, early_sign=True)
        await alice.wait_for(f"{TURN} 1")
        lab.pause(alice)  # perhaps before it has rung: bob's process must have polled before the turn is over
        # Turn 1 ends by time, bob speaks in turn 2, and turn 3 is alice's.
        await bob.wait_for(f"{SPOKE} 2")
        lab.resume(alice)
        await alice.wait_for(f"{LOST} 1")
        await lab.wait_for("speak.ok", 3)
        await end_meeting(lab, meeting)

        report = await lab.judge()

        assert report.lost_turns == 1
        assert report.turns["timed_out"] >= 1


@pytest.mark.sampled(1)
async def test_every_process_may_end_a_silent_turn_and_one_does(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 0.3)
        for agent in CREW:
            start_participant(lab, agent, meeting, silent=1.0)
        await lab.wait_for("act.ok", 10, act="time_out")
        await end_meeting(lab, meeting)

        report = await lab.judge()

        assert report.turns["timed_out"] >= 10
        assert len({event["p"] for event in lab.events() if event["e"] == "act.ok"}) > 1


async def test_a_turn_that_ran_out_while_nobody_was_there_is_ended_by_the_first_to_come(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 1.0, CREW[:2])
        crew = [start_participant(lab, agent, meeting, pace=1000.0) for agent in CREW[:2]]
        await lab.wait_for("turn.shown", turn=1)
        for child in crew:
            await lab.kill(child)
        async with lab.observing() as store:
            while (left := (await store.meetings.list_turns(meeting, limit=10))[-1].left) is not None and left > 0:
                await asyncio.sleep(left)
        start_participant(lab, "bob", meeting)
        await lab.wait_for("speak.ok", turn=2)
        await end_meeting(lab, meeting)

        report = await lab.judge()

        assert lab.count("act.ok", act="time_out", ended_turn=1) == 1
        assert report.turn_violations == 0


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_a_meeting_ends_by_itself_under_random_kills(make_lab: MakeLab) -> None:
    """At the first of its bounds, whoever is there to see it."""
    async with make_lab(limits={"takeover_kill": None}, seed=SEED) as lab:
        meeting = await create_meeting(lab, 0.5, max_turns=40, max_duration=9.0)
        manner = {"pace": 0.2, "silent": 0.2, "seed": SEED}
        crew = [start_participant(lab, agent, meeting, **manner) for agent in CREW]
        await lab.wait_for("turn.shown", 1)
        nemesis = Nemesis(lab, crew, longest_pause=0.5)
        await nemesis.rage(STRIKES // 6, windows=2, interval=0.3)
        async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:
            transcript = await sdk.meeting.wait_until_ended(meeting, 60.0)
        for participant in nemesis.victims:
            assert await participant.wait() == 0, participant.output

        report = await lab.judge()

        assert report.turn_violations == 0
        # Its time may also run out in its fortieth turn.
        assert transcript.turns <= 40
        assert transcript.reason == "max_duration" or (transcript.reason, transcript.turns) == ("max_turns", 40)


async def test_its_time_that_ran_out_while_nobody_was_there_ends_it_once(make_lab: MakeLab) -> None:
    """Every process is killed; those that come after the deadline end the meeting, and no turn comes between."""
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 60.0, CREW[:2], max_duration=1.0)
        crew = [start_participant(lab, agent, meeting, pace=1000.0) for agent in CREW[:2]]
        await lab.wait_for("turn.shown", turn=1)
        for child in crew:
            await lab.kill(child)
        async with lab.observing() as store:
            while (left := (await store.meetings.list_turns(meeting, limit=10))[-1].left) is not None and left > 0:
                await asyncio.sleep(left)
        for agent in CREW[:2]:
            start_participant(lab, agent, meeting)
        await lab.wait_for("act.ok", act="time_out")

        report = await lab.judge()

        assert lab.count("act.ok", act="time_out", ended_turn=1) == 1
        assert report.turns == {"meeting_ended": 1}


async def test_a_meeting_whose_holder_is_killed_goes_on_to_its_bound(make_lab: MakeLab) -> None:
    """The process that holds it dies in the first turn of bob, whose process goes on."""
    async with make_lab() as lab:
        await lab.register(*CREW[:2])
        bob = lab.start("attender", "bob", agent="bob", pace=0.3)
        await bob.wait_for(READY)
        holder = lab.start("holder", "holder", host="alice", participants=["bob"], max_turns=3)
        await lab.wait_for("act.ok", act="start")
        await lab.kill(holder)
        async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:
            [held] = await sdk.meeting.list_meetings()
            transcript = await sdk.meeting.wait_until_ended(held.meeting_id, 60.0)

        report = await lab.judge()

        assert (transcript.reason, transcript.turns) == ("max_turns", 3)
        assert report.turn_violations == 0


async def test_turns_and_events_go_from_process_to_process(make_lab: MakeLab) -> None:
    """Three processes speak, and the event handlers of a fourth one hear all of it in order."""
    async with make_lab() as lab:
        meeting = await create_meeting(lab, 30.0)
        heard: list[tuple[str, Any]] = []
        async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:

            @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
            async def on_turn(event: Any) -> None:
                heard.append(("turn", event.data["turn"]))

            @sdk.register_event_handler(MeetingEventType.MESSAGE_POSTED)
            async def on_speech(event: Any) -> None:
                heard.append(("speech", event.data["turn"]))

            for agent in CREW:
                start_participant(lab, agent, meeting, pace=0.01)
            await lab.wait_for("speak.ok", 9)
            await sdk.meeting.end_meeting("alice", meeting)

            report = await lab.judge()

            said = [event["turn"] for event in lab.events() if event["e"] == "speak.ok"]
            await eventually(lambda: len([one for one in heard if one[0] == "speech"]) >= len(said))
        assert [number for kind, number in heard if kind == "speech"] == sorted(said)
        assert [number for kind, number in heard if kind == "turn"] == list(range(1, len(said) + 2))
        assert report.turns["spoke"] == len(said)
