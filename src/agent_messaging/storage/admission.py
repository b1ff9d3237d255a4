"""What becomes of a call that stores: rules, pure, once for every backend.

A backend loads a `View` of what it knows about the groups of a call, asks `admit`, and writes what that accepts. The
groups are judged in their order, and each sees what those before it do, though nothing of that is stored yet: asks of
the call itself have negative numbers. Circles of asks are judged in `circles`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field, replace

from ..models import AskState, Kind
from ..records import dataclass
from .circles import Place, Staff, WaitingAsk, find_circle
from .mailboxes import MailboxGauge, find_full
from .ports import (
    Answering,
    AppendOutcome,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NewGroup,
    NotWaiting,
    SessionLocked,
    Stored,
    TooManySubscribers,
    Unexpected,
    UnknownAgents,
)
from .topics import find_limit

OUTSIDE = 0
"""Where an agent's own code took an ask: in no handler's run. Otherwise the seq of the message whose run it was in."""

_NOBODY: frozenset[str] = frozenset()

HIDING = (MailboxFull, NotWaiting, Unexpected)
"""Refusals that an agent which does not exist brings about, too. That it is missing has to be said first."""

Key = tuple[str, str, str]
"""Sender, call and idempotency key."""
Use = tuple[str, list[str] | None]
"""What a key was used for: fingerprint and message ids, unless these cannot be read."""
Pair = tuple[str, str]
"""Sender and recipient, or asker and responder; of a session its two agents in order."""
Talk = tuple[Pair, str]
"""A pair and one of its threads."""

Refusal = NotWaiting | SessionLocked | MutualWait | Unexpected


# --- what a backend knows ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class OpenAsk:
    """An ask that is open: one of the store, or one that the call itself makes."""

    seq: int
    ask_id: str
    origin: str | None
    within: int | None
    taken_within: int | None
    """Where the own code of the agent that was asked has taken it, by reading it or as the answer to its own ask.

    None where it did not: the ask is queued, or a handler's run took it.
    """
    answer_id: str | None = None
    """Where a group of this call answers an ask of this call: the answer's message id."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the store says about a conversation message in a thread, as it was before the call."""

    thread: str
    session_id: str | None = None
    """The open session of the two agents."""
    mine: OpenAsk | None = None
    """The ask of the sender to the recipient."""
    theirs: OpenAsk | None = None
    """The ask of the recipient to the sender."""
    asks_others: bool = False
    """The recipient has an open ask beside that one, to anybody and in any thread."""
    waiters: frozenset[str] = frozenset()
    """The processes that wait for the message."""
    within: int | None = None
    """The message in whose run the call is made."""
    asked_by_run: int | None = None
    """The same, if that is itself an ask of the recipient to the sender."""
    chained: int | None = None
    """The ask of the sender to the recipient, in whatever thread, that the run is made for, however deep."""
    taken_elsewhere: Sequence[str] = ()
    """Where the group is `is_anywhere`: threads in which the sender's own code has taken an ask of the recipient."""
    open_elsewhere: Sequence[str] = ()
    """Likewise: threads with other open asks of the recipient to the sender. Of both it is enough to know two."""
    is_answerable: bool = True
    """`theirs` stays open until the commit, if nobody but this call ends it."""
    there: Found | None = None
    """What is found in the thread that `find_threads` names."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The open asks that can be reached from the recipients of a call's asks, and who can answer them."""

    asks: Sequence[WaitingAsk]
    staff: Mapping[str, Staff]


class GraphMissing(Exception):
    """An ask can only be judged with the graph: read it, and begin anew."""


