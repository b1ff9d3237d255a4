"""Processes that die, freeze or leave at the worst moment: nothing accepted is lost, nothing is settled twice."""

from __future__ import annotations

from typing import Any

import pytest

from agent_messaging import DeliveryState
from tests.processes.harness import DATABASE, LEASE, MAX_ATTEMPTS, MESSAGING, SEED, STRIKES, MakeLab, Nemesis
from tests.processes.program import HOLDING
from tests.processes.sender import DONE


async def test_a_worker_killed_in_the_middle_of_a_handler(make_lab: MakeLab) -> None:
    async with make_lab(early_sign=False) as lab:  # as users have it
        await lab.register("alice", "bob")
        victim = await lab.start_worker(serves=["bob"])
        lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "hold", "times": 1}])
        await victim.wait_for(f"{HOLDING} v")
        await lab.start_worker(serves=["bob"])
        await lab.kill(victim)
        await lab.wait_for("h.end", how="ok")

        report = await lab.judge()

        assert (report.acked, report.justified_repeats, report.attempts_max) == (1, 1, 2)
        assert len(report.takeovers_after_kill) == 1


@pytest.mark.sampled(1)
async def test_a_sender_killed_right_after_its_call_returned(make_lab: MakeLab) -> None:
    calls = 400
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        worker = await lab.start_worker(serves=["bob"])
        senders = [lab.start_sender(to=[["bob"]], concurrency=16, die_after=calls) for _ in range(3)]
        assert [await sender.wait() for sender in senders] == [9, 9, 9]

        report = await lab.judge()

        assert report.acked == 3 * calls
        # What was in flight when they died is stored or not; whatever is stored has been handled.
        assert report.unknown <= 3 * 15
        assert report.justified_repeats == 0
        assert worker.is_alive


async def test_a_sender_killed_in_its_calls_repeats_them(make_lab: MakeLab) -> None:
    """Under their idempotency keys: what was stored without its knowledge is not stored again."""
    calls = 300
    async with make_lab() as lab:
        await lab.register("alice", "bob")
        await lab.start_worker(serves=["bob"])
        for accepted in (50, 200):
            sender = lab.start_sender(to=[["bob"]], values="same", key=True, count=calls, concurrency=16)
            await lab.wait_for("send.ok", accepted, p=sender.name)
            await lab.kill(sender)
        sender = lab.start_sender(to=[["bob"]], values="same", key=True, count=calls, concurrency=16)
        assert await sender.wait() == 0

        report = await lab.judge()

        assert (report.acked, report.unknown) == (calls, 0)
        assert report.calls["accepted"] >= calls + 50 + 200
        assert lab.count("h.start") == calls


@pytest.mark.sampled(1)
async def test_a_worker_frozen_past_the_end_of_its_claim(make_lab: MakeLab, backend: str) -> None:
    limits = {"lease": 2.0, "takeover_pause": 20.0}
    claims: dict[str, Any] = {"messaging": {"handler_timeout": 3.0}, "claim_margin": 0.5, "database": DATABASE}
    if backend == "postgres":
        claims["database"] = {**DATABASE, "lease": 3.0}
    async with make_lab(limits=limits, **claims) as lab:
        await lab.register("alice", "bob")
        workers = [await lab.start_worker(serves=["bob"]) for _ in range(2)]
        lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "hold", "times": 1}])
        await lab.wait_for("h.start")
        workers.sort(key=lambda worker: HOLDING not in worker.output)
        victim, other = workers
        lab.pause(victim)
        await lab.wait_for("h.end", how="ok", p=other.name)
        lab.resume(victim)
        await lab.wait_for("h.end", p=victim.name)
        # What the victim thinks of it comes too late, and it is told so; it goes on serving.
        await lab.stop(other)
        lab.start_sender(to=[["bob"]], count=20, concurrency=4)
        await lab.wait_for("h.end", 21, p=victim.name)

        report = await lab.judge()

        assert (report.acked, report.justified_repeats) == (21, 1)
        assert len(report.takeovers_after_pause) == 1


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_random_kills(make_lab: MakeLab) -> None:
    # Nobody is frozen for as long as claims last, so a pause explains no repeat here. How long a take-over lasts is
    # only measured: whoever takes over may die of the next strike.
    async with make_lab(limits={"lease": LEASE / 2, "takeover_kill": None}, seed=SEED) as lab:
        crowds = [[f"{crowd}-{n}" for n in range(4)] for crowd in ("alice", "alex")]
        await lab.register("bob", "carol", *crowds[0], *crowds[1])
        workers = [await lab.start_worker(role, serves=["bob", "carol"]) for role in ("one", "two", "three")]
        pace: dict[str, Any] = {
            "to": [["bob"], ["carol"], ["bob", "carol"]],
            "body": {"seconds": 0.05},
            "concurrency": 4,
            "pause": 0.05,
        }
        senders = [
            lab.start_sender("sending", senders=crowds[0], **pace),
            lab.start_sender("repeating", senders=crowds[1], key=True, **pace),
        ]
        nemesis = Nemesis(lab, [*workers, *senders], longest_pause=1.5)
        await nemesis.rage(STRIKES, interval=0.3)
        for victim in nemesis.victims:
            if victim.program == "sender":
                await lab.stop(victim)

        report = await lab.judge()

        assert nemesis.done["kill"] >= 3
        assert report.acked > 50
        assert report.takeovers_after_pause == []


