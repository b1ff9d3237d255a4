"""Limits: full mailboxes, payload sizes, organizations that keep to themselves, and a pool that is used up."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agent_messaging import AgentNotFoundError, MailboxFullError, PayloadError, StorageBusyError
from tests.client.support import Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def keep(sdk: Sdk, recipients: Any, message: Any = "hi", **options: Any) -> list[str]:
    """Store a message that nobody handles yet."""
    return await sdk.one_way.send("alice", recipients, message, require_handler=False, **options)


async def test_a_full_mailbox_refuses_the_whole_call_and_names_who_is_full(make_sdk: MakeSdk) -> None:
    sdk, unlimited = await make_sdk(mailbox_limit=3), await make_sdk(mailbox_limit=None)
    await sdk.add_people("alice", "bob", "carol")
    for number in range(3):
        await keep(sdk, "bob", number)
    with pytest.raises(
        MailboxFullError, match=r"mailbox of 'bob' is full: 3 messages wait.*Nothing was stored"
    ) as full:
        await keep(sdk, ["carol", "bob"])
    assert (full.value.recipients, full.value.limit, full.value.retryable) == (("bob",), 3, True)
    assert await sdk.one_way.get_message_count("carol") == 0
    await keep(sdk, "carol")
    await keep(unlimited, "bob", "over the limit of others")
    sdk.register_handler("bob")(inbox := Inbox())
    await inbox.wait_for(4)
    await eventually(lambda: sdk.one_way.get_message_count("bob"), until=lambda count: count == 4)
    await keep(sdk, "bob", "room again")
    await inbox.wait_for(5)


async def test_only_open_messages_fill_a_mailbox(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=2, max_attempts=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(Inbox(lambda message, context: 1 / 0 if message == "bad" else None))
    await sdk.wait(await keep(sdk, "bob", "good"))
    await sdk.wait(await keep(sdk, "bob", "bad"))
    sdk.unregister_handler("bob")
    [withdrawn] = await keep(sdk, "bob")
    await sdk.receipts.withdraw(withdrawn)
    await sdk.wait(await keep(sdk, "bob", expires_in=0.05))
    await keep(sdk, "bob")
    await keep(sdk, "bob")
    with pytest.raises(MailboxFullError):
        await keep(sdk, "bob")


async def test_a_message_that_is_being_handled_still_takes_a_place(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=1)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(gate := Gate())
    ids = await sdk.one_way.send("alice", "bob", 1)
    await gate.wait_for(1)
    with pytest.raises(MailboxFullError):
        await sdk.one_way.send("alice", "bob", 2)
    gate.open()
    await sdk.wait(ids)
    await sdk.wait(await sdk.one_way.send("alice", "bob", 3))


async def test_concurrent_calls_of_one_process_never_overfill_a_mailbox(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=10)
    await sdk.add_people("alice", "bob")
    answers = await asyncio.gather(*(keep(sdk, "bob", number) for number in range(40)), return_exceptions=True)
    assert sum(isinstance(answer, list) for answer in answers) == 10
    assert {type(answer) for answer in answers} == {list, MailboxFullError}
    assert await sdk.one_way.get_message_count("bob") == 10
    # Those that came first were stored: the order of the calls holds for refusals too.
    assert all(isinstance(answer, list) for answer in answers[:10])


async def test_the_largest_payload_is_a_setting(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_payload_bytes=64)
    await sdk.add_people("alice", "bob")
    await keep(sdk, "bob", "x" * 62)
    with pytest.raises(PayloadError, match=r"message is 65 bytes long; as JSON, 64 bytes are accepted"):
        await keep(sdk, "bob", "x" * 63)
    assert await sdk.one_way.get_message_count("bob") == 1


async def test_organizations_can_be_kept_apart_without_learning_of_each_other(make_sdk: MakeSdk) -> None:
    apart, open_to_all = await make_sdk(cross_organization=False), await make_sdk()
    await apart.add_people("alice", "bob")
    await apart.add_people("alina", "gina", organization="globex")
    await keep(apart, "bob")
    with pytest.raises(AgentNotFoundError) as foreign:
        await keep(apart, ["bob", "gina"])
    with pytest.raises(AgentNotFoundError) as unknown:
        await keep(apart, ["bob", "ginx"])
    assert str(foreign.value).replace("gina", "ginx") == str(unknown.value)
    with pytest.raises(AgentNotFoundError, match="'alicia'") as suggested:
        await keep(apart, "alicia")
    assert suggested.value.suggestions == ("alice",), "and not alina of globex"
    assert await apart.one_way.get_message_count("gina") == 0
    await keep(open_to_all, "gina")


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
@pytest.mark.parametrize("size", [1, 2])
async def test_a_small_pool_serves_many_calls_at_once(make_sdk: MakeSdk, size: int) -> None:
    sdk = await make_sdk(max_pool_size=size)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(inbox := Inbox())
    calls = [sdk.one_way.send("alice", "bob", number) for number in range(50)]
    lookups = [sdk.get_agent("bob") for _ in range(50)]
    answers = await asyncio.gather(*calls, *lookups)
    waits = [sdk.receipts.wait(answer[0], timeout=20) for answer in answers[:50] if isinstance(answer, list)]
    assert {receipt.state.value for receipt in await asyncio.gather(*waits)} == {"done"}
    assert inbox.messages == list(range(50))


@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
async def test_a_pool_that_stays_used_up_is_waited_for_and_then_reported(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_pool_size=1, call_timeout=0.5)
    await sdk.add_people("alice", "bob")
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]

    async def occupy(seconds: float) -> None:
        await engine.run(lambda connection: connection.execute(f"select pg_sleep({seconds})"), write=True, budget=5)

    for seconds in (0.2, 2.0):
        occupied = asyncio.create_task(occupy(seconds))
        await eventually(lambda: engine._pool.used_size == 1)
        started = time.monotonic()
        answers = await asyncio.gather(*(sdk.get_agent("bob") for _ in range(10)), return_exceptions=True)
        assert time.monotonic() - started < 0.5 + 1.0
        if seconds < 0.5:
            assert {answer.name for answer in answers if not isinstance(answer, BaseException)} == {"Bob"}
            assert len(answers) == 10
        else:
            assert {type(answer) for answer in answers} == {StorageBusyError}
            assert "Connection pool exhausted: all 1 connections" in str(answers[0])
            assert "Raise max_pool_size" in str(answers[0])
        await occupied
    assert (await sdk.get_agent("bob")).name == "Bob"
