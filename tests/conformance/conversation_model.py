"""Conversations in plain Python: sessions, asks, waits and reading on top of the model of deliveries.

Where the contract leaves something open, so does the model: `either` of an ask has the states that would do, and what
a verb may tell beside what it must is kept apart. The rule of circles is the stores' own: it has tests by itself, so
what is compared is what they tell it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from agent_messaging.models import AskState, DeliveryState, Kind, MessageType
from agent_messaging.storage.admission import Graph
from agent_messaging.storage.circles import Place, Staff, WaitingAsk, find_circle
from agent_messaging.storage.forwarding import Known, judge
from agent_messaging.storage.ports import (
    CLAIM_MARGIN,
    Answering,
    AppendOutcome,
    Claim,
    Duplicate,
    EndedAsk,
    Forwarded,
    ForwardOutcome,
    Hop,
    KeyConflict,
    MailboxFull,
    MutualWait,
    NewForward,
    NewGroup,
    NotWaiting,
    SessionLocked,
    Settling,
    Stored,
    Unexpected,
)

from .model import CLAIMED, DEAD, QUEUED, Item, Model

OPEN = AskState.OPEN


@dataclass(slots=True, eq=False)
class Talk:
    """One session."""

    session_id: str
    pair: frozenset[str]
    thread: str
    created_at: float
    ended_at: float | None = None


@dataclass(slots=True, eq=False)
class Letter(Item):
    """One conversation message and its delivery."""

    talk: Talk = field(kw_only=True)
    ask_timeout: float | None = None
    message_type: MessageType = MessageType.USER_DEFINED
    created_at: float = 0.0
    is_read: bool = False
    may_be_read: bool = False
    """Where the contract leaves open whether it is read."""


@dataclass(slots=True, eq=False)
class Step:
    """One step of an ask's way."""

    kept: Letter
    to: str


@dataclass(slots=True, eq=False)
class Question:
    """An ask."""

    letter: Letter
    """The message that the agent that has it got; another one after it was passed on."""
    origin: str
    deadline: float
    within: Letter | None
    is_taken: bool
    """The own code of whom it asks has it: it read it, or was given it as the answer to its own ask."""
    taken_within: Letter | None
    """In the run of this message; None: outside any."""
    keyed: bool
    state: AskState = OPEN
    answer: Letter | None = None
    reason: str | None = None
    is_given_up: bool = False
    """Its asker closed it as cancelled."""
    either: set[AskState] = field(default_factory=set)
    """Where the contract leaves open how it ended: the ways that would do."""
    hops: list[Step] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.letter.message_id

    @property
    def worker(self) -> str | None:
        """The process at work on it."""
        return self.letter.owner if self.letter.state is CLAIMED else None

    def told(self) -> EndedAsk:
        return EndedAsk(self.id, self.state, self.origin)


@dataclass(slots=True, eq=False)
class Wait:
    """A registered wait."""

    wait_id: str
    recipient: str
    sender: str
    owner: str
    until: float | None
    thread: str | None
    is_ended: bool = False


@dataclass(slots=True)
class Told:
    """Processes that a verb must name, and those that it may name."""

    must: set[str] = field(default_factory=set)
    may: set[str] = field(default_factory=set)

    def fits(self, named: set[str]) -> bool:
        return self.must <= named <= self.must | self.may


