"""Agents that wait for each other: a circle is refused before anything is stored, and nothing else is."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from agent_messaging import (
    ConversationEndedError,
    MessageContext,
    MutualWaitError,
    NoHandlerRegisteredError,
    SessionLockError,
)
from tests.client.conversing import (
    Clerk,
    Desk,
    ask,
    begin,
    nothing_is_left,
    rows,
    session_of,
    states_of_asks,
    transcript,
    until_registered,
    until_waiting,
)
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually


async def stored(sdk: Sdk) -> list[tuple[Any, ...]]:
    """How much there is of all that a conversation stores."""
    tables = ("messages", "sessions", "asks", "deliveries")
    return await rows(sdk, " union all ".join(f"select '{table}', count(*) from {table}" for table in tables))


@pytest.mark.parametrize("size", [2, 3, 10])
async def test_a_circle_is_refused_with_its_path_before_anything_is_stored(make_sdk: MakeSdk, size: int) -> None:
    sdks = [await make_sdk() for _ in range(2)]
    names = [f"agent-{number}" for number in range(size)]
    await sdks[0].add_people(*names)
    asks = []
    for number, (asker, responder) in enumerate(itertools.pairwise(names)):
        asks.append(ask(sdks[number % 2], asker, responder, timeout=60))
        await until_waiting(sdks[0], asker, responder)
    before = await stored(sdks[0])
    started = time.monotonic()
    for sdk in sdks:
        with pytest.raises(MutualWaitError) as caught:
            await ask(sdk, names[-1], names[0], timeout=60)
        assert caught.value.path == (names[0], *names[1:], names[0])
        assert f"This wait would close a circle: {' → '.join(names)} → {names[0]}. Nothing was stored" in str(
            caught.value
        )
        assert isinstance(caught.value, SessionLockError)
    assert time.monotonic() - started < 5
    assert await stored(sdks[0]) == before
    # Who would have closed it can answer instead, and so the whole chain comes loose.
    for asker, responder in reversed(list(itertools.pairwise(names))):
        await sdks[0].conversation.reply(responder, asker, responder)
    assert await asyncio.gather(*asks) == names[1:]
    await nothing_is_left(*sdks)


async def test_queueing_behind_an_ask_of_the_circle_is_refused_as_well(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob", timeout=60)
    await until_waiting(sdk, "alice", "bob")
    with pytest.raises(MutualWaitError, match="alice → bob → alice"):
        await ask(sdk, "bob", "alice", wait_for_session=True, timeout=60)
    await sdk.conversation.reply("bob", "alice", "!")
    assert await asking == "!"


async def test_one_that_could_answer_between_makes_it_no_circle(sdk: Sdk) -> None:
    """Bob has a handler and a free slot: it answers alice's ask although bob's own code waits for alice."""
    sdk.register_handler("bob")(desk := Desk())
    own = ask(sdk, "bob", "alice", "from bob's own code")
    await until_waiting(sdk, "bob", "alice")
    back = ask(sdk, "alice", "bob", "to bob's handler, not read yet")
    await desk.wait_for(1)
    desk.answers.put_nowait("from bob's handler")
    assert await back == "from bob's handler"
    await sdk.conversation.reply("alice", "bob", "!")
    assert await own == "!"
    await nothing_is_left(sdk)


async def test_a_question_inside_an_ask_goes_to_the_asker_that_goes_on_waiting(make_sdk: MakeSdk) -> None:
    for one, other in ((await make_sdk(),) * 2, (await make_sdk(), await make_sdk())):
        await one.add_people("alice", "bob")

        async def order(message: Any, context: MessageContext, of: Sdk = other) -> list[Any]:
            size = await of.conversation.send_and_wait("bob", "alice", "which size?", timeout=SOON)
            colour = await of.conversation.send_and_wait("bob", "alice", "which colour?", timeout=SOON)
            return [message, size, colour]

        answers = Clerk(lambda message, context: {"which size?": 42, "which colour?": "red"}[message])
        one.register_handler("alice")(answers)
        other.register_handler("bob")(order)
        await one.wait_until_served(["alice", "bob"], SOON)
        assert await one.conversation.send_and_wait("alice", "bob", "shoes", timeout=SOON) == ["shoes", 42, "red"]
        assert answers.messages == ["which size?", "which colour?"]
        assert all(context.requires_reply for context in answers.contexts)
        await nothing_is_left(one, other)
        one.unregister_handler("alice")
        other.unregister_handler("bob")


async def test_a_question_inside_an_ask_whose_asker_has_no_handler_is_refused(sdk: Sdk) -> None:
    refused: list[BaseException] = []

    async def curious(message: Any, context: MessageContext) -> str:
        for options in ({}, {"require_handler": False}):
            try:
                await sdk.conversation.send_and_wait("bob", "alice", "?", timeout=60, **options)  # type: ignore[call-overload]
            except (MutualWaitError, NoHandlerRegisteredError) as error:
                refused.append(error)
        return "nobody to ask"

    sdk.register_handler("bob")(curious)
    assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "nobody to ask"
    assert isinstance(refused[-1], MutualWaitError)
    assert refused[-1].path == ("alice", "bob", "alice")
    assert len(refused) == 2
    await nothing_is_left(sdk)


async def test_a_pair_ping_pongs_over_many_rounds(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    rounds = 25

    async def alice() -> list[Any]:
        return [await ask(one, "alice", "bob", 2 * number) for number in range(rounds)]

    async def bob() -> list[Any]:
        seen: list[Any] = [await other.conversation.wait_for_message("bob", "alice", SOON)]
        while len(seen) < rounds:
            seen.append(await other.conversation.send_and_wait("bob", "alice", seen[-1] + 1, SOON))
        await other.conversation.reply("bob", "alice", seen[-1] + 1)
        return seen

    answers, questions = await asyncio.gather(alice(), bob())
    assert questions == [2 * n for n in range(rounds)]
    assert answers == [2 * n + 1 for n in range(rounds)]
    assert set(await states_of_asks(one)) == {"replied"}
    session = await session_of(one, "alice")
    assert [content for _, content, _ in await transcript(one, session.session_id)] == list(range(2 * rounds))
    await nothing_is_left(one, other)


async def test_recursion_between_two_handlers_is_refused_where_it_would_never_end(sdk: Sdk) -> None:
    """Each asks the other back from its handler: the second ask of the same pair would wait for the first."""
    depth = 0
    refused: list[MutualWaitError] = []

    async def ask_back(message: Any, context: MessageContext) -> Any:
        nonlocal depth
        depth += 1
        try:
            return await sdk.conversation.send_and_wait(context.receiver_id, context.sender_id, message + 1, timeout=60)
        except MutualWaitError as error:
            refused.append(error)
            return f"refused at {message}"

    sdk.register_handler("alice")(ask_back)
    sdk.register_handler("bob")(ask_back)
    assert await sdk.conversation.send_and_wait("alice", "bob", 0, timeout=SOON) == "refused at 1"
    assert depth == 2
    assert refused[0].path[0] == refused[0].path[-1]
    assert set(refused[0].path) == {"alice", "bob"}
    await nothing_is_left(sdk)


async def test_a_full_agent_in_the_circle_is_refused_and_one_with_a_free_slot_is_not(sdk: Sdk) -> None:
    """alice's run for carol asks bob, whose run asks alice: her one slot is taken by the run that waits."""
    outcomes: dict[str, Any] = {}

    async def alice(message: Any, context: MessageContext) -> Any:
        if context.sender_id == "carol":
            return await sdk.conversation.send_and_wait("alice", "bob", message, timeout=SOON)
        return "alice has time"

    async def bob(message: Any, context: MessageContext) -> Any:
        try:
            return await sdk.conversation.send_and_wait("bob", "alice", message, timeout=SOON)
        except MutualWaitError as error:
            return list(error.path)

    sdk.register_handler("bob")(bob)
    for slots in (1, 2):
        sdk.register_handler("alice", concurrency=slots)(alice)
        await sdk.wait_until_served("alice", SOON)
        query = f"select slots from services where slots = {slots} and kind = 'conversation'"
        await eventually(lambda query=query: rows(sdk, query), SOON)  # type: ignore[misc]
        outcomes[str(slots)] = await sdk.conversation.send_and_wait("carol", "alice", "?", timeout=SOON)
    assert outcomes == {"1": ["alice", "bob", "alice"], "2": "alice has time"}
    await nothing_is_left(sdk)


