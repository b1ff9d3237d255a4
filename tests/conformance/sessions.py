"""Sessions: opened by a pair's first message, ended as a whole, listed, counted, and read."""

from __future__ import annotations

from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind, MessageType, SessionStatus, SessionType
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    Answering,
    EndedAsk,
    EndedSession,
    MailboxFull,
    Narrowing,
    NewEnding,
    NewWait,
    NotWaiting,
    Role,
    SessionCounts,
    SessionStatistics,
    Settling,
    Stored,
    UnknownAgents,
)

from .base import Processes, StoreFixtures
from .returning import RejectingConformance, ReturningConformance
from .world import World, id_of, ids


class OpeningConformance(StoreFixtures):
    """The first message of a pair opens its session; all others go to it until it ends."""

    async def test_the_first_message_opens_a_session_and_the_others_go_to_it(self, world: World) -> None:
        first, back, question = world.talk(), world.talk(world.bob, world.alice), world.question()
        outcomes = [await world.stored(group) for group in (first, back, question)]
        assert [outcome.session_id for outcome in outcomes] == [first.session_id] * 3
        assert [outcome.waiters for outcome in outcomes] == [frozenset()] * 3
        assert await world.transcript(str(first.session_id)) == [id_of(first), id_of(back), id_of(question)]
        assert (await world.claim_talk()).session_id == first.session_id

    async def test_each_pair_has_a_session_of_its_own(self, world: World) -> None:
        pairs = [(world.alice, world.bob), (world.carol, world.bob), (world.carol, world.alice)]
        outcomes = await world.append(*(world.talk(*pair) for pair in pairs))
        opened = {outcome.session_id for outcome in outcomes if isinstance(outcome, Stored)}
        assert opened == {(await world.session(*pair)).session_id for pair in pairs}
        assert len(opened) == 3

    async def test_groups_of_one_call_see_what_those_before_them_did(self, world: World) -> None:
        opening, second = world.question(), world.talk(world.bob, world.alice)
        answer = world.talk(world.bob, world.alice, answers=Answering.REQUIRED)
        again = world.talk(world.bob, world.alice, answers=Answering.REQUIRED)
        outcomes = await world.append(opening, second, answer, again)
        session = opening.session_id
        replied = EndedAsk(id_of(opening), AskState.REPLIED, world.owner)
        assert outcomes == [
            Stored(session_id=session),
            Stored(session_id=session, is_asked=True),
            Stored(session_id=session, answered=replied),
            NotWaiting(session),
        ]
        assert await world.transcript(str(session)) == [id_of(group) for group in (opening, second, answer)]

    async def test_a_refused_message_opens_no_session(self, world: World) -> None:
        refused = [
            world.talk(answers=Answering.REQUIRED),
            world.talk(recipient=new_id()),
            world.talk(mailbox_limit=0),
        ]
        outcomes = await world.append(*refused)
        assert [type(outcome) for outcome in outcomes] == [NotWaiting, UnknownAgents, MailboxFull]
        assert outcomes[0] == NotWaiting(None)
        assert await world.sessions.find_open_session(world.alice, world.bob) is None
        assert await world.sessions.list_sessions(world.alice, open_only=False, limit=10) == []

    async def test_one_way_messages_are_in_no_session(self, world: World) -> None:
        assert await world.append(world.group()) == [Stored()]
        assert await world.sessions.list_sessions(world.alice, open_only=False, limit=10) == []

    async def test_a_session_shows_what_it_is(self, world: World) -> None:
        opening = world.talk(world.bob, world.alice, session_type=SessionType.SYNC)
        await world.stored(opening, now=world.at(1))
        await world.stored(world.talk(session_type=SessionType.ASYNC), now=world.at(5))
        row = await world.session()
        assert row == await world.session(world.bob, world.alice)
        assert row == await world.sessions.find_session(str(opening.session_id))
        assert (row.session_id, row.session_type) == (opening.session_id, SessionType.SYNC)
        assert (row.agent_a_id, row.agent_b_id) == (world.alice, world.bob)
        assert (row.created_at, row.updated_at) == (world.at(1), world.at(5))
        assert (row.waiting_id, row.ended_at) == (None, None)
        assert await world.sessions.find_session(new_id()) is None
        assert await world.sessions.find_open_session(world.alice, world.carol) is None

    async def test_who_waits_is_the_side_that_began_to_wait_first(self, world: World, processes: Processes) -> None:
        # Somebody can answer both, so that neither waits in a circle.
        await world.serve(await processes.start(), {world.alice: 1, world.bob: 1})
        first = await world.ask()
        assert (await world.session()).waiting_id == world.alice
        second = await world.ask(world.bob, world.alice)
        assert (await world.session()).waiting_id == world.alice
        [listed] = await world.sessions.list_sessions(world.bob, open_only=True, limit=10)
        assert await world.sessions.find_session(listed.session_id) == listed == await world.session()
        await world.close(first, AskState.CANCELLED)
        assert (await world.session()).waiting_id == world.bob
        await world.close(second, AskState.TIMED_OUT)
        assert (await world.session()).waiting_id is None

    async def test_sessions_are_listed_newest_first_in_pages(self, world: World) -> None:
        opened = []
        for other in (world.bob, world.carol, world.dave):
            group = world.talk(other, world.alice)
            await world.stored(group)
            opened.append(group.session_id)
        await world.stored(world.talk(world.bob, world.carol))
        await world.end(world.carol, world.alice)

        async def listed(agent: str = world.alice, **options: Any) -> list[str]:
            options = {"open_only": False, "limit": 10, **options}
            return [row.session_id for row in await world.sessions.list_sessions(agent, **options)]

        assert await listed() == opened[::-1]
        assert await listed(open_only=True) == [opened[2], opened[0]]
        assert await listed(limit=1, offset=1) == [opened[1]]
        assert await listed(limit=1, offset=3) == []
        assert await listed(world.dave) == [opened[2]]
        assert await listed(new_id()) == []
        rows = await world.sessions.list_sessions(world.alice, open_only=False, limit=10)
        assert rows[0] == await world.sessions.find_session(str(opened[2]))
        assert [row.ended_at for row in rows] == [None, world.start, None]

    async def test_sessions_are_listed_by_status_dates_and_place(self, world: World) -> None:
        opened = []
        for number, other in enumerate((world.bob, world.carol, world.dave)):
            group = world.talk(world.alice, other) if number else world.question(world.alice, other)
            await world.stored(group, now=world.at(10 * number))
            opened.append(str(group.session_id))
        await world.end(world.carol, world.alice)

        async def listed(**options: Any) -> list[int]:
            rows = await world.sessions.list_sessions(world.alice, limit=10, **options)
            return [opened.index(row.session_id) for row in rows]

        assert await listed() == [2, 1, 0]
        assert await listed(status=SessionStatus.WAITING) == [0]
        assert await listed(status=SessionStatus.ENDED) == [1]
        assert await listed(status=SessionStatus.ACTIVE) == [2]
        assert await listed(date_from=world.at(10)) == [2, 1]
        assert await listed(date_to=world.at(10)) == [1, 0]
        assert await listed(before_id=opened[2]) == [1, 0]
        assert await listed(before_id=opened[2], offset=1) == [0]
        assert await listed(before_id=opened[0]) == []
        assert await listed(open_only=True, before_id=new_id()) == [2, 0]

    async def test_messages_of_a_session_are_listed_as_they_are_narrowed(self, world: World) -> None:
        session = new_id()
        for number in range(6):
            metadata = '{"n":1}' if number % 2 else None
            await world.say(session_id=session, metadata=metadata, now=world.at(number))
        whole = await world.sessions.list_messages(session, limit=10)
        (claimed,) = await world.claim(kind=Kind.CONVERSATION, limit=1)
        await world.settle([claimed], Settling.DONE)

        async def listed(**options: Any) -> list[int]:
            fields = [field for field in Narrowing.__slots__ if field in options]
            narrowing = Narrowing(**{field: options.pop(field) for field in fields})
            options = {"limit": 10, **options}
            rows = await world.sessions.list_messages(session, narrowing=narrowing, **options)
            return [(row.created_at - world.start).seconds for row in rows]

        assert await listed() == [0, 1, 2, 3, 4, 5]
        assert await listed(newest_first=True) == [5, 4, 3, 2, 1, 0]
        assert await listed(limit=2, offset=1) == [1, 2]
        assert await listed(limit=2, offset=1, newest_first=True) == [4, 3]
        between = {"after_seq": whole[0].seq, "before_seq": whole[4].seq}
        assert await listed(**between) == [1, 2, 3]
        assert await listed(**between, limit=2, newest_first=True) == [3, 2]
        assert await listed(date_from=world.at(2), date_to=world.at(3)) == [2, 3]
        assert await listed(needles=['"n":1'], newest_first=True) == [5, 3, 1]
        assert await listed(needles=['"n":1', "'; --"]) == []
        assert await listed(states=[DeliveryState.DONE]) == [0]
        assert await listed(states=[DeliveryState.QUEUED], limit=2, newest_first=True) == [5, 4]
        assert await listed(types=[MessageType.USER_DEFINED], limit=1) == [0]
        assert await listed(types=[MessageType.ENDING]) == await listed(types=[]) == []

    async def test_removing_an_agent_removes_its_conversations(self, world: World) -> None:
        question = world.question(notify=True)
        await world.stored(question)
        kept = world.talk(world.carol, world.alice)
        await world.stored(kept)
        wait = await world.wait(world.alice, world.bob)
        bob = (await world.store.directory.find_agents_by_id([world.bob]))[0]
        assert await world.store.directory.remove_agent(bob.external_id)
        assert await world.sessions.find_session(str(question.session_id)) is None
        assert await world.sessions.find_asks([id_of(question)]) == []
        assert await world.sessions.find_ended_asks([id_of(question)]) == {id_of(question): None}
        assert await world.sessions.find_waits([wait]) == {wait: None}
        assert await world.sessions.take_notices([world.bob], 10) == []
        assert await world.end() is None
        rows = await world.sessions.list_sessions(world.alice, open_only=False, limit=10)
        assert [row.session_id for row in rows] == [kept.session_id]
        assert not await world.sessions.register_wait(
            NewWait(new_id(), world.alice, world.bob, None), owner=world.owner
        )
        assert await world.store.check() == []


