"""Storing groups of messages: the statements that read what `admission` needs to judge them, and those that store what
it accepts, in one commit.

Most groups need no question first: no key, agents that exist, room in the mailbox. They are stored by one statement,
and a foreign key that fails sends the call the long way. What another process changes between the reading and the
storing is caught by a constraint, and then the whole transaction is run again.

Most conversation messages concern nothing that is open: no ask waits for them, and their recipients wait for nobody.
That is presumed, so that the rules judge them beforehand, and one function of the server takes the locks, finds out
whether it is true, and stores them. If it is not, it stores nothing, and the call goes the long way.

Conversation messages take locks first (sql/asks.sql): nothing changes under the decision, because the sessions of all
pairs are locked, and so is every ask that may be answered. Two asks that could close a circle never miss each other:

    Two neighbours in a circle share an agent, the responder of one and the asker of the other, and are serialized by
    its lock until they commit. So one that does not see its successor (its recipient does not wait) is committed before
    the successor takes its locks. Whoever sees its successor takes the one lock "asks" before it reads the graph, and
    holds it until the commit. Let L be the last of a circle to commit: it sees its successor, so it takes that lock.
    Follow the successors from any other one up to the first that sees its own: each on the way is committed before the
    next one took its locks, and that first one, if it is not L, has had the lock "asks" and committed before L got it.
    So L sees them all. (Of several asks in one call the later see the earlier.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg

from ...exceptions import StorageBusyError
from ...ids import uuid7
from ...models import AskState
from ..admission import (
    Admission,
    Found,
    Graph,
    GraphMissing,
    Key,
    OpenAsk,
    Plan,
    Talk,
    Use,
    View,
    admit,
    askees_of,
    find_threads,
    is_conversation,
    judge_repeat,
    key_of,
    pair_of,
)
from ..circles import Place, Staff, WaitingAsk
from ..mailboxes import MailboxGauge
from ..ports import (
    CLAIM_MARGIN,
    MAIN,
    AppendOutcome,
    Claim,
    Duplicate,
    EndedAsk,
    KeyConflict,
    MailboxFull,
    NewGroup,
    Stored,
)
from ..sql import Queries
from ..topics import has_nobody
from . import parts, topics
from .engine import Connection, Engine, columns

_SQL = Queries(__package__, "deliveries")
_ASKS = Queries(__package__, "asks")
_TRIES = 5
_LATEST = datetime.max.replace(microsecond=999_998, tzinfo=UTC)
"""The driver sends the last instant that Python knows as infinity."""
_MOST_REACHED = 10_000
"""Open asks looked at for one circle; so many agents that wait for each other are not to be judged any more."""
ALL_AGENTS = ""
_MOST_AGENTS = 256
"""Of one call's asks that are locked one by one."""

_BY_KEY = (Stored, Duplicate, KeyConflict)
"""What the first call under a key, and its repeats, are answered with."""


class _LostRace(Exception):
    """Another process stored one of our keys first."""


class _InOtherThreads(Exception):
    """Messages may answer asks in other threads, whose sessions are to be locked with their own from the beginning."""

    def __init__(self, threads: dict[int, str]) -> None:
        super().__init__()
        self.threads = threads


class _RulesDecide(Exception):
    """There is more to a conversation message than was presumed."""


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
        trusting = presuming = not repeat
        threads: dict[int, str] = {}
        for _ in range(_TRIES):
            batch = _Batch(
                groups, owner, now, self._gauge, repeat=repeat, trusting=trusting, presuming=presuming, threads=threads
            )
            try:
                # Repeatable: message ids make a second try find what the first may have stored.
                await self._engine.run(batch.store, write=True, single=batch.is_plain, repeatable=True, budget=budget)
            except _InOtherThreads as error:
                threads = error.threads
            except _RulesDecide:
                presuming = False
            except _AgentsMissing:
                trusting = False
            except _AlreadyStored:  # an earlier try was committed after all
                repeat, trusting = True, False
            except _LostRace:
                continue
            else:
                batch.admission.fill(self._gauge)
                return batch.admission.outcomes
        raise StorageBusyError(
            "Other processes changed agents or used the same keys again and again; nothing was stored. Try again."
        )

    async def find_repeat(self, key: Key, fingerprint: str) -> AppendOutcome | None:
        known = await self._engine.run(lambda connection: _find_keys(connection, [key]), write=False)
        return judge_repeat(known[key], fingerprint) if key in known else None


