"""Idempotency keys: a repeated call is stored once and answered as the first was."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_messaging import AgentNotFoundError, IdempotencyConflictError, MailboxFullError
from tests.client.support import Inbox, MakeSdk, Sdk


async def send(sdk: Sdk, *arguments: Any, key: str | None = "k", **options: Any) -> list[str]:
    return await sdk.one_way.send(*arguments, idempotency_key=key, require_handler=False, **options)


async def test_a_repeated_call_is_answered_as_the_first_and_stores_nothing(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    ids = await send(sdk, "alice", ["carol", "bob"], {"a": 1, "b": 2}, {"m": 1})
    assert await send(sdk, "alice", ["carol", "bob"], {"b": 2, "a": 1}, {"m": 1}) == ids
    assert await send(other, "alice", ["carol", "bob"], {"a": 1, "b": 2}, {"m": 1}) == ids
    assert await sdk.one_way.get_message_count("alice", "sender") == 2


async def test_a_key_used_for_another_message_is_a_conflict(sdk: Sdk) -> None:
    ids = await send(sdk, "alice", ["bob", "carol"], "hi", {"m": 1}, expires_in=60)
    different: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("alice", ["bob", "carol"], "other", {"m": 1}), {"expires_in": 60}),
        (("alice", ["carol", "bob"], "hi", {"m": 1}), {"expires_in": 60}),
        (("alice", ["bob"], "hi", {"m": 1}), {"expires_in": 60}),
        (("alice", ["bob", "carol"], "hi", {"m": 2}), {"expires_in": 60}),
        (("alice", ["bob", "carol"], "hi"), {"expires_in": 60}),
        (("alice", ["bob", "carol"], "hi", {"m": 1}), {"expires_in": 61}),
        (("alice", ["bob", "carol"], "hi", {"m": 1}), {}),
        (("alice", ["bob", "carol"], "hi", {"m": 1}), {"expires_in": 60, "deliver_at": datetime.now(UTC)}),
    ]
    for arguments, options in different:
        with pytest.raises(IdempotencyConflictError, match=r"'k' was already used.*nothing was stored") as caught:
            await send(sdk, *arguments, **options)
        assert caught.value.idempotency_key == "k"
    assert await send(sdk, "alice", ["bob", "carol"], "hi", {"m": 1}, expires_in=60) == ids
    assert await sdk.one_way.get_message_count("alice", "sender") == 2


async def test_a_key_belongs_to_its_sender(sdk: Sdk) -> None:
    assert await send(sdk, "alice", "bob", "hi") != await send(sdk, "carol", "bob", "hi")
    assert await send(sdk, "alice", "bob", "hi", key=None) != await send(sdk, "alice", "bob", "hi", key=None)


async def test_the_same_call_made_many_times_at_once_is_stored_once(make_sdk: MakeSdk) -> None:
    sdks = [await make_sdk(), await make_sdk()]
    await sdks[0].add_people("alice", "bob", "carol")
    sdks[0].register_handler("bob")(inbox := Inbox())
    answers = await asyncio.gather(*(send(sdk, "alice", ["bob", "carol"], "hi") for sdk in sdks for _ in range(10)))
    assert len({tuple(answer) for answer in answers}) == 1
    assert await sdks[0].one_way.get_message_count("alice", "sender") == 2
    await sdks[0].wait(answers[0][:1])
    assert inbox.messages == ["hi"]


async def test_of_two_different_calls_made_at_once_one_conflicts(sdk: Sdk) -> None:
    calls = [send(sdk, "alice", "bob", number) for number in (1, 2)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["IdempotencyConflictError", "list"]


async def test_a_repeat_is_answered_before_any_other_check(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=1, handler_grace=0)
    await sdk.add_people("alice", "bob")
    ids = await send(sdk, "alice", "bob", "hi")
    with pytest.raises(MailboxFullError):
        await send(sdk, "alice", "bob", "hi", key="another")
    assert await send(sdk, "alice", "bob", "hi") == ids
    assert await sdk.one_way.send("alice", "bob", "hi", idempotency_key="k") == ids, "although nobody serves bob"


async def test_a_repeat_after_the_message_was_handled_does_not_run_it_again(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    at = datetime.now(UTC) - timedelta(seconds=1)
    ids = await send(sdk, "alice", "bob", "hi", deliver_at=at, expires_in=60)
    await sdk.wait(ids)
    assert await send(sdk, "alice", "bob", "hi", deliver_at=at, expires_in=60) == ids
    await sdk.wait(await send(sdk, "alice", "bob", "next", key="next"))
    assert inbox.messages == ["hi", "next"]


async def test_a_repeat_is_answered_although_a_recipient_was_removed_meanwhile(make_sdk: MakeSdk) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    ids = await send(sdk, "alice", ["bob", "carol"], "hi")
    await other.deregister_agent("carol")
    for one in (sdk, other):
        assert await send(one, "alice", ["bob", "carol"], "hi") == ids
        with pytest.raises(AgentNotFoundError, match="'carol'"):
            await send(one, "alice", ["bob", "carol"], "hi", key="new")
