"""What retention prunes and what it leaves: nothing that is open, unread, awaited, or referred to by what stays."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.states import Keeping, Prunable
from agent_messaging.storage.ports import (
    MAIN,
    Counted,
    IndexEntry,
    Place,
    Pruned,
    Pruning,
    Role,
    Scope,
    Settling,
    Store,
    Stored,
)

from .base import StoreFixtures
from .forwarding import forwarded, hops, passing, run_of
from .gathering import Gathering
from .search import find, index_all
from .world import World, id_of, ids

DAY = 86400.0
AGE = 30 * DAY
LATER = 31 * DAY
"""When all that a test does at the world's start is old enough."""


async def prune(
    world: World,
    kind: Prunable = Prunable.MESSAGES,
    *,
    unread: bool = False,
    dry_run: bool = False,
    limit: int = 3,
    at: float = LATER,
    store: Store | None = None,
    counted: Counted | None = None,
) -> Pruned:
    """Walk through a kind from its begin to its end, and return what it came to."""
    wanted = Pruning(kind, AGE, unread, dry_run, counted or Counted())
    number = size = 0
    kept: Counter[Keeping] = Counter()
    after: Place | None = None
    while True:
        page = await (store or world.store).retention.prune(wanted, after=after, limit=limit, now=world.at(at))
        number, size = number + page.number, size + page.size_bytes
        kept.update(page.kept)
        if page.next is None:
            return Pruned(number, size, dict(kept))
        assert page.next != after
        after = page.next


async def handled(world: World, count: int = 1, *, now: datetime | None = None, **options: object) -> list[str]:
    """Notes of alice that a handler of bob's has handled."""
    sent = [await world.send(now=now, **options) for _ in range(count)]  # type: ignore[arg-type]
    for _ in sent:
        await world.settle(await world.claim_one(now=now), now=now)
    return sent