class _Batch:
    """One call: what is known, what is decided. `store` may be run several times."""

    view: View
    opened: dict[Talk, str]
    """The sessions that were opened where there was none."""
    admission: Admission

    def __init__(
        self,
        groups: Sequence[NewGroup],
        owner: str,
        now: datetime | None,
        gauge: MailboxGauge,
        *,
        repeat: bool,
        trusting: bool,
        presuming: bool,
        threads: Mapping[int, str],
    ) -> None:
        self.groups = groups
        self.owner = owner
        self.now = now
        self.gauge = gauge
        self.repeat = repeat
        """Look first for what is already stored under these ids."""
        self.trusting = trusting
        """Believe that all agents exist."""
        self.threads = threads
        """Those that are looked into beside the messages' own, by the index of the group."""
        self.has_keys = any(group.idempotency_key is not None for group in groups)
        self.has_publications = any(group.publication is not None for group in groups)
        self.has_conversations = any(is_conversation(group) for group in groups)
        self.to_count = gauge.list_to_count(groups)
        needs_more = self.has_keys or self.has_publications or self.to_count or not trusting
        self.presumed = self._presume() if presuming and self.has_conversations and not needs_more else None
        """What becomes of the call if the store knows of nothing that concerns its conversation messages."""
        self.is_plain = not needs_more and (self.presumed is not None or not self.has_conversations)
        """Whether one statement does it."""

    def _presume(self) -> Admission | None:
        """Judge the call by itself; None if that is not to be had."""
        view = View(self.owner)
        view.found = {index: Found(group.thread) for index, group in enumerate(self.groups) if is_conversation(group)}
        if any(self.groups[index].only_if_expected or self.groups[index].is_streamed for index in view.found):
            return None
        try:
            admission = admit(self.groups, view)
        except GraphMissing:
            return None
        if len(admission.accepted) < len(self.groups):
            return None
        if any(plan is not None and (plan.is_done or plan.answered is not None) for _, _, plan in admission.accepted):
            return None
        return admission

    async def store(self, connection: Connection) -> None:
        """Decide and insert. When it runs again, the run before may have been committed."""
        self.repeat, again = True, self.repeat
        if self.presumed is not None and not again:
            await self._store_presumed(connection, self.presumed)
            return
        self.view = view = View(self.owner)
        self.opened = {}
        if self.has_publications:
            await topics.address(connection, self.groups, repeat=again)
            self.to_count = self.gauge.list_to_count(self.groups)
        if again:
            view.stored = await self._find_stored(connection)
        if self.has_keys:
            view.keys = await _find_keys(connection, filter(None, map(key_of, self.groups)))
        if not self.trusting or has_nobody(self.groups):
            view.missing = await self._find_missing_agents(connection)
        if self.to_count:
            view.counts = await self._count_open(connection)
        try:
            if self.has_conversations:
                await self._open_sessions(connection)
            await self._admit(connection)
            if self.opened:
                await self._correct_sessions(connection)
            if self.admission.accepted:
                if self.has_keys:
                    await self._insert_keys(connection)
                await self._insert(connection)
        except asyncpg.ForeignKeyViolationError:
            raise _AgentsMissing from None
        except asyncpg.UniqueViolationError:
            raise _AlreadyStored from None

    async def _store_presumed(self, connection: Connection, presumed: Admission) -> None:
        """Store the call in one statement, which finds out whether the presumption is true."""
        try:
            if len(self.groups) == 1:
                sql, values = _ASKS["append_plain_talk"], self._values_of_one(presumed)
            else:
                sql, values = _ASKS["append_plain_conversation"], self._values_of_presumed(presumed)
            rows = await connection.fetch(sql, *values)
        except asyncpg.ForeignKeyViolationError:
            raise _AgentsMissing from None
        except asyncpg.UniqueViolationError:
            raise _AlreadyStored from None
        there = {row["number"]: row for row in rows if row["number"] is not None}
        if 0 in there:
            raise _RulesDecide
        self.admission = Admission(
            accepted=[
                (
                    group,
                    replace(outcome, session_id=row["session_id"], waiters=frozenset(row["waiters"]))
                    if (row := there.get(number)) is not None
                    else outcome,
                    plan,
                )
                for number, (group, outcome, plan) in enumerate(presumed.accepted, 1)
            ]
        )
        self.admission.outcomes = [outcome for _, outcome, _ in self.admission.accepted]
        self._add_claims(rows)

    async def _admit(self, connection: Connection) -> None:
        await self._admit_with_graph(connection)
        if self.trusting and any(isinstance(outcome, MailboxFull) for outcome in self.admission.outcomes):
            # Of the refusals in `admission.HIDING` the only one here: what is said in a session has agents.
            self.view.missing = await self._find_missing_agents(connection)
            await self._admit_with_graph(connection)
        decided = zip(self.groups, self.admission.outcomes, strict=True)
        if any(group.idempotency_key and not isinstance(outcome, _BY_KEY) for group, outcome in decided):
            # Another process may have stored the same call since its key was looked for, and that be the reason.
            self.view.keys = await _find_keys(connection, filter(None, map(key_of, self.groups)))
            await self._admit_with_graph(connection)

    async def _admit_with_graph(self, connection: Connection) -> None:
        try:
            self.admission = admit(self.groups, self.view)
        except GraphMissing:
            self.view.graph = await lock_graph(connection, askees_of(self.groups))
            self.admission = admit(self.groups, self.view)

    # --- statements ---------------------------------------------------------------------------------------------------

    async def _find_stored(self, connection: Connection) -> dict[str, Stored]:
        ids = [delivery.message_id for group in self.groups for delivery in group.deliveries]
        rows = await connection.fetch(_SQL["append_find_stored"], ids, self.owner, self.now)
        return {row["message_id"]: _stored(row) for row in rows}

    async def _find_missing_agents(self, connection: Connection) -> set[str]:
        ids = {group.sender_id for group in self.groups}
        ids.update(delivery.recipient_id for group in self.groups for delivery in group.deliveries)
        return ids.difference(row["id"] for row in await connection.fetch(_SQL["append_find_agents"], sorted(ids)))

    async def _count_open(self, connection: Connection) -> dict[str, int]:
        rows = await connection.fetch(_SQL["append_count_open"], list(self.to_count), list(self.to_count.values()))
        counts = {row["recipient_id"]: row["open"] for row in rows}
        self.gauge.counted(counts, rows[0]["processes"], self.to_count)
        return counts

    async def _insert_keys(self, connection: Connection) -> None:
        rows = [
            (*key, group.fingerprint, "{" + ",".join(delivery.message_id for delivery in group.deliveries) + "}")
            for group, _, _ in self.admission.accepted
            if (key := key_of(group))
        ]
        if rows:
            inserted = await connection.fetch(_SQL["append_insert_keys"], *columns(rows, 5), self.now)
            if len(inserted) < len(rows):
                raise _LostRace

    async def _insert(self, connection: Connection) -> None:
        accepted = self.admission.accepted
        if any(plan is not None for _, _, plan in accepted):
            if streamed := [plan.message_id for group, _, plan in accepted if plan is not None and group.is_streamed]:
                await parts.begin(connection, streamed, self.owner)
            values = self._values_with_effects(self.admission)
            rows = await connection.fetch(_ASKS["append_insert_conversation"], *values)
        else:
            values = self._values(self.admission, CLAIM_MARGIN)
            rows = await connection.fetch(_SQL["append_insert_messages"], *values, _topics(self.admission))
        self._add_claims(rows)

    def _values_of_presumed(self, presumed: Admission) -> list[object]:
        talks = [number for number, (_, _, plan) in enumerate(presumed.accepted, 1) if plan is not None]
        groups = [self.groups[number - 1] for number in talks]
        openers: dict[Talk, tuple[str | None, str]] = {}
        for group in groups:
            openers.setdefault((pair_of(group), group.thread), (group.session_id, str(group.session_type)))
        asked = [
            (
                number,
                group.sender_id,
                group.deliveries[0].recipient_id,
                group.thread,
                group.within,
                group.ask_timeout is not None,
            )
            for number, group in zip(talks, groups, strict=True)
        ]
        return [
            *columns(_list_askers(groups), 2),
            *columns([(id, *pair, thread, type_) for (pair, thread), (id, type_) in sorted(openers.items())], 5),
            *columns(asked, 6),
            *self._values_with_effects(presumed),
        ]

    def _values_of_one(self, presumed: Admission) -> list[object]:
        """The same of the call's only message, by itself."""
        ((group, _, plan),) = presumed.accepted
        (delivery,) = group.deliveries
        return [
            group.sender_id,
            delivery.recipient_id,
            group.thread,
            group.session_id,
            str(group.session_type),
            group.within,
            self.now,
            delivery.message_id,
            delivery.claim,
            group.content,
            group.metadata,
            group.checksum,
            group.max_attempts,
            group.run_limit,
            _instant(group),
            group.expires_in,
            self.owner,
            group.ask_timeout,
            plan is not None and plan.notify,
            CLAIM_MARGIN,
        ]

    def _values(self, admission: Admission, margin: float) -> list[object]:
        """What every message comes with: for each delivery, and then for each group."""
        groups = [group for group, _, _ in admission.accepted]
        deliveries = [
            (delivery.message_id, delivery.recipient_id, number, delivery.claim)
            for number, group in enumerate(groups, 1)
            for delivery in group.deliveries
        ]
        messages = (
            (
                group.kind.value,
                group.sender_id,
                group.session_id if plan is None else plan.session_id,
                group.content,
                group.metadata,
                group.checksum,
                group.max_attempts,
                group.run_limit + margin,
                _instant(group),
                group.expires_in,
            )
            for group, _, plan in admission.accepted
        )
        return [self.now, *columns(deliveries, 4), *columns(messages, 10), self.owner]

    def _values_with_effects(self, admission: Admission) -> list[object]:
        """The same, and what the groups do beside storing their messages, where some are of conversations."""
        messages = (delivery.message_id for group, _, _ in admission.accepted for delivery in group.deliveries)
        positions = {message_id: position for position, message_id in enumerate(messages, 1)}
        effects = columns((_effects(group, plan, positions) for group, _, plan in admission.accepted), 9)
        return [*self._values(admission, 0.0), *effects, CLAIM_MARGIN, _topics(admission)]

    def _add_claims(self, rows: Sequence[Any]) -> None:
        claims = {row["message_id"]: Claim(row["seq"], 1, 1) for row in rows if row["message_id"] is not None}
        for group, outcome, _ in self.admission.accepted if claims else ():
            ids = (delivery.message_id for delivery in group.deliveries)
            outcome.claims.update((id, claims[id]) for id in ids if id in claims)

    # --- conversations ------------------------------------------------------------------------------------------------

    async def _open_sessions(self, connection: Connection) -> None:
        """Lock what the call's conversation messages are about, opening sessions, and then read it."""
        indexes = [
            index
            for index, group in enumerate(self.groups)
            if is_conversation(group) and self.view.answer(group, self.view.keys) is None
        ]
        if not indexes:
            return
        groups = [self.groups[index] for index in indexes]
        wanted = [(index, self.groups[index].thread) for index in indexes]
        others = [(index, self.threads[index]) for index in indexes if index in self.threads]
        openers: dict[Talk, tuple[str, str]] = {}
        for index, thread in (*wanted, *others):
            group = self.groups[index]
            # One that is looked into too has a session, unless it has just been ended: then it is opened in vain.
            id = group.session_id if thread == group.thread else uuid7()
            openers.setdefault((pair_of(group), thread), (str(id), str(group.session_type)))
        sessions = [(id, *pair, thread, type_) for (pair, thread), (id, type_) in sorted(openers.items())]
        rows = await connection.fetch(
            _ASKS["append_open_sessions"],
            *columns(_list_askers(groups), 2),
            *columns(sessions, 5),
            self.now,
        )
        opened = {row["opened_id"] for row in rows}
        self.opened = {talk: id for talk, (id, _) in openers.items() if id in opened}
        rows = await connection.fetch(
            _ASKS["append_find_pairs"],
            *columns([_wanted(self.groups[index], thread) for index, thread in (*wanted, *others)], 6),
            self.now,
        )
        found = {row["position"] - 1: row for row in rows}
        there = {index: _found(found[len(wanted) + at], thread, opened) for at, (index, thread) in enumerate(others)}
        self.view.found = {
            index: replace(_found(found[at], thread, opened), there=there.get(index))
            for at, (index, thread) in enumerate(wanted)
        }
        threads = find_threads(self.groups, self.view.found)
        if threads.keys() - self.threads:
            raise _InOtherThreads({**self.threads, **threads})

    async def _correct_sessions(self, connection: Connection) -> None:
        """Take back what was opened for a group that is refused, or pass it on to the first there that is not."""
        openers = {
            (pair_of(group), plan.thread): (plan.session_id, str(group.session_type))
            for group, _, plan in self.admission.accepted
            if plan is not None and plan.opens
        }
        corrections = [(opened_id, *openers.get(talk, (None, None))) for talk, opened_id in self.opened.items()]
        rows = [row for row in corrections if row[0] != row[1]]
        if rows:
            await connection.execute(_ASKS["append_correct_sessions"], *columns(rows, 3))


