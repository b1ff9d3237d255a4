"""`sdk.tasks` where Redis loses data, or is away: it is told, messages go on, and so do tasks afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from agent_messaging import AgentMessaging, Config, TaskContext
from agent_messaging.cli.main import main
from agent_messaging.exceptions import QueueDataLostError, StorageFullError, StorageUnavailableError
from agent_messaging.states import Prunable
from agent_messaging.storage.ports import TaskRequest
from agent_messaging.storage.redis.store import RedisStore
from tests.fixtures.redis import RedisServer
from tests.redis_store.support import a_task, a_worker
from tests.support import eventually

SOON = 20.0


def build(folder: Path, url: str, **coordination: Any) -> AgentMessaging:
    """An SDK object with its messages in SQLite and its tasks on Redis."""
    return AgentMessaging(
        Config(
            url=f"sqlite:///{folder / 'messages.db'}",
            database={"call_timeout": 2.0},
            messaging={"require_handler": False, "drain_timeout": 2.0},
            coordination={"redis_url": url, **coordination},
        )
    )


def employ(sdk: AgentMessaging, opened: asyncio.Event) -> None:
    """A worker whose runs stay until they are opened."""

    @sdk.register_task_handler("w", capabilities=["job"], max_concurrent_tasks=2)
    async def work(job: int, context: TaskContext) -> int:
        await opened.wait()
        return job


async def test_lost_data_is_told_to_who_waits_and_work_goes_on(
    tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server, opened = own_redis(), asyncio.Event()
    async with build(tmp_path, server.url, heartbeat_interval=0.5) as sdk:
        employ(sdk, opened)
        first = await sdk.tasks.delegate("job", 1)
        await eventually(lambda: sdk.tasks.get(first), SOON, until=lambda task: task.state == "running")
        waiting = asyncio.create_task(sdk.tasks.result(first))
        await asyncio.sleep(0)
        with redis.Redis(port=server.port) as client:
            client.flushall()
        async with asyncio.timeout(SOON):
            with pytest.raises(QueueDataLostError, match="Put again what you know"):
                await waiting
        opened.set()
        assert await sdk.tasks.delegate("job", 2, wait=True, timeout=SOON) == 2
        assert [task.payload for task in await sdk.tasks.list()] == [2]
        # Nobody waits now: the next caller is told, once.
        with redis.Redis(port=server.port) as client:
            client.flushall()
        engine = sdk._lifecycle.use()
        await eventually(lambda: engine.workplace.lost, SOON)
        with pytest.raises(QueueDataLostError):
            await sdk.tasks.list()
        assert await sdk.tasks.delegate("job", 3, wait=True, timeout=SOON) == 3


async def test_messages_go_on_while_redis_is_away_and_tasks_do_afterwards(
    tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server, opened = own_redis("--appendonly", "yes", "--appendfsync", "always"), asyncio.Event()
    opened.set()
    server.end()
    async with AsyncExitStack() as stack:
        sdk = build(tmp_path, server.url)
        employ(sdk, opened)
        await stack.enter_async_context(sdk)  # it starts without Redis
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            await sdk.register_agent(name, "acme", name)
        assert await sdk.one_way.send("alice", "bob", {"n": 1})
        with pytest.raises(StorageUnavailableError, match="cannot be reached"):
            await sdk.tasks.delegate("job", 1)
        await asyncio.to_thread(server.start)
        assert await sdk.tasks.delegate("job", 2, wait=True, timeout=SOON) == 2
        await asyncio.to_thread(server.end)
        assert await sdk.one_way.send("alice", "bob", {"n": 2})
        assert len(await sdk.receive("bob", limit=9, timeout=SOON)) == 2
        await asyncio.to_thread(server.start)
        assert await sdk.tasks.delegate("job", 3, wait=True, timeout=SOON) == 3


async def test_who_only_sends_messages_never_connects(tmp_path: Path, own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    with redis.Redis(port=server.port) as client:
        before = int(client.info("stats")["total_connections_received"])
        async with build(tmp_path, server.url) as sdk:
            await sdk.register_organization("acme", "Acme")
        assert int(client.info("stats")["total_connections_received"]) == before
        async with build(tmp_path, server.url) as sdk:
            assert await sdk.tasks.list() == []
        assert int(client.info("stats")["total_connections_received"]) > before


async def test_old_tasks_are_pruned_by_who_uses_redis_though_another_has_taken_the_turn(
    tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server, opened = own_redis(), asyncio.Event()
    opened.set()
    async with build(tmp_path, server.url) as only_sends, build(tmp_path, server.url) as works:
        employ(works, opened)
        done = await works.tasks.delegate("job", 1)
        assert await works.tasks.result(done, timeout=SOON) == 1
        await eventually(lambda: works._lifecycle.use().workplace.is_open, SOON)
        with redis.Redis(port=server.port) as client:
            assert client.zadd("{agent_messaging}:ended_tasks:done", {done: 1}, xx=True, ch=True) == 1  # long ago
        for sdk in (only_sends, works):
            retention = sdk._lifecycle.use().retention
            retention.ages = {Prunable.TASKS: 3_600.0}
            await retention.prune()
        assert await works.tasks.list() == []


async def test_while_memory_is_used_up_a_schedule_holds_up_nothing_else(
    tmp_path: Path, own_redis: Callable[..., RedisServer]
) -> None:
    server, opened = own_redis(), asyncio.Event()
    opened.set()
    async with build(tmp_path, server.url) as sdk:
        employ(sdk, opened)
        await sdk.tasks.schedule("often", "job", 1, every=1.0)
        gone = RedisStore(server.url, location="redis")
        await gone.presence.start(lambda: None, lambda: None)
        owner = gone.presence.process_id
        await gone.workers.register(a_worker("gone", "build", pulls=True), process_id=owner)
        await gone.tasks.submit([a_task("t", "build", message=None)], origin=owner)
        assert len((await gone.tasks.exchange([], [TaskRequest("gone", 1, 30.0)], owner=owner)).claimed) == 1
        with redis.Redis(port=server.port) as client:
            client.config_set("maxmemory", "1mb")
            await gone.aclose()  # its connections end, as those of a killed one do
            with pytest.raises(StorageFullError):
                await sdk.tasks.delegate("job", 2)
            await eventually(lambda: sdk.tasks.get("t"), SOON, until=lambda task: task.state == "queued")
            client.config_set("maxmemory", "0")
        assert await sdk.tasks.delegate("job", 3, wait=True, timeout=SOON) == 3


def test_a_missing_client_stops_tasks_alone(tmp_path: Path) -> None:
    """In a process of its own, where the import fails."""
    program = (
        "import asyncio, sys\n"
        "sys.modules['redis'] = None\n"
        "from agent_messaging import AgentMessaging, ConfigurationError\n"
        "async def main():\n"
        "    async with AgentMessaging('sqlite:///messages.db') as sdk:\n"
        "        await sdk.register_organization('acme', 'Acme')\n"
        "        try:\n            await sdk.tasks.delegate('job', 1)\n"
        "        except ConfigurationError as error:\n"
        "            assert 'agent-messaging[redis]' in str(error) and 'AGENT_COMMUNICATION_MODE=sql' in str(error)\n"
        "        else:\n            raise SystemExit(1)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path, env=environment)


async def test_the_doctor_looks_at_redis_too(
    tmp_path: Path, own_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_redis()
    monkeypatch.setenv("REDIS_URL", server.url)
    monkeypatch.setenv("POSTGRES_CALL_TIMEOUT", "1")
    url = f"sqlite:///{tmp_path / 'messages.db'}"
    async with AgentMessaging(url):
        pass

    def examine() -> dict[str, Any]:
        result = CliRunner().invoke(main, ["doctor", "--json", "--url", url])
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    document = await asyncio.to_thread(examine)
    assert document["tasks"]["durability"]["appendonly"] == "no"
    assert any("keeps no append-only file" in finding["problem"] for finding in document["findings"])
    await asyncio.to_thread(server.end)
    document = await asyncio.to_thread(examine)
    assert "tasks" not in document
    assert any("cannot be reached" in finding["problem"] for finding in document["findings"])
    assert "messages" in document
