"""Observers and the log are told of everything that happens here, and can neither stop nor slow it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pytest

from agent_messaging import (
    AgentNotFoundError,
    Fact,
    FactSubject,
    FactType,
    HandlerError,
    InvalidArgumentError,
    MailboxFullError,
    MessageContext,
    Observer,
    PayloadError,
    TaskContext,
    TaskFailedError,
    sync,
)
from agent_messaging.observing import carrying
from tests.client.meeting_support import Table
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk, make_config
from tests.support import eventually


class Witness(Observer):
    """Keeps all facts."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def happened(self, fact: Fact) -> None:
        self.facts.append(fact)

    def of(self, id: str) -> list[Fact]:
        """Those of a message, a task or a meeting."""
        return [fact for fact in self.facts if id in (fact.message_id, fact.task_id)]

    def story(self, id: str) -> list[str]:
        """What happened to it, in order."""
        return [fact.type + (f":{fact.how}" if fact.how else "") for fact in self.of(id)]

    async def wait(self, id: str, *types: FactType) -> None:
        """Wait until the last of these was told of it."""
        await eventually(lambda: {fact.type for fact in self.of(id)} >= set(types), SOON)


@pytest.fixture
def witness(sdk: Sdk) -> Witness:
    return sdk.observers.add(Witness())


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_a_note_is_stored_claimed_handled_and_settled(sdk: Sdk, witness: Witness) -> None:
    async def handle(message: Any, context: MessageContext) -> None:
        if context.attempt == 1 and message == "again":
            raise ValueError("the printer is on fire")

    sdk.register_handler("bob")(handle)
    [good] = await sdk.one_way.send("alice", "bob", "once")
    [again] = await sdk.one_way.send("alice", "bob", "again")
    await sdk.wait([good, again])
    await witness.wait(again, FactType.SETTLED)
    assert witness.story(good) == ["stored", "claimed", "handled:done", "settled:done"]
    told = witness.story(again)
    assert [one for one in told if one.startswith("handled")] == ["handled:retry", "handled:done"]
    assert told[-1] == "settled:done"
    for fact in witness.of(again):
        assert (fact.subject, fact.kind, fact.sender, fact.recipient) == (
            FactSubject.MESSAGE,
            "one_way",
            "alice",
            "bob",
        )
    failed, ended = [fact for fact in witness.of(again) if fact.type is FactType.HANDLED]
    assert failed.reason == "ValueError: the printer is on fire"
    assert failed.seconds is not None
    assert failed.seconds >= 0
    assert (failed.attempt, ended.attempt) == (1, 2)
    assert failed.claim != ended.claim
    claims = Counter(fact.claim for fact in witness.of(good) if fact.type is not FactType.STORED)
    assert list(claims.values()) == [3]


async def test_an_ask_its_answer_and_one_that_fails(sdk: Sdk, witness: Witness) -> None:
    async def answer(message: Any, context: MessageContext) -> str:
        if message == "fail":
            raise ValueError("no")
        return "yes"

    sdk.register_handler("bob")(answer)
    assert await sdk.conversation.send_and_wait("alice", "bob", "ask") == "yes"
    with pytest.raises(HandlerError):
        await sdk.conversation.send_and_wait("alice", "bob", "fail")
    asks = [fact.message_id for fact in witness.facts if fact.type is FactType.STORED and fact.how is None]
    good, bad = (id for id in asks if id is not None)
    await witness.wait(bad, FactType.ENDED, FactType.DEAD)
    assert witness.story(good) == ["stored", "claimed", "handled:done", "settled:done", "ended:replied"]
    assert witness.story(bad) == ["stored", "claimed", "handled:dead", "dead:dead", "ended:failed"]
    assert {fact.subject for fact in witness.of(good)} == {FactSubject.ASK}
    [answered] = [fact for fact in witness.facts if fact.how == "answer"]
    assert (answered.type, answered.sender, answered.recipient) == (FactType.STORED, "bob", "alice")
    assert answered.session_id == witness.of(good)[0].session_id is not None


