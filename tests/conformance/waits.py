"""Waits of agents' own code: what they hold back from handlers, and how it is taken. Notices of what nobody awaited."""

from __future__ import annotations

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import Answering, EndedAsk, NewWait, Service, Settling, Stored

from .base import Processes, StoreFixtures
from .world import World, id_of, ids


class HoldingConformance(StoreFixtures):
    """While a wait is registered, its lane is not for handlers."""

    async def test_nothing_of_the_lane_is_claimed_and_other_lanes_go_on(self, world: World) -> None:
        await world.wait()
        held, other = await world.say(), await world.say(world.carol)
        back = await world.say(world.bob, world.alice)
        note = await world.send()
        assert ids(await world.claim(kind=Kind.CONVERSATION)) == [other]
        assert await world.claim(kind=Kind.CONVERSATION, ordered=False) == []
        assert ids(await world.claim(world.alice, kind=Kind.CONVERSATION)) == [back]
        assert ids(await world.claim()) == [note]
        settled = await world.deliveries.settle(
            [], [world.request(kind=Kind.CONVERSATION)], owner=world.owner, now=world.start
        )
        assert settled.claimed == []
        assert await world.state(held) == DeliveryState.QUEUED

    async def test_a_message_that_is_awaited_is_not_claimed_when_stored_and_names_the_waiters(
        self, world: World
    ) -> None:
        waiters = frozenset({new_id(), new_id()})
        for waiter in (*waiters, *waiters):
            await world.wait(owner=waiter)
        awaited, question, other = world.talk(claim=True), world.question(claim=True), world.talk(world.carol)
        outcomes = await world.append(awaited, question, other)
        assert outcomes[0] == outcomes[1] == Stored(session_id=awaited.session_id, waiters=waiters)
        assert outcomes[2] == Stored(session_id=other.session_id)
        assert await world.state(id_of(awaited)) == DeliveryState.QUEUED

    async def test_what_was_claimed_before_goes_on(self, world: World) -> None:
        await world.say()
        run = await world.claim_talk()
        await world.wait()
        assert (await world.settle(run, answer=world.result())).moved == [True]

    async def test_a_run_that_waits_for_another_sender_does_not_hold_its_lane(
        self, world: World, processes: Processes
    ) -> None:
        said, behind, last = await world.say(), await world.say(), await world.say()
        first = await world.claim_talk()
        wait = await world.wait(sender=world.carol, within=said)
        assert ids(await world.claim(owner=await processes.start(), kind=Kind.CONVERSATION)) == [behind]
        await world.sessions.remove_wait(wait)
        await world.settle(first)
        assert await world.claim(kind=Kind.CONVERSATION) == [], "the second run holds it"
        assert await world.state(last) == DeliveryState.QUEUED

    async def test_a_message_of_a_lane_whose_run_waits_elsewhere_is_claimed_when_stored(
        self, world: World, processes: Processes
    ) -> None:
        said = await world.say()
        [run] = await world.claim(owner=await processes.start(), kind=Kind.CONVERSATION)
        held = world.talk(claim=True)
        await world.append(held)
        assert await world.state(id_of(held)) == DeliveryState.QUEUED
        assert run.message_id == said
        await world.wait(sender=world.carol, within=said)
        await world.sessions.take_awaited(world.bob, world.alice, now=world.start)
        taken = world.talk(claim=True)
        await world.append(taken)
        assert await world.state(id_of(taken)) == DeliveryState.CLAIMED

    async def test_once_removed_it_holds_nothing_back(self, world: World) -> None:
        said = await world.say()
        first, second = await world.wait(), await world.wait()
        await world.sessions.remove_wait(first)
        assert await world.claim(kind=Kind.CONVERSATION) == []
        for _ in range(2):
            await world.sessions.remove_wait(second)
        assert ids(await world.claim(kind=Kind.CONVERSATION)) == [said]
        assert await world.sessions.find_waits([first, second], world.start) == {first: None, second: None}
        await world.sessions.remove_wait(new_id())
        assert (await world.stored(world.talk())).waiters == frozenset()

    async def test_after_its_timeout_it_holds_nothing_back(self, world: World) -> None:
        await world.wait(timeout=10, now=world.at(1))
        said = await world.say()
        assert await world.claim(kind=Kind.CONVERSATION, now=world.at(10)) == []
        assert (await world.stored(world.talk(), now=world.at(10))).waiters == {world.owner}
        assert (await world.stored(world.talk(), now=world.at(12))).waiters == frozenset()
        assert ids(await world.claim(kind=Kind.CONVERSATION, now=world.at(12))) == [said]

    async def test_without_a_timeout_it_holds_as_long_as_its_process_lives(self, world: World) -> None:
        await world.wait()
        await world.say()
        await world.deliveries.advance(world.at(10**6))
        assert await world.claim(kind=Kind.CONVERSATION, now=world.at(10**6)) == []

    @pytest.mark.parametrize("how", ["retire", "release"])
    async def test_the_waits_of_a_process_that_ended_are_gone(
        self, world: World, processes: Processes, how: str
    ) -> None:
        process = await processes.start()
        gone, kept = await world.wait(owner=process), await world.wait(world.carol, world.alice)
        said = await world.say()
        await world.say(recipient=world.carol)
        for _ in range(2):
            if how == "retire":
                await world.store.processes.retire(process)
            else:
                await world.store.processes.release([process], world.at(1))
            found = await world.sessions.find_waits([gone, kept], world.start)
            assert found[gone] is None
            assert found[kept] is not None
        assert ids(await world.claim(kind=Kind.CONVERSATION)) == [said]
        assert await world.claim(world.carol, kind=Kind.CONVERSATION) == []

    @pytest.mark.parametrize("how", ["retire", "release"])
    async def test_what_an_ended_process_registers_holds_nothing_back(
        self, world: World, processes: Processes, how: str
    ) -> None:
        """One that others took for dead does not know it yet; nobody would remove its wait."""
        process = await processes.start()
        if how == "retire":
            await world.store.processes.retire(process)
        else:
            await world.store.processes.release([process], world.start)
        wait = NewWait(new_id(), world.bob, world.alice, None)
        await world.sessions.register_wait(wait, owner=process, now=world.start)
        stored = await world.stored(world.talk(claim=True))
        assert stored.waiters == frozenset()
        assert len(stored.claims) == 1

    async def test_registering_is_repeatable_by_its_id(self, world: World) -> None:
        wait = NewWait(new_id(), world.bob, world.alice, None)
        for _ in range(2):
            assert await world.sessions.register_wait(wait, owner=world.owner, now=world.start)
        await world.say()
        found = await world.sessions.find_waits([wait.wait_id], world.start)
        assert list(found) == [wait.wait_id]
        await world.sessions.remove_wait(wait.wait_id)
        assert len(await world.claim(kind=Kind.CONVERSATION)) == 1

    async def test_nobody_waits_without_the_agents(self, world: World) -> None:
        for pair in ((world.bob, new_id()), (new_id(), world.alice)):
            wait = NewWait(new_id(), *pair, None)
            assert not await world.sessions.register_wait(wait, owner=world.owner)
            assert await world.sessions.find_waits([wait.wait_id]) == {wait.wait_id: None}


