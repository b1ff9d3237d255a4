"""What becomes of messages that an agent's own code took and nobody has: given back, or set aside as unreadable."""

from __future__ import annotations

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import Answering, EndedAsk, MessageRow, Settling

from .base import StoreFixtures
from .world import World, ids


class ReturningConformance(StoreFixtures):
    """`return_messages`: as if the call that took them had not looked."""

    async def taken(self, world: World, *, now: float = 2) -> MessageRow:
        """Take what bob awaits of alice."""
        row = await world.sessions.take_awaited(world.bob, world.alice, now=world.at(now))
        assert row is not None
        assert row.read_at == world.at(now)
        return row

    async def test_what_was_read_from_the_queue_is_unread_and_queued_again_in_its_place(self, world: World) -> None:
        sent = [await world.say() for _ in range(3)]
        before = [await world.receipt(id) for id in sent]
        page = await world.read(limit=2, now=world.at(2))
        assert [row.read_at for row in page.messages] == [world.at(2)] * 2
        assert await world.sessions.return_messages(page.messages, now=world.at(3)) == set()
        assert [await world.receipt(id) for id in sent] == before
        assert ids(await world.read(mark=False)) == sent
        assert ids(await world.claim(kind=Kind.CONVERSATION, ordered=False)) == sent

    async def test_what_was_taken_is_taken_anew(self, world: World) -> None:
        said, later = await world.say(), await world.say()
        row = await self.taken(world)
        assert row.message_id == said
        await world.sessions.return_messages([row])
        assert [await world.take() for _ in range(3)] == [said, later, None]

    async def test_nothing_else_is_given_back(self, world: World) -> None:
        read, kept = await world.say(world.carol), await world.say()
        page = await world.read(sender_id=world.carol, now=world.at(1))
        await world.read(sender_id=world.alice, now=world.at(2))
        await world.sessions.return_messages(page.messages)
        await world.sessions.return_messages([])
        assert [await world.state(id) for id in (read, kept)] == [DeliveryState.QUEUED, DeliveryState.DONE]
        assert ids(await world.read(mark=False)) == [read]

    async def test_what_was_read_anew_since_stays_read(self, world: World) -> None:
        said = await world.say()
        first = await world.read(now=world.at(1))
        await world.sessions.return_messages(first.messages)
        second = await world.read(now=world.at(2))
        assert ids(second) == [said]
        for _ in range(2):
            await world.sessions.return_messages(first.messages)
            receipt = await world.receipt(said)
            assert (receipt.state, receipt.read_at) == (DeliveryState.DONE, world.at(2))

    async def test_a_repeat_takes_nothing_away_from_who_has_it_by_then(self, world: World) -> None:
        said = await world.say()
        row = await self.taken(world)
        await world.sessions.return_messages([row])
        run = await world.claim_talk()
        await world.sessions.return_messages([row])
        assert await world.state(said) == DeliveryState.CLAIMED
        assert (await world.settle(run)).moved == [True]
        await world.sessions.return_messages([row])
        assert await world.state(said) == DeliveryState.DONE

    async def test_what_a_handler_has_or_had_is_unread_again_and_given_to_no_other(self, world: World) -> None:
        had, has = await world.say(), await world.say()
        await world.settle(await world.claim_talk(), now=world.at(1))
        run = await world.claim_talk()
        page = await world.read(now=world.at(2))
        assert ids(page) == [had, has]
        await world.sessions.return_messages(page.messages)
        assert [await world.state(id) for id in (had, has)] == [DeliveryState.DONE, DeliveryState.CLAIMED]
        assert await world.take() is None
        assert (await world.settle(run)).moved == [True]
        assert await world.claim(kind=Kind.CONVERSATION) == []
        assert ids(await world.read()) == [had, has]

    async def test_one_whose_run_has_ended_since_stays_done(self, world: World) -> None:
        said = await world.say()
        run = await world.claim_talk()
        page = await world.read(now=world.at(2))
        await world.settle(run, now=world.at(3))
        await world.sessions.return_messages(page.messages)
        receipt = await world.receipt(said)
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DONE, None, world.at(3))

    async def test_what_was_for_no_handler_is_only_unread_again(self, world: World) -> None:
        await world.say()
        result = world.result()
        await world.settle(await world.claim_talk(), answer=result, now=world.at(1))
        row = await world.sessions.take_awaited(world.alice, world.bob, now=world.at(2))
        assert row is not None
        await world.sessions.return_messages([row])
        receipt = await world.receipt(result.message_id)
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DONE, None, world.at(1))
        assert await world.claim(world.alice, kind=Kind.CONVERSATION) == []
        assert await world.take(world.alice, world.bob) == result.message_id

    async def test_an_open_ask_is_queued_and_unseen_again(self, world: World) -> None:
        ask = await world.ask()
        await world.sessions.return_messages([await self.taken(world)])
        outcome = await world.stored(world.talk(world.bob, world.alice, answers=Answering.IF_TAKEN))
        assert outcome.answered is None
        assert (await world.claim_talk()).message_id == ask

    async def test_an_ask_that_was_answered_since_stays_read(self, world: World) -> None:
        ask = await world.ask()
        row = await self.taken(world)
        await world.answer(answering=Answering.IF_TAKEN, now=world.at(3))
        await world.sessions.return_messages([row])
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.read_at) == (DeliveryState.DONE, world.at(2))
        assert ids(await world.read()) == []

    async def test_an_ask_that_ended_otherwise_since_is_unread_and_expired(self, world: World) -> None:
        ask = await world.ask()
        row = await self.taken(world)
        await world.close(ask, AskState.TIMED_OUT)
        await world.sessions.return_messages([row], now=world.at(4))
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.EXPIRED, world.at(4))
        assert await world.claim(kind=Kind.CONVERSATION) == []
        assert ids(await world.read()) == [ask]

    async def test_who_waits_for_it_is_named(self, world: World) -> None:
        for sender in (world.alice, world.carol, world.dave):
            await world.say(sender)
        page = await world.read(now=world.at(1))
        one, other = new_id(), new_id()
        await world.wait(owner=one)
        await world.wait(world.bob, world.carol, owner=one)
        await world.wait(world.bob, world.dave, owner=other, timeout=5)
        for _ in range(2):  # a repeat tells the same
            assert await world.sessions.return_messages(page.messages[:2], now=world.at(1)) == {one}
        assert await world.sessions.return_messages(page.messages[2:], now=world.at(9)) == set()

    async def test_what_was_removed_with_its_agent_is_gone(self, world: World) -> None:
        await world.say()
        row = await self.taken(world)
        (alice,) = await world.store.directory.find_agents_by_id([world.alice])
        await world.store.directory.remove_agent(alice.external_id)
        assert await world.sessions.return_messages([row]) == set()
        assert await world.store.check() == []

    async def test_by_the_clock_of_the_store_too_it_is_given_back_again_and_again(self, world: World) -> None:
        said = await world.say()
        for _ in range(3):
            page = await world.sessions.read_messages(world.bob, limit=10)
            assert ids(page) == [said]
            assert page.messages[0].read_at == (await world.receipt(said)).read_at
            await world.sessions.return_messages(page.messages)
        row = await world.sessions.take_awaited(world.bob, world.alice)
        assert row is not None
        await world.sessions.return_messages([row])
        assert await world.take() == said


