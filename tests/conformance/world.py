"""Agents to write between, and short forms of the port's verbs, so that a test shows only what it is about."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import AskState, DeliveryState, Kind
from agent_messaging.payloads import checksum
from agent_messaging.storage.ports import (
    MAIN,
    Answering,
    AppendOutcome,
    AskRow,
    Claim,
    ClaimedDelivery,
    ClaimRequest,
    DeliveryStore,
    EndedSession,
    MessageRow,
    NewAnswer,
    NewDelivery,
    NewEnding,
    NewGroup,
    NewWait,
    ReadPage,
    ReceiptRow,
    Service,
    SessionRow,
    SessionStore,
    Settled,
    Settlement,
    Settling,
    Store,
    Stored,
)

RUN_LIMIT = 30.0
"""Seconds a run may take, where a test does not say otherwise."""
ASK_TIMEOUT = 60.0
"""Seconds an asker waits, where a test does not say otherwise."""


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

    @property
    def sessions(self) -> SessionStore:
        """The port of conversations."""
        return self.store.sessions

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
        """One call's messages, from alice to bob where not said otherwise; a conversation's have a session's id."""
        if recipients is None:
            recipients = [self.bob]
        elif isinstance(recipients, str):
            recipients = [recipients]
        options = {"max_attempts": 5, "run_limit": RUN_LIMIT, "checksum": checksum(content, metadata), **options}
        if kind is Kind.CONVERSATION:
            options.setdefault("session_id", new_id())
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
        answer: NewAnswer | None = None,
        requests: Sequence[ClaimRequest] = (),
        owner: str | None = None,
        now: datetime | None = None,
    ) -> Settled:
        """End claims all in one way; an answer is for one claim."""
        if isinstance(claims, Claim):
            ended = [claims]
        elif isinstance(claims, ClaimedDelivery):
            ended = [claims.claim]
        else:
            ended = [delivery.claim for delivery in claims]
        return await self.deliveries.settle(
            [Settlement(claim, how, delay, reason, answer) for claim in ended],
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

    # --- conversations ---

    def talk(self, sender: str | None = None, recipient: str | None = None, **options: Any) -> NewGroup:
        """One conversation message, from alice to bob where not said otherwise."""
        return self.group(sender, recipient, kind=Kind.CONVERSATION, **options)

    def question(
        self, sender: str | None = None, recipient: str | None = None, timeout: float = ASK_TIMEOUT, **options: Any
    ) -> NewGroup:
        """One ask, as `send_and_wait` makes it: it answers what its sender's own code has taken."""
        options = {"answers": Answering.IF_TAKEN, **options}
        return self.talk(sender, recipient, ask_timeout=timeout, **options)

    async def outcome(
        self, group: NewGroup, *, owner: str | None = None, now: datetime | None = None, repeat: bool = False
    ) -> AppendOutcome:
        """Append one group."""
        (outcome,) = await self.append(group, owner=owner, now=now, repeat=repeat)
        return outcome

    async def stored(self, group: NewGroup, *, owner: str | None = None, now: datetime | None = None) -> Stored:
        """Append one group that must not be refused."""
        outcome = await self.outcome(group, owner=owner, now=now)
        assert isinstance(outcome, Stored), outcome
        return outcome

    async def say(
        self, sender: str | None = None, recipient: str | None = None, *, owner: str | None = None, **options: Any
    ) -> str:
        """Store one conversation message that answers nothing, and return its id."""
        return await self.send(sender, recipient, owner=owner, kind=Kind.CONVERSATION, **options)

    async def ask(
        self,
        sender: str | None = None,
        recipient: str | None = None,
        timeout: float = ASK_TIMEOUT,
        *,
        owner: str | None = None,
        now: datetime | None = None,
        **options: Any,
    ) -> str:
        """Store one ask and return its id."""
        group = self.question(sender, recipient, timeout, **options)
        await self.stored(group, owner=owner, now=now)
        return id_of(group)

    async def answer(
        self,
        sender: str | None = None,
        recipient: str | None = None,
        answering: Answering = Answering.REQUIRED,
        *,
        owner: str | None = None,
        now: datetime | None = None,
        **options: Any,
    ) -> str:
        """Answer the open ask by a message of the agent's own code, from bob to alice, and return its id."""
        group = self.talk(sender or self.bob, recipient or self.alice, answers=answering, **options)
        stored = await self.stored(group, owner=owner, now=now)
        assert stored.answered is not None, "it answered nothing"
        return id_of(group)

    def result(self, content: str = '"result"') -> NewAnswer:
        """What a run may answer."""
        return NewAnswer(new_id(), content, checksum(content, None))

    async def claim_talk(
        self, recipient: str | None = None, *, owner: str | None = None, now: datetime | None = None, **options: Any
    ) -> ClaimedDelivery:
        """Claim a conversation message that must be there, to bob where not said otherwise."""
        return await self.claim_one(recipient, owner=owner, now=now, kind=Kind.CONVERSATION, **options)

    async def asked(self, ask_id: str) -> AskRow:
        """An ask that exists, as it stands."""
        (row,) = await self.sessions.find_asks([ask_id])
        return row

    async def ask_state(self, ask_id: str) -> AskState:
        """How an ask stands."""
        return (await self.asked(ask_id)).state

    async def close(self, ask_id: str, state: AskState, *, now: datetime | None = None) -> AskRow:
        """End an ask, and answer how it stands then."""
        (row,) = await self.sessions.close_asks([ask_id], state, now=self.start if now is None else now)
        return row

    async def session(self, agent: str | None = None, other: str | None = None, thread: str = MAIN) -> SessionRow:
        """The open session of a pair that has one; of alice and bob where not said otherwise."""
        row = await self.sessions.find_open_session(agent or self.alice, other or self.bob, thread)
        assert row is not None
        return row

    def ending(self, content: str = '{"ended":true}') -> NewEnding:
        """The record of an end."""
        return NewEnding(new_id(), content, checksum(content, None))

    async def end(
        self,
        agent: str | None = None,
        other: str | None = None,
        *,
        ending: NewEnding | None = None,
        thread: str = MAIN,
        now: datetime | None = None,
    ) -> EndedSession | None:
        """End the session of alice and bob, where not said otherwise."""
        return await self.sessions.end_session(
            agent or self.alice,
            other or self.bob,
            ending or self.ending(),
            thread,
            now=self.start if now is None else now,
        )

    async def read(
        self, recipient: str | None = None, *, limit: int = 100, now: datetime | None = None, **options: Any
    ) -> ReadPage:
        """Read what bob, where not said otherwise, has not read yet."""
        return await self.sessions.read_messages(
            recipient or self.bob, limit=limit, now=self.start if now is None else now, **options
        )

    async def take(
        self, recipient: str | None = None, sender: str | None = None, *, now: datetime | None = None, **options: Any
    ) -> str | None:
        """Take what bob awaits of alice, where not said otherwise; the id of the message, or None."""
        row = await self.sessions.take_awaited(
            recipient or self.bob, sender or self.alice, now=self.start if now is None else now, **options
        )
        return row.message_id if row else None

    async def wait(
        self,
        recipient: str | None = None,
        sender: str | None = None,
        *,
        timeout: float | None = None,
        within: str | None = None,
        thread: str | None = None,
        owner: str | None = None,
        now: datetime | None = None,
    ) -> str:
        """Let bob, where not said otherwise, wait for alice, and return the id of the wait."""
        wait = NewWait(new_id(), recipient or self.bob, sender or self.alice, timeout, within, thread)
        assert await self.sessions.register_wait(
            wait, owner=owner or self.owner, now=self.start if now is None else now
        )
        return wait.wait_id

    async def serve(self, process_id: str, slots: Mapping[str, int], *, explicit: bool = True) -> None:
        """Let a process have conversation handlers for these agents alone, each with so many slots; "" is every one."""
        services = [Service(agent or None, Kind.CONVERSATION, explicit, number) for agent, number in slots.items()]
        await self.store.processes.publish(process_id, services)

    async def transcript(self, session_id: str, **options: Any) -> list[str]:
        """The ids of a session's messages, oldest first."""
        options = {"limit": 1000, **options}
        return ids(await self.sessions.list_messages(session_id, **options))


def ids(rows: ReadPage | Iterable[ClaimedDelivery | MessageRow]) -> list[str]:
    """The messages that were claimed or listed, in the order of the answer."""
    return [row.message_id for row in (rows.messages if isinstance(rows, ReadPage) else rows)]


def id_of(group: NewGroup) -> str:
    """The id of a group's only message."""
    (delivery,) = group.deliveries
    return delivery.message_id