class EndingConformance(StoreFixtures):
    """`end_session`: the session, its asks and its waits end in one commit, and the end is on record."""

    async def test_an_ended_session_is_open_no_more_and_the_next_message_opens_another(self, world: World) -> None:
        opening, next_one = world.talk(), world.talk(world.bob, world.alice)
        await world.stored(opening)
        assert await world.end(now=world.at(3)) == EndedSession(str(opening.session_id), [], set())
        assert await world.sessions.find_open_session(world.alice, world.bob) is None
        row = await world.sessions.find_session(str(opening.session_id))
        assert row is not None
        assert (row.ended_at, row.updated_at, row.waiting_id) == (world.at(3), world.at(3), None)
        assert (await world.stored(next_one)).session_id == next_one.session_id
        assert (await world.session()).session_id == next_one.session_id

    async def test_without_an_open_session_nothing_ends(self, world: World) -> None:
        assert await world.end() is None
        session = str((await world.stored(world.talk())).session_id)
        await world.end()
        before = await world.sessions.find_session(session)
        assert await world.end(now=world.at(5)) is None
        assert await world.end(world.bob, world.alice, now=world.at(5)) is None
        assert await world.sessions.find_session(session) == before
        assert (await world.sessions.count_messages(session)).messages == 2

    async def test_the_end_is_on_record_as_a_message_of_the_sdks_own(self, world: World) -> None:
        session = str((await world.stored(world.talk())).session_id)
        content = '{"by" : "bob é"}'
        ending = NewEnding(new_id(), content, checksum(content, None))
        await world.end(world.bob, world.alice, ending=ending, now=world.at(2))
        first, row = await world.sessions.list_messages(session, limit=10)
        assert (row.message_id, row.session_id, row.kind) == (ending.message_id, session, Kind.CONVERSATION)
        assert (row.sender_id, row.recipient_id) == (world.bob, world.alice)
        assert (row.content, row.metadata, row.checksum) == (content, None, ending.checksum)
        assert (row.message_type, first.message_type) == (MessageType.ENDING, MessageType.USER_DEFINED)
        assert (row.created_at, row.read_at) == (world.at(2), world.at(2))
        receipt = await world.receipt(ending.message_id)
        assert (receipt.state, receipt.attempt, receipt.token) == (DeliveryState.DONE, 0, 0)
        assert (receipt.settled_at, receipt.owner) == (world.at(2), None)
        rows = await world.store.messages.list_messages(world.alice, Role.RECIPIENT, Kind.CONVERSATION, limit=10)
        assert rows == [row]
        assert ids(await world.claim(world.alice, kind=Kind.CONVERSATION)) == []
        assert await world.take(world.alice, world.bob) is None
        assert ids(await world.read(world.alice)) == []
        assert await world.store.check() == []

    async def test_its_open_asks_end_and_those_still_queued_expire(self, world: World) -> None:
        asker = new_id()
        ask = await world.ask(owner=asker)
        ended = await world.end(world.bob, world.alice, now=world.at(4))
        assert ended is not None
        assert ended.asks == [EndedAsk(ask, AskState.ENDED, asker)]
        assert ended.processes == {asker}
        assert await world.ask_state(ask) == AskState.ENDED
        receipt = await world.receipt(ask)
        assert (receipt.state, receipt.settled_at) == (DeliveryState.EXPIRED, world.at(4))
        assert await world.claim(kind=Kind.CONVERSATION) == []
        # The pair can ask again.
        await world.ask()

    async def test_asks_that_had_ended_before_stay_as_they_were(self, world: World) -> None:
        answered = await world.ask()
        await world.answer()
        late = await world.ask()
        await world.close(late, AskState.TIMED_OUT)
        ended = await world.end()
        assert ended is not None
        assert (ended.asks, ended.processes) == ([], set())
        assert [await world.ask_state(ask) for ask in (answered, late)] == [AskState.REPLIED, AskState.TIMED_OUT]

    async def test_a_claimed_ask_is_left_to_its_run_whose_answer_is_kept_unread(self, world: World) -> None:
        ask = await world.ask()
        session = (await world.session()).session_id
        run = await world.claim_talk()
        await world.end()
        assert await world.state(ask) == DeliveryState.CLAIMED
        result = world.result()
        settled = await world.settle(run, answer=result)
        assert (settled.moved, settled.ended_asks) == ([True], [])
        assert await world.ask_state(ask) == AskState.ENDED
        row = (await world.sessions.list_messages(session, limit=10))[-1]
        assert (row.message_id, row.session_id, row.read_at) == (result.message_id, session, None)
        assert await world.sessions.find_open_session(world.alice, world.bob) is None
        assert ids(await world.read(world.alice)) == [result.message_id]

    async def test_other_queued_messages_stay_and_are_handled(self, world: World) -> None:
        said = await world.say()
        await world.end()
        assert await world.state(said) == DeliveryState.QUEUED
        assert ids(await world.claim(kind=Kind.CONVERSATION)) == [said]

    async def test_waits_between_the_two_end_with_it_and_others_go_on(self, world: World) -> None:
        one, other, third = new_id(), new_id(), new_id()
        await world.say()
        ended = [await world.wait(owner=one), await world.wait(world.alice, world.bob, owner=other)]
        kept = await world.wait(world.bob, world.carol, owner=third)
        end = await world.end()
        assert end is not None
        assert end.processes == {one, other}
        found = await world.sessions.find_waits([*ended, kept], world.start)
        assert {id: row.is_ended for id, row in found.items() if row} == dict.fromkeys(ended, True)
        # What ended holds nothing back, what goes on does.
        await world.say(world.carol)
        (claimed,) = await world.claim(kind=Kind.CONVERSATION)
        assert claimed.sender_id == world.alice

    async def test_a_repeat_answers_as_the_first_time_and_ends_nothing_more(self, world: World) -> None:
        asker, waiter = new_id(), new_id()
        ask = await world.ask(owner=asker)
        session = (await world.session()).session_id
        await world.wait(owner=waiter)
        ending = world.ending()
        first = await world.end(ending=ending)
        assert first is not None
        assert (first.asks, first.processes) == ([EndedAsk(ask, AskState.ENDED, asker)], {asker, waiter})
        assert await world.end(ending=ending, now=world.at(1)) == first
        following = world.talk()
        await world.stored(following)
        again = await world.end(ending=ending, now=world.at(2))
        assert again is not None
        assert (again.session_id, again.asks) == (session, first.asks)
        assert (await world.session()).session_id == following.session_id
        assert (await world.sessions.count_messages(session)).messages == 2

    async def test_the_clock_of_the_store_is_used_where_it_is_given_no_instant(self, world: World) -> None:
        session = str((await world.stored(world.talk())).session_id)
        await world.sessions.end_session(world.alice, world.bob, world.ending())
        row = await world.sessions.find_session(session)
        assert row is not None
        assert row.ended_at is not None
        assert abs((row.ended_at - world.start).total_seconds()) < 60


