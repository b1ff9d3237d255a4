"""Parts: what a run sends before its answer, read by another process, in order, and never of two runs at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    CLOSED,
    Claim,
    ClaimedDelivery,
    NewParts,
    PartCursor,
    PartPage,
    PartRow,
    PartStore,
    Settling,
    Store,
    Stream,
)

from .base import StoreFactory, StoreFixtures
from .world import World, id_of

FEW = 4
"""Parts of a page, where a test reads several."""
EXAMPLES = int(os.environ.get("AGENT_MESSAGING_TEST_PARTS", "25"))
"""Programs in one run; read at import, because the environment is emptied for each test."""


def part(number: int, content: str | None = None) -> PartRow:
    """One part, whose content tells its number where not said otherwise."""
    content = f'"part {number}"' if content is None else content
    return PartRow(number, content, checksum(content, None))


def numbers(page: PartPage | None) -> list[int]:
    """The numbers of the parts in a page."""
    return [] if page is None else [one.number for one in page.parts]


async def write(world: World, run: ClaimedDelivery, first: int, last: int, store: Store | None = None) -> Stream:
    """Write the parts of a run from one number to another."""
    batch = NewParts(run.message_id, run.claim, [part(number) for number in range(first, last + 1)])
    (stream,) = await (store or world.store).parts.write([batch])
    return stream


async def read(store: Store, cursor: PartCursor, limit: int = 1_000) -> PartPage | None:
    """The page behind a cursor, if there is one."""
    pages = await store.parts.read([cursor], limit)
    assert len(pages) <= 1
    return pages[0] if pages else None


async def begin(world: World, **options: Any) -> ClaimedDelivery:
    """A run of an ask whose asker reads parts."""
    await world.ask(is_streamed=True, **options)
    return await world.claim_talk()


class PartConformance(StoreFixtures):
    """Every verb of `PartStore`."""

    async def test_a_run_is_told_whether_its_asker_reads(self, world: World) -> None:
        streamed = world.question(is_streamed=True, claim=True)
        assert (await world.stored(streamed)).claims, "claimed with its append"
        await world.ask(world.carol)
        await world.ask(world.dave, is_streamed=True)
        claimed = await world.claim(kind=Kind.CONVERSATION)
        assert {run.sender_id: run.is_streamed for run in claimed} == {world.carol: False, world.dave: True}

    async def test_parts_are_read_in_order_behind_a_cursor_in_pages(self, world: World) -> None:
        run = await begin(world)
        assert await read(world.store, PartCursor(run.message_id)) == PartPage(
            PartCursor(run.message_id, run.claim.seq, run.claim.token)
        )
        stream = await write(world, run, 1, 6)
        assert stream == Stream(world.owner, 6, sum(part(number).size for number in range(1, 7)))
        first = await read(world.store, PartCursor(run.message_id), FEW)
        assert first is not None
        assert first.parts == [part(number) for number in range(1, FEW + 1)]
        second = await read(world.store, first.cursor, FEW)
        assert second is not None
        assert numbers(second) == [5, 6]
        assert await read(world.store, second.cursor) is None
        await write(world, run, 7, 7)
        assert numbers(await read(world.store, second.cursor)) == [7]

    async def test_readers_of_many_asks_read_by_one_call(self, world: World) -> None:
        asks = [(sender, world.bob) for sender in (world.alice, world.carol, world.dave)]
        runs = [await begin(world, sender=sender, recipient=recipient) for sender, recipient in asks]
        batches = [NewParts(run.message_id, run.claim, [part(1), part(2)]) for run in runs[:2]]
        assert [stream.parts for stream in await world.store.parts.write(batches)] == [2, 2]
        cursors = [PartCursor(run.message_id, run.claim.seq, run.claim.token) for run in runs]
        pages = await world.store.parts.read([*cursors, PartCursor(new_id())], 10)
        assert {page.cursor.ask_id: numbers(page) for page in pages} == {run.message_id: [1, 2] for run in runs[:2]}

    async def test_a_repeat_of_a_write_stores_nothing_twice(self, world: World) -> None:
        run = await begin(world)
        first = await write(world, run, 1, 3)
        assert await write(world, run, 1, 3) == first
        assert (await write(world, run, 2, 5)).parts == 5
        page = await read(world.store, PartCursor(run.message_id))
        assert page is not None
        assert page.parts == [part(number) for number in range(1, 6)]
        await world.store.parts.acknowledge(page.cursor)
        assert (await write(world, run, 2, 5)).parts == 0, "what was acknowledged does not come back"

    async def test_what_is_acknowledged_makes_room_and_tells_who_writes(self, world: World) -> None:
        run = await begin(world)
        await write(world, run, 1, 5)
        cursor = PartCursor(run.message_id, run.claim.seq, run.claim.token, 3)
        assert await world.store.parts.acknowledge(cursor) == world.owner
        assert await world.store.parts.acknowledge(cursor) == world.owner
        (stream,) = await world.store.parts.find_streams([(run.message_id, run.claim)])
        assert (stream.parts, stream.size) == (2, part(4).size + part(5).size)
        assert numbers(await read(world.store, PartCursor(run.message_id))) == [4, 5]
        old = PartCursor(run.message_id, run.claim.seq, run.claim.token - 1, 5)
        await world.store.parts.acknowledge(old)
        assert numbers(await read(world.store, PartCursor(run.message_id))) == [4, 5], "of another run"

    async def test_the_run_that_takes_over_begins_anew_and_the_reader_sees_it_at_once(self, world: World) -> None:
        run = await begin(world)
        await write(world, run, 1, 5)
        page = await read(world.store, PartCursor(run.message_id), 3)
        assert page is not None
        await world.settle(run, Settling.RETURNED)
        assert await world.store.parts.write([NewParts(run.message_id, run.claim, [part(6)])]) == [CLOSED]
        assert numbers(await read(world.store, page.cursor)) == [4, 5], "nobody has it yet"
        again = await world.claim_talk()
        anew = await read(world.store, page.cursor)
        assert anew == PartPage(PartCursor(run.message_id, again.claim.seq, again.claim.token))
        assert await world.store.parts.find_streams([(run.message_id, run.claim)]) == [CLOSED]
        assert (await world.store.parts.find_streams([(run.message_id, again.claim)]))[0].parts == 0
        assert (await write(world, again, 1, 2)).parts == 2
        for cursor in (page.cursor, anew.cursor):
            assert numbers(await read(world.store, cursor)) == [1, 2]
        assert await write(world, run, 6, 7) == CLOSED
        assert numbers(await read(world.store, page.cursor)) == [1, 2]

    async def test_parts_outlive_the_answer_until_their_reader_ends_the_stream(self, world: World) -> None:
        run = await begin(world)
        await write(world, run, 1, 2)
        await world.settle(run, answer=world.result())
        assert await world.ask_state(run.message_id) is AskState.REPLIED
        assert await write(world, run, 3, 3) == CLOSED
        assert numbers(await read(world.store, PartCursor(run.message_id))) == [1, 2]
        assert await world.store.parts.end([run.message_id]) == set(), "nobody is at work on it"
        assert await world.store.parts.end([run.message_id]) == set()
        assert await read(world.store, PartCursor(run.message_id)) is None

    async def test_a_run_whose_reader_has_gone_stores_nothing(self, world: World) -> None:
        run = await begin(world)
        await write(world, run, 1, 2)
        assert await world.store.parts.end([run.message_id]) == {world.owner}
        assert await write(world, run, 3, 4) == CLOSED
        assert await world.store.parts.find_streams([(run.message_id, run.claim)]) == [CLOSED]
        assert await read(world.store, PartCursor(run.message_id)) is None

    async def test_an_ask_that_was_given_up_takes_no_more_parts(self, world: World) -> None:
        run = await begin(world)
        await write(world, run, 1, 1)
        await world.close(run.message_id, AskState.CANCELLED)
        assert await write(world, run, 2, 2) == CLOSED

    async def test_an_ask_without_a_reader_has_no_stream(self, world: World) -> None:
        await world.ask()
        run = await world.claim_talk()
        assert await write(world, run, 1, 1) == CLOSED
        assert await read(world.store, PartCursor(run.message_id)) is None
        assert await read(world.store, PartCursor(new_id())) is None

    async def test_streams_end_with_their_reader(self, world: World) -> None:
        run = await begin(world)
        keyed = await world.ask(world.carol, is_streamed=True, idempotency_key="k", fingerprint="f")
        other = await world.claim_talk()
        await write(world, run, 1, 2)
        await write(world, other, 1, 2)
        await world.store.processes.retire(world.owner)
        for ask_id in (run.message_id, keyed):
            assert await read(world.store, PartCursor(ask_id)) is None
        assert await world.store.check() == []

    async def test_streams_end_with_a_reader_that_died(self, world: World, second_store: Store) -> None:
        await second_store.presence.start(lambda: None, lambda: None)
        dead = second_store.presence.process_id
        group = world.question(is_streamed=True, idempotency_key="k", fingerprint="f")
        await world.stored(group, owner=dead)
        run = await world.claim_talk()
        await write(world, run, 1, 2)
        await world.store.processes.release([dead])
        assert await world.ask_state(id_of(group)) is AskState.OPEN, "a repeat may join it"
        assert await write(world, run, 3, 3) == CLOSED

    async def test_parts_of_every_size_and_script_come_back_as_they_were(self, world: World) -> None:
        run = await begin(world)
        contents = ['""', '"' + "x" * 1_000_000 + '"', '"naïve 🜁 書"', "null", '{"a":[1,2.5,true]}']
        rows = [part(number, content) for number, content in enumerate(contents, 1)]
        (stream,) = await world.store.parts.write([NewParts(run.message_id, run.claim, rows)])
        assert stream.size == sum(len(content.encode()) for content in contents)
        page = await read(world.store, PartCursor(run.message_id))
        assert page is not None
        assert page.parts == rows
        assert await world.store.check() == []

    async def test_two_processes_that_write_at_once_store_each_part_once(
        self, world: World, second_store: Store
    ) -> None:
        run = await begin(world)
        writing = [write(world, run, 1, last, store) for last in range(1, 9) for store in (world.store, second_store)]
        await asyncio.gather(*writing)
        assert numbers(await read(world.store, PartCursor(run.message_id))) == list(range(1, 9))

    def test_any_program_is_answered_as_the_model_says(self, make_store: StoreFactory) -> None:
        run_programs(make_store, lambda store: store.parts)


# --- a model ----------------------------------------------------------------------------------------------------------

Step = tuple[str, int]

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 5)),
        st.tuples(st.just("repeat"), st.integers(1, 5)),
        st.tuples(st.just("write_late"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.integers(1, 4)),
        st.tuples(st.just("acknowledge"), st.just(0)),
        st.tuples(st.just("take_over"), st.just(0)),
        st.tuples(st.sampled_from(["answer", "end"]), st.just(0)),
    ),
    max_size=25,
)


@dataclass
class Model:
    """One ask, its runs and its reader: a reader gets the parts of one run, without a gap, or is told of the next."""

    world: World
    parts: PartStore
    run: ClaimedDelivery
    cursor: PartCursor
    earlier: Claim | None = None
    written: int = 0
    stored: list[int] = field(default_factory=list)
    run_of_stored: Claim | None = None
    is_open: bool = True
    has_stream: bool = True

    async def write(self, count: int) -> None:
        await self._write(range(self.written + 1, self.written + count + 1))

    async def repeat(self, count: int) -> None:
        await self._write(range(max(1, self.written + 1 - count), self.written + 1))

    async def _write(self, wanted: range) -> None:
        batch = NewParts(self.run.message_id, self.run.claim, [part(number) for number in wanted])
        (stream,) = await self.parts.write([batch])
        if not (self.is_open and self.has_stream):
            assert stream == CLOSED
            return
        if wanted and wanted[-1] > self.written:
            if self.run_of_stored != self.run.claim:
                self.stored, self.run_of_stored = [], self.run.claim
            self.stored += [number for number in wanted if number > self.written]
            self.written = wanted[-1]
        mine = self.stored if self.run_of_stored == self.run.claim else []
        assert stream == Stream(self.world.owner, len(mine), sum(part(number).size for number in mine))

    async def write_late(self, count: int) -> None:
        if self.earlier is not None:
            batch = NewParts(self.run.message_id, self.earlier, [part(number) for number in range(90, 90 + count)])
            assert await self.parts.write([batch]) == [CLOSED]

    async def read(self, limit: int) -> None:
        pages = await self.parts.read([self.cursor], limit)
        claim = self.run.claim
        is_same = (self.cursor.seq, self.cursor.token) == (claim.seq, claim.token)
        after = self.cursor.number if is_same else 0
        mine = self.stored if self.run_of_stored == claim else []
        expected = [number for number in mine if after < number <= after + limit]
        if not self.has_stream or (is_same and not expected):
            assert pages == []
            return
        (page,) = pages
        assert numbers(page) == expected
        number = expected[-1] if expected else 0
        assert page.cursor == PartCursor(self.run.message_id, claim.seq, claim.token, number)
        self.cursor = page.cursor

    async def acknowledge(self, _: int) -> None:
        await self.parts.acknowledge(self.cursor)
        claim = self.run_of_stored
        if claim is not None and (self.cursor.seq, self.cursor.token) == (claim.seq, claim.token):
            self.stored = [number for number in self.stored if number > self.cursor.number]

    async def take_over(self, _: int) -> None:
        if self.is_open:
            await self.world.settle(self.run, Settling.RETURNED)
            self.earlier, self.run = self.run.claim, await self.world.claim_talk(self.run.recipient_id)
            self.written = 0

    async def answer(self, _: int) -> None:
        if self.is_open:
            await self.world.settle(self.run, answer=self.world.result())
            self.is_open = False

    async def end(self, _: int) -> None:
        await self.parts.end([self.run.message_id])
        self.has_stream = False


def run_programs(make_store: StoreFactory, parts_of: Callable[[Store], PartStore], examples: int = EXAMPLES) -> None:
    """Run any programs of writers and a reader against the model; `parts_of` may plant a fault."""
    with asyncio.Runner() as runner:
        store = make_store()
        runner.run(store.open())
        try:
            parts, world = parts_of(store), runner.run(World.create(store))

            async def judge(steps: Sequence[Step]) -> None:
                run = await begin(world)
                model = Model(world, parts, run, PartCursor(run.message_id))
                try:
                    for name, argument in steps:
                        await getattr(model, name)(argument)
                finally:
                    await model.answer(0)

            @settings(
                max_examples=examples,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate, Phase.shrink] if examples == EXAMPLES else [Phase.generate],
            )
            @given(STEPS)
            def check(steps: list[Step]) -> None:
                runner.run(judge(steps))

            check()
        finally:
            runner.run(store.aclose())