async def lock_graph(connection: Connection, askees: Set[str]) -> Graph:
    """Read what these agents wait for, one call at a time until the commit: see the proof above."""
    await connection.execute(_ASKS["append_lock_asks"])
    rows = await connection.fetch(_ASKS["append_find_reach"], sorted(askees), _MOST_REACHED)
    known = [WaitingAsk(**{**row, "place": Place(row["place"])}) for row in rows]
    agents = sorted(askees | {ask.responder for ask in known})
    staff = await connection.fetch(_ASKS["append_find_staff"], agents)
    return Graph(known, {row["agent_id"]: Staff(row["slots"], frozenset(row["runs"])) for row in staff})


def _effects(group: NewGroup, plan: Plan | None, positions: Mapping[str, int]) -> tuple[object, ...]:
    """What a group does beside storing its messages, in the order of `append_insert_conversation`."""
    if plan is None:
        return None, False, None, None, None, None, False, False, MAIN
    ask, answered = plan.ask, plan.answered
    return (
        group.ask_timeout,
        answered is not None,
        None if answered is None or answered.seq < 0 else answered.seq,
        ask and ask.taken_within,
        None if ask is None or ask.answer_id is None else positions[ask.answer_id],
        ask and ask.within,
        group.idempotency_key is not None,
        plan.notify,
        plan.thread,
    )