@dataclass(slots=True)
class View:
    """What a backend has read for a call."""

    owner: str
    stored: Mapping[str, Stored] = field(default_factory=dict)
    """What is there under the call's message ids, each with its own claim alone."""
    keys: Mapping[Key, Use] = field(default_factory=dict)
    """The uses of the call's keys before it."""
    missing: Collection[str] = ()
    """The agents that do not exist, as far as it is known."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What is open in mailboxes, by recipient. One that was not counted has room (see `mailboxes`)."""
    found: Mapping[int, Found] = field(default_factory=dict)
    """By the index of a conversation message's group."""
    graph: Graph | None = None

    def answer(self, group: NewGroup, keys: Mapping[Key, Use]) -> AppendOutcome | None:
        """The outcome of a group that need not be judged: a repeat, or one of an agent that does not exist."""
        if self.stored:
            before = [one for delivery in group.deliveries if (one := self.stored.get(delivery.message_id)) is not None]
            if before:
                return replace(before[0], claims={id: claim for one in before for id, claim in one.claims.items()})
        if (key := key_of(group)) is not None and key in keys:
            return judge_repeat(keys[key], group.fingerprint)
        if self.missing:
            concerned = (group.sender_id, *(delivery.recipient_id for delivery in group.deliveries))
            if unknown := [id for id in dict.fromkeys(concerned) if id in self.missing]:
                return UnknownAgents(unknown)
        return None


# --- what becomes of the call -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Plan:
    """What is to be stored of a conversation message beside itself."""

    sender_id: str
    recipient_id: str
    message_id: str
    thread: str
    session_id: str
    opens: bool
    """The session is new."""
    answered: OpenAsk | None
    """The ask that it ends."""
    ask: OpenAsk | None
    """The ask that it is."""
    waiters: frozenset[str]
    is_asked: bool
    """The recipient goes on waiting for an answer of the sender."""
    notify: bool

    @property
    def is_done(self) -> bool:
        """Nobody has to handle it: it is an answer, or an ask that the same call answers."""
        return self.answered is not None or (self.ask is not None and self.ask.answer_id is not None)

    def outcome(self) -> Stored:
        """What the caller is told."""
        answered = self.answered
        return Stored(
            session_id=self.session_id,
            answered=None if answered is None else EndedAsk(answered.ask_id, AskState.REPLIED, answered.origin),
            waiters=self.waiters,
            is_asked=self.is_asked,
        )


@dataclass(slots=True)
class Admission:
    """The outcome of each group, and what is to be stored."""

    outcomes: list[AppendOutcome] = field(default_factory=list)
    accepted: list[tuple[NewGroup, Stored, Plan | None]] = field(default_factory=list)
    """With the outcome, to which the claims are to be added, and with a plan if it is a conversation message."""

    def fill(self, gauge: MailboxGauge) -> None:
        """Tell the gauge what is stored."""
        for group, _, plan in self.accepted:
            if plan is None or plan.answered is None:
                for delivery in group.deliveries:
                    gauge.added(delivery.recipient_id)


def admit(groups: Sequence[NewGroup], view: View) -> Admission:
    """Judge the groups of a call.

    Raises:
        GraphMissing: The view needs its graph.
    """
    admission = Admission()
    keys, counts = dict(view.keys), dict(view.counts)
    conversations = _Conversations(view)
    for index, group in enumerate(groups):
        plan = None
        outcome = view.answer(group, keys)
        if outcome is None and is_conversation(group):
            judged = conversations.judge(group, view.found[index])
            if isinstance(judged, Plan):
                plan = judged
            else:
                outcome = judged
        # An answer is taken by who waits for it, and needs no room.
        needs_room = bool(counts) and (plan is None or plan.answered is None)
        if outcome is None and (limit := find_limit(group)) is not None:
            outcome = TooManySubscribers(limit)
        if outcome is None and needs_room and (full := find_full(group, counts.get)):
            outcome = MailboxFull(full)
        if outcome is None:
            outcome = Stored() if plan is None else plan.outcome()
            admission.accepted.append((group, outcome, plan))
            if plan is not None:
                conversations.accept(plan)
            if (key := key_of(group)) is not None:
                keys[key] = (group.fingerprint, [delivery.message_id for delivery in group.deliveries])
            if needs_room:
                for delivery in group.deliveries:
                    if delivery.recipient_id in counts:
                        counts[delivery.recipient_id] += 1
        admission.outcomes.append(outcome)
    return admission


def key_of(group: NewGroup) -> Key | None:
    """What an idempotent call is known by."""
    return None if group.idempotency_key is None else (group.sender_id, group.call, group.idempotency_key)


def judge_repeat(use: Use, fingerprint: str) -> Duplicate | KeyConflict:
    """What a call is answered whose key was used before."""
    known, message_ids = use
    # A use that cannot be read is answered as another call's: nothing is stored twice.
    return Duplicate(list(message_ids)) if known == fingerprint and message_ids is not None else KeyConflict()