class ConversationModel(Model):
    """All conversations of a store."""

    def __init__(self) -> None:
        super().__init__()
        self.start = datetime.now(UTC)
        """The instant from which its seconds count."""
        self.talks: list[Talk] = []
        self.asks: dict[str, Question] = {}
        self.waits: list[Wait] = []
        self.notices: list[Letter] = []
        self.services: dict[str, dict[str, tuple[bool, int]]] = {}
        """Of the live processes: agents ("" is every one) with whether it is explicit, and the slots."""
        self.keys: dict[tuple[str, str], tuple[str, str]] = {}
        self.in_mailboxes: list[Item] = []
        """When the call began: what it takes out makes no room in it."""
        self.before: list[tuple[Question, bool]] = []
        """The asks that were open then, with whether own code outside any run had them."""

    @property
    def letters(self) -> list[Letter]:
        return [item for item in self.items if isinstance(item, Letter)]

    def begin_call(self) -> None:
        """A call begins that stores."""
        self.in_mailboxes = self.open_items()
        self.before = [(ask, ask.is_taken and ask.taken_within is None) for ask in self.open_asks()]

    def open_items(self) -> list[Item]:
        return [item for item in self.items if item.state in (QUEUED, CLAIMED)]

    def letter(self, message_id: str) -> Letter:
        item = self.find(message_id)
        assert isinstance(item, Letter)
        return item

    # --- what is there --------------------------------------------------------------------------------------------

    def open_talk(self, one: str, other: str, thread: str) -> Talk | None:
        return next(
            (t for t in self.talks if t.pair == {one, other} and t.thread == thread and t.ended_at is None), None
        )

    def open_asks(self) -> Iterator[Question]:
        return (ask for ask in self.asks.values() if ask.state is OPEN)

    def open_ask(self, asker: str, responder: str, thread: str | None = None) -> Question | None:
        return next(
            (
                ask
                for ask in self.open_asks()
                if (ask.letter.sender, ask.letter.recipient) == (asker, responder)
                and thread in (None, ask.letter.thread)
            ),
            None,
        )

    def live_waits(self, recipient: str, sender: str, thread: str) -> list[Wait]:
        return [
            wait
            for wait in self.waits
            if (wait.recipient, wait.sender) == (recipient, sender)
            and wait.thread in (None, thread)
            and not wait.is_ended
            and (wait.until is None or wait.until > self.now)
        ]

    def unread(self, recipient: str, sender: str | None = None, thread: str | None = None) -> list[Letter]:
        return [
            letter
            for letter in self.letters
            if letter.recipient == recipient
            and sender in (None, letter.sender)
            and thread in (None, letter.thread)
            and letter.message_type is MessageType.USER_DEFINED
            and not letter.is_read
            and (letter.due_at is None or letter.token)
            and not (letter.state in (QUEUED, DeliveryState.EXPIRED) and self.has_expired(letter))
        ]

    def awaited(self, recipient: str, sender: str, thread: str | None) -> Letter | None:
        """What `take_awaited` would take: what is due, or was never for a handler."""
        for letter in self.unread(recipient, sender, thread):
            if self.is_ready(letter) or (letter.state is DeliveryState.DONE and letter.token == 0):
                return letter
        return None

    def holds_its_lane(self, item: Item) -> bool:
        """A run that has asked waits itself."""
        return item.state is CLAIMED and all(ask.within is not item for ask in self.open_asks())

    def lane_gives(self, lane: tuple[str, Kind, str], ordered: bool, origin: str | None) -> Iterator[Item]:
        first = next(item for item in self.items if item.lane == lane)
        held = self.live_waits(first.recipient, first.sender, first.thread)
        return iter(()) if held else super().lane_gives(lane, ordered, origin)

    def take(self, item: Item, owner: str, run_limit: float) -> None:
        super().take(item, owner, run_limit)
        assert isinstance(item, Letter)
        item.hard_end = self.now + max(run_limit, item.ask_timeout or 0.0) + CLAIM_MARGIN

    # --- storing --------------------------------------------------------------------------------------------------

    def store(self, group: NewGroup, owner: str) -> AppendOutcome:
        """What `append` answers to a group, without claims: those are made once all groups of a call are stored."""
        (new,) = group.deliveries
        key = (group.sender_id, group.idempotency_key or "")
        if group.idempotency_key is not None and key in self.keys:
            fingerprint, message_id = self.keys[key]
            return Duplicate([message_id]) if fingerprint == group.fingerprint else KeyConflict()
        thread = self.thread_of(group)
        talk = self.open_talk(group.sender_id, new.recipient_id, thread)
        incoming = self.open_ask(new.recipient_id, group.sender_id, thread)
        answered = self.answered(group, incoming)
        if group.answers is Answering.REQUIRED and answered is None:
            elsewhere = [ask.letter.thread for ask, _ in self.asks_elsewhere(group)] if group.is_anywhere else []
            return NotWaiting(talk.session_id if talk else None, sorted(elsewhere))
        within = self.letter(group.within) if group.within else None
        if group.ask_timeout is not None and (
            refused := self.refuse(group.sender_id, new.recipient_id, thread, within, answered)
        ):
            return refused
        if (
            group.only_if_expected
            and group.ask_timeout is not None
            and answered is None
            and not self.live_waits(new.recipient_id, group.sender_id, thread)
        ):
            return Unexpected()
        if group.mailbox_limit is not None and answered is None:
            there = {
                item.message_id
                for item in (*self.open_items(), *self.in_mailboxes)
                if item.recipient == new.recipient_id
            }
            if len(there) >= group.mailbox_limit:
                return MailboxFull([new.recipient_id])

        if talk is None:
            talk = Talk(str(group.session_id), frozenset((group.sender_id, new.recipient_id)), thread, self.now)
            self.talks.append(talk)
        letter = Letter(
            new.message_id,
            group.sender_id,
            new.recipient_id,
            group.kind,
            group.max_attempts,
            group.run_limit,
            owner,
            None if group.deliver_at is None else (group.deliver_at - self.start).total_seconds(),
            None if group.expires_in is None else self.now + group.expires_in,
            thread=thread,
            talk=talk,
            ask_timeout=group.ask_timeout,
            created_at=self.now,
        )
        waiting = self.live_waits(letter.recipient, letter.sender, thread)
        if answered is not None:
            letter.state, letter.is_read = DeliveryState.DONE, True
            self.items.append(letter)
            self.answer(answered, letter)
        else:
            self.append(letter, owner, claim=False)
            if group.notify and not waiting and incoming is None:
                self.notices.append(letter)
        if group.ask_timeout is not None:
            self.asks[letter.message_id] = Question(
                letter,
                owner,
                self.now + group.ask_timeout,
                within,
                answered is not None,
                answered.within if answered else None,
                group.idempotency_key is not None,
            )
        if group.idempotency_key is not None:
            self.keys[key] = (group.fingerprint, letter.message_id)
        return Stored(
            session_id=talk.session_id,
            answered=answered.told() if answered else None,
            waiters=frozenset(wait.owner for wait in waiting),
            is_asked=incoming is not None and answered is None,
        )

    def asks_elsewhere(self, group: NewGroup) -> list[tuple[Question, bool]]:
        """The asks of its recipient to its sender in other threads, as they were before the call."""
        back = (new_recipient(group), group.sender_id)
        return [
            (ask, taken)
            for ask, taken in self.before
            if (ask.letter.sender, ask.letter.recipient) == back and ask.letter.thread != group.thread
        ]

    def thread_of(self, group: NewGroup) -> str:
        """Its own, or the one in which it answers."""
        run = self.asks.get(group.within or "")
        for_run = run is not None and (run.letter.sender, run.letter.recipient) == (
            new_recipient(group),
            group.sender_id,
        )
        if not group.is_anywhere or group.answers is None or for_run:
            return group.thread
        mine = [
            (ask, taken)
            for ask, taken in self.before
            if (ask.letter.sender, ask.letter.recipient, ask.letter.thread)
            == (new_recipient(group), group.sender_id, group.thread)
        ]
        if any(taken for _, taken in mine):
            return group.thread
        elsewhere = self.asks_elsewhere(group)
        meant = [ask for ask, taken in elsewhere if taken]
        if not meant and not mine and group.answers is Answering.REQUIRED:
            meant = [ask for ask, _ in elsewhere]
        return meant[0].letter.thread if len(meant) == 1 and meant[0].state is OPEN else group.thread

    def answered(self, group: NewGroup, incoming: Question | None) -> Question | None:
        if incoming is None or group.answers is None:
            return None
        if group.answers is Answering.IF_TAKEN:
            return incoming if incoming.is_taken and incoming.taken_within is None else None
        run = self.asks.get(group.within or "")
        if run is not None and (run.letter.sender, run.letter.recipient) == (new_recipient(group), group.sender_id):
            return incoming if run is incoming else None
        return incoming

    def refuse(
        self, sender: str, recipient: str, thread: str, within: Letter | None, answered: Question | None
    ) -> SessionLocked | MutualWait | None:
        first = self.open_ask(sender, recipient, thread)
        # One that is an answer is with the code that waits for it as soon as it is stored.
        place = Place.TAKEN if answered else Place.QUEUED
        taken_within = self.place_of(answered.within) if answered else None
        new = WaitingAsk(-1, sender, recipient, place, self.place_of(within), taken_within)
        asks = {ask.id: self.waiting_ask(ask) for ask in self.open_asks() if ask is not answered}
        staff = {agent: self.staff(agent) for agent in {letter.recipient for letter in self.letters} | {recipient}}
        path = find_circle(new, asks.values(), staff, behind=asks[first.id] if first else None)
        chained = self.chained(sender, recipient, within)
        if path is None and first is None and chained is not None and chained is not answered:
            path = find_circle(new, asks.values(), staff, behind=asks[chained.id])
        if path is not None:
            return MutualWait(path)
        return SessionLocked(first.id, thread) if first else None

    def chained(self, sender: str, recipient: str, within: Letter | None) -> Question | None:
        """The open ask of this pair for which a run was made, however deep."""
        while within is not None and (ask := self.asks.get(within.message_id)) is not None and ask.state is OPEN:
            if (ask.letter.sender, ask.letter.recipient) == (sender, recipient):
                return ask
            within = ask.within
        return None

    def place_of(self, letter: Letter | None) -> int | None:
        return None if letter is None else self.items.index(letter)

    def waiting_ask(self, ask: Question) -> WaitingAsk:
        places = {QUEUED: Place.QUEUED, CLAIMED: Place.CLAIMED}
        letter = ask.letter
        return WaitingAsk(
            self.items.index(letter),
            letter.sender,
            letter.recipient,
            places.get(letter.state, Place.TAKEN),
            self.place_of(ask.within),
            self.place_of(ask.taken_within),
        )

    def staff(self, agent: str) -> Staff:
        own, others = [], []
        for of in self.services.values():
            named = [(one, *of[one]) for one in ("", agent) if one in of]
            own += [slots for one, explicit, slots in named if one == agent and explicit]
            # A process that serves it by its name and as one of all has its slots once.
            shared = [slots for one, explicit, slots in named if not explicit or one == ""]
            others += [max(shared)] if shared else []
        runs = frozenset(
            place
            for place, item in enumerate(self.items)
            if item.recipient == agent and item.state is CLAIMED and isinstance(item, Letter)
        )
        return Staff(sum(own or others), runs)

    # --- passing on -----------------------------------------------------------------------------------------------

    def forward(self, wanted: NewForward, claim: tuple[Letter, int] | None, owner: str) -> ForwardOutcome:
        """What `forward` answers, and what it does. The rule is the stores' own: what is compared is what they tell it.

        A claim is that of a letter, with its token.
        """
        ask = self.asks.get(wanted.message_id)
        if claim is not None:
            wanted = replace(wanted, claim=Claim(self.items.index(claim[0]), claim[1], 0))
        if ask is None:
            return judge(wanted, None, None)  # type: ignore[return-value]
        old, asker = ask.letter, ask.letter.sender
        talk = self.open_talk(asker, wanted.to_id, old.thread)
        waiting = self.live_waits(wanted.to_id, asker, old.thread)
        before = None if wanted.to_id == asker else self.open_ask(asker, wanted.to_id, old.thread)
        chained = self.chained(asker, wanted.to_id, ask.within)
        known = Known(
            seq=self.items.index(old),
            asker_id=asker,
            responder_id=old.recipient,
            state=ask.state,
            within=self.place_of(ask.within),
            left=ask.deadline - self.now,
            place=old.state,
            token=old.token,
            thread=old.thread,
            hops=[self.hop(ask, number) for number in range(len(ask.hops))],
            is_agent=True,
            session_id=talk.session_id if talk else None,
            asked_seq=self.items.index(before.letter) if before else None,
            asked_id=before.id if before else None,
            chained=self.items.index(chained.letter) if chained else None,
            waiters=frozenset(wait.owner for wait in waiting),
            open=sum(item.recipient == wanted.to_id for item in self.open_items()),
        )
        agents = {letter.recipient for letter in self.letters} | {wanted.to_id}
        graph = Graph(
            [self.waiting_ask(one) for one in self.open_asks()], {agent: self.staff(agent) for agent in agents}
        )
        refused = judge(wanted, known, graph)
        if refused is not None:
            return refused
        if talk is None:
            talk = Talk(wanted.session_id, frozenset((asker, wanted.to_id)), old.thread, self.now)
            self.talks.append(talk)
        new = replace(
            old,
            recipient=wanted.to_id,
            origin=owner,
            state=QUEUED,
            token=0,
            attempt=0,
            suspect=False,
            owner=None,
            log=[],
            ended=None,
            talk=talk,
            ask_timeout=known.left,
            created_at=self.now,
            is_read=False,
        )
        self.items.append(new)
        old.message_id, old.message_type = wanted.kept_id, MessageType.FORWARDED
        old.state, old.is_read, old.suspect, old.ended = DeliveryState.DONE, True, False, None
        old.log.append("forwarded")
        ask.letter, ask.is_taken, ask.taken_within = new, False, None
        ask.hops.append(Step(old, wanted.to_id))
        return Forwarded(asker, talk.session_id, known.left, known.waiters)

    def hop(self, ask: Question, number: int) -> Hop:
        """A step as the stores have it, but for the instants and the number of the message."""
        kept, to = ask.hops[number].kept, ask.hops[number].to
        never = datetime.fromtimestamp(0, UTC)
        place = self.items.index(kept)
        return Hop(ask.id, number + 1, kept.recipient, to, kept.message_id, place, never, never)

    # --- how asks end ---------------------------------------------------------------------------------------------

    def answer(self, ask: Question, letter: Letter) -> None:
        ask.state, ask.answer = AskState.REPLIED, letter
        ask.letter.is_read = True
        self.take_along(ask)

    def end_ask(self, ask: Question, state: AskState, reason: str | None = None) -> None:
        if ask.state is OPEN:
            ask.state, ask.reason = state, reason
            self.take_along(ask)

    def take_along(self, ask: Question) -> None:
        """The delivery of an ask that ended does not stay in the queue."""
        if ask.state is not OPEN and ask.letter.state is QUEUED:
            replied = ask.state is AskState.REPLIED
            ask.letter.state = DeliveryState.DONE if replied else DeliveryState.EXPIRED

    def close(self, ask: Question, state: AskState) -> None:
        self.end_ask(ask, state)
        if state is AskState.CANCELLED and ask.answer is not None:
            # Read once more since its asker gave up: whether a repeat makes it unread again is left open.
            ask.answer.may_be_read = ask.is_given_up and ask.answer.is_read
            ask.answer.is_read = False
            ask.is_given_up = True

    def settle_letter(
        self, letter: Letter, token: int, how: Settling, delay: float, answer_id: str | None
    ) -> tuple[bool, list[EndedAsk], Told]:
        """End a claim: whether it moved, the asks that ended with it, and who is told."""
        ended = letter.state is CLAIMED and letter.token == token
        moved = self.settle(letter, token, how, delay)
        told, asks = Told(), []
        if not ended:
            return moved, [], told
        ask = self.asks.get(letter.message_id)
        if how in (Settling.DONE, Settling.DEAD):
            told.must.add(letter.origin)
        if how is Settling.DONE and answer_id is not None:
            if self.give(letter, answer_id, ask):
                assert ask is not None
                asks.append(ask.told())
            else:
                waits = [
                    wait for wait in self.waits if (wait.recipient, wait.sender) == (letter.sender, letter.recipient)
                ]
                live = self.live_waits(letter.sender, letter.recipient, letter.thread)
                told.must.update(wait.owner for wait in live)
                told.may.update(wait.owner for wait in waits)
        elif ask is not None and how is Settling.DEAD:
            if ask.state is OPEN:
                self.end_ask(ask, AskState.FAILED, "reason")
                asks.append(ask.told())
        elif ask is not None:
            self.take_along(ask)
            if letter.state is not QUEUED:
                told.may.add(letter.origin)
        return moved, asks, told

    def give(self, letter: Letter, answer_id: str, ask: Question | None) -> bool:
        """Store what a run answered; whether it ended the ask."""
        answer = Letter(
            answer_id,
            letter.recipient,
            letter.sender,
            letter.kind,
            0,
            0.0,
            "",
            None,
            None,
            DeliveryState.DONE,
            thread=letter.thread,
            talk=letter.talk,
            created_at=self.now,
        )
        self.items.append(answer)
        if ask is not None:
            ask.letter.is_read = True
        if ask is None or ask.state is not OPEN:
            return False
        answer.is_read = True
        self.answer(ask, answer)
        return True

    def lose(self, item: Item, *, counted: bool) -> None:
        super().lose(item, counted=counted)
        ask = self.asks.get(item.message_id)
        if ask is None:
            return
        if item.state is DEAD:
            # Its reason is that of the log, which is compared where the row is.
            self.end_ask(ask, AskState.FAILED, "")
        self.take_along(ask)

    def end_processes(self, owners: Iterable[str], *, died: bool) -> int:
        """Processes died, or stopped; how many claims moved."""
        gone = set(owners)
        cancelled = [ask for ask in self.open_asks() if ask.origin in gone and not ask.keyed]
        claimed = {item.message_id for item in self.items if item.state is CLAIMED and item.owner in gone}
        for ask in cancelled:
            self.end_ask(ask, AskState.CANCELLED)
        self.waits = [wait for wait in self.waits if wait.owner not in gone]
        for owner in gone:
            self.services.pop(owner, None)
        moved = sum(self.release(owner) if died else self.stop(owner) for owner in owners)
        for ask in cancelled:
            if ask.id in claimed and ask.letter.state is DEAD:
                ask.either = {AskState.CANCELLED, AskState.FAILED}
        return moved

    def stop(self, owner: str) -> int:
        """The owner stopped: as if it had given back all it had."""
        held = [item for item in self.items if item.state is CLAIMED and item.owner == owner]
        for item in held:
            self.settle(item, item.token, Settling.RETURNED, 0.0)
            if ask := self.asks.get(item.message_id):
                self.take_along(ask)
        return len(held)

    def pass_time(self, now: float) -> tuple[tuple[int, int], Told, int]:
        """Let time pass: the least and the most that may have become due, who is told, and how many claims ended."""
        late = [ask for ask in self.open_asks() if ask.deadline <= now]
        # Scheduled ones that end with their asks may have become due first.
        scheduled = sum(
            1 for ask in late if ask.letter.state is QUEUED and ask.letter.due_at and ask.letter.due_at <= now
        )
        claimed = [letter for letter in self.letters if letter.state is CLAIMED]
        workers = {ask.id: ask.worker for ask in late}
        for ask in late:
            self.end_ask(ask, AskState.TIMED_OUT)
        failing = [ask for ask in self.asks.values() if ask.state is OPEN]
        due, origins, released = self.advance(now)
        told = Told(origins | {ask.origin for ask in late})
        told.may.update(ask.letter.origin for ask in late)
        told.may.update(worker for worker in workers.values() if worker is not None)
        told.may.update(ask.origin for ask in failing if ask.state is AskState.FAILED)
        told.may.update(letter.origin for letter in claimed if letter.state.is_final)
        for ask in late:
            if ask.letter in claimed and ask.letter.state is DEAD:
                ask.either = {AskState.TIMED_OUT, AskState.FAILED}
                told.may.add(ask.origin)
                told.must -= (
                    {ask.origin} - origins - {other.origin for other in late if other is not ask and not other.either}
                )
        told.must |= {worker for ask in late if not ask.either and (worker := workers[ask.id]) is not None}
        return (due, due + scheduled), told, released

    def next_in(self) -> float | None:
        changes = [ask.deadline - self.now for ask in self.open_asks()]
        if (other := super().next_in()) is not None:
            changes.append(other)
        return min(changes, default=None)

    def withdraw(self, item: Item) -> bool:
        moved = super().withdraw(item)
        if moved and (ask := self.asks.get(item.message_id)):
            self.end_ask(ask, AskState.CANCELLED)
        return moved

    def end_talk(
        self, first: str, second: str, thread: str, ending_id: str
    ) -> tuple[Talk, list[EndedAsk], Told] | None:
        talk = self.open_talk(first, second, thread)
        if talk is None:
            return None
        asks = [ask for ask in self.open_asks() if ask.letter.talk is talk]
        workers = {ask.worker for ask in asks if ask.worker is not None}
        for ask in asks:
            self.end_ask(ask, AskState.ENDED)
        # A wait for any thread ends with the main one.
        live = self.live_waits(first, second, thread) + self.live_waits(second, first, thread)
        ending_waits = [wait for wait in live if wait.thread == (thread or None)]
        told = Told({ask.origin for ask in asks} | {wait.owner for wait in ending_waits} | workers)
        for wait in self.waits:
            if {wait.recipient, wait.sender} == talk.pair and wait.thread == (thread or None):
                told.may.add(wait.owner)
                wait.is_ended = True
        talk.ended_at = self.now
        ending = Letter(
            ending_id,
            first,
            second,
            Kind.CONVERSATION,
            0,
            0.0,
            "",
            None,
            None,
            DeliveryState.DONE,
            thread=thread,
            talk=talk,
            message_type=MessageType.ENDING,
            created_at=self.now,
            is_read=True,
        )
        self.items.append(ending)
        return talk, [ask.told() for ask in asks], told

    # --- reading --------------------------------------------------------------------------------------------------

    def mark(self, letters: Iterable[Letter], within: Letter | None = None) -> None:
        """Their recipient's own code has them, in the run of a message or outside any."""
        for letter in letters:
            letter.is_read = True
            if letter.state is QUEUED:
                letter.state = DeliveryState.DONE
                if ask := self.asks.get(letter.message_id):
                    ask.is_taken, ask.taken_within = True, within


def new_recipient(group: NewGroup) -> str:
    """Whom a conversation message goes to."""
    (new,) = group.deliveries
    return new.recipient_id
