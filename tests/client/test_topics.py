"""Topics: publishing to whoever is subscribed, from any process, with all that a note has."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from agent_messaging import (
    AgentNotFoundError,
    IdempotencyConflictError,
    InvalidArgumentError,
    MailboxFullError,
    MessageContext,
    OutcomeUnknownError,
    PayloadError,
    Subscription,
)
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually

TOPIC = "orders.eu.created"


class Order(BaseModel):
    number: int


async def received(sdk: Sdk, name: str) -> list[Any]:
    """The contents of what an agent received, oldest first."""
    return [record.content for record in await sdk.one_way.get_received_messages(name, limit=1000)][::-1]


# --- publishing -------------------------------------------------------------------------------------------------------


async def test_whoever_is_subscribed_gets_it_and_is_told_the_topic(sdk: Sdk) -> None:
    sdk.register_handler("bob")(bob := Inbox())

    @sdk.register_handler("carol")
    async def on_order(order: Order, context: MessageContext) -> None:
        carol.append((order, context.topic, context.metadata))

    carol: list[Any] = []
    await sdk.topics.subscribe("bob", "orders.*.created")
    await sdk.topics.subscribe("carol", "orders.>")
    ids = await sdk.topics.publish("alice", TOPIC, Order(number=17), {"via": "web"})
    assert {receipt.recipient_id for receipt in await sdk.wait(ids)} == {"bob", "carol"}
    assert carol == [(Order(number=17), TOPIC, {"via": "web"})]
    (context,) = bob.contexts
    assert (bob.messages, context.topic, context.sender_id) == ([{"number": 17}], TOPIC, "alice")
    assert context.message_id is not None
    assert str(context.message_id) in ids
    await sdk.wait(await sdk.one_way.send("alice", "bob", "a note"))
    assert bob.contexts[1].topic is None


async def test_a_subscriber_without_a_handler_reads_its_inbox_or_receives(sdk: Sdk) -> None:
    await sdk.topics.subscribe("bob", TOPIC)
    ids = await sdk.topics.publish("alice", TOPIC, "new")
    await sdk.one_way.send("alice", "bob", "a note", require_handler=False)
    for records in (await sdk.one_way.get_received_messages("bob"), await sdk.one_way.get_sent_messages("alice")):
        assert [(record.content, record.topic) for record in records] == [("a note", None), ("new", TOPIC)]
    message, _ = await sdk.receive("bob", limit=10)
    assert (message.content, message.context.topic, [message.message_id]) == ("new", TOPIC, ids)
    await message.done()
    assert await sdk.state(ids[0]) == "done"


async def test_it_reaches_another_process_which_subscribed_for_itself(sdk: Sdk, url: str) -> None:
    program = """
import asyncio, sys
from agent_messaging import AgentMessaging

async def main() -> None:
    sdk = AgentMessaging(sys.argv[1])

    @sdk.register_handler("bob")
    async def on_message(message, context) -> None:
        print(context.topic, message, flush=True)

    async with sdk:
        await sdk.topics.subscribe("bob", "orders.>")
        print("READY", flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, url), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), SOON) == b"READY\n"
        assert await sdk.topics.list() == await sdk.topics.list("bob", topic=TOPIC)
        ids = await sdk.topics.publish("alice", TOPIC, 17)
        assert [receipt.state.value for receipt in await sdk.wait(ids)] == ["done"]
        assert await asyncio.wait_for(process.stdout.readline(), SOON) == f"{TOPIC} 17\n".encode()
        output, _ = await asyncio.wait_for(process.communicate(b""), SOON)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert (process.returncode, output) == (0, b"")
    # The subscription outlives the process.
    assert len(await sdk.topics.publish("alice", TOPIC, 18)) == 1


async def test_nobody_subscribed_is_no_error_and_the_publisher_gets_nothing(sdk: Sdk) -> None:
    assert await sdk.topics.publish("alice", TOPIC, "new") == []
    await sdk.topics.subscribe("alice", ">")
    assert await sdk.topics.publish("alice", TOPIC, "new") == []
    assert len(await sdk.topics.publish("bob", TOPIC, "new")) == 1
    with pytest.raises(AgentNotFoundError, match=r"'alise'.*alice"):
        await sdk.topics.publish("alise", TOPIC, "new")


