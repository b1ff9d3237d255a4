"""Circles of asks: what could never be answered is refused with its path; what could be is never refused.

The rule itself is `storage/circles.py`, tested by itself; here the stores are held to what they tell it: which asks
are open, where their messages are, in which runs they were made, and who has slots.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from random import Random

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, Kind
from agent_messaging.storage.ports import Answering, AppendOutcome, MutualWait, Service, SessionLocked, Settling, Stored

from .base import Processes, StoreFixtures
from .world import World, id_of


def check_refused(outcome: AppendOutcome, *path: str) -> None:
    """It was refused for this circle."""
    assert outcome == MutualWait([*path, path[0]])


class PairCircleConformance(StoreFixtures):
    """Two agents that wait for each other."""

    async def test_asking_back_without_a_handler_is_refused_and_stores_nothing(self, world: World) -> None:
        ask = await world.ask()
        back = world.question(world.bob, world.alice)
        check_refused(await world.outcome(back), world.alice, world.bob)
        assert await world.deliveries.list_receipts([id_of(back)]) == []
        assert await world.sessions.find_asks([id_of(back)]) == []
        assert await world.ask_state(ask) == AskState.OPEN
        # What answers it makes no circle, and what waits for nobody neither.
        await world.say(world.bob, world.alice)
        await world.stored(world.question(world.bob, world.alice, answers=Answering.REQUIRED))

    async def test_two_asks_of_one_call_that_close_a_circle(self, world: World) -> None:
        first, back = world.question(), world.question(world.bob, world.alice)
        there, other = await world.append(first, back)
        assert isinstance(there, Stored)
        check_refused(other, world.alice, world.bob)

    async def test_once_the_first_ended_the_other_may_ask(self, world: World) -> None:
        ask = await world.ask()
        await world.close(ask, AskState.TIMED_OUT)
        await world.ask(world.bob, world.alice)

    async def test_what_was_seen_is_answered_instead(self, world: World) -> None:
        await world.ask()
        await world.read()
        assert (await world.stored(world.question(world.bob, world.alice))).answered is not None

    async def test_a_question_inside_a_run_needs_a_handler_of_the_asker(
        self, world: World, processes: Processes
    ) -> None:
        process = await processes.start()
        ask = await world.ask()
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        check_refused(await world.outcome(question), world.alice, world.bob)
        await world.serve(process, {world.alice: 1})
        await world.stored(question)

    async def test_a_handler_without_a_free_slot_cannot_answer(self, world: World, processes: Processes) -> None:
        """The only slot of alice is held by the run that asked bob."""
        process = await processes.start()
        await world.serve(process, {world.alice: 1, world.bob: 5})
        cause = await world.say(world.carol, world.alice)
        await world.claim_talk(world.alice)
        ask = await world.ask(within=cause)
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        check_refused(await world.outcome(question), world.alice, world.bob)
        await world.serve(process, {world.alice: 2})
        await world.stored(question)

    async def test_slots_of_all_live_processes_count(self, world: World, processes: Processes) -> None:
        first = await processes.start()
        second = await processes.start()
        cause = await world.say(world.carol, world.alice)
        await world.claim_talk(world.alice)
        ask = await world.ask(within=cause)
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        await world.serve(first, {world.alice: 1})
        await world.serve(second, {world.alice: 1})
        await world.store.processes.release([second], world.start)
        check_refused(await world.outcome(question), world.alice, world.bob)
        third = await processes.start()
        await world.serve(third, {world.alice: 1})
        await world.stored(question)

    @pytest.mark.parametrize("agent", ["alice", "every"])
    async def test_a_handler_that_is_nobodys_own_counts_where_there_is_no_other(
        self, world: World, processes: Processes, agent: str
    ) -> None:
        process, beside = await processes.start(), new_id()
        named = world.alice if agent == "alice" else ""
        cause = await world.say(world.carol, world.alice)
        await world.claim_talk(world.alice)
        ask = await world.ask(within=cause)
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        # A handler of the agent's own outranks it, however few slots that has.
        await world.store.processes.publish(
            process,
            [
                Service(world.alice, Kind.CONVERSATION, True, 1),
                Service(None, Kind.CONVERSATION, False, 9),
                Service(beside, Kind.CONVERSATION, True, 9),
            ],
        )
        check_refused(await world.outcome(question), world.alice, world.bob)
        await world.serve(process, {named: 2}, explicit=False)
        await world.stored(question)

    async def test_handlers_of_another_kind_do_not_count(self, world: World, processes: Processes) -> None:
        process = await processes.start()
        await world.store.processes.publish(process, [Service(world.alice, Kind.ONE_WAY, True, 9)])
        await world.ask()
        outcome = await world.outcome(world.question(world.bob, world.alice))
        check_refused(outcome, world.alice, world.bob)

    async def test_ones_own_second_ask_is_a_circle_only_in_the_chain_of_the_first(
        self, world: World, processes: Processes
    ) -> None:
        await world.serve(await processes.start(), {world.alice: 5, world.bob: 5})
        first = await world.ask()
        await world.claim_talk()
        question = await world.ask(world.bob, world.alice, within=first)
        await world.claim_talk(world.alice)
        # Beside the chain it is only too early; within it, it would wait behind what waits for it.
        assert await world.outcome(world.question()) == SessionLocked(first)
        outcome = await world.outcome(world.question(within=question))
        check_refused(outcome, world.bob, world.alice)

    async def test_within_a_run_an_ask_taken_as_an_answer_waits_for_that_run(
        self, world: World, processes: Processes
    ) -> None:
        """Alice asked bob from a run, bob answered by asking back: now bob waits for that run, not for alice's code."""
        await world.serve(await processes.start(), {world.alice: 1})
        cause = await world.say(world.dave, world.alice)
        await world.claim_talk(world.alice)
        await world.ask(within=cause)
        await world.take()
        assert (await world.stored(world.question(world.bob, world.alice))).answered is not None
        beside = await world.ask(world.alice, world.carol)
        allowed = await world.ask(world.carol, world.bob)
        for ask in (allowed, beside):
            await world.close(ask, AskState.CANCELLED)
        await world.ask(world.alice, world.carol, within=cause)
        outcome = await world.outcome(world.question(world.carol, world.bob))
        check_refused(outcome, world.bob, world.alice, world.carol)

    async def test_without_a_run_an_ask_taken_as_an_answer_waits_for_the_code_that_took_it(self, world: World) -> None:
        await world.ask()
        await world.take()
        assert (await world.stored(world.question(world.bob, world.alice))).answered is not None
        # In a run of hers alice may ask carol and wait for her: her own code goes on meanwhile.
        cause = await world.say(world.dave, world.alice)
        await world.claim_talk(world.alice)
        inside = await world.ask(world.alice, world.carol, within=cause)
        allowed = await world.ask(world.carol, world.bob)
        for ask in (allowed, inside):
            await world.close(ask, AskState.CANCELLED)
        await world.ask(world.alice, world.carol)
        outcome = await world.outcome(world.question(world.carol, world.bob))
        check_refused(outcome, world.bob, world.alice, world.carol)


