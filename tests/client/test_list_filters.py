"""Lists narrowed by metadata, dates and types: the same filter in every list, and the same as a model in Python."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_messaging import AgentNotFoundError, InvalidArgumentError, PayloadError
from agent_messaging.ids import uuid7
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


@dataclass
class Talks:
    """The same metadata in notes, in a conversation and in a meeting."""

    sdk: Sdk
    session_id: str
    meeting_id: UUID


@pytest.fixture
async def talks(notes: Sdk) -> Talks:
    for number, metadata in enumerate(METADATA):
        await notes.conversation.send_no_wait("alice", "bob", number, metadata=metadata)
    [session] = await notes.conversation.get_active_sessions("alice")
    meeting = await notes.meeting.create_meeting("alice", ["bob"])
    await notes.meeting.attend_meeting("bob", meeting)
    await notes.meeting.start_meeting("alice", meeting)
    for number, metadata in enumerate(METADATA):
        await notes.meeting.speak("bob" if number % 2 else "alice", meeting, number, metadata=metadata)
    return Talks(notes, session.session_id, meeting)


async def listed(sdk: Sdk, filter: Any, **page: Any) -> list[Any]:
    sent = await sdk.one_way.get_sent_messages("alice", metadata_filter=filter, **page)
    received = await sdk.one_way.get_received_messages("bob", metadata_filter=filter, **page)
    unread = await sdk.one_way.get_received_messages("bob", include_read=False, metadata_filter=filter, **page)
    assert sent == received == unread
    return [record.content for record in sent]


async def said(talks: Talks, filter: Any, **page: Any) -> list[Any]:
    """What the lists of the conversation and of the meeting have, which is the same."""
    where = {"metadata_filter": filter, "message_types": ["user_defined"], **page}
    talk = await talks.sdk.conversation.get_messages_in_session(talks.session_id, **where)
    assert await talks.sdk.conversation.get_conversation_history(talks.session_id, **where) == talk
    spoken = await talks.sdk.meeting.get_meeting_history(talks.meeting_id, **where)
    assert [one.content for one in talk] == [one.content for one in spoken]
    return [one.content for one in talk]


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


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.builds(str.__add__, KEYS, ENDS), VALUES, min_size=1, max_size=2),
    st.sampled_from([{}, {"limit": 1}, {"limit": 2, "offset": 1}, {"limit": 3}, {"offset": 1, "limit": 1000}]),
)
async def test_a_model_agrees_whatever_is_asked(talks: Talks, filter: dict[str, Any], page: dict[str, int]) -> None:
    with suppress(InvalidArgumentError, PayloadError):
        notes = await listed(talks.sdk, filter, **page)
        expected = [number for number, metadata in enumerate(METADATA) if model(filter, metadata)]
        part = slice(page.get("offset", 0), page.get("offset", 0) + page.get("limit", 1000))
        assert notes == expected[::-1][part]
        assert await said(talks, filter, **page) == expected[part]
        assert await said(talks, filter, newest_first=True, **page) == expected[::-1][part]


def model(filter: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether metadata fit, by another way: the texts of JSON, which keep its types apart."""
    return all(_holds(key, asked, metadata) for key, asked in filter.items())


def _holds(key: str, asked: Any, metadata: dict[str, Any]) -> bool:
    path, _, end = key.rpartition("__")
    if end not in ("contains", "in", "exists") or not path:
        path, end = key, ""
    found: list[Any] = [metadata[path]] if path in metadata else []
    if not found:
        inner, _, last = path.partition(".")
        box = metadata.get(inner)
        found = [box[last]] if last and isinstance(box, dict) and last in box else []
    texts = [json.dumps(one, sort_keys=True) for one in found]
    if end == "exists":
        return bool(found) is asked
    if end == "in":
        return bool(texts) and texts[0] in [json.dumps(one, sort_keys=True) for one in asked]
    if end == "contains":
        return (
            bool(found)
            and isinstance(found[0], list)
            and asked in [one for one in found[0] if type(one) is type(asked)]
        )
    return texts == [json.dumps(asked, sort_keys=True)]


