"""Rows that lie, whoever wrote them: each stops nothing but itself, and a check of the store names it.

The table of (table, column, lie) is sampled with a seed that the test id shows (TESTS_SEED repeats it);
TESTS_ALL=1 runs all.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest
from click.testing import CliRunner

from agent_messaging import AgentMessagingError, MeetingEventType, MessageContext
from agent_messaging.cli.main import main
from agent_messaging.ids import uuid7
from agent_messaging.storage.ports import NewWait
from tests.client.meeting_support import Table, Watcher
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

SAMPLE = 8
"""Lies of each store that are told in one run, beside those that were found once."""
SEED = int(os.environ["TESTS_SEED"])
ALL = os.environ.get("TESTS_ALL") == "1"


@dataclass(frozen=True, slots=True)
class Lie:
    """One value of one row that the SDK did not write."""

    backend: str
    table: str
    column: str
    value: str
    """An SQL expression."""
    is_named: bool = True
    """A check can tell: a number that is merely another one is no lie that can be seen."""

    def __str__(self) -> str:
        return f"{self.backend}-{self.table}.{self.column}={self.value}"


WORDS = {
    "messages": ["kind", "message_type"],
    "deliveries": ["kind", "state"],
    "services": ["kind"],
    "sessions": ["session_type"],
    "asks": ["state"],
    "meetings": ["status", "selection"],
    "participants": ["status"],
    "turns": ["purpose", "how"],
    "meeting_events": ["type"],
    "processes": ["end_reason"],
}
IDS = {
    "messages": ["id", "sender_id", "recipient_id", "session_id", "meeting_id"],
    "deliveries": ["recipient_id", "sender_id", "origin", "owner"],
    "organizations": ["id"],
    "agents": ["id", "organization_id"],
    "services": ["agent_id"],
    "sessions": ["id", "ended_by"],
    "asks": ["session_id", "asker_id", "responder_id", "origin"],
    "waits": ["id", "process_id", "recipient_id"],
    "notices": ["recipient_id"],
    "meetings": ["id", "host_id"],
    "participants": ["id", "meeting_id", "agent_id", "process_id"],
    "turns": ["agent_id"],
    "meeting_events": ["agent_id", "meeting_id"],
    "processes": ["id", "boot_id", "lock_name"],
    "idempotency_keys": ["sender_id"],
    "subscriptions": ["agent_id"],
}
TEXTS = {
    "organizations": ["external_id", "name"],
    "agents": ["external_id", "name"],
    "messages": ["content", "metadata", "topic"],
    "subscriptions": ["pattern"],
    "asks": ["reason"],
    "meeting_events": ["data"],
    "idempotency_keys": ["call", "key", "fingerprint"],
    "processes": ["host"],
}
JSONS = {"deliveries": ["log"], "messages": ["content", "metadata"], "meeting_events": ["data"]}
INSTANTS = {
    "organizations": ["created_at"],
    "agents": ["created_at", "updated_at"],
    "messages": ["created_at"],
    "deliveries": ["run_at", "expires_at", "claimed_at", "settled_at", "read_at"],
    "sessions": ["created_at", "ended_at"],
    "asks": ["deadline_at", "ended_at"],
    "meetings": ["created_at", "started_at", "ended_at"],
    "participants": ["joined_at", "left_at"],
    "turns": ["started_at", "deadline_at", "ended_at"],
    "meeting_events": ["created_at"],
    "processes": ["started_at", "ended_at"],
    "idempotency_keys": ["created_at"],
    "subscriptions": ["created_at"],
}
DUES = {
    "deliveries": ["run_due", "expires_due", "claim_until_due", "queued_due"],
    "asks": ["deadline_due"],
    "waits": ["until_due"],
    "turns": ["deadline_due"],
    "processes": ["ended_due"],
    "notices": ["created_due"],
}
COUNTS = {
    "deliveries": ["token", "attempt", "max_attempts"],
    "services": ["slots"],
    "meetings": ["turn", "max_attempts"],
    "participants": ["join_order"],
    "turns": ["number"],
    "processes": ["pid"],
}
FOUND_ONCE = [
    ("messages", "content", "cast(x'22ff22' as text)"),
    ("deliveries", "kind", "'carrier pigeon'"),
    ("deliveries", "log", "'torn'"),
    ("services", "kind", "'carrier pigeon'"),
    ("deliveries", "token", "9223372036854775807"),
    ("meetings", "status", "'unknown'"),
]


def table_of_lies(backend: str) -> Iterator[Lie]:
    """Every lie that the types of the store admit."""

    def each(columns: dict[str, list[str]], *values: str, is_named: bool = True) -> Iterator[Lie]:
        for table, names in columns.items():
            for column in names:
                for value in values:
                    yield Lie(backend, table, column, value, is_named)

    yield from each(WORDS, "'unknown'", "''")
    if backend == "sqlite":
        yield from each(WORDS | IDS | TEXTS, "cast(x'c328' as text)")
        yield from each(TEXTS, "cast(x'ff' as text)")
        yield from (lie for lie in each(IDS, "'nobody'") if lie.column not in ("boot_id", "lock_name"))
        yield from each(JSONS, "'torn'", "'7'", "'[7]'")
        yield from each(INSTANTS, "9223372036854775807", "-9223372036854775807")
        yield from each(DUES, "9223372036854775807", "-9223372036854775807")
        yield from each(COUNTS, "9223372036854775807", "-9223372036854775807")
        yield from each({"deliveries": ["ask_timeout"], "meetings": ["turn_duration"]}, "9e999")
        for table, column in (("idempotency_keys", "message_ids"),):
            yield from each({table: [column]}, "'torn'", "'7'", "cast(x'ff' as text)")
    else:
        yield from each({"messages": ["content", "metadata"], "meeting_events": ["data"]}, "'torn'", "''")
        yield from each({"deliveries": ["log"]}, """'"text"'""", "'7'", "'[7]'", """'{"a":1}'""")
        yield from each(COUNTS, "2147483647", is_named=False)
        yield from each(COUNTS, "-2147483648")
        yield from each({"deliveries": ["ask_timeout"], "meetings": ["turn_duration"]}, "'NaN'", "'Infinity'")


def chosen() -> list[Lie]:
    """Those of this run."""
    everything = {backend: list(table_of_lies(backend)) for backend in ("sqlite", "postgres")}
    if ALL:
        return [lie for lies in everything.values() for lie in lies]
    dice = random.Random(SEED)
    found = []
    for backend, lies in everything.items():
        known = [Lie(backend, *one) for one in FOUND_ONCE]
        admitted = known if backend == "sqlite" else [one for one in known if one.value.startswith("'")]
        admitted = [one for one in admitted if backend == "sqlite" or one.column != "log"]
        found += [*admitted, *dice.sample(lies, SAMPLE)]
    return found


@pytest.fixture
def backend(lie: Lie) -> str:
    return lie.backend


def place(backend: str, table: str, column: str) -> tuple[str, str]:
    """Where a store keeps it: on SQLite an ask is part of its delivery."""
    if (backend, table) != ("sqlite", "asks"):
        return table, column
    shared = {"asker_id": "sender_id", "responder_id": "recipient_id", "session_id": "session_id"}
    return "deliveries", shared.get(column, f"ask_{column}")


async def tell(url: str, lie: Lie, row: str) -> int:
    """Write the lie past all checks, by a connection of its own; answers how many rows bear it."""
    change = f"{lie.table} set {lie.column} = {lie.value} where {row}"
    if lie.backend == "sqlite":
        table, column = place("sqlite", lie.table, lie.column)
        if table != lie.table:
            change = f"{table} set {column} = {lie.value} where seq in (select seq from {lie.table} where {row})"
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        try:
            connection.set_busy_timeout(10_000)
            connection.pragma("ignore_check_constraints", 1)
            connection.pragma("foreign_keys", 0)
            if lie.table == "notices":
                connection.execute(
                    "insert or ignore into notices select seq, recipient_id, queued_due from deliveries "
                    "where state = 'queued' limit 1"
                )
            connection.execute(f"update or ignore {change}")
            return int(connection.changes())
        finally:
            connection.close()
    server = await asyncpg.connect(url)
    try:
        await server.execute("set session_replication_role = replica")  # no foreign keys
        constraints = await server.fetch(
            "select conname from pg_constraint where conrelid = $1::regclass and contype = 'c'", lie.table
        )
        for (name,) in constraints:
            await server.execute(f'alter table {lie.table} drop constraint "{name}"')
        of_domain = await server.fetch(
            "select t.oid::regtype::text, c.conname from pg_attribute a join pg_type t on t.oid = a.atttypid "
            "join pg_constraint c on c.contypid = t.oid "
            "where a.attrelid = $1::regclass and a.attname = $2 and c.contype = 'c'",
            lie.table,
            lie.column,
        )
        for domain, name in of_domain:
            await server.execute(f'alter domain {domain} drop constraint "{name}"')
        if lie.table == "services":
            change = change.replace(row, f"ctid = (select ctid from services where {row} limit 1)")
        return int((await server.execute(f"update {change}")).rpartition(" ")[2])
    finally:
        await server.close()


class Town:
    """Alice, bob and erin, of whose rows one will lie, and carol and dave, whom that must not concern."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk

    async def settle_down(self) -> None:
        """Leave a row of everything in the store."""
        sdk = self.sdk
        await sdk.add_people("alice", "bob", "erin")
        await sdk.add_people("carol", "dave", organization="other")
        for name in ("alice", "bob", "carol", "dave"):
            sdk.register_handler(name)(answer)
        [done] = await sdk.one_way.send("alice", "bob", "done", {"a": 1}, idempotency_key="k")
        await sdk.wait([done])
        await sdk.topics.subscribe("bob", "a.>")
        await sdk.topics.subscribe("dave", "a.b")
        await sdk.wait(await sdk.topics.publish("alice", "a.b", "published"))
        later = datetime.now(UTC) + timedelta(hours=1)
        await sdk.one_way.send("alice", "bob", "later", deliver_at=later, expires_in=7200)
        self.waiting = await sdk.one_way.send("alice", "erin", "waiting", {"a": 1}, require_handler=False)
        self.said = await sdk.conversation.send_no_wait("alice", "erin", "read me")
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "re ?"
        self.meeting = await Table.open(sdk, "bob", host="alice", turn_duration=1.0)
        await self.meeting.speak("alice", "hear me")
        (self.session, *_) = await sdk.conversation.get_active_sessions("alice")
        self.ids = {agent.external_id: str(agent.id) for agent in await sdk.list_agents()}
        wait = NewWait(uuid7(), self.ids["alice"], self.ids["bob"], 3600, None)
        assert await sdk.store.sessions.register_wait(wait, owner=sdk.store.presence.process_id)

    def victims(self, lie: Lie) -> str:
        """Which rows lie: of alice's, bob's and erin's. One, where two could not have the same value."""
        alice, bob = f"'{self.ids['alice']}'", f"'{self.ids['bob']}'"
        one = f"id = '{self.waiting[0]}'" if lie.column == "id" else f"sender_id = {alice} and kind <> 'turn'"
        return {
            "organizations": "external_id = 'acme'",
            "agents": "external_id = 'bob'",
            "messages": one,
            "deliveries": f"sender_id = {alice} and kind <> 'turn'",
            "idempotency_keys": f"sender_id = {alice}",
            "processes": "ended_at is not null",
            "services": f"agent_id = {bob}",
            "sessions": f"id = '{self.session.session_id}'",
            "asks": f"asker_id = {alice}",
            "waits": f"recipient_id = {alice}",
            "notices": "true",
            "subscriptions": f"agent_id = {bob}",
            "meetings": f"host_id = {alice}",
            "participants": f"agent_id = {bob}",
            "turns": f"agent_id = {bob}",
            "meeting_events": "type = 'message_posted'",
        }[lie.table]

    def reading(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """What looks at the rows that lie."""
        sdk, id = self.sdk, self.meeting.id
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "receive": lambda: sdk.receive("erin", timeout=0.0),
            "receipt": lambda: sdk.receipts.get(self.waiting[0]),
            "dead letters": sdk.dead_letters.list,
            "organizations": sdk.list_organizations,
            "agents": sdk.list_agents,
            "agent": lambda: sdk.get_agent("bob"),
            "sent": lambda: sdk.one_way.get_sent_messages("alice"),
            "received": lambda: sdk.one_way.get_received_messages("bob"),
            "peek": lambda: sdk.conversation.get_unread_messages("erin", peek=True),
            "unread": lambda: sdk.conversation.get_unread_messages("erin"),
            "awaited": lambda: sdk.conversation.wait_for_message("erin", "alice", 0),
            "sessions": lambda: sdk.conversation.get_active_sessions("alice"),
            "session": lambda: sdk.conversation.get_session_info(self.session.session_id),
            "conversation": lambda: sdk.conversation.get_conversation_history(self.session.session_id),
            "session statistics": lambda: sdk.conversation.get_session_statistics("alice"),
            "meetings": lambda: sdk.meeting.list_meetings("alice"),
            "meeting": lambda: sdk.meeting.get_meeting_status(id),
            "details": lambda: sdk.meeting.get_meeting_details(id),
            "history": lambda: sdk.meeting.get_meeting_history(id),
            "timeline": lambda: sdk.meeting.get_meeting_timeline(id),
            "turns": lambda: sdk.meeting.get_turn_statistics(id),
            "participants": lambda: sdk.meeting.get_participation_analysis(id),
            "turn": lambda: sdk.meeting.wait_for_turn("bob", id, 0),
            "speech": lambda: sdk.meeting.speak("bob", id, "now me"),
            "repeat": lambda: sdk.one_way.send("alice", "bob", "done", {"a": 1}, idempotency_key="k"),
            "note": lambda: sdk.one_way.send("alice", "bob", "new", require_handler=False),
            "subscriptions": sdk.topics.list,
            "publication": lambda: sdk.topics.publish("alice", "a.b", "new"),
            "served": lambda: sdk.wait_until_served("bob", timeout=0.0),
            "seats": lambda: sdk.meeting.get_participants(id),
            "the participant": lambda: sdk.meeting.get_participant_history(id),
        }
        return calls