# --- conversations ----------------------------------------------------------------------------------------------------


def is_conversation(group: NewGroup) -> bool:
    """Whether it is a conversation message, which belongs to a session and has one recipient."""
    return group.kind is Kind.CONVERSATION


def askees_of(groups: Sequence[NewGroup]) -> set[str]:
    """The recipients of the asks among these."""
    return {group.deliveries[0].recipient_id for group in groups if group.ask_timeout is not None}


def pair_of(group: NewGroup) -> Pair:
    """The two agents of a conversation message, in the order in which a session has them."""
    recipient_id = group.deliveries[0].recipient_id
    return (group.sender_id, recipient_id) if group.sender_id < recipient_id else (recipient_id, group.sender_id)


def is_answer(
    how: Answering | None, ask: OpenAsk | None, *, asked_by_run: int | None, answers_within: bool = False
) -> bool:
    """Whether a message answers its recipient's open ask to its sender.

    Only what is meant as the answer is the answer. Of an ask that a run has taken, that is the run's result, which
    comes with its settlement, or an explicit reply. An ask that the agent's own code has taken outside any run is
    answered by the next message from there, too; one that was taken in a run of another message by a reply alone, like
    one that nobody has taken.

    Args:
        how: What the caller means.
        ask: The open ask; None if there is none.
        asked_by_run: The message in whose run the call is made, where that is itself an ask of the recipient to the
            sender. A reply in there is meant for that ask, and not for a later one that is open now.
        answers_within: It is meant for that ask alone, and for nothing where there is none.
    """
    if ask is None or how is None:
        return False
    if how is Answering.REQUIRED:
        return asked_by_run == ask.seq or (asked_by_run is None and not answers_within)
    return ask.taken_within == OUTSIDE


def find_threads(groups: Sequence[NewGroup], found: Mapping[int, Found]) -> dict[int, str]:
    """Threads that are to be looked into too, by the index of the group, because it may answer an ask there.

    A message that names no thread answers the ask that its sender's own code has taken in its own thread, or else in
    the only other one in which it has taken any. A reply for which none was taken answers the one in its own thread,
    or else the only one there is.
    """
    threads = {}
    for index, one in found.items():
        group, own = groups[index], one.theirs
        if not group.is_anywhere or group.answers is None or one.asked_by_run is not None:
            continue
        if own is not None and own.taken_within == OUTSIDE:
            continue
        meant = one.taken_elsewhere
        if group.answers is Answering.REQUIRED and own is None and not meant:
            meant = one.open_elsewhere
        if len(meant) == 1:
            threads[index] = meant[0]
    return threads