async def test_a_full_agent_outside_the_circle_is_waited_for(sdk: Sdk) -> None:
    sdk.register_handler("bob", concurrency=1)(desk := Desk())
    await sdk.add_people("dave")
    first = ask(sdk, "carol", "bob", 1)
    await desk.wait_for(1)
    others = [ask(sdk, name, "bob", 2) for name in ("alice", "dave")]
    for name in ("alice", "dave"):
        await until_waiting(sdk, name, "bob")
    for _ in range(3):
        desk.answers.put_nowait("!")
    assert await asyncio.gather(first, *others) == ["!"] * 3


async def test_two_that_ask_each_other_in_the_same_instant_never_both_wait(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    for _ in range(10):
        asks = [ask(one, "alice", "bob", timeout=60), ask(other, "bob", "alice", timeout=60)]
        done, waiting = await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED, timeout=SOON)
        [refused] = done
        assert isinstance(refused.exception(), MutualWaitError)
        [left] = waiting
        await one.conversation.end_conversation("alice", "bob")
        with pytest.raises(ConversationEndedError):
            await left
    await nothing_is_left(one, other)


async def test_an_ask_to_who_waits_for_a_message_is_that_message(sdk: Sdk) -> None:
    waiting = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(sdk)
    asking = ask(sdk, "alice", "bob")
    assert await waiting == "?"
    answering = begin(sdk.conversation.send_and_wait("bob", "alice", "a question back is the answer", SOON))
    assert await asking == "a question back is the answer"
    await sdk.conversation.reply("alice", "bob", "!")
    assert await answering == "!"
    await nothing_is_left(sdk)
