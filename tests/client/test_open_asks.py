"""Asks that an agent answers long after its handler has returned: listing, answering, refusing and passing them on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationTimeoutError,
    HandlerError,
    InvalidArgumentError,
    Record,
    SessionStateError,
)
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


@pytest.fixture
async def asked(make_sdk: MakeSdk) -> tuple[Sdk, Sdk]:
    """Two processes: bob's, whose handler only takes notice, and alice's and carol's."""
    bob, alice = await make_sdk(), await make_sdk()
    await bob.add_people("alice", "bob", "carol")

    @bob.register_handler("bob", ordered=False)
    async def take_notice(message: Any, context: Any) -> None: ...

    await alice.wait_until_served("bob")
    return bob, alice


def ask(sdk: Sdk, asker: str, question: Any, timeout: float = 30.0, **how: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(sdk.conversation.send_and_wait(asker, "bob", question, timeout, **how))


async def waiting(sdk: Sdk, number: int) -> list[Record]:
    return await eventually(
        lambda: sdk.conversation.list_open_asks("bob"), SOON, until=lambda found: len(found) == number
    )


async def test_open_asks_are_listed_until_they_end_and_an_answer_goes_to_the_one_that_is_named(
    asked: tuple[Sdk, Sdk],
) -> None:
    bob, alice = asked
    main = ask(alice, "alice", {"text": "first"})
    await waiting(bob, 1)
    side = ask(alice, "alice", "second", thread="side")
    await waiting(bob, 2)
    other = ask(alice, "carol", "third")
    first, second, third = await waiting(bob, 3)
    assert [(one.sender_id, one.content, one.thread) for one in (first, second, third)] == [
        ("alice", {"text": "first"}, None),
        ("alice", "second", "side"),
        ("carol", "third", None),
    ]
    assert first.deadline > first.created_at
    [page] = await bob.conversation.list_open_asks("bob", limit=1, offset=2)
    assert page == third

    # The thread need not be named, and what is named by mistake is not answered.
    with pytest.raises(SessionStateError, match="is not 'carol''s"):
        await bob.conversation.reply("bob", "carol", "?", message_id=first.message_id)
    await bob.conversation.reply("bob", "alice", "to the second", message_id=second.message_id)
    assert await side == "to the second"
    assert not main.done()
    await bob.conversation.reply("bob", "carol", "to the third", message_id=third.message_id)
    key = str(uuid4())
    id = await bob.conversation.reply("bob", "alice", "to the first", message_id=first.message_id, idempotency_key=key)
    assert [await main, await other] == ["to the first", "to the third"]
    assert await bob.conversation.list_open_asks("bob") == []
    again = await bob.conversation.reply(
        "bob", "alice", "to the first", message_id=first.message_id, idempotency_key=key
    )
    assert again == id, "a repeat is answered as the first time"


async def test_an_answer_to_an_ask_that_is_over_does_not_answer_the_next_one(asked: tuple[Sdk, Sdk]) -> None:
    bob, alice = asked
    late = ask(alice, "alice", "quick?", timeout=0.2)
    [first] = await waiting(bob, 1)
    with pytest.raises(ConversationTimeoutError):
        await late
    new = ask(alice, "alice", "another?")
    [second] = await waiting(bob, 1)
    with pytest.raises(SessionStateError, match="has timed out"):
        await bob.conversation.reply("bob", "alice", "the first answer", message_id=first.message_id)
    with pytest.raises(SessionStateError, match="No ask has the id"):
        await bob.conversation.reply("bob", "alice", "?", message_id=str(uuid4()))
    await bob.conversation.reply("bob", "alice", "the second answer", message_id=second.message_id)
    assert await new == "the second answer"


async def test_an_ask_is_refused_once_and_its_asker_is_told_at_once_in_another_process_too(
    asked: tuple[Sdk, Sdk],
) -> None:
    bob, alice = asked
    refused, kept = ask(alice, "alice", "secret?"), ask(alice, "carol", "open?")
    by_sender = {one.sender_id: one for one in await waiting(bob, 2)}
    id = by_sender["alice"].message_id
    for reason in ("", "two\nlines", 7):
        with pytest.raises(InvalidArgumentError, match="reason"):
            await bob.conversation.refuse("bob", id, reason)  # type: ignore[arg-type]
    with pytest.raises(SessionStateError, match="is with 'bob' and not with 'carol'"):
        await bob.conversation.refuse("carol", id, "not mine")
    with pytest.raises(AgentNotFoundError):
        await bob.conversation.refuse("bop", id, "no")
    await bob.conversation.refuse("bob", id, "I must not say.")
    with pytest.raises(HandlerError, match=r"^'bob' refused to answer: I must not say\.$"):
        await asyncio.wait_for(refused, SOON)
    await bob.conversation.refuse("bob", id, "I must not say.")  # a repeat
    with pytest.raises(SessionStateError, match="has failed"):
        await bob.conversation.refuse("bob", id, "another reason")
    with pytest.raises(SessionStateError, match="No ask has the id"):
        await bob.conversation.refuse("bob", str(uuid4()), "no")
    assert not kept.done()
    await bob.conversation.reply("bob", "carol", "open", message_id=by_sender["carol"].message_id)
    assert await kept == "open"
    assert await bob.dead_letters.list("bob") == []


async def test_what_a_screen_has_shown_is_marked_as_read_and_nothing_else(asked: tuple[Sdk, Sdk]) -> None:
    bob, alice = asked
    notes = [id for text in "ab" for id in await alice.one_way.send("alice", "bob", text)]
    talks = [await alice.conversation.send_no_wait("alice", "bob", text) for text in "cd"]
    await bob.wait([*notes, *talks])
    assert await bob.one_way.mark_messages_read("bob", message_ids=notes[0]) == 1
    assert await bob.one_way.mark_messages_read("bob", message_ids=[*notes, *talks]) == 1
    assert await bob.conversation.mark_messages_read("bob", [*notes, talks[1]]) == 1
    assert await bob.conversation.mark_messages_read("alice", talks) == 0
    assert await bob.conversation.get_unread_messages("bob", peek=True) == ["c"]
    with pytest.raises(InvalidArgumentError, match="give one of them"):
        await bob.one_way.mark_messages_read("bob", "alice", message_ids=notes)
    wrong: list[Any] = [7, ["x"], [7]]
    for ids in wrong:
        with pytest.raises(InvalidArgumentError, match="message_ids"):
            await bob.conversation.mark_messages_read("bob", ids)