class ListingConformance(StoreFixtures):
    """What a session has, in figures and as a list."""

    async def test_messages_are_listed_oldest_first_in_pages_and_none_is_marked(self, world: World) -> None:
        opening = world.talk()
        await world.stored(opening)
        sent = [id_of(opening)]
        for number in range(5):
            pair = (world.bob, world.alice) if number % 2 else (world.alice, world.bob)
            sent.append(await world.say(*pair))
        await world.say(world.carol, world.bob)
        session = str(opening.session_id)
        rows = await world.sessions.list_messages(session, limit=100)
        assert ids(rows) == sent
        assert [row.read_at for row in rows] == [None] * 6
        assert await world.transcript(session, limit=2) == sent[:2]
        assert await world.transcript(session, limit=2, after_seq=rows[1].seq) == sent[2:4]
        assert await world.transcript(session, after_seq=rows[-1].seq) == []
        assert await world.transcript(new_id()) == []
        await world.read()
        ending = world.ending()
        await world.end(ending=ending)
        assert await world.transcript(session) == [*sent, ending.message_id]
        assert await world.transcript(session, unread_only=True) == [sent[2], sent[4]]
        assert await world.transcript(session, unread_only=True, limit=1, after_seq=rows[2].seq) == [sent[4]]

    async def test_a_row_has_all_of_its_message(self, world: World) -> None:
        group = world.question(content='{"é" : 1.0}', metadata='{"m":[]}', checksum=7)
        await world.stored(group, now=world.at(3))
        (row,) = await world.sessions.list_messages(str(group.session_id), limit=2)
        assert (row.message_id, row.kind, row.session_id) == (id_of(group), Kind.CONVERSATION, group.session_id)
        assert (row.sender_id, row.recipient_id, row.message_type) == (world.alice, world.bob, MessageType.USER_DEFINED)
        assert (row.content, row.metadata, row.checksum) == ('{"é" : 1.0}', '{"m":[]}', 7)
        assert (row.created_at, row.read_at) == (world.at(3), None)
        assert await world.store.messages.list_messages(world.bob, Role.RECIPIENT, Kind.CONVERSATION, limit=2) == [row]

    async def test_messages_are_counted_with_the_ending(self, world: World) -> None:
        session = str((await world.stored(world.talk())).session_id)
        await world.say(world.bob, world.alice)
        assert await world.sessions.count_messages(session) == SessionCounts(messages=2, read=0)
        await world.read()
        assert await world.sessions.count_messages(session) == SessionCounts(messages=2, read=1)
        await world.end()
        assert await world.sessions.count_messages(session) == SessionCounts(messages=3, read=2)
        assert await world.sessions.count_messages(new_id()) == SessionCounts(messages=0, read=0)

    async def test_an_agents_conversations_in_figures(self, world: World) -> None:
        assert await world.sessions.statistics(world.bob) == SessionStatistics(0, 0, 0, 0, 0, 0)
        await world.say()
        await world.end()
        await world.say()
        await world.say(world.bob, world.carol)
        await world.say(world.bob, world.carol)
        await world.say(world.alice, world.dave)
        await world.send(world.carol, world.bob)
        await world.read(limit=1)
        assert await world.sessions.statistics(world.bob) == SessionStatistics(
            sessions=3, open_sessions=2, sent=2, received=2, unread=1, partners=2
        )
        assert await world.sessions.statistics(world.dave) == SessionStatistics(1, 1, 0, 1, 1, 1)


