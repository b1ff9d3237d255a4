"""Storing groups of messages: which of them are accepted, and the statements that store those in one commit.

Most groups need no question first: no key, agents that exist, room in the mailbox. They are stored by one statement,
and a foreign key that fails sends the call the long way. Whatever is read beforehand is judged in Python, group by
group; what another process changes meanwhile is caught by a constraint, and then the whole transaction is run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from ...exceptions import StorageBusyError
from ..mailboxes import MailboxGauge
from ..ports import (
    CLAIM_MARGIN,
    AppendOutcome,
    Claim,
    Duplicate,
    KeyConflict,
    MailboxFull,
    NewGroup,
    Stored,
    UnknownAgents,
)
from ..sql import Queries
from .engine import Connection, Engine

_SQL = Queries(__package__, "deliveries")
_TRIES = 5

Key = tuple[str, str, str]
"""Sender, call, idempotency key."""
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
        self, groups: Sequence[NewGroup], *, owner: str, repeat: bool, now: datetime | None
    ) -> list[AppendOutcome]:
        trusting = not repeat
        for _ in range(_TRIES):
            batch = _Batch(groups, owner, now, self._gauge, repeat=repeat, trusting=trusting)
            try:
                # Repeatable: message ids make a second try find what the first may have stored.
                await self._engine.run(batch.store, write=True, single=batch.is_plain, repeatable=True)
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
        self.wants_claims = any(delivery.claim for group in groups for delivery in group.deliveries)
        self.to_count = self._find_to_count()
        self.outcomes: list[AppendOutcome] = []
        self.accepted: list[int] = []

    @property
    def is_plain(self) -> bool:
        """Whether one statement does it."""
        return self.trusting and not (self.has_keys or self.wants_claims or self.to_count)

    def _find_to_count(self) -> dict[str, int]:
        """The recipients whose mailboxes must be counted, with the limit up to which."""
        adding: dict[str, int] = {}
        limits: dict[str, int] = {}
        for group in self.groups:
            if group.mailbox_limit is not None:
                for delivery in group.deliveries:
                    recipient = delivery.recipient_id
                    adding[recipient] = adding.get(recipient, 0) + 1
                    limits[recipient] = max(limits.get(recipient, 0), group.mailbox_limit)
        return {
            recipient: limit
            for recipient, limit in limits.items()
            if self.gauge.must_count(recipient, limit, adding[recipient])
        }

    async def store(self, connection: Connection) -> None:
        """Decide and insert. When it runs again, the run before may have been committed."""
        self.repeat, again = True, self.repeat
        stored = await self._find_stored(connection) if again else {}
        keys = await _find_keys(connection, filter(None, map(_key, self.groups))) if self.has_keys else {}
        agents = None if self.trusting else await self._find_agents(connection)
        counts = await self._count_open(connection) if self.to_count else {}
        self._decide(stored, dict(keys), agents, dict(counts))
        if agents is None and any(isinstance(outcome, MailboxFull) for outcome in self.outcomes):
            # That an agent is missing would have to be said first.
            self._decide(stored, keys, await self._find_agents(connection), counts)
        if self.accepted:
            try:
                if self.has_keys:
                    await self._insert_keys(connection)
                await self._insert(connection)
            except asyncpg.ForeignKeyViolationError:
                raise _AgentsMissing from None
            except asyncpg.UniqueViolationError:
                raise _AlreadyStored from None

    def _decide(
        self,
        stored: dict[str, Claim | None],
        keys: dict[Key, Use],
        agents: set[str] | None,
        counts: dict[str, int],
    ) -> None:
        self.outcomes, self.accepted = [], []
        for index, group in enumerate(self.groups):
            ids = [delivery.message_id for delivery in group.deliveries]
            key = _key(group)
            outcome: AppendOutcome
            if any(id in stored for id in ids):
                outcome = Stored({id: claim for id in ids if (claim := stored.get(id))})
            elif key is not None and key in keys:
                outcome = _answer_repeat(keys[key], group.fingerprint)
            elif agents is not None and (missing := _missing(group, agents)):
                outcome = UnknownAgents(missing)
            elif full := self._find_full(group, counts):
                outcome = MailboxFull(full)
            else:
                outcome = Stored()
                self.accepted.append(index)
                if key is not None:
                    keys[key] = (group.fingerprint, ids)
                for delivery in group.deliveries:
                    if delivery.recipient_id in counts:
                        counts[delivery.recipient_id] += 1
            self.outcomes.append(outcome)

    def _find_full(self, group: NewGroup, counts: dict[str, int]) -> list[str]:
        """The recipients without room. One that was not counted has room, as the gauge says."""
        if group.mailbox_limit is None:
            return []
        adding: dict[str, int] = {}
        for delivery in group.deliveries:
            adding[delivery.recipient_id] = adding.get(delivery.recipient_id, 0) + 1
        return [
            recipient
            for recipient, number in adding.items()
            if recipient in counts and counts[recipient] + number > group.mailbox_limit
        ]

    def note(self) -> None:
        """After the commit: tell the gauge."""
        for index in self.accepted:
            for delivery in self.groups[index].deliveries:
                self.gauge.added(delivery.recipient_id)

    # --- statements ---------------------------------------------------------------------------------------------------

    async def _find_stored(self, connection: Connection) -> dict[str, Claim | None]:
        ids = [delivery.message_id for group in self.groups for delivery in group.deliveries]
        rows = await connection.fetch(_SQL["append_find_stored"], ids, self.owner)
        return {
            row["message_id"]: Claim(row["seq"], row["token"], row["attempt"]) if row["held"] else None for row in rows
        }

    async def _find_agents(self, connection: Connection) -> set[str]:
        ids = {group.sender_id for group in self.groups}
        ids.update(delivery.recipient_id for group in self.groups for delivery in group.deliveries)
        return {row["id"] for row in await connection.fetch(_SQL["append_find_agents"], sorted(ids))}

    async def _count_open(self, connection: Connection) -> dict[str, int]:
        rows = await connection.fetch(
            _SQL["append_count_open"], list(self.to_count), [limit + 1 for limit in self.to_count.values()]
        )
        counts = {row["recipient_id"]: row["open"] for row in rows}
        self.gauge.counted(counts)
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

    async def _insert(self, connection: Connection) -> None:
        groups = [self.groups[index] for index in self.accepted]
        deliveries = [
            (delivery.message_id, delivery.recipient_id, number, delivery.claim)
            for number, group in enumerate(groups, 1)
            for delivery in group.deliveries
        ]
        if self.wants_claims:
            deliveries = await self._lock_lanes(connection, groups, deliveries)
        rows = await connection.fetch(
            _SQL["append_insert_messages"],
            self.now,
            *_columns(deliveries, 4),
            [str(group.kind) for group in groups],
            [group.sender_id for group in groups],
            [group.session_id for group in groups],
            [group.content for group in groups],
            [group.metadata for group in groups],
            [group.checksum for group in groups],
            [group.max_attempts for group in groups],
            [group.run_limit + CLAIM_MARGIN for group in groups],
            [group.deliver_at for group in groups],
            [group.expires_in for group in groups],
            self.owner,
        )
        claims = {row["message_id"]: Claim(row["seq"], 1, 1) for row in rows}
        for index in self.accepted:
            ids = (delivery.message_id for delivery in self.groups[index].deliveries)
            self.outcomes[index] = Stored({id: claims[id] for id in ids if id in claims} if claims else {})

    async def _lock_lanes(
        self, connection: Connection, groups: list[NewGroup], deliveries: list[tuple[str, str, int, bool]]
    ) -> list[tuple[str, str, int, bool]]:
        """Ask for a claim only where the lane's lock was free."""
        lanes = {
            (recipient, str(groups[number - 1].kind), groups[number - 1].sender_id)
            for _, recipient, number, wanted in deliveries
            if wanted
        }
        ordered = sorted(lanes)
        rows = await connection.fetch(_SQL["append_lock_lanes"], *_columns(ordered, 3))
        locked = {ordered[row["position"] - 1] for row in rows}
        return [
            (
                id,
                recipient,
                number,
                wanted and (recipient, str(groups[number - 1].kind), groups[number - 1].sender_id) in locked,
            )
            for id, recipient, number, wanted in deliveries
        ]


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
