"""Conversations whose two sides live in different processes, which die, freeze or leave: whoever asks is answered, or
told in time; and what somebody says in one process arrives in the other."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent_messaging import AgentMessaging, Config, MutualWaitError
from agent_messaging.models import AskState
from agent_messaging.storage.parts import MOST_PARTS
from agent_messaging.storage.ports import PartCursor
from tests.processes.asker import DONE
from tests.processes.harness import DATABASE, SEED, STRIKES, Lab, MakeLab, Nemesis
from tests.processes.partner import OPENED
from tests.processes.program import HOLDING, READING, READY
from tests.support import eventually


@asynccontextmanager
async def sdk_of(lab: Lab) -> AsyncIterator[AgentMessaging[Any]]:
    """An SDK object of the test's own process."""
    async with AgentMessaging[Any](Config(url=lab.url, database=DATABASE)) as sdk:
        yield sdk


@pytest.mark.sampled(1)
async def test_two_processes_that_open_a_thread_in_one_instant_open_one_session(make_lab: MakeLab) -> None:
    threads = [f"thread {number}" for number in range(20)]
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        file = lab.folder / "instants.json"
        pairs = [("alice", "bob"), ("bob", "alice")]
        sides = [
            lab.start("partner", agent, agent=agent, other=other, does="open", instants=str(file))
            for agent, other in pairs
        ]
        for side in sides:
            await side.wait_for(READY)
        begin = time.monotonic() + 0.5
        written = lab.folder / "written.json"
        written.write_text(json.dumps({thread: begin + 0.03 * n for n, thread in enumerate(threads)}))
        written.rename(file)
        for side in sides:
            await side.wait_for(OPENED)
            await lab.stop(side)
        async with sdk_of(lab) as sdk:
            of_each = [await sdk.conversation.get_active_sessions(agent) for agent in ("alice", "bob")]
            sessions = {record.session_id: record.thread for record in of_each[0]}
            assert {record.session_id: record.thread for record in of_each[1]} == sessions
            assert sorted(sessions.values()) == sorted(threads)
            for session, thread in sessions.items():
                said = await sdk.conversation.get_conversation_history(session)
                assert {(message.sender_id, message.content) for message in said} == {
                    ("alice", thread),
                    ("bob", thread),
                }


# --- the asker or the responder dies ----------------------------------------------------------------------------------


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_asks_under_random_kills(make_lab: MakeLab) -> None:
    """Askers and responders are killed, frozen and stopped; every ask that survives returns in time, and truthfully.

    Each asker asks in the main thread and in another one at the same time.
    """
    async with make_lab(limits={"lease": 5.0, "takeover_kill": None}, seed=SEED) as lab:
        crowds = [[f"{crowd}-{n}" for n in range(4)] for crowd in ("alice", "alex")]
        await lab.register("bob", "carol", *crowds[0], *crowds[1])
        responders = [await lab.start_worker(role, serves=["bob", "carol"]) for role in ("one", "two")]
        pace: dict[str, Any] = {"to": ["bob", "carol"], "timeout": 1.0, "slow": 1.2, "threads": 2, "seed": SEED}
        askers = [
            lab.start("asker", "asking", askers=crowds[0], read=True, polls=0.3, **pace),
            lab.start("asker", "ending", askers=crowds[1], end=0.2, patient=0.1, **pace),
        ]
        nemesis = Nemesis(lab, [*responders, *askers], longest_pause=1.5)
        await nemesis.rage(STRIKES, windows=4, interval=0.65)  # for 20 s
        for victim in nemesis.victims:
            if victim.program == "asker":
                await lab.stop(victim)

        report = await lab.judge()

        assert nemesis.done["kill"] >= 2
        assert report.asks["reply"] > 10
        assert report.asks["timeout"] > 0
        assert report.abandonments
        assert report.reads > 10
        of_threads = {event.get("thread") for event in lab.events() if event["e"] == "session.final"}
        assert of_threads == {None, "thread 1"}