@pytest.mark.sampled(1)
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("together", "end", "count"),
    [(True, "stop", 4_000), (False, "kill", 10_000)],
    ids=["one process stopped", "worker killed"],
)
async def test_order_over_overflowing_slots_and_a_restart(
    make_lab: MakeLab, together: bool, end: str, count: int
) -> None:
    """Thousands of messages of many senders to one agent with few slots, whose process ends half-way."""
    slots = 5
    messaging = {"handler_concurrency": slots, "drain_timeout": 0.5}
    sending: dict[str, Any] = {"to": [["bob"]], "senders": [f"sender-{n}" for n in range(16)], "concurrency": 64}
    async with make_lab(messaging=messaging) as lab:
        await lab.register("bob", *sending["senders"])
        if together:
            first = lab.start_sender("both", **sending, serves=["bob"], count=count // 2, stay=True)
            await first.wait_for(DONE, 60.0)
        else:
            first = await lab.start_worker(serves=["bob"])
            sender = lab.start_sender(**sending, count=count)
            await lab.wait_for("h.start", 2000, timeout=60.0)
        await (lab.stop(first) if end == "stop" else lab.kill(first))
        if together:
            second = lab.start_sender("both", **sending, serves=["bob"], count=count // 2, stay=True)
            await second.wait_for(DONE, 60.0)
        else:
            await lab.start_worker(serves=["bob"])
            assert await sender.wait(60.0) == 0

        report = await lab.judge(timeout=150.0)

        assert report.acked == count
        assert report.order_pairs > 0.9 * count
        # The runs in the slots may have been cut off; nothing else had to be repeated.
        assert report.justified_repeats <= slots


@pytest.mark.sampled(1)
async def test_a_message_that_kills_its_process(make_lab: MakeLab) -> None:
    """It ends as a dead letter, and those beside it in the process pay one attempt at most."""
    # A bystander may have to wait until the message that kills is dead.
    async with make_lab(limits={"bystander_attempts": 2, "takeover_kill": 100.0}) as lab:
        senders = [f"sender-{n}" for n in range(5)]
        await lab.register("alice", "bob", *senders)
        worker = await lab.start_worker(serves=["bob"])
        sender = lab.start_sender(
            "bystander", to=[["bob"]], senders=senders, body={"seconds": 0.05}, count=100, concurrency=5
        )
        lab.start_sender("poisoner", to=[["bob"]], bodies=[{"value": "poison", "act": "exit"}])
        for _ in range(MAX_ATTEMPTS):
            assert await worker.wait() == 9
            worker = lab.restart(worker)
        assert await sender.wait() == 0

        report = await lab.judge()

        assert report.attempts_max == MAX_ATTEMPTS
        assert lab.count("final", state="dead") == 1


async def test_a_worker_told_to_stop_gives_back_what_it_cannot_finish(make_lab: MakeLab) -> None:
    async with make_lab(messaging={"drain_timeout": 0.2}) as lab:
        await lab.register("alice", "alex", "bob")
        first = await lab.start_worker(serves=["bob"])
        lab.start_sender(to=[["bob"]], senders=["alice", "alex"], count=6, body={"act": "work"})
        await lab.wait_for("h.end", 6)
        lab.start_sender("holding", to=[["bob"]], bodies=[{"value": "v", "act": "hold", "times": 1}])
        await first.wait_for(f"{HOLDING} v")
        await lab.stop(first)
        second = await lab.start_worker(serves=["bob"])
        await second.wait_for(f"{HOLDING} v")
        await lab.stop(second)

        # Given back twice, and both times uncounted.
        third = await lab.start_worker(serves=["bob"], messaging={**MESSAGING, "handler_timeout": 0.2})
        await lab.wait_for("h.end", how="ok", p=third.name)
        report = await lab.judge()

        assert report.attempts_max == 2
        assert report.justified_repeats == 3


@pytest.mark.sampled(1)
async def test_a_busy_process_told_to_stop_leaves_no_claim_behind(make_lab: MakeLab) -> None:
    """Also not those that it was about to make: nobody would know that they can be taken over."""
    senders = [f"sender-{n}" for n in range(8)]
    async with make_lab(messaging={"drain_timeout": 0.1, "handler_concurrency": 4}) as lab:
        await lab.register("bob", *senders)
        async with lab.observing() as store:
            for _ in range(5):
                busy = lab.start_sender(
                    "busy", to=[["bob"]], senders=senders, serves=["bob"], concurrency=64, count=400, stay=True
                )
                await busy.wait_for(DONE)
                await lab.stop(busy)
                counts = (await store.deliveries.statistics()).counts
                assert counts.get(DeliveryState.CLAIMED, 0) == 0, f"{busy.name} left {counts}"
        await lab.start_worker(serves=["bob"])

        report = await lab.judge()

        assert report.acked == 2000
        assert report.attempts_max == 1


async def test_a_full_mailbox_refuses_and_drops_nothing(make_lab: MakeLab, backend: str) -> None:
    concurrency, limit, count = 8, 50, 100
    # On PostgreSQL the bound may be passed by what each process has in flight.
    bound = limit if backend == "sqlite" else limit + 4 * concurrency
    messaging = {"mailbox_limit": limit, "require_handler": False}
    async with make_lab(limits={"mailbox": bound}, messaging=messaging) as lab:
        await lab.register("alice", "bob")
        senders = [
            lab.start_sender(f"sender-{n}", to=[["bob"]], count=count, concurrency=concurrency) for n in range(4)
        ]
        async with lab.observing() as store:
            while any(sender.is_alive for sender in senders):
                counts = (await store.deliveries.statistics()).counts
                lab.history.record("depth", recipient="bob", depth=sum(counts.values()))
        assert [await sender.wait() for sender in senders] == [0] * 4
        await lab.start_worker(serves=["bob"])

        report = await lab.judge()

        assert limit <= report.acked <= bound
        assert report.refused == 4 * count - report.acked
        assert report.calls["unknown"] == 0
