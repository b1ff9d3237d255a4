"""Storing groups of messages: which of them are accepted, and the statements that store those in one commit.

Most groups need no question first: no key, agents that exist, room in the mailbox. They are stored by one statement,
and a foreign key that fails sends the call the long way. Whatever is read beforehand is judged in Python, group by
group; what another process changes meanwhile is caught by a constraint, and then the whole transaction is run again.

Conversation messages take locks first (sql/asks.sql), and are judged by `conversing`. Two asks that could close a
circle never miss each other:

    Two neighbours in a circle share an agent, the responder of one and the asker of the other, and are serialized by
    its lock until they commit. So one that does not see its successor (its recipient does not wait) is committed before
    the successor takes its locks. Whoever sees its successor takes the one lock "asks" before it reads the graph, and
    holds it until the commit. Let L be the last of a circle to commit: it sees its successor, so it takes that lock.
    Follow the successors from any other one up to the first that sees its own: each on the way is committed before the
    next one took its locks, and that first one, if it is not L, has had the lock "asks" and committed before L got it.
    So L sees them all. (Of several asks in one call the later see the earlier.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg

from ...exceptions import StorageBusyError
from ...models import AskState
from ..mailboxes import MailboxGauge, find_full
from ..ports import (
    CLAIM_MARGIN,
    AppendOutcome,
    Claim,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    NewGroup,
    Stored,
    UnknownAgents,
)
from ..sql import Queries
from .conversing import Graph, GraphMissing, Talk, Talks, is_talk, list_agents, pair_of
from .engine import Connection, Engine

_SQL = Queries(__package__, "deliveries")
_ASKS = Queries(__package__, "asks")
_TRIES = 5
_LATEST = datetime.max.replace(microsecond=999_998, tzinfo=UTC)
"""The driver sends the last instant that Python knows as infinity."""
_MOST_REACHED = 10_000
"""Open asks looked at for one circle; so many agents that wait for each other are not to be judged any more."""

_BY_KEY = (Stored, Duplicate, KeyConflict)
"""What the first call under a key, and its repeats, are answered with."""

Key = tuple[str, str, str]
"""Sender, call, idempotency key."""
Lane = tuple[str, str, str]
"""Recipient, kind, sender."""
Use = tuple[str, list[str]]
"""The fingerprint and the message ids a key was used for."""


class _LostRace(Exception):
    """Another process stored one of our keys first."""


class _AgentsMissing(Exception):
    """A foreign key failed."""


class _AlreadyStored(Exception):
    """A message with one of our ids is there."""


class Appender:
    """`DeliveryStore.append`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._gauge = MailboxGauge()

    async def append(
        self, groups: Sequence[NewGroup], *, owner: str, repeat: bool, budget: float | None, now: datetime | None
    ) -> list[AppendOutcome]:
        trusting = not repeat
        for _ in range(_TRIES):
            batch = _Batch(groups, owner, now, self._gauge, repeat=repeat, trusting=trusting)
            try:
                # Repeatable: message ids make a second try find what the first may have stored.
                await self._engine.run(batch.store, write=True, single=batch.is_plain, repeatable=True, budget=budget)
            except _AgentsMissing:
                trusting = False
            except _AlreadyStored:  # an earlier try was committed after all
                repeat, trusting = True, False
            except _LostRace:
                continue
            else:
                batch.note()
                return batch.outcomes
        raise StorageBusyError(
            "Other processes changed agents or used the same keys again and again; nothing was stored."
        )

    async def find_repeat(self, key: Key, fingerprint: str) -> AppendOutcome | None:
        known = await self._engine.run(lambda connection: _find_keys(connection, [key]), write=False)
        return _answer_repeat(known[key], fingerprint) if key in known else None