async def answer(message: Any, context: MessageContext) -> Any:
    return f"re {message}" if context.requires_reply else None


async def everything_goes_on(sdk: Sdk) -> None:
    """Carol and dave notice nothing: notes, asks, time and turns."""
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    sent = [
        *await sdk.one_way.send("carol", "dave", "note"),
        *await sdk.one_way.send("carol", "dave", "soon", deliver_at=soon),
    ]
    assert await sdk.conversation.send_and_wait("dave", "carol", "ask", timeout=SOON) == "re ask"
    assert [receipt.state.value for receipt in await sdk.wait(sent)] == ["done", "done"]
    watcher = Watcher().watch(sdk, MeetingEventType.TIMEOUT_OCCURRED)
    table = await Table.open(sdk, "dave", host="carol", turn_duration=0.2)
    turn = await table.wait("dave")
    assert turn.number is not None
    assert turn.number % 2 == 0
    await table.end()
    await eventually(lambda: any(event.meeting_id == table.id for event in watcher.events))


LIES = chosen()


@pytest.mark.sampled(8)
@pytest.mark.parametrize("lie", LIES, ids=[f"{lie}-seed{SEED}" for lie in LIES])
async def test_a_row_that_lies_stops_nothing_but_itself(make_sdk: MakeSdk, url: str, lie: Lie) -> None:
    past = await make_sdk()
    await past.close()  # a process that has ended
    sdk = await make_sdk()
    town = Town(sdk)
    await town.settle_down()
    if not await tell(url, lie, town.victims(lie)):
        pytest.skip("no such row here")
    findings = await sdk.store.check()
    named = [one for one in findings if any(word in one for word in (f" {lie.table} ", "message ", "event "))]
    assert named or not lie.is_named, findings
    doctor = await asyncio.to_thread(CliRunner().invoke, main, ["--url", url, "doctor", "--deep"])
    assert isinstance(doctor.exception, SystemExit | None), doctor.exc_info
    if lie.is_named and lie.table != "processes":  # those are removed by whoever starts next
        assert doctor.exit_code == 1
        said = "".join(doctor.output.split())  # its lines are wrapped
        assert any("".join(one[:60].split()) in said for one in findings), findings

    sdk.register_handler("erin")(answer)  # what waits for erin is claimed now
    await everything_goes_on(sdk)
    await sdk.topics.publish("carol", "a.b", "to whoever is there")
    assert "to whoever is there" in [one.content for one in await sdk.one_way.get_received_messages("dave")]
    async with await make_sdk() as another:
        for name in ("carol", "dave"):
            another.register_handler(name)(answer)
        await everything_goes_on(another)

    for name, call in town.reading().items():
        try:
            await asyncio.wait_for(call(), SOON)
        except AgentMessagingError:
            continue
        except Exception as error:
            raise AssertionError(f"{name} raised what is not the SDK's") from error
    await sdk.store.check()
    if lie.table in ("meetings", "participants", "turns"):
        assert await sdk.deregister_agent("bob")
    await asyncio.wait_for(sdk.close(), SOON)


