"""Moving a store, or an organization of one, into another store of the other kind, and what can go wrong on the way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import resource
import signal
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent_messaging import (
    ArchiveError,
    ConfigurationError,
    Fact,
    InvalidArgumentError,
    MeetingNotFoundError,
    MessageContext,
    Observer,
    OrganizationNotFoundError,
    StorageBusyError,
    StorageFullError,
    TaskContext,
)
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.ids import uuid7
from agent_messaging.messaging.archive import files, moving
from agent_messaging.models import Kind, Prunable
from agent_messaging.payloads import checksum
from agent_messaging.storage.archive import TABLES
from agent_messaging.storage.ports import Claim, ClaimRequest, NewQueueMessage, Pruning, Settlement, Settling
from tests.client.damage import damage, execute, fetch
from tests.client.support import SOON, MakeSdk, Sdk, make_config
from tests.support import eventually

pytestmark = pytest.mark.sampled(1)
"""Each of these starts processes or fills stores: a run tries it on one store."""


@pytest.fixture
def other_url(backend: str, request: pytest.FixtureRequest) -> str:
    """A place for a store of the other kind."""
    if backend == "postgres":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    return str(request.getfixturevalue("postgres_dsn"))


@pytest.fixture
async def other(other_url: str) -> AsyncIterator[Sdk]:
    """An SDK on an empty store of the other kind."""
    async with Sdk(make_config(other_url)) as sdk:
        yield sdk


@pytest.fixture
async def memory() -> AsyncIterator[Sdk]:
    """An SDK on an empty store in memory."""
    async with Sdk(make_config("sqlite://:memory:")) as sdk:
        yield sdk


@pytest.fixture
def probes() -> Iterator[None]:
    """Makes every point inert again."""
    yield
    disarm()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows at a time, so that there are many steps."""
    monkeypatch.setattr(moving, "_BATCH", 5)


async def prune_a_meeting(sdk: Sdk, host: str, guest: str) -> UUID:
    """Prune a meeting that has just ended, and return its id."""
    meeting = await sdk.meeting.create_meeting(host, [guest])
    await sdk.meeting.end_meeting(host, meeting)
    assert (await sdk.store.retention.prune(Pruning(Prunable.MEETINGS, 0.0), limit=100)).number == 1
    return meeting


async def live(sdk: Sdk) -> list[str]:
    """Let something happen in every table, and return the ids of messages."""
    await sdk.add_people("dave")

    @sdk.register_handler("bob")
    async def bob(message: Any, context: MessageContext) -> Any:
        if message == "no":
            raise PermissionError("never")
        if message == "pass it on":
            await context.forward("carol")
            return None
        return {"answer": message}

    @sdk.register_handler("carol")
    async def carol(message: Any, context: MessageContext) -> Any:
        return "carol's"

    @sdk.register_meeting_handler("bob")
    async def speak(message: Any, context: MessageContext) -> Any:
        return {"text": "At Luigi's."}

    @sdk.register_task_handler("worker", capabilities=["sql"])
    async def work(task: Any, context: TaskContext) -> Any:
        return {"rows": 3}

    ids = await sdk.one_way.send(
        "alice", ["bob", "dave"], {"text": "é 株"}, {"n": 1}, idempotency_key="k", require_handler=False
    )
    ids += await sdk.one_way.send("alice", "bob", "no")
    await sdk.wait([ids[0], ids[2]])
    later = datetime.now(UTC) + timedelta(hours=1)
    ids += await sdk.one_way.send("alice", "bob", "later", deliver_at=later, expires_in=7200)
    ids += await sdk.one_way.send("alice", "bob", "never", deliver_at=datetime.max.replace(tzinfo=UTC))
    assert await sdk.conversation.send_and_wait("alice", "bob", "q", timeout=SOON) == {"answer": "q"}
    assert await sdk.conversation.send_and_wait("alice", "bob", "pass it on", timeout=SOON, thread="t") == "carol's"
    ids.append(await sdk.conversation.send_no_wait("bob", "dave", "read me"))
    await sdk.topics.subscribe("dave", "orders.>")
    ids += await sdk.topics.publish("alice", "orders.new", {"order": 7})
    held = await sdk.meeting.hold("alice", ["bob"], {"text": "Where?"}, max_turns=3, timeout=SOON, host_speaks=False)
    assert held.messages
    meeting = await sdk.meeting.create_meeting("alice", ["dave"], turn_duration=600)
    await sdk.meeting.attend_meeting("dave", meeting)
    await sdk.meeting.start_meeting("alice", meeting, {"text": "go"})
    await sdk.tasks.delegate("count", {"table": "t"}, required_capabilities=["sql"], wait=True, timeout=SOON)
    await sdk.tasks.delegate("paint", {"wall": 1})
    await sdk.tasks.schedule("nightly", "count", {}, cron="0 3 * * *")
    queued = NewQueueMessage("m", "q", "s", "text", 1, '"x"', None, checksum('"x"', None), 3, expires_in=600)
    await sdk.store.queue.put([queued])
    return ids


