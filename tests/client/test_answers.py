"""Only what is meant as the answer is the answer, whatever else the one who was asked sends to the asker meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent_messaging import (
    MessageContext,
    MutualWaitError,
    NoHandlerRegisteredError,
    SessionStateError,
    register_message_notification_handler,
)
from tests.client.conversing import (
    Clerk,
    Desk,
    ask,
    begin,
    nothing_is_left,
    rows,
    session_of,
    until_registered,
    until_waiting,
)
from tests.client.support import SOON, Inbox, MakeSdk, Sdk, make_config
from tests.support import eventually

SEND = """
import asyncio, sys
from agent_messaging import AgentMessaging

async def main() -> None:
    async with AgentMessaging(sys.argv[1]) as sdk:
        await getattr(sdk.conversation, sys.argv[2])("bob", "alice", sys.argv[3])

asyncio.run(main())
"""


async def in_another_process(sdk: Sdk, call: str, message: str) -> None:
    url = sdk.config.url
    assert url is not None
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SEND, url, call, message)
    assert await process.wait() == 0


# --- bob says something to alice --------------------------------------------------------------------------------------

Says = Callable[[Sdk, str], Coroutine[Any, Any, Any]]


async def in_a_task(sdk: Sdk, message: str) -> None:
    await begin(sdk.conversation.send_no_wait("bob", "alice", message))


async def in_another_sdk_object(sdk: Sdk, message: str) -> None:
    async with Sdk(make_config(str(sdk.config.url))) as other:
        await other.conversation.send_no_wait("bob", "alice", message)


async def in_its_process(sdk: Sdk, message: str) -> None:
    await in_another_process(sdk, "send_no_wait", message)


async def in_the_run_of_another_message(sdk: Sdk, message: str) -> None:
    """See `Bob`."""
    await sdk.wait([await sdk.conversation.send_no_wait("carol", "bob", message)])


async def in_a_notification_handler(sdk: Sdk, message: str) -> None:
    told = asyncio.Event()

    async def on_news(news: Any, context: MessageContext) -> None:
        await sdk.conversation.send_no_wait("bob", "alice", news)
        told.set()

    register_message_notification_handler(agent="bob")(on_news)
    await sdk.conversation.send_no_wait("dave", "bob", message)
    await told.wait()


class Bob(Desk):
    """Answers alice when the test says what, and hands on to her what carol says."""

    def __init__(self, sdk: Sdk) -> None:
        super().__init__()
        self.sdk = sdk

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        if context.sender_id == "alice":
            return await super().__call__(message, context)
        if context.sender_id == "carol":
            await self.sdk.conversation.send_no_wait("bob", "alice", message)
        return None


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "says",
    [
        in_a_task,
        in_another_sdk_object,
        in_its_process,
        in_the_run_of_another_message,
        in_a_notification_handler,
    ],
)
async def test_while_a_handler_works_on_an_ask_only_its_result_answers_it(sdk: Sdk, says: Says) -> None:
    await sdk.add_people("dave")
    sdk.register_handler("bob")(bob := Bob(sdk))
    asking = ask(sdk, "alice", "bob", "the question")
    await bob.wait_for(1)
    await says(sdk, "a status")
    assert not asking.done()
    assert await sdk.conversation.get_unread_messages("alice") == ["a status"]
    bob.answers.put_nowait("the answer")
    assert await asking == "the answer"
    await nothing_is_left(sdk)


async def test_a_run_that_has_the_ask_keeps_it_though_the_agents_own_code_reads_it(sdk: Sdk) -> None:
    sdk.register_handler("bob")(bob := Bob(sdk))
    asking = ask(sdk, "alice", "bob", "the question")
    await bob.wait_for(1)
    assert await sdk.conversation.get_messages_from_agent("bob", "alice") == ["the question"]
    await sdk.conversation.send_no_wait("bob", "alice", "a status")
    assert not asking.done()
    bob.answers.put_nowait("the answer")
    assert await asking == "the answer"


@pytest.mark.sampled(4)
@pytest.mark.parametrize("where", ["task", "process", "another run", "after the run"])
async def test_a_reply_answers_wherever_it_is_made(sdk: Sdk, where: str) -> None:
    answered = asyncio.Event()

    async def on_message(message: Any, context: MessageContext) -> None:
        if context.sender_id == "carol":
            await sdk.conversation.reply("bob", "alice", message)
        elif where != "after the run":
            await answered.wait()

    sdk.register_handler("bob", timeout=SOON)(bob := Clerk(on_message))
    asking = ask(sdk, "alice", "bob", "the question", timeout=SOON)
    await bob.wait_for(1)
    if where == "process":
        await in_another_process(sdk, "reply", "the answer")
    elif where == "another run":
        await sdk.conversation.send_no_wait("carol", "bob", "the answer")
    else:
        if where == "after the run":
            await eventually(lambda: rows(sdk, "select 1 from deliveries where state = 'done'"), SOON)
            await sdk.conversation.send_no_wait("bob", "alice", "a status")
        await begin(sdk.conversation.reply("bob", "alice", "the answer"))
    assert await asking == "the answer"
    answered.set()


async def test_a_reply_in_the_run_of_an_ask_that_is_over_does_not_answer_the_next_one(sdk: Sdk) -> None:
    late: asyncio.Queue[BaseException | None] = asyncio.Queue()
    go_on = asyncio.Event()

    async def on_question(question: Any, context: MessageContext) -> None:
        await go_on.wait()
        try:
            await sdk.conversation.reply("bob", "alice", "to the first")
        except SessionStateError as error:
            late.put_nowait(error)
        else:
            late.put_nowait(None)

    sdk.register_handler("bob", ordered=False)(on_question)
    with pytest.raises(TimeoutError):
        await sdk.conversation.send_and_wait("alice", "bob", "first", timeout=0.2)
    sdk.register_handler("bob", ordered=False)(second := Desk())
    asking = ask(sdk, "alice", "bob", "second")
    await second.wait_for(1)
    go_on.set()
    assert isinstance(await late.get(), SessionStateError)
    assert not asking.done()
    second.answers.put_nowait("to the second")
    assert await asking == "to the second"


async def test_a_reply_of_a_task_that_outlives_its_run_answers_the_ask_of_that_run(sdk: Sdk) -> None:
    """Not the one of the main thread, which is open too, and which own code would mean."""
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def on_question(question: Any, context: MessageContext) -> Any:
        async def answer_later() -> None:
            await go_on.wait()
            await sdk.conversation.reply("bob", "alice", f"to {question}")
            # This ask is over now. What follows is the agent's own code.
            await sdk.conversation.reply("bob", "alice", "to main")

        if question == "side":
            tasks.append(begin(answer_later()))

    sdk.register_handler("bob", ordered=False)(on_question)
    main = ask(sdk, "alice", "bob", "main")
    side = ask(sdk, "alice", "bob", "side", thread="side")
    await eventually(
        lambda: rows(sdk, "select 1 from deliveries where state = 'done'"), SOON, until=lambda found: len(found) == 2
    )
    go_on.set()
    assert await side == "to side"
    assert await main == "to main"
    await tasks[0]


@pytest.mark.parametrize("apart", [0.0, 0.05])
@pytest.mark.parametrize("objects", [1, 2])
async def test_two_agents_with_handlers_may_ask_each_other_at_the_same_time(
    make_sdk: MakeSdk, apart: float, objects: int
) -> None:
    sdks = [await make_sdk() for _ in range(objects)]
    await sdks[0].add_people("alice", "bob")

    async def work(question: Any, context: MessageContext) -> Any:
        await asyncio.sleep(0.15)
        return [context.receiver_id, "answers", question]

    sdks[0].register_handler("alice")(work)
    sdks[-1].register_handler("bob")(work)
    for sdk in sdks:
        await sdk.wait_until_served(["alice", "bob"], SOON)
    for number in range(3):
        one = ask(sdks[0], "alice", "bob", ["alice asks", number], require_handler=True)
        await asyncio.sleep(apart)
        other = ask(sdks[-1], "bob", "alice", ["bob asks", number], require_handler=True)
        assert await one == ["bob", "answers", ["alice asks", number]]
        assert await other == ["alice", "answers", ["bob asks", number]]
    await nothing_is_left(*sdks)


async def test_while_both_wait_the_session_shows_who_began(sdk: Sdk) -> None:
    sdk.register_handler("alice")(alice := Desk())
    sdk.register_handler("bob")(bob := Desk())
    first = ask(sdk, "alice", "bob")
    await bob.wait_for(1)
    second = ask(sdk, "bob", "alice")
    await alice.wait_for(1)
    session = await session_of(sdk, "bob")
    assert (session.status.value, session.locked_by) == ("waiting", "alice")
    info = await sdk.conversation.get_session_info(session.session_id)
    assert info.locked_by == "alice"
    bob.answers.put_nowait("bob's")
    assert await first == "bob's"
    assert (await session_of(sdk, "bob")).locked_by == "bob"
    alice.answers.put_nowait("alice's")
    assert await second == "alice's"


# --- agents that read -------------------------------------------------------------------------------------------------


async def read_all(sdk: Sdk) -> Any:
    return (await sdk.conversation.get_unread_messages("bob"))[0]


async def read_one_sender(sdk: Sdk) -> Any:
    return (await sdk.conversation.get_messages_from_agent("bob", "alice"))[0]


async def wait_for_it(sdk: Sdk) -> Any:
    return await sdk.conversation.wait_for_message("bob", "alice", SOON)


Reads = Callable[[Sdk], Coroutine[Any, Any, Any]]
READS = [read_all, read_one_sender, wait_for_it]


@pytest.mark.parametrize("reads", READS)
async def test_what_the_agents_own_code_has_read_its_next_message_answers(sdk: Sdk, reads: Reads) -> None:
    asking = ask(sdk, "alice", "bob", "the question")
    await until_waiting(sdk, "alice", "bob")
    assert await reads(sdk) == "the question"
    await sdk.conversation.send_no_wait("bob", "carol", "to another one")
    await sdk.conversation.send_no_wait("bob", "alice", "the answer")
    assert await asking == "the answer"
    await sdk.conversation.send_no_wait("bob", "alice", "and another thing")
    assert await sdk.conversation.get_unread_messages("alice") == ["and another thing"]


async def test_so_it_does_where_the_agent_has_a_handler_beside_the_loop_that_reads(sdk: Sdk) -> None:
    sdk.register_handler("bob")(bob := Inbox())
    reading = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(sdk)
    asking = ask(sdk, "alice", "bob", "the question")
    assert await reading == "the question"
    await sdk.conversation.send_no_wait("bob", "alice", "whatever the loop says next")
    assert await asking == "whatever the loop says next"
    reading = begin(sdk.conversation.wait_for_message("bob", "alice", SOON))
    await until_registered(sdk)
    asking = ask(sdk, "alice", "bob", "another question")
    assert await reading == "another question"
    await sdk.conversation.reply("bob", "alice", "the answer")
    await sdk.conversation.send_no_wait("bob", "alice", "a status")
    assert await asking == "the answer"
    assert bob.messages == []


@pytest.mark.parametrize("reads", READS)
async def test_what_it_has_read_no_handlers_run_answers_but_by_reply(sdk: Sdk, reads: Reads) -> None:
    """Bob's own code reads; his handler has a message of carol's meanwhile, and says something to alice."""
    asking = ask(sdk, "alice", "bob", "the question")
    await until_waiting(sdk, "alice", "bob")
    assert await reads(sdk) == "the question"
    sdk.register_handler("bob")(Bob(sdk))
    await in_the_run_of_another_message(sdk, "a status")
    assert not asking.done()
    assert await sdk.conversation.get_unread_messages("alice") == ["a status"]
    await sdk.conversation.send_no_wait("bob", "alice", "the answer")
    assert await asking == "the answer"


async def test_what_a_run_has_read_only_a_reply_answers(sdk: Sdk) -> None:
    """The run of another message reads what alice asks bob: its code has the ask, and only it knows what is meant."""
    has_read = asyncio.Event()

    async def on_message(message: Any, context: MessageContext) -> None:
        await sdk.conversation.wait_for_message("bob", "alice", SOON)
        await sdk.conversation.send_no_wait("bob", "alice", "a status")
        has_read.set()

    asking = ask(sdk, "alice", "bob", "the question")
    await until_waiting(sdk, "alice", "bob")
    sdk.register_handler("carol")(Inbox(on_message))
    await sdk.conversation.send_no_wait("bob", "carol", "look at what there is")
    await has_read.wait()
    await sdk.conversation.send_no_wait("bob", "alice", "another status")
    assert not asking.done()
    assert await sdk.conversation.get_unread_messages("alice") == ["a status", "another status"]
    await sdk.conversation.reply("bob", "alice", "the answer")
    assert await asking == "the answer"


async def test_what_was_given_back_is_not_taken_any_more(sdk: Sdk) -> None:
    """A call that is cancelled behind its commit gives the ask back to the handlers."""
    asking = ask(sdk, "alice", "bob", "the question")
    await until_waiting(sdk, "alice", "bob")
    store = sdk._started().store.sessions
    bob = await sdk._started().names.get("bob")
    page = await store.read_messages(bob.id, limit=1)
    await store.return_messages(page.messages)
    await sdk.conversation.send_no_wait("bob", "alice", "a status")
    assert not asking.done()
    sdk.register_handler("bob")(Clerk(lambda message, context: "the answer"))
    assert await asking == "the answer"
    assert await sdk.conversation.get_unread_messages("alice") == ["a status"]


async def test_an_ask_whose_run_went_back_is_answered_by_who_reads_it(sdk: Sdk) -> None:
    """The first run was stopped with its process; nobody handles the ask any more, and bob's own code reads it."""
    async with Sdk(make_config(str(sdk.config.url), drain_timeout=0.01)) as other:
        other.register_handler("bob")(desk := Desk())
        await sdk.wait_until_served("bob", SOON)
        asking = ask(sdk, "alice", "bob", "the question")
        await desk.wait_for(1)
    await eventually(lambda: rows(sdk, "select 1 from deliveries where state = 'queued'"), SOON)
    await sdk.conversation.send_no_wait("bob", "alice", "a status")
    assert not asking.done()
    assert await sdk.conversation.get_unread_messages("bob") == ["the question"]
    await sdk.conversation.send_no_wait("bob", "alice", "the answer")
    assert await asking == "the answer"


