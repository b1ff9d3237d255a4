"""Retries, and what is given up after them."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agent_messaging import AgentNotFoundError, InvalidArgumentError, MessageContext
from tests.client.support import SOON, Inbox, MakeSdk
from tests.support import eventually


def fail(message: object, context: object) -> None:
    raise RuntimeError(f"cannot handle it, attempt {context.attempt}")  # type: ignore[attr-defined]


async def test_a_failing_handler_is_tried_again_and_then_the_message_is_a_dead_letter_with_its_reasons(
    make_sdk: MakeSdk,
) -> None:
    sdk = await make_sdk(max_attempts=3)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(inbox := Inbox(fail))
    [id] = await sdk.one_way.send("alice", "bob", {"text": "hi"}, {"k": "v"})
    receipt = await sdk.receipts.wait(id, timeout=SOON)
    reasons = tuple(f"RuntimeError: cannot handle it, attempt {number}" for number in (1, 2, 3))
    assert (receipt.state.value, receipt.attempt, receipt.reasons) == ("dead", 3, reasons)
    assert [context.attempt for context in inbox.contexts] == [1, 2, 3]
    assert {str(context.message_id) for context in inbox.contexts} == {id}
    [letter] = await sdk.dead_letters.list()
    assert (letter.message_id, letter.sender_id, letter.recipient_id) == (id, "alice", "bob")
    assert (letter.content, letter.metadata, letter.attempt) == ({"text": "hi"}, {"k": "v"}, 3)
    assert letter.reasons == reasons
    assert letter.created_at <= letter.died_at


async def test_the_default_is_five_attempts_with_growing_pauses(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(retry_delay=0.05, retry_max_delay=10)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(Inbox(fail))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert (receipt.attempt, receipt.max_attempts) == (5, 5)
    failed = [event.at for event in receipt.events if event.event == "failed"]
    claimed = [event.at for event in receipt.events if event.event == "claimed"][1:]
    pauses = [(to - from_).total_seconds() for from_, to in zip(failed, claimed, strict=True)]
    # Full jitter: from a tenth to the whole of 0.05, 0.1, 0.2, 0.4 s; never earlier.
    for pause, longest in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert pause >= longest / 10 * 0.9


async def test_one_attempt_means_no_retry(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(inbox := Inbox(fail))
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert (receipt.state.value, len(inbox.messages)) == ("dead", 1)


async def test_one_message_that_always_fails_does_not_hold_up_the_others(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(retry_delay=30, retry_max_delay=30)
    await sdk.add_people("alice", "bob")

    def fail_bad(message: object, context: MessageContext) -> None:
        if message == "bad":
            raise ValueError

    sdk.register_handler("bob")(inbox := Inbox(fail_bad))
    [bad] = await sdk.one_way.send("alice", "bob", "bad")
    await sdk.wait([id for number in range(3) for id in await sdk.one_way.send("alice", "bob", number)])
    assert inbox.messages == ["bad", 0, 1, 2]
    receipt = await sdk.receipts.get(bad)
    assert receipt.state.value == "queued"
    assert receipt.deliver_at is not None


FAILURES: list[tuple[Exception, str]] = [
    (ValueError(), "ValueError"),
    (KeyError("x"), "KeyError: 'x'"),
    (RuntimeError("a\x00b \ud800"), "RuntimeError: a\\x00b \\ud800"),
    (RuntimeError("x" * 10_000), "RuntimeError: " + "x" * 485 + "…"),
    (StopIteration(3), "RuntimeError: "),
    (ExceptionGroup("two", [ValueError(), TypeError()]), "2 errors: ValueError; TypeError"),
    (TimeoutError("its own"), "TimeoutError: its own"),
]


async def test_any_error_of_a_handler_becomes_a_reason(make_sdk: MakeSdk, caplog: pytest.LogCaptureFixture) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    caplog.set_level(logging.CRITICAL, "agent_messaging")  # half a surrogate pair breaks pytest's reports

    @sdk.register_handler("bob")
    def plain(message: int, context: object) -> None:
        raise FAILURES[message][0]

    @sdk.register_handler("carol")
    async def coroutine(message: int, context: object) -> None:
        raise FAILURES[message][0]

    for number, (error, reason) in enumerate(FAILURES):
        for receipt in await sdk.wait(await sdk.one_way.send("alice", ["bob", "carol"], number)):
            where = f"{type(error).__name__} for {receipt.recipient_id}: {receipt.reasons}"
            assert receipt.state.value == "dead", where
            assert receipt.reasons[0].startswith(reason), where
            assert len(receipt.reasons[0]) <= 500, where


async def test_dead_letters_are_listed_newest_first_of_one_agent_or_of_all(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    for name in ("bob", "carol"):
        sdk.register_handler(name)(Inbox(fail))
    ids = []
    for number in range(4):
        ids += await sdk.one_way.send("alice", "bob", number, {"n": number % 2})
        await sdk.wait(ids)
    await sdk.wait(await sdk.one_way.send("alice", "carol", 9))

    async def contents(recipient: str | None = None, **page: Any) -> list[object]:
        return [letter.content for letter in await sdk.dead_letters.list(recipient, **page)]

    assert await contents() == [9, 3, 2, 1, 0]
    assert await contents("bob") == [3, 2, 1, 0]
    assert await contents("bob", limit=2, offset=1) == [2, 1]
    assert await contents("alice") == []
    assert await contents(metadata_filter={"n": 1}) == [3, 1]
    assert await contents("bob", metadata_filter={"n__exists": True}, limit=1, offset=2) == [1]
    assert await contents(kinds=["one_way"], metadata_filter={"n": 0}) == [2, 0]
    assert await contents(kinds=["conversation"]) == []
    third = (await sdk.dead_letters.list("bob"))[2].created_at
    assert await contents(date_from=third, date_to=third) == [1]
    with pytest.raises(AgentNotFoundError, match="'bobb'"):
        await sdk.dead_letters.list("bobb")
    with pytest.raises(InvalidArgumentError, match="kinds"):
        await sdk.dead_letters.list(kinds=["letter"])


async def test_letters_that_die_while_they_are_listed_show_none_twice(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_messaging.messaging.receipts.PAGE", 2)
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(fail)

    async def kill(content: object) -> None:
        await sdk.receipts.wait(await sdk.one_way.send("alice", "bob", content, {"n": 1}), timeout=SOON)

    for number in range(4):
        await kill(number)
    list_dead = sdk.store.deliveries.list_dead

    async def list_and_kill(*given: Any) -> Any:
        page = await list_dead(*given)
        await kill("later")
        return page

    monkeypatch.setattr(sdk.store.deliveries, "list_dead", list_and_kill)
    assert [letter.content for letter in await sdk.dead_letters.list(metadata_filter={"n": 1})] == [3, 2, 1, 0]


async def test_redriving_gives_a_message_all_its_attempts_again(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(max_attempts=2), await make_sdk()
    await sdk.add_people("alice", "bob")
    broken = True

    def fail_while_broken(message: object, context: MessageContext) -> None:
        if broken or (message == 1 and context.attempt == 1):
            raise RuntimeError("still broken")

    sdk.register_handler("bob")(inbox := Inbox(fail_while_broken))
    ids = [id for number in range(3) for id in await sdk.one_way.send("alice", "bob", number)]
    await sdk.wait(ids)
    assert await sdk.dead_letters.redrive(ids[0]) == 1
    assert (await sdk.receipts.wait(ids[0], timeout=SOON)).state.value == "dead"
    broken = False
    assert await other.dead_letters.redrive([ids[0]]) == 1
    assert await sdk.dead_letters.redrive([*ids[:1]]) == 0, "it is not dead any more"
    [receipt] = await sdk.wait(ids[:1])
    assert (receipt.state.value, receipt.attempt, receipt.token) == ("done", 1, 5)
    assert [event.event for event in receipt.events].count("redriven") == 2
    assert await other.dead_letters.redrive(recipient_external_id="bob") == 2
    assert [receipt.attempt for receipt in await sdk.wait(ids)] == [1, 2, 1]
    assert await sdk.dead_letters.list() == []
    assert await sdk.dead_letters.redrive(recipient_external_id="bob") == 0
    assert len(inbox.messages) == 2 * 3 + 2 + 1 + 3


async def test_redriving_only_takes_what_is_asked_for(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    for name in ("bob", "carol"):
        sdk.register_handler(name)(Inbox(fail))
    bobs, carols = await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    await sdk.wait([bobs, carols])
    assert await sdk.dead_letters.redrive([bobs, carols], recipient_external_id="carol") == 1
    await eventually(lambda: sdk.receipts.get(carols), until=lambda receipt: receipt.token == 2)
    assert (await sdk.receipts.get(bobs)).token == 1
    with pytest.raises(ValueError, match="both missing"):
        await sdk.dead_letters.redrive()
    assert await sdk.dead_letters.redrive([]) == 0