async def test_an_asker_killed_while_it_waits(make_lab: MakeLab) -> None:
    """Its session is unlocked by its deadline at the latest, and the answer that comes after that is kept unread."""
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        gate = lab.folder / "gate"
        await lab.start_worker(serves=["bob"])
        body = {"act": "until", "path": str(gate)}
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=60.0)
        await lab.wait_for("h.start")
        await lab.kill(asker)
        async with lab.observing() as store:
            [asked] = [event["message"] for event in lab.events() if event["e"] == "ask.open"]

            async def is_over() -> bool:
                [ask] = await store.sessions.find_asks([asked])
                return ask.state is not AskState.OPEN

            await eventually(is_over, 30.0)
        gate.touch()
        await lab.wait_for("settle.ok")
        async with sdk_of(lab) as sdk:
            [late] = await sdk.conversation.get_unread_messages("alice", peek=True)
            assert late["answer"] == "asker.0-alice-0"
            # And nothing hinders the next one.
            answer = await sdk.conversation.send_and_wait("alice", "bob", {"value": "next"}, 20.0)
            assert answer["answer"] == "next"
        lab.history.record(
            "send.try", n=1, instance="test", value="next", sender="alice", to=["bob"], kind="conversation"
        )

        report = await lab.judge()

        assert report.asks == {"killed": 1}
        assert report.late_answers == 1


async def test_a_poll_whose_asker_is_killed_leaves_nothing_open(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob", "carol")
        gate = lab.folder / "gate"
        await lab.start_worker(serves=["bob", "carol"])
        body = {"act": "until", "path": str(gate)}
        asker = lab.start("asker", askers=["alice"], to=["bob", "carol"], bodies=[body], timeout=60.0, polls=1.0)
        await lab.wait_for("h.start", 2)
        await lab.kill(asker)
        async with lab.observing() as store:
            asked = [event["message"] for event in lab.events() if event["e"] == "ask.open"]

            async def are_over() -> bool:
                return all(ask.state is AskState.CANCELLED for ask in await store.sessions.find_asks(asked))

            assert len(asked) == 2
            await eventually(are_over, 30.0)
        gate.touch()
        await lab.wait_for("settle.ok", 2)
        async with sdk_of(lab) as sdk:
            late = await sdk.conversation.get_unread_messages("alice", peek=True)
            assert [answer["answer"] for answer in late] == ["asker.0-alice-0"] * 2

        report = await lab.judge()

        assert report.asks == {"killed": 2}
        assert report.late_answers == 2


@pytest.mark.parametrize("then", ["finish", "cancel"])
async def test_an_asker_killed_while_its_run_waits_to_be_told(make_lab: MakeLab, then: str) -> None:
    """The run in the other process learns of it; cancelled, it has failed in no way."""
    async with make_lab(limits={"abandoned": 25.0}) as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"], on_abandoned=then)
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[{"act": "patient"}], timeout=90.0)
        await worker.wait_for(f"{HOLDING} asker.0-alice-0")
        await lab.kill(asker)
        await lab.wait_for("h.told")
        await lab.wait_for("settle.ok", how="returned" if then == "cancel" else "done")

        report = await lab.judge()

        assert report.asks == {"killed": 1}
        assert lab.count("ask.final", state="cancelled") == 1
        assert lab.count("final", state="expired" if then == "cancel" else "done", attempt=int(then == "finish")) == 1
        assert report.late_answers == int(then == "finish")
        assert len(report.abandonments) == 1
        assert worker.is_alive


# --- parts ------------------------------------------------------------------------------------------------------------


async def test_a_responder_killed_while_it_sends_parts(make_lab: MakeLab) -> None:
    """At any part: its reader is told, and has the parts of the run that takes over from the first to the last."""
    async with make_lab(seed=SEED) as lab:
        await lab.register("alice", "bob")
        shown = random.Random(time.time_ns()).randrange(1, 150)
        print(f"killed at part {shown}")
        victim = await lab.start_worker(serves=["bob"])
        body = {"act": "parts", "parts": 150, "seconds": 0.01, "shown": shown}
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=120.0, parts=True)
        await asker.wait_for(f"{READING} asker.0-alice-0")
        await lab.kill(victim)
        await lab.start_worker("third", serves=["bob"])
        await lab.wait_for("ask.ret")

        report = await lab.judge()

        assert report.asks == {"reply": 1}
        assert report.parts["read to the end"] == 1
        assert report.parts["given"] >= 150 + (shown if report.parts["anew"] else 0)


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_run_far_ahead_of_a_reader_that_is_killed_or_frozen(make_lab: MakeLab, fault: str) -> None:
    """It waits for the frozen one, and goes on without the dead one; neither fills the store."""
    async with make_lab(limits={"abandoned": 25.0}) as lab:
        await lab.register("alice", "bob")
        await lab.start_worker(serves=["bob"])
        body = {"act": "parts", "parts": MOST_PARTS + 3_000, "shown": 5}
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=120.0, parts=True)
        await asker.wait_for(f"{READING} asker.0-alice-0")
        if fault == "kill":
            await lab.kill(asker)
        else:
            lab.pause(asker)
            await asyncio.sleep(1.0)  # a run that does not wait would end meanwhile
            assert not lab.count("settle.ok")
            lab.resume(asker)
            await lab.wait_for("ask.ret")
        await lab.wait_for("settle.ok")

        report = await lab.judge()

        assert report.asks == {"killed" if fault == "kill" else "reply": 1}
        assert report.parts["read to the end"] == (fault == "pause")
        async with lab.observing() as store:
            assert await store.check() == []
            assert (
                await store.parts.read(
                    [PartCursor(event["message"]) for event in lab.events() if event["e"] == "ask.open"], 9
                )
                == []
            )