class _Batch:
    """One call: what is known, what is decided. `store` may be run several times."""

    def __init__(
        self,
        groups: Sequence[NewGroup],
        owner: str,
        now: datetime | None,
        gauge: MailboxGauge,
        *,
        repeat: bool,
        trusting: bool,
    ) -> None:
        self.groups = groups
        self.owner = owner
        self.now = now
        self.gauge = gauge
        self.repeat = repeat
        """Look first for what is already stored under these ids."""
        self.trusting = trusting
        """Believe that all agents exist."""
        self.has_keys = any(group.idempotency_key is not None for group in groups)
        self.has_talks = any(is_talk(group) for group in groups)
        self.wants_claims = any(delivery.claim for group in groups for delivery in group.deliveries)
        self.to_count = gauge.list_to_count(groups)
        self.outcomes: list[AppendOutcome] = []
        self.accepted: list[int] = []
        self.talks: dict[int, Talk] = {}

    @property
    def is_plain(self) -> bool:
        """Whether one statement does it."""
        return self.trusting and not (self.has_keys or self.has_talks or self.wants_claims or self.to_count)

    async def store(self, connection: Connection) -> None:
        """Decide and insert. When it runs again, the run before may have been committed."""
        self.repeat, again = True, self.repeat
        known = _Known()
        if again:
            known.stored = await self._find_stored(connection)
        if self.has_keys:
            known.keys = await _find_keys(connection, filter(None, map(_key, self.groups)))
        if not self.trusting:
            known.agents = await self._find_agents(connection)
        if self.to_count:
            known.counts = await self._count_open(connection)
        try:
            if self.has_talks:
                await self._open_sessions(connection, known)
            await self._decide_all(connection, known)
            if known.opened:
                await self._correct_sessions(connection, known)
            if self.accepted:
                if self.has_keys:
                    await self._insert_keys(connection)
                await self._insert(connection, known)
        except asyncpg.ForeignKeyViolationError:
            raise _AgentsMissing from None
        except asyncpg.UniqueViolationError:
            raise _AlreadyStored from None

    async def _decide_all(self, connection: Connection, known: _Known) -> None:
        await self._decide_with_graph(connection, known)
        if any(group.idempotency_key and not isinstance(outcome, _BY_KEY) for group, outcome in self._decided()):
            # Another process may have stored the same call since its key was looked for, and that be the reason.
            known.keys = await _find_keys(connection, filter(None, map(_key, self.groups)))
            await self._decide_with_graph(connection, known)

    def _decided(self) -> Iterable[tuple[NewGroup, AppendOutcome]]:
        return zip(self.groups, self.outcomes, strict=True)

    async def _decide_with_graph(self, connection: Connection, known: _Known) -> None:
        try:
            self._decide(known)
        except GraphMissing:
            known.graph = await self._find_graph(connection, known)
            self._decide(known)
        if known.agents is None and any(isinstance(outcome, MailboxFull) for outcome in self.outcomes):
            # That an agent is missing would have to be said first.
            known.agents = await self._find_agents(connection)
            self._decide(known)

    def _decide(self, known: _Known) -> None:
        self.outcomes, self.accepted = [], []
        keys, counts = dict(known.keys), dict(known.counts)
        talks = Talks(known.talks, frozenset(known.opened), self.owner, known.graph)
        for index, group in enumerate(self.groups):
            ids = [delivery.message_id for delivery in group.deliveries]
            key = _key(group)
            if (outcome := known.answer(group, keys)) is None:
                verdict = talks.judge(index, group) if is_talk(group) else None
                is_answer = isinstance(verdict, Talk) and verdict.answered is not None
                if verdict is not None and not isinstance(verdict, Talk):
                    outcome = verdict
                elif not is_answer and (full := find_full(group, counts.get)):
                    outcome = MailboxFull(full)
                else:
                    outcome = Stored() if verdict is None else talks.store(index, group, verdict)
                    self.accepted.append(index)
                    if key is not None:
                        keys[key] = (group.fingerprint, ids)
                    for delivery in group.deliveries:
                        if delivery.recipient_id in counts and not is_answer:
                            counts[delivery.recipient_id] += 1
            self.outcomes.append(outcome)
        self.talks = talks.stored

    def note(self) -> None:
        """After the commit: tell the gauge."""
        for index in self.accepted:
            if (talk := self.talks.get(index)) is None or talk.answered is None:
                for delivery in self.groups[index].deliveries:
                    self.gauge.added(delivery.recipient_id)

    # --- statements ---------------------------------------------------------------------------------------------------

    async def _find_stored(self, connection: Connection) -> dict[str, Any]:
        ids = [delivery.message_id for group in self.groups for delivery in group.deliveries]
        rows = await connection.fetch(_SQL["append_find_stored"], ids, self.owner, self.now)
        return {row["message_id"]: row for row in rows}

    async def _find_agents(self, connection: Connection) -> set[str]:
        ids = {group.sender_id for group in self.groups}
        ids.update(delivery.recipient_id for group in self.groups for delivery in group.deliveries)
        return {row["id"] for row in await connection.fetch(_SQL["append_find_agents"], sorted(ids))}

    async def _count_open(self, connection: Connection) -> dict[str, int]:
        rows = await connection.fetch(_SQL["append_count_open"], list(self.to_count), list(self.to_count.values()))
        counts = {row["recipient_id"]: row["open"] for row in rows}
        self.gauge.counted(counts, self.to_count)
        return counts

    async def _insert_keys(self, connection: Connection) -> None:
        rows = [
            (*key, group.fingerprint, "{" + ",".join(delivery.message_id for delivery in group.deliveries) + "}")
            for group in (self.groups[index] for index in self.accepted)
            if (key := _key(group))
        ]
        if rows:
            inserted = await connection.fetch(_SQL["append_insert_keys"], *_columns(rows, 5), self.now)
            if len(inserted) < len(rows):
                raise _LostRace

    async def _insert(self, connection: Connection, known: _Known) -> None:
        groups = [self.groups[index] for index in self.accepted]
        deliveries = [
            (delivery.message_id, delivery.recipient_id, number, delivery.claim)
            for number, group in enumerate(groups, 1)
            for delivery in group.deliveries
        ]
        if self.wants_claims and known.lanes is None:
            lanes = self._list_lanes(groups)
            rows = await connection.fetch(_SQL["append_lock_lanes"], *_columns(lanes, 3))
            known.lanes = {lanes[row["position"] - 1] for row in rows}
        # A claim is asked for only where the lane's lock was free.
        locked = known.lanes or set()
        deliveries = [
            (id, recipient, number, wanted and _lane(groups[number - 1], recipient) in locked)
            for id, recipient, number, wanted in deliveries
        ]
        values = [
            self.now,
            *_columns(deliveries, 4),
            [str(group.kind) for group in groups],
            [group.sender_id for group in groups],
            [
                self.talks[index].session_id if index in self.talks else self.groups[index].session_id
                for index in self.accepted
            ],
            [group.content for group in groups],
            [group.metadata for group in groups],
            [group.checksum for group in groups],
            [group.max_attempts for group in groups],
            [group.run_limit if self.talks else group.run_limit + CLAIM_MARGIN for group in groups],
            [None if group.deliver_at is None else min(group.deliver_at, _LATEST) for group in groups],
            [group.expires_in for group in groups],
            self.owner,
        ]
        if self.talks:
            positions = {
                self.accepted[number - 1]: position for position, (_, _, number, _) in enumerate(deliveries, 1)
            }
            values += self._list_effects(groups, positions)
            rows = await connection.fetch(_ASKS["append_insert_conversation"], *values, CLAIM_MARGIN)
        else:
            rows = await connection.fetch(_SQL["append_insert_messages"], *values)
        claims = {row["message_id"]: Claim(row["seq"], 1, 1) for row in rows}
        for index in self.accepted if claims else ():
            outcome = self.outcomes[index]
            assert isinstance(outcome, Stored)
            ids = (delivery.message_id for delivery in self.groups[index].deliveries)
            self.outcomes[index] = replace(outcome, claims={id: claims[id] for id in ids if id in claims})

    def _list_effects(self, groups: list[NewGroup], positions: Mapping[int, int]) -> list[list[Any]]:
        """Of each group, as columns: the timeout of an ask, and what `conversing` decided."""
        talks = [self.talks.get(index) for index in self.accepted]
        answered = [None if talk is None else talk.answered for talk in talks]
        return [
            [group.ask_timeout for group in groups],
            [ask is not None for ask in answered],
            [None if ask is None or ask.group is not None else ask.seq for ask in answered],
            [None if ask is None else ask.within or 0 for ask in answered],
            [None if talk is None or talk.replied_by is None else positions[talk.replied_by] for talk in talks],
            [None if talk is None else talk.within for talk in talks],
            [group.idempotency_key is not None for group in groups],
            [
                group.notify and talk is not None and not talk.waiters and not talk.is_asked
                for group, talk in zip(groups, talks, strict=True)
            ],
        ]

    # --- conversations ------------------------------------------------------------------------------------------------

    async def _open_sessions(self, connection: Connection, known: _Known) -> None:
        """Lock what the call's conversation messages are about, opening sessions, and then read it."""
        indexes = [
            index
            for index, group in enumerate(self.groups)
            if is_talk(group) and known.answer(group, known.keys) is None
        ]
        if not indexes:
            return
        groups = [self.groups[index] for index in indexes]
        openers = {pair_of(group): group for group in reversed(groups)}
        sessions = [(group.session_id, *pair, str(group.session_type)) for pair, group in sorted(openers.items())]
        lanes = self._list_lanes(self.groups)
        rows = await connection.fetch(
            _ASKS["append_open_sessions"],
            *_columns(list_agents(groups), 2),
            *_columns(sessions, 4),
            *_columns(lanes, 3),
            self.now,
        )
        known.opened = frozenset(row["opened_id"] for row in rows if row["opened_id"] is not None)
        known.lanes = {lanes[row["position"] - 1] for row in rows if row["locked"]}
        rows = await connection.fetch(
            _ASKS["append_find_pairs"],
            [group.sender_id for group in groups],
            [group.deliveries[0].recipient_id for group in groups],
            [group.within for group in groups],
            [None if group.answers is None else str(group.answers) for group in groups],
            self.now,
        )
        known.talks = {indexes[row["position"] - 1]: row for row in rows}

    async def _correct_sessions(self, connection: Connection, known: _Known) -> None:
        """Take back what was opened for a group that is refused, or pass it on to the first of its pair that is not."""
        openers: dict[str, int | None] = {}
        for index, row in known.talks.items():
            if (opened_id := row["session_id"]) in known.opened and openers.get(opened_id) is None:
                openers[opened_id] = index if index in self.talks else None
        rows: list[tuple[str, str | None, str | None]] = []
        for opened_id, opener in openers.items():
            if opener is None:
                rows.append((opened_id, None, None))
            elif (session_id := self.talks[opener].session_id) != opened_id:
                rows.append((opened_id, session_id, str(self.groups[opener].session_type)))
        if rows:
            await connection.execute(_ASKS["append_correct_sessions"], *_columns(rows, 3))

    async def _find_graph(self, connection: Connection, known: _Known) -> Graph:
        """One at a time, until the commit: see the proof above."""
        await connection.execute(_ASKS["append_lock_asks"])
        asked = {
            self.groups[index].deliveries[0].recipient_id for index in known.talks if self.groups[index].ask_timeout
        }
        reached = await connection.fetch(_ASKS["append_find_reach"], sorted(asked), _MOST_REACHED)
        agents = asked.union(row["responder"] for row in reached)
        return Graph.of(reached, await connection.fetch(_ASKS["append_find_staff"], sorted(agents)))

    @staticmethod
    def _list_lanes(groups: Sequence[NewGroup]) -> list[Lane]:
        """The lanes in which a claim is asked for, in order."""
        return sorted(
            {_lane(group, delivery.recipient_id) for group in groups for delivery in group.deliveries if delivery.claim}
        )