async def test_a_publisher_that_was_removed_elsewhere_is_told_so(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    for subscribed in (False, True):
        await sdk.topics.publish("alice", TOPIC, "known")
        await other.deregister_agent("alice")
        with pytest.raises(AgentNotFoundError):
            await sdk.topics.publish("alice", TOPIC, subscribed)
        await other.add_people("alice")
        assert len(await sdk.topics.publish("alice", TOPIC, "again")) == int(subscribed)
        await sdk.topics.subscribe("bob", ">")


async def test_notes_and_publications_of_one_sender_are_handled_in_the_order_of_the_calls(sdk: Sdk) -> None:
    await sdk.add_people("dave")
    sdk.register_handler("bob")(inbox := Inbox())
    for pattern in ("n.>", "n.0", "*.*"):
        await sdk.topics.subscribe("bob", pattern)
    calls = [
        sdk.topics.publish("alice", f"n.{number % 2}", number)
        if number % 3
        else sdk.one_way.send("alice", ["carol", "bob"], number, require_handler=False)
        for number in range(60)
    ]
    await asyncio.gather(*calls, *(sdk.topics.publish("dave", "n.x", "other") for _ in range(10)))
    await inbox.wait_for(70)
    assert [message for message in inbox.messages if message != "other"] == list(range(60))


async def test_the_options_of_a_note_are_those_of_a_publication(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, ">")
    later = datetime.now(UTC) + timedelta(seconds=0.5)
    ids = await sdk.topics.publish("alice", TOPIC, "later", deliver_at=later, expires_in=60)
    await sdk.topics.unsubscribe("bob", ">")  # it is on its way already
    receipts = [await sdk.receipts.get(id) for id in ids]
    assert [(receipt.recipient_id, receipt.deliver_at) for receipt in receipts] == [("bob", later), ("carol", later)]
    assert None not in {receipt.expires_at for receipt in receipts}
    await inbox.wait_for(1)
    assert datetime.now(UTC) >= later
    (expiring,) = await sdk.topics.publish("alice", TOPIC, "soon over", expires_in=0.05)
    assert [receipt.state.value for receipt in await sdk.wait([expiring])] == ["expired"]
    for options in ({"expires_in": 0}, {"deliver_at": datetime(2030, 1, 1)}, {"idempotency_key": ""}):
        with pytest.raises(InvalidArgumentError):
            await sdk.topics.publish("alice", TOPIC, "refused", **options)
    with pytest.raises(InvalidArgumentError, match="message is missing"):
        await sdk.topics.publish("alice", TOPIC)
    with pytest.raises(PayloadError):
        await sdk.topics.publish("alice", TOPIC, {"x": float("nan")})


async def test_a_handler_that_fails_for_one_subscriber_makes_its_dead_letter_alone(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=2)
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(bob := Inbox(lambda message, context: 1 / 0))
    sdk.register_handler("carol")(carol := Inbox())
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, ">")
    receipts = await sdk.wait(await sdk.topics.publish("alice", TOPIC, "new"))
    assert {receipt.recipient_id: receipt.state.value for receipt in receipts} == {"bob": "dead", "carol": "done"}
    assert (len(bob.messages), len(carol.messages)) == (2, 1)
    (dead,) = await sdk.dead_letters.list()
    assert (dead.recipient_id, dead.content, dead.topic) == ("bob", "new", TOPIC)
    assert await sdk.dead_letters.list("bob") == [dead]
    bob.script = None
    assert await sdk.dead_letters.redrive(dead.message_id) == 1
    await sdk.wait([dead.message_id])
    assert [context.topic for context in bob.contexts] == [TOPIC] * 3


async def test_a_full_mailbox_refuses_the_publication_and_names_the_remedy(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=2)
    await sdk.add_people("alice", "bob", "carol")
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, ">")
    await sdk.one_way.send("alice", "bob", 1, require_handler=False)
    await sdk.topics.publish("alice", TOPIC, 2)
    with pytest.raises(MailboxFullError, match=r"'bob' is full.*end its subscription to 'orders.eu.created'") as full:
        await sdk.topics.publish("alice", TOPIC, 3)
    assert (full.value.recipients, full.value.topic) == (("bob",), TOPIC)
    assert (await received(sdk, "bob"), await received(sdk, "carol")) == ([1, 2], [2])
    await sdk.topics.unsubscribe("bob", ">")
    await sdk.topics.publish("alice", TOPIC, 4)
    assert await received(sdk, "carol") == [2, 4]


