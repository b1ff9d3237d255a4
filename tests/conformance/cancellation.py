"""Cancelled calls: each happened wholly or not at all, can be repeated, and leaves the store usable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import (
    Answering,
    Claim,
    Duplicate,
    EndedAsk,
    EndedSession,
    NewGroup,
    Role,
    Settlement,
    Settling,
    Stored,
)
from agent_messaging.testing.waiting import eventually

from .base import StoreFixtures
from .world import World, ids

STEPS = (0, 1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Turns of the event loop after which a call is cancelled: from before its first wait until long after its last."""


async def cancel_after(steps: int, call: Coroutine[Any, Any, object]) -> bool:
    """Run the call for so many turns of the loop, then cancel it; whether it had ended by itself."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        if task.done():
            break
        await asyncio.sleep(0)
    ended = task.done()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return ended


class CancellationConformance(StoreFixtures):
    """Cancelled at one point after another."""

    async def sweep(self, trial: Callable[[int], Coroutine[Any, Any, bool]]) -> None:
        """Try each point; at some of them the call must still be at work, or nothing was tested."""
        cancelled = [steps for steps in STEPS if not await trial(steps)]
        assert len(cancelled) > 1, "the call ended before it could be cancelled"

    async def test_append(self, world: World) -> None:
        async def trial(steps: int) -> bool:
            groups = [world.group(recipients=[world.bob, world.carol]) for _ in range(10)]
            sent = [delivery.message_id for group in groups for delivery in group.deliveries]
            ended = await cancel_after(steps, world.append(*groups))
            # One commit: at every instant all of them are there or none.
            assert len(await world.deliveries.list_receipts(sent)) in (0, 20)
            assert await world.append(*groups, repeat=True) == [Stored()] * 10
            assert len(await world.deliveries.list_receipts(sent)) == 20
            return ended

        await self.sweep(trial)
        stored = await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY)
        assert stored == 10 * len(STEPS)

    async def test_append_with_a_key(self, world: World) -> None:
        """A caller that knows nothing but its key repeats the call with new message ids, and one message is there."""

        def attempt(steps: int) -> NewGroup:
            return world.group(idempotency_key=f"key-{steps}", fingerprint="f")

        async def trial(steps: int) -> bool:
            first, second = attempt(steps), attempt(steps)
            ended = await cancel_after(steps, world.append(first))
            (outcome,) = await world.append(second)
            assert outcome in (Stored(), Duplicate([first.deliveries[0].message_id]))
            return ended

        await self.sweep(trial)
        stored = await world.store.messages.count_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY)
        assert stored == len(STEPS)

    async def test_claim(self, world: World) -> None:
        """What a cancelled claim took is found with `list_claims`, and can be returned."""

        async def trial(steps: int) -> bool:
            owner = new_id()
            sent = await world.send_many(5)
            ended = await cancel_after(steps, world.claim(ordered=False, owner=owner))

            async def returned() -> bool:
                """Return what is listed, until another process has got all five."""
                claims = await world.deliveries.list_claims(owner)
                assert len(claims) in (0, 5)
                await world.deliveries.settle(
                    [Settlement(claim, Settling.RETURNED) for claim in claims], owner=owner, now=world.start
                )
                claimed = await world.claim(ordered=False)
                assert ids(claimed) in ([], sent)
                await world.settle(claimed)
                return bool(claimed)

            await eventually(returned)
            return ended

        await self.sweep(trial)

    async def test_settle(self, world: World) -> None:
        """Settlements and the claims of the same call take effect together, and the settlements can be repeated."""

        async def trial(steps: int) -> bool:
            owner = new_id()
            first = await world.send_many(5)
            claimed = await world.claim(ordered=False, owner=owner)
            assert ids(claimed) == first
            next_ones = await world.send_many(5, world.carol)
            settlements = [Settlement(delivery.claim, Settling.DONE) for delivery in claimed]
            request = world.request(ordered=False)
            ended = await cancel_after(
                steps, world.deliveries.settle(settlements, [request], owner=owner, now=world.start)
            )
            rows = {row.message_id: row.state for row in await world.deliveries.list_receipts(first + next_ones)}
            assert [rows[id] for id in first + next_ones] in (
                [DeliveryState.CLAIMED] * 5 + [DeliveryState.QUEUED] * 5,
                [DeliveryState.DONE] * 5 + [DeliveryState.CLAIMED] * 5,
            )
            again = await world.deliveries.settle(settlements, owner=owner, now=world.start)
            assert again.moved == [True] * 5

            async def finished() -> bool:
                """Finish what the cancelled call may have claimed, and what it has not."""
                claims = await world.deliveries.list_claims(owner)
                ends = [Settlement(claim, Settling.DONE) for claim in claims]
                await world.deliveries.settle(ends, owner=owner, now=world.start)
                await world.settle(await world.claim(ordered=False))
                rows = await world.deliveries.list_receipts(next_ones)
                return {row.state for row in rows} == {DeliveryState.DONE}

            await eventually(finished)
            return ended

        await self.sweep(trial)

    async def test_settle_with_an_answer(self, world: World) -> None:
        """The answer and the end of the ask take effect together; a repeat stores it once."""

        async def trial(steps: int) -> bool:
            ask = await world.ask()
            run = await world.claim_talk()
            result = world.result()
            ended = await cancel_after(steps, world.settle(run, answer=result))
            row = await world.asked(ask)
            assert (row.state is AskState.REPLIED) == (row.answer is not None)
            assert (await world.settle(run, answer=result)).moved == [True]
            row = await world.asked(ask)
            assert row.answer is not None
            assert row.answer.message_id == result.message_id
            return ended

        await self.sweep(trial)
        session = (await world.session()).session_id
        assert len(await world.transcript(session)) == 2 * len(STEPS)

    async def test_end_session(self, world: World) -> None:
        """The session and its asks end together; a repeat under the same id answers as the first would have."""

        async def trial(steps: int) -> bool:
            ask = await world.ask()
            session = (await world.session()).session_id
            ending = world.ending()
            ended = await cancel_after(steps, world.end(ending=ending))
            row = await world.sessions.find_session(session)
            assert row is not None
            # One reading: what was cancelled may still be on its way.
            assert (row.ended_at is None) == (row.waiting_id == world.alice)
            again = await world.end(ending=ending)
            assert again == EndedSession(session, [EndedAsk(ask, AskState.ENDED, world.owner)], {world.owner})
            assert await world.transcript(session) == [ask, ending.message_id]
            return ended

        await self.sweep(trial)

    async def test_many_cancelled_at_once_leave_the_store_usable(self, world: World) -> None:
        """No connection, lock or transaction stays behind: afterwards the same store does each of its verbs."""
        for steps in (0, 1, 2, 5, 20, 100):
            calls: list[Coroutine[Any, Any, object]] = []
            for _ in range(8):
                calls += [
                    world.append(world.group(), owner=world.owner),
                    world.claim(limit=1, owner=new_id()),
                    world.deliveries.advance(world.start),
                    world.deliveries.find_waiting(world.start),
                    world.deliveries.settle([Settlement(Claim(1, 1, 1), Settling.DONE)], owner=world.owner),
                    world.store.messages.mark_read(world.bob, Kind.ONE_WAY),
                    world.outcome(world.question()),
                    world.outcome(world.talk(world.bob, world.alice, answers=Answering.REQUIRED)),
                    world.take(),
                    world.read(world.alice),
                    world.end(),
                    world.store.processes.list_processes(0),
                    world.store.directory.find_agents_by_id([world.alice]),
                ]
            await asyncio.gather(*(cancel_after(steps, call) for call in calls))
        await world.deliveries.advance(world.at(3600))
        id = await world.send(recipient=world.dave)
        claimed = await world.claim_one(world.dave)
        assert (await world.settle(claimed)).moved == [True]
        assert await world.state(id) == DeliveryState.DONE
        assert await world.store.check() == []
