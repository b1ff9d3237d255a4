"""The sign of life and the doorbell: leases, early signs of death, lost incarnations, rings, reconnection."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from agent_messaging.storage import lifesign
from agent_messaging.storage.ports import Stored
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.world import World
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import Link, OwnServer
from tests.support import eventually

_SLOW = "00000000-0000-4000-8000-000000000002"
"""A process that lives on paper."""


class Watched:
    """A store whose presence has started, and what it was told."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.rings = 0
        self.lost: list[str] = []

    async def start(self) -> None:
        await self.store.presence.start(self.on_ring, self.on_lost)

    def on_ring(self) -> None:
        self.rings += 1

    def on_lost(self) -> None:
        self.lost.append(self.store.presence.process_id)

    async def until_rung(self, before: int) -> None:
        await eventually(lambda: self.rings, until=lambda rings: rings > before)


Watch = Callable[..., Awaitable[Watched]]


@pytest.fixture
def watch(open_store: StoreMaker) -> Watch:
    """Opens stores and starts their presence."""

    async def watch(dsn: str, **options: object) -> Watched:
        watched = Watched(await open_store(dsn, **options))
        await watched.start()
        return watched

    return watch


async def test_a_live_process_is_never_dead_however_long_its_loop_is_blocked(postgres_dsn: str, watch: Watch) -> None:
    mine, other = await watch(postgres_dsn, lease=1.0), await watch(postgres_dsn, lease=1.0)
    deadline = time.monotonic() + 2.5
    dead: list[str] = []

    def look() -> None:
        with asyncio.Runner() as runner:

            async def work() -> None:
                store = PostgresStore(postgres_dsn, min_pool_size=1)
                await store.open()
                while time.monotonic() < deadline:
                    dead.extend(await store.presence.find_dead())
                await store.aclose()

            runner.run(work())

    looker = threading.Thread(target=look)
    looker.start()
    time.sleep(2.5)
    looker.join()
    assert dead == []
    assert mine.lost == other.lost == []


async def test_rings_are_heard_by_those_rung(postgres_dsn: str, watch: Watch) -> None:
    one, two, three = [await watch(postgres_dsn) for _ in range(3)]
    for _ in range(100):
        one.store.presence.ring([two.store.presence.process_id])
    await two.until_rung(0)
    assert two.rings <= 20  # merged
    before = two.rings
    one.store.presence.ring([one.store.presence.process_id])  # to oneself: dropped
    one.store.presence.ring([two.store.presence.process_id])
    await two.until_rung(before)
    assert (one.rings, three.rings) == (0, 0)


async def test_very_many_are_rung_at_once(postgres_dsn: str, watch: Watch) -> None:
    one, two = [await watch(postgres_dsn) for _ in range(2)]
    one.store.presence.ring([f"{number:012d}" for number in range(5000)])
    await two.until_rung(0)


