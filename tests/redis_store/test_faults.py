"""Redis killed, emptied, full, away, replaced; strangers in its streams; acknowledgements of those who hold nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis

from agent_messaging.exceptions import (
    ConfigurationError,
    OutcomeUnknownError,
    QueueDataLostError,
    StorageBusyError,
    StorageFullError,
    StorageUnavailableError,
)
from agent_messaging.models import DeliveryState, TaskState
from agent_messaging.storage.ports import Assigned, QueueSettlement, Settling, TaskRequest, TaskSettlement
from agent_messaging.storage.redis.errors import translate
from agent_messaging.storage.redis.store import RedisStore
from tests.fixtures.redis import Proxy, RedisServer, free_port
from tests.redis_store.support import CONTENT, a_message, a_task, a_worker, done, ids
from tests.support import eventually

Servers = Callable[..., RedisServer]
Open = Callable[..., "asyncio.Future[RedisStore]"]


@pytest.fixture
async def open_store() -> AsyncIterator[Callable[..., object]]:
    """Opens stores at a server, and closes them."""
    async with AsyncExitStack() as stack:

        async def open_at(server: RedisServer, call_timeout: float = 10.0) -> RedisStore:
            store = RedisStore(server.url, location="redis", call_timeout=call_timeout)
            stack.push_async_callback(store.aclose)
            await store.open()
            return store

        yield open_at


# --- the server -------------------------------------------------------------------------------------------------------


async def test_killed_with_an_append_only_file_it_loses_nothing(own_redis: Servers, open_store: Open) -> None:
    server = own_redis("--appendonly", "yes", "--appendfsync", "always")
    store = await open_store(server)
    assert store.warnings == ()
    acknowledged: list[str] = []
    killed = False

    async def send() -> None:
        number = 0
        while not killed:
            number += 1
            await store.queue.put([a_message(str(number))])
            acknowledged.append(str(number))

    async def kill() -> None:
        nonlocal killed
        while len(acknowledged) < 50:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await asyncio.to_thread(server.start)
        killed = True

    await asyncio.gather(send(), kill())
    received: list[str] = []
    while claimed := await store.queue.claim("bob", 50, owner="p", lease=30):
        received += ids(claimed)
        assert await store.queue.settle([done(one) for one in claimed]) == [True] * len(claimed)
    assert received == acknowledged
    assert len(set(received)) == len(received)


@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_lost_data_is_told_and_the_queue_goes_on(own_redis: Servers, open_store: Open, how: str) -> None:
    server = own_redis()
    store = await open_store(server)
    assert "keeps no append-only file" in store.warnings[0]
    await store.queue.put([a_message("before")])
    assert ids(await store.queue.claim("bob", 1, owner="p", lease=30)) == ["before"]
    if how == "flushed":
        redis.Redis(port=server.port).flushall()
    else:
        server.end()
        server.start()
    with pytest.raises(QueueDataLostError, match="all that this object had seen") as caught:
        await store.queue.claim("bob", 1, owner="p", lease=30)
    assert caught.value.changes is None
    await store.queue.put([a_message("after")])
    assert ids(await store.queue.claim("bob", 1, owner="p", lease=30)) == ["after"]


async def test_out_of_memory_a_send_fails_and_settling_goes_on(own_redis: Servers, open_store: Open) -> None:
    server = own_redis()
    store = await open_store(server)
    await store.workers.register(a_worker("w"))
    await store.queue.put([a_message("old"), a_message("older")])
    first, second = await store.queue.claim("bob", 2, owner="p", lease=30)
    await store.tasks.assign([a_task("t")])
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StorageFullError, match="maxmemory"):
            await store.queue.put([a_message("new"), a_message("newer")])
        with pytest.raises(StorageFullError):
            await store.tasks.assign([a_task("new")])
        assert await store.queue.settle([done(first)]) == [True]
        assert await store.queue.settle([QueueSettlement(second.claim, Settling.RETRY)]) == [True]
        assert (await store.tasks.cancel(["t"], "enough")).moved == [True]
        client.config_set("maxmemory", "0")
    assert {row.message_id for row in await store.queue.list_messages("bob", None, 9, 0)} == {"old", "older"}
    assert [row.task_id for row in await store.tasks.find_tasks(["t", "new"])] == ["t"]
    assert (await store.queue.put([a_message("new")])).stored == [True]


async def test_a_server_that_is_away_or_hangs_is_told_within_the_time(own_redis: Servers, open_store: Open) -> None:
    server = own_redis()
    store = await open_store(server, 0.5)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(OutcomeUnknownError, match="cut off"):
        await store.queue.put([a_message("1")])
    server.process.send_signal(signal.SIGCONT)
    assert (await store.queue.put([a_message("2")])).stored == [True]
    await asyncio.to_thread(server.end)
    with pytest.raises(StorageUnavailableError, match="cannot be reached"):
        await store.queue.put([a_message("3")])
    fresh = RedisStore(server.url, location="redis", call_timeout=0.3)
    with pytest.raises(StorageUnavailableError, match="cannot be reached"):
        await fresh.open()
    await fresh.aclose()


async def test_a_cancelled_call_leaves_no_answer_for_the_next_one(own_redis: Servers, open_store: Open) -> None:
    server = own_redis()
    store = await open_store(server)
    await store.queue.put([a_message("1")])
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    call = asyncio.ensure_future(store.queue.statistics())
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.process.send_signal(signal.SIGCONT)
    assert ids(await store.queue.claim("bob", 1, owner="p", lease=30)) == ["1"]


async def test_a_cancellation_at_any_step_of_a_call_is_kept(store: RedisStore) -> None:
    for steps in range(60):
        call = asyncio.ensure_future(store.queue.statistics())
        for _ in range(steps % 15):
            await asyncio.sleep(0)
        has_ended = call.done()
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled() != has_ended, steps
    assert (await store.queue.statistics()).counts == {}


async def test_eviction_and_a_wrong_password_are_named(own_redis: Servers, open_store: Open) -> None:
    server = own_redis("--maxmemory-policy", "allkeys-lru", "--requirepass", "secret")
    url = f"redis://:secret@127.0.0.1:{server.port}/0"
    store = RedisStore(url, location="redis")
    try:
        await store.open()
        assert "maxmemory-policy allkeys-lru" in store.warnings[0]
    finally:
        await store.aclose()
    wrong = RedisStore(url.replace("secret", "guess"), location="redis")
    with pytest.raises(ConfigurationError, match="refuses this user"):
        await wrong.open()
    await wrong.aclose()


async def test_a_claim_whose_answer_was_lost_is_made_once(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.queue.put([a_message(str(number)) for number in range(6)])
    execute = store.engine._try
    lost: list[object] = []

    async def lose_the_first(begun: list[bool], command: tuple[object, ...]) -> object:
        answer = await execute(begun, command)
        if not lost:
            lost.append(answer)
            raise redis.ConnectionError("cut off")
        return answer

    monkeypatch.setattr(store.engine, "_try", lose_the_first)
    assert ids(await store.queue.claim("bob", 3, owner="p", lease=30)) == ["0", "1", "2"]
    assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["3", "4", "5"]
    assert lost


def test_urls_with_parameters(redis_server: str) -> None:
    for wrong in ("namespace=", "namespace=a{b}", "namespace=a%20b"):
        with pytest.raises(ConfigurationError, match="namespace"):
            RedisStore(f"{redis_server}?{wrong}", location="redis")
    store = RedisStore(f"{redis_server}?colour=red", location="redis")
    with pytest.raises(ConfigurationError, match="colour"):
        asyncio.run(store.open())


def test_a_missing_client_is_named() -> None:
    """In a process of its own, where the import fails."""
    program = (
        "import sys; sys.modules['redis'] = None\n"
        "from agent_messaging.exceptions import ConfigurationError\n"
        "try:\n    import agent_messaging.storage.redis.store\n"
        "except ConfigurationError as error:\n    assert 'agent-messaging[redis]' in str(error)\n"
        "else:\n    raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- strangers --------------------------------------------------------------------------------------------------------


def stream_of(store: RedisStore, agent: str, priority: int = 2) -> str:
    return f"{store.engine.namespace_key}q:{priority}:{agent}"


async def test_foreign_entries_are_set_aside_and_the_rest_goes_on(
    store: RedisStore, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    stream = stream_of(store, "bob")
    await store.queue.put([a_message("1")])
    client.xadd(stream, {"message": "{not json"})
    client.xadd(stream, {"id": "unknown"})
    client.xadd(stream, {"id": b"\xff\xfe", "more": "x"})
    client.xadd(stream, {"id": "1"})
    await store.queue.put([a_message("2")])
    with caplog.at_level(logging.WARNING, logger="agent_messaging"):
        claimed = await store.queue.claim("bob", 9, owner="p", lease=30)
    assert ids(claimed) == ["1", "2"]
    assert "4 entries" in caplog.text
    assert client.xlen(f"{store.engine.namespace_key}quarantine") == 4
    assert client.xlen(stream) == 2
    assert await store.queue.settle([done(one) for one in claimed]) == [True, True]
    assert client.xlen(stream) == 0


async def test_acknowledgements_and_trimming_by_strangers_lose_nothing(store: RedisStore, client: redis.Redis) -> None:
    stream = stream_of(store, "bob")
    await store.queue.put([a_message("1"), a_message("2")])
    [first] = await store.queue.claim("bob", 1, owner="p", lease=30)
    [pending] = client.xpending_range(stream, "agents", "-", "+", 9)
    assert pending["consumer"] == b"p"
    assert client.xack(stream, "agents", pending["message_id"]) == 1
    client.xtrim(stream, maxlen=0)
    assert await store.queue.claim("bob", 9, owner="q", lease=30) == []
    await store.queue.advance()
    assert ids(await store.queue.claim("bob", 9, owner="q", lease=30)) == ["2"]
    assert await store.queue.settle([done(first)]) == [True]
    client.xgroup_destroy(stream, "agents")
    await store.queue.put([a_message("3")])
    assert ids(await store.queue.claim("bob", 9, owner="q", lease=30)) == ["3"]


async def test_a_settlement_counts_only_under_the_newest_token(store: RedisStore) -> None:
    await store.queue.put([a_message("1")])
    [first] = await store.queue.claim("bob", 1, owner="p", lease=30)
    assert await store.queue.release(["p"]) == 1
    [second] = await store.queue.claim("bob", 1, owner="q", lease=30)
    assert (second.claim.token, second.attempt) == (2, 2)
    assert await store.queue.settle([done(first)]) == [False]
    assert await store.queue.renew([first.claim, second.claim], lease=60) == [False, True]
    assert await store.queue.settle([done(second)]) == [True]
    assert await store.queue.claim("bob", 1, owner="p", lease=30) == []


async def test_a_damaged_body_is_claimed_as_it_is_so_that_its_checksum_tells(
    store: RedisStore, client: redis.Redis
) -> None:
    await store.queue.put([a_message("1")])
    client.hset(f"{store.engine.namespace_key}m:bob\n1", "content", b"{\xff")
    [claimed] = await store.queue.claim("bob", 1, owner="p", lease=30)
    assert claimed.content != CONTENT
    assert claimed.checksum == a_message("1").checksum


# --- processes --------------------------------------------------------------------------------------------------------

WORKER = """
import asyncio, json, sys
from agent_messaging.storage.ports import Assigned, QueueSettlement, Settling, TaskRequest, TaskSettlement
from agent_messaging.storage.redis.errors import translate
from agent_messaging.storage.redis.store import RedisStore