# --- asks that are no answers -----------------------------------------------------------------------------------------


async def test_in_a_run_of_another_message_an_ask_is_an_ask_of_its_own(sdk: Sdk) -> None:
    """Carol's message makes bob ask alice, who waits for bob: her handler answers, and she goes on waiting."""
    answers: list[Any] = []

    async def on_message(message: Any, context: MessageContext) -> Any:
        if context.sender_id == "alice":
            return await desk(message, context)
        answers.append(await sdk.conversation.send_and_wait("bob", "alice", "bob asks", timeout=SOON))
        return None

    desk = Desk()
    sdk.register_handler("alice")(Clerk(lambda message, context: ["alice", message]))
    sdk.register_handler("bob")(on_message)
    asking = ask(sdk, "alice", "bob", "alice asks")
    await desk.wait_for(1)
    await sdk.wait([await sdk.conversation.send_no_wait("carol", "bob", "ask alice")])
    assert answers == [["alice", "bob asks"]]
    assert not asking.done()
    desk.answers.put_nowait("the answer")
    assert await asking == "the answer"
    await nothing_is_left(sdk)


async def test_an_ask_that_is_no_answer_to_an_agent_nobody_serves_is_refused(sdk: Sdk) -> None:
    sdk.register_handler("bob")(desk := Desk())
    asking = ask(sdk, "alice", "bob")
    await desk.wait_for(1)
    with pytest.raises(NoHandlerRegisteredError):
        await sdk.conversation.send_and_wait("bob", "alice", "?", timeout=SOON)
    desk.answers.put_nowait("the answer")
    assert await asking == "the answer"


