"""What retention asks PostgreSQL for: no table is read whole, nobody is waited for, and the index has no words left."""

from __future__ import annotations

import asyncpg

from agent_messaging.storage.sql import Queries
from tests.conformance.retention import handled, prune
from tests.conformance.search import index_all
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute

SQL = Queries("agent_messaging.storage.postgres", "retention")


async def test_what_another_transaction_holds_stays_for_the_next_walk(
    postgres_dsn: str, open_store: StoreMaker
) -> None:
    world = await World.create(await open_store(postgres_dsn))
    held, *others = await handled(world, 4)
    await index_all(world.store.search, world.owner)
    holder = await asyncpg.connect(postgres_dsn)
    try:
        await holder.execute("begin")
        await holder.execute(
            "select from deliveries d join messages m on m.seq = d.seq where m.id = $1::text::uuid for update of d",
            held,
        )
        assert (await prune(world)).number == len(others)
    finally:
        await holder.close()
    assert [row["count"] for row in await execute(postgres_dsn, "select count(*) from search_words")] == [1]
    assert (await prune(world)).number == 1
    assert [row["count"] for row in await execute(postgres_dsn, "select count(*) from search_words")] == [0]


async def test_no_plan_reads_a_table_whole(postgres_dsn: str, open_store: StoreMaker) -> None:
    """Whatever the tables held when the plan was made: it is kept for each connection."""
    store = await open_store(postgres_dsn)
    nobody = "00000000-0000-0000-0000-000000000000"
    calls: dict[str, tuple[object, ...]] = {
        "prune_messages_page": (0, 100, 0.0, None),
        "prune_dead_letters_page": (0, 100, 0.0, None, nobody),
        "prune_messages_find": ([1], None),
        "prune_messages_lock": ([1],),
        "prune_messages_delete": ([1],),
        "prune_sessions_page": (nobody, 100, 0.0, None),
        "prune_sessions_find": ([nobody], 1),
        "prune_meetings_page": (nobody, 100, 0.0, None),
        "prune_meetings_find": ([nobody], 250),
        "prune_meetings_delete": ([nobody],),
        "prune_keys_page": (nobody, 100, 0.0, None, "", ""),
        "prune_keys_find": ([nobody], ["send"], ["k"]),
        "end_unused_sessions_find": (100,),
        "end_unused_sessions": ([nobody], None),
    }
    scanned = {}
    for name, values in calls.items():
        rows = await store.engine.fetch(f"explain {SQL[name]}", *values)
        plan = "\n".join(row[0] for row in rows)
        if "Seq Scan" in plan or ("SubPlan" in plan and "hashed" in plan):
            scanned[name] = plan
    assert scanned == {}