OF_THE_LIVING = [
    Lie("sqlite", "processes", "doorbell_port", "70000"),
    Lie("sqlite", "processes", "doorbell_port", "-1"),
    Lie("sqlite", "processes", "lock_name", "'a' || char(0)"),
    Lie("sqlite", "processes", "lock_name", "replace(hex(zeroblob(300)), '00', 'x')"),
    Lie("sqlite", "processes", "lock_name", "'../precious'"),
    Lie("sqlite", "store_clock", "offset_us", "9223372036854775807"),
    Lie("sqlite", "store_clock", "offset_us", "-9223372036854775807"),
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("lie", OF_THE_LIVING, ids=str)
async def test_what_is_stored_of_living_processes_is_not_believed_blindly(
    make_sdk: MakeSdk, url: str, lie: Lie, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("a file of somebody else's")
    past = await make_sdk()
    await past.close()
    sdk, another = await make_sdk(), await make_sdk()
    await sdk.add_people("carol", "dave")
    for one in (sdk, another):
        for name in ("carol", "dave"):
            one.register_handler(name)(answer)
    await everything_goes_on(sdk)
    assert await tell(url, lie, "true")
    if lie.table == "processes":
        assert any(f"its {lie.column} is not" in finding for finding in await sdk.store.check())
    await everything_goes_on(sdk)
    await everything_goes_on(another)
    async with await make_sdk() as third:
        third.register_handler("carol")(answer)
        third.register_handler("dave")(answer)
        await everything_goes_on(third)
        await everything_goes_on(sdk)
    assert precious.exists()


@pytest.mark.parametrize("lie", [Lie("sqlite", "", "", ""), Lie("postgres", "", "", "")], ids=lambda lie: lie.backend)
async def test_the_tables_refuse_what_no_reader_could_read(make_sdk: MakeSdk, url: str, lie: Lie) -> None:
    """Another type on SQLite; on PostgreSQL an instant that no calendar has, at which the driver fails for all rows."""
    sdk = await make_sdk()
    town = Town(sdk)
    await town.settle_down()
    refused = 0
    if lie.backend == "sqlite":
        for table, column in [*pairs(TEXTS), *pairs(WORDS), *pairs(IDS), *pairs(DUES), *pairs(COUNTS)]:
            if table == "notices":  # told of at once: there are none
                continue
            value = "'text'" if (table, column) in {*pairs(DUES), *pairs(COUNTS)} else "x'ff'"
            with pytest.raises(
                apsw.ConstraintError, match="cannot store .* {}.{}".format(*place("sqlite", table, column))
            ):
                await tell(url, Lie("sqlite", table, column, value), "true")
            refused += 1
    else:
        server = await asyncpg.connect(url)
        try:
            for table, column in pairs(INSTANTS):
                for value in ("infinity", "-infinity", "20000-01-01", "0044-03-15 BC"):
                    with pytest.raises(asyncpg.CheckViolationError):
                        await server.execute(f"update {table} set {column} = '{value}'")
                    refused += 1
        finally:
            await server.close()
    assert refused > 40
    await everything_goes_on(sdk)


def pairs(columns: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(table, column) for table, names in columns.items() for column in names]
