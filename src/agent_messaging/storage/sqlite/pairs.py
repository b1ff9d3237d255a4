"""What `append` decides about conversation messages: their session, the ask they answer, the wait they begin.

The groups of a call are judged in their order, each seeing what those before it did, without a statement for each: what
the pairs' asks and sessions were before the call is read at once, and the view is kept up from there. Asks of the call
itself have negative numbers in it, until their messages are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from ...models import AskState, DeliveryState, Kind
from ..admission import OUTSIDE, is_answer
from ..circles import Place, Staff, WaitingAsk, find_circle
from ..ports import Answering, EndedAsk, MutualWait, NewGroup, NotWaiting, SessionLocked, Stored, Unexpected
from ..sql import Queries
from . import asks, notices
from .clock import Instant
from .engine import fetch
from .rows import encode

_SQL = Queries(__package__, "asks")
_SECOND = 1_000_000
_PLACES = {DeliveryState.QUEUED: Place.QUEUED, DeliveryState.CLAIMED: Place.CLAIMED}

Pair = tuple[str, str]


@dataclass(slots=True)
class OpenAsk:
    """An ask as the call sees it."""

    seq: int
    ask_id: str
    origin: str | None
    within: int | None
    taken_within: int | None
    """See `admission.AwaitedAsk`."""
    answer_id: str | None = None
    """Where a group of this call answers an ask of this call."""


@dataclass(slots=True)
class Plan:
    """What is to be stored of a conversation message beside itself."""

    sender_id: str
    recipient_id: str
    message_id: str
    session_id: str
    opens: bool
    """The session is new."""
    answered: OpenAsk | None
    ask: OpenAsk | None
    waiters: frozenset[str]
    is_asked: bool
    """The recipient goes on waiting for an answer of the sender."""
    notify: bool

    @property
    def is_done(self) -> bool:
        """Nobody has to handle it: it is an answer, or an ask that the same call answers."""
        return self.answered is not None or (self.ask is not None and self.ask.answer_id is not None)

    @property
    def born(self) -> int | None:
        """How its delivery is stored: None as a duty, 1 as done and read."""
        return 1 if self.is_done else None

    def outcome(self) -> Stored:
        """What the caller is told."""
        if self.answered is None:
            return Stored(session_id=self.session_id, waiters=self.waiters, is_asked=self.is_asked)
        ended = EndedAsk(self.answered.ask_id, AskState.REPLIED, self.answered.origin)
        return Stored(session_id=self.session_id, answered=ended)


class Pairs:
    """The view of one call. `begin` makes it what it was before the call."""

    def __init__(self, connection: apsw.Connection, groups: Iterable[NewGroup], owner: str, instant: Instant) -> None:
        self.connection = connection
        self.owner = owner
        self.instant = instant
        groups = [group for group in groups if is_conversation(group)]
        self.pairs = [(group.sender_id, group.deliveries[0].recipient_id) for group in groups]
        self.askees = {pair[1] for pair, group in zip(self.pairs, groups, strict=True) if group.ask_timeout is not None}
        rows = [(*pair, group.within) for pair, group in zip(self.pairs, groups, strict=True)]
        parameters = {"groups": encode(rows), "now": instant.due}
        self.found: list[list[Any]] = fetch(connection, _SQL["append_find_pairs"], parameters)
        self.waiters: dict[Pair, frozenset[str]] = {}
        self.asks_others: dict[Pair, bool] = {}
        """Whether the recipient of this pair asks anybody but the sender."""
        self.runs: dict[str | None, int | None] = {}
        """By the id of the message."""
        self.asked_by_runs: dict[tuple[Pair, str | None], int | None] = {}
        """Of the runs that are made for an ask of the pair's second to its first."""
        for pair, group, row in zip(self.pairs, groups, self.found, strict=True):
            *_, self.asks_others[pair], waiters, run, is_asked_by_run = row
            self.waiters[pair] = frozenset(waiters)
            self.runs[group.within] = run
            self.asked_by_runs[pair, group.within] = run if is_asked_by_run else None
        self.graph: tuple[list[WaitingAsk], Mapping[str, Staff]] | None = None

    def begin(self) -> None:
        """Begin to judge the groups, again if need be: forget what was accepted."""
        self.sessions: dict[Pair, str] = {}
        self.open: dict[Pair, OpenAsk] = {}
        """By asker and responder."""
        for pair, (session_id, mine, theirs, *_) in zip(self.pairs, self.found, strict=True):
            if session_id is not None:
                self.sessions[_sorted(pair)] = session_id
            for key, ask in ((pair, mine), (pair[::-1], theirs)):
                if ask is not None:
                    self.open[key] = OpenAsk(*ask)
        self.ended: set[int] = set()
        self.asked: dict[int, WaitingAsk] = {}
        """By this call, and not yet answered by it."""
        self.asked_by: dict[str, set[int]] = {}
        """The same numbers by asker."""
        self.number = 0

    # --- deciding ---

    def judge(self, group: NewGroup) -> Plan | NotWaiting | SessionLocked | MutualWait | Unexpected:
        """What is to become of the group; nothing is done yet."""
        (delivery,) = group.deliveries
        sender_id, recipient_id = pair = (group.sender_id, delivery.recipient_id)
        session_id = self.sessions.get(_sorted(pair))
        theirs = self.open.get((recipient_id, sender_id))
        answered = (
            theirs if is_answer(group.answers, theirs, asked_by_run=self.asked_by_runs[pair, group.within]) else None
        )
        if answered is None and group.answers is Answering.REQUIRED:
            return NotWaiting(session_id)
        ask = None
        if group.ask_timeout is not None:
            within = self.runs[group.within]
            if refused := self._refuse(pair, within, answered):
                return refused
            if group.only_if_expected and answered is None and not self.waiters[pair]:
                return Unexpected()
            taken_within = None if answered is None else answered.within or OUTSIDE
            ask = OpenAsk(-self.number - 1, delivery.message_id, self.owner, within, taken_within)
        assert group.session_id is not None
        return Plan(
            sender_id,
            recipient_id,
            delivery.message_id,
            session_id=session_id or group.session_id,
            opens=session_id is None,
            answered=answered,
            ask=ask,
            waiters=self.waiters[pair],
            is_asked=answered is None and theirs is not None,
            notify=group.notify and theirs is None and not self.waiters[pair],
        )

    def accept(self, plan: Plan) -> None:
        """Take it into the view."""
        pair = (plan.sender_id, plan.recipient_id)
        self.sessions[_sorted(pair)] = plan.session_id
        if plan.answered is not None:
            self.ended.add(plan.answered.seq)
            if plan.answered.seq < 0:
                plan.answered.answer_id = plan.message_id
                del self.asked[plan.answered.seq]
                self.asked_by[plan.recipient_id].remove(plan.answered.seq)
            del self.open[pair[::-1]]
        if plan.ask is not None:
            self.number += 1
            self.open[pair] = plan.ask
            self.asked[plan.ask.seq] = _waiting(pair, plan.ask.seq, plan.ask.within, plan.answered)
            self.asked_by.setdefault(plan.sender_id, set()).add(plan.ask.seq)

    def _refuse(self, pair: Pair, within: int | None, answered: OpenAsk | None) -> SessionLocked | MutualWait | None:
        mine = self.open.get(pair)
        if mine is None and not self._recipient_waits(pair, answered):
            return None
        if self.graph is None:
            self.graph = self._read_graph()
        known, staff = self.graph
        waiting = {ask.seq: ask for ask in known if ask.seq not in self.ended} | self.asked
        if answered is not None:
            waiting.pop(answered.seq, None)
        new = _waiting(pair, -self.number - 1, within, answered)
        if mine is None:
            path = find_circle(new, waiting.values(), staff)
            return None if path is None else MutualWait(path)
        # One that cannot be reached from the recipient does not wait for the new one.
        behind = waiting.get(mine.seq)
        path = None if behind is None else find_circle(new, waiting.values(), staff, behind=behind)
        return SessionLocked(mine.ask_id) if path is None else MutualWait(path)

    def _recipient_waits(self, pair: Pair, answered: OpenAsk | None) -> bool:
        """Whether it waits for anything but this answer. Otherwise no circle can go through it."""
        if self.asks_others[pair] or (answered is None and pair[::-1] in self.open):
            return True
        answered_seqs = set() if answered is None else {answered.seq}
        return not self.asked_by.get(pair[1], answered_seqs) <= answered_seqs

    def _read_graph(self) -> tuple[list[WaitingAsk], Mapping[str, Staff]]:
        """For all recipients of the call, and so also for what its own asks lead to."""
        rows = fetch(self.connection, _SQL["append_find_reach"], {"agents": encode(sorted(self.askees))})
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
        agents = sorted(self.askees | {ask.responder for ask in known})
        staff = {
            agent_id: Staff(slots, frozenset(runs))
            for agent_id, slots, runs in fetch(self.connection, _SQL["append_find_staff"], {"agents": encode(agents)})
        }
        return known, staff

    # --- storing ---

    def store(self, accepted: Sequence[tuple[NewGroup, Plan]], seqs: Mapping[str, int]) -> None:
        """Write all but the messages, which are stored already, and their deliveries."""
        connection, (now, at) = self.connection, self.instant
        sessions, endings, new_asks, left = [], [], [], []
        for group, plan in accepted:
            seq = seqs[plan.message_id]
            if plan.opens:
                sessions.append((plan.session_id, plan.sender_id, plan.recipient_id, group.session_type))
            if plan.answered is not None and plan.answered.seq > 0:
                endings.append((plan.answered.seq, AskState.REPLIED, seq, None))
            if plan.ask is not None and group.ask_timeout is not None:
                new_asks.append(
                    (
                        seq,
                        plan.session_id,
                        plan.sender_id,
                        plan.recipient_id,
                        plan.ask.within,
                        plan.ask.taken_within,
                        int(group.idempotency_key is not None),
                        int(group.ask_timeout * _SECOND),
                        None if plan.ask.answer_id is None else seqs[plan.ask.answer_id],
                    )
                )
            if plan.notify:
                left.append((seq, plan.recipient_id))
        parameters = {"now": now, "at": at, "owner": self.owner}
        if sessions:
            connection.execute(_SQL["append_open_sessions"], {"rows": encode(sessions), "at": at})
        if endings:
            asks.end_asks(connection, endings, self.instant)
            asks.settle_deliveries(connection, [seq for seq, *_ in endings], self.instant)
        if new_asks:
            connection.execute(_SQL["append_insert_asks"], {"rows": encode(new_asks), **parameters})
        if left:
            notices.leave(connection, left, self.instant)


def is_conversation(group: NewGroup) -> bool:
    """Whether it belongs to a session."""
    return group.kind is Kind.CONVERSATION and group.session_id is not None


def _sorted(pair: Pair) -> Pair:
    return pair if pair[0] < pair[1] else pair[::-1]


def _waiting(pair: Pair, seq: int, within: int | None, answered: OpenAsk | None) -> WaitingAsk:
    if answered is None:
        return WaitingAsk(seq, *pair, Place.QUEUED, within)
    return WaitingAsk(seq, *pair, Place.TAKEN, within, answered.within)
