"""Lists narrowed by metadata, dates and types: the same filter in every list, and the same as a model in Python."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging import InvalidArgumentError, PayloadError
from agent_messaging.ids import uuid7
from agent_messaging.search.metadata import make_filter
from tests.client.support import Sdk

METADATA: list[dict[str, Any]] = [
    {"priority": "high", "n": 1},
    {"priority": "low", "n": True, "tags": ["a", "b"]},
    {},
    {"order": {"id": 7, "to": None}, "priority": None},
    {"order.id": 7, "n": "1"},
    {"'; drop table messages; --": "high", "%": "_"},
]


@pytest.fixture
async def notes(sdk: Sdk) -> Sdk:
    for number, metadata in enumerate(METADATA):
        await sdk.one_way.send("alice", "bob", number, metadata, require_handler=False)
    return sdk


async def listed(sdk: Sdk, filter: Any, **page: Any) -> list[Any]:
    sent = await sdk.one_way.get_sent_messages("alice", metadata_filter=filter, **page)
    received = await sdk.one_way.get_received_messages("bob", metadata_filter=filter, **page)
    unread = await sdk.one_way.get_received_messages("bob", include_read=False, metadata_filter=filter, **page)
    assert sent == received == unread
    return [record.content for record in sent]


async def test_notes_by_metadata_and_their_pages(notes: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await listed(notes, {"priority": "high"}) == [0]
    assert await listed(notes, {"n": 1}) == [0]
    assert await listed(notes, {"tags__contains": "b"}) == [1]
    assert await listed(notes, {"order.id": 7}) == [4, 3]
    assert await listed(notes, {"priority__exists": False}) == [5, 4, 2]
    assert await listed(notes, {}) == [5, 4, 3, 2, 1, 0]
    monkeypatch.setattr("agent_messaging.messaging.listing.PAGE", 2)
    odd = {"n__exists": False}
    assert await listed(notes, odd) == [5, 3, 2]
    pages = [await listed(notes, odd, limit=1, offset=offset) for offset in range(4)]
    assert pages == [[5], [3], [2], []]
    assert await listed(notes, odd, date_to=datetime(2020, 1, 1, tzinfo=UTC)) == []


async def test_pages_by_position(notes: Sdk) -> None:
    first = await notes.one_way.get_received_messages("bob", limit=2)
    await notes.one_way.send("alice", "bob", "new", require_handler=False)
    last = first[-1].message_id
    assert await listed(notes, None, limit=2, before=last) == [3, 2]
    assert await listed(notes, {"n__exists": True}, before=last) == [1, 0]
    oldest = (await notes.one_way.get_received_messages("bob"))[-1].message_id
    assert await listed(notes, None, before=oldest) == []
    for wrong, said in ((str(uuid7()), "no message"), ("x", "not a UUID")):
        with pytest.raises(InvalidArgumentError, match=f"before.*{said}"):
            await notes.one_way.get_sent_messages("alice", before=wrong)


KEYS = st.sampled_from(["priority", "n", "tags", "order.id", "order", "%", "'; drop table messages; --", "order.to"])
ENDS = st.sampled_from(["", "__contains", "__in", "__exists"])
VALUES = st.sampled_from(["high", "low", 1, True, None, "1", 7, "_", ["low", None], {"id": 7, "to": None}])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.builds(str.__add__, KEYS, ENDS), VALUES, min_size=1, max_size=2))
async def test_a_model_agrees_whatever_is_asked(notes: Sdk, filter: dict[str, Any]) -> None:
    with suppress(InvalidArgumentError, PayloadError):
        made = make_filter(filter)
        assert made is not None
        expected = [number for number, metadata in enumerate(METADATA) if made.fits(metadata)]
        assert await listed(notes, filter) == expected[::-1]


async def test_conversations_and_meetings_take_the_same(sdk: Sdk) -> None:
    for number, metadata in enumerate(METADATA):
        await sdk.conversation.send_no_wait("alice", "bob", number, metadata=metadata)
    [session] = await sdk.conversation.get_active_sessions("alice")
    look = sdk.conversation.get_messages_in_session
    assert [one.content for one in await look(session.session_id, metadata_filter={"n": 1})] == [0]
    history = await sdk.conversation.get_conversation_history(session.session_id)
    middle = history[2].created_at
    later = await sdk.conversation.get_conversation_history(session.session_id, date_from=middle)
    assert later == history[2:]
    assert await look(session.session_id, date_to=middle, message_types=["user_defined"]) == history[:3]
    assert await look(session.session_id, message_types=["system"]) == []

    meeting = await sdk.meeting.create_meeting("alice", ["bob"])
    await sdk.meeting.attend_meeting("bob", meeting)
    await sdk.meeting.start_meeting("alice", meeting, "Tea for all")
    await sdk.meeting.speak("bob", meeting, "Oolong", metadata={"n": 1})
    said = await sdk.meeting.get_meeting_history(meeting, message_types=["user_defined"])
    assert [one.content for one in said] == ["Tea for all", "Oolong"]
    [one] = await sdk.meeting.get_meeting_history(meeting, metadata_filter={"n": 1})
    assert one.content == "Oolong"
    assert await sdk.meeting.get_meeting_history(meeting, date_to=datetime(2020, 1, 1, tzinfo=UTC)) == []


async def test_what_is_no_filter_is_refused(sdk: Sdk) -> None:
    with pytest.raises(InvalidArgumentError, match="metadata_filter"):
        await sdk.one_way.get_sent_messages("alice", metadata_filter=["a"])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="message_types"):
        await sdk.meeting.get_meeting_history(str(uuid7()), message_types="system")
    with pytest.raises(InvalidArgumentError, match="user_defined, system"):
        await sdk.meeting.get_meeting_history(str(uuid7()), message_types=["note"])
