"""What the conversation messages of one call do: decided in Python, group by group, over what was read at once.

Each group sees what the groups before it in the same call did, though nothing of that is stored yet. Nothing here
changes under the decision: the sessions of all pairs are locked, and so is every ask that may be answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...models import AskState, Kind
from ..admission import OUTSIDE, is_answer
from ..circles import Place, Staff, WaitingAsk, find_circle
from ..ports import Answering, EndedAsk, MutualWait, NewGroup, NotWaiting, SessionLocked, Stored, Unexpected

Pair = tuple[str, str]
"""An asker and the agent it asks; or two agents in order, whose session is meant."""


_ALL_AGENTS = ""
_MOST_AGENTS = 256
"""Of one call's asks that are locked one by one."""


class GraphMissing(Exception):
    """An ask can only be judged with the asks that can be reached from its recipient; these were not read yet."""


@dataclass(frozen=True, slots=True)
class Graph:
    """The open asks that can be reached from the recipients of a call's asks, and who can answer them."""

    asks: list[WaitingAsk]
    staff: Mapping[str, Staff]

    @classmethod
    def of(cls, reached: Iterable[Any], staff: Iterable[Any]) -> Graph:
        return cls(
            [WaitingAsk(**{**row, "place": Place(row["place"])}) for row in reached],
            {row["agent_id"]: Staff(row["slots"], frozenset(row["runs"])) for row in staff},
        )


@dataclass(slots=True)
class Ask:
    """An open ask of the store, or one of this call's."""

    ask_id: str
    origin: str | None
    within: int | None
    seq: int
    """Of this call's: negative, since none was drawn yet."""
    taken_within: int | None = None
    """See `admission.AwaitedAsk`."""
    group: int | None = None
    """Of this call's: the index of its group."""


@dataclass(slots=True)
class Talk:
    """What is decided of one group: it is stored, with these effects."""

    session_id: str
    waiters: frozenset[str]
    within: int | None
    answered: Ask | None
    """The open ask it ends."""
    is_asked: bool
    """The recipient goes on waiting for an answer of the sender."""
    replied_by: int | None = None
    """The index of the later group of this call that answers it."""