async def test_pages_of_conversations_and_meetings_by_position(talks: Talks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_messaging.messaging.listing.PAGE", 2)
    sdk = talks.sdk
    for read in (
        partial(sdk.conversation.get_messages_in_session, talks.session_id),
        partial(sdk.meeting.get_meeting_history, talks.meeting_id, message_types=["user_defined"]),
    ):
        whole = await read()
        ids = [one.message_id for one in whole]
        for filter, wanted in ((None, ids), ({"n__exists": True}, [ids[0], ids[1], ids[4]])):
            forward: list[str] = []
            while page := await read(limit=2, after=forward[-1] if forward else None, metadata_filter=filter):
                forward += [one.message_id for one in page]
            back: list[str] = []
            while page := await read(
                limit=2, newest_first=True, before=back[-1] if back else None, metadata_filter=filter
            ):
                back += [one.message_id for one in page]
            assert (forward, back) == (wanted, wanted[::-1])
        between = await read(after=ids[1], before=UUID(ids[4]))
        assert [one.message_id for one in between] == ids[2:4]
        for field in ("before", "after"):
            with pytest.raises(InvalidArgumentError, match=f"{field}.*no message, or of one that was removed"):
                await read(**{field: str(uuid7())})
        for wrong in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"newest_first": 1}, {"before": "x"}):
            with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
                await read(**wrong)