class RejectingConformance(StoreFixtures):
    """`reject_messages`: what nobody can read becomes a dead letter, with the reason."""

    async def test_what_was_taken_becomes_a_dead_letter_that_stays_read(self, world: World) -> None:
        said, other = await world.say(), await world.say()
        page = await world.read(now=world.at(2))
        rejecting = world.sessions.reject_messages(page.messages[:1], "torn", owner=world.owner, now=world.at(3))
        assert await rejecting == []
        receipt = await world.receipt(said)
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DEAD, world.at(2), world.at(3))
        (entry,) = receipt.log
        assert [entry.get(key) for key in ("event", "reason", "process", "attempt")] == ["dead", "torn", world.owner, 0]
        (letter,) = await world.deliveries.list_dead(world.bob, 10, 0)
        assert (letter.message_id, letter.died_at) == (said, world.at(3))
        assert await world.state(other) == DeliveryState.DONE
        assert ids(await world.read()) == []
        assert await world.deliveries.redrive([said], None) == [(said, world.bob)]
        assert (await world.claim_talk()).message_id == said

    async def test_an_open_ask_fails_with_the_reason(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        page = await world.read()
        failed = await world.sessions.reject_messages(page.messages, "torn", owner=world.owner)
        assert failed == [EndedAsk(ask, AskState.FAILED, asker)]
        row = await world.asked(ask)
        assert (row.state, row.reason) == (AskState.FAILED, "torn")
        await world.ask()

    async def test_what_was_for_no_handler_becomes_one_too(self, world: World) -> None:
        await world.say()
        result = world.result()
        await world.settle(await world.claim_talk(), answer=result)
        page = await world.read(world.alice, now=world.at(2))
        assert await world.sessions.reject_messages(page.messages, "torn", owner=world.owner) == []
        assert await world.state(result.message_id) == DeliveryState.DEAD

    async def test_what_a_handler_has_or_had_is_left_to_it(self, world: World) -> None:
        had, has = await world.say(), await world.say()
        await world.settle(await world.claim_talk())
        run = await world.claim_talk()
        page = await world.read(now=world.at(2))
        await world.sessions.reject_messages(page.messages, "torn", owner=world.owner)
        assert [await world.state(id) for id in (had, has)] == [DeliveryState.DONE, DeliveryState.CLAIMED]
        assert (await world.settle(run, Settling.DEAD, reason="its own")).moved == [True]

    async def test_what_was_read_anew_since_is_left_alone(self, world: World) -> None:
        said = await world.say()
        first = await world.read(now=world.at(1))
        await world.sessions.return_messages(first.messages)
        await world.sessions.reject_messages(first.messages, "torn", owner=world.owner)
        assert await world.state(said) == DeliveryState.QUEUED
        await world.read(now=world.at(2))
        await world.sessions.reject_messages(first.messages, "torn", owner=world.owner)
        await world.sessions.reject_messages([], "torn", owner=world.owner)
        assert await world.state(said) == DeliveryState.DONE
