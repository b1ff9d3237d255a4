"""Conversations with many at once: whoever loses a race changes nothing, and reports what the row says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import (
    Answering,
    AskRow,
    EndedSession,
    MutualWait,
    NewWait,
    NotWaiting,
    SessionLocked,
    Settled,
    Settlement,
    Settling,
    Store,
    Stored,
)

from .base import StoreFixtures
from .world import World, id_of, ids

ROUNDS = 12
T = TypeVar("T")


async def at_once(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """The answers of calls that run together."""
    return list(await asyncio.gather(*calls))


class ConversationRaceConformance(StoreFixtures):
    """Two stores on the same data, and several tasks on each."""

    @pytest.fixture
    def there(self, world: World, second_store: Store) -> World:
        """The same world through another store."""
        return replace(world, store=second_store, owner=new_id())

    async def test_of_the_ends_of_one_ask_exactly_one_wins_and_all_report_it(self, world: World, there: World) -> None:
        """Answered by a message, by a run, timed out, and ended: in the same instant."""
        seen: Counter[AskState] = Counter()
        for number in range(ROUNDS):
            ask = await world.ask()
            session = (await world.session()).session_id
            run = await world.claim_talk()
            reply, result = world.talk(world.bob, world.alice, answers=Answering.REQUIRED), world.result()

            async def by_message(reply: Any = reply) -> object:
                return await there.outcome(reply)

            async def by_run(run: Any = run, result: Any = result) -> object:
                return await world.settle(run, answer=result)

            async def by_time(ask: str = ask) -> object:
                return await there.close(ask, AskState.TIMED_OUT)

            async def by_end() -> object:
                return await world.end(world.bob, world.alice)

            calls = [by_message(), by_run(), by_time(), by_end()]
            order = [(place + number) % 4 for place in range(4)]
            answers = dict(zip(order, await at_once(*(calls[place] for place in order)), strict=True))
            replied, settled, closed, ended = (answers[place] for place in range(4))
            row = await world.asked(ask)
            seen[row.state] += 1
            assert row.state is not AskState.OPEN
            assert isinstance(closed, AskRow)
            # Whoever closes an ask sees how it ended, and it ended once.
            assert (closed.state, closed.answer) == (row.state, row.answer)
            assert isinstance(settled, Settled)
            assert settled.moved == [True]
            assert isinstance(ended, EndedSession)
            winners = [
                isinstance(replied, Stored) and replied.answered is not None,
                bool(settled.ended_asks),
                row.state is AskState.TIMED_OUT,
                bool(ended.asks),
            ]
            assert winners.count(True) == 1, (winners, row)
            if winners[0]:
                assert row.answer is not None
                assert row.answer.message_id == id_of(reply)
            else:
                assert isinstance(replied, NotWaiting)
                assert await world.deliveries.list_receipts([id_of(reply)]) == []
            if winners[1]:
                assert row.answer is not None
                assert row.answer.message_id == result.message_id
            assert (
                row.state
                is {0: AskState.REPLIED, 1: AskState.REPLIED, 2: AskState.TIMED_OUT, 3: AskState.ENDED}[
                    winners.index(True)
                ]
            )
            # What did not end it is kept unread.
            assert (await world.receipt(result.message_id)).read_at == (world.start if winners[1] else None)
            assert result.message_id in await world.transcript(session)
        assert seen.total() == ROUNDS

    async def test_of_many_that_close_one_ask_all_report_the_same(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            ask = await world.ask()
            rows = await at_once(
                *(
                    side.close(ask, state)
                    for side in (world, there) * 2
                    for state in (AskState.TIMED_OUT, AskState.CANCELLED)
                )
            )
            assert {row.state for row in rows} == {await world.ask_state(ask)}
            assert await world.state(ask) == DeliveryState.EXPIRED

    async def test_of_many_answers_to_one_ask_one_is_stored(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            ask = await world.ask()
            groups = [world.talk(world.bob, world.alice, answers=Answering.REQUIRED) for _ in range(6)]
            outcomes = await at_once(
                *((world, there)[number % 2].outcome(group) for number, group in enumerate(groups))
            )
            kinds = Counter(type(outcome) for outcome in outcomes)
            assert kinds == {Stored: 1, NotWaiting: 5}
            winner = next(group for group, outcome in zip(groups, outcomes, strict=True) if isinstance(outcome, Stored))
            row = await world.asked(ask)
            assert row.answer is not None
            assert row.answer.message_id == id_of(winner)
            assert len(await world.deliveries.list_receipts([id_of(group) for group in groups])) == 1

    async def test_an_ask_claimed_and_closed_at_once_is_left_to_its_run_or_expires(
        self, world: World, there: World
    ) -> None:
        for _ in range(ROUNDS):
            ask = await world.ask()

            async def claim() -> list[str]:
                return ids(await world.claim(kind=Kind.CONVERSATION))

            async def close(ask: str = ask) -> list[str]:
                assert (await there.close(ask, AskState.TIMED_OUT)).state is AskState.TIMED_OUT
                return []

            got, _ = await at_once(claim(), close())
            assert await world.ask_state(ask) is AskState.TIMED_OUT
            assert await world.state(ask) is (DeliveryState.CLAIMED if got else DeliveryState.EXPIRED)
            for claim_ in await world.deliveries.list_claims(world.owner):
                await world.settle(claim_)

    async def test_an_ask_returned_and_answered_at_once_is_done(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            ask = await world.ask()
            run = await world.claim_talk()

            async def return_(run: Any = run) -> None:
                assert (await world.settle(run, Settling.RETURNED)).moved == [True]

            async def answer() -> None:
                await there.answer()

            await at_once(return_(), answer())
            assert await world.ask_state(ask) is AskState.REPLIED
            assert await world.state(ask) is DeliveryState.DONE

    async def test_of_asks_of_one_agent_to_another_at_once_one_is_stored(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            groups = [world.question() for _ in range(6)]
            outcomes = await at_once(
                *((world, there)[number % 2].outcome(group) for number, group in enumerate(groups))
            )
            stored = [id_of(group) for group, one in zip(groups, outcomes, strict=True) if isinstance(one, Stored)]
            assert len(stored) == 1
            assert [one for one in outcomes if not isinstance(one, Stored)] == [SessionLocked(stored[0])] * 5
            await world.close(stored[0], AskState.CANCELLED)

    async def test_asks_that_close_a_circle_at_once_are_not_all_stored(self, world: World, there: World) -> None:
        """The check and the insert of one see the other's: neither misses the circle."""
        agents = [world.alice, world.bob, world.carol]
        for size in (2, 3) * ROUNDS:
            circle = agents[:size]
            groups = [
                world.question(asker, responder, answers=None)
                for asker, responder in zip(circle, circle[1:] + circle[:1], strict=True)
            ]
            outcomes = await at_once(
                *((world, there)[number % 2].outcome(group) for number, group in enumerate(groups))
            )
            kinds = Counter(type(outcome) for outcome in outcomes)
            assert kinds == {Stored: size - 1, MutualWait: 1}, outcomes
            (refused,) = [outcome for outcome in outcomes if isinstance(outcome, MutualWait)]
            assert set(refused.path) == set(circle)
            asked = [id_of(group) for group, one in zip(groups, outcomes, strict=True) if isinstance(one, Stored)]
            await world.sessions.close_asks(asked, AskState.CANCELLED, now=world.start)

    async def test_first_messages_at_once_open_one_session(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            pairs = [(world.alice, world.bob), (world.bob, world.alice)] * 3
            outcomes = await at_once(
                *((world, there)[number % 2].stored(world.talk(*pair)) for number, pair in enumerate(pairs))
            )
            (session,) = {outcome.session_id for outcome in outcomes}
            assert (await world.session()).session_id == session
            # Whoever ends it ends it once, and everybody else finds none or the next one.
            ended = [one for one in await at_once(world.end(), there.end(), world.end()) if one is not None]
            assert [one.session_id for one in ended] == [session]

    async def test_one_message_has_one_taker(self, world: World, there: World) -> None:
        """Takers, readers and handlers at once: each message goes to exactly one of them."""
        groups = [world.talk() for _ in range(60)]
        await world.append(*groups)
        sent = [id_of(group) for group in groups]
        got: Counter[str] = Counter()
        claimed: set[str] = set()

        async def take(side: World) -> None:
            while (id := await side.take()) is not None:
                got[id] += 1

        async def read(side: World) -> None:
            while True:
                page = await side.read(limit=3)
                got.update(ids(page))
                if page.is_last:
                    return

        async def handle(side: World) -> None:
            owner = new_id()
            while runs := await side.claim(kind=Kind.CONVERSATION, limit=2, ordered=False, owner=owner):
                claimed.update(ids(runs))
                await side.deliveries.settle(
                    [Settlement(run.claim, Settling.DONE) for run in runs], owner=owner, now=world.start
                )

        await at_once(*(act(side) for side in (world, there) for act in (take, take, read, handle)))
        assert max(got.values(), default=1) == 1, "two readers of one message"
        # A reader may read what a handler has; a taker takes only what none has or had.
        assert set(got) | claimed == set(sent)
        rows = await world.deliveries.list_receipts(sent)
        assert {row.state for row in rows} == {DeliveryState.DONE}
        assert {row.message_id for row in rows if row.attempt} == claimed
        assert {row.message_id for row in rows if row.read_at} == set(got)

    async def test_many_takers_of_one_message(self, world: World, there: World) -> None:
        for _ in range(ROUNDS):
            said = await world.say()
            taken = await at_once(*(side.take() for side in (world, there) * 3))
            assert Counter(taken) == {said: 1, None: 5}

    async def test_a_notice_has_one_taker(self, world: World, there: World) -> None:
        sent = [await world.say(notify=True) for _ in range(20)]
        pages = await at_once(
            *(store.sessions.take_notices([world.bob], 7) for store in (world.store, there.store) * 4)
        )
        assert sorted(id for page in pages for id in ids(page)) == sorted(sent)

    async def test_every_reading_of_a_session_is_a_prefix_of_the_later_ones(self, world: World, there: World) -> None:
        """Also for a reader that goes on behind the last message it saw."""
        session = str((await world.stored(world.talk())).session_id)
        finished = asyncio.Event()

        async def write(side: World, pair: tuple[str, str]) -> None:
            for number in range(25):
                if number % 5 == 4:
                    await side.say(*pair)
                    runs = await side.claim(pair[1], kind=Kind.CONVERSATION, limit=1)
                    for run in runs:
                        await side.settle(run, answer=side.result())
                else:
                    await side.append(*(side.talk(*pair) for _ in range(3)))

        async def follow(side: World) -> list[str]:
            whole: list[str] = []
            followed: list[str] = []
            after = 0
            while True:
                last_time = finished.is_set()
                rows = await side.sessions.list_messages(session, limit=1000, after_seq=after)
                followed += ids(rows)
                after = rows[-1].seq if rows else after
                now = await side.transcript(session)
                assert now[: len(whole)] == whole
                assert now[: len(followed)] == followed
                whole = now
                if last_time:
                    assert followed == now
                    return now

        async def write_all() -> list[str]:
            pairs = [(world.alice, world.bob), (world.bob, world.alice)]
            await at_once(*(write(side, pair) for side in (world, there) for pair in pairs))
            finished.set()
            return []

        *readings, _ = await at_once(follow(world), follow(there), write_all())
        assert readings[0] == readings[1]
        assert len(readings[0]) >= 1 + 4 * (20 * 3 + 5)

    async def test_an_agent_removed_while_others_talk_to_it_leaves_nothing_half(
        self, world: World, there: World
    ) -> None:
        bob = (await world.store.directory.find_agents_by_id([world.bob]))[0]

        async def talk() -> None:
            for number in range(20):
                group = there.question() if number % 2 else there.talk(world.bob, world.alice, notify=True)
                await there.outcome(group)
                wait = NewWait(new_id(), world.alice, world.bob, None)
                await there.sessions.register_wait(wait, owner=there.owner)

        async def remove() -> None:
            await world.store.directory.remove_agent(bob.external_id)

        await at_once(talk(), remove())
        assert await world.sessions.list_sessions(world.alice, open_only=False, limit=10) == []
        assert await world.sessions.find_open_session(world.alice, world.bob) is None
        assert await world.sessions.take_notices([world.alice, world.bob], 10) == []
        assert await world.store.check() == []
