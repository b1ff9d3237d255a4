"""Plans that were made while the tables were small: no statement reads more with them when the tables are large.

A connection keeps its plans until the server takes stock of a table again, which it does once in a minute at most. So
what was planned for twenty rows meets all that is stored in the minute after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from agent_messaging.ids import uuid7
from agent_messaging.models import AskState, Kind, TaskState
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    Forwarded,
    NewForward,
    NewParts,
    PartCursor,
    Role,
    Settling,
    TaskFilter,
    TaskSettlement,
)
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.coordination import Crew
from tests.conformance.parts import part
from tests.conformance.topics import TOPIC, publish, stay
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute

MANY = 20_000
MOST = 400
"""Rows that a call may read more than before. Each statement that read a table, or what is of one agent, read MANY."""
READ = """
select coalesce(sum(r), 0)::bigint as rows from (
  select seq_tup_read as r from pg_stat_user_tables union all select idx_tup_read from pg_stat_user_indexes
) t
"""
FILL = f"""
with ended as (
  insert into sessions (id, agent_a_id, agent_b_id, thread, session_type, created_at, ended_at)
  select gen_random_uuid(), least($1::text::uuid, $2::text::uuid), greatest($1::text::uuid, $2::text::uuid),
    'old-' || i, 'sync', now(), now()
  from generate_series(1, {MANY}) i returning id
),
said as (
  insert into messages (id, kind, sender_id, recipient_id, session_id, content, checksum, created_at)
  select gen_random_uuid(), k.kind, $1::text::uuid, $2::text::uuid,
    case k.kind when 'conversation' then $3::text::uuid end, '1', {checksum("1", None)}, now()
  from generate_series(1, {MANY}) i cross join (values ('one_way'), ('conversation')) k (kind)
  returning seq, id, kind, session_id
),
delivered as (
  -- Every other one is read.
  insert into deliveries (seq, recipient_id, kind, sender_id, state, token, attempt, max_attempts, queued_at,
    settled_at, read_at, ask_timeout)
  select seq, $2::text::uuid, kind, $1::text::uuid, 'done', 1, 1, 5, now(), now(),
    case when seq % 2 = 0 then now() end, case kind when 'conversation' then 60 end
  from said
),
asked as (
  insert into asks (seq, session_id, asker_id, responder_id, state, keyed, deadline_at, ended_at)
  select seq, session_id, $1::text::uuid, $2::text::uuid, 'timed_out', false, now(), now()
  from said where kind = 'conversation'
),
keyed as (
  insert into idempotency_keys (sender_id, call, key, fingerprint, message_ids, created_at)
  select $1::text::uuid, 'send', 'old-' || i, '', '{{}}', now() from generate_series(1, {MANY}) i
),
queued as (
  insert into queue_messages (agent_id, message_id, sender_id, type, priority, content, checksum, state, max_attempts,
    queued_at, created_at, settled_at)
  select 'bob', 'old-' || i, 'alice', 'task_request', 2, '1', 0, 'done', 3, now(), now(), now()
  from generate_series(1, {MANY}) i
)
insert into tasks (id, type, description, needs, priority, content, checksum, is_assigned, state, max_attempts,
  worker_id, queued_at, created_at, assigned_at, settled_at)