async def test_what_is_refused_repeated_withdrawn_pulled_read_and_redriven(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=2, require_handler=False, max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    witness = sdk.observers.add(Witness())
    [first] = await sdk.one_way.send("alice", "bob", 1, idempotency_key="k")
    assert await sdk.one_way.send("alice", "bob", 1, idempotency_key="k") == [first]
    [second] = await sdk.one_way.send("alice", "bob", 2)
    with pytest.raises(MailboxFullError):
        await sdk.one_way.send("alice", "bob", 3)
    refused = witness.facts[-1]
    assert (refused.type, refused.reason) == (FactType.REFUSED, "mailbox_full")
    assert await sdk.receipts.withdraw(second) == [second]
    [pulled] = await sdk.receive("bob")
    await pulled.reject("no")
    assert await sdk.dead_letters.redrive(first) == 1
    assert witness.story(first) == ["stored", "repeated", "claimed:pulled", "dead:dead", "redriven"]
    assert witness.story(second) == ["stored", "withdrawn"]
    said = await sdk.conversation.send_no_wait("alice", "carol", "hi")
    assert len(await sdk.conversation.get_unread_messages("carol")) == 1
    assert witness.story(str(said)) == ["stored", "read"]


async def test_a_publication_an_ask_that_is_passed_on_and_a_conversation_that_is_ended(
    sdk: Sdk, witness: Witness
) -> None:
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, "news.*")
    sent = await sdk.topics.publish("alice", "news.today", "extra")
    assert {fact.message_id for fact in witness.facts if fact.topic == "news.today"} == {*map(str, sent)}
    assert await sdk.topics.publish("alice", "other", 1) == []
    assert (witness.facts[-1].type, witness.facts[-1].count) == (FactType.STORED, 0)
    for told in (FactType.STORED, FactType.REPEATED):
        assert await sdk.topics.publish("alice", "other", 1, idempotency_key="k") == []
        assert (witness.facts[-1].type, witness.facts[-1].count) == (told, 0)

    @sdk.register_handler("bob")
    async def pass_on(message: Any, context: MessageContext) -> None:
        if context.requires_reply:
            await context.forward("carol")

    @sdk.register_handler("carol")
    async def answer(message: Any, context: MessageContext) -> str | None:
        return "from carol" if context.requires_reply else None

    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "from carol"
    [passed] = [fact for fact in witness.facts if fact.type is FactType.FORWARDED]
    assert (passed.sender, passed.recipient) == ("bob", "carol")
    assert passed.message_id is not None
    story = ["stored", "claimed", "forwarded", "handled", "claimed", "handled:done", "settled:done", "ended:replied"]
    seen = [one for one in witness.story(passed.message_id) if one in story]
    seen[3:5] = sorted(seen[3:5], reverse=True)  # bob's run ends while carol's is begun
    assert seen == story, "the id goes along"
    claims = [fact.claim for fact in witness.facts if fact.recipient == "bob" and fact.subject is FactSubject.ASK]
    assert [len(list(same)) for _, same in groupby(filter(None, claims))] == [2], "one run, claimed and handled"
    await sdk.conversation.end_conversation("alice", "carol")
    [ended] = [fact for fact in witness.facts if fact.subject is FactSubject.CONVERSATION]
    assert ended.type is FactType.ENDED


