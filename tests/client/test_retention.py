"""Retention over the whole SDK: what goes, what stays, and what is said of what has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from agent_messaging import (
    InvalidArgumentError,
    Keeping,
    MeetingNotFoundError,
    MessageContext,
    MessageNotFoundError,
    Prunable,
    SessionNotFoundError,
    TaskNotFoundError,
)
from agent_messaging.delivery import retention as engine_retention
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.messaging import retention
from tests.client.support import SOON, MakeSdk, Sdk
from tests.support import eventually

pytestmark = pytest.mark.sampled(1)
"""Each of these starts processes or fills stores: a run tries it on one store."""

AGED = 0.000_001
"""Seconds after which a test has everything pruned."""


@pytest.fixture(autouse=True)
def no_least_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last minute stays, whatever age is asked; a test does not wait for it."""
    monkeypatch.setattr(retention, "LEAST_AGE", 0.0)
    monkeypatch.setattr(engine_retention, "LEAST_AGE", 0.0)


@pytest.fixture
def pages() -> Iterator[list[int]]:
    """Counts the pages of walks that were pruned."""
    seen: list[int] = []
    arm("pruned_page", lambda: seen.append(1))
    yield seen
    disarm()


async def served(sdk: Sdk, *names: str) -> None:
    """These agents handle what they are sent, and answer it."""

    async def answer(message: Any, context: MessageContext) -> Any:
        return {"to": message}

    for name in names:
        sdk.register_handler(name)(answer)
    await sdk.wait_until_served(list(names), timeout=SOON)


async def numbers(sdk: Sdk, *kinds: str, **options: Any) -> dict[str, int]:
    report = await sdk.retention.prune(AGED, kinds or None, **options)
    return {one.kind.value: one.number for one in report.kinds if one.number}


async def test_what_was_pruned_says_so_and_everything_else_goes_on(sdk: Sdk) -> None:
    """Receipts, repeats, histories and meetings of what was pruned; and the conversation that goes on."""
    await served(sdk, "bob")
    (note,) = await sdk.one_way.send("alice", "bob", "tea", idempotency_key="note")
    await sdk.wait([note])
    assert await sdk.conversation.send_and_wait("alice", "bob", "q", timeout=SOON, idempotency_key="ask") == {"to": "q"}
    [session] = await sdk.conversation.get_active_sessions("alice")
    await sdk.conversation.end_conversation("alice", "bob")
    meeting = await sdk.meeting.create_meeting("alice", ["carol"])
    await sdk.meeting.end_meeting("alice", meeting)
    open_note = (await sdk.one_way.send("alice", "carol", "later", require_handler=False))[0]

    counted = await sdk.retention.prune(timedelta(0), dry_run=True)
    assert (counted.is_dry_run, counted.released_bytes) == (True, 0)
    by_kind = {one.kind: one for one in counted.kinds}
    assert by_kind[Prunable.MESSAGES].number == 4
    assert by_kind[Prunable.MESSAGES].kept == {Keeping.OPEN: 1}
    assert (by_kind[Prunable.SESSIONS].number, by_kind[Prunable.SESSIONS].kept) == (1, {})
    assert counted.size_bytes > 1_000
    kinds = ("messages", "sessions", "meetings")
    assert await numbers(sdk, *kinds) == {"messages": 4, "sessions": 1, "meetings": 1}
    assert await numbers(sdk, *kinds) == {}

    for looked_up, error in (
        (sdk.receipts.get(note), MessageNotFoundError),
        (sdk.receipts.wait(note, timeout=0), MessageNotFoundError),
        (sdk.receipts.wait([note], timeout=SOON), MessageNotFoundError),
        (sdk.conversation.get_session_info(session["session_id"]), SessionNotFoundError),
        (sdk.meeting.get_meeting_history(meeting), MeetingNotFoundError),
        (sdk.meeting.attend_meeting("carol", meeting), MeetingNotFoundError),
        (
            sdk.conversation.send_and_wait("alice", "bob", "q", timeout=SOON, idempotency_key="ask"),
            MessageNotFoundError,
        ),
    ):
        with pytest.raises(error, match=r"was pruned.*retention") as caught:
            await looked_up
        assert getattr(caught.value, "is_pruned", False)
    with pytest.raises(MessageNotFoundError, match="removed with its agent"):
        await sdk.receipts.get("0" * 8 + "-0000-4000-8000-" + "0" * 12)
    # A repeat of a note is answered as the first call was: it is stored once, also after its message has gone.
    assert await sdk.one_way.send("alice", "bob", "tea", idempotency_key="note") == [note]
    assert await sdk.search_messages("tea OR q") == []
    assert await sdk.state(open_note) == "queued"
    assert await sdk.conversation.send_and_wait("alice", "bob", "again", timeout=SOON) == {"to": "again"}
    # With its key it is a new call.
    assert await numbers(sdk, "idempotency_keys") == {"idempotency_keys": 2}
    (again,) = await sdk.one_way.send("alice", "bob", "tea", idempotency_key="note")
    assert again != note