async def test_organizations_that_keep_to_themselves_do_so_on_topics(make_sdk: MakeSdk) -> None:
    sdk, closed = await make_sdk(), await make_sdk(cross_organization=False)
    await sdk.add_people("alice", "bob")
    await sdk.add_people("eve", organization="other")
    for name in ("bob", "eve"):
        await sdk.topics.subscribe(name, ">")
    ids = await closed.topics.publish("alice", TOPIC, "secret")
    assert [(await sdk.receipts.get(id)).recipient_id for id in ids] == ["bob"]
    assert len(await sdk.topics.publish("alice", TOPIC, "open")) == 2
    assert await received(sdk, "eve") == ["open"]


async def test_a_claim_is_free_for_the_next_message_at_once(sdk: Sdk) -> None:
    """A subscriber served here gets no claim with the append, and is handled all the same while others wait."""
    sdk.register_handler("bob", concurrency=1)(gate := Gate())
    await sdk.topics.subscribe("bob", ">")
    await sdk.topics.publish("alice", TOPIC, 1)
    await gate.wait_for(1)
    await sdk.topics.publish("carol", TOPIC, 2)
    await sdk.one_way.send("alice", "bob", 3)
    gate.open()
    assert sorted(await gate.wait_for(3)) == [1, 2, 3]


# --- repeats ----------------------------------------------------------------------------------------------------------


async def test_a_repeat_under_the_key_is_answered_as_the_first_call(sdk: Sdk) -> None:
    await sdk.topics.subscribe("bob", ">")
    first = await sdk.topics.publish("alice", TOPIC, {"a": 1, "b": 2}, idempotency_key="k")
    await sdk.topics.unsubscribe("bob", ">")
    await sdk.topics.subscribe("carol", ">")
    assert await sdk.topics.publish("alice", TOPIC, {"b": 2, "a": 1}, idempotency_key="k") == first
    for topic, message in (("orders.us.created", {"a": 1, "b": 2}), (TOPIC, {"a": 1})):
        with pytest.raises(IdempotencyConflictError):
            await sdk.topics.publish("alice", topic, message, idempotency_key="k")
    await sdk.one_way.send("alice", "bob", "a call of its own", idempotency_key="k", require_handler=False)
    assert await received(sdk, "carol") == []
    await sdk.deregister_agent("bob")
    assert await sdk.topics.publish("alice", TOPIC, {"a": 1, "b": 2}, idempotency_key="k") == first