async def seen(sdk: Sdk, ids: list[str]) -> list[Any]:
    """What users see of it. Where processes ran is forgotten, as of those that ended long ago."""
    receipts = [await sdk.receipts.get(id) for id in ids]
    told = [replace(one, events=tuple(replace(event, host=None, pid=None) for event in one.events)) for one in receipts]
    meetings = await sdk.meeting.list_meetings("alice")
    sessions = sorted({one.session_id for one in await sdk.conversation.get_active_sessions("alice")})
    return [
        told,
        await sdk.list_agents(),
        await sdk.one_way.get_sent_messages("alice"),
        [await sdk.conversation.get_conversation_history(id) for id in sessions],
        await sdk.conversation.get_unread_messages("dave", peek=True),
        [await sdk.meeting.get_meeting_history(one.meeting_id) for one in meetings],
        [await sdk.meeting.get_meeting_timeline(one.meeting_id) for one in meetings],
        await sdk.dead_letters.list(),
        await sdk.topics.list(),
        [(task.task_id, task.state, task.worker_id, task.settled_at) for task in await sdk.tasks.list()],
        await sdk.tasks.schedules(),
        await sdk.store.queue.list_messages(None, None, 10, 0),
    ]


async def test_a_store_moves_to_the_other_kind_and_on_as_it_was(
    sdk: Sdk, other: Sdk, memory: Sdk, tmp_path: Path
) -> None:
    pruned = await prune_a_meeting(sdk, "alice", "bob")
    ids = await live(sdk)
    report = await sdk.archive.export(tmp_path / "first.gz")
    assert set(report.counts) >= set(TABLES) - {"notices"}
    assert (report.damaged, report.left_out, report.rows) == ((), {}, sum(report.counts.values()))
    assert os.stat(report.path).st_mode & 0o077 == 0
    steps: list[tuple[int, int]] = []
    imported = await other.archive.import_(report.path, progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert (imported.counts, imported.sha256, imported.is_repeat) == (report.counts, report.sha256, False)
    assert await seen(other, ids) == await seen(sdk, ids)
    for place in (sdk, other):
        with pytest.raises(MeetingNotFoundError, match="was pruned"):
            await place.meeting.get_meeting_history(pruned)
    again = await other.archive.export(tmp_path / "second.gz")
    await memory.archive.import_(again.path)
    last = await memory.archive.export(tmp_path / "third.gz")
    assert Path(last.path).read_bytes() == Path(again.path).read_bytes() == Path(report.path).read_bytes()
    assert await other.store.check() == []
    # It goes on there: an idempotent repeat, a claim, a search, the meeting.
    assert ids[:2] == await other.one_way.send(
        "alice", ["bob", "dave"], {"text": "é 株"}, {"n": 1}, idempotency_key="k", require_handler=False
    )
    (message, *_) = await other.receive("dave", limit=5, timeout=0)
    await message.done()
    assert await other.state(ids[1]) == "done"
    assert len(await other.search_messages("株")) == 2
    (running,) = await other.meeting.list_meetings("alice", status="active")
    await other.meeting.speak("dave", running.meeting_id, {"text": "here I am"})


class Tracer(Observer):
    """Has everything carry a trace, and keeps what comes."""

    def __init__(self) -> None:
        self.came: dict[str | None, Mapping[str, str]] = {}

    def sending(self, fact: Fact) -> Mapping[str, str]:
        return {"traceparent": f"trace of {fact.kind}"}

    def handling(self, fact: Fact, carried: Mapping[str, str]) -> None:
        self.came[fact.kind] = carried


async def test_the_traces_of_messages_and_tasks_come_along(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    await sdk.add_people("alice", "bob")
    sdk.observers.add(Tracer())
    await sdk.one_way.send("alice", "bob", 1, require_handler=False)
    task = await sdk.tasks.delegate("work", 1)
    report = await sdk.archive.export(tmp_path / "all.gz")
    await other.archive.import_(report.path)
    seen = other.observers.add(Tracer())
    other.register_task_handler("w", capabilities=["work"])(lambda item, context: item)
    other.register_handler("bob")(lambda message, context: None)
    await other.tasks.result(task, timeout=SOON)
    await eventually(lambda: seen.came.keys() >= {"work", "one_way"}, SOON)
    assert {kind: carried["traceparent"] for kind, carried in seen.came.items()} == {
        "work": "trace of work",
        "one_way": "trace of one_way",
    }


async def test_an_open_claim_goes_as_given_back_and_its_token_is_past(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    (id,) = await sdk.one_way.send("alice", "bob", "x", require_handler=False)
    bob = str((await sdk.get_agent("bob")).id)
    request = ClaimRequest(bob, Kind.ONE_WAY, 1, 30.0)
    (claimed,) = await sdk.store.deliveries.claim([request], owner=sdk.store.presence.process_id)
    await sdk.archive.export(tmp_path / "a.gz")
    await other.archive.import_(tmp_path / "a.gz")
    receipt = await other.receipts.get(id)
    assert (receipt.state.value, receipt.attempt, receipt.token) == ("queued", 0, 2)
    there = other.store.deliveries
    mine = other.store.presence.process_id
    ((seq,),) = await fetch(other, "select seq from deliveries")
    for how in Settling:
        stale = Settlement(Claim(seq, claimed.claim.token, 1), how)
        assert (await there.settle([stale], owner=mine)).moved == [False]
    (again,) = await there.claim([request], owner=mine)
    assert (again.claim.token, again.claim.attempt) == (3, 1)
    assert (await there.settle([Settlement(stale.claim, Settling.DONE)], owner=mine)).moved == [False]
    assert (await sdk.store.deliveries.settle([Settlement(claimed.claim, Settling.DONE)], owner=mine)).moved == [True]


async def test_an_ask_is_open_there_only_if_a_repeat_may_join_it(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    async def ask(**options: Any) -> asyncio.Task[Any]:
        recipient = "carol" if options else "bob"
        task = asyncio.create_task(
            sdk.conversation.send_and_wait("alice", recipient, "q", timeout=60, require_handler=False, **options)
        )
        while not await fetch(
            sdk, f"select 1 from messages where content = '\"q\"' and recipient_id = '{ids[recipient]}'"
        ):
            await asyncio.sleep(0.01)
        return task

    ids = {name: (await sdk.get_agent(name)).id for name in ("bob", "carol")}
    tasks = [await ask(), await ask(idempotency_key="k")]
    await sdk.archive.export(tmp_path / "a.gz")
    await other.archive.import_(tmp_path / "a.gz")
    rows = await fetch(other, "select a.state, d.state from asks a join deliveries d on d.seq = a.seq order by a.seq")
    assert [tuple(row) for row in rows] == [("cancelled", "expired"), ("open", "queued")]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_organization_moves_without_what_it_shares(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    await sdk.add_people("eve", "mallory", organization="evil")
    await sdk.one_way.send("alice", ["bob", "eve"], "x", require_handler=False)
    await sdk.one_way.send("mallory", ["eve", "alice"], "y", require_handler=False)
    await sdk.meeting.create_meeting("alice", ["eve"])
    await sdk.meeting.create_meeting("alice", ["bob"])
    report = await sdk.archive.export(tmp_path / "acme.gz", organization="acme")
    # alice to eve, mallory to alice, and the invitation of eve
    assert report.left_out == {"messages": 3, "meetings": 1}
    assert report.counts["meetings"] == 1
    with pytest.raises(OrganizationNotFoundError, match="'acme'"):
        await sdk.archive.export(tmp_path / "x.gz", organization="acmee")
    await sdk.archive.export(tmp_path / "evil.gz", organization="evil")
    for name in ("evil", "acme"):
        await other.archive.import_(tmp_path / f"{name}.gz")
        assert (await other.archive.import_(tmp_path / f"{name}.gz")).is_repeat
        again = await other.archive.export(tmp_path / f"{name}2.gz", organization=name)
        assert (Path(again.path).read_bytes()) == (tmp_path / f"{name}.gz").read_bytes()
    assert [one.external_id for one in await other.list_organizations()] == ["acme", "evil"]


async def test_what_the_store_has_already_is_refused_and_nothing_comes_in(
    sdk: Sdk, other: Sdk, memory: Sdk, tmp_path: Path
) -> None:
    await sdk.one_way.send("alice", "bob", "x", require_handler=False)
    await sdk.tasks.delegate("paint", {}, task_id="t1")
    await sdk.archive.export(tmp_path / "a.gz")
    await other.add_people("alice", organization="elsewhere")
    with pytest.raises(ArchiveError, match=r"has already: agent 'alice'\. Nothing was imported\. Import into"):
        await other.archive.import_(tmp_path / "a.gz")
    await memory.tasks.delegate("paint", {}, task_id="t1")
    with pytest.raises(ArchiveError, match="task 't1'"):
        await memory.archive.import_(tmp_path / "a.gz")
    for one in (other, memory):
        assert await fetch(one, "select * from import_rows") == []
        assert await fetch(one, "select * from imports") == []
        assert await fetch(one, "select * from messages") == []


async def test_a_damaged_row_is_skipped_with_what_hangs_on_it_and_reported(
    sdk: Sdk, other: Sdk, tmp_path: Path
) -> None:
    bad, good = await sdk.one_way.send("alice", ["bob", "carol"], "x", require_handler=False)
    (worse,) = await sdk.one_way.send("alice", "bob", "y", require_handler=False)
    await damage(sdk, bad, "its checksum does not match")
    await execute(sdk, f"update messages set message_type = 'nonsense' where id = '{worse}'")
    report = await sdk.archive.export(tmp_path / "a.gz")
    assert len(report.damaged) == 4
    assert [bad in text or worse in text for text in report.damaged] == [True] * 4
    assert (report.counts["messages"], report.counts["deliveries"]) == (1, 1)
    await other.archive.import_(tmp_path / "a.gz")
    assert await other.state(good) == "queued"


async def test_instants_are_utc_whatever_the_clock_of_the_boot_says(memory: Sdk, tmp_path: Path) -> None:
    """The wall clock was set an hour ahead since the store was opened: what it decides by is an hour behind."""
    await memory.add_people("alice", "bob")
    clock: Any = memory.store.clock  # type: ignore[attr-defined]
    clock.offset_us -= 3_600_000_000
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=90)
    await memory.one_way.send("alice", "bob", "x", deliver_at=due, require_handler=False)
    await memory.archive.export(tmp_path / "a.gz")
    async with Sdk(make_config("sqlite://:memory:")) as right:
        await right.archive.import_(tmp_path / "a.gz")
        ((at, decided),) = await fetch(right, "select run_at, run_due from deliveries")
        assert abs(at - due.timestamp() * 1e6) <= 2_000_000
        assert at == decided


async def test_zstd_is_chosen_by_the_ending(memory: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await memory.add_people("alice")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agent-messaging\[zstd\]'"):
        await memory.archive.export(tmp_path / "a.zst")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    pytest.importorskip("zstandard")
    await memory.archive.export(tmp_path / "a.jsonl.zst")
    report = await memory.archive.export(tmp_path / "a.jsonl.gz")
    assert (tmp_path / "a.jsonl.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    await memory.deregister_organization("acme")
    assert (await memory.archive.import_(tmp_path / "a.jsonl.zst")).sha256 == report.sha256
    await memory.deregister_organization("acme")
    (tmp_path / "a.jsonl.zst").write_bytes((tmp_path / "a.jsonl.zst").read_bytes()[:-20])
    with pytest.raises(ArchiveError, match="damaged"):
        await memory.archive.import_(tmp_path / "a.jsonl.zst")


def spoil_text(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of an archive."""
    lines = change(gzip.decompress(path.read_bytes()).splitlines(keepends=True))
    path.write_bytes(gzip.compress(b"".join(lines)))


def become(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    make(path)


SPOILED: list[tuple[str, Callable[[Path], object]]] = [
    ("damaged", lambda path: path.write_bytes(path.read_bytes()[:-40])),
    ("damaged", lambda path: path.write_bytes(path.read_bytes()[:100] + b"\0\0\0\0" + path.read_bytes()[104:])),
    ("its end is missing", lambda path: spoil_text(path, lambda lines: lines[:-1])),
    ("not what its manifest says", lambda path: spoil_text(path, lambda lines: [*lines[:2], *lines[3:]])),
    ("follows the manifest", lambda path: spoil_text(path, lambda lines: [*lines, b"{}\n"])),
    ("is no JSON", lambda path: spoil_text(path, lambda lines: [lines[0], b"{torn\n"])),
    ("form 2, which", lambda path: spoil_text(path, lambda lines: [lines[0].replace(b'"format":1', b'"format":2')])),
    ("a table 'dreams', which", lambda path: spoil_text(path, lambda lines: [lines[0], b'{"table":"dreams"}\n'])),
    ("is no archive", lambda path: spoil_text(path, lambda lines: [b"hello\n"])),
    ("damaged", lambda path: path.write_bytes(b"hello")),
    ("cannot be read", lambda path: path.unlink()),
    ("a pipe", lambda path: become(path, os.mkfifo)),
    ("a folder", lambda path: become(path, os.mkdir)),
]


async def test_a_file_that_is_not_whole_or_not_ours_is_refused(memory: Sdk, tmp_path: Path) -> None:
    await memory.add_people("alice", "bob")
    whole = tmp_path / "whole.gz"
    await memory.archive.export(whole)
    with pytest.raises(InvalidArgumentError, match="exists already"):
        await memory.archive.export(whole)
    for number, (says, spoil) in enumerate(SPOILED):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(whole.read_bytes())
        spoil(path)
        with pytest.raises(ArchiveError, match=says):
            await memory.archive.import_(path)
        assert await fetch(memory, "select * from imports") == []


async def test_a_row_that_no_store_has_is_refused(memory: Sdk, tmp_path: Path) -> None:
    """Its hash fits: somebody made it by hand."""
    await memory.add_people("alice")
    path = tmp_path / "a.gz"
    await memory.archive.export(path)
    await memory.deregister_organization("acme")

    def change(lines: list[bytes]) -> list[bytes]:
        lines[1] = lines[1].replace(b'"created_at":"2', b'"created_at":"x')
        manifest = json.loads(lines[-1])
        manifest["manifest"]["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
        return [*lines[:-1], json.dumps(manifest).encode() + b"\n"]

    spoil_text(path, change)
    with pytest.raises(ArchiveError, match="created_at"):
        await memory.archive.import_(path)


async def test_a_disk_that_is_full(memory: Sdk, make_sdk: MakeSdk, backend: str, tmp_path: Path) -> None:
    await memory.add_people("alice", "bob")
    for number in range(40):
        await memory.one_way.send("alice", "bob", str(uuid7()) * 100 + str(number), require_handler=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageFullError, match="Make room, or name another disk"):
            await memory.archive.export(tmp_path / "a.gz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.glob("a.gz*")) == []
    await memory.archive.export(tmp_path / "a.gz")
    if backend != "sqlite":
        return
    target = await make_sdk()
    await execute(target, "pragma max_page_count = 150")
    with pytest.raises(StorageFullError):
        await target.archive.import_(tmp_path / "a.gz")
    assert await target.list_organizations() == []
    await execute(target, "pragma max_page_count = 100000")
    await target.archive.import_(tmp_path / "a.gz")
    await target.archive.export(tmp_path / "b.gz")
    assert (tmp_path / "b.gz").read_bytes() == (tmp_path / "a.gz").read_bytes()


PROGRAM = """
import asyncio, os, signal, sys
from agent_messaging.bootstrap import build_store
from agent_messaging.config import Config
from agent_messaging.delivery.probes import arm
from agent_messaging.messaging.archive import files, moving

url, point, times, verb, path = sys.argv[1:]
moving._BATCH = 5
left = int(times)

def kill():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = build_store(Config(url=url))
    await store.open()
    arm(point, kill)
    await getattr(moving, verb)(store, path)

asyncio.run(main())
"""


async def killed(url: str, point: str, times: int, verb: str, path: Path) -> None:
    """Begin an export or an import in another process, which is killed at a point of it."""
    arguments = (sys.executable, "-c", PROGRAM, url, point, str(times), verb, str(path))
    process = await asyncio.create_subprocess_exec(*arguments)
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


@pytest.mark.sampled(1)
async def test_what_is_killed_leaves_nothing_half_and_goes_on(
    sdk: Sdk, url: str, other: Sdk, other_url: str, tmp_path: Path
) -> None:
    await sdk.one_way.send("alice", ["bob"] * 1 + ["carol"], "x", require_handler=False)
    for number in range(10):
        await sdk.one_way.send("alice", "bob", number, require_handler=False)
    path = tmp_path / "a.gz"
    await killed(url, "after_export_page", 3, "export_store", path)
    assert not path.exists()
    await sdk.archive.export(path)
    await killed(other_url, "after_stage", 2, "import_store", path)
    assert await other.list_organizations() == []
    await killed(other_url, "before_import", 1, "import_store", path)
    assert await other.list_organizations() == []
    report = await other.archive.import_(path)
    assert report.resumed_rows == report.rows
    again = await other.archive.export(tmp_path / "b.gz")
    assert Path(again.path).read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("small_batches", "probes")
async def test_an_import_that_broke_off_goes_on_unless_another_one_began(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    paths = [tmp_path / "first.gz", tmp_path / "second.gz"]
    for path in paths:
        await sdk.one_way.send("alice", ["bob", "carol"], path.name, require_handler=False)
        await sdk.archive.export(path)

    def break_off() -> None:
        raise RuntimeError("broken off")

    async def begin() -> None:
        arm("after_stage", break_off)
        with pytest.raises(RuntimeError, match="broken off"):
            await other.archive.import_(paths[0])
        disarm()

    await begin()
    assert await other.list_agents() == []

    def other_one_begins() -> None:
        disarm()
        beginning.append(asyncio.ensure_future(other.store.archive.begin_import("another")))

    beginning: list[asyncio.Future[Any]] = []
    arm("after_stage", other_one_begins)
    with pytest.raises(StorageBusyError, match="Another process imports"):
        await other.archive.import_(paths[0])
    await beginning[0]
    await begin()
    assert (await other.archive.import_(paths[1])).resumed_rows == 0
    assert len(await other.list_agents()) == 3


async def test_an_export_has_what_was_there_when_it_began(sdk: Sdk, make_sdk: MakeSdk) -> None:
    await sdk.one_way.send("alice", "bob", "before", require_handler=False)
    writer = await make_sdk()
    async with sdk.store.archive.snapshot(None) as snapshot:
        agents = [row async for page in snapshot.read("agents") for row in page]
        await writer.one_way.send("alice", "bob", "meanwhile", require_handler=False)
        await writer.deregister_agent("carol")
        (message,) = await writer.receive("bob", timeout=0)
        await message.done()
        rows = {table: [row async for page in snapshot.read(table) for row in page] for table in TABLES}
    assert rows["agents"] == agents
    assert [row["content"] for row in rows["messages"]] == ['"before"']
    assert [row["state"] for row in rows["deliveries"]] == ["queued"]


@pytest.mark.sampled(1)
async def test_big_payloads_go_through_in_pieces(
    sdk: Sdk, other: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent_messaging.storage.postgres import archive as postgres
    from agent_messaging.storage.sqlite import archive as sqlite

    for module in (sqlite, postgres, moving):
        monkeypatch.setattr(module, "MAX_BYTES", 2**18)
    size = 2**20 - 20
    for _ in range(16):
        await sdk.one_way.send("alice", "bob", "x" * size, require_handler=False)
    tracemalloc.start()
    try:
        report = await sdk.archive.export(tmp_path / "a.gz")
        await other.archive.import_(tmp_path / "a.gz")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
    assert report.counts["messages"] == 16


async def test_an_organization_moves_without_the_runs_of_others(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    """What its agents asked each other within a run of another's message comes along, and the run does not."""
    await sdk.add_people("zed", organization="evil")

    @sdk.register_handler("bob")
    async def bob(message: Any, context: MessageContext) -> Any:
        return await sdk.conversation.send_and_wait("bob", "carol", message, timeout=SOON)

    @sdk.register_handler("carol")
    async def carol(message: Any, context: MessageContext) -> Any:
        return "carol's"

    assert await sdk.conversation.send_and_wait("zed", "bob", "q", timeout=SOON) == "carol's"
    assert await sdk.conversation.send_and_wait("alice", "bob", "q", timeout=SOON) == "carol's"
    await sdk.archive.export(tmp_path / "a.gz", organization="acme")
    await other.archive.import_(tmp_path / "a.gz")
    rows = await fetch(other, "select within is null from asks order by seq")
    assert [bool(row[0]) for row in rows] == [True, True, False]
    again = await other.archive.export(tmp_path / "b.gz", organization="acme")
    assert Path(again.path).read_bytes() == (tmp_path / "a.gz").read_bytes()


async def test_what_refers_to_a_damaged_message_comes_in_without_it(sdk: Sdk, other: Sdk, tmp_path: Path) -> None:
    await live(sdk)
    for answer in await fetch(sdk, "select m.id from messages m join asks a on a.answer_seq = m.seq"):
        await damage(sdk, str(answer[0]), "its checksum does not match")
    for said in await fetch(sdk, "select m.id from messages m where m.meeting_id is not null"):
        await damage(sdk, str(said[0]), "its checksum does not match")
    report = await sdk.archive.export(tmp_path / "a.gz")
    assert report.damaged
    await other.archive.import_(tmp_path / "a.gz")
    assert await other.store.check() == []
    again = await other.archive.export(tmp_path / "b.gz")
    assert Path(again.path).read_bytes() == (tmp_path / "a.gz").read_bytes()


async def test_what_came_in_is_pruned_though_all_before_it_is_younger(sdk: Sdk, memory: Sdk, tmp_path: Path) -> None:
    await memory.add_people("zoe", "yan", organization="old")
    for number in range(3):
        ended = await memory.one_way.send("zoe", "yan", number, require_handler=False)
        await memory.store.deliveries.withdraw(ended)
    pruned = [await prune_a_meeting(memory, "zoe", "yan"), await prune_a_meeting(sdk, "alice", "bob")]
    await memory.archive.export(tmp_path / "a.gz")
    later = datetime.now(UTC) + timedelta(hours=1)
    for number in range(4):
        await sdk.one_way.send("alice", "bob", number, require_handler=False)
    await sdk.archive.import_(tmp_path / "a.gz")
    number, after = 0, None
    while True:
        page = await sdk.store.retention.prune(Pruning(Prunable.MESSAGES, 3600.0), after=after, limit=2, now=later)
        number, after = number + page.number, page.next
        if after is None:
            break
    assert number == 3
    for meeting in pruned:  # the greater of the two marks holds
        with pytest.raises(MeetingNotFoundError, match="was pruned"):
            await sdk.meeting.get_meeting_history(meeting)


def forge(path: Path, change: Callable[[list[dict[str, Any]]], object], text: bytes = b"") -> None:
    """Change the rows of an archive, and let its manifest fit."""
    head, *lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)[:-1]
    rows = [json.loads(line) for line in lines]
    change(rows)
    lines = [head, *(json.dumps(row).encode() + b"\n" for row in rows), *([text] if text else [])]
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["table"]] = counts.get(row["table"], 0) + 1
    manifest = {"counts": counts, "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}
    path.write_bytes(gzip.compress(b"".join(lines) + json.dumps({"manifest": manifest}).encode() + b"\n"))


def put(table: str, **values: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Write these values into the rows of a table."""

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["table"] == table:
                row.update(values)

    return change


def keep_only(*tables: str) -> Callable[[list[dict[str, Any]]], None]:
    """Leave out the rows of all other tables."""

    def change(rows: list[dict[str, Any]]) -> None:
        rows[:] = [row for row in rows if row["table"] in tables]

    return change


FORGED: list[tuple[str, Callable[[list[dict[str, Any]]], object], bytes]] = [
    ("a row of messages belongs to none of its agents", keep_only("messages", "deliveries"), b""),
    ("a row of subscriptions belongs to none of its agents", keep_only("subscriptions"), b""),
    ("the state of its row of deliveries", put("deliveries", state="claimed"), b""),
    ("the state of its row of tasks", put("tasks", state="running"), b""),
    ("the content of its row of messages", put("messages", content='"never said"'), b""),
    ("the content of its row of messages", put("messages", content=7), b""),
    ("the queued_at of its row of tasks", put("tasks", queued_at="9999-12-31T23:59:59-12:00"), b""),
    ("the newest_pruned of its row of retention", put("retention", newest_pruned="zzz"), b""),
    ("the created_at of its row of tasks", put("tasks", created_at="0001-01-01T00:00:00+14:00"), b""),
    ("a table \\['messages'\\]", put("workers"), b'{"table":["messages"]}\n'),
    ("a line is no JSON", put("workers"), b'{"table":' + b"[" * 100_000 + b"\n"),
    ("longer than any row", put("workers"), b" " * 2_000_000),
]


async def test_a_forged_archive_is_refused(
    sdk: Sdk, other: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hash fits. Nothing of it comes in: nothing by agents of this store, nothing that nobody would ever end."""
    await prune_a_meeting(sdk, "alice", "bob")
    await live(sdk)
    whole = tmp_path / "whole.gz"
    await sdk.archive.export(whole)
    monkeypatch.setattr(files, "_LONGEST", 1_000_000)
    for number, (says, change, text) in enumerate(FORGED):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(whole.read_bytes())
        forge(path, change, text)
        with pytest.raises(ArchiveError, match=says):
            await other.archive.import_(path)
        assert await fetch(other, "select * from messages") == []
    forge(whole, put("workers"))
    await other.archive.import_(whole)
