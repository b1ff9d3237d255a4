"""Queues: by priority and age, claimed by one at a time, settled once, taken over from the dead."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState
from agent_messaging.storage.ports import QueueClaim, QueueSettlement, Settling, Stock

from .coordination import LEASE, SUM, CoordinationFixtures, Crew, ids


class QueueConformance(CoordinationFixtures):
    """All of `QueueStore`."""

    async def test_messages_come_by_priority_and_within_one_in_the_order_of_putting(self, crew: Crew) -> None:
        await crew.put(crew.message("low", priority=3), crew.message("first"), crew.message("second"))
        await crew.put(crew.message("late"), crew.message("urgent", priority=0))
        assert ids(await crew.claim(2)) == ["urgent", "first"]
        assert ids(await crew.claim()) == ["second", "late", "low"]
        assert await crew.claim() == []

    async def test_what_was_put_comes_as_it_was(self, crew: Crew) -> None:
        message = crew.message("m 1 é", "b/ö", content='{"text":"株"}', metadata='{"a":1}', priority=4, expires_in=60.0)
        assert await crew.put(message) == [True]
        (claimed,) = await crew.claim(agent_id="b/ö")
        assert claimed.claim == QueueClaim("b/ö", "m 1 é", 1)
        assert (claimed.attempt, claimed.sender_id, claimed.type, claimed.priority) == (1, "alice", "task_request", 4)
        assert (claimed.content, claimed.metadata, claimed.checksum) == ('{"text":"株"}', '{"a":1}', SUM)
        assert (claimed.created_at, claimed.expires_at) == (crew.start, crew.at(60))

    async def test_a_repeat_stores_nothing_also_in_the_same_call_and_after_the_end(self, crew: Crew) -> None:
        assert await crew.put("a", "b", "a") == [True, True, False]
        assert await crew.put("b", crew.message("b", "carol")) == [False, True]
        for claimed in await crew.claim():
            assert await crew.settle(claimed)
        assert await crew.put("a") == [False]
        assert await crew.claim() == []

    async def test_only_the_types_that_are_asked_for_are_claimed(self, crew: Crew) -> None:
        await crew.put(crew.message("beat", type="heartbeat"), crew.message("work"))
        assert ids(await crew.claim(types=["task_request", "other"])) == ["work"]
        assert await crew.claim(types=[]) == []
        assert ids(await crew.claim(types=["heartbeat"])) == ["beat"]

    async def test_what_was_claimed_by_its_type_returns_to_its_place(self, crew: Crew) -> None:
        await crew.put("first", crew.message("chosen", type="heartbeat"), "last")
        (chosen,) = await crew.claim(types=["heartbeat"])
        assert await crew.settle(chosen, Settling.RETURNED)
        assert ids(await crew.claim(types=["heartbeat", "task_request"])) == ["first", "chosen", "last"]
        await crew.put("later", crew.message("again", type="heartbeat"))
        (again,) = await crew.claim(types=["heartbeat"])
        assert await crew.settle(again, Settling.RETRY)
        assert ids(await crew.claim()) == ["later", "again"]

    async def test_queues_concern_no_other(self, crew: Crew) -> None:
        await crew.put(crew.message("m", "bob"), crew.message("m", "carol"))
        (mine,) = await crew.claim()
        assert await crew.settle(mine)
        assert (await crew.look("m", "carol")).state is DeliveryState.QUEUED

    async def test_only_the_newest_token_settles_and_a_repeat_is_answered_alike(self, crew: Crew) -> None:
        await crew.put("m")
        (first,) = await crew.claim()
        await crew.store.queue.advance(now=crew.at(LEASE + 1))
        (second,) = await crew.claim(at=LEASE + 2)
        assert (second.attempt, second.claim.token) == (2, 2)
        assert not await crew.settle(first)
        assert await crew.settle(second, Settling.RETRY)
        assert await crew.settle(second, Settling.RETRY)
        assert not await crew.settle(second, Settling.DONE)
        assert (await crew.look("m")).state is DeliveryState.QUEUED

    async def test_settlements_of_one_call_are_judged_in_their_order(self, crew: Crew) -> None:
        await crew.put("m")
        (one,) = await crew.claim()
        unknown = QueueClaim("bob", "nobody", 1)
        settlements = [(one.claim, Settling.DONE), (one.claim, Settling.DEAD), (one.claim, Settling.DONE)]
        moved = await crew.store.queue.settle(
            [QueueSettlement(claim, how) for claim, how in [*settlements, (unknown, Settling.DONE)]]
        )
        assert moved == [True, False, True, False]
        assert await crew.store.queue.settle([]) == []

    async def test_a_retry_waits_for_its_delay_and_dies_at_the_last_attempt(self, crew: Crew) -> None:
        await crew.put(crew.message("m", max_attempts=2))
        (one,) = await crew.claim()
        assert await crew.settle(one, Settling.RETRY, delay=5.0, reason="away")
        assert await crew.claim(at=4) == []
        assert (await crew.store.queue.advance(now=crew.at(4))).next_in == pytest.approx(1, abs=0.1)
        assert (await crew.store.queue.advance(now=crew.at(5))).due == 1
        (two,) = await crew.claim(at=5)
        assert two.attempt == 2
        assert await crew.settle(two, Settling.RETRY, reason="still away", at=6)
        row = await crew.look("m")
        assert (row.state, row.reason, row.attempt) == (DeliveryState.DEAD, "still away", 2)

    async def test_what_is_given_back_is_not_counted(self, crew: Crew) -> None:
        await crew.put(crew.message("m", max_attempts=1))
        for token in (1, 2, 3):
            (one,) = await crew.claim()
            assert (one.attempt, one.claim.token) == (1, token)
            assert await crew.settle(one, Settling.RETURNED)

    async def test_an_end_as_a_failure_is_told_from_success(self, crew: Crew) -> None:
        await crew.put("good", "bad")
        good, bad = await crew.claim()
        assert await crew.settle(good)
        assert await crew.settle(bad, reason="not to be done")
        statistics = await crew.store.queue.statistics(now=crew.at(1))
        assert (statistics.counts, statistics.failed) == ({DeliveryState.DONE: 2}, 1)

    async def test_a_lease_ends_unless_it_is_renewed(self, crew: Crew) -> None:
        await crew.put("kept", "left")
        kept, left = await crew.claim()
        assert await crew.store.queue.renew([kept.claim], lease=LEASE, now=crew.at(LEASE - 1)) == [True]
        assert (await crew.store.queue.advance(now=crew.at(LEASE))).released == 1
        assert ids(await crew.claim(at=LEASE)) == ["left"]
        assert await crew.store.queue.renew([kept.claim, left.claim], lease=LEASE, now=crew.at(LEASE)) == [True, False]
        assert (await crew.look("left")).reason

    async def test_what_the_dead_had_returns_and_dies_at_the_last_attempt(self, crew: Crew) -> None:
        dead, alive = new_id(), new_id()
        await crew.put("again", crew.message("last", max_attempts=1), "other")
        assert ids(await crew.claim(2, owner=dead)) == ["again", "last"]
        await crew.claim(owner=alive)
        assert await crew.store.queue.release([dead], now=crew.at(1)) == 2
        assert await crew.store.queue.release([dead], now=crew.at(1)) == 0
        states = {row.message_id: row.state for row in await crew.store.queue.list_messages("bob", None, 10, 0)}
        assert states == {"again": "queued", "last": "dead", "other": "claimed"}
        (again,) = await crew.claim(at=2)
        assert again.attempt == 2

    async def test_the_message_that_kills_its_process_is_found_and_the_others_are_not_counted(self, crew: Crew) -> None:
        dead, killed, other = new_id(), new_id(), new_id()
        await crew.put(*(crew.message(name, max_attempts=9) for name in ("killer", "a", "b")))
        assert len(await crew.claim(owner=dead)) == 3
        assert await crew.store.queue.release([dead], now=crew.at(1)) == 3
        await crew.put("fresh", crew.message("typed", type="other"))
        assert ids(await crew.claim(owner=killed, types=["other"], at=2)) == ["typed"]
        assert ids(await crew.claim(owner=killed, at=2)) == ["killer", "fresh"]
        assert await crew.claim(owner=killed, at=2) == []
        (elsewhere,) = await crew.claim(owner=other, at=2)
        assert (elsewhere.claim.message_id, elsewhere.attempt) == ("a", 2)
        assert await crew.store.queue.release([killed], now=crew.at(3)) == 3
        names = ("killer", "a", "b", "fresh", "typed")
        assert [(await crew.look(name)).attempt for name in names] == [2, 2, 1, 0, 0]
        # Settling one makes room for the next; what was settled is nobody's suspect any more.
        assert await crew.settle(elsewhere, Settling.RETRY, at=4)
        assert ids(await crew.claim(owner=other, at=4)) == ["killer", "a", "fresh", "typed"]

    async def test_what_has_expired_is_not_claimed_and_what_is_claimed_does_not_expire(self, crew: Crew) -> None:
        await crew.put(crew.message("gone", priority=4, expires_in=5.0), crew.message("held", expires_in=5.0))
        (held,) = await crew.claim(1)
        assert await crew.claim(at=5) == []
        assert (await crew.store.queue.advance(now=crew.at(6))).expired == 1
        assert (await crew.look("gone")).state is DeliveryState.EXPIRED
        assert await crew.settle(held, at=7)

    async def test_the_dead_are_listed_and_queued_again(self, crew: Crew) -> None:
        await crew.put("a", crew.message("b", "carol"), crew.message("c", expires_in=5.0))
        for agent in ("bob", "carol"):
            for claimed in await crew.claim(agent_id=agent):
                assert await crew.settle(claimed, Settling.DEAD, reason="no")
        dead = await crew.store.queue.list_messages(None, [DeliveryState.DEAD], 10, 0)
        assert [row.message_id for row in dead] == ["c", "b", "a"]
        assert [row.message_id for row in await crew.store.queue.list_messages(None, None, 1, 1)] == ["b"]
        assert await crew.store.queue.redrive("bob", ["c"]) == 1
        assert await crew.store.queue.redrive(None, None) == 2
        (a, c) = await crew.claim(at=10)  # without its expiry
        assert [(one.claim.token, one.attempt) for one in (a, c)] == [(2, 1), (2, 1)]

    async def test_the_statistics_count_what_there_is(self, crew: Crew) -> None:
        assert (await crew.store.queue.statistics(now=crew.start)).counts == {}
        await crew.put(crew.message("a", priority=0), "b", "c", crew.message("d", "carol"))
        (a,) = await crew.claim(1)
        await crew.settle(a, at=1)
        await crew.claim(1, at=2)
        statistics = await crew.store.queue.statistics("bob", now=crew.at(30))
        assert statistics.counts == {DeliveryState.DONE: 1, DeliveryState.CLAIMED: 1, DeliveryState.QUEUED: 1}
        assert statistics.by_priority == {2: 2}
        assert statistics.settled_lately == 1
        assert statistics.oldest_queued_age == pytest.approx(30, abs=0.5)
        assert (await crew.store.queue.statistics(now=crew.at(300))).settled_lately == 0
        assert (await crew.store.queue.statistics(now=crew.at(30))).by_priority == {2: 3}

    async def test_only_what_has_ended_is_forgotten(self, crew: Crew) -> None:
        await crew.put("done", "held", "dead", "queued")
        done, _, dead = await crew.claim(3)
        await crew.settle(done, at=1)
        await crew.settle(dead, Settling.DEAD, at=2)
        assert await crew.store.queue.measure(60, now=crew.at(30)) == Stock(0, 0)
        stock = await crew.store.queue.measure(60, now=crew.at(100))
        assert stock.number == 2
        assert 2 < stock.size_bytes < 2_000
        assert await crew.store.queue.prune(60, 10, now=crew.at(30)) == 0
        assert await crew.store.queue.prune(60, 10, states=[DeliveryState.DEAD], now=crew.at(100)) == 1
        assert await crew.store.queue.prune(60, 10, now=crew.at(100)) == 1
        assert {row.message_id for row in await crew.store.queue.list_messages(None, None, 10, 0)} == {"held", "queued"}
        assert await crew.put("done") == [True]

    async def test_what_is_queued_again_counts_where_all_else_was_forgotten(self, crew: Crew) -> None:
        await crew.put("bad", "good")
        bad, good = await crew.claim()
        await crew.settle(bad, Settling.DEAD, reason="no")
        await crew.settle(good)
        assert await crew.store.queue.prune(60, 10, states=[DeliveryState.DONE], now=crew.at(100)) == 1
        assert await crew.store.queue.redrive(None, None) == 1
        for agent in (None, "bob"):
            statistics = await crew.store.queue.statistics(agent, now=crew.at(100))
            assert (statistics.counts, statistics.by_priority) == ({DeliveryState.QUEUED: 1}, {2: 1})

    async def test_many_claimers_never_get_the_same_message(self, crew: Crew, second: Crew) -> None:
        names = [f"m{number}" for number in range(60)]
        await crew.put(*names)
        got: list[str] = []

        async def work(who: Crew, dice: random.Random) -> None:
            while claimed := await who.claim(dice.randint(1, 5), owner=new_id()):
                got.extend(ids(claimed))
                for one in claimed:
                    assert await who.settle(one)

        await asyncio.gather(*(work(crew if n % 2 else second, random.Random(n)) for n in range(6)))
        left = ids(await crew.claim())  # what was passed over because another one was about to take it
        assert sorted(got + left) == sorted(names)


class QueueOfProcesses(CoordinationFixtures):
    """What a store adds that knows processes."""

    async def test_the_processes_that_listen_are_named(self, crew: Crew) -> None:
        one, two = new_id(), new_id()
        await crew.store.queue.listen(one, ["bob", "carol"])
        await crew.store.queue.listen(two, ["bob"])
        await crew.store.queue.listen(one, ["carol", "dave"])
        put = crew.store.queue.put
        assert (await put([crew.message("a")])).listeners == {two}
        assert (await put([crew.message("b"), crew.message("b", "dave")])).listeners == {one, two}
        assert (await put([crew.message("a")])).listeners == set()
        await crew.store.queue.release([two])
        assert (await put([crew.message("c")])).listeners == set()