async def main(url, name, path):
    store = RedisStore(url, location="redis")
    await store.open()
    with open(path, "a", buffering=1) as ledger:
        while True:
            for one in await store.queue.claim("bob", 3, owner=name, lease=0.5):
                ledger.write(json.dumps(["start", one.claim.message_id, one.claim.token]) + "\\n")
                if (await store.queue.settle([QueueSettlement(one.claim, Settling.DONE)]))[0]:
                    ledger.write(json.dumps(["done", one.claim.message_id, one.claim.token]) + "\\n")
            await store.queue.advance()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_workers_and_server_killed_at_random_settle_each_message_once(
    own_redis: Servers, open_store: Open, tmp_path: Path
) -> None:
    server = own_redis("--appendonly", "yes", "--appendfsync", "always")
    store = await open_store(server)
    ledger = tmp_path / "ledger"
    sent = [str(number) for number in range(300)]

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WORKER, server.url, name, str(ledger)])

    def lines() -> list[list[object]]:
        return [json.loads(line) for line in ledger.read_text().splitlines() if line.endswith("]")]

    workers = [start(f"w{number}") for number in range(2)]
    try:
        for at in range(0, 300, 20):
            await store.queue.put([a_message(one) for one in sent[at : at + 20]])
            if at == 140:
                workers[0].kill()
                workers[0].wait()
                workers[0] = start("w2")
            if at == 200:
                await asyncio.to_thread(server.end)
                await asyncio.to_thread(server.start)
        deadline = asyncio.get_running_loop().time() + 30
        while (await store.queue.statistics()).counts.get(DeliveryState.DONE, 0) < 300:
            assert asyncio.get_running_loop().time() < deadline, (await store.queue.statistics()).counts
            await asyncio.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    settled = [line[1] for line in lines() if line[0] == "done"]
    assert len(settled) == len(set(settled))
    assert {line[1] for line in lines() if line[0] == "start"} == set(sent)