class RetentionConformance(StoreFixtures):
    """All of `RetentionStore`."""

    async def test_what_was_handled_goes_page_by_page_and_what_has_not_ended_stays(self, world: World) -> None:
        gone = await handled(world, 7, content='"' + "x" * 1000 + '"')
        later = await world.send(now=world.at(LATER))
        await world.settle(await world.claim_one(now=world.at(LATER)), now=world.at(LATER))
        queued, claimed = await world.send(world.carol), await world.send(world.dave)
        while (await world.claim_one()).message_id != claimed:
            continue
        counted = await prune(world, dry_run=True)
        assert await prune(world, dry_run=True) == counted
        assert counted.number == 7
        assert 7_000 < counted.size_bytes < 12_000
        assert counted.kept == {Keeping.OPEN: 2}
        assert await prune(world) == counted
        assert await prune(world) == Pruned(0, 0, {Keeping.OPEN: 2})
        assert await world.deliveries.list_receipts(gone) == []
        left = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=10)
        assert set(ids(left)) == {later, queued, claimed}
        assert await world.store.check() == []

    async def test_what_was_sent_while_the_clock_ran_ahead_holds_nothing_up(self, world: World) -> None:
        for _ in range(4):
            await world.send(recipient=world.carol, now=world.at(400 * DAY))
        await handled(world, 2)
        assert (await prune(world)).number == 2

    async def test_it_is_the_last_thing_that_happened_which_makes_it_old(self, world: World) -> None:
        sent = await world.send()
        await world.settle(await world.claim_one(now=world.at(2 * DAY)), now=world.at(2 * DAY))
        assert (await prune(world)).number == 0
        assert (await prune(world, at=32.5 * DAY)).number == 1
        assert await world.deliveries.list_receipts([sent]) == []

    async def test_a_notice_keeps_its_message_while_it_can_be_told(self, world: World) -> None:
        """A minute, whether or not anybody has looked for notices since."""
        sent = await world.send(kind=Kind.CONVERSATION, notify=True, deliver_at=world.at(LATER))
        await world.deliveries.advance(world.at(LATER))
        await world.settle(await world.claim_talk(now=world.at(LATER)), now=world.at(LATER))
        wanted = Pruning(Prunable.MESSAGES, older_than=0.0, unread=False)
        for seconds, kept in ((30, {Keeping.AWAITED: 1}), (61, {})):
            pruned = await world.store.retention.prune(wanted, limit=10, now=world.at(LATER + seconds))
            assert (pruned.number, pruned.kept) == (0 if kept else 1, kept)
        assert await world.deliveries.list_receipts([sent]) == []
        assert await world.store.check() == []

    async def test_what_nobody_has_had_goes_only_if_it_is_asked_for(self, world: World) -> None:
        """An ask that ended unhandled, and the late answer to one that was handled, can still be read."""
        unhandled = await world.ask()
        await world.close(unhandled, AskState.TIMED_OUT)
        late = await world.ask(world.carol)
        run = await world.claim_talk()
        assert run.message_id == late
        await world.close(late, AskState.TIMED_OUT)
        await world.settle(run, answer=world.result())
        worthless = await world.send(expires_in=1.0)
        await world.deliveries.advance(world.at(2))
        taken_back = await world.send()
        await world.deliveries.withdraw([taken_back])
        assert await prune(world) == Pruned(3, pytest.approx(1000, rel=0.5), {Keeping.UNREAD: 2})  # type: ignore[arg-type]
        assert await world.deliveries.list_receipts([worthless, taken_back, late]) == []
        await world.read(now=world.at(LATER))
        assert (await prune(world, at=LATER + 1)).kept == {Keeping.UNREAD: 1}
        assert (await prune(world, at=3 * LATER)).number == 1
        assert (await prune(world, unread=True)).number == 1
        assert (await prune(world, unread=True)).kept == {}

    async def test_an_open_ask_and_what_its_run_waits_for_stay(self, world: World) -> None:
        """Its recipient has read the question, so its delivery has ended; the ask has not."""
        asked = await world.ask(timeout=40 * DAY)
        await world.read()
        assert await world.state(asked) is DeliveryState.DONE
        assert (await prune(world)).kept == {Keeping.AWAITED: 1}
        answer = await world.answer()
        assert await world.ask_state(asked) is AskState.REPLIED
        assert (await prune(world)).number == 2
        assert await world.sessions.find_asks([asked]) == []
        assert await world.deliveries.list_receipts([answer]) == []

    async def test_an_answer_stays_while_its_question_does(self, world: World) -> None:
        """The run has answered, and goes on."""
        asked = await world.ask()
        run = await world.claim_talk()
        await world.answer()
        await world.say(world.bob, world.carol)
        assert (await prune(world, limit=1)).kept == {Keeping.OPEN: 2, Keeping.REFERRED: 1}
        assert (await world.asked(asked)).answer is not None
        await world.settle(run)
        assert (await prune(world)).number == 2

    async def test_the_way_of_an_ask_goes_with_the_ask(self, world: World) -> None:
        """What stayed with the agent that passed it on goes after the ask itself."""
        asked = await world.ask(timeout=40 * DAY)
        wanted = passing(world, asked, claim=(await run_of(world, asked)).claim)
        await forwarded(world, wanted)
        assert (await prune(world)).kept == {Keeping.OPEN: 1, Keeping.REFERRED: 1}
        await world.settle(await run_of(world, asked, world.carol), answer=world.result())
        # The way leads over the message until the ask has gone, which is stored behind it.
        assert (await prune(world)).kept == {Keeping.REFERRED: 1}
        assert await hops(world, asked, wanted.kept_id) == []
        assert (await prune(world)).number == 1

    async def test_dead_letters_are_a_kind_of_their_own(self, world: World) -> None:
        dead = [await world.kill() for _ in range(4)]
        assert (await prune(world, unread=True)).number == 0
        assert (await prune(world, Prunable.DEAD_LETTERS, dry_run=True)).number == 4
        await world.deliveries.redrive(dead[:1], None)
        assert (await prune(world, Prunable.DEAD_LETTERS)).number == 3
        assert await world.state(dead[0]) is DeliveryState.QUEUED
        assert await world.deliveries.list_receipts(dead[1:]) == []

    async def test_an_ended_session_goes_when_no_message_of_it_is_left(self, world: World) -> None:
        await world.say()
        await world.read()
        session = (await world.session()).session_id
        await world.end()
        await world.say(world.carol)
        assert (await prune(world, Prunable.SESSIONS)).kept == {Keeping.OPEN: 1, Keeping.REFERRED: 1}
        assert (await prune(world)).number == 2  # with the record of the end
        assert (await prune(world, Prunable.SESSIONS)).number == 1
        assert await world.sessions.find_session(session) is None
        assert (await world.session(world.carol)).ended_at is None

    async def test_a_dry_run_counts_what_goes_because_something_else_goes_before_it(self, world: World) -> None:
        """An answer whose question is on an earlier page, and a session without messages then; another keeps one."""
        for recipient in (world.bob, world.carol):
            await world.ask(None, recipient)
            await world.settle(await world.claim_talk(recipient), answer=world.result())
        await world.end(None, world.bob)
        await world.say(None, world.carol, now=world.at(20 * DAY))
        await world.end(None, world.carol, now=world.at(20 * DAY))
        kinds, counted = (Prunable.MESSAGES, Prunable.SESSIONS), Counted()
        supposed = [await prune(world, kind, unread=True, dry_run=True, limit=1, counted=counted) for kind in kinds]
        pruned = [await prune(world, kind, unread=True, limit=1) for kind in kinds]
        assert [(one.number, one.kept) for one in supposed] == [(one.number, one.kept) for one in pruned]
        assert [one.number for one in pruned] == [5, 1]

    async def test_a_meeting_goes_with_all_that_was_said_and_done_in_it(self, world: World) -> None:
        ended, active = await Gathering.active(world), await Gathering.active(world)
        for meeting in (ended, active):
            await meeting.speak()
        await ended.end()
        assert (await prune(world, unread=True)).number == 0
        assert (await prune(world, Prunable.MEETINGS, dry_run=True)).size_bytes > 1000
        assert (await prune(world, Prunable.MEETINGS)).kept == {Keeping.OPEN: 1}
        assert await ended.store.find_meeting(ended.id) is None
        assert [await call for call in (ended.history(), ended.events(), ended.turns())] == [[], [], []]
        assert len(await active.history()) > 1
        assert await world.store.check() == []

    async def test_a_key_stays_while_a_repeat_may_come_for_its_message(self, world: World) -> None:
        await world.stored(world.group(idempotency_key="done"))
        await world.settle(await world.claim_one())
        await world.stored(world.group(world.carol, idempotency_key="queued"))
        asked = world.question(world.dave, timeout=40 * DAY, idempotency_key="asked")
        await world.stored(asked)
        await world.read()
        kind = Prunable.IDEMPOTENCY_KEYS
        assert (await prune(world, kind, dry_run=True, limit=2)).number == 1
        assert (await prune(world, kind, limit=1)).kept == {Keeping.OPEN: 2}
        assert isinstance(await world.outcome(world.group(idempotency_key="done")), Stored)
        await world.close(id_of(asked), AskState.CANCELLED)
        assert (await prune(world, kind)).number == 1

    async def test_a_key_outlives_its_message(self, world: World) -> None:
        """A repeat is answered as the first call was, though the message was pruned."""
        first = world.group(idempotency_key="k")
        await world.stored(first)
        await world.settle(await world.claim_one())
        assert (await prune(world)).number == 1
        repeat = await world.outcome(world.group(idempotency_key="k"), now=world.at(LATER))
        assert getattr(repeat, "message_ids", None) == [id_of(first)]

    async def test_the_index_forgets_what_is_pruned_and_never_learns_of_it_later(self, world: World) -> None:
        search = world.store.search
        await handled(world, 2, content='"tea"')
        after = await search.lead(world.owner, 30.0)
        assert after is not None
        batch = await search.list_unindexed(after, limit=1, most_bytes=1000)
        assert await prune(world, limit=1) == Pruned(2, pytest.approx(510, rel=0.1), {})  # type: ignore[arg-type]
        entries = [IndexEntry(one.seq, frozenset({"tea"})) for one in batch.messages]
        assert await search.index(world.owner, after, batch.to, entries)
        await handled(world, content='"tea"')
        await index_all(search, world.owner)
        assert await find(search, "tea", Scope()) == ["tea"]
        assert await world.store.check() == []

    async def test_the_newest_id_that_was_pruned_is_remembered(self, world: World) -> None:
        retention = world.store.retention
        assert await retention.find_newest_pruned(Prunable.MESSAGES) is None
        gone = await handled(world, 3)
        await prune(world, dry_run=True)
        assert await retention.find_newest_pruned(Prunable.MESSAGES) is None
        await prune(world, limit=1)
        assert await retention.find_newest_pruned(Prunable.MESSAGES) == max(gone)
        assert await retention.find_newest_pruned(Prunable.MEETINGS) is None

    async def test_one_process_at_a_time_has_the_turn(self, world: World, second_store: Store) -> None:
        kind = Prunable.IDEMPOTENCY_KEYS
        calls = [store.retention.take_turn(kind, 60, now=world.at(0)) for store in (world.store, second_store)]
        assert sorted(await asyncio.gather(*calls)) == [False, True]
        assert await second_store.retention.take_turn(Prunable.TASKS, 60, now=world.at(0))
        assert not await second_store.retention.take_turn(kind, 60, now=world.at(59))
        assert await second_store.retention.take_turn(kind, 60, now=world.at(61))
        # A clock that was wrong when the turn was taken holds nobody up.
        assert await world.store.retention.take_turn(kind, 60, now=world.at(-1000))

    async def test_two_prunes_at_once_count_each_row_once(self, world: World, second_store: Store) -> None:
        sent = await handled(world, 40)
        found = await asyncio.gather(*(prune(world, limit=4, store=one) for one in (world.store, second_store)))
        assert sum(one.number for one in found) + (await prune(world)).number == 40
        assert await world.deliveries.list_receipts(sent) == []

    async def test_a_session_of_a_run_ends_when_the_run_is_over(self, world: World) -> None:
        """The asks of a run are in a thread that is named after its message. Threads that users name stay."""
        retention = world.store.retention
        await world.send(world.carol, world.alice)
        run = await world.claim_one(world.alice)
        named, unknown = new_id(), "x" * 36
        for thread in (run.message_id, named, unknown):
            await world.ask(thread=thread, within=run.message_id)
            await world.settle(await world.claim_talk(), answer=world.result())
        assert await retention.end_unused_sessions(10) == 0  # the run goes on, and may ask again
        again = await world.ask(thread=run.message_id)
        await world.settle(run)
        assert await retention.end_unused_sessions(10) == 0  # it waits for an answer
        await world.close(again, AskState.CANCELLED)
        waited = await world.wait(world.alice, world.bob, thread=run.message_id)
        assert await retention.end_unused_sessions(10) == 0
        await world.sessions.remove_wait(waited)
        assert (await prune(world, unread=True)).kept.get(Keeping.REFERRED) == 1
        assert await retention.end_unused_sessions(10, now=world.at(5)) == 1
        assert await retention.end_unused_sessions(10) == 0
        rows = await world.sessions.list_sessions(world.alice, open_only=True, limit=10, offset=0)
        assert {row.thread for row in rows} == {named, unknown}
        assert MAIN not in {row.thread for row in rows}
        assert (await prune(world)).kept.get(Keeping.REFERRED) is None

    async def test_a_store_says_what_it_can_give_back(self, store: Store) -> None:
        """One that was made by this release gives freed space back by itself, or its server keeps it."""
        assert await store.retention.find_space_advice() is None
        assert await store.retention.release_space(1_000_000) == 0

    async def test_a_retry_that_waits_for_its_time_stays(self, world: World) -> None:
        sent = await world.send()
        await world.settle(await world.claim_one(), Settling.RETRY, delay=60 * DAY)
        assert (await prune(world, unread=True)).number == 0
        assert (await prune(world, unread=True, at=100 * DAY)).kept == {Keeping.OPEN: 1}
        assert await world.state(sent) is DeliveryState.QUEUED
