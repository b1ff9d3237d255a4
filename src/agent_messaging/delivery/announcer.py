"""Tells of what was committed: wakes the waiters here, and rings the processes elsewhere.

There is one method for each fact. The code that commits it calls the method in the same step, so a cancelled caller
changes nothing about who is told. A ring and a hint are never the truth: the receiver looks in the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..clock import utc_now
from ..exceptions import DatabaseError, OutcomeUnknownError
from ..models import AskState, Kind
from ..observing.facts import FactType
from ..storage.assembly.terms import Act, Purpose
from ..storage.ports import (
    Acted,
    Advanced,
    AppendOutcome,
    AskRow,
    ClaimedDelivery,
    EndedAsk,
    EndedSession,
    EndedTask,
    Forwarded,
    NewForward,
    NewGroup,
    NewMeeting,
    NewSpeech,
    Presence,
    Settled,
    Settling,
    Stored,
    TurnRef,
)
from .claims import Claims
from .events import Events
from .facts import Ending
from .lots import Lots
from .notices import Notices
from .services import Services
from .serving import Serving
from .timer import Timer


class Announcer:
    """Tells waiters and processes of each fact.

    Args:
        services: They look in the store when anything may have changed.
        work: The doorbell of the store of the tasks, which may be another one.
    """

    def __init__(
        self,
        services: Services,
        serving: Serving,
        timer: Timer,
        claims: Claims,
        lots: Lots,
        notices: Notices,
        events: Events,
        work: Presence,
    ) -> None:
        self.services = services
        self.serving = serving
        self.neighbours = serving.neighbours
        self.timer = timer
        self.claims = claims
        self.stations = claims.stations
        self.facts = claims.facts
        self.lots = lots
        self.notices = notices
        self.events = events
        self.work = work
        serving.follow(self._wake_who_waits_in_vain)
        lots.asks.follow(self.closed)

    # --- rings --------------------------------------------------------------------------------------------------------

    def ring(self, processes: Iterable[str | None]) -> None:
        """Wake these processes. This one needs no ring: the same fact tells its waiters."""
        presence = self.neighbours.presence
        if others := {process for process in processes if process is not None} - {presence.process_id}:
            presence.ring(others)

    def rang(self) -> None:
        """Anything may have changed elsewhere: a ring, a poll or the death of a process says so."""
        self.neighbours.look_soon()
        self.look()

    def look(self) -> None:
        """Anything may have changed."""
        self.services.look()
        self._wake_who_waits_in_vain()

    def _wake_who_waits_in_vain(self) -> None:
        """Wake those that wait for messages of an agent that was removed, or registered anew."""
        names = self.serving.names
        self.lots.arrivals.wake_all(of=lambda agent_id: names.cached_by_id(agent_id) is None)

    def _wake(self, processes: Collection[str | None], pair: tuple[str, str] | None = None) -> None:
        """Wake the processes that wait for what was committed, this one included.

        Args:
            processes: These.
            pair: The sender and the recipient of what they wait for, where that is known.
        """
        if self.neighbours.presence.process_id in processes:
            self.lots.waits.look() if pair is None else self.lots.waits.hint_about(pair)
        self.ring(processes)

    # --- messages -----------------------------------------------------------------------------------------------------

    def stored(self, group: NewGroup, outcome: AppendOutcome | None, unclaimed: Collection[str]) -> None:
        """A group was stored, refused, or nobody knows (None); for these recipients it was not claimed with that."""
        stored = isinstance(outcome, Stored)
        if stored and (group.deliver_at is not None or group.expires_in is not None):
            self._keep_time(group)
        elif stored and group.ask_timeout is not None:
            self.timer.look_in(group.ask_timeout)
        if group.kind is Kind.CONVERSATION:
            stored = self._conversed(group, outcome) and stored
        if not unclaimed or not stored:
            return
        if group.deliver_at is None or group.deliver_at <= utc_now():
            for recipient_id in unclaimed:
                self.stations.queued(recipient_id, group.kind)
            self.neighbours.ring_for(unclaimed, group.kind)
            self.lots.arrivals.arrived([(recipient_id, group.kind) for recipient_id in unclaimed])

    def _keep_time(self, group: NewGroup) -> None:
        """Look when the messages become due or expire. An ask takes neither."""
        if group.deliver_at is not None:
            self.timer.look_in(max((group.deliver_at - utc_now()).total_seconds(), 0.0))
        if group.expires_in is not None:
            self.timer.look_in(group.expires_in)

    def _conversed(self, group: NewGroup, outcome: AppendOutcome | None) -> bool:
        """Tell the callers that waited for this message. Returns whether it is left to handlers."""
        answered = outcome.answered if isinstance(outcome, Stored) else None
        self.lots.asks.wrote(group.deliveries[0].message_id, answered)
        if group.ask_timeout is None:  # handlers are told of messages, not of asks
            self.notices.wrote(group, outcome)
        if not isinstance(outcome, Stored) or (answered is None and not outcome.waiters):
            return True
        waiting = {answered.origin if answered is not None else None, *outcome.waiters} - {None}
        self._wake(waiting, (group.sender_id, group.deliveries[0].recipient_id))
        return not waiting and answered is None

    def forwarded(self, forward: NewForward, done: Forwarded) -> None:
        """An open ask went on to another agent."""
        if self.facts.ears.is_heard:
            self.facts.forwarded(forward)
        self.lots.receipts.hint([forward.message_id])
        self.timer.look_in(max(done.left, 0.0))
        self._wake(done.waiters, (done.asker_id, forward.to_id))
        if not done.waiters:
            self.stations.queued(forward.to_id, Kind.CONVERSATION)
            self.neighbours.ring_for([forward.to_id], Kind.CONVERSATION)
            self.lots.arrivals.arrived([(forward.to_id, Kind.CONVERSATION)])

    def redriven(self, message_ids: Iterable[str]) -> None:
        """Dead letters wait for handlers again; `queued` says whose."""
        if self.facts.ears.is_heard:
            self.facts.of_messages(FactType.REDRIVEN, message_ids)

    def queued(self, recipient_ids: Collection[str], kind: Kind) -> None:
        """Messages of these agents wait for handlers again: they were queued anew, or are not held back any more."""
        self.neighbours.ring_for(recipient_ids, kind)
        self.stations.look()

    def settled(self, endings: Sequence[Ending], settled: Settled) -> None:
        """Claims have ended, or were lost to others."""
        if self.facts.ears.is_heard:
            self.facts.settled(endings, settled)
        for (settlement, _), moved in zip(endings, settled.moved, strict=True):
            # Messages that are due at once are not announced by time.
            if moved and settlement.how is Settling.RETRY and settlement.delay > 0:
                self.timer.look_in(settlement.delay)
            elif moved and settlement.how in (Settling.RETRY, Settling.RETURNED):
                self.stations.look()
        self.lots.receipts.hint(delivery.message_id for _, delivery in endings)
        self._tell_askers(endings, settled.ended_asks)
        self._wake(settled.origins)

    def _tell_askers(self, endings: Sequence[Ending], ended_asks: Collection[EndedAsk]) -> None:
        ended = {ask.ask_id: ask for ask in ended_asks}
        doubtful = list[str]()
        for settlement, delivery in endings:
            ask = None
            if settlement.answer is not None:
                ask = ended.get(delivery.message_id)
                if ask is not None:
                    if ask.state is AskState.REPLIED:
                        del ended[delivery.message_id]
                    else:
                        ask = None
                self.lots.asks.wrote(settlement.answer.message_id, ask)
            if ask is None and delivery.ask_timeout is not None:
                doubtful.append(delivery.message_id)  # the answer to a repeat may not say what the lost one did
        if doubtful:
            self.lots.asks.waiters.hint(doubtful)
        if ended:
            self.lots.asks.ended(ended.values())

    def pulled(self, deliveries: Iterable[ClaimedDelivery]) -> None:
        """An agent's own code has claimed these."""
        if self.facts.ears.is_heard:
            for delivery in deliveries:
                self.facts.claimed(delivery, how="pulled")

    def claimed(self, lease: float) -> None:
        """Something was claimed for so many seconds; then it is free for others."""
        self.timer.look_in(lease)

    def found(self, waiting: Collection[tuple[str, Kind]]) -> None:
        """For these (recipient id, kind) pairs the store has something that nobody has claimed."""
        self.lots.arrivals.arrived(waiting)

    def read(self, message_ids: Collection[str]) -> None:
        """A caller has taken these."""
        if self.facts.ears.is_heard:
            self.facts.of_messages(FactType.READ, message_ids)
        self.lots.receipts.hint(message_ids)

    def returned(self, recipient_ids: Collection[str], waiting: Collection[str]) -> None:
        """Messages that a caller had taken are unread again; callers in these processes wait for them."""
        self.queued(recipient_ids, Kind.CONVERSATION)
        self._wake(waiting)

    def rejected(self, message_ids: Collection[str], asks: Collection[EndedAsk]) -> None:
        """Messages became dead letters, and the asks failed with them."""
        if self.facts.ears.is_heard:
            self.facts.of_messages(FactType.DEAD, message_ids)
            self.facts.asks_ended(asks)
        self.lots.receipts.hint(message_ids)
        self.lots.asks.ended(asks)
        self.ring(ask.origin for ask in asks)

    def refused(self, ask: AskRow) -> None:
        """The agent that had an ask has refused it."""
        self.lots.receipts.hint([ask.ask_id])
        self.lots.asks.waiters.hint([ask.ask_id])
        self.ring([ask.origin, ask.worker])

    def withdrawn(self, message_ids: Collection[str]) -> None:
        """Their senders withdrew these."""
        if self.facts.ears.is_heard:
            self.facts.of_messages(FactType.WITHDRAWN, message_ids)
        self.lots.receipts.hint(message_ids)
        self.lots.asks.waiters.hint(message_ids)

    # --- conversations, agents ----------------------------------------------------------------------------------------

    def ended(self, session: EndedSession) -> None:
        """A conversation was ended."""
        if self.facts.ears.is_heard:
            self.facts.conversation_ended(session)
        self.lots.asks.ended(session.asks)
        self.lots.waits.look()
        self.ring([*session.processes, *(ask.origin for ask in session.asks)])

    def closed(self, asks: Collection[AskRow]) -> None:
        """Callers here have ended their asks. `Asks`, which did it, tells the runs that are at work on them here."""
        if self.facts.ears.is_heard:  # what else ended them was told where that was committed
            self.facts.asks_ended(ask for ask in asks if ask.state in (AskState.TIMED_OUT, AskState.CANCELLED))
        self.ring(ask.worker for ask in asks)

    def sent_parts(self, readers: Mapping[str, str | None]) -> None:
        """Parts of the answers to these asks (ids, with the processes that read) were stored."""
        for ask_id in readers:
            self.lots.parts.hint_about(ask_id)
        self.ring(readers.values())

    def read_parts(self, ask_ids: Iterable[str], workers: Iterable[str]) -> None:
        """Parts of the answers to these asks were removed; these processes are at work on them."""
        for ask_id in ask_ids:
            self.lots.room.hint_about(ask_id)
        self.ring(workers)

    def taken_over(self, process_ids: Collection[str], count: int) -> None:
        """So many messages and tasks of these processes, which are dead, are queued again."""
        if self.facts.ears.is_heard:
            self.facts.taken_over(count, process_ids)

    async def died(self) -> None:
        """Processes died: their messages and lanes are free, and others may be at work on what they asked."""
        self.rang()
        await self._ring_everybody()

    async def removed(self) -> None:
        """An agent was removed: anybody may wait for it, or have the turn in its place, in whatever process."""
        self.look()
        await self._ring_everybody()

    async def _ring_everybody(self) -> None:
        with contextlib.suppress(DatabaseError, OutcomeUnknownError):  # the slow polls will
            await self.neighbours.ring_everybody()

    def advanced(self, advanced: Advanced) -> None:
        """Time has passed in the store."""
        if self.facts.ears.is_heard:
            self.facts.of_messages(FactType.EXPIRED, advanced.expired)
            if advanced.released:
                self.facts.taken_over(advanced.released)
        if advanced.due or advanced.released:
            self.look()
        if advanced.expired_origins:
            self.lots.receipts.look()
            self.lots.asks.look()
            self.ring(advanced.expired_origins)

    # --- meetings -----------------------------------------------------------------------------------------------------

    def invited(self, meeting: NewMeeting) -> None:
        """A meeting was stored, with its invitations."""
        if self.facts.ears.is_heard:
            self.facts.invited(meeting)
        agent_ids = [invitation.recipient_id for invitation in meeting.invitations]
        self.neighbours.ring_for(agent_ids, Kind.INVITATION)
        self.neighbours.ring_for(agent_ids, Kind.NOTIFICATION)
        self.stations.look()
        self.notices.look()

    def acted(self, meeting_id: str, acted: Acted, act: Act | None, speech: NewSpeech | None) -> None:
        """A meeting has changed, by an act or (None) by time.

        `Meetings`, which made the act, tells the callers here that wait in it.
        """
        if self.facts.ears.is_heard:
            self.facts.acted(meeting_id, acted, act, speech)
        if acted.ended_turn is not None:
            self.claims.end_turn(TurnRef(meeting_id, acted.ended_turn))
        self.ring(acted.processes)
        if acted.turn is not None:
            if acted.turn.left is not None:
                self.timer.look_in(max(acted.turn.left, 0.0))
            if acted.turn.purpose is Purpose.SPEAK:  # a turn handler, here or elsewhere, has something to do
                self.neighbours.ring_for([acted.turn.agent_id], Kind.TURN)
                self.stations.queued(acted.turn.agent_id, Kind.TURN)
        self.recorded()

    def recorded(self) -> None:
        """Events were recorded."""
        self.events.look()
        self.neighbours.ring_for([""], Kind.EVENTS)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def worked(self, task_ids: Iterable[str], processes: Collection[str], ended: Iterable[EndedTask] = ()) -> None:
        """Tasks were stored, or have ended; these processes stored them, run them, or could take some.

        Args:
            ended: Those of which the commit says how they ended: nobody here has to look.
        """
        for task in ended:
            self.lots.tasks.tell(task.task_id, task)
        self.lots.tasks.hint(task_ids)
        if self.work.process_id in processes:
            self.lots.work.look()
        self.work.ring({*processes} - {self.work.process_id})

    def worked_by_time(self, processes: Collection[str]) -> None:
        """Time, or somebody's death, changed tasks."""
        self.lots.tasks.look()
        self.lots.work.look()
        self.work.ring({*processes} - {self.work.process_id})
