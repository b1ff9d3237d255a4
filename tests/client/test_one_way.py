"""Notes: sending them, and reading them as records."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

import pytest
from pydantic import BaseModel

from agent_messaging import AgentNotFoundError, Record
from tests.client.support import Inbox, Sdk


class Color(Enum):
    RED = "red"


class Note(BaseModel):
    text: str
    at: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    id: UUID = UUID(int=7)


@dataclasses.dataclass
class Task:
    name: str
    parts: list[str]


class Alert(TypedDict):
    text: str


async def keep(sdk: Sdk, *messages: Any, sender: str = "alice", recipient: str = "bob") -> list[str]:
    """Store messages that nobody handles, one after the other."""
    return [
        id for message in messages for id in await sdk.one_way.send(sender, recipient, message, require_handler=False)
    ]


async def test_sending_returns_one_id_for_each_recipient_in_their_order(sdk: Sdk) -> None:
    ids = await sdk.one_way.send("alice", ["carol", "bob"], "hi", {"priority": "high"}, require_handler=False)
    assert [str(UUID(id)) for id in ids] == ids
    assert [(await sdk.receipts.get(id)).recipient_id for id in ids] == ["carol", "bob"]


async def test_one_recipient_may_be_given_as_text_in_each_of_the_documented_forms(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    ids = await sdk.one_way.send("alice", "bob", 1)
    ids += await sdk.one_way.send("alice", ["bob"], 2)
    ids += await sdk.one_way.send("alice", ("bob",), 3)
    ids += await sdk.one_way.send(sender_external_id="alice", recipient_external_id="bob", message=4)
    ids += await sdk.one_way.send_message("alice", recipient_external_ids=["bob"], message=5)
    await sdk.wait(ids)
    assert inbox.messages == [1, 2, 3, 4, 5]


PAYLOADS: list[tuple[Any, Any]] = [
    ({"text": "hi", "n": [1, 2.5, None, True]}, {"text": "hi", "n": [1, 2.5, None, True]}),
    ("just text \\u0000 \N{GRINNING FACE} 日本語", "just text \\u0000 \N{GRINNING FACE} 日本語"),
    ([], []),
    (0, 0),
    (False, False),
    (None, None),
    (2**200, 2**200),
    (Note(text="hi"), {"text": "hi", "at": "2026-01-02T03:04:05Z", "id": str(UUID(int=7))}),
    (Task("a", ["b"]), {"name": "a", "parts": ["b"]}),
    (Alert(text="x"), {"text": "x"}),
    (
        {"id": UUID(int=1), "at": datetime(2026, 1, 1, tzinfo=UTC), "c": Color.RED, "d": Decimal("1.50")},
        {"id": str(UUID(int=1)), "at": "2026-01-01T00:00:00Z", "c": "red", "d": "1.50"},
    ),
    (
        {1: "one", "": "empty", "$where": "x", "a.b": {"'; drop table messages; --": 1}},
        {"1": "one", "": "empty", "$where": "x", "a.b": {"'; drop table messages; --": 1}},
    ),
]
"""What is sent, and what is stored and handed on."""


async def test_any_json_payload_is_stored_as_it_is(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    for payload, stored in PAYLOADS:
        await sdk.wait(await sdk.one_way.send("alice", "bob", payload))
        [record] = await sdk.one_way.get_received_messages("bob", limit=1)
        assert inbox.messages[-1] == stored == record.content
        assert type(record.content) is type(stored)


async def test_metadata_travels_with_the_message(sdk: Sdk) -> None:
    sdk.register_handler("bob")(inbox := Inbox())
    metadata = {"priority": "high", "flag": True, "n": 1, "'; drop table messages; --": {"deep": [1, None]}, "": ""}
    await sdk.wait(await sdk.one_way.send("alice", "bob", "hi", metadata))
    await sdk.wait(await sdk.one_way.send("alice", "bob", "hi", {}))
    assert [context.metadata for context in inbox.contexts] == [metadata, {}]
    assert [record.metadata for record in await sdk.one_way.get_sent_messages("alice")] == [{}, metadata]


async def test_a_call_stores_for_all_recipients_or_for_none(sdk: Sdk) -> None:
    for name in ("bob", "carol"):
        sdk.register_handler(name)(inbox := Inbox())
    with pytest.raises(AgentNotFoundError, match=r"Recipient agent not found: 'carrol'. Did you mean 'carol'"):
        await sdk.one_way.send("alice", ["bob", "carrol"], "hi")
    with pytest.raises(AgentNotFoundError, match=r"Sender agent not found: 'alcie'. Did you mean 'alice'"):
        await sdk.one_way.send("alcie", ["bob", "carol"], "hi")
    assert await sdk.one_way.get_message_count("bob") == 0
    assert inbox.messages == []


async def test_a_message_is_kept_although_its_handler_fails(sdk: Sdk) -> None:
    sdk.register_handler("bob")(lambda message, context: 1 / 0)
    [receipt] = await sdk.wait(await sdk.one_way.send("alice", "bob", "precious"))
    assert receipt.state.value == "dead"
    [record] = await sdk.one_way.get_received_messages("bob")
    assert record.content == "precious"


async def test_lists_show_the_newest_first_with_all_that_is_known(sdk: Sdk) -> None:
    before = datetime.now(UTC)
    ids = await keep(sdk, "one", {"two": 2})
    [newest, oldest] = await sdk.one_way.get_sent_messages("alice")
    assert [oldest.message_id, newest.message_id] == ids
    assert isinstance(newest, Record)
    assert isinstance(newest, dict)
    keys = "message_id sender_id recipient_id content read_at created_at metadata is_damaged topic"
    assert set(newest) == {*keys.split()}
    assert (newest["sender_id"], newest["recipient_id"], newest["content"]) == ("alice", "bob", {"two": 2})
    assert newest.read_at is None
    assert newest.created_at.utcoffset() == timedelta(0)
    assert abs((newest.created_at - before).total_seconds()) < 60
    assert await sdk.one_way.get_received_messages("bob") == [newest, oldest]
    assert await sdk.one_way.get_sent_messages("bob") == await sdk.one_way.get_received_messages("alice") == []
    with pytest.raises(AttributeError, match="message_id"):
        _ = newest.nothing


async def test_pages_together_are_the_whole_list_also_of_unread_ones(sdk: Sdk) -> None:
    await keep(sdk, *range(3), sender="carol")
    await sdk.one_way.mark_messages_read("bob")
    await keep(sdk, *range(3, 10))

    async def contents(**options: Any) -> list[Any]:
        return [record.content for record in await sdk.one_way.get_received_messages("bob", **options)]

    assert [one for offset in (0, 4, 8, 12) for one in await contents(limit=4, offset=offset)] == [*range(9, -1, -1)]
    # The page is cut from what is unread, not the unread from a page.
    assert await contents(include_read=False, limit=5, offset=4) == [5, 4, 3]
    assert [record.content for record in await sdk.one_way.get_sent_messages("carol", 2, 1)] == [1, 0]


async def test_lists_can_be_limited_to_a_time_both_ends_included(sdk: Sdk) -> None:
    await keep(sdk, *range(4))
    at = [record.created_at for record in reversed(await sdk.one_way.get_sent_messages("alice"))]

    async def contents(date_from: datetime | None, date_to: datetime | None) -> list[Any]:
        sent = await sdk.one_way.get_sent_messages("alice", date_from=date_from, date_to=date_to)
        received = await sdk.one_way.get_received_messages("bob", date_from=date_from, date_to=date_to)
        assert sent == received
        return [record.content for record in sent]

    assert set(await contents(at[1], at[2])) >= {1, 2}
    assert await contents(at[0], None) == [3, 2, 1, 0]
    assert await contents(None, at[3]) == [3, 2, 1, 0]
    tokyo = at[3].astimezone(__import__("zoneinfo").ZoneInfo("Asia/Tokyo"))
    assert await contents(None, tokyo) == [3, 2, 1, 0]
    assert await contents(at[3] + timedelta(microseconds=1), None) == []
    assert await contents(at[3], at[0] - timedelta(days=1)) == []
    assert await contents(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)) == [3, 2, 1, 0]


async def test_marking_as_read_tells_how_many_were_marked_and_settles_nothing(sdk: Sdk) -> None:
    ids = await keep(sdk, 1, 2) + await keep(sdk, 3, sender="carol")

    async def counts() -> list[int]:
        return [await sdk.one_way.get_message_count("bob", read_status=status) for status in (None, True, False)]

    assert await counts() == [3, 0, 3]
    assert await sdk.one_way.mark_messages_read("bob", "carol") == 1
    assert await counts() == [3, 1, 2]
    assert await sdk.one_way.mark_messages_read("bob") == 2
    assert await sdk.one_way.mark_messages_read("bob") == 0
    assert await counts() == [3, 3, 0]
    assert await sdk.one_way.get_received_messages("bob", include_read=False) == []
    assert all(record.read_at for record in await sdk.one_way.get_received_messages("bob"))
    assert [await sdk.state(id) for id in ids] == ["queued"] * 3
    assert (await sdk.receipts.get(ids[0])).read_at is not None


async def test_counts_are_of_what_was_received_or_of_what_was_sent(sdk: Sdk) -> None:
    await keep(sdk, 1, 2)
    await keep(sdk, 3, sender="bob", recipient="carol")
    assert [await sdk.one_way.get_message_count(name) for name in ("alice", "bob", "carol")] == [0, 2, 1]
    assert [await sdk.one_way.get_message_count(name, "sender") for name in ("alice", "bob", "carol")] == [2, 1, 0]
    await sdk.one_way.mark_messages_read("bob")
    assert await sdk.one_way.get_message_count("alice", role="sender", read_status=True) == 2
    assert await sdk.one_way.get_message_count("alice", role="sender", read_status=False) == 0
    with pytest.raises(ValueError, match="role must be 'recipient' or 'sender'"):
        await sdk.one_way.get_message_count("alice", role="reader")


async def test_handling_a_message_does_not_mark_it_as_read(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Inbox())
    await sdk.wait(await sdk.one_way.send("alice", "bob", "hi"))
    assert await sdk.one_way.get_message_count("bob", read_status=False) == 1


async def test_the_log_and_the_errors_never_show_a_payload(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    class Strict(BaseModel):
        number: int

    async def fail(message: dict[str, Any], context: Any) -> None:
        Strict.model_validate(message)

    async def strict(message: Strict, context: Any) -> None: ...

    sdk.register_handler("bob")(fail)
    sdk.register_handler("carol")(strict)
    with caplog.at_level(logging.DEBUG):
        receipts = await sdk.wait(await sdk.one_way.send("alice", ["bob", "carol"], {"number": "s3cret-value"}))
    assert [receipt.state.value for receipt in receipts] == ["dead", "dead"]
    assert "s3cret-value" not in caplog.text
    assert "s3cret-value" not in str(receipts)
    for receipt in receipts:
        assert "number" in receipt.reasons[0]