def _instant(group: NewGroup) -> datetime | None:
    """When it is due."""
    return None if group.deliver_at is None else min(group.deliver_at, _LATEST)


def _topics(admission: Admission) -> list[object]:
    topics = ((None if group.publication is None else group.publication.topic,) for group, _, _ in admission.accepted)
    return columns(topics, 1)[0]


def _wanted(group: NewGroup, thread: str) -> tuple[object, ...]:
    """What `append_find_pairs` is asked of a message in a thread."""
    answers = None if group.answers is None else str(group.answers)
    return group.sender_id, group.deliveries[0].recipient_id, group.within, answers, thread, group.is_anywhere


def _stored(row: Any) -> Stored:
    """What is there under one of the call's message ids."""
    answered_id = row["answered_id"]
    return Stored(
        {row["message_id"]: Claim(row["seq"], row["token"], row["attempt"])} if row["held"] else {},
        session_id=row["session_id"],
        answered=None if answered_id is None else EndedAsk(answered_id, AskState.REPLIED, row["answered_origin"]),
        waiters=frozenset(row["waiters"]),
        is_asked=row["is_asked"],
    )


def _found(row: Any, thread: str, opened: set[str]) -> Found:
    session_id = row["session_id"]
    return Found(
        thread,
        None if session_id in opened else session_id,
        mine=_open_ask(row, "own"),
        theirs=_open_ask(row, "other"),
        asks_others=row["waits_elsewhere"],
        waiters=frozenset(row["waiters"]),
        within=row["within"],
        asked_by_run=row["asked_by_run"],
        chained=row["chained"],
        taken_elsewhere=row["taken_elsewhere"] or (),
        open_elsewhere=row["open_elsewhere"] or (),
        is_answerable=row["answerable"],
    )