select 'old-' || i, 'build', '', '{{python}}', 2, '1', 0, false, 'done', 3, 'w', now(), now(), now(), now()
from generate_series(1, {MANY}) i
returning 1
"""


class Use:
    """The calls of a store that are made for each message, ask and task, by name. Each leaves nothing open."""

    def __init__(self, store: PostgresStore, world: World, crew: Crew) -> None:
        self.store, self.world, self.crew = store, world, crew
        self.calls: dict[str, Callable[[], Awaitable[object]]] = {
            "note": self.note,
            "claimed note": self.claimed_note,
            "notes that need no order": self.unordered_notes,
            "note with a key": self.keyed_note,
            "withdraw": self.withdraw,
            "dead letter": self.dead_letter,
            "ask and answer": self.ask,
            "answer of one's own": self.answer,
            "forward": self.forward,
            "parts of an answer": self.parts,
            "publication": self.publication,
            "ask that runs out": self.time_out,
            "close an ask": self.close,
            "read": self.read,
            "wait": self.wait,
            "end a session": self.end,
            "mark as read": self.mark_read,
            "lists": self.lists,
            "advance": self.advance,
            "queue": self.queue,
            "task": self.task,
            "assigned task": self.assigned_task,
            "list tasks": self.list_tasks,
        }

    async def measure(self) -> dict[str, int]:
        """The rows that each call reads, in the quietest of three runs: somebody else may tidy up meanwhile."""
        counts: dict[str, int] = {}
        for _ in range(3):
            for name, call in self.calls.items():
                before = await self._rows()
                await call()
                read = await self._rows() - before
                counts[name] = min(counts.get(name, read), read)
        return counts

    async def _rows(self) -> int:
        async def look(connection: Any) -> int:
            await connection.fetch("select pg_stat_force_next_flush()")
            return int(await connection.fetchval(READ))

        return await self.store.engine.run(look, write=False)

    # --- messages ---

    async def note(self) -> None:
        (claim,) = (await self.world.stored(self.world.group(claim=True))).claims.values()
        await self.world.settle(claim)

    async def claimed_note(self) -> None:
        await self.world.send_many(3)
        for _ in range(3):
            await self.world.settle(await self.world.claim_one())
        assert await self.world.claim() == []

    async def unordered_notes(self) -> None:
        await self.world.send_many(3)
        claimed = await self.world.claim(ordered=False)
        assert len(claimed) == 3
        await self.world.settle(claimed)

    async def keyed_note(self) -> None:
        await self.world.send(call="send", idempotency_key=f"key-{uuid7()}", fingerprint="f")
        await self.world.settle(await self.world.claim_one())

    async def withdraw(self) -> None:
        assert await self.world.deliveries.withdraw([await self.world.send()])

    async def dead_letter(self) -> None:
        dead = await self.world.kill()
        assert await self.world.deliveries.list_dead(self.world.bob, 10, 0)
        assert await self.world.deliveries.redrive([dead], None)
        await self.world.settle(await self.world.claim_one())

    async def mark_read(self) -> None:
        id = await self.world.send()
        await self.world.settle(await self.world.claim_one())
        assert await self.store.messages.mark_read(self.world.bob, Kind.ONE_WAY, message_ids=[id]) == 1

    async def lists(self) -> None:
        await self.store.messages.list_messages(self.world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=10)
        await self.store.messages.list_messages(
            self.world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=10, unread_only=True
        )
        await self.store.messages.list_messages(self.world.alice, Role.SENDER, Kind.ONE_WAY, limit=10)
        session = await self.world.session()
        for newest_first in (True, False):
            await self.world.sessions.list_messages(session.session_id, limit=10, newest_first=newest_first)
        await self.world.sessions.list_sessions(self.world.alice, limit=10)

    async def advance(self) -> None:
        await self.world.deliveries.advance()
        await self.world.deliveries.find_waiting()

    # --- conversations ---

    async def ask(self) -> None:
        ask_id = await self.world.ask()
        await self.world.settle(await self.world.claim_talk(), answer=self.world.result())
        assert await self.world.ask_state(ask_id) is AskState.REPLIED
        await self.world.read(self.world.alice)

    async def answer(self) -> None:
        await self.world.ask(timeout=1e6)
        claimed = await self.world.claim_talk()
        await self.world.answer()
        await self.world.settle(claimed)
        await self.world.read(self.world.alice)

    async def forward(self) -> None:
        ask_id = await self.world.ask(self.world.carol, self.world.alice)
        claimed = await self.world.claim_talk(self.world.alice)
        new = NewForward(ask_id, self.world.alice, self.world.dave, uuid7(), uuid7(), claimed.claim)
        assert isinstance(await self.store.forwarding.forward(new, owner=self.world.owner), Forwarded)
        await self.world.settle(await self.world.claim_talk(self.world.dave), answer=self.world.result())
        await self.world.read(self.world.carol)

    async def parts(self) -> None:
        await self.world.ask(is_streamed=True)
        run = await self.world.claim_talk()
        streams = self.store.parts
        await streams.write([NewParts(run.message_id, run.claim, [part(1), part(2)])])
        (page,) = await streams.read([PartCursor(run.message_id)], 10)
        await streams.acknowledge(page.cursor)
        await self.world.settle(run, answer=self.world.result())
        await streams.end([run.message_id])
        await self.world.read(self.world.alice)

    async def publication(self) -> None:
        await publish(self.world)
        await self.world.settle(await self.world.claim_one())

    async def time_out(self) -> None:
        ask_id = await self.world.ask(timeout=0.5)
        await self.world.deliveries.advance(self.world.at(1))
        assert await self.world.ask_state(ask_id) is AskState.TIMED_OUT

    async def close(self) -> None:
        ask_id = await self.world.ask()
        assert (await self.world.close(ask_id, AskState.CANCELLED)).state is AskState.CANCELLED

    async def read(self) -> None:
        await self.world.say(self.world.carol, self.world.dave)
        assert len((await self.world.read(self.world.dave)).messages) == 1

    async def wait(self) -> None:
        wait = await self.world.wait(self.world.bob, self.world.alice)
        await self.world.say()
        await self.world.sessions.find_waits([wait])
        assert await self.world.take()
        await self.world.sessions.remove_wait(wait)

    async def end(self) -> None:
        await self.world.say(self.world.carol, self.world.dave)
        assert await self.world.end(self.world.carol, self.world.dave)
        await self.world.read(self.world.dave)

    # --- coordination ---

    async def queue(self) -> None:
        await self.crew.put(uuid7())
        (claimed,) = await self.crew.claim()
        assert await self.crew.settle(claimed)

    async def task(self) -> None:
        id = uuid7()
        await self.crew.submit(id)
        (claimed,) = await self.crew.take("puller")
        await self.crew.exchange("puller", settlements=[TaskSettlement(claimed.claim, Settling.DONE)])
        await self.store.tasks.find_tasks([id])

    async def assigned_task(self) -> None:
        id = uuid7()
        await self.crew.assign(id)
        assert await self.crew.end(await self.crew.booking(id))

    async def list_tasks(self) -> None:
        for states in (None, frozenset({TaskState.QUEUED}), frozenset({TaskState.DONE, TaskState.FAILED})):
            await self.store.tasks.list_tasks(TaskFilter(states), 10, 0)


async def test_no_call_reads_more_by_plans_of_small_tables(postgres_dsn: str, open_store: StoreMaker) -> None:
    store = await open_store(postgres_dsn, max_pool_size=1)  # so every call meets the same plans
    world, crew = await World.create(store), Crew(store)
    await stay(world, (world.bob, TOPIC))
    await crew.hire("w")
    await crew.hire("puller", pulls=True)
    use = Use(store, world, crew)
    tables = await execute(postgres_dsn, "select relname from pg_stat_user_tables")
    await execute(postgres_dsn, *(f"alter table {table} set (autovacuum_enabled = off)" for (table,) in tables))

    # What is believed of the tables from now on: that they have the few rows of now, of which many are open.
    await use.measure()
    await world.send_many(20)
    await world.ask(timeout=1e6)
    await crew.submit("open")
    await crew.put("open")
    await execute(postgres_dsn, "analyze")
    await world.settle(await world.claim(limit=20, ordered=False))
    await world.settle(await world.claim_talk(), answer=world.result())
    for claimed in await crew.claim():
        await crew.settle(claimed)
    for task in await crew.take("puller"):
        await crew.exchange("puller", settlements=[TaskSettlement(task.claim, Settling.DONE)])
    few = await use.measure()

    session = await world.session()
    await store.engine.run(
        lambda connection: connection.execute(FILL, world.alice, world.bob, session.session_id), write=True, budget=60
    )
    many = await use.measure()
    assert {name: (few[name], rows) for name, rows in many.items() if rows > few[name] + MOST} == {}
