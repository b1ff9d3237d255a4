"""What is SQLite's own about conversations: groups of one call that concern each other, and settlements that repeat."""

from __future__ import annotations

from typing import Any

import pytest

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    Answering,
    AskRow,
    EndedAsk,
    MailboxFull,
    MutualWait,
    NewAnswer,
    NewGroup,
    NewWait,
    NotWaiting,
    SessionLocked,
    Settlement,
    Settling,
    Stored,
    UnknownAgents,
)
from agent_messaging.storage.sqlite.store import SQLiteStore
from tests.conformance.world import World


def talk(world: World, sender: str, recipient: str, **options: Any) -> NewGroup:
    return world.group(sender, recipient, kind=Kind.CONVERSATION, session_id=new_id(), **options)


def ask(world: World, sender: str, recipient: str, **options: Any) -> NewGroup:
    return talk(world, sender, recipient, **{"ask_timeout": 30.0, "answers": Answering.IF_TAKEN, **options})


def id_of(group: NewGroup) -> str:
    return group.deliveries[0].message_id


async def find(store: SQLiteStore, group: NewGroup) -> AskRow:
    (row,) = await store.sessions.find_asks([id_of(group)])
    return row


async def store_one(world: World, group: NewGroup, **options: Any) -> Stored:
    (outcome,) = await world.append(group, **options)
    assert isinstance(outcome, Stored), outcome
    return outcome


# --- the groups of one call -------------------------------------------------------------------------------------------


async def test_each_group_sees_what_those_before_it_did(store: SQLiteStore, world: World) -> None:
    first, second = ask(world, world.alice, world.bob, claim=True), ask(world, world.alice, world.bob)
    answer = talk(world, world.bob, world.alice, answers=Answering.REQUIRED)
    again = ask(world, world.alice, world.bob)
    late = talk(world, world.carol, world.alice, answers=Answering.REQUIRED)
    outcomes = await world.append(first, second, answer, again, late)
    session = first.session_id
    assert outcomes == [
        Stored(session_id=session),
        SessionLocked(id_of(first)),
        Stored(session_id=session, answered=EndedAsk(id_of(first), AskState.REPLIED, world.owner)),
        Stored(session_id=session),
        NotWaiting(None),
    ]
    row = await find(store, first)
    assert row.state is AskState.REPLIED
    assert row.answer is not None
    assert row.answer.message_id == id_of(answer)
    assert await world.state(id_of(first)) is DeliveryState.DONE
    assert (await find(store, again)).state is AskState.OPEN
    assert [claimed.message_id for claimed in await world.claim(kind=Kind.CONVERSATION)] == [id_of(again)]


async def test_a_circle_is_seen_that_only_this_call_would_close(world: World) -> None:
    agents = [world.alice, world.bob, world.carol, world.dave]
    *others, last = [ask(world, agents[n], agents[(n + 1) % 4]) for n in range(4)]
    outcomes = await world.append(*others, last)
    assert [type(outcome) for outcome in outcomes[:3]] == [Stored] * 3
    assert outcomes[3] == MutualWait([*agents, world.alice])


async def test_a_circle_half_of_which_this_call_would_close(world: World) -> None:
    await world.append(ask(world, world.bob, world.carol), ask(world, world.dave, world.alice))
    outcomes = await world.append(ask(world, world.alice, world.bob), ask(world, world.carol, world.dave))
    assert isinstance(outcomes[0], Stored)
    assert outcomes[1] == MutualWait([world.dave, world.alice, world.bob, world.carol, world.dave])


async def test_what_this_call_answers_is_in_no_circle(world: World) -> None:
    await store_one(world, ask(world, world.alice, world.bob))
    answer = talk(world, world.bob, world.alice, answers=Answering.REQUIRED)
    outcomes = await world.append(ask(world, world.bob, world.alice), answer, ask(world, world.bob, world.alice))
    assert outcomes[0] == MutualWait([world.alice, world.bob, world.alice])
    assert [type(outcome) for outcome in outcomes[1:]] == [Stored] * 2


async def test_a_removed_agent_spoils_no_other_conversation(store: SQLiteStore, world: World) -> None:
    (bob,) = await store.directory.find_agents_by_id([world.bob])
    await store.directory.remove_agent(bob.external_id)
    groups = [
        ask(world, world.alice, world.carol),
        ask(world, world.alice, world.bob),
        talk(world, world.bob, world.dave, answers=Answering.REQUIRED),
        talk(world, world.carol, world.dave, notify=True),
    ]
    outcomes = await world.append(*groups)
    assert [type(outcome) for outcome in outcomes] == [Stored, UnknownAgents, UnknownAgents, Stored]
    assert [row.message_id for row in await store.sessions.take_notices(None, 10)] == [id_of(groups[3])]
    assert await store.check() == []


