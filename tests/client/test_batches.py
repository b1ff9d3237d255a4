"""Many large messages at once: batches are bounded by bytes too, and what the store refuses fails alone."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_messaging import DatabaseError, HandlerError, StorageFullError, TaskContext, TaskFailedError
from agent_messaging.handlers import register_message_notification_handler
from agent_messaging.ids import uuid7
from agent_messaging.models import AskState, Kind
from agent_messaging.storage.batches import size_of
from agent_messaging.storage.ports import NewGroup, Role, Settlement, TaskSettlement
from tests.client.conversing import Clerk, ask, nothing_is_left
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.conformance.world import World

MIB = 1024 * 1024
SMALL = 20_000
"""Bytes of a batch, in tests that need not write so much."""
REFUSED = 100_000
"""Bytes of a content that a store of these tests refuses."""

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("backend", ["postgres"], indirect=True)


def sizes(count: int) -> list[int]:
    """Bytes of contents: mostly small ones, and some larger than a batch. The seed is printed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    return [chosen.choice((10, 300, 5_000, 2 * SMALL)) for _ in range(count)]


def watch_appends(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The sizes of what goes into the store together."""
    deliveries, batches = sdk._started().store.deliveries, list[list[int]]()
    append = deliveries.append

    async def watched(groups: Sequence[NewGroup], **options: Any) -> Any:
        batches.append([size_of(group.content) * len(group.deliveries) for group in groups])
        return await append(groups, **options)

    monkeypatch.setattr(deliveries, "append", watched)
    return batches


def watch_settlements(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The sizes of the answers that are settled together."""
    deliveries, batches = sdk._started().store.deliveries, list[list[int]]()
    settle = deliveries.settle

    async def watched(settlements: Sequence[Settlement], *requests: Any, **options: Any) -> Any:
        batches.append([size_of(one.answer.content) for one in settlements if one.answer is not None])
        return await settle(settlements, *requests, **options)

    monkeypatch.setattr(deliveries, "settle", watched)
    return batches


async def refuse_large_contents(sdk: Sdk) -> None:
    """Let the store, not the SDK, refuse what is larger than REFUSED."""
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    if hasattr(engine, "read"):
        guard = (
            "create trigger no_large before insert on messages when octet_length(new.content) > "
            f"{REFUSED} begin select raise(abort, 'too large'); end"
        )
        await engine.write(lambda connection: connection.execute(guard).close())
    else:
        guard = f"alter table messages add constraint no_large check (octet_length(content) <= {REFUSED})"
        await engine.run(lambda connection: connection.execute(guard), write=True)


def is_bounded(batch: list[int], most_bytes: int) -> bool:
    return sum(batch[:-1]) < most_bytes


async def test_sends_of_any_sizes_are_stored_in_batches_bounded_by_bytes(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    sdk._started().outbox.most_bytes = SMALL
    batches = watch_appends(sdk, monkeypatch)
    texts = [f"{number}:" + "x" * size for number, size in enumerate(sizes(200))]
    await asyncio.gather(*(sdk.one_way.send("alice", ["bob", "carol"], text, require_handler=False) for text in texts))
    assert all(is_bounded(batch, SMALL) for batch in batches), batches
    assert max(len(batch) for batch in batches) > 1, "each went alone"
    stored = await sdk.one_way.get_received_messages("bob", limit=1000)
    assert [message.content for message in stored] == texts[::-1]


async def test_a_send_that_the_store_refuses_fails_alone(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    await refuse_large_contents(sdk)
    texts = ["x" * (2 * REFUSED if size > SMALL else size) for size in sizes(100)]
    sent = await asyncio.gather(
        *(sdk.one_way.send("alice", "bob", text, require_handler=False) for text in texts), return_exceptions=True
    )
    refused = [len(text) > REFUSED for text in texts]
    assert [isinstance(one, DatabaseError) for one in sent] == refused
    assert await sdk.one_way.get_message_count("bob") == refused.count(False)


async def test_answers_of_any_sizes_are_settled_in_batches_bounded_by_bytes(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk(handler_concurrency=100)
    names = [f"asker-{number}" for number in range(100)]
    await sdk.add_people("bob", *names)
    answers = [f"{number}:" + "x" * size for number, size in enumerate(sizes(100))]
    everybody_is_here = asyncio.Barrier(100)

    async def answer(message: int, _: Any) -> str:
        await everybody_is_here.wait()
        return answers[message]

    sdk.register_handler("bob")(Clerk(answer))
    sdk._started().claims.most_bytes = SMALL
    batches = watch_settlements(sdk, monkeypatch)
    asked = [ask(sdk, name, "bob", number, require_handler=True) for number, name in enumerate(names)]
    assert await asyncio.gather(*asked) == answers
    assert all(is_bounded(batch, SMALL) for batch in batches), batches
    assert max(len(batch) for batch in batches) > 1, "each went alone"


async def test_a_backlog_of_any_sizes_is_claimed_in_batches_bounded_by_bytes(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, worker = await make_sdk(), await make_sdk(handler_concurrency=50)
    names = [f"worker-{number}" for number in range(4)]
    await sender.add_people("alice", "carol", *names)
    texts = ["x" * size for size in sizes(60)]
    ids = [
        id
        for number, text in enumerate(texts)
        for id in await sender.one_way.send(
            ("alice", "carol")[number % 2], names[number % 4], text, require_handler=False
        )
    ]
    deliveries: Any = worker._started().store.deliveries
    batches: list[list[int]] = []
    settle = deliveries.settle
    if is_bounded_here := hasattr(deliveries, "most_bytes"):
        deliveries.most_bytes = worker._started().claims.most_bytes = SMALL

    async def watched(*arguments: Any, **options: Any) -> Any:
        settled = await settle(*arguments, **options)
        batches.append(sorted((delivery.size for delivery in settled.claimed), reverse=False))
        return settled

    monkeypatch.setattr(deliveries, "settle", watched)
    for name in names:
        worker.register_handler(name, ordered=False)(Inbox())
    receipts = await sender.receipts.wait(ids, timeout=SOON)
    assert {receipt.state.value for receipt in receipts} == {"done"}
    if is_bounded_here:
        assert all(is_bounded(batch, SMALL) for batch in batches), batches


async def test_what_is_unread_is_read_in_pages_bounded_by_bytes(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sessions: Any = sdk._started().store.sessions
    sessions.most_bytes = SMALL
    texts = [f"{number}:" + "x" * size for number, size in enumerate(sizes(40))]
    for text in texts:
        await sdk.conversation.send_no_wait("alice", "bob", text)
    bob, alice = await sdk.get_agent("bob"), await sdk.get_agent("alice")
    for sender in (None, str(alice.id)):
        page = await sessions.read_messages(str(bob.id), sender_id=sender, mark=False, limit=40)
        assert is_bounded([size_of(message.content) for message in page.messages], SMALL)
        assert not page.is_last
    assert await sdk.conversation.get_unread_messages("bob") == texts
    assert await sdk.conversation.get_unread_messages("bob") == []


async def test_notices_of_any_sizes_are_taken_in_batches_bounded_by_bytes(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sessions: Any = sdk._started().store.sessions
    sessions.most_bytes = SMALL
    bob, alice = [str((await sdk.get_agent(name)).id) for name in ("bob", "alice")]
    world = World(sdk._started().store, "", alice, bob, "", "", "", datetime.now(UTC))
    texts = [json.dumps(f"{number}:" + "x" * size) for number, size in enumerate(sizes(40))]
    for text in texts:
        await world.append(world.talk(content=text, notify=True), owner=str(uuid7()), now=datetime.now(UTC))
    for taken in ([bob], None):
        page = await sessions.take_notices(taken, 10)
        assert 1 <= len(page) <= 10
        assert is_bounded([size_of(message.content) for message in page], SMALL)
        assert [message.content for message in page] == texts[: len(page)]
        texts = texts[len(page) :]
    heard: list[str] = []
    everything = asyncio.Event()

    @register_message_notification_handler(agent="bob")
    async def hear(message: str, _: Any) -> None:
        heard.append(json.dumps(message))
        if len(heard) == len(texts):
            everything.set()

    async with asyncio.timeout(SOON):
        await everything.wait()
    assert heard == texts


async def test_answers_of_any_sizes_are_looked_up_in_pieces_bounded_by_bytes(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    sessions: Any = sdk._started().store.sessions
    sessions.most_bytes = SMALL
    answers = ["x" * size for size in sizes(12)]
    sdk.register_handler("bob")(Clerk(lambda message, _: answers[message]))
    for number, text in enumerate(answers):
        assert await ask(sdk, "alice", "bob", number, require_handler=True) == text
    bob = str((await sdk.get_agent("bob")).id)
    asked = await sdk._started().store.messages.list_messages(bob, Role.RECIPIENT, Kind.CONVERSATION, limit=100)
    ids = {row.message_id: answers[json.loads(row.content)] for row in asked}
    assert len(ids) == len(answers)
    unknown = str(uuid7())
    found = await sessions.find_ended_asks([unknown, *ids])
    assert found.pop(unknown) is None
    again = {row.ask_id: row for row in await sessions.find_asks([*ids])}
    closed = {row.ask_id: row for row in await sessions.close_asks([*ids], AskState.TIMED_OUT)}
    for rows in (found, again, closed):
        assert {id: row and row.answer and json.loads(row.answer.content) for id, row in rows.items()} == ids


@on_sqlite
async def test_results_that_do_not_fit_into_one_text_are_found_in_halves(make_sdk: MakeSdk) -> None:
    import apsw

    sdk = await make_sdk()

    @sdk.register_task_handler("w", capabilities=["big"])
    async def big(item: int, context: TaskContext) -> str:
        return "x" * 100_000

    ids = [await sdk.tasks.delegate("big", number) for number in range(8)]
    for id in ids:
        await sdk.tasks.result(id, timeout=SOON)
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    for number in (0, 1):
        connection = await engine.read(lambda connection: connection, reader=number)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 350_000)
    assert (await sdk.tasks.engine.lots.tasks.wait(ids)).keys() == {*ids}


@on_sqlite
async def test_what_does_not_fit_into_one_text_together_goes_in_halves(make_sdk: MakeSdk) -> None:
    """A gigabyte is SQLite's limit for a text, and here it is less than four of these contents."""
    import apsw

    sdk = await make_sdk(handler_concurrency=20)
    names = [f"asker-{number}" for number in range(10)]
    await sdk.add_people("bob", "carol", *names)
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    connections = [await engine.write(lambda connection: connection)]
    connections += [await engine.read(lambda connection: connection, reader=number) for number in (0, 1)]
    for connection in connections:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, 350_000)
    failures = list[BaseException]()
    commit = engine._commit

    def watched(connection: Any, group: Any) -> Any:
        answers = commit(connection, group)
        failures.extend(error.__cause__ for _, _, error in answers if error is not None)
        return answers

    engine._commit = watched
    text = "x" * 100_000
    everybody_is_here = asyncio.Barrier(10)

    async def answer(message: str, _: Any) -> str:
        await everybody_is_here.wait()
        return message + "!"

    sdk.register_handler("bob")(Clerk(answer))
    asked = [ask(sdk, name, "bob", name + text, require_handler=True) for name in names]
    assert await asyncio.gather(*asked) == [f"{name}{text}!" for name in names]
    assert any(isinstance(error, apsw.TooBigError) for error in failures), "nothing was too big"
    sent = [sdk.conversation.send_no_wait(name, "carol", name + text) for name in names]
    await asyncio.gather(*sent)
    sdk._started().store.sessions.most_bytes = 150_000  # type: ignore[attr-defined]
    assert sorted(await sdk.conversation.get_unread_messages("carol")) == [name + text for name in names]
    await nothing_is_left(sdk)


async def test_an_answer_that_the_store_refuses_fails_its_ask_alone(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(handler_concurrency=20)
    names = [f"asker-{number}" for number in range(20)]
    await sdk.add_people("bob", *names)
    await refuse_large_contents(sdk)
    everybody_is_here = asyncio.Barrier(20)

    async def answer(message: int, _: Any) -> str:
        await everybody_is_here.wait()
        return "x" * (2 * REFUSED if message % 7 == 3 else 10)

    sdk.register_handler("bob")(Clerk(answer))
    asked = [ask(sdk, name, "bob", number, require_handler=True) for number, name in enumerate(names)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(one, HandlerError) for one in ended] == [number % 7 == 3 for number in range(20)], ended
    assert "could not be stored" in str(ended[3])
    await nothing_is_left(sdk)


@pytest.mark.parametrize("error", [DatabaseError, StorageFullError])
async def test_a_result_that_the_store_does_not_take_disturbs_no_other(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, error: type[DatabaseError]
) -> None:
    """What it refuses fails its task, and is given to nobody; what it has no room for is stored when there is some."""
    sdk = await make_sdk()
    tasks, has_room, everybody_is_here = sdk.tasks.engine.workforce.tasks, asyncio.Event(), asyncio.Barrier(3)

    def refusing(call: Any) -> Any:
        async def refuse(ends: Sequence[TaskSettlement], *requests: Any, **options: Any) -> Any:
            if any(end.size > REFUSED for end in ends) and not has_room.is_set():
                raise error("It is too large.")
            return await call(ends, *requests, **options)

        return refuse

    for name in ("exchange", "settle"):
        monkeypatch.setattr(tasks, name, refusing(getattr(tasks, name)))

    @sdk.register_task_handler("w", capabilities=["big"], max_concurrent_tasks=3)
    async def big(size: int, context: TaskContext) -> str:
        await everybody_is_here.wait()
        return "x" * size

    large = asyncio.create_task(sdk.tasks.delegate("big", 2 * REFUSED, task_id="large", wait=True, timeout=SOON))
    small = (sdk.tasks.delegate("big", size, wait=True, timeout=SOON) for size in (1, 2))
    assert await asyncio.gather(*small) == ["x", "xx"]
    has_room.set()
    await asyncio.wait({large})
    for told in (large, sdk.tasks.result("large", timeout=SOON)):
        if error is StorageFullError:
            assert await told == "x" * 2 * REFUSED
        else:
            with pytest.raises(TaskFailedError):
                await told


@pytest.mark.sampled(1)
async def test_hundreds_of_mebibytes_at_once_are_stored_with_the_small_notes_beside_them(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(call_timeout=2.0)
    await sdk.add_people("alice", "bob")
    texts = ["note" if number % 9 == 0 else "x" * (MIB - 10) for number in range(150)]
    sent = await asyncio.gather(
        *(sdk.one_way.send("alice", "bob", text, require_handler=False) for text in texts), return_exceptions=True
    )
    assert [one for one in sent if isinstance(one, BaseException)] == []
    assert await sdk.one_way.get_message_count("bob") == 150


async def test_a_check_reads_bodies_of_any_sizes_in_pages_bounded_by_bytes(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    for number in range(12):
        await sdk.one_way.send("alice", "bob", "x" * (5_000 * (number % 3)), {"m": number}, require_handler=False)
    store: Any = sdk.store
    module = sys.modules[type(store).__module__]
    monkeypatch.setattr(module, "MAX_BYTES", 4_000, raising=False)
    checked: list[int] = []
    pages: list[int] = []
    find_damage, run = module.find_damage, getattr(store.engine, "run", None) or store.engine.read

    def look(name: str, content: str, metadata: str | None, checksum: int) -> Any:
        checked.append(len(content))
        return find_damage(name, content, metadata, checksum)

    async def note(job: Any, **options: Any) -> Any:
        pages.append(len(checked))
        return await run(job, **options)

    monkeypatch.setattr(module, "find_damage", look)
    monkeypatch.setattr(store.engine, run.__name__, note)
    assert await store.check() == []
    assert [length > 1_000 for length in checked] == [False, True, True] * 4
    for begin, end in itertools.pairwise([*pages, len(checked)]):
        assert sum(checked[begin:end]) - max(checked[begin:end], default=0) < 4_000
