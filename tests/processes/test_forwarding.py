"""Asks that are passed on between processes that die: each asker is answered once, or told in time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.processes.harness import SEED, STRIKES, MakeLab, Nemesis
from tests.processes.program import HOLDING

ALONG = {"bob": "carol", "carol": "dave"}


@pytest.mark.sampled(1)
@pytest.mark.timeout(120 + 4 * STRIKES)
async def test_asks_passed_on_under_random_kills(make_lab: MakeLab) -> None:
    async with make_lab(limits={"lease": 5.0, "takeover_kill": None}, seed=SEED) as lab:
        crowd = [f"alice-{n}" for n in range(4)]
        await lab.register("bob", "carol", "dave", *crowd)
        workers = [await lab.start_worker(role, serves=["bob", "carol", "dave"]) for role in ("one", "two")]
        pace: dict[str, Any] = {"to": ["bob", "carol"], "timeout": 4.0, "slow": 0.5, "along": ALONG, "seed": SEED}
        asker = lab.start("asker", "asking", askers=crowd, read=True, **pace)
        nemesis = Nemesis(lab, [*workers, asker], longest_pause=1.0)
        await nemesis.rage(STRIKES // 2, windows=2, interval=0.7)
        for victim in nemesis.victims:
            if victim.program == "asker":
                await lab.wait_for("ask.ret", how="reply", p=victim.name)
                await lab.stop(victim)

        report = await lab.judge()

        assert nemesis.done["kill"] >= 1
        assert report.asks["reply"] > 0
        assert lab.count("hop") > 5


@pytest.mark.parametrize("hold", ["before", "after"])
async def test_who_passes_it_on_is_killed(make_lab: MakeLab, hold: str) -> None:
    """Before, its process had the ask, and another one runs it again; after, it does not come back."""
    async with make_lab() as lab:
        await lab.register("alice", "bob", "carol")
        victim = await lab.start_worker("victim", serves=["bob"])
        await lab.start_worker("carols", serves=["carol"])
        body = {"act": "pass", "along": {"bob": "carol"}, "hold": hold, "times": 1}
        lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=60.0)
        await victim.wait_for(f"{HOLDING} asker.0-alice-0")
        await lab.kill(victim)
        await lab.start_worker("bobs", serves=["bob"])
        await lab.wait_for("ask.ret", how="reply")

        report = await lab.judge()

        assert report.asks == {"reply": 1}
        assert lab.count("hop") == int(hold == "after")
        assert lab.count("h.start", recipient="bob") == (1 if hold == "after" else 2)
        assert lab.count("session.final", waiting=None) == lab.count("session.final")