class _Conversations:
    """The sessions and asks of a call's pairs, as they are after the groups that were accepted so far."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.sessions: dict[Talk, str] = {}
        """Those that the call has used."""
        self.open: dict[Talk, OpenAsk | None] = {}
        """By asker and responder, where the call has changed it."""
        self.ended: set[int] = set()
        self.asked: dict[int, tuple[Pair, OpenAsk, OpenAsk | None]] = {}
        """Asks of the call that it has not answered, each with the one that it answers."""
        self.askers: dict[str, int] = {}
        """How many those are, by asker."""
        self.next_seq = -1

    def judge(self, group: NewGroup, found: Found) -> Plan | Refusal:
        """What is to become of the group; nothing is done yet."""
        (delivery,) = group.deliveries
        sender_id, recipient_id = group.sender_id, delivery.recipient_id
        pair, back = (sender_id, recipient_id), (recipient_id, sender_id)
        if found.there is not None and self._find_answered(group, self._open_ask(back, found.there), found.there):
            found = found.there
        theirs = self._open_ask(back, found)
        answered = self._find_answered(group, theirs, found)
        session_id = self.sessions.get((pair if pair < back else back, found.thread), found.session_id)
        if answered is None and group.answers is Answering.REQUIRED:
            return NotWaiting(session_id, (*found.taken_elsewhere, *found.open_elsewhere))
        ask = None
        if group.ask_timeout is not None:
            taken_within = None if answered is None else answered.within or OUTSIDE
            ask = OpenAsk(self.next_seq, delivery.message_id, self.view.owner, found.within, taken_within)
            if refused := self._refuse(pair, found, ask, theirs, answered):
                return refused
            if group.only_if_expected and answered is None and not found.waiters:
                return Unexpected()
        assert group.session_id is not None, "a conversation message comes with the id of a session"
        return Plan(
            sender_id,
            recipient_id,
            delivery.message_id,
            found.thread,
            session_id or group.session_id,
            session_id is None,
            answered,
            ask,
            found.waiters if answered is None else _NOBODY,
            answered is None and theirs is not None,
            group.notify and theirs is None and not found.waiters,
        )

    def accept(self, plan: Plan) -> None:
        """Take in what is to be stored."""
        sender_id, recipient_id = pair = (plan.sender_id, plan.recipient_id)
        back = (recipient_id, sender_id)
        self.sessions[pair if pair < back else back, plan.thread] = plan.session_id
        if (answered := plan.answered) is not None:
            self.open[back, plan.thread] = None
            self.ended.add(answered.seq)
            if answered.seq < 0:
                answered.answer_id = plan.message_id
                del self.asked[answered.seq]
                self.askers[recipient_id] -= 1
        if (ask := plan.ask) is not None:
            self.open[pair, plan.thread] = ask
            self.asked[ask.seq] = (pair, ask, answered)
            self.askers[sender_id] = self.askers.get(sender_id, 0) + 1
            self.next_seq -= 1

    def _open_ask(self, pair: Pair, found: Found) -> OpenAsk | None:
        """That of the recipient to the sender."""
        return self.open.get((pair, found.thread), found.theirs)

    def _find_answered(self, group: NewGroup, theirs: OpenAsk | None, found: Found) -> OpenAsk | None:
        if theirs is None or (theirs.seq > 0 and not found.is_answerable):
            return None
        is_meant = is_answer(
            group.answers, theirs, asked_by_run=found.asked_by_run, answers_within=group.answers_within
        )
        return theirs if is_meant else None

    def _refuse(
        self, pair: Pair, found: Found, ask: OpenAsk, theirs: OpenAsk | None, answered: OpenAsk | None
    ) -> SessionLocked | MutualWait | None:
        mine = self.open.get((pair, found.thread), found.mine)
        # A circle goes on from the recipient, or through an ask of the same pair behind which the new one waits: the
        # one in the same thread, or the one that it is made for, which would be asked again, and again.
        waits_new = self.askers.get(pair[1], 0) - (answered is not None and answered.seq < 0)
        if mine is not None or found.chained is not None or found.asks_others or theirs is not answered or waits_new:
            new = _waiting(pair, ask, answered)
            path = self._find_circle(new, None if mine is None else mine.seq, answered)
            if path is None and mine is None and found.chained is not None:
                path = self._find_circle(new, found.chained, answered)
            if path is not None:
                return MutualWait(path)
        return None if mine is None else SessionLocked(mine.ask_id, found.thread)

    def _find_circle(self, new: WaitingAsk, first: int | None, answered: OpenAsk | None) -> list[str] | None:
        """The circle that the new ask would close; with `first`, one behind the ask of this number."""
        graph = self.view.graph
        if graph is None:
            raise GraphMissing
        waiting = {ask.seq: ask for ask in graph.asks if ask.seq not in self.ended}
        waiting |= {seq: _waiting(*asked) for seq, asked in self.asked.items()}
        if answered is not None:
            waiting.pop(answered.seq, None)
        if first is None:
            return find_circle(new, waiting.values(), graph.staff)
        # One that cannot be reached from the recipient does not wait for the new one.
        behind = waiting.get(first)
        return None if behind is None else find_circle(new, waiting.values(), graph.staff, behind=behind)


def _waiting(pair: Pair, ask: OpenAsk, answered: OpenAsk | None) -> WaitingAsk:
    """An ask of the call, as `circles` sees it."""
    if answered is None:
        return WaitingAsk(ask.seq, *pair, Place.QUEUED, ask.within)
    # An answer is taken by the call that waits for it, in whatever run that was made.
    return WaitingAsk(ask.seq, *pair, Place.TAKEN, ask.within, answered.within)
