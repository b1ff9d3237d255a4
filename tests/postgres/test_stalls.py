"""A server that is slow to sync: it commits what a process claimed after that has lost the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import Claim, NewAnswer
from agent_messaging.storage.postgres import cutoffs
from agent_messaging.storage.postgres.store import PostgresStore
from tests.conformance.world import World, id_of
from tests.postgres.conftest import StoreMaker, execute
from tests.postgres.servers import OwnServer
from tests.postgres.test_url import with_parameters
from tests.support import eventually

_STALLED = "select pid from pg_stat_activity where wait_event = 'SyncRep'"
_WAITING = "select from pg_locks where not granted"


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    """A server whose commits wait for a standby that never comes, on connections that ask for it."""
    server = OwnServer(synchronous_standby_names="nobody", synchronous_commit="local")
    try:
        server.start()
        yield server
    finally:
        server.close()


@asynccontextmanager
async def stalled(server: OwnServer, call: Awaitable[object]) -> AsyncIterator[None]:
    """The call is cut off in its commit, which goes on at the end."""
    calling = asyncio.ensure_future(call)
    try:
        await eventually(lambda: execute(server.dsn, _STALLED))
        calling.cancel()
        await asyncio.wait({calling})
        yield
    finally:
        await execute(server.dsn, f"select pg_cancel_backend(pid) from ({_STALLED}) s")


async def _claim(world: World) -> object:
    return await world.claim()


async def _append_note(world: World) -> object:
    return await world.append(world.group(world.carol, world.dave, claim=True))


async def _append_ask(world: World) -> object:
    return await world.append(world.question(world.carol, world.dave, claim=True))


async def _append_asks(world: World) -> object:
    pairs = (world.carol, world.dave), (world.alice, world.dave)
    return await world.append(*(world.question(*pair, claim=True) for pair in pairs))


@pytest.mark.parametrize("call", [_claim, _append_note, _append_ask, _append_asks])
async def test_claims_that_are_being_committed_are_listed(
    server: OwnServer, open_store: StoreMaker, call: Callable[[World], Awaitable[object]]
) -> None:
    world = await World.create(await open_store(server.dsn))
    await world.send()
    slow = await open_store(with_parameters(server.dsn, "synchronous_commit=on"))
    world.owner, listing = new_id(), world.deliveries.list_claims
    async with stalled(server, call(replace(world, store=slow))):
        claims = asyncio.create_task(listing(world.owner))
        await eventually(lambda: execute(server.dsn, _WAITING))
    rows = await execute(server.dsn, f"select seq from deliveries where owner = '{world.owner}' order by seq")
    assert rows
    assert await claims == [Claim(row["seq"], 1, 1) for row in rows]


@pytest.mark.parametrize("end", ["release", "retire"])
async def test_claims_that_are_being_committed_go_back_with_their_process(
    server: OwnServer, open_store: StoreMaker, end: str
) -> None:
    world = await World.create(await open_store(server.dsn))
    message_id = await world.send()
    slow = await open_store(with_parameters(server.dsn, "synchronous_commit=on"))
    world.owner, processes = new_id(), world.store.processes
    row = f"('{world.owner}', 'here', 1, now(), now())"
    await execute(
        server.dsn, f"insert into processes (id, host, pid, lease_until, started_at) values {row} returning id"
    )
    async with stalled(server, _claim(replace(world, store=slow))):
        leave = processes.release([world.owner]) if end == "release" else processes.retire(world.owner)
        ending = asyncio.ensure_future(leave)
        await eventually(lambda: execute(server.dsn, _WAITING))
    await ending
    (receipt,) = await world.deliveries.list_receipts([message_id])
    assert (receipt.state, receipt.attempt) == ("queued", 1 if end == "release" else 0)


async def test_an_ask_whose_caller_has_gone_is_ended_though_it_is_being_committed(
    server: OwnServer, open_store: StoreMaker
) -> None:
    """The process of the server that the ask was cut off from ends first: what it has done is there then, or never."""
    world = await World.create(await open_store(server.dsn))
    slow = await open_store(with_parameters(server.dsn, "synchronous_commit=on"))
    question = world.question(claim=True)
    async with stalled(server, replace(world, store=slow).append(question)):
        closing = asyncio.create_task(slow.sessions.close_asks([id_of(question)], AskState.CANCELLED))
        await eventually(lambda: execute(server.dsn, f"select from messages where id = '{id_of(question)}'"))

        async def has_closed() -> bool:
            await execute(server.dsn, f"select pg_cancel_backend(pid) from ({_STALLED}) s")  # its own commit waits too
            return closing.done()

        await eventually(has_closed)
    assert [row.state for row in await closing] == [AskState.CANCELLED]


async def test_a_process_of_the_server_that_has_the_pid_of_one_before_is_left_alone(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart, while which a call waits for a connection."""
    waited = 0.0
    monkeypatch.setattr(cutoffs, "monotonic", lambda: time.monotonic() + waited)
    bystander, asking = await asyncpg.connect(postgres_dsn), await asyncpg.connect(postgres_dsn)

    async def run(work: Callable[[Any], Awaitable[set[int]]]) -> set[int]:
        nonlocal waited
        waited = 60.0
        return await work(asking)

    try:
        cut_offs = cutoffs.CutOffs()
        cut_offs.note(bystander.get_server_pid())
        await cut_offs.outlast(run, 5.0)
        assert await bystander.fetchval("select 1") == 1
    finally:
        await asyncio.gather(bystander.close(), asking.close())