async def test_what_expires_and_what_a_dead_process_had(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    witness = sdk.observers.add(Witness())
    [late] = await sdk.one_way.send("alice", "carol", "late", expires_in=0.01, require_handler=False)
    await witness.wait(late, FactType.EXPIRED)
    assert witness.story(late) == ["stored", "expired"]
    other = await make_sdk()
    process_id = other.store.presence.process_id
    await sdk._started().timekeeper._take_over([process_id])
    assert [fact.type for fact in witness.facts if fact.process_id == process_id] == [FactType.TAKEN_OVER]


async def test_the_turns_of_a_meeting(sdk: Sdk, witness: Witness) -> None:
    sdk.register_meeting_handler("bob")(lambda message, context: "from bob")
    sdk.observers.add(Carrier())
    table = await Table.gather(sdk, "bob")
    with pytest.raises(AgentNotFoundError):
        await sdk.meeting.create_meeting("alice", ["bob", "nobody"])
    await sdk.meeting.start_meeting("alice", table.id)
    await table.speak("alice", "hello")
    await table.wait("alice")
    await table.end()
    turns = [fact for fact in witness.facts if fact.type is FactType.TURN_CHANGED]
    assert [(fact.turn, fact.recipient, fact.how) for fact in turns] == [
        (1, "alice", "start"),
        (2, "bob", "speak"),
        (3, "alice", "speak"),
    ]
    assert {fact.meeting_id for fact in turns} == {str(table.id)}
    invited = [fact for fact in witness.facts if fact.type is FactType.STORED and fact.kind == "invitation"]
    assert [(fact.sender, fact.recipient, fact.meeting_id) for fact in invited] == [("alice", "bob", str(table.id))]
    assert await sdk.state(invited[0].message_id or "") == "withdrawn", "bob attends by a call of his own"
    assert invited[0].traceparent == f"00-{0:032x}-0000000000000001-01", "what was given along first"
    refused = [fact for fact in witness.facts if fact.type is FactType.REFUSED]
    assert [(fact.kind, fact.count, fact.reason) for fact in refused] == [("invitation", 2, "agent_not_found")]
    stored = [fact for fact in witness.facts if fact.type is FactType.STORED and fact.kind == "meeting"]
    assert [fact.sender for fact in stored] == ["alice", "bob"]
    run = [fact.type for fact in witness.facts if fact.kind == "turn" and fact.recipient == "bob"]
    assert run == [FactType.CLAIMED, FactType.HANDLED]
    assert witness.facts[-1].type is FactType.ENDED
    assert witness.facts[-1].subject is FactSubject.MEETING


class TestTasks:
    """Wherever they are kept."""

    @pytest.fixture(params=["sqlite", "postgres", "redis"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    async def test_a_task_is_told_of_and_carries_what_observers_give_along(self, sdk: Sdk, witness: Witness) -> None:
        carrier = sdk.observers.add(Carrier())

        @sdk.register_task_handler("w", capabilities=["work"], give_up_on=LookupError)
        async def work(item: Any, context: TaskContext) -> str:
            if item == "bad":
                raise LookupError("no paper")
            return "done"

        await sdk.tasks.delegate("work", "good", task_id="good", supervisor="s", wait=True, timeout=SOON)
        with pytest.raises(TaskFailedError):
            await sdk.tasks.delegate("work", "bad", task_id="bad", wait=True, timeout=SOON)
        await sdk.tasks.delegate("other", 1, task_id="waits")
        await sdk.tasks.cancel("waits")
        await witness.wait("bad", FactType.DEAD)
        assert witness.story("good") == ["stored", "claimed", "handled:done", "settled:done"]
        assert witness.story("bad") == ["stored", "claimed", "handled:dead", "dead:dead"]
        assert witness.story("waits") == ["stored", "withdrawn"]
        claimed = witness.of("good")[1]
        assert (claimed.subject, claimed.kind, claimed.sender, claimed.recipient) == ("task", "work", "s", "w")
        assert claimed.traceparent == carrier.sent["good"]
        assert carrier.came["good"] == {"traceparent": carrier.sent["good"], "tracestate": "a=1"}


# --- what travels with a message --------------------------------------------------------------------------------------


class Carrier(Observer):
    """Gives something along, and notes what comes."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.came: dict[str, Mapping[str, str]] = {}

    def sending(self, fact: Fact) -> Mapping[str, str] | None:
        id = fact.task_id or fact.message_id or ""
        self.sent[id] = f"00-{len(self.sent):032x}-0000000000000001-01"
        return {"traceparent": self.sent[id], "tracestate": "a=1"}

    def handling(self, fact: Fact, carried: Mapping[str, str]) -> None:
        self.came[fact.task_id or fact.message_id or ""] = carried


async def test_what_travels_is_in_no_metadata_and_no_filter_finds_it(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    sent, came = sdk.observers.add(Carrier()), other.observers.add(Carrier())
    other.register_handler("bob")(inbox := Inbox())
    await sdk.wait_until_served("bob")
    [plain] = await sdk.one_way.send("alice", "bob", "plain")
    [marked] = await sdk.one_way.send("alice", "bob", "marked", metadata={"traceparent": "mine", "a": {"b": 1}})
    await sdk.wait([plain, marked])
    assert [context.metadata for context in inbox.contexts] == [{}, {"traceparent": "mine", "a": {"b": 1}}]
    assert {id: came.came[id]["traceparent"] for id in (plain, marked)} == {id: sent.sent[id] for id in (plain, marked)}

    async def found(**conditions: Any) -> list[str]:
        return [str(one.id) for one in await sdk.get_messages_by_metadata(conditions)]

    assert await found(traceparent="mine") == await found(traceparent__exists=True) == [marked]
    assert await found(**{f"{carrying.KEY}__exists": True}) == []
    assert await found(**{f"{carrying.KEY}.tracestate": "a=1"}) == []
    assert sorted(await found(**{f"{carrying.KEY}__exists": False})) == sorted([plain, marked])
    assert carrying.KEY not in str(await sdk.one_way.get_received_messages("bob"))
    key = {"idempotency_key": "k", "metadata": {"a": 1}}
    first = await sdk.one_way.send("alice", "bob", "twice", **key)  # type: ignore[arg-type]
    assert await sdk.one_way.send("alice", "bob", "twice", **key) == first  # type: ignore[arg-type]
    assert await sdk.store.check() == []


@pytest.mark.parametrize("value", ["mine", {"traceparent": "00-1"}, None])
async def test_metadata_with_the_key_of_what_travels_are_refused(sdk: Sdk, value: Any) -> None:
    """Nobody would see them again, and they would name another's trace."""
    table = await Table.gather(sdk, "bob")
    await sdk.meeting.start_meeting("alice", table.id)
    lie = {carrying.KEY: value}
    calls = (
        sdk.one_way.send("alice", "bob", 1, metadata=lie),
        sdk.topics.publish("alice", "news", 1, metadata=lie),
        sdk.conversation.send_no_wait("alice", "bob", 1, metadata=lie),
        sdk.conversation.send_and_wait("alice", "bob", 1, metadata=lie),
        sdk.meeting.speak("alice", table.id, 1, metadata=lie),
    )
    for call in calls:
        with pytest.raises(PayloadError, match="reserved"):
            await call


async def test_metadata_that_hold_the_key_deeper_inside_carry_a_trace_beside_it(sdk: Sdk) -> None:
    carrier = sdk.observers.add(Carrier())
    sdk.register_handler("bob")(inbox := Inbox())
    inner = {"mine": {carrying.KEY: 1}, "text": f'"{carrying.KEY}":'}
    [sent] = await sdk.one_way.send("alice", "bob", 1, metadata=inner)
    await sdk.wait([sent])
    assert inbox.contexts[0].metadata == inner
    assert carrier.came[sent]["traceparent"] == carrier.sent[sent]


async def test_metadata_that_lie_carry_nothing() -> None:
    packed = carrying.pack('{"a":1}', {"traceparent": "x"})
    assert packed == '{"a":1,"agent_messaging.trace":{"traceparent":"x"}}'
    assert carrying.unpack(packed) == {"traceparent": "x"}
    assert carrying.pack(packed, {"traceparent": "y"}) == packed, "the first stays"
    assert carrying.pack(None, {"traceparent": "x"}) == '{"agent_messaging.trace":{"traceparent":"x"}}'
    for lie in ('"agent_messaging.trace":', '{"agent_messaging.trace":[1]}', '["agent_messaging.trace":1]'):
        assert carrying.unpack(lie) == {}
    assert carrying.unpack('{"agent_messaging.trace":{"a":1,"b":"c","d":"e\\nf","g":"ä"}}') == {"b": "c"}
    for bad in ({"a": "ä"}, {"a": "\n"}, {"a": "x" * 10_000}, {1: "a"}):
        with pytest.raises(ValueError, match="what is carried"):
            carrying.pack(None, bad)  # type: ignore[arg-type]


# --- the log ----------------------------------------------------------------------------------------------------------


async def test_the_log_has_a_line_for_each_fact_with_ids_as_fields_and_no_payload(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    sdk.register_handler("bob")(Inbox())
    [before] = await sdk.one_way.send("alice", "bob", {"secret": "hunter2"})
    await sdk.wait([before])
    with caplog.at_level(logging.DEBUG, "agent_messaging.facts"):
        await eventually(lambda: sdk._ears.is_heard, SOON)
        [id] = await sdk.one_way.send("alice", "bob", {"secret": "hunter2"}, metadata={"also": "hunter2"})
        await sdk.wait([id])
        await eventually(lambda: any(getattr(one, "fact", "") == "settled" for one in caplog.records), SOON)
    records = [one for one in caplog.records if getattr(one, "message_id", None) == id]
    assert [vars(one)["fact"] for one in records] == ["stored", "claimed", "handled", "settled"]
    assert {one.levelname for one in records} == {"DEBUG"}
    assert {(vars(one)["sender"], vars(one)["recipient"], vars(one)["kind"]) for one in records} == {
        ("alice", "bob", "one_way")
    }
    assert records[0].getMessage().startswith(f"message stored: message_id={id} kind=one_way sender=alice")
    assert "hunter2" not in caplog.text
    assert before not in caplog.text


async def test_a_reason_of_several_lines_is_one_in_the_log() -> None:
    lie = "ValueError: no\nmessage settled: message_id=forged"
    fact = Fact(type=FactType.DEAD, subject=FactSubject.MESSAGE, at=datetime.now(UTC), recipient="zoë", reason=lie)
    assert str(fact) == ("message dead: recipient=zoë reason=ValueError: no\\nmessage settled: message_id=forged")


# --- who listens ------------------------------------------------------------------------------------------------------


async def test_an_observer_that_fails_is_named_once_and_nothing_else_changes(
    sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    @sdk.observers.add
    def broken(fact: Fact) -> None:
        raise asyncio.CancelledError if fact.type is FactType.SETTLED else SystemExit(3)

    class Liar(Observer):
        def sending(self, fact: Fact) -> Any:
            return {"traceparent": "ä"}

        def handling(self, fact: Fact, carried: Mapping[str, str]) -> None:
            raise RuntimeError("no")

    sdk.observers.add(Liar())
    witness = sdk.observers.add(Witness())
    sdk.register_handler("bob")(lambda message, context: message)
    for number in range(3):
        assert await sdk.conversation.send_and_wait("alice", "bob", number) == number
        [id] = await sdk.one_way.send("alice", "bob", number)
        await sdk.wait([id])
    await witness.wait(id, FactType.SETTLED)
    assert witness.of(id)[0].traceparent is None
    failures = [one.getMessage() for one in caplog.records if "failed, and the work goes on" in one.getMessage()]
    assert len(failures) == 2
    assert any("broken" in one for one in failures)
    assert any("Liar" in one for one in failures)


async def test_an_observer_that_holds_everything_up_is_named_once(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    @sdk.observers.add
    def slow(fact: Fact) -> None:
        time.sleep(0.11)

    for number in range(2):
        await sdk.one_way.send("alice", "bob", number, require_handler=False)
    assert ["slow" in one.getMessage() for one in caplog.records if "nothing else ran" in one.getMessage()] == [True]


async def test_adding_twice_removing_and_what_is_no_observer(sdk: Sdk) -> None:
    async def coroutine(fact: Fact) -> None: ...

    class Awaited:
        async def __call__(self, fact: Fact) -> None: ...

    for wrong in (None, "x", Fact, coroutine, Awaited()):
        with pytest.raises(InvalidArgumentError):
            sdk.observers.add(wrong)  # type: ignore[type-var]
    seen: list[Fact] = []
    see: Callable[[Fact], None] = seen.append
    for _ in range(2):
        assert sdk.observers.add(see) is see
    await sdk.one_way.send("alice", "bob", 1, require_handler=False)
    assert len(seen) == 1
    sdk.observers.remove(see)
    sdk.observers.remove(see)
    await sdk.one_way.send("alice", "bob", 1, require_handler=False)
    assert len(seen) == 1


async def test_one_that_is_added_before_the_start_stays_for_the_next_one() -> None:
    sdk = Sdk(make_config("sqlite://:memory:"))
    witness = sdk.observers.add(Witness())
    for number in (1, 2):
        async with sdk:
            await sdk.add_people("alice", "bob")
            await sdk.one_way.send("alice", "bob", "hi", require_handler=False)
            assert len(witness.facts) == number


def test_the_blocking_sdk_has_them_too() -> None:
    with sync.AgentMessaging(make_config("sqlite://:memory:")) as sdk:
        seen: list[Fact] = []
        sdk.observers.add(seen.append)
        sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            sdk.register_agent(name, "acme", name)
        sdk.one_way.send("alice", "bob", "hi", require_handler=False)
        assert [fact.type for fact in seen] == [FactType.STORED]
        assert sdk.figures().slots == 0
        assert sdk.statistics().deliveries == {"queued": 1}


# --- figures ----------------------------------------------------------------------------------------------------------


async def test_figures_say_what_is_held_and_who_waits(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(handler_concurrency=2), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(gate := Gate())
    sent = [id for n in range(3) for id in await sdk.one_way.send("alice" if n % 2 else "carol", "bob", n)]
    await gate.wait_for(2)
    await other.one_way.send("bob", "carol", "unserved", require_handler=False)
    [pulled] = await sdk.receive("carol")
    asking = asyncio.create_task(sdk.conversation.send_and_wait("alice", "carol", "?", require_handler=False))
    waiting = asyncio.create_task(sdk.wait(sent))
    await eventually(lambda: sdk.figures().asks and sdk.figures().waits, SOON)
    figures = await asyncio.to_thread(sdk.figures)
    assert (figures.slots, figures.slots_used, figures.running, figures.pulled) == (2, 2, 2, 1)
    assert figures.claims == 3
    assert (figures.asks, figures.waits) == (1, 3)
    assert 1 <= figures.pool.size <= figures.pool.max_size
    assert figures.pool.in_use + figures.pool.available == figures.pool.size
    assert figures.process_id == sdk.store.presence.process_id
    expected = {"claimed": 3, "queued": 2}
    statistics = await eventually(sdk.statistics, SOON, until=lambda seen: seen.deliveries == expected)
    assert statistics.oldest_claim_age is not None
    assert statistics.oldest_queued_age is not None
    assert statistics.oldest_queued_recipient in ("bob", "carol")
    assert statistics.processes == 2
    assert statistics.index_lag >= 0
    asking.cancel()
    gate.open()
    await waiting
    await pulled.done()
    await eventually(lambda: sdk.figures().claims == 0 and sdk.figures().asks == 0, SOON)


async def test_calls_that_wait_for_a_connection_are_counted(make_sdk: MakeSdk, backend: str) -> None:
    sdk = await make_sdk(max_pool_size=1)
    held, may_go, go = asyncio.Event(), asyncio.Event(), threading.Event()
    store: Any = sdk.store
    if backend == "postgres":

        async def hold(connection: Any) -> None:
            held.set()
            await may_go.wait()

        holding = asyncio.create_task(store.engine.run(hold, write=False))
    else:
        loop = asyncio.get_running_loop()

        def block(connection: Any) -> None:
            loop.call_soon_threadsafe(held.set)
            go.wait(SOON)

        holding = asyncio.create_task(store.engine.write(block))
    await held.wait()
    more = [asyncio.create_task(sdk.register_organization(f"o{n}", "O")) for n in range(3)]
    await eventually(lambda: sdk.figures().pool.waiting >= 1, SOON)
    assert sdk.figures().pool.in_use >= 1
    may_go.set()
    go.set()
    await asyncio.gather(holding, *more)
    await eventually(lambda: sdk.figures().pool.waiting == 0, SOON)
