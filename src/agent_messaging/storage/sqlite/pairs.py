"""The rows of conversations that `append` reads and writes, by one statement for all messages of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import apsw

from ...models import AskState, DeliveryState
from ..admission import Found, Graph, OpenAsk, Plan, find_threads, is_conversation
from ..circles import Place, Staff, WaitingAsk
from ..ports import NewGroup
from ..sql import Queries
from . import asks, notices, parts
from .clock import SECOND, Instant, to_microseconds
from .engine import fetch
from .rows import encode

_SQL = Queries(__package__, "asks")
_PLACES = {DeliveryState.QUEUED: Place.QUEUED, DeliveryState.CLAIMED: Place.CLAIMED}


def find(
    connection: apsw.Connection, groups: Sequence[NewGroup], sessions: Sequence[str | int | None], instant: Instant
) -> dict[int, Found]:
    """The facts about the conversation messages among these groups, by their index.

    Args:
        connection: Where to read.
        groups: Those of the call.
        sessions: What append_look answers about these messages.
        instant: Now.
    """
    found: dict[int, Found] = {}
    rest: dict[int, tuple[NewGroup, str]] = {}
    concerned = (index for index, group in enumerate(groups) if is_conversation(group))
    for index, session_id in zip(concerned, sessions, strict=True):
        group = groups[index]
        if isinstance(session_id, int):
            rest[index] = (group, group.thread)
        else:
            found[index] = Found(group.thread, session_id)
    if rest:
        found |= _find_in(connection, rest, instant)
        if threads := find_threads(groups, found):
            there = _find_in(connection, {index: (groups[index], thread) for index, thread in threads.items()}, instant)
            found.update((index, replace(found[index], there=one)) for index, one in there.items())
    return found


def _find_in(
    connection: apsw.Connection, wanted: Mapping[int, tuple[NewGroup, str]], instant: Instant
) -> dict[int, Found]:
    """The same of these messages, each in a thread."""
    rows = [
        (one.sender_id, one.deliveries[0].recipient_id, one.within, thread, int(one.is_anywhere))
        for one, thread in wanted.values()
    ]
    answers = fetch(connection, _SQL["append_find_pairs"], {"groups": encode(rows), "now": instant.due})
    return {index: _found(thread, *row) for (index, (_, thread)), row in zip(wanted.items(), answers, strict=True)}


def _found(
    thread: str,
    session_id: str | None,
    mine: list[Any] | None,
    theirs: list[Any] | None,
    asks_others: int,
    waiters: list[str],
    within: int | None,
    is_asked_by_run: int,
    chained: int | None,
    elsewhere: list[tuple[str, int]],
) -> Found:
    return Found(
        thread,
        session_id,
        mine=None if mine is None else OpenAsk(*mine),
        theirs=None if theirs is None else OpenAsk(*theirs),
        asks_others=bool(asks_others),
        waiters=frozenset(waiters),
        within=within,
        asked_by_run=within if is_asked_by_run else None,
        chained=chained,
        taken_elsewhere=[other for other, is_taken in elsewhere if is_taken],
        open_elsewhere=[other for other, is_taken in elsewhere if not is_taken],
    )


def read_graph(connection: apsw.Connection, askees: Set[str]) -> Graph:
    """The open asks that can be reached from these agents, and who answers them."""
    rows = fetch(connection, _SQL["append_find_reach"], {"agents": encode(sorted(askees))})
    known = [
        WaitingAsk(
            seq,
            asker,
            responder,
            _PLACES.get(state, Place.TAKEN),
            within,
            taken_within or None,  # OUTSIDE is no run
        )
        for seq, asker, responder, within, taken_within, state in rows
    ]
    agents = sorted(askees | {ask.responder for ask in known})
    staff = fetch(connection, _SQL["append_find_staff"], {"agents": encode(agents)})
    return Graph(known, {agent_id: Staff(slots, frozenset(runs)) for agent_id, slots, runs in staff})


def ask_of(group: NewGroup, plan: Plan, seqs: Mapping[str, int]) -> tuple[object, ...]:
    """What the delivery of an ask has beside others; nothing of other messages. See append_insert_asks."""
    ask = plan.ask
    if ask is None or group.ask_timeout is None:
        return ()
    keyed, timeout = int(group.idempotency_key is not None), int(group.ask_timeout * SECOND)
    answer = None if ask.answer_id is None else seqs[ask.answer_id]
    return (ask.within, ask.taken_within, keyed, timeout, answer)


def store(
    connection: apsw.Connection,
    accepted: Sequence[tuple[NewGroup, Plan]],
    seqs: Mapping[str, int],
    owner: str,
    instant: Instant,
) -> None:
    """Write the rows of conversations of messages that are stored already, under these numbers."""
    now, at = instant
    sessions, endings, left = [], [], []
    for group, plan in accepted:
        seq = seqs[plan.message_id]
        if plan.opens:
            sessions.append((plan.session_id, plan.sender_id, plan.recipient_id, plan.thread, group.session_type))
        if plan.answered is not None and plan.answered.seq > 0:
            endings.append((plan.answered.seq, AskState.REPLIED, seq, None))
        if plan.notify:
            wait = 0 if group.deliver_at is None else max(0, to_microseconds(group.deliver_at) - at)
            left.append((seq, plan.recipient_id, now + wait if wait else None))
    if sessions:
        connection.execute(_SQL["append_open_sessions"], {"rows": encode(sessions), "at": at})
    if endings:
        asks.end_asks(connection, endings, instant)
        asks.settle_deliveries(connection, [seq for seq, *_ in endings], instant)
    if streamed := [plan.message_id for group, plan in accepted if group.is_streamed]:
        parts.begin(connection, streamed, owner)
    if left:
        notices.leave(connection, left, instant)