async def test_two_supervisors_never_give_a_worker_more_than_its_capacity(
    make_redis_store: Callable[[], RedisStore],
) -> None:
    stores = [make_redis_store(), make_redis_store()]
    try:
        for store in stores:
            await store.open()
        for number in range(3):
            await stores[0].workers.register(a_worker(f"w{number}", "python", capacity=2))
        results = await asyncio.gather(
            *(stores[number % 2].tasks.assign([a_task(f"t{number}", "python")]) for number in range(20))
        )
        assigned = [news.outcomes[0] for news in results if hasattr(news.outcomes[0], "worker_id")]
        assert len(assigned) == 6
        assert [row.booked for row in await stores[0].workers.list_workers(9, 0)] == [2, 2, 2]
        assert (await stores[0].tasks.statistics()).counts == {TaskState.ASSIGNED: 6}
        for number in range(3):
            assert len(await stores[1].queue.claim(f"w{number}", 9, owner="p", lease=30)) == 2
    finally:
        for store in stores:
            await store.aclose()


async def test_a_server_without_functions_gets_the_same_as_a_script(own_redis: Servers, open_store: Open) -> None:
    server = own_redis("--appendonly", "yes")
    store = await open_store(server)
    store.engine._has_functions = False
    assert await store.presence.look() == ([], True)
    await store.workers.register(a_worker("puller", "sql", pulls=True))
    await store.tasks.submit([a_task("pooled", "sql", message=None)])
    assert len((await store.tasks.exchange([], [TaskRequest("puller", 1, 30.0)], owner="p")).claimed) == 1
    await store.workers.register(a_worker("w", "python"))
    await store.tasks.assign([a_task("t", "python")])
    [claimed] = await store.queue.claim("w", 9, owner="p", lease=30)
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(StorageFullError):
            await store.queue.put([a_message("new")])
        assert await store.queue.settle([done(claimed)]) == [True]
        client.config_set("maxmemory", "0")
    server.end()
    server.start()  # a script is forgotten with the server, and sent again
    assert (await store.queue.put([a_message("new")])).stored == [True]