async def test_a_run_that_read_an_ask_and_asks_the_asker_would_wait_in_a_circle(sdk: Sdk) -> None:
    """Alice, whom nobody serves, waits for a message that this run has: it cannot answer while it waits for alice."""
    failed: list[BaseException] = []

    async def on_message(message: Any, context: MessageContext) -> None:
        await sdk.conversation.wait_for_message("bob", "alice", SOON)
        try:
            await sdk.conversation.send_and_wait("bob", "alice", "?", timeout=SOON, require_handler=False)
        except MutualWaitError as error:
            failed.append(error)
        await sdk.conversation.reply("bob", "alice", "the answer")

    sdk.register_handler("carol")(Inbox(on_message))
    asking = ask(sdk, "alice", "bob")
    await until_waiting(sdk, "alice", "bob")
    await sdk.conversation.send_no_wait("bob", "carol", "go")
    assert await asking == "the answer"
    assert [str(error).count("alice → bob → alice") for error in failed] == [1]
    await nothing_is_left(sdk)


async def test_the_run_of_another_sdk_object_is_a_run(make_sdk: MakeSdk) -> None:
    """Bob's handler lives in one SDK object of the process, and sends through another one."""
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob", "carol")
    asking = ask(one, "alice", "bob", "the question")
    await until_waiting(one, "alice", "bob")
    assert await one.conversation.get_unread_messages("bob") == ["the question"]
    one.register_handler("bob")(Bob(other))
    await in_the_run_of_another_message(one, "a status")
    assert not asking.done()
    await other.conversation.send_no_wait("bob", "alice", "the answer")
    assert await asking == "the answer"


