"""Threads: conversations of the same two agents side by side, each with sessions, asks, lanes and waits of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.storage.ports import (
    MAIN,
    Answering,
    ClaimedDelivery,
    MutualWait,
    NotWaiting,
    Role,
    SessionLocked,
    Settling,
    Stored,
    WaitRow,
    lane_of,
)

from .base import Processes, StoreFixtures
from .world import World, id_of, ids

NAMES = ("a", "A", "order 7", "ü" * 255, "雪", "'; drop table sessions; --", "%", "a\u0301b", '"', "\\")


class ThreadSessionConformance(StoreFixtures):
    """One open session of a pair in each thread."""

    async def test_each_thread_has_a_session_of_its_own(self, world: World) -> None:
        threads = (MAIN, *NAMES)
        groups = [world.talk(thread=thread) for thread in threads]
        await world.append(*groups)
        again = [world.talk(world.bob, world.alice, thread=thread) for thread in threads]
        outcomes = await world.append(*again)
        assert outcomes == [Stored(session_id=group.session_id) for group in groups]
        for thread, group, reply in zip(threads, groups, again, strict=True):
            row = await world.session(thread=thread)
            assert (row.session_id, row.thread) == (group.session_id, thread)
            assert await world.sessions.find_session(row.session_id) == row
            messages = await world.sessions.list_messages(row.session_id, limit=10)
            assert ids(messages) == [id_of(group), id_of(reply)]
            assert {message.thread for message in messages} == {thread}
        rows = await world.sessions.list_sessions(world.alice, open_only=True, limit=100)
        assert sorted(row.thread for row in rows) == sorted(threads)
        assert await world.sessions.list_sessions(world.bob, open_only=True, limit=100, thread="雪") == [
            await world.session(thread="雪")
        ]

    async def test_ending_one_leaves_the_others(self, world: World) -> None:
        asks = {thread: await world.ask(thread=thread) for thread in (MAIN, "a", "b")}
        waits = {thread: await world.wait(thread=thread) for thread in (None, "a", "b")}
        ended = await world.end(thread="a")
        assert ended is not None
        assert [ask.ask_id for ask in ended.asks] == [asks["a"]]
        assert {thread: await world.ask_state(ask) for thread, ask in asks.items()} == {
            MAIN: AskState.OPEN,
            "a": AskState.ENDED,
            "b": AskState.OPEN,
        }
        found = await world.sessions.find_waits(list(waits.values()), world.start)
        assert found[waits["a"]] == WaitRow(waits["a"], is_ready=False, is_ended=True)
        assert {row.is_ended for id, row in found.items() if row and id != waits["a"]} == {False}
        assert await world.end(thread="a") is None
        assert await world.state(asks["a"]) == DeliveryState.EXPIRED
        (last,) = (await world.sessions.list_messages(ended.session_id, limit=10))[-1:]
        assert (last.message_type, last.thread) == ("ending", "a")
        # A wait for any thread ends with the main one.
        await world.end()
        found = await world.sessions.find_waits(list(waits.values()), world.start)
        assert found[waits[None]] == WaitRow(waits[None], is_ready=True, is_ended=True)
        assert await world.sessions.find_open_session(world.alice, world.bob, "b") is not None

    async def test_an_end_is_repeated_by_its_id(self, world: World) -> None:
        await world.ask(thread="a")
        wait = await world.wait(thread="a")
        ending = world.ending()
        first = await world.end(ending=ending, thread="a")
        await world.ask(thread="a")
        assert await world.end(ending=ending, thread="a") == first
        assert (await world.sessions.find_waits([wait], world.start))[wait] is not None
        assert (await world.session(thread="a")).waiting_id == world.alice

    async def test_the_agent_that_waits_is_told_of_each_thread(self, world: World) -> None:
        await world.say()
        await world.ask(world.bob, world.alice, thread="a")
        assert (await world.session()).waiting_id is None
        assert (await world.session(thread="a")).waiting_id == world.bob

    async def test_many_open_the_same_thread_in_one_instant(self, world: World) -> None:
        groups = [world.talk(*pair, thread="a") for pair in [(None, None), (world.bob, world.alice)] * 5]
        outcomes = await asyncio.gather(*(world.outcome(group) for group in groups))
        assert len({outcome.session_id for outcome in outcomes if isinstance(outcome, Stored)}) == 1
        assert all(isinstance(outcome, Stored) for outcome in outcomes)
        rows = await world.sessions.list_sessions(world.alice, open_only=False, limit=10)
        assert [row.thread for row in rows] == ["a"]

    async def test_many_ask_in_the_same_thread_in_one_instant(self, world: World) -> None:
        groups = [world.question(thread="a") for _ in range(8)]
        outcomes = await asyncio.gather(*(world.outcome(group) for group in groups))
        (stored,) = [id_of(group) for group, one in zip(groups, outcomes, strict=True) if isinstance(one, Stored)]
        assert [one for one in outcomes if not isinstance(one, Stored)] == [SessionLocked(stored, "a")] * 7

    async def test_statistics_are_of_all_or_of_one(self, world: World) -> None:
        await world.say()
        await world.ask(thread="a")
        await world.say(world.carol, world.alice, thread="a")
        await world.say(world.carol, world.bob, thread="b")
        everything = await world.sessions.statistics(world.alice)
        assert (everything.sessions, everything.sent, everything.received, everything.unread) == (3, 2, 1, 1)
        assert everything.partners == 2
        one = await world.sessions.statistics(world.alice, "a")
        assert (one.sessions, one.open_sessions, one.sent, one.received, one.unread, one.partners) == (2, 2, 1, 1, 1, 2)
        assert (await world.sessions.statistics(world.alice, "b")).sessions == 0

    async def test_records_of_messages_name_their_thread(self, world: World) -> None:
        said = [await world.say(thread=thread) for thread in (MAIN, "a")]
        await world.send()
        for role, agent in ((Role.SENDER, world.alice), (Role.RECIPIENT, world.bob)):
            rows = await world.store.messages.list_messages(agent, role, Kind.CONVERSATION, limit=10)
            assert [(row.message_id, row.thread) for row in rows[::-1]] == list(zip(said, (MAIN, "a"), strict=True))
            (note,) = await world.store.messages.list_messages(agent, role, Kind.ONE_WAY, limit=10)
            assert note.thread == MAIN


class ThreadAskConformance(StoreFixtures):
    """One open ask of a side in each thread."""

    async def test_a_second_ask_is_refused_in_its_own_thread_alone(self, world: World) -> None:
        first = await world.ask(thread="a")
        assert await world.outcome(world.question(thread="a")) == SessionLocked(first, "a")
        second, main = await world.ask(thread="b"), await world.ask()
        assert await world.outcome(world.question()) == SessionLocked(main)
        many = [world.question(thread=f"t{number}") for number in range(50)]
        assert all(isinstance(outcome, Stored) for outcome in await world.append(*many))
        for ask in (first, second, main):
            assert await world.ask_state(ask) == AskState.OPEN

    async def test_groups_of_one_call_are_locked_in_their_own_threads(self, world: World) -> None:
        groups = [world.question(thread=thread) for thread in ("a", "b", "a")]
        outcomes = await world.append(*groups)
        assert outcomes[2] == SessionLocked(id_of(groups[0]), "a")
        assert all(isinstance(outcome, Stored) for outcome in outcomes[:2])

    async def test_a_result_goes_to_the_thread_of_its_ask(self, world: World) -> None:
        asks = [await world.ask(thread=thread) for thread in ("a", "b")]
        wait = await world.wait(world.alice, world.bob, thread="a")
        runs = await world.claim(kind=Kind.CONVERSATION)
        assert {run.message_id: run.thread for run in runs} == dict(zip(asks, ("a", "b"), strict=True))
        (second,) = [run for run in runs if run.thread == "b"]
        settled = await world.settle(second, answer=world.result())
        assert [ask.ask_id for ask in settled.ended_asks] == [asks[1]]
        messages = await world.sessions.list_messages((await world.session(thread="b")).session_id, limit=10)
        assert [message.thread for message in messages] == ["b", "b"]
        assert (await world.asked(asks[0])).state == AskState.OPEN
        # What answers a message that is no ask is unread, in the thread of that.
        await world.say(thread="c")
        other = await world.claim_talk()
        assert not (await world.settle(other, answer=world.result())).ended_asks
        assert [row.thread for row in (await world.read(world.alice)).messages] == ["c"]
        assert (await world.sessions.find_waits([wait], world.start)) == {}

    async def test_a_named_thread_is_answered_there_alone(self, world: World) -> None:
        asks = {thread: await world.ask(thread=thread) for thread in (MAIN, "a", "b")}
        stored = await world.stored(world.talk(world.bob, world.alice, answers=Answering.REQUIRED, thread="a"))
        assert stored.answered is not None
        assert stored.answered.ask_id == asks["a"]
        again = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, thread="a")
        assert await world.outcome(again) == NotWaiting(stored.session_id)
        nowhere = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, thread="z")
        assert await world.outcome(nowhere) == NotWaiting(None)
        assert await world.ask_state(asks[MAIN]) == await world.ask_state(asks["b"]) == AskState.OPEN

    async def test_a_reply_that_names_none_answers_the_only_one(self, world: World) -> None:
        asks = [await world.ask(thread=thread) for thread in ("a", "b")]
        reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, is_anywhere=True)
        outcome = await world.outcome(reply)
        assert isinstance(outcome, NotWaiting)
        assert outcome.session_id is None
        assert sorted(outcome.threads) == ["a", "b"]
        await world.close(asks[0], AskState.CANCELLED)
        stored = await world.stored(reply)
        assert stored.answered is not None
        assert stored.answered.ask_id == asks[1]
        assert stored.session_id == (await world.session(thread="b")).session_id
        assert await world.sessions.find_open_session(world.alice, world.bob) is None, "nothing was said there"

    async def test_a_reply_that_names_none_prefers_what_was_taken_and_then_its_own_thread(self, world: World) -> None:
        asks = {thread: await world.ask(thread=thread) for thread in (MAIN, "a", "b")}
        await world.read(thread="b")
        for thread in ("b", MAIN, "a"):
            reply = world.talk(world.bob, world.alice, answers=Answering.REQUIRED, is_anywhere=True)
            stored = await world.stored(reply)
            assert stored.answered is not None
            assert stored.answered.ask_id == asks[thread]
            assert stored.session_id == (await world.session(thread=thread)).session_id
            assert await world.state(id_of(reply)) == DeliveryState.DONE

    async def test_a_message_that_names_none_answers_what_was_taken_in_one_other_thread(self, world: World) -> None:
        asks = {thread: await world.ask(thread=thread) for thread in ("a", "b", "c")}
        assert (await world.read(thread="a")).messages
        options = {"answers": Answering.IF_TAKEN, "is_anywhere": True}
        stored = await world.stored(world.talk(world.bob, world.alice, **options))
        assert stored.answered is not None
        assert stored.answered.ask_id == asks["a"]
        # Where several were taken nobody knows which is meant: it is a message of its own.
        await world.read()
        other = await world.stored(world.talk(world.bob, world.alice, **options))
        assert other.answered is None
        assert other.session_id == (await world.session()).session_id

    async def test_an_ask_that_answers_in_another_thread_goes_on_there(self, world: World) -> None:
        ask = await world.ask(thread="a")
        await world.read()
        stored = await world.stored(world.question(world.bob, world.alice, is_anywhere=True))
        assert stored.answered is not None
        assert stored.answered.ask_id == ask
        assert (await world.session(thread="a")).waiting_id == world.bob
        assert await world.sessions.find_open_session(world.alice, world.bob) is None

    async def test_only_one_of_two_messages_of_a_call_answers_in_another_thread(self, world: World) -> None:
        ask = await world.ask(thread="a")
        await world.read()
        options = {"answers": Answering.IF_TAKEN, "is_anywhere": True}
        first, second = (await world.append(*(world.talk(world.bob, world.alice, **options) for _ in range(2))))[:2]
        assert isinstance(first, Stored)
        assert isinstance(second, Stored)
        assert first.answered is not None
        assert first.answered.ask_id == ask
        assert second.answered is None
        assert second.session_id == (await world.session()).session_id != first.session_id

    async def test_a_reply_in_the_run_of_an_ask_answers_that_alone(self, world: World) -> None:
        asks = [await world.ask(thread=thread) for thread in ("a", "b")]
        await world.claim(kind=Kind.CONVERSATION)
        await world.close(asks[0], AskState.TIMED_OUT)
        reply = world.talk(
            world.bob, world.alice, answers=Answering.REQUIRED, within=asks[0], thread="a", is_anywhere=True
        )
        assert isinstance(await world.outcome(reply), NotWaiting)
        assert await world.ask_state(asks[1]) == AskState.OPEN

    async def test_an_ask_is_refused_in_the_chain_of_the_same_ask(self, world: World, processes: Processes) -> None:
        """Else two handlers could ask each other without end, each time in a thread of its own."""
        process = await processes.start()
        await world.serve(process, {world.alice: 5, world.bob: 5, world.carol: 5})
        first = await world.ask()
        await world.claim_talk()
        second = await world.ask(world.bob, world.carol, within=first, thread=first)
        await world.claim_talk(world.carol)
        third = await world.ask(world.carol, world.alice, within=second, thread=second)
        await world.claim_talk(world.alice)
        again = world.question(within=third, thread=third)
        assert await world.outcome(again) == MutualWait([world.bob, world.carol, world.alice, world.bob])
        # Another one of the two that stands in no chain is no reason.
        await world.ask(thread="other")
        await world.close(first, AskState.TIMED_OUT)
        await world.stored(again)

    async def test_circles_are_judged_whatever_the_threads(self, world: World) -> None:
        """Nobody has a handler."""
        await world.ask(thread="a")
        back = world.question(world.bob, world.alice, thread="b")
        assert await world.outcome(back) == MutualWait([world.alice, world.bob, world.alice])


class ThreadLaneConformance(StoreFixtures):
    """Order, and one run at a time, in each thread by itself."""

    async def test_threads_of_one_sender_run_side_by_side_and_each_in_order(self, world: World) -> None:
        said = [await world.say(thread=thread) for thread in (MAIN, "a", "b", "a", MAIN)]
        first = await world.claim(kind=Kind.CONVERSATION)
        assert sorted(ids(first)) == sorted(said[:3])
        assert {run.message_id: run.thread for run in first} == dict(zip(said[:3], (MAIN, "a", "b"), strict=True))
        assert await world.claim(kind=Kind.CONVERSATION) == []
        (of_a,) = [run for run in first if run.thread == "a"]
        settled = await world.settle(of_a, requests=[world.request(kind=Kind.CONVERSATION)])
        assert ids(settled.claimed) == [said[3]]

    async def test_a_round_goes_on_behind_a_lane(self, world: World) -> None:
        threads = [MAIN, *sorted(f"t{number}" for number in range(6))]
        for ordered in (True, False):
            said = [await world.say(thread=thread) for thread in threads]
            await world.say(world.carol)
            taken: list[ClaimedDelivery] = []
            after = lane_of(world.alice, threads[2])
            for _ in range(len(said) + 1):
                options: dict[str, Any] = {"kind": Kind.CONVERSATION, "ordered": ordered, "after_lane": after}
                taken += await world.claim(limit=1, **options)
                after = taken[-1].lane
            lanes = [lane_of(world.alice, thread) for thread in threads]
            assert [run.lane for run in taken] == [*lanes[3:], world.carol, *lanes[:3]]
            await world.settle(taken)

    async def test_an_append_claims_where_its_own_thread_is_free(self, world: World) -> None:
        await world.say(thread="a")
        await world.claim_talk(owner=new_id())
        groups = [world.talk(thread=thread, claim=True) for thread in ("a", "b", MAIN)]
        outcomes = await world.append(*groups)
        claimed = [isinstance(outcome, Stored) and bool(outcome.claims) for outcome in outcomes]
        assert claimed == [False, True, True]

    async def test_a_retry_holds_its_own_thread_back(self, world: World) -> None:
        said = [await world.say(thread=thread) for thread in ("a", "a", "b")]
        runs = await world.claim(kind=Kind.CONVERSATION)
        assert sorted(ids(runs)) == sorted([said[0], said[2]])
        await world.settle(runs, Settling.RETRY)
        assert sorted(ids(await world.claim(kind=Kind.CONVERSATION))) == sorted([said[0], said[2]])


class ThreadReadingConformance(StoreFixtures):
    """Reading and waiting, in one thread or in all."""

    async def test_all_are_read_in_order_or_one_alone(self, world: World) -> None:
        threads = ("a", MAIN, "b", "a")
        said = [await world.say(thread=thread) for thread in threads]
        other = await world.say(world.carol, thread="a")
        assert ids(await world.read(mark=False)) == [*said, other]
        assert ids(await world.read(mark=False, sender_id=world.alice)) == said
        assert ids(await world.read(mark=False, thread="a")) == [said[0], said[3], other]
        page = await world.read(thread="a", sender_id=world.alice, limit=1)
        assert ids(page) == [said[0]]
        assert not page.is_last
        rest = await world.read(thread="a", sender_id=world.alice)
        assert ids(rest) == [said[3]]
        assert [row.thread for row in rest.messages] == ["a"]
        assert ids(await world.read()) == [said[1], said[2], other]

    async def test_what_is_awaited_is_taken_of_one_thread_or_of_any(self, world: World) -> None:
        said = [await world.say(thread=thread) for thread in ("a", MAIN, "b", "a")]
        assert await world.take(thread="b") == said[2]
        assert await world.take(thread="b") is None
        assert [await world.take() for _ in range(4)] == [said[0], said[1], said[3], None]

    async def test_what_no_handler_had_is_taken_of_one_thread_or_of_any(self, world: World) -> None:
        results = []
        for thread in ("a", "b", MAIN, "a"):
            await world.say(thread=thread)
            results.append(world.result())
            await world.settle(await world.claim_talk(), answer=results[-1])
        found = [answer.message_id for answer in results]
        assert await world.take(world.alice, world.bob, thread="b") == found[1]
        taken = [await world.take(world.alice, world.bob) for _ in range(4)]
        assert taken == [found[0], found[2], found[3], None]

    async def test_a_wait_holds_back_its_own_thread_or_all(self, world: World) -> None:
        wait = await world.wait(thread="a")
        said = {thread: await world.say(thread=thread) for thread in (MAIN, "a", "b")}
        (row,) = (await world.sessions.find_waits([wait], world.start)).values()
        assert row == WaitRow(wait, is_ready=True, is_ended=False)
        assert sorted(ids(await world.claim(kind=Kind.CONVERSATION))) == sorted([said[MAIN], said["b"]])
        assert await world.claim(kind=Kind.CONVERSATION, ordered=False) == []
        held = await world.stored(world.talk(thread="a", claim=True))
        assert (held.waiters, held.claims) == (frozenset({world.owner}), {})
        assert (await world.stored(world.talk(thread="b", notify=True))).waiters == frozenset()
        await world.sessions.remove_wait(wait)
        await world.wait()
        assert await world.claim(kind=Kind.CONVERSATION) == []
        assert (await world.stored(world.talk(thread="c"))).waiters == frozenset({world.owner})

    async def test_what_goes_back_names_who_waits_for_its_thread(self, world: World) -> None:
        await world.say(thread="a")
        waiter, other = new_id(), new_id()
        row = await world.sessions.take_awaited(world.bob, world.alice, now=world.start)
        assert row is not None
        await world.wait(thread="a", owner=waiter)
        await world.wait(thread="b", owner=other)
        assert await world.sessions.return_messages([row], now=world.start) == {waiter}

    async def test_a_notice_is_left_where_nobody_waits_in_its_thread(self, world: World) -> None:
        await world.ask(world.bob, world.alice, thread="a")
        await world.wait(thread="b")
        groups = {thread: world.talk(thread=thread, notify=True) for thread in ("a", "b", "c", MAIN)}
        outcomes = await world.append(*groups.values())
        assert [isinstance(outcome, Stored) and outcome.is_asked for outcome in outcomes] == [True, False, False, False]
        told = await world.sessions.take_notices([world.bob], 10)
        assert [(row.message_id, row.thread) for row in told] == [
            (id_of(groups["c"]), "c"),
            (id_of(groups[MAIN]), MAIN),
        ]


class ThreadConformance(
    ThreadSessionConformance, ThreadAskConformance, ThreadLaneConformance, ThreadReadingConformance
):
    """All of it."""