async def test_a_responder_killed_in_its_handler_answers_elsewhere(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        victim = await lab.start_worker(serves=["bob"])
        body = {"act": "hold", "times": 1}
        lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=120.0)
        await victim.wait_for(f"{HOLDING} asker.0-alice-0")
        other = await lab.start_worker(serves=["bob"])
        await lab.kill(victim)
        await lab.wait_for("ask.ret")

        report = await lab.judge()

        assert report.asks == {"reply": 1}
        assert report.justified_repeats == 1
        assert lab.count("h.end", p=other.name, how="ok") == 1


async def test_both_sides_killed(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[{"act": "hold", "times": 1}], timeout=2.0)
        await worker.wait_for(f"{HOLDING} asker.0-alice-0")
        await lab.kill(worker)
        await lab.kill(asker)
        lab.restart(worker)

        report = await lab.judge()

        # Nobody waits for the answer any more, so nobody is asked again.
        assert report.asks == {"killed": 1}
        assert lab.count("final", state="expired") == 1


async def test_an_asker_frozen_past_its_deadline_returns_when_it_goes_on(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        gate = lab.folder / "gate"
        body = {"act": "until", "path": str(gate)}
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=2.0)
        await lab.wait_for("h.start")
        lab.pause(asker)
        async with lab.observing() as store:
            [asked] = [event["message"] for event in lab.events() if event["e"] == "ask.open"]

            async def is_timed_out() -> bool:
                [ask] = await store.sessions.find_asks([asked])
                return ask.state is AskState.TIMED_OUT

            await eventually(is_timed_out, 10.0)  # by the time of the responder's process
        gate.touch()
        await lab.wait_for("settle.ok")
        lab.resume(asker)
        await lab.wait_for("ask.ret", how="timeout")

        report = await lab.judge()

        assert report.asks == {"timeout": 1}
        assert report.late_answers == 1
        assert worker.is_alive


# --- across processes -------------------------------------------------------------------------------------------------


async def test_every_way_of_answering_across_processes(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        bodies = [{}, {"act": "reply"}, {"act": "raise"}, {"seconds": 2.5}]
        asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=bodies, timeout=2.0, seed=1)
        await asker.wait_for(DONE)

        report = await lab.judge()

        assert worker.is_alive
        assert report.asks == {"reply": 2, "failed": 1, "timeout": 1}
        assert report.late_answers == 1


async def test_a_question_inside_an_ask(make_lab: MakeLab) -> None:
    """The responder asks back, in another process, and the asker's own handler answers while it waits."""
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        await lab.start_worker(serves=["bob"])
        question = {"value": "which one?"}
        body = {"act": "ask", "whom": "alice", "body": question}
        lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=60.0, serves=["alice"])
        await lab.wait_for("ask.ret", 2)

        report = await lab.judge()

        assert report.asks == {"reply": 2}
        [inner, outer] = [event for event in lab.events() if event["e"] == "ask.ret"]
        assert inner["value"] == "which one?"
        assert inner["p"] != outer["p"]


@pytest.mark.parametrize("length", [3, 10])
async def test_a_circle_over_three_processes_is_refused(make_lab: MakeLab, length: int) -> None:
    """Each agent's handler asks the next one; the last asks the first, who has no handler and waits itself."""
    agents = [f"agent-{n}" for n in range(length)]
    async with make_lab() as lab:
        await lab.register(*agents)
        for place in range(2 if length == 3 else 3):
            await lab.start_worker(f"worker-{place}", serves=agents[1:][place :: 2 if length == 3 else 3])
        body: dict[str, Any] = {"value": "closing"}
        for n in reversed(range(1, length)):
            body = {"value": f"ask-{n}", "act": "ask", "whom": agents[(n + 1) % length], "body": body, "timeout": 30.0}
        lab.start("asker", askers=[agents[0]], to=[agents[1]], bodies=[body], timeout=60.0)
        await lab.wait_for("ask.ret", length)
        returned = [event for event in lab.events() if event["e"] == "ask.ret"]
        asked = [event for event in lab.events() if event["e"] == "ask.try"]
        async with sdk_of(lab) as sdk:
            statistics = await sdk.conversation.get_session_statistics(agents[0])

        report = await lab.judge()

        assert report.asks == {"reply": length - 1, "refused": 1}
        assert returned[0]["value"] == "closing"
        assert returned[0]["code"] == MutualWaitError.code
        # Long before any timeout, and nothing of it was stored.
        assert (returned[0]["t"] - asked[-1]["t"]) / 1e9 < 5.0
        assert statistics["unread_count"] == 0
        assert statistics["sent_count"] == 1
        assert lab.count("ask.open", value="closing") == 0
        innermost = next(event for event in lab.events() if event["e"] == "ask.ret" and event["how"] == "refused")
        assert innermost["path"] == [*agents, agents[0]]


