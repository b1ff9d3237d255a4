"""A store that writes to a history what a program around the SDK cannot see: claims and settlements, with tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from ..kinds import FACTS
from ..storage import ports
from ..storage.assembly.terms import Act, Refused
from .dumping import value_of
from .history import Chronicle, Sending

P = TypeVar("P")


class _Recorder(Generic[P]):
    """A part of the store that writes some of its calls to a history, and passes on the others."""

    def __init__(self, inner: P, history: Chronicle) -> None:
        self._inner = inner
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class RecordingDeliveries(_Recorder[ports.DeliveryStore]):
    """A `DeliveryStore` that writes claims, settlements, withdrawals and redrives to a history.

    With `sends` also what is appended, each group as one call whose value is its first message id; leave it out where
    the callers log their own calls.
    """

    def __init__(self, deliveries: ports.DeliveryStore, history: Chronicle, *, sends: bool = False) -> None:
        super().__init__(deliveries, history)
        self._sends = sends
        self._claimed: dict[int, str] = {}
        """Message ids of the open claims, which a settlement names by their seq alone."""

    async def append(
        self,
        groups: Sequence[ports.NewGroup],
        *,
        owner: str,
        repeat: bool = False,
        budget: float | None = None,
        now: datetime | None = None,
    ) -> list[ports.AppendOutcome]:
        # Whom a publication goes to is known when it is stored: it is recorded then.
        calls = [None if group.publication else self._start_call(group) for group in groups] if self._sends else []
        since = time.monotonic_ns()
        try:
            outcomes = await self._inner.append(groups, owner=owner, repeat=repeat, budget=budget, now=now)
        except BaseException as error:
            for call in filter(None, calls):
                call.fail(error)
            raise
        for begun, group, outcome in zip(calls, groups, outcomes, strict=False):
            self._end_call(begun or self._start_call(group), group, outcome)
        for group, outcome in zip(groups, outcomes, strict=True):
            if isinstance(outcome, ports.Stored):
                if group.ask_timeout is not None:
                    self._record_ask(group, since)
                for message_id, claim in outcome.claims.items():
                    self._record_claim(message_id, claim, owner, since, again=repeat)
        return outcomes

    async def claim(
        self, requests: Sequence[ports.ClaimRequest], *, owner: str, now: datetime | None = None
    ) -> list[ports.ClaimedDelivery]:
        since = time.monotonic_ns()
        claimed = await self._inner.claim(requests, owner=owner, now=now)
        self._record_claims(claimed, owner, since)
        return claimed

    async def settle(
        self,
        settlements: Sequence[ports.Settlement],
        requests: Sequence[ports.ClaimRequest] = (),
        *,
        owner: str,
        now: datetime | None = None,
    ) -> ports.Settled:
        since = time.monotonic_ns()
        settled = await self._inner.settle(settlements, requests, owner=owner, now=now)
        for settlement, moved in zip(settlements, settled.moved, strict=True):
            claim = settlement.claim
            self._history.record(
                "settle.ok" if moved else "settle.stale",
                message=self._claimed.pop(claim.seq, None),
                seq=claim.seq,
                token=claim.token,
                how=settlement.how.value,
                reason=settlement.reason,
                since=since,
            )
        self._record_claims(settled.claimed, owner, since)
        return settled

    async def withdraw(self, message_ids: Collection[str]) -> list[str]:
        since = time.monotonic_ns()
        withdrawn = await self._inner.withdraw(message_ids)
        for message_id in withdrawn:
            self._history.record("withdraw", message=message_id, since=since)
        return withdrawn

    async def redrive(self, message_ids: Collection[str] | None, recipient_id: str | None) -> list[tuple[str, str]]:
        since = time.monotonic_ns()
        redriven = await self._inner.redrive(message_ids, recipient_id)
        for message_id, _ in redriven:
            self._history.record("redrive", message=message_id, since=since)
        return redriven

    def _start_call(self, group: ports.NewGroup) -> Sending:
        return self._history.sending(
            group.sender_id,
            [delivery.recipient_id for delivery in group.deliveries],
            json.loads(group.content),
            value=group.deliveries[0].message_id if group.publication is None else group.publication.first_id,
            kind=group.kind.value,
            ids=[delivery.message_id for delivery in group.deliveries],
            scheduled=group.deliver_at is not None,
            expires=group.expires_in is not None or group.ask_timeout is not None,
        )

    @staticmethod
    def _end_call(call: Sending, group: ports.NewGroup, outcome: ports.AppendOutcome) -> None:
        match outcome:
            case ports.Stored():
                call.accept(delivery.message_id for delivery in group.deliveries)
            case ports.Duplicate(message_ids):
                call.accept(message_ids)
            case ports.KeyConflict():
                call.refuse("idempotency_conflict")
            case ports.UnknownAgents():
                call.refuse("agent_not_found")
            case ports.MailboxFull():
                call.refuse("mailbox_full")
            case ports.TooManySubscribers():
                call.refuse("too_many_subscribers")
            case ports.NotWaiting():
                call.refuse("session_state")
            case ports.SessionLocked():
                call.refuse("session_lock")
            case ports.MutualWait():
                call.refuse("mutual_wait")

    def _record_ask(self, group: ports.NewGroup, since: int) -> None:
        content = json.loads(group.content)
        self._history.record(
            "ask.open",
            message=group.deliveries[0].message_id,
            value=content.get("value") if isinstance(content, dict) else None,
            timeout=group.ask_timeout,
            thread=group.thread or None,
            since=since,
        )

    def _record_claims(self, claimed: Sequence[ports.ClaimedDelivery], owner: str, since: int) -> None:
        for delivery in claimed:
            if FACTS[delivery.kind].is_sent:
                self._record_claim(delivery.message_id, delivery.claim, owner, since)

    def _record_claim(
        self, message_id: str, claim: ports.Claim, owner: str, since: int, *, again: bool = False
    ) -> None:
        self._claimed[claim.seq] = message_id
        self._history.record(
            "claim",
            message=message_id,
            seq=claim.seq,
            token=claim.token,
            attempt=claim.attempt,
            owner=owner,
            since=since,
            again=again or None,
        )


class RecordingMeetings(_Recorder[ports.MeetingStore]):
    """A `MeetingStore` that writes to a history what acts and time change, and what is refused."""

    async def act(
        self, meeting_id: str, act: Act, **options: Any
    ) -> ports.Acted | Refused | ports.Duplicate | ports.KeyConflict | None:
        since = time.monotonic_ns()
        outcome = await self._inner.act(meeting_id, act, **options)
        name, number = type(act).__name__.lower(), getattr(act, "number", None)
        speech = options.get("speech")
        value = value_of(speech.content) if speech is not None else None
        if isinstance(outcome, ports.Acted):
            self._record(meeting_id, name, outcome, since, number, value)
        elif isinstance(outcome, Refused):
            why = outcome.why.value
            self._history.record("act.no", meeting=meeting_id, act=name, number=number, why=why, value=value)
        return outcome

    async def time_out(self, limit: int, **options: Any) -> ports.TimedOut:
        since = time.monotonic_ns()
        changed = await self._inner.time_out(limit, **options)
        for meeting_id, acted in changed.meetings.items():
            self._record(meeting_id, "time_out", acted, since)
        return changed

    def _record(
        self,
        meeting_id: str,
        act: str,
        acted: ports.Acted,
        since: int,
        number: int | None = None,
        value: str | None = None,
    ) -> None:
        turn = acted.turn
        self._history.record(
            "act.ok",
            meeting=meeting_id,
            act=act,
            number=number,
            value=value,
            ended_turn=acted.ended_turn,
            turn=turn.number if turn else None,
            holder=turn.agent_id if turn else None,
            since=since,
        )


class RecordingSessions(_Recorder[ports.SessionStore]):
    """A `SessionStore` that writes to a history who has begun to wait for messages."""

    async def register_wait(self, wait: ports.NewWait, **options: Any) -> bool:
        registered = await self._inner.register_wait(wait, **options)
        if registered:
            self._history.record("wait", recipient=wait.recipient_id, sender=wait.sender_id)
        return registered


class RecordingStore(_Recorder[ports.Store]):
    """A store whose deliveries, waits and meetings are recorded; everything else is passed on."""

    def __init__(self, store: ports.Store, history: Chronicle, *, sends: bool = False) -> None:
        super().__init__(store, history)
        self.deliveries = RecordingDeliveries(store.deliveries, history, sends=sends)

    @property
    def sessions(self) -> RecordingSessions:
        return RecordingSessions(self._inner.sessions, self._history)

    @property
    def meetings(self) -> RecordingMeetings:
        return RecordingMeetings(self._inner.meetings, self._history)