async def test_a_killed_process_is_dead_before_its_lease(postgres_dsn: str, open_store: StoreMaker) -> None:
    """Its connection is gone at once; looks over one and a half seconds believe it, and they come sooner meanwhile."""
    observer = await open_store(postgres_dsn)
    slow = observer.presence.look_interval
    program = (
        "import asyncio, sys\n"
        "from agent_messaging.storage.postgres.store import PostgresStore\n"
        "async def main():\n"
        "    store = PostgresStore(sys.argv[1], min_pool_size=1)\n"
        "    await store.open()\n"
        "    await store.presence.start(lambda: None, lambda: None)\n"
        "    print(store.presence.process_id, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, postgres_dsn], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        process_id = (await asyncio.to_thread(child.stdout.readline)).strip()
        assert await observer.presence.find_dead() == []
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    begun = time.monotonic()
    await eventually(observer.presence.find_dead, 10.0, interval=0.2, until=lambda dead: dead == [process_id])
    assert 1.4 < time.monotonic() - begun < 5.0
    assert observer.presence.look_interval < slow
    await observer.processes.release([process_id])
    assert await observer.presence.find_dead() == []
    assert observer.presence.look_interval == slow


async def test_a_look_whose_answer_is_read_late_is_no_longer_absence(postgres_dsn: str, watch: Watch) -> None:
    """Both looks came within a moment; only the loop of who looks stood still before it read the second answer."""
    one = await watch(postgres_dsn)
    await execute(
        postgres_dsn,
        "insert into processes (id, host, pid, backend_pid, backend_start, lease_until, started_at)"
        f" values ('{_SLOW}', 'h', 1, 1, now(), now() + interval '1 hour', now())",
    )
    assert await one.store.presence.find_dead() == []
    look = asyncio.create_task(one.store.presence.find_dead())
    await asyncio.sleep(0)
    time.sleep(lifesign.EARLY_SIGN + 0.1)  # as a handler that blocks, or a process that is stopped
    assert await look == []
    await eventually(one.store.presence.find_dead, until=lambda dead: dead == [_SLOW])


async def test_a_lease_that_is_over_is_death(postgres_dsn: str, watch: Watch) -> None:
    one = await watch(postgres_dsn)
    await execute(
        postgres_dsn,
        "insert into processes (id, host, pid, lease_until, started_at)"
        " values ('00000000-0000-4000-8000-000000000001', 'h', 1, clock_timestamp() - interval '1 s', now())",
    )
    assert await one.store.presence.find_dead() == ["00000000-0000-4000-8000-000000000001"]


async def test_who_loses_its_connection_is_not_dead(postgres_dsn: str, watch: Watch) -> None:
    """It reconnects within the time that an absence must last, and looks once for what it may have missed."""
    one, two = [await watch(postgres_dsn) for _ in range(2)]
    for _ in range(3):
        before = two.rings
        await execute(
            postgres_dsn,
            f"select pg_terminate_backend(backend_pid) from processes where id = '{two.store.presence.process_id}'",
        )
        await two.until_rung(before)
        assert await one.store.presence.find_dead() == []
    before = two.rings
    one.store.presence.ring([two.store.presence.process_id])
    await two.until_rung(before)
    assert two.lost == []


async def test_after_an_outage_nobody_is_missed_who_is_still_on_the_way_back(
    own_server: OwnServer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose own connection is new looks at leases alone: the others may come back later than itself."""
    monkeypatch.setattr(lifesign, "EARLY_SIGN", float("-inf"))  # one look is enough
    one = await watch(own_server.dsn)
    await execute(
        own_server.dsn,
        "insert into processes (id, host, pid, backend_pid, backend_start, lease_until, started_at)"
        f" values ('{_SLOW}', 'h', 1, 4000000, now(), clock_timestamp() + interval '1 h', now())",
    )
    assert await one.store.presence.find_dead() == [_SLOW]
    before = one.rings
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    await one.until_rung(before)
    assert await one.store.presence.find_dead() == []
    monkeypatch.setattr(lifesign, "STEADY", 0.0)
    assert await one.store.presence.find_dead() == [_SLOW]


async def test_who_was_taken_for_dead_becomes_another(postgres_dsn: str, watch: Watch) -> None:
    one, two = await watch(postgres_dsn), await watch(postgres_dsn, lease=1.0)
    old = two.store.presence.process_id
    assert await one.store.processes.release([old]) == 0
    assert two.store.presence.process_id == old  # until it is told
    await eventually(lambda: two.lost)
    new = two.store.presence.process_id
    assert new != old
    assert two.lost == [new]
    living = {row.process_id for row in await one.store.processes.list_processes(0) if row.ended_at is None}
    assert living == {one.store.presence.process_id, new}
    one.store.presence.ring([new])
    await two.until_rung(0)


async def test_the_dead_claim_nothing(postgres_dsn: str, watch: Watch) -> None:
    one, two = await watch(postgres_dsn), await watch(postgres_dsn)
    world = await World.create(one.store)
    await world.send()
    dead = two.store.presence.process_id
    await one.store.processes.release([dead])
    assert await world.claim(owner=dead) == []
    (outcome,) = await world.append(world.group(world.carol, claim=True), owner=dead)
    assert isinstance(outcome, Stored)
    assert outcome.claims == {}
    assert len(await world.claim()) == 2


async def test_who_retires_is_not_taken_for_dead_by_itself(postgres_dsn: str, watch: Watch) -> None:
    one = await watch(postgres_dsn, lease=0.6)
    await one.store.processes.retire(one.store.presence.process_id)
    await asyncio.sleep(0.5)  # several renewals
    assert one.lost == []
    (row,) = await one.store.processes.list_processes(60)
    assert row.end_reason == "stopped"


async def test_who_retires_during_its_own_renewal_is_not_taken_for_dead_by_itself(
    postgres_dsn: str, watch: Watch
) -> None:
    """The renewal waits for the row, and is told what became of it meanwhile."""
    one = await watch(postgres_dsn, lease=0.6)
    retiring = await asyncpg.connect(postgres_dsn, timeout=10)
    try:
        transaction = retiring.transaction()
        await transaction.start()
        await retiring.execute("update processes set ended_at = clock_timestamp(), end_reason = 'stopped'")
        blocked = "select true from pg_stat_activity where $1 = any(pg_blocking_pids(pid))"
        mine = retiring.get_server_pid()
        await eventually(lambda: retiring.fetchval(blocked, mine))
        await transaction.commit()
    finally:
        await retiring.close(timeout=5)
    await eventually(lambda: rest(postgres_dsn))
    assert one.lost == []
    (row,) = await one.store.processes.list_processes(60)
    assert row.end_reason == "stopped"


async def rest(dsn: str) -> bool:
    """Whether the first presence has come to rest: once it knows that it retired, it asks for its channel alone."""
    rows = await execute(
        dsn,
        "select true from pg_stat_activity where query like '%current_schema()%'"
        " and pid = (select backend_pid from processes order by started_at limit 1)",
    )
    return bool(rows)


async def test_a_frozen_link_is_noticed_and_replaced(own_server: OwnServer, link: Link, watch: Watch) -> None:
    """The renewal is the ping: it is not answered, so the connection is closed and another opened."""
    one = await watch(link.dsn, lease=1.2)
    two = await watch(own_server.dsn, lease=1.2)
    link.freeze()
    await eventually(two.store.presence.find_dead, 10.0, until=lambda dead: dead == [one.store.presence.process_id])
    link.thaw()
    link.cut()
    await one.until_rung(0)
    assert await two.store.presence.find_dead() == []
    before = one.rings
    two.store.presence.ring([one.store.presence.process_id])
    await one.until_rung(before)


async def test_presence_comes_back_after_a_restart_of_the_server(own_server: OwnServer, watch: Watch) -> None:
    one, two = [await watch(own_server.dsn) for _ in range(2)]
    before = one.rings
    await asyncio.to_thread(own_server.stop)
    await asyncio.to_thread(own_server.start)
    await one.until_rung(before)
    before = one.rings
    await eventually(lambda: ring(two, one), until=lambda rings: rings > before, interval=0.1)
    assert one.lost == two.lost == []


def ring(ringer: Watched, rung: Watched) -> int:
    """Ring once more; returns how often it was heard."""
    ringer.store.presence.ring([rung.store.presence.process_id])
    return rung.rings


async def test_closing_leaves_nothing_however_often(postgres_dsn: str, watch: Watch) -> None:
    one = await watch(postgres_dsn)
    await one.store.presence.aclose()
    await one.store.presence.aclose()
    one.store.presence.ring(["somebody"])
    assert not [thread for thread in threading.enumerate() if "presence" in thread.name]


async def test_closing_through_a_frozen_link_is_bounded(own_server: OwnServer, link: Link, watch: Watch) -> None:
    one = await watch(link.dsn, lease=1.2)
    link.freeze()
    begun = time.monotonic()
    await one.store.aclose()
    assert time.monotonic() - begun < 8.0


async def test_deployments_in_two_schemas_do_not_hear_each_other(empty_postgres_dsn: str, watch: Watch) -> None:
    await execute(empty_postgres_dsn, "create schema one", "create schema two")
    mark = "&" if "?" in empty_postgres_dsn else "?"
    one = await watch(f"{empty_postgres_dsn}{mark}search_path=one")
    two = await watch(f"{empty_postgres_dsn}{mark}search_path=two")
    twin = await watch(f"{empty_postgres_dsn}{mark}search_path=two")
    one.store.presence.ring([two.store.presence.process_id])
    twin.store.presence.ring([two.store.presence.process_id])
    await two.until_rung(0)
    assert two.rings == 1
    assert [row.process_id for row in await one.store.processes.list_processes(0)] == [one.store.presence.process_id]