async def test_unread_messages_stay_unless_they_are_asked_for(sdk: Sdk) -> None:
    await sdk.conversation.send_no_wait("alice", "bob", "one")
    assert await numbers(sdk) == {}
    with pytest.raises(InvalidArgumentError, match="kinds"):
        await sdk.retention.prune(1, ["letters"])
    with pytest.raises(InvalidArgumentError, match="older_than"):
        await sdk.retention.prune(-1)
    assert await sdk.conversation.get_unread_messages("bob") == ["one"]
    assert await numbers(sdk) == {"messages": 1}


async def test_dead_letters_go_only_if_they_are_named(sdk: Sdk) -> None:
    async def fail(message: Any, context: MessageContext) -> None:
        raise ValueError("broken")

    sdk.register_handler("bob")(fail)
    await sdk.wait_until_served(["bob"], timeout=SOON)
    (note,) = await sdk.one_way.send("alice", "bob", "x")
    await sdk.wait([note])
    assert await numbers(sdk) == {}
    assert len(await sdk.dead_letters.list("bob")) == 1
    assert await numbers(sdk, "dead_letters") == {"dead_letters": 1}
    assert await sdk.dead_letters.list("bob") == []
    with pytest.raises(MessageNotFoundError, match="was pruned"):
        await sdk.receipts.get(note)


async def test_tasks_that_have_ended_go_with_their_results(sdk: Sdk) -> None:
    open_id = await sdk.tasks.delegate("paint", {"n": 1})
    gone = await sdk.tasks.delegate("paint", {"n": 2})
    await sdk.tasks.cancel(gone)
    assert await numbers(sdk, "tasks", dry_run=True) == {"tasks": 1}
    assert await numbers(sdk) == {"tasks": 1}
    assert (await sdk.tasks.get(open_id)).task_id == open_id
    with pytest.raises(TaskNotFoundError, match="pruned"):
        await sdk.tasks.get(gone)


async def test_sessions_of_runs_do_not_pile_up(sdk: Sdk) -> None:
    """A front agent opens a session with billing for each message that it handles; retention ends them."""

    async def front(question: Any, context: MessageContext) -> Any:
        return await sdk.conversation.send_and_wait("bob", "carol", question, timeout=SOON)

    await served(sdk, "carol")
    sdk.register_handler("bob")(front)
    await sdk.wait_until_served(["bob"], timeout=SOON)
    for _ in range(3):
        asked = [sdk.conversation.send_and_wait("alice", "bob", n, timeout=SOON, thread=f"t{n}") for n in range(4)]
        await asyncio.gather(*asked)
        await eventually(lambda: _only_named(sdk), timeout=SOON)
    await sdk.conversation.send_and_wait("bob", "carol", "kept", timeout=SOON, thread="named by a user")
    await sdk._started().retention.tidy()
    assert len(await sdk.conversation.get_active_sessions("carol")) == 1


async def _only_named(sdk: Sdk) -> bool:
    await sdk._started().retention.tidy()
    return await sdk.conversation.get_active_sessions("carol") == []


async def test_the_settings_prune_by_themselves_and_one_process_at_a_time(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch, pages: list[int]
) -> None:
    monkeypatch.setattr(engine_retention, "PAUSE", 0.01)
    monkeypatch.setattr(engine_retention, "LOOK", 0.0)
    sdk = await make_sdk(retention={"messages": AGED})
    await sdk.add_people("alice", "bob")
    await served(sdk, "bob")
    (note,) = await sdk.one_way.send("alice", "bob", "x", idempotency_key="kept for a week")
    await sdk.wait([note])

    async def has_gone() -> bool:
        try:
            await sdk.receipts.get(note)
        except MessageNotFoundError as error:
            return error.is_pruned
        return False

    # The first look may have been before the note had ended, and took the turn for an hour.
    monkeypatch.setattr(engine_retention, "TURN", 0.01)
    await eventually(has_gone, timeout=SOON)
    assert await sdk.one_way.send("alice", "bob", "x", idempotency_key="kept for a week") == [note]
    monkeypatch.setattr(engine_retention, "TURN", 3600.0)
    assert await sdk.store.retention.take_turn(Prunable.MEETINGS, 3600)
    other = await make_sdk(retention={"meetings": AGED})
    del pages[:]
    await other._started().retention.prune()
    assert await other.store.retention.take_turn(Prunable.MEETINGS, 3600) is False


async def test_a_cancelled_prune_leaves_pruned_what_it_has_pruned(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sdk.store.retention), "page_size", 2)
    await served(sdk, "bob")
    sent = [id for n in range(9) for id in await sdk.one_way.send("alice", "bob", n)]
    await sdk.wait(sent)
    work: asyncio.Task[Any] | None = None

    def cancel() -> None:
        assert work is not None
        work.cancel()

    arm("pruned_page", cancel)
    try:
        work = asyncio.create_task(sdk.retention.prune(AGED, ["messages"]))
        with pytest.raises(asyncio.CancelledError):
            await work
    finally:
        disarm()
    assert await numbers(sdk, "messages") == {"messages": 7}
