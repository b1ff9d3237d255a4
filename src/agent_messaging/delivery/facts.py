"""Facts for observers, made of what was committed: each method is one fact of the engine, and says it in names.

The place that knows of it asks `ears.is_heard` first: while nobody listens nothing is called, and nothing is made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..clock import monotonic, utc_now
from ..exceptions import AgentMessagingError
from ..ids import uuid7
from ..models import AskState, Kind, MeetingStatus
from ..observing.carrying import TRACEPARENT, pack, unpack
from ..observing.facts import Fact, FactSubject, FactType
from ..observing.observers import Ears
from ..payloads import checksum
from ..storage.assembly.terms import Act, Refused, Start
from ..storage.batches import size_of
from ..storage.ports import (
    Acted,
    AppendOutcome,
    AskRow,
    ClaimedDelivery,
    Duplicate,
    EndedAsk,
    EndedSession,
    NewForward,
    NewGroup,
    NewMeeting,
    NewSpeech,
    Settled,
    Settlement,
    Settling,
    Stored,
)
from .names import Names

Ending = tuple[Settlement, ClaimedDelivery]
"""The end of a run, and of what."""


class Facts:
    """Makes the facts of one SDK object's messages, conversations and meetings, and tells them."""

    def __init__(self, ears: Ears, names: Names) -> None:
        self.ears = ears
        self.names = names
        self.mark = uuid7()[-12:]
        """The mark of this engine in the names of its claims: an observer may be told by several engines."""

    def tell(self, type: FactType, subject: FactSubject, **said: Any) -> None:
        """Tell a fact."""
        self.ears.tell(Fact(type=type, subject=subject, at=utc_now(), **said))

    # --- storing ------------------------------------------------------------------------------------------------------

    def send(self, group: NewGroup) -> None:
        """A group is handed in, in its sender's task: observers give along what is to travel with it."""
        first = group.deliveries[0].message_id if group.deliveries else None
        single = group.deliveries[0].recipient_id if len(group.deliveries) == 1 else None
        fact = Fact(
            type=FactType.SENDING,
            subject=_subject(group.ask_timeout),
            at=utc_now(),
            message_id=first,
            recipient=self._name(single),
            count=len(group.deliveries) or 1,
            **self._of_group(group),
        )
        if carried := self.ears.ask(fact):
            group.metadata = pack(group.metadata, carried)
            group.checksum = checksum(group.content, group.metadata)

    def appended(self, group: NewGroup, outcome: AppendOutcome | Exception) -> None:
        """A group was stored or refused, each delivery of it."""
        said = self._of_group(group) | {"traceparent": unpack(group.metadata).get(TRACEPARENT)}
        subject = _subject(group.ask_timeout)
        type = FactType.STORED
        if isinstance(outcome, Duplicate):
            for message_id in outcome.message_ids:
                self.tell(FactType.REPEATED, subject, message_id=message_id, **said)
            if not outcome.message_ids:  # a publication to which nobody was subscribed
                self.tell(FactType.REPEATED, subject, count=0, **said)
            return
        if isinstance(outcome, Stored):
            said["session_id"] = outcome.session_id
        else:
            type, said["reason"] = FactType.REFUSED, _word(outcome)
        if not group.deliveries:  # a publication that was refused, or to which nobody is subscribed
            self.tell(type, subject, count=0 if type is FactType.STORED else 1, **said)
        for delivery in group.deliveries:
            recipient = self._name(delivery.recipient_id)
            self.tell(type, subject, message_id=delivery.message_id, recipient=recipient, **said)
        if isinstance(outcome, Stored) and outcome.answered is not None:
            self.asks_ended([outcome.answered])

    def forwarded(self, forward: NewForward) -> None:
        """An open ask went on to another agent."""
        self.tell(
            FactType.FORWARDED,
            FactSubject.ASK,
            message_id=forward.message_id,
            kind=Kind.CONVERSATION.value,
            sender=self._name(forward.holder_id),
            recipient=self._name(forward.to_id),
        )

    # --- runs ---------------------------------------------------------------------------------------------------------

    def claimed(self, delivery: ClaimedDelivery, *, how: str | None = None) -> None:
        """A delivery was claimed: its run begins, or an agent's own code has it."""
        self.tell(FactType.CLAIMED, _subject(delivery.ask_timeout), how=how, **self._of_delivery(delivery))

    def begin(self, delivery: ClaimedDelivery) -> None:
        """In the task of a run, before its handler is called."""
        fact = Fact(
            type=FactType.CLAIMED,
            subject=_subject(delivery.ask_timeout),
            at=utc_now(),
            **self._of_delivery(delivery),
        )
        self.ears.begin(fact, unpack(delivery.metadata))

    def handled(self, delivery: ClaimedDelivery, settlement: Settlement | None, since: float) -> None:
        """A run that began then, by the clock that is monotonic, has ended; a settlement is going to be committed."""
        self.tell(
            FactType.HANDLED,
            _subject(delivery.ask_timeout),
            seconds=monotonic() - since,
            how=None if settlement is None else settlement.how.value,
            reason=None if settlement is None else settlement.reason,
            **self._of_delivery(delivery),
        )

    def settled(self, endings: Sequence[Ending], settled: Settled) -> None:
        """Claims have ended, or were lost to others."""
        for (settlement, delivery), moved in zip(endings, settled.moved, strict=True):
            said = self._of_delivery(delivery)
            subject = _subject(delivery.ask_timeout)
            if not moved:
                self.tell(FactType.LOST, subject, **said)
                continue
            is_dead = settlement.how is Settling.DEAD
            self.tell(
                FactType.DEAD if is_dead else FactType.SETTLED,
                subject,
                how=settlement.how.value,
                reason=settlement.reason,
                **said,
            )
            if settlement.answer is not None:
                self._answered(settlement.answer.message_id, size_of(settlement.answer.content), said)
        self.asks_ended(settled.ended_asks)

    def _answered(self, message_id: str, size: int, said: dict[str, Any]) -> None:
        self.tell(
            FactType.STORED,
            FactSubject.MESSAGE,
            message_id=message_id,
            kind=said["kind"],
            sender=said["recipient"],
            recipient=said["sender"],
            session_id=said["session_id"],
            conversation_thread=said["conversation_thread"],
            how="answer",
            size_bytes=size,
        )

    def dropped(self, endings: Iterable[Ending]) -> None:
        """This process was taken for dead: these ends will not be committed."""
        for _, delivery in endings:
            self.tell(FactType.LOST, _subject(delivery.ask_timeout), **self._of_delivery(delivery))

    # --- other ends ---------------------------------------------------------------------------------------------------

    def of_messages(self, type: FactType, message_ids: Iterable[str]) -> None:
        """The same has happened to these messages."""
        for message_id in message_ids:
            self.tell(type, FactSubject.MESSAGE, message_id=message_id)

    def asks_ended(self, asks: Iterable[EndedAsk | AskRow]) -> None:
        """These asks have ended."""
        for ask in asks:
            said: dict[str, Any] = {}
            if isinstance(ask, AskRow):
                said = {
                    "session_id": ask.session_id,
                    "sender": self._name(ask.asker_id),
                    "recipient": self._name(ask.responder_id),
                }
            if ask.state is not AskState.OPEN:
                self.tell(FactType.ENDED, FactSubject.ASK, message_id=ask.ask_id, how=ask.state.value, **said)

    def conversation_ended(self, session: EndedSession) -> None:
        """A conversation was ended, and its asks with it."""
        self.tell(FactType.ENDED, FactSubject.CONVERSATION, session_id=session.session_id)
        self.asks_ended(session.asks)

    def taken_over(self, count: int, process_ids: Collection[str] = ()) -> None:
        """So much is queued again that these dead processes had; without processes, that was claimed for too long."""
        self.tell(FactType.TAKEN_OVER, FactSubject.PROCESS, process_id=" ".join(process_ids) or None, count=count)

    # --- meetings -----------------------------------------------------------------------------------------------------

    def invite(self, meeting_id: str, host: str, count: int) -> dict[str, str]:
        """So many invitations are about to be stored, in their sender's task; returns what is to travel with them."""
        return self.ears.ask(
            Fact(
                type=FactType.SENDING,
                subject=FactSubject.MESSAGE,
                at=utc_now(),
                meeting_id=meeting_id,
                kind=Kind.INVITATION.value,
                sender=host,
                count=count,
            )
        )

    def invited(self, meeting: NewMeeting) -> None:
        """A meeting was stored, with its invitations."""
        for invitation in meeting.invitations:
            self.tell(
                FactType.STORED,
                FactSubject.MESSAGE,
                message_id=invitation.message_id,
                meeting_id=meeting.meeting_id,
                kind=Kind.INVITATION.value,
                sender=self._name(meeting.host_id),
                recipient=self._name(invitation.recipient_id),
                size_bytes=size_of(invitation.content, invitation.metadata),
                traceparent=unpack(invitation.metadata).get(TRACEPARENT),
            )

    def not_invited(
        self, meeting_id: str, host: str, count: int, carried: Mapping[str, str], error: AgentMessagingError
    ) -> None:
        """A meeting was not stored, and none of its invitations."""
        self.tell(
            FactType.REFUSED,
            FactSubject.MESSAGE,
            meeting_id=meeting_id,
            kind=Kind.INVITATION.value,
            sender=host,
            count=count,
            reason=_word(error),
            traceparent=carried.get(TRACEPARENT),
        )

    def speak(self, meeting_id: str, act: Act, speech: NewSpeech) -> NewSpeech:
        """A speech is about to be stored; returns it with what is to travel with it."""
        fact = Fact(
            type=FactType.SENDING,
            subject=FactSubject.MESSAGE,
            at=utc_now(),
            **self._of_speech(meeting_id, act, speech),
        )
        if carried := self.ears.ask(fact):
            metadata = pack(speech.metadata, carried)
            return replace(speech, metadata=metadata, checksum=checksum(speech.content, metadata))
        return speech

    def acted(self, meeting_id: str, acted: Acted, act: Act | None, speech: NewSpeech | None) -> None:
        """A meeting has changed by an act; None: by time."""
        if speech is not None and acted.message_id is not None:
            assert act is not None
            self.tell(FactType.STORED, FactSubject.MESSAGE, **self._of_speech(meeting_id, act, speech))
        turn = acted.turn
        if turn is not None and (acted.ended_turn is not None or isinstance(act, Start)):
            self.tell(
                FactType.TURN_CHANGED,
                FactSubject.MEETING,
                meeting_id=meeting_id,
                turn=turn.number,
                recipient=self._name(turn.agent_id),
                how=_act(act),
            )
        if acted.status is MeetingStatus.ENDED:
            self.tell(FactType.ENDED, FactSubject.MEETING, meeting_id=meeting_id, how=_act(act))

    def act_refused(self, meeting_id: str, outcome: object, act: Act, speech: NewSpeech | None) -> None:
        """An act was not done."""
        type = FactType.REPEATED if isinstance(outcome, Duplicate) else FactType.REFUSED
        said = {"meeting_id": meeting_id, "sender": self._name(getattr(act, "agent_id", None)), "how": _act(act)}
        if speech is not None:
            said |= self._of_speech(meeting_id, act, speech)
        if type is FactType.REFUSED:
            said["reason"] = _word(outcome)
        self.tell(type, FactSubject.MEETING if speech is None else FactSubject.MESSAGE, **said)

    # --- what they say ------------------------------------------------------------------------------------------------

    def _name(self, id: str | None) -> str | None:
        return None if id is None else self.names.cached_name(id)

    def _of_group(self, group: NewGroup) -> dict[str, Any]:
        return {
            "kind": group.kind.value,
            "sender": self._name(group.sender_id),
            "conversation_thread": group.thread or None,
            "topic": None if group.publication is None else group.publication.topic,
            "size_bytes": size_of(group.content, group.metadata),
        }

    def _of_delivery(self, delivery: ClaimedDelivery) -> dict[str, Any]:
        turn = delivery.turn
        return {
            "message_id": delivery.message_id,
            "meeting_id": None if turn is None else turn.meeting_id,
            "turn": None if turn is None else turn.number,
            "kind": delivery.kind.value,
            "sender": self._name(delivery.sender_id),
            "recipient": self._name(delivery.recipient_id),
            "session_id": delivery.session_id,
            "conversation_thread": delivery.thread or None,
            "topic": delivery.topic,
            "claim": f"{self.mark}-{delivery.claim.seq}.{delivery.claim.token}",
            "attempt": delivery.claim.attempt,
            "traceparent": unpack(delivery.metadata).get(TRACEPARENT),
        }

    def _of_speech(self, meeting_id: str, act: Act, speech: NewSpeech) -> dict[str, Any]:
        return {
            "message_id": speech.message_id,
            "meeting_id": meeting_id,
            "kind": Kind.MEETING.value,
            "sender": self._name(getattr(act, "agent_id", None)),
            "size_bytes": size_of(speech.content, speech.metadata),
            "traceparent": unpack(speech.metadata).get(TRACEPARENT),
        }


def _subject(ask_timeout: float | None) -> FactSubject:
    return FactSubject.MESSAGE if ask_timeout is None else FactSubject.ASK


def _word(outcome: object) -> str:
    """The word for why nothing was stored: the code of an error, or the rule that refused it."""
    if isinstance(outcome, AgentMessagingError):
        return outcome.code
    if isinstance(outcome, Refused):
        return outcome.why.value
    if outcome is None:
        return "meeting_not_found"
    name = type(outcome).__name__
    return name[0].lower() + "".join(f"_{one.lower()}" if one.isupper() else one for one in name[1:])


def _act(act: Act | None) -> str:
    return "time" if act is None else type(act).__name__.lower()