async def test_values_that_strangers_wrote_stop_nothing_but_themselves(store: RedisStore, client: redis.Redis) -> None:
    at = store.engine.namespace_key
    await store.workers.register(a_worker("w", "build", capacity=9, pulls=True))
    await store.workers.register(a_worker("liar", "build"))
    await store.tasks.submit([a_task(id, "build", message=None) for id in ("torn", "whole")])
    await store.queue.put([a_message("torn"), a_message("whole")])
    client.hset(f"{at}t:torn", mapping={"created": "a\nb", "log": "[torn"})
    client.hset(f"{at}w:liar", mapping={"capacity": "many", "capabilities": "[5"})
    client.hset(f"{at}m:bob\ntorn", "created", "a\nb")
    client.sadd(f"{at}pools", "[torn\nbuild", "nothing")
    assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["whole"]
    news = await store.tasks.exchange([], [TaskRequest("w", 9, 30.0)], owner="p")
    assert [one.claim.task_id for one in news.claimed] == ["whole"]
    assert [row.worker_id for row in await store.workers.find_available(["build"], 9)] == ["w"]
    assert (await store.tasks.assign([a_task("t", "build", message=None)])).outcomes == [Assigned("t", "w", 1)]
    assert {row.task_id for row in await store.tasks.find_tasks(["torn", "whole"])} >= {"whole"}


# --- the way to the server, other servers -----------------------------------------------------------------------------


async def test_what_was_cut_off_in_the_middle_is_done_once(own_redis: Servers) -> None:
    server = own_redis("--appendonly", "yes")
    async with Proxy(server.port) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}", location="redis")
        try:
            await store.open()
            await store.workers.register(a_worker("w", "build", capacity=9, pulls=True))
            proxy.loses_answers = True
            assert (await store.queue.put([a_message("1")])).stored == [False]  # the first try has stored it
            proxy.loses_answers = True
            (claimed,) = await store.queue.claim("bob", 9, owner="p", lease=30)
            proxy.loses_answers = True
            assert await store.queue.settle([done(claimed)]) == [True]
            await store.tasks.submit([a_task(f"t{number}", "build", message=None) for number in range(4)])
            proxy.loses_answers = True
            taken = (await store.tasks.exchange([], [TaskRequest("w", 3, 30.0)], owner="p")).claimed
            assert [one.claim.task_id for one in taken] == ["t0", "t1", "t2"]
            proxy.loses_answers = True
            ends = [TaskSettlement(one.claim, Settling.DONE, '"r"', 1) for one in taken]
            exchanged = await store.tasks.exchange(ends, [TaskRequest("w", 9, 30.0)], owner="p")
            assert exchanged.moved == [True] * 3
            assert [one.claim.task_id for one in exchanged.claimed] == ["t3"]
            assert [claim.task_id for claim in await store.tasks.list_claims("p")] == ["t3"]
            proxy.cut()  # between two calls nobody notices
            assert (await store.queue.statistics()).counts == {DeliveryState.DONE: 1}
        finally:
            await store.aclose()