class ReadingConformance(StoreFixtures):
    """`read_messages`: the agent's own code takes what it has not read."""

    async def test_what_is_unread_is_read_once_oldest_first_of_all_senders(self, world: World) -> None:
        sent = [await world.say(sender) for sender in (world.carol, world.alice, world.carol)]
        await world.say(world.alice, world.dave)
        page = await world.read(now=world.at(2))
        assert ids(page) == sent
        assert page.is_last
        assert [row.sender_id for row in page.messages] == [world.carol, world.alice, world.carol]
        assert [(await world.receipt(id)).read_at for id in sent] == [world.at(2)] * 3
        page = await world.read()
        assert (page.messages, page.is_last) == ([], True)

    async def test_those_of_one_sender_are_read_alone(self, world: World) -> None:
        of_carol, of_alice = await world.say(world.carol), await world.say(world.alice)
        assert ids(await world.read(sender_id=world.alice)) == [of_alice]
        assert ids(await world.read(sender_id=world.alice)) == []
        assert ids(await world.read()) == [of_carol]

    async def test_a_page_tells_whether_it_is_the_last(self, world: World) -> None:
        sent = [await world.say() for _ in range(5)]
        page = await world.read(limit=2)
        assert (ids(page), page.is_last) == (sent[:2], False)
        page = await world.read(limit=3)
        assert (ids(page), page.is_last) == (sent[2:], True)

    async def test_without_marking_they_stay_unread_and_are_paged_by_sequence(self, world: World) -> None:
        sent = [await world.say() for _ in range(3)]
        page = await world.read(mark=False, limit=2)
        assert (ids(page), page.is_last) == (sent[:2], False)
        page = await world.read(mark=False, limit=2, after_seq=page.messages[-1].seq)
        assert (ids(page), page.is_last) == (sent[2:], True)
        assert [await world.state(id) for id in sent] == [DeliveryState.QUEUED] * 3
        assert ids(await world.read()) == sent

    async def test_what_was_read_from_the_queue_is_done_and_no_handler_gets_it(self, world: World) -> None:
        read, later = await world.say(), await world.say()
        await world.read(limit=1, now=world.at(2))
        receipt = await world.receipt(read)
        assert (receipt.state, receipt.read_at, receipt.settled_at) == (DeliveryState.DONE, world.at(2), world.at(2))
        assert (receipt.attempt, receipt.token) == (0, 0)
        assert ids(await world.claim(kind=Kind.CONVERSATION)) == [later]

    async def test_what_a_handler_has_is_read_and_left_to_its_run(self, world: World) -> None:
        said = await world.say()
        run = await world.claim_talk()
        assert ids(await world.read()) == [said]
        receipt = await world.receipt(said)
        assert (receipt.state, receipt.read_at) == (DeliveryState.CLAIMED, world.start)
        assert (await world.settle(run)).moved == [True]

    async def test_what_a_handler_had_is_read_as_well(self, world: World) -> None:
        said = await world.say()
        await world.settle(await world.claim_talk())
        assert ids(await world.read()) == [said]

    async def test_what_a_handler_returned_is_read_and_answers_are_not(self, world: World) -> None:
        await world.say()
        result = world.result('"kept"')
        await world.settle(await world.claim_talk(), answer=result)
        await world.ask()
        await world.answer()
        page = await world.read(world.alice)
        assert [(row.message_id, row.content) for row in page.messages] == [(result.message_id, '"kept"')]

    async def test_reading_an_ask_leaves_it_open_and_takes_it(self, world: World) -> None:
        ask = await world.ask()
        page = await world.read()
        assert ids(page) == [ask]
        assert await world.ask_state(ask) == AskState.OPEN
        assert await world.state(ask) == DeliveryState.DONE
        await world.answer(answering=Answering.IF_TAKEN)
        assert await world.ask_state(ask) == AskState.REPLIED

    async def test_one_way_messages_and_the_sdks_own_are_not_among_them(self, world: World) -> None:
        await world.send()
        said = await world.say()
        await world.end()
        assert ids(await world.read()) == [said]
        assert ids(await world.read(world.alice)) == []

    async def test_a_failed_one_can_still_be_read(self, world: World) -> None:
        said = await world.say()
        await world.settle(await world.claim_talk(), Settling.DEAD, reason="no")
        assert ids(await world.read()) == [said]
        assert await world.state(said) == DeliveryState.DEAD

    async def test_what_is_not_due_is_not_read_whichever_way_one_reads(self, world: World) -> None:
        await world.say(thread="t")  # so that the thread is there
        later = await world.say(deliver_at=world.at(60))
        apart = await world.say(deliver_at=world.at(60), thread="t")
        options: list[dict[str, Any]] = [{}, {"sender_id": world.alice}, {"thread": "t"}]
        await world.read(thread="t")
        for how in options:
            assert ids(await world.read(mark=False, now=world.at(59), **how)) == []
        assert (await world.sessions.statistics(world.bob)).unread == 0
        await world.deliveries.advance(world.at(61))
        assert (await world.sessions.statistics(world.bob)).unread == 2
        for how in options:
            found = [apart] if "thread" in how else [later, apart]
            assert ids(await world.read(mark=False, now=world.at(61), **how)) == found

    async def test_what_expired_before_anybody_began_with_it_is_not_read(self, world: World) -> None:
        kept = await world.say(world.carol, expires_in=10)
        await world.settle(await world.claim_talk())
        gone = await world.say(expires_in=10)
        options: list[dict[str, Any]] = [{}, {"sender_id": world.alice}]
        for how in options:
            assert gone in ids(await world.read(mark=False, now=world.at(9), **how))
            assert gone not in ids(await world.read(mark=False, now=world.at(11), **how))
        await world.deliveries.advance(world.at(11))
        assert await world.state(gone) == DeliveryState.EXPIRED
        assert ids(await world.read(now=world.at(11))) == [kept], "a handler had it in time"

    async def test_a_retry_that_is_not_due_is_read(self, world: World) -> None:
        said = await world.say()
        await world.settle(await world.claim_talk(), Settling.RETRY, delay=60)
        assert ids(await world.read()) == [said]


class SessionConformance(
    OpeningConformance,
    EndingConformance,
    ListingConformance,
    ReadingConformance,
    ReturningConformance,
    RejectingConformance,
):
    """The sessions of `SessionStore`, and the reading of their messages."""
