"""Agents to write between, and short forms of the port's verbs, so that a test shows only what it is about."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ...ids import uuid7 as new_id
from ...models import DeliveryState, Kind
from ...payloads import checksum
from ...storage.ports import (
    AppendOutcome,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeliveryStore,
    NewDelivery,
    NewGroup,
    ReceiptRow,
    Settled,
    Settlement,
    Settling,
    Store,
    Stored,
)

RUN_LIMIT = 30.0
"""Seconds a run may take, where a test does not say otherwise."""


@dataclass(slots=True)
class World:
    """One organization with four agents in a store, at an instant from which a test counts."""

    store: Store
    organization_id: str
    alice: str
    bob: str
    carol: str
    dave: str
    owner: str
    """The process the world acts as where a test names none."""
    start: datetime

    @classmethod
    async def create(cls, store: Store) -> World:
        """Add an organization of its own to the store, with its agents."""
        mark = uuid.uuid4().hex
        organization = await store.directory.add_organization(new_id(), f"org-{mark}", "Org", update_name=False)
        # Sorted, so that the round of the lanes is alice, bob, carol, dave.
        ids = sorted(new_id() for _ in range(4))
        for name, id in zip(("alice", "bob", "carol", "dave"), ids, strict=True):
            agent = await store.directory.add_agent(
                id, f"{name}-{mark}", str(organization.id), name.title(), update_name=False
            )
            assert agent is not None
        alice, bob, carol, dave = ids
        return cls(store, str(organization.id), alice, bob, carol, dave, new_id(), datetime.now(UTC))

    @property
    def deliveries(self) -> DeliveryStore:
        """The port most tests are about."""
        return self.store.deliveries

    def at(self, seconds: float) -> datetime:
        """The instant so many seconds after the world's start."""
        return self.start + timedelta(seconds=seconds)

    def group(
        self,
        sender: str | None = None,
        recipients: str | Sequence[str] | None = None,
        *,
        content: str = '"hello"',
        metadata: str | None = None,
        kind: Kind = Kind.ONE_WAY,
        claim: bool = False,
        **options: Any,
    ) -> NewGroup:
        """One call's messages, from alice to bob where not said otherwise."""
        if recipients is None:
            recipients = [self.bob]
        elif isinstance(recipients, str):
            recipients = [recipients]
        options = {"max_attempts": 5, "run_limit": RUN_LIMIT, "checksum": checksum(content, metadata), **options}
        return NewGroup(
            kind=kind,
            sender_id=sender or self.alice,
            content=content,
            metadata=metadata,
            deliveries=[NewDelivery(new_id(), recipient, claim) for recipient in recipients],
            **options,
        )

    async def append(
        self, *groups: NewGroup, owner: str | None = None, now: datetime | None = None, repeat: bool = False
    ) -> list[AppendOutcome]:
        """Append, as the world's process at the world's start."""
        return await self.deliveries.append(
            groups, owner=owner or self.owner, now=self.start if now is None else now, repeat=repeat
        )

    async def send(
        self,
        sender: str | None = None,
        recipient: str | None = None,
        *,
        owner: str | None = None,
        now: datetime | None = None,
        **options: Any,
    ) -> str:
        """Store one message and return its id."""
        group = self.group(sender, recipient, **options)
        outcome = (await self.append(group, owner=owner, now=now))[0]
        assert isinstance(outcome, Stored), outcome
        return group.deliveries[0].message_id

    async def send_many(
        self, count: int, sender: str | None = None, recipient: str | None = None, **options: Any
    ) -> list[str]:
        """Store so many messages in one append, each a call of its own, and return their ids in order."""
        groups = [self.group(sender, recipient, **options) for _ in range(count)]
        outcomes = await self.append(*groups)
        assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes
        return [group.deliveries[0].message_id for group in groups]

    def request(self, recipient: str | None = None, limit: int = 10, **options: Any) -> ClaimRequest:
        """Ask for one-way messages to bob where not said otherwise."""
        options = {"kind": Kind.ONE_WAY, "run_limit": RUN_LIMIT, **options}
        return ClaimRequest(recipient_id=recipient or self.bob, limit=limit, **options)

    async def claim(
        self,
        recipient: str | None = None,
        limit: int = 10,
        *,
        owner: str | None = None,
        now: datetime | None = None,
        **options: Any,
    ) -> list[ClaimedDelivery]:
        """Claim with one request, as the world's process at the world's start."""
        return await self.deliveries.claim(
            [self.request(recipient, limit, **options)],
            owner=owner or self.owner,
            now=self.start if now is None else now,
        )

    async def claim_one(
        self, recipient: str | None = None, *, owner: str | None = None, now: datetime | None = None, **options: Any
    ) -> ClaimedDelivery:
        """Claim what must be there."""
        claimed = await self.claim(recipient, 1, owner=owner, now=now, **options)
        assert len(claimed) == 1, claimed
        return claimed[0]

    async def settle(
        self,
        claims: Claim | ClaimedDelivery | Iterable[ClaimedDelivery],
        how: Settling = Settling.DONE,
        *,
        delay: float = 0.0,
        reason: str | None = None,
        requests: Sequence[ClaimRequest] = (),
        owner: str | None = None,
        now: datetime | None = None,
    ) -> Settled:
        """End claims all in one way."""
        if isinstance(claims, Claim):
            ended = [claims]
        elif isinstance(claims, ClaimedDelivery):
            ended = [claims.claim]
        else:
            ended = [delivery.claim for delivery in claims]
        return await self.deliveries.settle(
            [Settlement(claim, how, delay, reason) for claim in ended],
            requests,
            owner=owner or self.owner,
            now=self.start if now is None else now,
        )

    async def kill(self, message_id: str | None = None, *, reason: str = "broken") -> str:
        """Make one message to bob a dead letter and return its id; it must be next in its lane."""
        message_id = message_id or await self.send()
        claimed = await self.claim_one()
        assert claimed.message_id == message_id
        await self.settle(claimed, Settling.DEAD, reason=reason)
        return message_id

    async def receipt(self, message_id: str) -> ReceiptRow:
        """The receipt of a message that exists."""
        rows = await self.deliveries.list_receipts([message_id])
        assert len(rows) == 1, rows
        return rows[0]

    async def state(self, message_id: str) -> DeliveryState:
        """Where a delivery stands."""
        return (await self.receipt(message_id)).state

    async def events(self, message_id: str) -> list[object]:
        """What went wrong with a delivery so far, by name."""
        return [entry["event"] for entry in (await self.receipt(message_id)).log]


def ids(claimed: Iterable[ClaimedDelivery]) -> list[str]:
    """The messages that were claimed, in the order of the answer."""
    return [delivery.message_id for delivery in claimed]