class TakingConformance(StoreFixtures):
    """`find_waits` tells that something is there, `take_awaited` takes it."""

    async def ready(self, world: World, wait: str) -> bool:
        """What `find_waits` says of a wait that exists and has not ended."""
        found = await world.sessions.find_waits([wait], world.start)
        for row in found.values():
            assert row is not None
            assert (row.wait_id, row.is_ready, row.is_ended) == (wait, True, False)
        return bool(found)

    async def test_what_is_queued_is_taken_oldest_first_each_once(self, world: World) -> None:
        wait = await world.wait()
        assert not await self.ready(world, wait)
        assert await world.take() is None
        await world.say(world.carol)
        assert not await self.ready(world, wait)
        sent = [await world.say(content='"first"'), await world.say()]
        assert await self.ready(world, wait)
        row = await world.sessions.take_awaited(world.bob, world.alice, now=world.at(3))
        assert row is not None
        assert (row.message_id, row.content) == (sent[0], '"first"')
        assert row.session_id == (await world.session()).session_id
        receipt = await world.receipt(sent[0])
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DONE, world.at(3), world.at(3))
        assert receipt.attempt == 0
        assert await self.ready(world, wait)
        assert await world.take() == sent[1]
        assert not await self.ready(world, wait)
        assert await world.take() is None

    async def test_what_was_queued_before_the_wait_is_ready_at_once(self, world: World) -> None:
        said = await world.say()
        assert await self.ready(world, await world.wait())
        assert await world.take() == said

    async def test_what_a_handler_has_or_had_is_not_taken(self, world: World) -> None:
        await world.say()
        run = await world.claim_talk()
        wait = await world.wait()
        assert not await self.ready(world, wait)
        assert await world.take() is None
        await world.settle(run)
        assert not await self.ready(world, wait)
        assert await world.take() is None
        retried = await world.say()
        await world.sessions.remove_wait(wait)
        await world.settle(await world.claim_talk(), Settling.DEAD)
        await world.wait()
        assert await world.take() is None
        assert await world.state(retried) == DeliveryState.DEAD

    async def test_what_is_not_due_is_not_taken(self, world: World) -> None:
        later = await world.say(deliver_at=world.at(60))
        sooner = await world.say()
        wait = await world.wait()
        assert await world.take() == sooner
        assert not await self.ready(world, wait)
        assert await world.take() is None
        await world.deliveries.advance(world.at(61))
        assert await world.take(now=world.at(61)) == later

    async def test_what_was_read_is_not_taken_and_what_was_taken_is_not_read(self, world: World) -> None:
        read, taken = await world.say(), await world.say()
        assert ids(await world.read(limit=1)) == [read]
        assert await world.take() == taken
        assert ids(await world.read()) == []

    async def test_one_way_messages_are_not_taken(self, world: World) -> None:
        await world.send()
        assert not await self.ready(world, await world.wait())
        assert await world.take() is None

    async def test_what_a_run_answered_late_or_unasked_is_taken(self, world: World) -> None:
        ask = await world.ask()
        run = await world.claim_talk()
        await world.close(ask, AskState.TIMED_OUT)
        await world.say()
        late, unasked = world.result('"late"'), world.result('"unasked"')
        await world.settle(run, answer=late)
        wait = await world.wait(world.alice, world.bob)
        assert await self.ready(world, wait)
        await world.settle(await world.claim_talk(), answer=unasked)
        assert [await world.take(world.alice, world.bob) for _ in range(3)] == [
            late.message_id,
            unasked.message_id,
            None,
        ]

    async def test_an_answer_that_its_asker_has_is_not_taken(self, world: World) -> None:
        await world.ask()
        await world.answer()
        await world.ask()
        await world.settle(await world.claim_talk(), answer=world.result())
        assert not await self.ready(world, await world.wait(world.alice, world.bob))
        assert await world.take(world.alice, world.bob) is None

    async def test_an_ask_that_was_taken_is_open_and_answered_by_the_next_message(self, world: World) -> None:
        ask = await world.ask()
        assert await world.take() == ask
        assert await world.ask_state(ask) == AskState.OPEN
        stored = await world.stored(world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN))
        assert stored.answered == EndedAsk(ask, AskState.REPLIED, world.owner)

    async def test_what_expired_is_not_taken(self, world: World) -> None:
        ask = await world.ask()
        await world.close(ask, AskState.TIMED_OUT)
        await world.say(expires_in=10)
        wait = await world.wait()
        await world.deliveries.advance(world.at(11))
        found = await world.sessions.find_waits([wait], world.at(11))
        assert found == {}
        assert await world.take(now=world.at(11)) is None

    async def test_messages_of_an_ended_session_are_still_taken(self, world: World) -> None:
        said = await world.say()
        wait = await world.wait()
        await world.end()
        found = await world.sessions.find_waits([wait], world.start)
        row = found[wait]
        assert row is not None
        assert (row.is_ready, row.is_ended) == (True, True)
        assert await world.take() == said
        row = (await world.sessions.find_waits([wait], world.start))[wait]
        assert row is not None
        assert (row.is_ready, row.is_ended) == (False, True)

    async def test_a_wait_registered_after_the_end_has_not_ended(self, world: World) -> None:
        await world.say()
        await world.end()
        await world.take()
        wait = await world.wait()
        assert await world.sessions.find_waits([wait], world.start) == {}

    async def test_of_many_waits_those_with_news_are_told(self, world: World) -> None:
        quiet, ready = await world.wait(world.bob, world.carol), await world.wait()
        gone = new_id()
        await world.say()
        found = await world.sessions.find_waits([quiet, ready, gone], world.start)
        assert set(found) == {ready, gone}
        assert found[gone] is None
        assert await world.sessions.find_waits([]) == {}