async def test_a_pair_plays_ping_pong(make_lab: MakeLab) -> None:
    """Neither has a handler; each answers by asking."""
    rounds = 10
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        partner = lab.start("partner", agent="bob", other="alice", does="pingpong")
        async with sdk_of(lab) as sdk:
            said: Any = {"n": 0}
            for n in range(0, 2 * rounds, 2):
                said = await sdk.conversation.send_and_wait("alice", "bob", {"n": n}, 30.0, require_handler=False)
                assert said == {"n": n + 1}
            await sdk.conversation.send_no_wait("alice", "bob", {"n": "enough"})
        assert await partner.wait() == 0


async def test_waiting_for_a_message_elsewhere_than_its_handler(make_lab: MakeLab) -> None:
    """While one process waits for it, the handler in another one is not called; afterwards it is."""
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        await lab.start_worker(serves=["bob"])
        waiting = lab.start("partner", agent="bob", other="alice", does="wait")
        await lab.wait_for("wait", p=waiting.name)
        async with sdk_of(lab) as sdk:
            await sdk.conversation.send_no_wait("alice", "bob", {"value": "for the one that waits"})
            assert await waiting.wait() == 0
            assert lab.count("h.start") == 0
            assert lab.count("got", value="for the one that waits") == 1
            await sdk.conversation.send_no_wait("alice", "bob", {"value": "for the handler"})
            await lab.wait_for("h.start", value="for the handler")


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_what_waited_for_a_stopped_process_is_picked_up(make_lab: MakeLab, how: str) -> None:
    """By the next one that serves the agent, at its start."""
    async with make_lab(messaging={"drain_timeout": 0.2}) as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        async with sdk_of(lab) as sdk:
            gate = lab.folder / "gate"
            await sdk.conversation.send_no_wait("alice", "bob", {"value": "held", "act": "until", "path": str(gate)})
            await lab.wait_for("h.start")
            await (lab.kill(worker) if how == "kill" else lab.stop(worker))
            gate.touch()
            waiting = [await sdk.conversation.send_no_wait("alice", "bob", {"value": f"waiting-{n}"}) for n in range(5)]
            asked = asyncio.create_task(sdk.conversation.send_and_wait("alice", "bob", {"value": "asked"}, 60.0))
            await eventually(
                lambda: sdk.conversation.get_session_statistics("bob"), until=lambda s: s["received_count"] == 7
            )
            lab.restart(worker)
            assert (await asked)["answer"] == "asked"
            await sdk.receipts.wait(waiting, timeout=30.0)
        assert lab.count("h.end", how="ok") == 7


async def test_resuming_a_handler_takes_up_what_waited(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        await lab.kill(worker)
        async with sdk_of(lab) as sdk:
            ids = [await sdk.conversation.send_no_wait("alice", "bob", {"value": f"v{n}"}) for n in range(3)]
        taken: list[Any] = []
        async with sdk_of(lab) as sdk:

            @sdk.register_handler("bob")
            async def handle(body: dict[str, Any], context: Any) -> None:
                taken.append(body["value"])

            await sdk.conversation.resume_agent_handler("bob")
            await sdk.receipts.wait(ids, timeout=20.0)
        assert taken == ["v0", "v1", "v2"]


async def test_ending_a_conversation_releases_who_waits_in_another_process(make_lab: MakeLab) -> None:
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        lab.start("asker", askers=["alice"], to=["bob"], bodies=[{"act": "hold"}], timeout=60.0)
        await worker.wait_for(f"{HOLDING} asker.0-alice-0")
        async with sdk_of(lab) as sdk:
            lab.history.record("end.try", pair=["bob", "alice"])
            await sdk.conversation.end_conversation("bob", "alice")
        await lab.wait_for("ask.ret", how="ended")
        await lab.kill(worker)
        await lab.start_worker(serves=["bob"])

        report = await lab.judge()

        assert report.asks == {"ended": 1}