def _open_ask(row: Any, which: str) -> OpenAsk | None:
    """The ask of a pair in one direction: `own` of the sender, `other` of the recipient."""
    seq = row[f"{which}_seq"]
    if seq is None:
        return None
    return OpenAsk(seq, *(row[f"{which}_{name}"] for name in ("id", "origin", "within", "taken_within")))


def _list_askers(groups: Sequence[NewGroup]) -> list[tuple[str, bool]]:
    """The agents of asks to lock, in order, with whether they ask (and are not only asked).

    The first stands for all: shared as a rule; alone, if it were too many for the server's room for locks.
    """
    agents: dict[str, bool] = {}
    for group in groups:
        if group.ask_timeout is not None:
            agents[group.sender_id] = True
            agents.setdefault(group.deliveries[0].recipient_id, False)
    if len(agents) > _MOST_AGENTS:
        return [(ALL_AGENTS, True)]
    return [(ALL_AGENTS, False), *sorted(agents.items())] if agents else []


async def _find_keys(connection: Connection, keys: Iterable[Key]) -> dict[Key, Use]:
    rows = await connection.fetch(_SQL["append_find_keys"], *columns(sorted(set(keys)), 3))
    return {(row["sender_id"], row["call"], row["key"]): (row["fingerprint"], row["message_ids"]) for row in rows}
