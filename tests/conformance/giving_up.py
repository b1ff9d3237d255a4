"""Asks that end without an answer while a run is at work on them: who is told, and how the run may end."""

from __future__ import annotations

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState
from agent_messaging.storage.ports import EndedAsk, EndedSession, Settling

from .base import Processes, StoreFixtures
from .world import World

CLOSINGS = (AskState.TIMED_OUT, AskState.CANCELLED)


class GivingUpConformance(StoreFixtures):
    """Whoever ends an ask learns which process is at work on it, and can ring that one."""

    @pytest.mark.parametrize("state", CLOSINGS)
    async def test_the_asker_learns_who_is_at_work(self, world: World, state: AskState) -> None:
        queued, ask = await world.ask(world.carol), await world.ask()
        await world.claim_talk()
        await world.claim_talk()
        worker = (await world.receipt(ask)).owner
        assert worker == world.owner
        for _ in range(2):  # a repeat tells it again
            assert (await world.close(ask, state)).worker == worker
        later = await world.ask(world.dave)
        assert (await world.close(later, state)).worker is None
        assert (await world.close(queued, state)).worker == worker

    async def test_the_end_of_a_session_names_who_is_at_work(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        await world.claim_talk()
        session, ending = (await world.session()).session_id, world.ending()
        ended = EndedSession(session, [EndedAsk(ask, AskState.ENDED, asker)], {asker, world.owner})
        for _ in range(2):
            assert await world.end(ending=ending) == ended

    async def test_time_names_who_is_at_work(self, world: World) -> None:
        asker = new_id()
        await world.ask(timeout=10, owner=asker)
        await world.claim_talk()
        assert (await world.deliveries.advance(world.at(11))).expired_origins == {asker, world.owner}

    @pytest.mark.parametrize("by", ["asker", "session", "time", "process"])
    async def test_a_run_that_was_given_up_ends_without_a_trace_of_failure(
        self, world: World, processes: Processes, by: str
    ) -> None:
        """Given back, it expires with its ask: no retry, no attempt lost, no dead letter, though it was the last."""
        asker = await processes.start()
        ask = await world.ask(timeout=10, owner=asker, max_attempts=1)
        run = await world.claim_talk()
        match by:
            case "asker":
                await world.close(ask, AskState.CANCELLED)
            case "session":
                await world.end()
            case "time":
                await world.deliveries.advance(world.at(11))
            case "process":
                assert await world.store.processes.release([asker], world.at(1)) == 0
        assert (await world.settle(run, Settling.RETURNED, reason="given up")).moved == [True]
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.attempt) == (DeliveryState.EXPIRED, 0)
        assert [(entry["event"], entry["reason"]) for entry in receipt.log] == [("returned", "given up")]
        ended = {"asker": AskState.CANCELLED, "session": AskState.ENDED, "time": AskState.TIMED_OUT}
        assert await world.ask_state(ask) is ended.get(by, AskState.CANCELLED)
        assert await world.deliveries.list_dead(None, 10, 0) == []