async def _ask_again(world: World) -> object:
    return await world.append(world.question())


async def _answer(world: World) -> object:
    (claim,) = await world.deliveries.list_claims(world.owner)
    return await world.settle(claim, answer=NewAnswer(new_id(), '"yes"', checksum('"yes"', None)))


async def _append_all(world: World) -> object:
    return await world.append(world.group(), world.question(world.carol), world.group(world.dave))


_STORING = [_append_note, _append_ask, _append_asks, _ask_again, _answer, _append_all]


@pytest.mark.parametrize("call", _STORING)
async def test_an_agent_that_goes_takes_along_what_is_being_committed(
    server: OwnServer, open_store: StoreMaker, call: Callable[[World], Awaitable[object]]
) -> None:
    """No foreign key leads from messages to agents: whoever removes one waits for those who store."""
    world, slow = await _prepare(server, open_store, call)
    async with stalled(server, call(replace(world, store=slow))):
        leaving = asyncio.create_task(execute(server.dsn, f"delete from agents where {_going(world)} returning id"))
        await eventually(lambda: execute(server.dsn, _WAITING))
    assert len(await leaving) == 2
    assert await execute(server.dsn, _LEFT) == []


@pytest.mark.parametrize("call", _STORING)
async def test_nothing_is_stored_for_an_agent_whose_removal_is_being_committed(
    server: OwnServer, open_store: StoreMaker, call: Callable[[World], Awaitable[object]]
) -> None:
    world, slow = await _prepare(server, open_store, call)
    removal = slow.engine.change(f"delete from agents where {_going(world)} returning id")
    async with stalled(server, removal):
        storing = asyncio.ensure_future(call(world))
        await eventually(lambda: execute(server.dsn, _WAITING))
    await asyncio.wait({storing})
    assert await execute(server.dsn, _LEFT) == []


_LEFT = """
select m.id from messages m where not exists (select from agents a where a.id = m.sender_id)
  or not exists (select from agents a where a.id = m.recipient_id)
"""


def _going(world: World) -> str:
    return f"id in ('{world.bob}', '{world.dave}')"


async def _prepare(
    server: OwnServer, open_store: StoreMaker, call: Callable[[World], Awaitable[object]]
) -> tuple[World, PostgresStore]:
    world = await World.create(await open_store(server.dsn))
    if call is _ask_again:
        await world.say()
    if call is _answer:
        await world.append(world.question(claim=True))
    return world, await open_store(with_parameters(server.dsn, "synchronous_commit=on"))
