"""Bugs to put into the SDK, each of which breaks one promise: a judge that does not notice them is worth nothing.

Each takes a store and returns one that misbehaves, on any backend; those of the engine change it and return the store
as it is. They sit below the recording, which so sees what the engine is told.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from agent_messaging.delivery import abandonment, parts, runs
from agent_messaging.ids import uuid7
from agent_messaging.messaging.conversation import ask as asking
from agent_messaging.models import AskState, Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage import ports, topics
from agent_messaging.storage.assembly import rules, terms

Plant = Callable[[ports.Store], ports.Store]


def plant(name: str, store: ports.Store) -> ports.Store:
    """Put the bug of this name into the SDK of this process."""
    made: ports.Store = globals()[name](store)
    return made


class Passing:
    """Passes everything on to what it wraps; a plant overrides what it breaks."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def with_part(name: str, make: Callable[[Any], Any]) -> Plant:
    """A store of which this part misbehaves."""

    class Planted(Passing):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner)
            setattr(self, name, make(getattr(inner, name)))

    def planted(store: ports.Store) -> ports.Store:
        broken: Any = Planted(store)
        return broken  # type: ignore[no-any-return]

    return planted


def with_deliveries(make: Callable[[Any], Any]) -> Plant:
    """A store whose deliveries misbehave."""
    return with_part("deliveries", make)


class Changing(Passing):
    """Changes every delivery on its way from the store to a handler, however it was claimed there."""

    def change(self, delivery: ports.ClaimedDelivery) -> ports.ClaimedDelivery:
        raise NotImplementedError

    async def claim(self, *args: Any, **options: Any) -> list[ports.ClaimedDelivery]:
        return [self.change(delivery) for delivery in await self.inner.claim(*args, **options)]

    async def settle(self, *args: Any, **options: Any) -> ports.Settled:
        settled: ports.Settled = await self.inner.settle(*args, **options)
        return replace(settled, claimed=[self.change(delivery) for delivery in settled.claimed])


# --- storing ----------------------------------------------------------------------------------------------------------