async def test_a_replica_that_takes_over_says_what_it_lacks(own_redis: Servers) -> None:
    primary = own_redis("--repl-diskless-sync-delay", "0")
    replica = own_redis("--replicaof", "127.0.0.1", str(primary.port))
    async with Proxy(primary.port) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}", location="redis")
        try:
            await store.open()
            await store.queue.put([a_message("kept")])
            with redis.Redis(port=replica.port) as standby:
                await eventually(lambda: standby.exists(store.engine.namespace_key + "seq"), 30)
                direct = RedisStore(replica.url, location="redis")
                with pytest.raises(StorageUnavailableError, match="is a replica"):
                    await direct.open()
                await direct.aclose()
                standby.execute_command("REPLICAOF", "NO", "ONE")  # the newest changes do not get there any more
                await store.queue.put([a_message("lost 1"), a_message("lost 2")])
                await asyncio.to_thread(primary.end)
                proxy.target = replica.port
                proxy.cut()
            with pytest.raises(QueueDataLostError, match="newest 2 changes") as caught:
                await store.queue.put([a_message("new")])
            assert caught.value.changes == 2
            assert (await store.queue.put([a_message("new")])).stored == [True]
            assert ids(await store.queue.claim("bob", 9, owner="p", lease=30)) == ["kept", "new"]
        finally:
            await store.aclose()


async def test_everything_of_a_namespace_is_in_one_slot_of_a_cluster(own_redis: Servers, open_store: Open) -> None:
    # By default the nodes talk on a port that is 10,000 higher, which there may not be.
    server = own_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually(lambda: client.cluster("info")["cluster_state"] == "ok", 20)
        store = await open_store(server)
        await store.workers.register(a_worker("told", "build"))
        await store.workers.register(a_worker("w", "sql", pulls=True), process_id="p")
        await store.queue.listen("p", ["told"])
        news = await store.tasks.assign([a_task("a", "build")])
        assert news.listeners == {"p"}
        (claimed,) = await store.queue.claim("told", 9, owner="p", lease=30)
        assert await store.queue.settle([done(claimed)]) == [True]
        await store.tasks.submit([a_task("b", "sql", message=None)])
        assert len((await store.tasks.exchange([], [TaskRequest("w", 1, 30.0)], owner="p")).claimed) == 1
        await store.presence.start(lambda: None, lambda: None)
        assert (await store.presence.look())[0] == []
        store.presence.ring(["p"])
        await store.queue.advance()
        await store.tasks.advance()
        keys = client.keys("*")
        assert len(keys) > 20
        assert len({client.execute_command("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
        client.execute_command("CLUSTER", "DELSLOTSRANGE", "0", "16383")
        store.engine.call_timeout = 0.3
        with pytest.raises(StorageBusyError, match="ClusterDown"):
            await store.queue.put([a_message("1")])


def test_another_node_of_a_cluster_is_named() -> None:
    error = translate(redis.exceptions.MovedError("1234 10.0.0.7:6380"), "redis://one:6379/0")
    assert isinstance(error, ConfigurationError)
    assert "10.0.0.7:6380" in str(error)


async def test_an_encrypted_connection(own_redis: Servers, tmp_path: Path) -> None:
    """The server of the wheel is built without TLS, so a proxy before it does that part."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("missing capability: openssl, which makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*make, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = own_redis()
    async with Proxy(server.port, context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        store = RedisStore(f"{url}?ssl_ca_certs={certificate}", location="redis")
        try:
            await store.open()
            await store.presence.start(lambda: None, lambda: None)
            assert (await store.queue.put([a_message("1")])).stored == [True]
            assert (await store.presence.look())[0] == []
        finally:
            await store.aclose()
        stranger = RedisStore(url, location="redis", call_timeout=1.0)
        with pytest.raises(StorageUnavailableError, match=r"(?i)certificate"):
            await stranger.open()
        await stranger.aclose()