class LongCircleConformance(StoreFixtures):
    """Three agents and more."""

    async def test_a_circle_of_four_is_refused_with_its_path(self, world: World) -> None:
        agents = [world.alice, world.bob, world.carol, world.dave]
        for asker, responder in pairwise(agents):
            await world.ask(asker, responder)
        outcome = await world.outcome(world.question(world.dave, world.alice))
        check_refused(outcome, *agents)

    async def test_a_circle_through_runs_is_refused(self, world: World, processes: Processes) -> None:
        process = await processes.start()
        await world.serve(process, {world.bob: 1, world.carol: 1})
        first = await world.ask()
        await world.claim_talk()
        second = await world.ask(world.bob, world.carol, within=first)
        await world.claim_talk(world.carol)
        back = world.question(world.carol, world.alice, within=second)
        check_refused(await world.outcome(back), world.alice, world.bob, world.carol)
        # A free slot of one of them opens it.
        await world.serve(process, {world.alice: 1})
        await world.stored(back)

    async def test_a_run_that_ended_leaves_its_slot(self, world: World, processes: Processes) -> None:
        await world.serve(await processes.start(), {world.alice: 1, world.bob: 2})
        cause = await world.say(world.carol, world.alice)
        run = await world.claim_talk(world.alice)
        ask = await world.ask(within=cause)
        await world.claim_talk()
        question = world.question(world.bob, world.alice, within=ask)
        check_refused(await world.outcome(question), world.alice, world.bob)
        await world.settle(run, Settling.DONE)
        await world.stored(question)

    async def test_chains_and_stars_are_no_circles(self, world: World) -> None:
        await world.ask(world.alice, world.bob)
        await world.ask(world.bob, world.carol)
        await world.ask(world.alice, world.carol)
        await world.ask(world.dave, world.bob)
        await world.ask(world.alice, world.dave)

    async def test_asks_that_ended_close_no_circle(self, world: World) -> None:
        first = await world.ask(world.alice, world.bob)
        await world.ask(world.bob, world.carol)
        await world.close(first, AskState.CANCELLED)
        await world.ask(world.carol, world.alice)

    @pytest.mark.sampled(1)
    async def test_ten_thousand_random_waits_without_a_circle_are_never_refused(self, world: World) -> None:
        """Each agent asks only those behind it, so that whoever stands last can always answer."""
        agents = [new_id() for _ in range(20)]
        for number, agent in enumerate(agents):
            await world.store.directory.add_agent(
                agent, f"{number}-{agent}", world.organization_id, "One", update_name=False
            )
        random = Random("waits")
        for _ in range(200):
            random.shuffle(agents)
            pairs = random.sample(list(combinations(agents, 2)), 50)
            questions = [world.question(*pair) for pair in pairs]
            assert all(isinstance(outcome, Stored) for outcome in await world.append(*questions))
            # The store was asked in earnest: the way back is refused.
            asker, responder = pairs[-1]
            assert isinstance(await world.outcome(world.question(responder, asker)), MutualWait)
            await world.sessions.close_asks([id_of(question) for question in questions], AskState.CANCELLED)


class CircleConformance(PairCircleConformance, LongCircleConformance):
    """What `append` tells the rule of circles."""