class _Losing(Passing):
    """Tells some callers that their message is stored, and does not store it."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.calls = itertools.count(1)

    async def append(self, groups: Sequence[ports.NewGroup], **options: Any) -> list[ports.AppendOutcome]:
        lost = [next(self.calls) % 10 == 0 for _ in groups]
        kept = [group for group, is_lost in zip(groups, lost, strict=True) if not is_lost]
        outcomes = iter(await self.inner.append(kept, **options))
        return [ports.Stored() if is_lost else next(outcomes) for is_lost in lost]


class _Doubling(Passing):
    """Stores some messages twice."""

    async def append(self, groups: Sequence[ports.NewGroup], **options: Any) -> list[ports.AppendOutcome]:
        outcomes: list[ports.AppendOutcome] = await self.inner.append(groups, **options)
        first = groups[0]
        again = [ports.NewDelivery(uuid7(), one.recipient_id) for one in first.deliveries]
        await self.inner.append([replace(first, deliveries=again)], **options)
        return outcomes


class _Dropping(Passing):
    """Drops what does not fit into a mailbox, and says that it is stored."""

    async def append(self, groups: Sequence[ports.NewGroup], **options: Any) -> list[ports.AppendOutcome]:
        outcomes = await self.inner.append(groups, **options)
        return [ports.Stored() if isinstance(outcome, ports.MailboxFull) else outcome for outcome in outcomes]


class _Boundless(Passing):
    """Knows no bound of a mailbox."""

    async def append(self, groups: Sequence[ports.NewGroup], **options: Any) -> Any:
        return await self.inner.append([replace(group, mailbox_limit=None) for group in groups], **options)


# --- claiming and settling --------------------------------------------------------------------------------------------


class _Altering(Changing):
    """Changes a payload, and its checksum with it."""

    def change(self, delivery: ports.ClaimedDelivery) -> ports.ClaimedDelivery:
        content = json.dumps({**json.loads(delivery.content), "n": -1})
        return replace(delivery, content=content, checksum=checksum(content, delivery.metadata))


class _Patient(Changing):
    """Never gives up."""

    def change(self, delivery: ports.ClaimedDelivery) -> ports.ClaimedDelivery:
        return replace(delivery, max_attempts=1000)


class _Disordered(Passing):
    """Hands out whatever is there, the newest first."""

    async def claim(self, requests: Sequence[ports.ClaimRequest], **options: Any) -> list[ports.ClaimedDelivery]:
        claimed = await self.inner.claim([replace(request, ordered=False) for request in requests], **options)
        return list(reversed(claimed))

    async def settle(
        self, settlements: Sequence[ports.Settlement], requests: Sequence[ports.ClaimRequest] = (), **options: Any
    ) -> ports.Settled:
        anything = [replace(request, ordered=False) for request in requests]
        settled: ports.Settled = await self.inner.settle(settlements, anything, **options)
        return replace(settled, claimed=list(reversed(settled.claimed)))


class _Hasty(Passing):
    """Settles what it claims as done at once: a handler that is killed was never needed."""

    async def claim(self, requests: Sequence[ports.ClaimRequest], *, owner: str, **options: Any) -> Any:
        claimed = await self.inner.claim(requests, owner=owner, **options)
        await self._settle(claimed, owner)
        return claimed

    async def settle(self, *args: Any, owner: str, **options: Any) -> ports.Settled:
        settled: ports.Settled = await self.inner.settle(*args, owner=owner, **options)
        await self._settle(settled.claimed, owner)
        return settled

    async def _settle(self, claimed: Sequence[ports.ClaimedDelivery], owner: str) -> None:
        done = [ports.Settlement(delivery.claim, ports.Settling.DONE) for delivery in claimed]
        await self.inner.settle(done, owner=owner)


class _Unfenced(Passing):
    """Lets every settlement through, whoever has the message by now: it takes the newest token for its own."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.ids: dict[int, str] = {}

    async def claim(self, *args: Any, **options: Any) -> list[ports.ClaimedDelivery]:
        claimed: list[ports.ClaimedDelivery] = await self.inner.claim(*args, **options)
        self.ids.update((delivery.claim.seq, delivery.message_id) for delivery in claimed)
        return claimed

    async def settle(self, settlements: Sequence[ports.Settlement], *args: Any, **options: Any) -> ports.Settled:
        ids: Collection[str] = [self.ids[one.claim.seq] for one in settlements if one.claim.seq in self.ids]
        newest = {row.message_id: row.token for row in await self.inner.list_receipts(ids)}
        fresh = [
            replace(one, claim=replace(one.claim, token=newest.get(self.ids.get(one.claim.seq, ""), one.claim.token)))
            for one in settlements
        ]
        settled: ports.Settled = await self.inner.settle(fresh, *args, **options)
        self.ids.update((delivery.claim.seq, delivery.message_id) for delivery in settled.claimed)
        return replace(settled, moved=[True] * len(settlements))


class _Reusing(Changing):
    """Gives every claim the first token."""

    def change(self, delivery: ports.ClaimedDelivery) -> ports.ClaimedDelivery:
        return replace(delivery, claim=replace(delivery.claim, token=1))


# --- the living and the dead ------------------------------------------------------------------------------------------


def _find_dead_by(store: ports.Store, find_dead: Callable[[], Awaitable[list[str]]]) -> ports.Store:
    async def look() -> tuple[list[str], bool]:
        return await find_dead(), await store.presence.has_changed()

    store.presence.find_dead = find_dead  # type: ignore[method-assign, assignment]
    store.presence.look = look  # type: ignore[method-assign]
    return store


def deaf_to_death(store: ports.Store) -> ports.Store:
    """Nobody is ever found dead, so nobody's claims are taken over."""

    async def find_dead() -> list[str]:
        return []

    return _find_dead_by(store, find_dead)


def joining(store: ports.Store) -> ports.Store:
    """A reader goes on with the parts of another run as if they were of the same."""
    turn = parts.Reader._turn

    def turn_over(self: parts.Reader, page: ports.PartPage) -> None:
        turn(self, page)
        self._is_anew = False

    parts.Reader._turn = turn_over  # type: ignore[method-assign]
    return store


def gaping(store: ports.Store) -> ports.Store:
    """Some of what is written never comes."""
    wrote = parts.Sender.batch

    def batch(self: parts.Sender) -> ports.NewParts:
        whole = wrote(self)
        return replace(whole, parts=[part for part in whole.parts if part.number % 7])

    parts.Sender.batch = batch  # type: ignore[method-assign]
    return store