class NoticeConformance(StoreFixtures):
    """What is left for notification handlers."""

    async def test_a_notice_is_taken_once_oldest_first(self, world: World) -> None:
        first = await world.say(notify=True, content='{"n":1}', metadata='{"m":1}')
        await world.say()
        second = await world.say(world.carol, notify=True)
        other = await world.say(recipient=world.dave, notify=True)
        rows = await world.sessions.take_notices([world.bob], 10)
        assert ids(rows) == [first, second]
        assert (rows[0].sender_id, rows[0].recipient_id) == (world.alice, world.bob)
        assert (rows[0].content, rows[0].metadata, rows[0].read_at) == ('{"n":1}', '{"m":1}', None)
        assert (rows[0].kind, rows[0].session_id) == (Kind.CONVERSATION, (await world.session()).session_id)
        assert await world.sessions.take_notices([world.bob], 10) == []
        assert ids(await world.sessions.take_notices([world.bob, world.dave, new_id()], 10)) == [other]
        # A notice is no delivery: the message is still there to be handled.
        assert ids(await world.claim(world.dave, kind=Kind.CONVERSATION)) == [other]

    async def test_at_most_so_many_are_taken(self, world: World) -> None:
        sent = [await world.say(notify=True) for _ in range(5)]
        taken = [ids(await world.sessions.take_notices([world.bob], 2)) for _ in range(4)]
        assert taken == [sent[:2], sent[2:4], sent[4:], []]
        assert await world.sessions.take_notices([], 2) == []

    async def test_those_of_all_agents_can_be_taken(self, world: World) -> None:
        sent = [await world.say(recipient=recipient, notify=True) for recipient in (world.dave, world.bob, world.carol)]
        assert ids(await world.sessions.take_notices(None, 2)) == sent[:2]
        assert ids(await world.sessions.take_notices(None, 2)) == sent[2:]
        assert await world.sessions.take_notices(None, 2) == []

    async def test_what_is_awaited_leaves_none(self, world: World) -> None:
        wait = await world.wait()
        await world.say(notify=True)
        other = await world.say(world.carol, notify=True)
        await world.sessions.remove_wait(wait)
        later = await world.say(notify=True)
        assert ids(await world.sessions.take_notices([world.bob], 10)) == [other, later]

    async def test_an_answer_leaves_none(self, world: World) -> None:
        await world.ask()
        await world.answer(notify=True)
        unanswering = await world.say(world.bob, world.alice, notify=True)
        assert ids(await world.sessions.take_notices([world.alice], 10)) == [unanswering]

    async def test_old_ones_are_dropped(self, world: World) -> None:
        await world.say(notify=True, now=world.at(-120))
        fresh = await world.say(notify=True, now=world.at(-10))
        assert ids(await world.sessions.take_notices([world.bob], 10)) == [fresh]
        assert await world.sessions.take_notices([world.bob], 10) == []

    async def test_that_of_a_scheduled_message_is_taken_when_it_is_due(self, world: World) -> None:
        due = await world.say(notify=True, now=world.at(-120), deliver_at=world.at(-10))
        await world.say(notify=True, deliver_at=world.at(60))
        fresh = await world.say(notify=True)
        assert ids(await world.sessions.take_notices([world.bob], 10)) == [due, fresh]
        assert await world.sessions.take_notices(None, 10) == []

    async def test_who_notifies_is_listed_like_who_handles(self, world: World, processes: Processes) -> None:
        process = await processes.start()
        services = {
            Service(world.bob, Kind.NOTIFICATION, True, 3),
            Service(world.bob, Kind.CONVERSATION, True, 10),
            Service(None, Kind.NOTIFICATION, False),
        }
        await world.store.processes.publish(process, services)
        (row,) = await world.store.processes.list_processes(0)
        assert set(row.services) == services


class WaitConformance(HoldingConformance, TakingConformance, NoticeConformance):
    """The waits and notices of `SessionStore`."""
