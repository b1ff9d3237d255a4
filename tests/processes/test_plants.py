"""The judge is worth its word: each bug planted into the SDK of real processes breaks the invariant that it should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_messaging import AgentMessaging, DeliveryState
from tests.processes.harness import Lab
from tests.processes.participant import SPOKE, TURN
from tests.processes.program import HOLDING, READING
from tests.processes.test_meetings import CREW, create_meeting, end_meeting, start_participant

MAX_ATTEMPTS = 3
MAILBOX = 20
LIMITS = {"max_attempts": MAX_ATTEMPTS, "mailbox": MAILBOX}
MESSAGING = {"max_attempts": MAX_ATTEMPTS, "retry_delay": 0.01, "retry_max_delay": 0.01, "handler_timeout": 60.0}
DRAINED = 12.0
"""Seconds, more than it takes, in which deliveries end. The late answer of `asked`, which nobody reads, never does."""
NEVER_DRAINED = ("patient", "deaf_to_death", "reusing")
"""Bugs that leave a delivery open for ever."""
Scenario = Callable[[Lab], Awaitable[None]]


async def steady(lab: Lab) -> None:
    """Messages wait for a worker that nothing disturbs."""
    sender = lab.start_sender(to=[["bob"]], count=50, concurrency=8, messaging={**MESSAGING, "require_handler": False})
    assert await sender.wait() == 0
    await lab.start_worker(serves=["bob"])


async def published(lab: Lab) -> None:
    """Two are subscribed, each by another pattern."""
    await lab.register("carol")
    async with AgentMessaging(lab.url) as sdk:
        await sdk.topics.subscribe("bob", "orders.>")
        await sdk.topics.subscribe("carol", "orders.*")
    await lab.start_worker(serves=["bob", "carol"])
    assert await lab.start_sender(to=[["bob", "carol"]], topic="orders.new", count=5).wait() == 0


async def crowded(lab: Lab) -> None:
    """More is sent to an agent than its mailbox holds."""
    messaging = {**MESSAGING, "require_handler": False, "mailbox_limit": MAILBOX}
    sender = lab.start_sender(to=[["bob"]], count=50, messaging=messaging)
    assert await sender.wait() == 0
    async with lab.observing() as store:
        queued = (await store.deliveries.statistics()).counts[DeliveryState.QUEUED]
        lab.history.record("depth", recipient="bob", depth=queued)
    await lab.start_worker(serves=["bob"])


async def failing(lab: Lab) -> None:
    """A message whose handler always raises."""
    worker = await lab.start_worker(serves=["bob"])
    lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "raise"}])
    await lab.wait_for("h.end", MAX_ATTEMPTS + ("patient" in lab.settings.get("plants", ())), p=worker.name)


async def killed(lab: Lab) -> None:
    """A worker dies in a handler, and another is there."""
    victim = await lab.start_worker(serves=["bob"])
    lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "hold", "times": 1}])
    await victim.wait_for(f"{HOLDING} v")
    await lab.start_worker(serves=["bob"])
    await lab.kill(victim)


async def crossed(lab: Lab) -> None:
    """While a handler runs, another worker joins: the only one with a bug."""
    first = await lab.start_worker(serves=["bob"], plants=[])
    joined = lab.folder / "joined"
    lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "until", "path": str(joined)}], plants=[])
    await lab.wait_for("h.start", p=first.name)
    await lab.start_worker(serves=["bob"])
    await asyncio.sleep(1.5)  # it has looked for the dead by then; without the bug nothing happens meanwhile
    joined.touch()


async def frozen(lab: Lab) -> None:
    """A worker freezes in a handler, another takes the message over, and both think that they have it."""
    victim = await lab.start_worker(serves=["bob"])
    lab.start_sender(to=[["bob"]], bodies=[{"value": "v", "act": "block", "seconds": 1.0}])
    await victim.wait_for(f"{HOLDING} v")
    lab.pause(victim)
    other = await lab.start_worker(serves=["bob"])
    await lab.wait_for("h.start", p=other.name)
    lab.resume(victim)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("plant", "scenario", "invariant"),
    [
        ("losing", steady, "I1"),
        ("doubling", steady, "I2"),
        ("altering", steady, "I2"),
        ("disordered", steady, "I11"),
        ("handling_twice", steady, "I5"),
        ("dropping", crowded, "I1"),
        ("boundless", crowded, "I13"),
        ("patient", failing, "I12"),
        ("hasty", killed, "I1"),
        ("deaf_to_death", killed, "I1"),
        ("reusing", killed, "I4"),
        ("burying_the_living", crossed, "I5"),
        ("unfenced", frozen, "I4"),
        ("overlooking", published, "I13"),
    ],
)
async def test_a_planted_bug_is_found(tmp_path: Path, plant: str, scenario: Scenario, invariant: str) -> None:
    async with make_lab(tmp_path, scenario, plants=[plant]) as lab:
        await lab.register("alice", "bob")
        await scenario(lab)
        report = await lab.report(timeout=1.0 if plant in NEVER_DRAINED else DRAINED)
        assert invariant in {violation.invariant for violation in report.violations}, lab.describe()


async def asked(lab: Lab) -> None:
    """Somebody is asked, by one in another process: at once, and for longer than there is time."""
    await lab.start_worker(serves=["bob"])
    bodies = [{}, {"act": "status"}, {}, {"seconds": 3.0}]
    lab.start("asker", askers=["alice"], to=["bob"], bodies=bodies, timeout=2.0, read=True)
    await lab.wait_for("ask.ret", len(bodies))


async def passed_on(lab: Lab) -> None:
    """Somebody is asked who passes it on, to another process."""
    await lab.start_worker(serves=["bob"])
    await lab.start_worker(serves=["carol"])
    body = {"act": "pass", "along": {"bob": "carol"}}
    lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=2.0, read=True)
    await lab.wait_for("ask.ret")


async def given_up(lab: Lab) -> None:
    """Somebody is asked who waits for the asker to go, which it does when its time is over."""
    await lab.start_worker(serves=["bob"])
    body = {"act": "patient"}
    lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=1.0)
    await lab.wait_for("ask.ret")
    if "untold" in lab.settings.get("plants", ()):
        lab.history.record("limits", abandoned=0.5)
        await asyncio.sleep(1.0)  # what does not happen has no sign
    else:
        await lab.wait_for("h.told")


async def streamed(lab: Lab) -> None:
    """The parts of an answer are read; the process that sends them dies in the middle, and another takes over."""
    victim = await lab.start_worker(serves=["bob"])
    body = {"act": "parts", "parts": 60, "seconds": 0.02, "shown": 10}
    asker = lab.start("asker", askers=["alice"], to=["bob"], bodies=[body], timeout=60.0, parts=True)
    await asker.wait_for(f"{READING} asker.0-alice-0")
    await lab.kill(victim)
    await lab.start_worker(serves=["bob"])
    await lab.wait_for("ask.ret")


async def met(lab: Lab) -> None:
    """Three processes meet; one of them is silent."""
    meeting = await create_meeting(lab, 0.5)
    for agent in CREW:
        start_participant(lab, agent, meeting, pace=0.05, silent=float(agent == "carol"), read=True)
    await lab.wait_for("speak.ok", 1 if "sleeping" in lab.settings.get("plants", ()) else 4)
    await lab.wait_for("turn.shown", agent=CREW[2] if "unfair" not in lab.settings.get("plants", ()) else CREW[0])
    if "sleeping" in lab.settings.get("plants", ()):
        await asyncio.sleep(2.0)  # what does not happen has no sign
    await end_meeting(lab, meeting)


async def met_briefly(lab: Lab) -> None:
    """Three processes meet until their time is over."""
    meeting = await create_meeting(lab, 60.0, max_duration=0.5)
    for agent in CREW:
        start_participant(lab, agent, meeting, pace=0.2)
    await lab.wait_for("speak.ok", 1)
    if "outlasting" in lab.settings.get("plants", ()):
        await end_meeting(lab, meeting)


async def met_frozen(lab: Lab) -> None:
    """A speaker freezes until its turn has come round again, and speaks then for the old one."""
    meeting = await create_meeting(lab, 1.0, CREW[:2])
    alice = start_participant(lab, "alice", meeting, pace=0.5)
    bob = start_participant(lab, "bob", meeting, pace=0.05)
    await alice.wait_for(f"{TURN} 1")
    lab.pause(alice)
    await bob.wait_for(f"{SPOKE} 2")
    lab.resume(alice)
    await lab.wait_for("speak.ok", 2)
    await end_meeting(lab, meeting)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("plants", "scenario", "invariant"),
    [
        (["impatient"], asked, "I7"),
        (["belated", "timeless"], asked, "I7"),
        (["mixing"], asked, "I7"),
        (["loose"], asked, "I7"),
        (["leaving_open", "timeless"], asked, "I7"),
        (["forking"], passed_on, "I2"),
        (["keeping"], passed_on, "I1"),
        (["untold"], given_up, "I7"),
        (["premature"], given_up, "I7"),
        (["joining"], streamed, "I7"),
        (["gaping"], streamed, "I7"),
        (["hiding"], asked, "I10"),
        (["unfair"], met, "I8"),
        (["stuttering"], met, "I9"),
        (["sleeping"], met, "I9"),
        (["hiding_speeches"], met, "I10"),
        (["unbound"], met_frozen, "I8"),
        (["outlasting"], met_briefly, "I9"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
async def test_a_bug_of_asks_and_meetings_is_found(
    tmp_path: Path, plants: list[str], scenario: Scenario, invariant: str
) -> None:
    async with make_lab(tmp_path, scenario, plants=plants) as lab:
        if scenario in (asked, given_up, passed_on, streamed):
            await lab.register("alice", "bob", "carol")
        await scenario(lab)
        report = await lab.report(timeout=1.0 if plants[-1] in ("timeless", "untold", "keeping") else DRAINED)
        assert invariant in {violation.invariant for violation in report.violations}, lab.describe()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("scenario", [asked, given_up, passed_on, streamed, met, met_briefly, met_frozen])
async def test_without_a_bug_nothing_is_found_of_asks_and_meetings(tmp_path: Path, scenario: Scenario) -> None:
    async with make_lab(tmp_path, scenario) as lab:
        if scenario in (asked, given_up, passed_on, streamed):
            await lab.register("alice", "bob", "carol")
        await scenario(lab)
        await lab.judge(timeout=DRAINED)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("scenario", [steady, published, crowded, failing, killed, crossed, frozen])
async def test_without_a_bug_nothing_is_found(tmp_path: Path, scenario: Scenario) -> None:
    async with make_lab(tmp_path, scenario) as lab:
        await lab.register("alice", "bob")
        await scenario(lab)
        await lab.judge(timeout=DRAINED)


def make_lab(folder: Path, scenario: Scenario, **settings: Any) -> Lab:
    messaging = MESSAGING
    if scenario is frozen:  # so that the frozen one loses its claim while the test waits
        settings["claim_margin"] = 0.2
        messaging = {**MESSAGING, "handler_timeout": 2.0}
    url = f"sqlite:///{folder / 'agent_messaging.db'}"
    return Lab(folder, url, limits=LIMITS, messaging=messaging, **settings)
