"""The state machines that docs/state-machines.md draws are those of the store: triggers tell of each move that is made.

Both stores pass the same tests of what moves a row, so one of them stands for both here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from agent_messaging import MessageContext
from agent_messaging.storage.ports import Answering, Settling
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.client.meeting_support import Table
from tests.client.support import SOON, Sdk, make_config
from tests.conformance.coordination import TTL, Crew
from tests.conformance.world import World
from tests.support import load_script

Moves = set[tuple[str, str, str]]

COLUMNS = {
    "delivery": ("deliveries", "state"),
    "ask": ("deliveries", "ask_state"),
    "meeting": ("meetings", "status"),
    "turn": ("turns", "how"),
    "task": ("tasks", "state"),
}
"""Where each noun keeps its state. That of a session follows from its asks and its end."""


DRAWING = load_script("draw_states")
DRAWN: Moves = {(machine.name, *pair) for machine in DRAWING.MACHINES for pair in machine.pairs}


async def watch(store: Any) -> Callable[[], Any]:
    """Let triggers record every move; what is returned reads them."""
    script = "create table moves (noun text, source text, target text, unique (noun, source, target));"
    for noun, (table, column) in COLUMNS.items():
        begin, before = (f"coalesce({row}.{column}, '{DRAWING.CURRENT}')" for row in ("new", "old"))
        # A delivery that is no ask has no state of one, and loses it where the ask is passed on.
        has_one = f"when new.{column} is not null" if noun == "ask" else ""
        script += f"""
            create trigger begins_{noun} after insert on {table} {has_one} begin
              insert or ignore into moves values ('{noun}', '{DRAWING.START}', {begin});
            end;
            create trigger moves_{noun} after update of {column} on {table}
            when old.{column} is not new.{column} and new.{column} is not null begin
              insert or ignore into moves values ('{noun}', {before}, new.{column});
            end;"""
    await store.engine.write(lambda con: con.execute(script))

    async def read() -> Moves:
        rows: list[tuple[str, str, str]] = await store.engine.write(
            lambda con: con.execute("select * from moves").fetchall()
        )
        return set(rows)

    return read


def compare(made: Moves, *nouns: str) -> None:
    """All that was made is drawn, and all that is drawn was made."""
    drawn = {move for move in DRAWN if move[0] in nouns}
    assert made - drawn == set(), "moves that no drawing has"
    assert drawn - made == set(), "moves that are drawn, and that this test does not make"


@pytest.fixture
async def sdk() -> Any:
    async with Sdk(make_config("sqlite://:memory:", max_attempts=1)) as started:
        await started.add_people("alice", "bob", "carol", "dave", "erin")
        yield started


async def test_deliveries_and_asks_move_as_they_are_drawn(sdk: Sdk, world: World) -> None:
    read = await watch(sdk.store)
    started, holding = asyncio.Event(), asyncio.Event()

    @sdk.register_handler("bob", on_abandoned="cancel")
    async def bob(message: str, context: MessageContext) -> str | None:
        if message == "fail":
            raise ValueError(message)
        if message == "hold":
            started.set()
            await holding.wait()
        return None if message == "silence" else "fine"

    # Handled, answered, failed for good, and handled again.
    assert await sdk.conversation.send_and_wait("alice", "bob", "well?", timeout=SOON) == "fine"
    await sdk.wait(await sdk.one_way.send("alice", "bob", "a note"))
    failed = await sdk.one_way.send("alice", "bob", "fail")
    assert [one.state for one in await sdk.wait(failed)] == ["dead"]
    assert await sdk.dead_letters.redrive(failed) == 1
    await sdk.wait(failed)
    with pytest.raises(Exception, match="fail"):
        await sdk.conversation.send_and_wait("alice", "bob", "fail", timeout=SOON)
    # Out of time, ended by hand, and given up while its run is at work.
    with pytest.raises(TimeoutError):
        await sdk.conversation.send_and_wait("alice", "bob", "silence", timeout=0.1)
    asking = asyncio.ensure_future(sdk.conversation.send_and_wait("alice", "bob", "hold", timeout=SOON, thread="held"))
    await started.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    asking = asyncio.ensure_future(
        sdk.conversation.send_and_wait("alice", "carol", "ended?", timeout=SOON, require_handler=False)
    )
    assert await sdk.conversation.wait_for_message("carol", "alice", timeout=SOON) == "ended?"
    await sdk.conversation.end_conversation("carol", "alice")
    with pytest.raises(Exception, match="ended"):
        await asking
    # Pulled, given back, rejected, withdrawn, expired.
    await sdk.one_way.send("alice", "dave", "a job", require_handler=False)
    [job] = await sdk.receive("dave", timeout=SOON)
    await job.retry(after=0)
    later = await sdk.one_way.send("alice", "dave", "later", require_handler=False)
    assert await sdk.receipts.withdraw(later) == later
    late = await sdk.one_way.send("alice", "dave", "late", expires_in=0.05, require_handler=False)
    assert [one.state for one in await sdk.wait(late)] == ["expired"]
    # Read, given back, and found damaged.
    await sdk.conversation.send_no_wait("alice", "erin", "read me")
    erin = (await sdk.get_agent("erin")).id
    [row] = (await sdk.store.sessions.read_messages(str(erin), limit=10)).messages
    await sdk.store.sessions.return_messages([row])
    await sdk.store.engine.write(  # type: ignore[attr-defined]
        lambda con: con.execute("update messages set content = '\"damaged\"' where id = ?", (row.message_id,))
    )
    assert await sdk.conversation.get_unread_messages("erin") == []
    # A turn that ends while its handler runs.
    seated = asyncio.Event()

    @sdk.register_meeting_handler("erin")
    async def in_the_meeting(message: Any, context: MessageContext) -> None:
        seated.set()
        await holding.wait()

    table = await Table.open(sdk, "erin")
    await table.speak("alice")
    await asyncio.wait_for(seated.wait(), SOON)
    await sdk.meeting.skip_turn("alice", table.id)
    await table.end()
    holding.set()
    made: Moves = await read()
    # In one commit, as calls are stored that come at once: an ask, and another one that answers it.
    read = await watch(world.store)
    await world.ask()
    answering = [
        world.question(world.bob, world.alice, answers=Answering.REQUIRED),
        world.question(world.alice, world.bob, answers=Answering.IF_TAKEN),
    ]
    await world.append(*answering)
    made |= await read()
    compare({move for move in made if move[0] in ("delivery", "ask")}, "delivery", "ask")


async def test_meetings_and_their_turns_move_as_they_are_drawn(sdk: Sdk) -> None:
    read = await watch(sdk.store)
    # Each way of ending a meeting, and of not being ready for it.
    created = await Table.invite(sdk, "bob")
    await created.end()
    alone = await Table.invite(sdk)
    await alone.end()
    table = await Table.gather(sdk, "bob", "carol")
    await sdk.meeting.update_participant_status(table.id, "bob", "invited")
    await sdk.meeting.attend_meeting("bob", table.id)
    await sdk.meeting.start_meeting("alice", table.id)
    # Each way of ending a turn.
    await table.speak("alice")
    await sdk.meeting.pass_turn("bob", table.id)
    await sdk.meeting.skip_turn("alice", table.id)
    await table.speak("alice")
    await sdk.meeting.leave_meeting("bob", table.id)
    await table.end()
    timed = await Table.open(sdk, "bob", turn_duration=0.05)
    assert (await timed.wait("bob")).number == 2
    await timed.end()
    opened = await Table.gather(sdk, "bob")
    await sdk.meeting.start_meeting("alice", opened.id, "welcome")
    await opened.end()
    compare({move for move in await read() if move[0] in ("meeting", "turn")}, "meeting", "turn")


async def test_sessions_move_as_they_are_drawn(sdk: Sdk) -> None:
    made: Moves = set()

    async def look(thread: str, before: str) -> str:
        sessions = await sdk.conversation.list_sessions("alice", thread=thread)
        status = sessions[0].status.value
        if status != before:
            made.add(("session", before, status))
        return str(status)

    async def ask(thread: str) -> asyncio.Task[Any]:
        asking = asyncio.ensure_future(
            sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON, thread=thread, require_handler=False)
        )
        await sdk.conversation.wait_for_message("bob", "alice", timeout=SOON, thread=thread)
        return asking

    await sdk.conversation.send_no_wait("alice", "bob", "hello", thread="plain")
    await sdk.conversation.get_unread_messages("bob", thread="plain")
    state = await look("plain", DRAWING.START)
    asking = await ask("plain")
    state = await look("plain", state)
    await sdk.conversation.reply("bob", "alice", "!", thread="plain")
    await asking
    state = await look("plain", state)
    await sdk.conversation.end_conversation("alice", "bob", thread="plain")
    await look("plain", state)
    asking = await ask("asked")
    state = await look("asked", DRAWING.START)
    await sdk.conversation.end_conversation("bob", "alice", thread="asked")
    await look("asked", state)
    await asyncio.gather(asking, return_exceptions=True)
    compare(made, "session")


async def test_tasks_move_as_they_are_drawn(open_store: Callable[..., Any]) -> None:
    store: SQLiteStore = await open_store()
    read = await watch(store)
    crew = Crew(store)
    await crew.hire("w", capacity=20)
    hasty = {"max_attempts": 1}
    # Pulled: done, failed and queued again, given back, cancelled, out of time.
    await crew.submit("a", crew.task("b", **hasty), "c", "d", crew.task("e", expires_in=5.0))
    claims = {one.claim.task_id: one.claim for one in await crew.take()}
    assert await crew.end(claims["a"])
    assert await crew.end(claims["b"], Settling.DEAD)
    await store.tasks.redrive(["b"], now=crew.start)
    assert await crew.end(claims["c"], Settling.RETURNED)
    await store.tasks.cancel(["d", "b"], "not wanted", now=crew.start)
    await crew.submit(crew.task("f", expires_in=5.0))
    # Booked: begun, done, failed, cancelled, out of time, given back and booked again.
    await crew.assign("k", "l", "m", "n", crew.task("o", expires_in=5.0), "p")
    assert await crew.end(await crew.booking("k"))
    assert await crew.end((await crew.booking("l")), Settling.DEAD)
    await store.tasks.cancel(["m"], "not wanted", now=crew.start)
    assert await crew.end((await crew.booking("n")), Settling.RETURNED)
    await store.tasks.assign_waiting(10, now=crew.start)
    await store.tasks.advance(now=crew.at(6))
    assert [one.claim.task_id for one in await crew.take(at=7)].count("p") == 1
    await store.tasks.advance(now=crew.at(TTL + 10))
    compare(await read(), "task")