async def test_a_lost_answer_is_found_again_for_those_it_went_to(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    await sdk.topics.subscribe("bob", ">")
    deliveries = sdk._started().store.deliveries
    append = deliveries.append

    async def lose_the_answer(*arguments: Any, repeat: bool, **options: Any) -> Any:
        answer = await append(*arguments, repeat=repeat, **options)
        if repeat:
            return answer
        await other.topics.unsubscribe("bob", ">")
        await other.topics.subscribe("carol", ">")
        raise OutcomeUnknownError

    monkeypatch.setattr(deliveries, "append", lose_the_answer)
    ids = await sdk.topics.publish("alice", TOPIC, "once")
    monkeypatch.undo()
    assert [(await sdk.receipts.get(id)).recipient_id for id in ids] == ["bob"]
    assert (await received(sdk, "bob"), await received(sdk, "carol")) == (["once"], [])


async def test_a_publication_cancelled_anywhere_goes_to_all_or_to_nobody_and_its_repeat_once(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, ">")
    for steps in range(12):
        sdk._started().names.clear()
        task = asyncio.create_task(sdk.topics.publish("alice", TOPIC, steps, idempotency_key=str(steps)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sdk.topics.publish("alice", TOPIC, steps, idempotency_key=str(steps))
        assert await received(sdk, "bob") == await received(sdk, "carol") == list(range(steps + 1))


async def test_more_at_once_than_one_transaction_takes_are_stored_apart(sdk: Sdk) -> None:
    """Their contents are too big together, which is known only where it is known whom they go to."""
    for name in ("bob", "carol"):
        await sdk.topics.subscribe(name, ">")
    text = "x" * 900_000
    results = await asyncio.gather(*(sdk.topics.publish("alice", TOPIC, f"{number}{text}") for number in range(7)))
    assert [len(ids) for ids in results] == [2] * 7
    assert [message[0] for message in await received(sdk, "bob")] == list("0123456")


# --- subscribing ------------------------------------------------------------------------------------------------------


async def test_subscriptions_are_listed_with_the_names_of_their_agents(sdk: Sdk) -> None:
    begun = datetime.now(UTC)
    assert await sdk.topics.subscribe("bob", "orders.>") is True
    assert await sdk.topics.subscribe("bob", "orders.>") is False
    assert await sdk.topics.subscribe("carol", "*.eu.*") is True
    found = await sdk.topics.list()
    assert [(one.agent_id, one.pattern) for one in found] == [("carol", "*.eu.*"), ("bob", "orders.>")]
    assert all(isinstance(one, Subscription) and abs(one.created_at - begun) < timedelta(minutes=1) for one in found)
    assert await sdk.topics.list("carol") == await sdk.topics.list("carol", topic=TOPIC) == found[:1]
    assert await sdk.topics.list(topic="orders.us") == found[1:]
    assert await sdk.topics.list(limit=1, offset=1) == found[1:]
    assert await sdk.topics.list("carol", topic="orders.us") == []
    assert await sdk.topics.unsubscribe("carol", "*.eu.*") is True
    assert await sdk.topics.unsubscribe("carol", "*.eu.*") is False
    assert await sdk.topics.list("carol") == []


async def test_an_agent_must_exist_to_subscribe(sdk: Sdk) -> None:
    for call in (sdk.topics.subscribe("bop", ">"), sdk.topics.unsubscribe("bop", ">"), sdk.topics.list("bop")):
        with pytest.raises(AgentNotFoundError, match=r"'bop'.*bob"):
            await call


async def test_an_agent_registered_anew_elsewhere_subscribes_under_its_new_identity(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob")
    await sdk.topics.subscribe("bob", ">")
    await other.deregister_agent("bob")
    await other.add_people("bob")
    assert await other.topics.list() == []
    assert await sdk.topics.subscribe("bob", ">") is True
    assert len(await sdk.topics.publish("alice", TOPIC, "new")) == 1
    await other.deregister_agent("bob")
    with pytest.raises(AgentNotFoundError):
        await sdk.topics.subscribe("bob", ">")


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "blank"),
        (".", "has a dot without a word on both sides"),
        ("a..b", r"Use 'a\.b'"),
        (".a", "Use 'a'"),
        ("a.b.", r"Use 'a\.b'"),
        ("a b.c", r"has a blank in it. Use 'a-b\.c'"),
        ("a.b\n", "U\\+000A"),
        ("e\u0301.b", "NFC"),
        (".".join("abcdefghi"), "has 9 words. At most 8"),
        ("a" * 256, "256 characters"),
        (7, "is not text"),
        (None, "is not text"),
        (["a"], "is not text"),
    ],
)
async def test_a_bad_name_is_refused_with_the_remedy(sdk: Sdk, given: Any, reason: str) -> None:
    calls = [
        ("topic", sdk.topics.publish("alice", given, 1)),
        ("pattern", sdk.topics.subscribe("bob", given)),
        ("pattern", sdk.topics.unsubscribe("bob", given)),
    ]
    if given is not None:
        calls.append(("topic", sdk.topics.list(topic=given)))
    for field, call in calls:
        with pytest.raises(InvalidArgumentError, match=reason) as refused:
            await call
        assert refused.value.field == field


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("given", "as_topic", "as_pattern"),
    [
        ("orders.*", "Name each word", ""),
        (">", "Name each word", ""),
        ("*", "Name each word", ""),
        ("a.*.>", "Name each word", ""),
        ("a.b*", "'b\\*'.*Name each word", "'b\\*'.*stand for whole words"),
        ("a>.b", "Name each word", "'a>'.*stand for whole words"),
        ("**", "Name each word", "stand for whole words"),
        ("a.>.b", "Name each word", "End with it"),
        (">.a", "Name each word", "End with it"),
        (">.>", "Name each word", "End with it"),
        ("a.B-c_1.é日本.$x:y/z", "", ""),
        (".".join("abcdefgh"), "", ""),
        ("a" * 255, "", ""),
    ],
)
async def test_wildcards_are_for_subscribing_and_stand_for_whole_words(
    sdk: Sdk, given: str, as_topic: str, as_pattern: str
) -> None:
    async def attempt(call: Any, reason: str) -> None:
        if not reason:
            await call
            return
        with pytest.raises(InvalidArgumentError, match=reason):
            await call

    await attempt(sdk.topics.subscribe("bob", given), as_pattern)
    await attempt(sdk.topics.publish("alice", given, 1), as_topic)
    if not as_topic and not as_pattern:
        await eventually(lambda: received(sdk, "bob"), until=lambda messages: messages == [1])