async def test_a_thread_and_a_task_of_a_run_are_in_it_until_it_ends(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob", "the question")
    await until_waiting(sdk, "alice", "bob")
    assert await sdk.conversation.get_unread_messages("bob") == ["the question"]
    loop = asyncio.get_running_loop()
    go_on = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    def in_a_thread(message: Any, context: MessageContext) -> None:
        send = sdk.conversation.send_no_wait("bob", "alice", "from a thread")
        asyncio.run_coroutine_threadsafe(send, loop).result(SOON)

    async def later() -> None:
        await sdk.conversation.send_no_wait("bob", "alice", "from a task")
        await go_on.wait()
        await sdk.conversation.send_no_wait("bob", "alice", "the answer")

    async def with_a_task(message: Any, context: MessageContext) -> None:
        left.append(begin(later()))
        await eventually(lambda: rows(sdk, "select 1 from messages where content like '%a task%'"), SOON)

    for handler in (in_a_thread, with_a_task):
        sdk.register_handler("bob")(handler)
        await sdk.wait([await sdk.conversation.send_no_wait("carol", "bob", "go")])
        assert not asking.done()
    go_on.set()
    assert await asking == "the answer"
    await asyncio.gather(*left)
    assert await sdk.conversation.get_unread_messages("alice") == ["from a thread", "from a task"]


# --- notifications ----------------------------------------------------------------------------------------------------


async def test_who_waits_for_the_senders_answer_is_not_notified_of_its_other_messages(sdk: Sdk) -> None:
    register_message_notification_handler(agent="bob")(notices := Inbox())
    sdk.register_handler("alice")(desk := Desk())
    asking = ask(sdk, "bob", "alice")
    await desk.wait_for(1)
    await sdk.conversation.send_no_wait("alice", "bob", "a status")
    await sdk.conversation.send_no_wait("carol", "bob", "news")
    assert await notices.wait_for(1) == ["news"]
    desk.answers.put_nowait("the answer")
    assert await asking == "the answer"
    await sdk.conversation.send_no_wait("alice", "bob", "more")
    assert await notices.wait_for(2) == ["news", "more"]


async def test_nor_by_a_notice_that_is_left_for_another_process(make_sdk: MakeSdk) -> None:
    sender = await make_sdk(auto_invoke_handlers=False)
    await sender.add_people("alice", "bob", "carol")
    register_message_notification_handler(agent="bob")(notices := Inbox())
    served = await make_sdk()
    await eventually(lambda: rows(served, "select 1 from services where kind = 'notification'"), SOON)
    await sender.wait_until_served("bob", SOON)
    asking = ask(sender, "bob", "alice")
    await until_waiting(sender, "bob", "alice")
    await sender.conversation.send_no_wait("alice", "bob", "a status")
    await sender.conversation.send_no_wait("carol", "bob", "news")
    assert await notices.wait_for(1) == ["news"]
    await eventually(lambda: rows(sender, "select 1 from notices"), SOON, until=lambda left: not left)
    await sender.conversation.reply("alice", "bob", "the answer")
    assert await asking == "the answer"
    assert notices.messages == ["news"]
