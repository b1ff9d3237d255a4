"""Messages as records: listings, what is unread, counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import DeliveryState, Kind
from agent_messaging.storage.ports import MessageRow, Narrowing, Role, Settling

from .base import StoreFixtures
from .world import World, ids


class MessageConformance(StoreFixtures):
    """All of `MessageStore`. Reading never acknowledges, and acknowledging is not reading."""

    async def listed(self, world: World, agent: str | None = None, **options: Any) -> list[str]:
        """Ids of what an agent received, or as said; bob's where not said otherwise."""
        options = {"role": Role.RECIPIENT, "kind": Kind.ONE_WAY, "limit": 100, **options}
        role, kind = options.pop("role"), options.pop("kind")
        fields = [field for field in Narrowing.__slots__ if field in options]
        narrowing = Narrowing(**{field: options.pop(field) for field in fields})
        rows = await world.store.messages.list_messages(agent or world.bob, role, kind, narrowing=narrowing, **options)
        return [row.message_id for row in rows]

    async def row(self, world: World) -> MessageRow:
        (row,) = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=2)
        return row

    async def count(self, world: World, agent: str | None = None, **options: Any) -> int:
        options = {"role": Role.RECIPIENT, "kind": Kind.ONE_WAY, **options}
        role, kind = options.pop("role"), options.pop("kind")
        return await world.store.messages.count_messages(agent or world.bob, role, kind, **options)

    async def test_a_row_has_all_of_its_message(self, world: World) -> None:
        session = new_id()
        id = await world.send(content='{"é":1.50}', metadata='{"m":[]}', session_id=session, checksum=7)
        row = await self.row(world)
        assert (row.message_id, row.kind, row.session_id) == (id, Kind.ONE_WAY, session)
        assert (row.sender_id, row.recipient_id) == (world.alice, world.bob)
        assert (row.content, row.metadata, row.checksum) == ('{"é":1.50}', '{"m":[]}', 7)
        assert (row.created_at, row.read_at) == (world.start, None)
        assert row.created_at.utcoffset() == timedelta(0)

    async def test_no_metadata_and_no_session_are_none(self, world: World) -> None:
        await world.send()
        row = await self.row(world)
        assert (row.metadata, row.session_id) == (None, None)

    async def test_a_page_is_newest_first(self, world: World) -> None:
        sent = await world.send_many(5)
        assert await self.listed(world) == sent[::-1]
        assert await self.listed(world, limit=2) == [sent[4], sent[3]]
        assert await self.listed(world, limit=2, offset=3) == [sent[1], sent[0]]
        assert await self.listed(world, limit=2, offset=5) == []

    async def test_a_page_before_a_message_is_what_is_older(self, world: World) -> None:
        sent = await world.send_many(5)
        await world.send(world.carol, content='"another sender"')
        for side in ({}, {"unread_only": True}, {"agent": world.alice, "role": Role.SENDER}):
            assert await self.listed(world, before_id=sent[3], **side) == sent[2::-1]
            assert await self.listed(world, before_id=sent[3], limit=1, offset=1, **side) == [sent[1]]
            assert await self.listed(world, before_id=sent[0], **side) == []
            assert await self.listed(world, before_id=new_id(), **side) == []
        pages, last = [], None
        while page := await self.listed(world, before_id=last, limit=2):
            last = page[-1]
            pages += page
            await world.send()  # what arrives meanwhile moves nothing
        assert pages[1:] == sent[::-1]

    async def test_needles_leave_out_messages_whose_metadata_lack_one(self, world: World) -> None:
        first = await world.send(metadata='{"a":"x","b":1}')
        await world.send()
        second = await world.send(metadata='{"a":"x\'%"}')
        for side in ({}, {"unread_only": True}, {"agent": world.alice, "role": Role.SENDER}):
            assert await self.listed(world, needles=['"a":"x'], **side) == [second, first]
            assert await self.listed(world, needles=['"a":"x', '"b":'], **side) == [first]
            assert await self.listed(world, needles=["'%"], **side) == [second]
            assert await self.listed(world, needles=["_"], **side) == []
            assert await self.listed(world, needles=['"a"'], limit=1, offset=1, **side) == [first]

    async def test_states_are_those_of_the_delivery(self, world: World) -> None:
        first, second = await world.send_many(2)
        (claimed,) = await world.claim(limit=1)
        await world.settle([claimed], Settling.DONE)
        for side in ({}, {"unread_only": True}, {"agent": world.alice, "role": Role.SENDER}):
            assert await self.listed(world, states=[DeliveryState.DONE], **side) == [first]
            assert await self.listed(world, states=[DeliveryState.QUEUED, DeliveryState.DONE], **side) == [
                second,
                first,
            ]
            assert await self.listed(world, states=[], **side) == []

    async def test_a_number_is_found_by_the_id(self, world: World) -> None:
        (id,) = await world.send_many(1)
        assert await world.store.messages.find_seq(id) == (await self.row(world)).seq
        assert await world.store.messages.find_seq(new_id()) is None

    async def test_a_message_is_found_by_its_id_as_it_is_listed(self, world: World) -> None:
        id = await world.send(content='{"é":1.50}', metadata='{"m":[]}', session_id=new_id(), checksum=7)
        await world.send()
        listed = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=2)
        assert await world.store.messages.find_message(id) == listed[1]
        assert await world.store.messages.find_message(new_id()) is None

    async def test_the_two_sides_and_the_kinds_are_apart(self, world: World) -> None:
        note = await world.send()
        question = await world.send(kind=Kind.CONVERSATION)
        answer = await world.send(world.bob, world.alice)
        assert await self.listed(world) == [note]
        assert await self.listed(world, kind=Kind.CONVERSATION) == [question]
        assert await self.listed(world, role=Role.SENDER) == [answer]
        assert await self.listed(world, world.alice, role=Role.SENDER) == [note]
        assert await self.listed(world, world.carol) == []

    async def test_both_dates_are_inclusive(self, world: World) -> None:
        first, second, third = [await world.send(now=world.at(seconds)) for seconds in (10, 20, 30)]

        async def between(start: datetime | None, end: datetime | None) -> list[str]:
            return await self.listed(world, date_from=start, date_to=end)

        assert await between(world.at(20), None) == [third, second]
        assert await between(None, world.at(20)) == [second, first]
        assert await between(world.at(20), world.at(20)) == [second]
        assert await between(world.at(10.000001), world.at(29.999999)) == [second]
        assert await between(world.at(31), None) == []

    async def test_following_begins_behind_a_number_oldest_first(self, world: World) -> None:
        sent = await world.send_many(4)
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=2, after_seq=0)
        assert [row.message_id for row in rows] == sent[:2]
        assert await self.listed(world, after_seq=rows[-1].seq) == sent[2:]
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=1)
        assert await self.listed(world, after_seq=rows[0].seq) == []
        later = await world.send()
        assert await self.listed(world, after_seq=rows[0].seq) == [later]

    async def test_numbers_rise_over_all_messages_of_the_store(self, world: World) -> None:
        await world.send()
        await world.send(world.carol, world.dave)
        await world.send()
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=9, after_seq=0)
        others = await world.store.messages.list_messages(world.dave, Role.RECIPIENT, Kind.ONE_WAY, limit=9)
        assert rows[0].seq < others[0].seq < rows[1].seq
        assert (await world.claim_one()).claim.seq == rows[0].seq

    async def test_all_unread_ones_are_marked_once(self, world: World) -> None:
        sent = await world.send_many(3)
        assert await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, now=world.at(5)) == 3
        assert await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, now=world.at(6)) == 0
        later = await world.send()
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=9)
        assert {row.message_id: row.read_at for row in rows} == {later: None, **dict.fromkeys(sent, world.at(5))}

    async def test_marking_can_be_limited_to_a_sender_and_keeps_to_its_kind(self, world: World) -> None:
        from_alice, from_carol = await world.send(), await world.send(world.carol)
        question = await world.send(kind=Kind.CONVERSATION)
        other_question = await world.send(world.carol, kind=Kind.CONVERSATION)
        elsewhere = await world.send(recipient=world.dave)
        assert await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, sender_id=world.carol) == 1
        assert await self.listed(world, unread_only=True) == [from_alice]
        assert await self.listed(world, unread_only=False) == [from_carol, from_alice]
        assert await self.listed(world, kind=Kind.CONVERSATION, unread_only=True) == [other_question, question]
        assert await self.listed(world, world.dave, unread_only=True) == [elsewhere]

    async def test_marking_can_be_of_single_messages_and_keeps_to_their_recipient(self, world: World) -> None:
        mine, other, read = await world.send_many(3)
        elsewhere = await world.send(recipient=world.dave)
        talk = await world.send(kind=Kind.CONVERSATION)
        mark = world.store.messages.mark_read
        assert await mark(world.bob, Kind.ONE_WAY, message_ids=[read], now=world.at(4)) == 1
        named = [mine, read, elsewhere, talk, new_id()]
        assert await mark(world.bob, Kind.ONE_WAY, message_ids=named, now=world.at(5)) == 1
        assert await mark(world.bob, Kind.ONE_WAY, message_ids=[]) == 0
        rows = await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.ONE_WAY, limit=9)
        found = {row.message_id: row.read_at for row in rows}
        assert found == {mine: world.at(5), other: None, read: world.at(4)}
        assert await self.listed(world, world.dave, unread_only=True) == [elsewhere]
        assert await self.listed(world, kind=Kind.CONVERSATION, unread_only=True) == [talk]

    async def test_unread_ones_are_paged_and_dated_like_all(self, world: World) -> None:
        await world.send()
        await world.store.messages.mark_read(world.bob, Kind.ONE_WAY)
        unread = [await world.send(now=world.at(seconds)) for seconds in (10, 20, 30)]
        assert await self.listed(world, unread_only=True, limit=2) == [unread[2], unread[1]]
        assert await self.listed(world, unread_only=True, limit=2, offset=2) == [unread[0]]
        assert await self.listed(world, unread_only=True, date_to=world.at(20)) == [unread[1], unread[0]]
        assert await self.listed(world, unread_only=True, after_seq=0) == unread

    async def test_the_sender_sees_what_was_read(self, world: World) -> None:
        first, second = await world.send(), await world.send(recipient=world.carol)
        await world.store.messages.mark_read(world.bob, Kind.ONE_WAY)
        assert await self.listed(world, world.alice, role=Role.SENDER, unread_only=True) == [second]
        assert await self.listed(world, world.alice, role=Role.SENDER) == [second, first]

    async def test_reading_does_not_acknowledge_and_acknowledging_does_not_read(self, world: World) -> None:
        first, second = await world.send_many(2)
        await world.settle(await world.claim_one(), Settling.DONE)
        assert await self.listed(world, unread_only=True) == [second, first]
        assert await world.store.messages.mark_read(world.bob, Kind.ONE_WAY) == 2
        assert await world.state(second) == DeliveryState.QUEUED
        assert ids(await world.claim()) == [second]

    async def test_counts_are_of_one_side_and_one_kind(self, world: World) -> None:
        await world.send_many(3)
        await world.send_many(2, world.carol)
        await world.send(kind=Kind.CONVERSATION)
        await world.send(recipient=world.dave)
        await world.store.messages.mark_read(world.bob, Kind.ONE_WAY, sender_id=world.carol)

        assert [await self.count(world, read=read) for read in (None, True, False)] == [5, 2, 3]
        sent = [await self.count(world, world.alice, role=Role.SENDER, read=read) for read in (None, True, False)]
        assert sent == [4, 0, 4]
        assert await self.count(world, world.carol, role=Role.SENDER, read=True) == 2
        assert await self.count(world, kind=Kind.CONVERSATION) == 1
        assert await self.count(world, world.alice) == 0
        assert await self.count(world, new_id()) == 0