async def test_a_list_goes_on_where_the_end_of_its_page_was_removed(
    notes: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await notes.add_people("carol")
    await notes.one_way.send("carol", "bob", "tea", {"n": 1}, require_handler=False)
    await notes.one_way.send("alice", "bob", 6, {"n": 1}, require_handler=False)
    monkeypatch.setattr("agent_messaging.messaging.listing.PAGE", 2)
    messages = notes.store.messages
    read = messages.list_messages

    async def remove_carol(*given: Any, **how: Any) -> Any:
        rows = await read(*given, **how)
        if how["before_id"] is None:
            await notes.deregister_agent("carol")
        return rows

    monkeypatch.setattr(messages, "list_messages", remove_carol)
    got = await notes.one_way.get_received_messages("bob", metadata_filter={"n__exists": True})
    assert [one.content for one in got] == [6, "tea", 4, 1, 0]


async def test_states_of_deliveries_narrow_the_lists(notes: Sdk) -> None:
    ids = [one.message_id for one in await notes.one_way.get_sent_messages("alice")]
    await notes.receipts.withdraw(ids[:2])
    assert await listed(notes, None, states=["withdrawn"]) == [5, 4]
    assert await listed(notes, {"n__exists": True}, states=["queued", "dead"]) == [1, 0]
    assert await listed(notes, None, states=[]) == []
    await notes.conversation.send_no_wait("alice", "bob", "tea")
    [session] = await notes.conversation.get_active_sessions("alice")
    look = partial(notes.conversation.get_conversation_history, session.session_id)
    assert [one.content for one in await look(states=["queued"])] == ["tea"]
    assert await look(states=["done"]) == []


async def test_notes_of_one_sender_and_what_is_counted(notes: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    await notes.add_people("carol")
    for number in range(3):
        await notes.one_way.send("carol", "bob", f"c{number}", {"n": number}, require_handler=False)
        await notes.one_way.send("alice", "carol", f"a{number}", require_handler=False)
    monkeypatch.setattr("agent_messaging.messaging.listing.PAGE", 2)
    look = partial(notes.one_way.get_received_messages, "bob", include_read=False, sender_external_id="carol")
    c2, c1, c0 = await look()
    assert [one.content for one in (c2, c1, c0)] == ["c2", "c1", "c0"]
    assert await look(limit=1, before=c2.message_id) == await look(limit=1, offset=1) == [c1]
    assert await look(metadata_filter={"n": 1}) == [c1]
    to_carol = await notes.one_way.get_sent_messages("alice", recipient_external_id="carol")
    assert [one.content for one in to_carol] == ["a2", "a1", "a0"]

    count = notes.one_way.get_message_count
    assert await notes.one_way.mark_messages_read("bob", "carol") == 3
    await notes.receipts.withdraw([c0.message_id])
    assert await look() == []
    for how, number in (
        ({}, 9),
        ({"read_status": False}, 6),
        ({"other_external_id": "carol"}, 3),
        ({"other_external_id": "carol", "read_status": True}, 3),
        ({"other_external_id": "carol", "read_status": False}, 0),
        ({"other_external_id": "alice", "read_status": False, "date_to": c0.created_at}, 6),
        ({"date_from": c1.created_at}, 2),
        ({"states": ["withdrawn"]}, 1),
        ({"states": ["withdrawn"], "read_status": False}, 0),
        ({"metadata_filter": {"n": 1}}, 2),
        ({"metadata_filter": {"n": 1}, "read_status": True}, 1),
        ({"metadata_filter": {"n__exists": True}, "read_status": False}, 3),
        ({"metadata_filter": {"n__exists": True}, "other_external_id": "carol", "states": ["queued"]}, 2),
    ):
        assert await count("bob", **how) == number, how
    assert await count("alice", "sender", other_external_id="carol") == 3
    assert await count("alice", "sender", True, other_external_id="bob") == 0
    assert await count("alice", "sender", False, date_from=to_carol[-1].created_at) == 3
    for refused in (
        look(sender_external_id="carl"),
        notes.one_way.get_sent_messages("alice", recipient_external_id="carl"),
        count("alice", other_external_id="carl"),
    ):
        with pytest.raises(AgentNotFoundError, match=r"'carl'.*carol"):
            await refused


async def test_what_two_agents_have_sent_to_each_other(sdk: Sdk) -> None:
    await sdk.add_people("carol")
    await sdk.one_way.send("alice", "bob", "note", {"n": 1}, require_handler=False)
    await sdk.conversation.send_no_wait("bob", "alice", "talk")
    await sdk.conversation.end_conversation("bob", "alice")
    await sdk.conversation.send_no_wait("alice", "bob", "attic", metadata={"n": 1}, thread="attic")
    await sdk.conversation.send_no_wait("alice", "carol", "secret")
    await sdk.topics.subscribe("alice", "news")
    await sdk.topics.publish("alice", "news", "to herself")
    look = sdk.get_messages_between_agents

    async def said(one: str, other: str, **how: Any) -> list[Any]:
        return [found.content for found in await look(one, other, **how)]

    assert await said("alice", "bob") == await said("bob", "alice") == ["attic", "talk", "note"]
    assert await said("alice", "bob", limit=1, offset=1) == ["talk"]
    assert await said("alice", "bob", thread="attic") == await said("alice", "bob", kinds=["conversation"], limit=1)
    assert await said("alice", "bob", metadata_filter={"n": 1}) == ["attic", "note"]
    assert await said("bob", "carol") == []
    talk = (await look("alice", "bob"))[1]
    assert (talk.sender, talk.recipient, talk.kind) == ("bob", "alice", "conversation")
    assert await said("alice", "bob", date_from=talk.timestamp, date_to=talk.timestamp) == ["talk"]
    with pytest.raises(InvalidArgumentError, match="the same agent"):
        await look("alice", "alice")
    with pytest.raises(AgentNotFoundError, match=r"'bop'.*bob"):
        await look("alice", "bop")


async def test_sessions_and_meetings_are_listed_by_state_date_and_position(sdk: Sdk) -> None:
    await sdk.add_people("carol", "dave")
    for other in ("bob", "carol", "dave"):
        await sdk.conversation.send_no_wait("alice", other, "tea?", thread="kitchen")
    await sdk.conversation.end_conversation("alice", "carol", thread="kitchen")
    look = partial(sdk.conversation.list_sessions, "alice")
    dave, carol, bob = await look()
    assert [one.other_agent_id for one in (dave, carol, bob)] == ["dave", "carol", "bob"]
    assert await look(status="ended") == [carol]
    assert await look(status="active", thread="kitchen") == await sdk.conversation.get_active_sessions("alice")
    assert await look(status="waiting") == await look(thread="attic") == []
    assert await look(limit=1, before=dave.session_id) == await look(limit=1, offset=1) == [carol]
    assert await look(date_from=carol.created_at, date_to=carol.created_at) == [carol]
    assert (carol.ended_at is None, dave.ended_at) == (False, None)

    meetings = [str(await sdk.meeting.create_meeting("alice", ["bob"])) for _ in range(3)]
    listing = partial(sdk.meeting.list_meetings, "alice")
    new, middle, old = await listing()
    assert [str(one.meeting_id) for one in (new, middle, old)] == meetings[::-1]
    for read in (listing, sdk.meeting.list_meetings):
        assert await read(before=new.meeting_id, limit=1) == [middle]
        assert await read(date_to=middle.created_at) == [middle, old]
        assert await read(date_from=middle.created_at, status="created") == [new, middle]
    for refused, said in ((look, "open, active, waiting or ended"), (listing, "created, ready, active, ended")):
        with pytest.raises(InvalidArgumentError, match=said):
            await refused(status="shut")
        with pytest.raises(InvalidArgumentError, match="before"):
            await refused(before="x")


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
    with pytest.raises(InvalidArgumentError, match="queued, claimed, done"):
        await sdk.one_way.get_sent_messages("alice", states=["open"])
    with pytest.raises(InvalidArgumentError, match="message_types"):
        await sdk.meeting.get_meeting_history(str(uuid7()), message_types="system")
    with pytest.raises(InvalidArgumentError, match="user_defined, system"):
        await sdk.meeting.get_meeting_history(str(uuid7()), message_types=["note"])