@dataclass(slots=True)
class Talks:
    """The conversation groups of one call: what the store said of each, by index, and what was decided so far."""

    rows: Mapping[int, Any]
    opened: frozenset[str]
    """The sessions, as they were opened for them, of pairs that had none."""
    owner: str
    graph: Graph | None
    stored: dict[int, Talk] = field(default_factory=dict)
    _asks: dict[Pair, Ask | None] = field(default_factory=dict)
    """What is known to be open between two; None if nothing is."""
    _new_asks: Counter[str] = field(default_factory=Counter)
    """How many of this call's are open, by asker."""
    _closed: set[int] = field(default_factory=set)
    _sessions: dict[Pair, str] = field(default_factory=dict)
    """Those that this call has opened and used."""

    def judge(self, index: int, group: NewGroup) -> Talk | NotWaiting | SessionLocked | MutualWait | Unexpected:
        """Whether a group may be stored, as far as conversations are concerned; changes nothing.

        Raises:
            GraphMissing: Read the graph and begin anew.
        """
        row = self.rows[index]
        recipient = group.deliveries[0].recipient_id
        awaited = self._open_ask(row, "other", (recipient, group.sender_id))
        answered = self._find_answered(row, group, awaited)
        session_id = self._sessions.get(pair_of(group)) if row["session_id"] in self.opened else row["session_id"]
        if answered is None and group.answers is Answering.REQUIRED:
            return NotWaiting(session_id)
        # The first that is stored names the session.
        session_id = session_id or group.session_id or row["session_id"]
        talk = Talk(
            session_id,
            waiters=frozenset(row["waiters"] if answered is None else ()),
            within=row["within"],
            answered=answered,
            is_asked=answered is None and awaited is not None,
        )
        if group.ask_timeout is None:
            return talk
        own = self._open_ask(row, "own", (group.sender_id, recipient))
        path = self._find_circle(index, group, recipient, talk, own)
        if path is not None:
            return MutualWait(path)
        if own is not None:
            return SessionLocked(own.ask_id)
        if group.only_if_expected and answered is None and not talk.waiters:
            return Unexpected()
        return talk

    def store(self, index: int, group: NewGroup, talk: Talk) -> Stored:
        """Take a judged group as stored, so that the next ones see its effects."""
        self.stored[index] = talk
        self._sessions[pair_of(group)] = talk.session_id
        sender, recipient = group.sender_id, group.deliveries[0].recipient_id
        if (answered := talk.answered) is not None:
            self._closed.add(answered.seq)
            self._asks[recipient, sender] = None
            if answered.group is not None:
                self.stored[answered.group].replied_by = index
                self._new_asks[recipient] -= 1
        if group.ask_timeout is not None:
            self._new_asks[sender] += 1
            self._asks[sender, recipient] = Ask(
                ask_id=group.deliveries[0].message_id,
                origin=self.owner,
                within=talk.within,
                seq=_seq_of(index),
                taken_within=_taken_within(answered),
                group=index,
            )
        return Stored(
            session_id=talk.session_id,
            answered=None if answered is None else EndedAsk(answered.ask_id, AskState.REPLIED, answered.origin),
            waiters=talk.waiters,
            is_asked=talk.is_asked,
        )

    def _open_ask(self, row: Any, which: str, pair: Pair) -> Ask | None:
        """The open ask of a pair in this direction: `own` of the sender, `other` of the recipient."""
        if pair not in self._asks:
            seq = row[f"{which}_seq"]
            self._asks[pair] = seq and Ask(
                ask_id=row[f"{which}_id"],
                origin=row[f"{which}_origin"],
                within=row[f"{which}_within"],
                seq=seq,
                taken_within=row[f"{which}_taken_within"],
            )
        return self._asks[pair]

    @staticmethod
    def _find_answered(row: Any, group: NewGroup, awaited: Ask | None) -> Ask | None:
        if awaited is None or not is_answer(group.answers, awaited, asked_by_run=row["asked_by_run"]):
            return None
        # One of the store must be locked for this, or another call might end it.
        return awaited if awaited.group is not None or row["answerable"] else None

    def _find_circle(
        self, index: int, group: NewGroup, recipient: str, talk: Talk, own: Ask | None
    ) -> list[str] | None:
        """A circle goes on from the recipient, or through the sender's own open ask to it, behind which it waits."""
        answered = talk.answered
        row = self.rows[index]
        waits = row["waits_elsewhere"] or not (row["other_seq"] is None or self._is_closed(row["other_seq"], answered))
        waits_new = self._new_asks[recipient] - (answered is not None and answered.group is not None)
        if own is None and not waits and not waits_new:
            return None
        if self.graph is None:
            raise GraphMissing
        known = (*self.graph.asks, *self._list_new())
        asks = [ask for ask in known if not self._is_closed(ask.seq, answered)]
        new = self._waiting(index, group.sender_id, recipient, talk)
        if own is None:
            return find_circle(new, asks, self.graph.staff)
        behind = next((ask for ask in asks if ask.seq == own.seq), None)
        return None if behind is None else find_circle(new, asks, self.graph.staff, behind=behind)

    def _is_closed(self, seq: int, answered: Ask | None) -> bool:
        return seq in self._closed or (answered is not None and seq == answered.seq)

    def _list_new(self) -> Iterable[WaitingAsk]:
        for (asker, responder), ask in self._asks.items():
            if ask is not None and ask.group is not None:
                yield self._waiting(ask.group, asker, responder, self.stored[ask.group])

    @staticmethod
    def _waiting(index: int, asker: str, responder: str, talk: Talk) -> WaitingAsk:
        answered = talk.answered
        return WaitingAsk(
            seq=_seq_of(index),
            asker=asker,
            responder=responder,
            # An answer is taken by the call that waits for it, in whatever run that was made.
            place=Place.QUEUED if answered is None else Place.TAKEN,
            within=talk.within,
            taken_within=_taken_within(answered) or None,  # OUTSIDE is no run
        )


def is_talk(group: NewGroup) -> bool:
    """Whether it is a conversation message. It has one recipient."""
    return group.kind is Kind.CONVERSATION


def pair_of(group: NewGroup) -> Pair:
    """The two agents, in the order in which a session has them."""
    recipient = group.deliveries[0].recipient_id
    return (group.sender_id, recipient) if group.sender_id < recipient else (recipient, group.sender_id)


def list_agents(groups: Sequence[NewGroup]) -> list[tuple[str, bool]]:
    """The agents of asks to lock, in order, with whether they ask (and are not only asked).

    The first stands for all: shared as a rule; alone, if it were too many for the server's room for locks.
    """
    agents: dict[str, bool] = {}
    for group in groups:
        if group.ask_timeout is not None:
            agents[group.sender_id] = True
            agents.setdefault(group.deliveries[0].recipient_id, False)
    if len(agents) > _MOST_AGENTS:
        return [(_ALL_AGENTS, True)]
    return [(_ALL_AGENTS, False), *sorted(agents.items())] if agents else []


def _taken_within(answered: Ask | None) -> int | None:
    """Where an ask is taken that is itself an answer: in the run that made the ask that it answers."""
    return None if answered is None else answered.within or OUTSIDE


def _seq_of(index: int) -> int:
    return -1 - index
