"""Corresponding: sending without waiting, reading, what sessions show, notifications, and taking up what was left."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from agent_messaging import (
    AgentNotFoundError,
    InvalidArgumentError,
    MailboxFullError,
    MessageContext,
    MessageNotFoundError,
    MessageType,
    NoHandlerRegisteredError,
    SessionNotFoundError,
    SessionStatus,
    register_conversation_handler,
    register_message_notification_handler,
)
from tests.client.conversing import Clerk, ask, begin, nothing_is_left, rows, session_of, until_waiting
from tests.client.meeting_support import Table
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def test_without_a_handler_messages_wait_until_they_are_read_oldest_first(sdk: Sdk) -> None:
    ids = [await sdk.conversation.send_no_wait("alice", "bob", number, {"n": number}) for number in range(3)]
    await sdk.conversation.send_no_wait("carol", "bob", "c")
    assert await sdk.conversation.get_unread_messages("bob", peek=True) == [0, 1, 2, "c"]
    assert await sdk.conversation.get_messages_from_agent("bob", "carol", mark_read=False) == ["c"]
    assert await sdk.conversation.get_messages_from_agent("bob", "alice") == [0, 1, 2]
    assert await sdk.conversation.get_messages_from_agent("bob", "alice") == []
    assert await sdk.conversation.get_unread_messages("bob") == ["c"]
    assert await sdk.conversation.get_unread_messages("bob") == []
    assert await sdk.conversation.get_unread_messages("alice") == [], "what one sent oneself is not unread"
    receipts = await sdk.wait(ids)
    assert {(receipt.state.value, receipt.read_at is not None) for receipt in receipts} == {("done", True)}


async def test_reading_tells_whoever_waits_for_the_receipt(sdk: Sdk) -> None:
    id = await sdk.conversation.send_no_wait("alice", "bob", "hi")
    waiting = begin(sdk.receipts.wait(id, timeout=SOON))
    await asyncio.sleep(0)
    assert await sdk.conversation.wait_for_message("bob", "alice", 0) == "hi"
    assert (await waiting).state.value == "done"


async def test_notes_are_not_among_conversation_messages_nor_these_among_notes(sdk: Sdk) -> None:
    await sdk.one_way.send("alice", "bob", "a note", require_handler=False)
    await sdk.conversation.send_no_wait("alice", "bob", "a message")
    assert await sdk.conversation.get_unread_messages("bob") == ["a message"]
    assert [record.content for record in await sdk.one_way.get_received_messages("bob")] == ["a note"]
    assert await sdk.one_way.get_message_count("bob", read_status=False) == 1


async def test_what_was_read_is_not_handled_any_more(sdk: Sdk) -> None:
    await sdk.conversation.send_no_wait("alice", "bob", "read by hand")
    assert await sdk.conversation.get_unread_messages("bob") == ["read by hand"]
    await sdk.conversation.send_no_wait("alice", "bob", "left to the handler")
    sdk.register_handler("bob")(inbox := Inbox())
    await inbox.wait_for(1)
    assert inbox.messages == ["left to the handler"]


async def test_a_message_that_was_handled_stays_unread_until_it_is_read(sdk: Sdk) -> None:
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: f"got {message}"))
    id = await sdk.conversation.send_no_wait("alice", "bob", "hi", {"m": 1})
    [receipt] = await sdk.wait([id])
    assert (receipt.state.value, receipt.read_at) == ("done", None)
    [context] = clerk.contexts
    assert (context.requires_reply, context.metadata, str(context.message_id)) == (False, {"m": 1}, id)
    # What it returned is for the sender to read, and no handler's: otherwise two would answer each other for ever.
    sdk.register_handler("alice")(inbox := Inbox())
    assert await sdk.conversation.get_unread_messages("bob") == ["hi"]
    assert await sdk.conversation.get_or_wait_for_response("alice", "bob", 0) == "got hi"
    await sdk.conversation.send_no_wait("carol", "alice", "next")
    assert await inbox.wait_for(1) == ["next"]
    assert len(clerk.messages) == 1


async def test_a_handler_that_raises_is_tried_again_and_what_no_try_helps_is_a_dead_letter(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(max_attempts=3)
    await sdk.add_people("alice", "bob")
    fails = {"twice": 2, "always": 99}

    def script(message: Any, context: MessageContext) -> str:
        if context.attempt <= fails[message]:
            raise LookupError(message)
        return f"at attempt {context.attempt}"

    sdk.register_handler("bob")(Clerk(script))
    ids = [await sdk.conversation.send_no_wait("alice", "bob", name) for name in fails]
    assert [receipt.state.value for receipt in await sdk.wait(ids)] == ["done", "dead"]
    assert await sdk.conversation.get_unread_messages("alice") == ["at attempt 3"]
    [letter] = await sdk.dead_letters.list("bob")
    assert (letter.kind.value, letter.content, letter.attempt) == ("conversation", "always", 3)
    fails["always"] = 0
    assert await sdk.dead_letters.redrive(letter.message_id) == 1
    assert [receipt.state.value for receipt in await sdk.wait(ids)] == ["done", "done"]


async def test_one_senders_messages_run_in_order_and_different_senders_together(sdk: Sdk) -> None:
    sdk.register_handler("bob")(gate := Gate())
    for number in range(4):
        await sdk.conversation.send_no_wait("alice", "bob", number)
        await sdk.conversation.send_no_wait("carol", "bob", number)
    await gate.wait_for(2)
    assert gate.messages == [0, 0]
    gate.open()
    await gate.wait_for(8)
    for name in ("alice", "carol"):
        own = [
            message for message, context in zip(gate.messages, gate.contexts, strict=True) if context.sender_id == name
        ]
        assert own == [0, 1, 2, 3]


async def test_the_facade_of_corresponding_does_what_the_conversation_does(sdk: Sdk) -> None:
    talk = sdk.async_conversation
    assert await talk.send("alice", "bob", {"n": 1}, {"m": 1}) is None  # type: ignore[func-returns-value]
    assert await talk.send_message("alice", "bob", {"n": 2}) is None  # type: ignore[func-returns-value]
    await sdk.conversation.send_message("carol", "bob", {"n": 3})
    assert await talk.get_messages_from_agent("bob", "alice", mark_read=False) == [{"n": 1}, {"n": 2}]
    assert await talk.wait_for_message("bob", "alice", timeout=0) == {"n": 1}
    assert await talk.get_messages_from_agent("bob", "carol") == [{"n": 3}]
    assert await talk.get_unread_messages("bob") == [{"n": 2}]
    assert await talk.wait_for_message("bob", "alice", 0.01) is None
    sdk.register_handler("bob")(inbox := Inbox())
    await talk.resume_agent_handler("bob")
    await talk.send("alice", "bob", {"n": 4})
    assert await inbox.wait_for(1) == [{"n": 4}]


async def test_a_full_mailbox_refuses_messages_but_never_answers(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(mailbox_limit=2)
    await sdk.add_people("alice", "bob")
    asking = ask(sdk, "alice", "bob")
    await until_waiting(sdk, "alice", "bob")
    for number in range(2):
        await sdk.conversation.send_no_wait("bob", "alice", number)
    with pytest.raises(MailboxFullError, match="'alice'"):
        await sdk.conversation.send_no_wait("bob", "alice", 2)
    await sdk.conversation.reply("bob", "alice", "!")
    assert await asking == "!"
    with pytest.raises(MailboxFullError, match="'alice'"):
        await ask(sdk, "bob", "alice", 2)
    assert await sdk.conversation.get_unread_messages("alice") == [0, 1]
    await nothing_is_left(sdk)


async def test_an_agent_registered_anew_starts_with_an_empty_mailbox(make_sdk: MakeSdk) -> None:
    one, other = await make_sdk(), await make_sdk()
    await one.add_people("alice", "bob")
    await one.conversation.send_no_wait("alice", "bob", "to the old one")
    await other.deregister_agent("bob")
    await other.register_agent("bob", "acme", "Bob")
    assert await one.conversation.get_unread_messages("bob") == []
    await one.conversation.send_no_wait("alice", "bob", "to the new one")
    assert await one.conversation.get_unread_messages("bob") == ["to the new one"]
    with pytest.raises(AgentNotFoundError):
        await one.conversation.get_unread_messages("nobody")


async def test_more_unread_messages_than_one_page_are_read_whole_and_in_order(sdk: Sdk) -> None:
    sends = [sdk.conversation.send_no_wait("alice", "bob", number) for number in range(2_100)]
    await asyncio.gather(*sends)
    assert await sdk.conversation.get_unread_messages("bob", peek=True) == list(range(2_100))
    session = await session_of(sdk, "bob")
    assert [record.content for record in await sdk.conversation.get_conversation_history(session.session_id)] == list(
        range(2_100)
    )
    one, other = await asyncio.gather(*(sdk.conversation.get_unread_messages("bob") for _ in range(2)))
    assert sorted(one + other) == list(range(2_100)), "each is read by one reader"
    assert await sdk.conversation.get_unread_messages("bob") == []


# --- what the sessions show -------------------------------------------------------------------------------------------


async def test_a_message_and_its_session_are_looked_up_as_records(sdk: Sdk) -> None:
    alice, bob = [(await sdk.get_agent(name)).id for name in ("alice", "bob")]
    ids = [await sdk.conversation.send_no_wait("alice", "bob", {"n": 1}, {"m": 1}, thread="orders")]
    ids += await sdk.one_way.send("alice", "bob", "a note", require_handler=False)
    said, note = [await sdk.get_message(id) for id in ids]
    assert (str(said.id), said.sender_id, said.recipient_id) == (ids[0], alice, bob)
    assert (said.content, said.metadata, said.thread, said.meeting_id) == ({"n": 1}, {"m": 1}, "orders", None)
    assert (said.message_type, said.read_at) == (MessageType.USER_DEFINED, None)
    assert (note.content, note.session_id, note.thread) == ("a note", None, None)
    assert said.session_id is not None
    session = await sdk.conversation.get_session(said.session_id)
    assert {session.agent_a_id, session.agent_b_id} == {alice, bob}
    assert (session.id, session.thread, session.locked_agent_id) == (said.session_id, "orders", None)
    assert (session.status, session.ended_at) == (SessionStatus.ACTIVE, None)
    await sdk.conversation.end_conversation("alice", "bob", thread="orders")
    session = await sdk.conversation.get_session(str(session.id))
    assert session.status is SessionStatus.ENDED
    assert session.ended_at is not None
    assert session.ended_at >= session.created_at
    table = await Table.open(sdk, "bob")
    spoken = await sdk.get_message(await table.speak("alice", "hear me"))
    assert (spoken.meeting_id, spoken.recipient_id, spoken.content) == (table.id, None, "hear me")
    with pytest.raises(MessageNotFoundError):
        await sdk.get_message(uuid4())
    with pytest.raises(SessionNotFoundError):
        await sdk.conversation.get_session(uuid4())


async def test_sessions_their_messages_and_the_counts_of_them(sdk: Sdk) -> None:
    conversation = sdk.conversation
    first = await conversation.send_no_wait("alice", "bob", "one", {"m": 1})
    await conversation.send_no_wait("bob", "alice", "two")
    await conversation.send_no_wait("carol", "alice", "three")
    assert await conversation.get_messages_from_agent("alice", "bob") == ["two"]
    sessions = await conversation.get_active_sessions("alice")
    assert [session.other_agent_id for session in sessions] == ["carol", "bob"], "newest first"
    session = sessions[1]
    assert dict(session) == {
        "session_id": session.session_id,
        "other_agent_id": "bob",
        "other_agent_name": "Bob",
        "status": "active",
        "created_at": session.created_at,
        "locked_by": None,
        "thread": None,
        "ended_at": None,
    }
    history = await conversation.get_conversation_history(session.session_id)
    assert history == await conversation.get_messages_in_session(session.session_id)
    assert dict(history[0]) == {
        "message_id": first,
        "sender_id": "alice",
        "sender_name": "Alice",
        "recipient_id": "bob",
        "message_type": "user_defined",
        "content": "one",
        "metadata": {"m": 1},
        "is_damaged": False,
        "is_read": False,
        "read_at": None,
        "created_at": history[0].created_at,
        "thread": None,
        "way": (),
    }
    unread = await conversation.get_messages_in_session(session.session_id, include_read=False)
    assert [record.content for record in unread] == ["one"]
    info = await conversation.get_session_info(session.session_id)
    assert info == await conversation.get_session_info(str(info.session_id).upper()), "as UUID or text, in any case"
    assert {info.agent_a["id"], info.agent_b.id} == {"alice", "bob"}
    assert (info.status.value, info.is_locked, info.locked_by, info.session_type.value) == (
        "active",
        False,
        None,
        "async",
    )
    assert (info.message_count, info.read_count, info.unread_count, info.ended_at) == (2, 1, 1, None)
    assert info.created_at.tzinfo is not None
    assert isinstance(info.updated_at, datetime)
    assert info.updated_at >= info.created_at
    statistics = await conversation.get_session_statistics("alice")
    assert statistics == await conversation.get_session_statistics((await sdk.get_agent("alice")).id)
    assert statistics == await conversation.get_session_statistics(str((await sdk.get_agent("alice")).id))
    assert dict(statistics) == {
        "agent_id": "alice",
        "total_conversations": 2,
        "active_sessions": 2,
        "total_messages": 3,
        "unread_count": 1,
        "sent_count": 1,
        "received_count": 2,
        "unique_conversation_partners": 2,
    }
    await conversation.end_conversation("alice", "bob")
    await conversation.send_no_wait("alice", "bob", "four")
    statistics = await conversation.get_session_statistics("alice")
    assert (statistics.total_conversations, statistics.active_sessions, statistics.total_messages) == (3, 2, 4)
    assert statistics.unique_conversation_partners == 2
    ending = (await conversation.get_conversation_history(session.session_id))[-1]
    assert (ending.message_type.value, ending.is_read, ending.sender_id) == ("ending", True, "alice")
    assert ending.content == {"type": "conversation_ended", "reason": "explicit_end"}
    assert (await conversation.get_session_info(session.session_id)).ended_at is not None


async def test_a_session_shows_who_waits(sdk: Sdk) -> None:
    asking = ask(sdk, "alice", "bob")
    await until_waiting(sdk, "alice", "bob")
    session = await session_of(sdk, "bob")
    info = await sdk.conversation.get_session_info(session.session_id)
    assert (session.status.value, session.locked_by) == ("waiting", "alice")
    assert (info.status.value, info.is_locked, info.locked_by, info.session_type.value) == (
        "waiting",
        True,
        "alice",
        "sync",
    )
    await sdk.conversation.reply("bob", "alice", "!")
    await asking
    assert (await sdk.conversation.get_session_info(session.session_id)).is_locked is False


async def test_unknown_sessions_and_agents_are_named(sdk: Sdk) -> None:
    unknown = "01900000-0000-7000-8000-000000000000"
    conversation = sdk.conversation
    for look in (
        conversation.get_messages_in_session,
        conversation.get_conversation_history,
        conversation.get_session_info,
    ):
        with pytest.raises(SessionNotFoundError, match=f"No session has the id '{unknown}'"):
            await look(unknown)
        with pytest.raises(InvalidArgumentError, match="session_id"):
            await look("nonsense")
    for call in (
        conversation.get_session_statistics("bbo"),
        conversation.get_active_sessions("bbo"),
        conversation.get_unread_messages("bbo"),
        conversation.get_messages_from_agent("alice", "bbo"),
        conversation.get_messages_from_agent("bbo", "alice"),
        conversation.wait_for_message("bbo", "alice", 0),
        conversation.get_or_wait_for_response("alice", "bbo", 0),
        conversation.end_conversation("alice", "bbo"),
        conversation.resume_agent_handler("bbo"),
        conversation.send_no_wait("alice", "bbo", 1),
        conversation.reply("alice", "bbo", 1),
    ):
        with pytest.raises(AgentNotFoundError, match=r"'bbo'.*'bob'"):
            await call
    with pytest.raises(AgentNotFoundError):
        await conversation.get_session_statistics(unknown)


# --- notifications ----------------------------------------------------------------------------------------------------


async def test_a_notification_comes_once_for_each_message_beside_the_conversation_handler(sdk: Sdk) -> None:
    register_message_notification_handler(agent="bob")(notices := Inbox())
    sdk.register_handler("bob")(inbox := Inbox())
    ids = [await sdk.conversation.send_no_wait("alice", "bob", number, {"n": number}) for number in range(3)]
    await sdk.wait(ids)
    await notices.wait_for(3)
    assert [str(context.message_id) for context in notices.contexts] == ids
    context = notices.contexts[0]
    assert (context.handler_context.value, context.sender_id, context.receiver_id, context.metadata) == (
        "message_notification",
        "alice",
        "bob",
        {"n": 0},
    )
    assert context.session_id == (await session_of(sdk, "bob")).session_id
    assert inbox.messages == notices.messages == [0, 1, 2]
    assert await sdk.conversation.get_unread_messages("bob") == [0, 1, 2], "it marks nothing as read"


async def test_no_notification_for_asks_answers_and_what_somebody_waits_for(sdk: Sdk) -> None:
    register_message_notification_handler(notices := Inbox())
    await sdk.add_people("dave", "erin")
    waiting = begin(sdk.conversation.wait_for_message("dave", "erin", SOON))
    await eventually(lambda: rows(sdk, "select 1 from waits"), SOON)
    await sdk.conversation.send_no_wait("erin", "dave", "awaited")
    assert await waiting == "awaited"
    asking = ask(sdk, "dave", "erin")
    await until_waiting(sdk, "dave", "erin")
    assert await sdk.conversation.get_unread_messages("erin") == ["?"]
    await sdk.conversation.send_no_wait("erin", "dave", "the answer")
    assert await asking == "the answer"
    await sdk.conversation.send_no_wait("erin", "dave", "out of the blue")
    assert await notices.wait_for(1) == ["out of the blue"]


async def test_a_notification_handler_that_fails_harms_nothing(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Any, context: MessageContext) -> None:
        raise LookupError("no screen")

    register_message_notification_handler(agent="bob")(Inbox(fail))
    with caplog.at_level(logging.WARNING):
        id = await sdk.conversation.send_no_wait("alice", "bob", "s3cret")
        await eventually(lambda: "no screen" in caplog.text, SOON)
    assert "the notification handler failed on message" in caplog.text
    assert id in caplog.text
    assert "s3cret" not in caplog.text
    assert await sdk.conversation.get_unread_messages("bob") == ["s3cret"]


async def test_a_notification_handler_is_no_part_of_the_run_that_sent_the_message(sdk: Sdk) -> None:
    gate = Gate()

    async def send_first(message: Any, context: MessageContext) -> None:
        if message == "first":
            await sdk.conversation.send_no_wait("bob", "carol", "from a run")
        await gate.opened.wait()

    async def on_notice(message: Any, context: MessageContext) -> None:
        await sdk.conversation.send_and_wait("carol", "alice", "?", timeout=SOON, require_handler=False)

    gate.script = send_first
    sdk.register_handler("bob")(gate)
    register_message_notification_handler(agent="carol")(on_notice)
    await sdk.conversation.send_no_wait("alice", "bob", "first")
    await until_waiting(sdk, "carol", "alice")
    second = await sdk.conversation.send_no_wait("alice", "bob", "second")
    await sdk.conversation.send_no_wait("carol", "bob", "another lane")
    await gate.wait_for(2)
    assert gate.messages == ["first", "another lane"], "the first run waits for nobody, so it holds its lane"
    gate.open()
    await sdk.wait([second])
    await sdk.conversation.reply("alice", "carol", "!")
    await nothing_is_left(sdk)


async def test_a_notification_handler_that_hangs_is_stopped_and_holds_up_nobody(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    await sdk.add_people("alice", "bob")
    register_message_notification_handler(agent="bob", concurrency=1, timeout=0.05)(gate := Gate())
    for number in range(3):
        await sdk.conversation.send_no_wait("alice", "bob", number)
    assert await gate.wait_for(3) == [0, 1, 2]
    assert gate.most == 1


async def test_a_notification_reaches_the_handler_of_another_sdk_object_once(make_sdk: MakeSdk) -> None:
    one = await make_sdk()
    await one.add_people("alice", "bob")
    register_message_notification_handler(agent="bob")(notices := Inbox())
    other = await make_sdk(auto_invoke_handlers=True)
    await one.wait_until_served("bob", SOON)
    # Both objects are of this process and have the global handler: the sender's own is enough.
    await one.conversation.send_no_wait("alice", "bob", 1)
    await other.conversation.send_no_wait("alice", "bob", 2)
    await notices.wait_for(2)
    await eventually(lambda: rows(one, "select 1 from notices"), SOON, until=lambda left: not left)
    assert sorted(notices.messages) == [1, 2]


async def test_a_notification_is_left_for_a_handler_elsewhere(make_sdk: MakeSdk) -> None:
    sender = await make_sdk(auto_invoke_handlers=False)
    await sender.add_people("alice", "bob")
    register_message_notification_handler(agent="bob")(notices := Inbox())
    served = await make_sdk()
    await eventually(lambda: rows(served, "select 1 from services where kind = 'notification'"), SOON)
    await sender.wait_until_served("bob", SOON)
    for number in range(3):
        await sender.conversation.send_no_wait("alice", "bob", number, {"n": number})
    await notices.wait_for(3)
    await eventually(lambda: rows(sender, "select 1 from notices"), SOON, until=lambda left: not left)
    assert notices.messages == [0, 1, 2]
    assert [context.metadata["n"] for context in notices.contexts] == [0, 1, 2]


# --- resuming ---------------------------------------------------------------------------------------------------------


async def test_what_waits_for_an_agent_is_handled_when_its_process_starts(make_sdk: MakeSdk) -> None:
    sender = await make_sdk()
    await sender.add_people("alice", "bob")
    for number in range(3):
        await sender.conversation.send_no_wait("alice", "bob", number)
    asking = ask(sender, "alice", "bob", "are you there?")
    await until_waiting(sender, "alice", "bob")
    register_conversation_handler(clerk := Clerk(lambda message, context: f"re: {message}"))
    started = await make_sdk()
    await started.register_agent("bob", "acme", "Bob")
    assert await asking == "re: are you there?"
    assert clerk.messages == [0, 1, 2, "are you there?"]


async def test_resuming_takes_up_what_waits_with_a_bare_handler(make_sdk: MakeSdk) -> None:
    register_conversation_handler(inbox := Inbox())
    sender = await make_sdk(auto_invoke_handlers=False)
    await sender.add_people("alice", "bob")
    id = await sender.conversation.send_no_wait("alice", "bob", "stored by another")
    worker = await make_sdk()
    await worker.conversation.resume_agent_handler("bob")
    await worker.wait([id])
    assert inbox.messages == ["stored by another"]
    await sender.conversation.send_no_wait("alice", "bob", "and from now on")
    await inbox.wait_for(2)


async def test_without_automatic_handlers_resuming_handles_what_waits_and_then_rests(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(auto_invoke_handlers=False)
    await sdk.add_people("alice", "bob")
    sdk.register_handler("bob")(clerk := Clerk(lambda message, context: f"re: {message}"))
    ids = [await sdk.conversation.send_no_wait("alice", "bob", number) for number in range(3)]
    assert clerk.messages == []
    await sdk.conversation.resume_agent_handler("bob")
    await sdk.wait(ids)
    assert clerk.messages == [0, 1, 2]
    assert await sdk.conversation.get_unread_messages("alice") == ["re: 0", "re: 1", "re: 2"]
    asking = ask(sdk, "alice", "bob", "asked", require_handler=True)
    await until_waiting(sdk, "alice", "bob")
    assert clerk.messages == [0, 1, 2], "no handler runs by itself"
    await sdk.conversation.resume_agent_handler("bob")
    assert await asking == "re: asked"


async def test_resuming_an_agent_without_a_handler_is_refused(sdk: Sdk) -> None:
    with pytest.raises(NoHandlerRegisteredError, match="No conversation handler registered for 'bob' in this process"):
        await sdk.conversation.resume_agent_handler("bob")