async def test_an_answer_fits_into_a_full_mailbox_and_does_not_fill_it(world: World) -> None:
    await world.append(ask(world, world.alice, world.bob))
    answer = talk(world, world.bob, world.alice, answers=Answering.REQUIRED, mailbox_limit=1)
    first, second = (talk(world, world.bob, world.alice, mailbox_limit=1) for _ in range(2))
    outcomes = await world.append(answer, first, second)
    assert [type(outcome) for outcome in outcomes[:2]] == [Stored] * 2
    assert outcomes[2] == MailboxFull([world.alice])


async def test_a_repeated_append_tells_again_what_it_answered(world: World) -> None:
    await world.append(ask(world, world.alice, world.bob), ask(world, world.carol, world.bob))
    answer = talk(world, world.bob, world.alice, answers=Answering.REQUIRED)
    more = talk(world, world.bob, world.alice)
    outcomes = await world.append(answer, more)
    assert isinstance(outcomes[0], Stored)
    assert outcomes[0].answered is not None
    assert await world.append(answer, more, repeat=True) == outcomes


# --- settlements that repeat ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Settling.RETRY, Settling.RETURNED])
@pytest.mark.parametrize("replied", [False, True])
async def test_a_settlement_is_told_by_its_token_whatever_the_delivery_is_now(
    store: SQLiteStore, world: World, how: Settling, replied: bool
) -> None:
    """The run of an ask that has ended meanwhile is given back: the delivery ends, and not as this run says."""
    asked = ask(world, world.alice, world.bob)
    await store_one(world, asked)
    claimed = await world.claim_one(kind=Kind.CONVERSATION)
    if replied:
        await store_one(world, talk(world, world.bob, world.alice, answers=Answering.REQUIRED))
    else:
        await store.sessions.close_asks([id_of(asked)], AskState.CANCELLED)
    for _ in range(2):
        settled = await world.settle(claimed, how, reason="broken")
        assert settled.moved == [True]
    assert await world.state(id_of(asked)) is (DeliveryState.DONE if replied else DeliveryState.EXPIRED)
    assert (await world.settle(claimed, Settling.DONE)).moved == [False]
    assert await world.events(id_of(asked)) == ["failed" if how is Settling.RETRY else "returned"]


async def test_a_lost_claim_is_not_done_because_its_message_was_read(store: SQLiteStore, world: World) -> None:
    message_id = await world.send(kind=Kind.CONVERSATION)
    claimed = await world.claim_one(kind=Kind.CONVERSATION)
    assert (await store.deliveries.advance(world.at(1000))).released == 1
    await store.sessions.read_messages(world.bob, limit=1)
    assert await world.state(message_id) is DeliveryState.DONE
    assert (await world.settle(claimed)).moved == [False]


async def test_a_repeated_answer_is_stored_once_and_told_again(store: SQLiteStore, world: World) -> None:
    asked = ask(world, world.alice, world.bob, claim=True)
    claim = (await store_one(world, asked)).claims[id_of(asked)]
    answer = NewAnswer(new_id(), '"yes"', checksum('"yes"', None))
    settlement = Settlement(claim, Settling.DONE, answer=answer)
    for _ in range(2):
        settled = await store.deliveries.settle([settlement, settlement], owner=world.owner, now=world.start)
        assert settled.moved == [True, True]
        assert EndedAsk(id_of(asked), AskState.REPLIED, world.owner) in settled.ended_asks
    assert asked.session_id is not None
    assert (await store.sessions.count_messages(asked.session_id)).messages == 2
    other = Settlement(claim, Settling.DONE, answer=NewAnswer(new_id(), '"no"', checksum('"no"', None)))
    assert (await store.deliveries.settle([other], owner=world.owner, now=world.start)).moved == [True]
    assert (await store.sessions.count_messages(asked.session_id)).messages == 2


# --- waits ------------------------------------------------------------------------------------------------------------


async def test_a_wait_of_a_process_taken_for_dead_holds_nothing(store: SQLiteStore, world: World) -> None:
    await store.presence.start(lambda: None, lambda: None)
    owner = store.presence.process_id
    await store.processes.release([owner])
    wait = NewWait(new_id(), world.bob, world.alice, None)
    assert await store.sessions.register_wait(wait, owner=owner, now=world.start)
    message_id = await world.send(kind=Kind.CONVERSATION)
    assert (await world.claim_one(kind=Kind.CONVERSATION)).message_id == message_id