def burying_the_living(store: ports.Store) -> ports.Store:
    """Everybody else is dead."""

    async def find_dead() -> list[str]:
        return [
            process.process_id
            for process in await store.processes.list_processes(0.0)
            if process.ended_at is None and process.process_id != store.presence.process_id
        ]

    return _find_dead_by(store, find_dead)


# --- asks and sessions ------------------------------------------------------------------------------------------------


class _Mixing(Passing):
    """Gives every asker the first answer it has seen."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.first: ports.AnswerRow | None = None

    async def find_ended_asks(self, ask_ids: Sequence[str]) -> dict[str, ports.AskRow | None]:
        rows: dict[str, ports.AskRow | None] = await self.inner.find_ended_asks(ask_ids)
        for id, row in rows.items():
            if row is not None and row.answer is not None:
                self.first = self.first or row.answer
                rows[id] = replace(row, answer=self.first)
        return rows


class _Loose(Passing):
    """Takes whatever an agent says for the answer that its recipient waits for."""

    async def append(self, groups: Sequence[ports.NewGroup], **options: Any) -> list[ports.AppendOutcome]:
        outcomes: list[ports.AppendOutcome] = []
        for group in groups:
            meant = replace(group, answers=ports.Answering.REQUIRED, within=None)
            is_talk = group.kind is Kind.CONVERSATION
            [outcome] = await self.inner.append([meant if is_talk else group], **options)
            if isinstance(outcome, ports.NotWaiting):
                [outcome] = await self.inner.append([group], **options)
            outcomes.append(outcome)
        return outcomes


class _LeavingOpen(Passing):
    """Tells askers that their time is over, and leaves their asks open."""

    async def close_asks(self, ask_ids: Collection[str], state: AskState, **_: Any) -> list[ports.AskRow]:
        rows = await self.inner.find_asks(ask_ids)
        return [replace(row, state=state) if row.state is AskState.OPEN else row for row in rows]


def untold(store: ports.Store) -> ports.Store:
    """No run learns that its asker has gone."""
    abandonment.Abandonment._ended = lambda self, ask: None  # type: ignore[method-assign]
    return store


def premature(store: ports.Store) -> ports.Store:
    """Each run is told at once that its asker has gone."""

    async def wait(asker: abandonment.Abandonment) -> None:
        asker._has_left = True

    abandonment.Abandonment.wait_until_left = wait  # type: ignore[method-assign, assignment]
    return store


class _Timeless(Passing):
    """Lets no time pass."""

    async def advance(self, **_: Any) -> ports.Advanced:
        return ports.Advanced(0, set(), 0, None)


class _Hiding(Passing):
    """Hides the first message of each log while their number is odd."""

    async def list_messages(self, id: str, **options: Any) -> list[ports.MessageRow]:
        rows: list[ports.MessageRow] = await self.inner.list_messages(id, **options)
        return rows[len(rows) % 2 :]


def impatient(store: ports.Store) -> ports.Store:
    """Askers give up at half their time."""
    wait = asking.Ask.wait

    async def give_up_early(ask: asking.Ask, **options: Any) -> Any:
        ask.deadline -= ask.timeout / 2
        return await wait(ask, **options)

    asking.Ask.wait = give_up_early  # type: ignore[method-assign, assignment]
    return store


def belated(store: ports.Store) -> ports.Store:
    """Askers are told that their time is over a second too late."""
    asking.GIVING_UP = 5.0
    wait = asking.Ask.wait

    async def give_up_late(ask: asking.Ask, **options: Any) -> Any:
        ask.deadline += 1.0
        ask.draft.ask_timeout = ask.timeout + 1.0
        return await wait(ask, **options)

    asking.Ask.wait = give_up_late  # type: ignore[method-assign, assignment]
    return store


# --- meetings ---------------------------------------------------------------------------------------------------------


class _Unbound(Passing):
    """Lets whoever has the turn speak, whatever turn the speech was meant for."""

    async def act(self, meeting_id: str, act: terms.Act, **options: Any) -> Any:
        if isinstance(act, terms.Speak):
            act = replace(act, number=None)
        return await self.inner.act(meeting_id, act, **options)


class _Sleeping(Passing):
    """Ends no turn by time."""

    async def time_out(self, limit: int, **_: Any) -> ports.TimedOut:
        return ports.TimedOut({}, None)


def unfair(store: ports.Store) -> ports.Store:
    """The turn goes back to the host each time."""

    def following(meeting: terms.Assembly, *_: Any, **__: Any) -> str:
        return meeting.host_id

    rules._following = following
    return store


def stuttering(store: ports.Store) -> ports.Store:
    """Tells twice that a turn has ended by time."""
    time_out = rules._time_out

    def tell_twice(meeting: terms.Assembly, number: int) -> terms.Decision:
        decision = time_out(meeting, number)
        if isinstance(decision, terms.Changes):
            decision.events = [decision.events[0], *decision.events]
        return decision

    rules._time_out = tell_twice
    return store


def outlasting(store: ports.Store) -> ports.Store:
    """A turn has all its time, however little the meeting has left."""
    new_turn = rules._new_turn

    def whole(meeting: terms.Assembly, *args: Any, **options: Any) -> terms.NewTurn:
        return new_turn(replace(meeting, left=None), *args, **options)

    rules._new_turn = whole
    return store


# --- topics -----------------------------------------------------------------------------------------------------------


def overlooking(store: ports.Store) -> ports.Store:
    """A `*` at the end of a pattern matches nothing."""
    list_patterns = topics.list_patterns

    def overlook(topic: str) -> list[str]:
        return [pattern for pattern in list_patterns(topic) if not pattern.endswith("*")]

    topics.list_patterns = overlook
    return store


# --- passing on -------------------------------------------------------------------------------------------------------


def forking(store: ports.Store) -> ports.Store:
    """Passes an ask on, and leaves a copy of it on the way."""

    class Forking(Passing):
        async def forward(self, wanted: ports.NewForward, **options: Any) -> ports.ForwardOutcome:
            outcome: ports.ForwardOutcome = await self.inner.forward(wanted, **options)
            if isinstance(outcome, ports.Forwarded):
                rows = await store.sessions.list_messages(outcome.session_id, limit=1_000)
                [ask] = [row for row in rows if row.message_id == wanted.message_id]
                copy = ports.NewGroup(
                    kind=ask.kind,
                    sender_id=ask.sender_id,
                    content=ask.content,
                    metadata=ask.metadata,
                    checksum=ask.checksum,
                    deliveries=[ports.NewDelivery(uuid7(), wanted.to_id)],
                    max_attempts=1,
                    run_limit=60.0,
                    session_id=uuid7(),
                )
                await store.deliveries.append([copy], owner=options["owner"])
            return outcome

    return with_part("forwarding", Forking)(store)


class _Keeping(Passing):
    """Says that it has passed an ask on, and leaves it where it is."""

    async def forward(self, wanted: ports.NewForward, **_: Any) -> ports.ForwardOutcome:
        return ports.Forwarded(wanted.holder_id, wanted.session_id, 1.0)

    async def list_hops(self, message_ids: Collection[str]) -> list[ports.Hop]:
        return []


# --- the engine -------------------------------------------------------------------------------------------------------


def handling_twice(store: ports.Store) -> ports.Store:
    """Each run calls its handler a second time."""
    run_handler: Any = runs.run_handler  # type: ignore[attr-defined]

    async def run_twice(*args: Any, **options: Any) -> object:
        await run_handler(*args, **options)
        return await run_handler(*args, **options)

    runs.run_handler = run_twice  # type: ignore[attr-defined]
    return store


losing = with_deliveries(_Losing)
doubling = with_deliveries(_Doubling)
dropping = with_deliveries(_Dropping)
boundless = with_deliveries(_Boundless)
altering = with_deliveries(_Altering)
patient = with_deliveries(_Patient)
disordered = with_deliveries(_Disordered)
hasty = with_deliveries(_Hasty)
unfenced = with_deliveries(_Unfenced)
reusing = with_deliveries(_Reusing)
loose = with_deliveries(_Loose)
mixing = with_part("sessions", _Mixing)
leaving_open = with_part("sessions", _LeavingOpen)
timeless = with_deliveries(_Timeless)
hiding = with_part("sessions", _Hiding)
keeping = with_part("forwarding", _Keeping)
hiding_speeches = with_part("meetings", _Hiding)
unbound = with_part("meetings", _Unbound)
sleeping = with_part("meetings", _Sleeping)