@dataclass(slots=True)
class _Known:
    """What was read for a call, and locked."""

    stored: dict[str, Any] = field(default_factory=dict)
    """What is there under the call's message ids."""
    keys: dict[Key, Use] = field(default_factory=dict)
    agents: set[str] | None = None
    """None: all are believed to exist."""
    counts: dict[str, int] = field(default_factory=dict)
    lanes: set[Lane] | None = None
    """Those whose locks were free; None: not tried yet."""
    opened: frozenset[str] = frozenset()
    """The sessions that were opened."""
    talks: dict[int, Any] = field(default_factory=dict)
    """By index of a conversation's group: its pair."""
    graph: Graph | None = None

    def answer(self, group: NewGroup, keys: Mapping[Key, Use]) -> AppendOutcome | None:
        """The outcome of a group that need not be judged."""
        rows = [row for delivery in group.deliveries if (row := self.stored.get(delivery.message_id)) is not None]
        if rows:
            return _answer_again(rows)
        key = _key(group)
        if key is not None and key in keys:
            return _answer_repeat(keys[key], group.fingerprint)
        if self.agents is not None and (missing := _missing(group, self.agents)):
            return UnknownAgents(missing)
        return None


def _answer_again(rows: list[Any]) -> Stored:
    first = rows[0]
    return Stored(
        {row["message_id"]: Claim(row["seq"], row["token"], row["attempt"]) for row in rows if row["held"]},
        session_id=first["session_id"],
        answered=None
        if first["answered_id"] is None
        else EndedAsk(first["answered_id"], AskState.REPLIED, first["answered_origin"]),
        waiters=frozenset(first["waiters"]),
        is_asked=first["is_asked"],
    )


def _lane(group: NewGroup, recipient_id: str) -> Lane:
    return recipient_id, str(group.kind), group.sender_id


def _key(group: NewGroup) -> Key | None:
    return None if group.idempotency_key is None else (group.sender_id, group.call, group.idempotency_key)


async def _find_keys(connection: Connection, keys: Iterable[Key]) -> dict[Key, Use]:
    rows = await connection.fetch(_SQL["append_find_keys"], *_columns(sorted(set(keys)), 3))
    return {(row["sender_id"], row["call"], row["key"]): (row["fingerprint"], row["message_ids"]) for row in rows}


def _answer_repeat(use: Use, fingerprint: str) -> AppendOutcome:
    known, message_ids = use
    return Duplicate(list(message_ids)) if known == fingerprint else KeyConflict()


def _missing(group: NewGroup, agents: set[str]) -> list[str]:
    ids = [group.sender_id, *(delivery.recipient_id for delivery in group.deliveries)]
    return [id for id in dict.fromkeys(ids) if id not in agents]


def _columns(rows: Iterable[tuple[object, ...]], number: int) -> list[list[object]]:
    """Rows as one array per column, also if there are none."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(number)]
