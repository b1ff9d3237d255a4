"""Topics: an agent publishes without knowing who reads, and others subscribe without knowing who publishes."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic

from ..arguments import MISSING_MESSAGE, check_external_id, check_page, refuse
from ..config import MessagingConfig
from ..delivery.engine import Engine
from ..delivery.names import AgentName
from ..exceptions import AgentNotFoundError
from ..ids import uuid7
from ..models import Subscription, T
from ..storage.ports import Duplicate, NewGroup, Publication, SubscriptionRow
from ..storage.topics import MAX_WORDS, SPARE_BITS, list_patterns
from .door import Door
from .notes import make_note
from .posting import post


class Topics(Door, Generic[T]):
    """`sdk.topics`: messages to whoever is interested.

    A topic is a name of words with dots between them, such as `orders.eu.created`. Agents subscribe to a pattern: a
    topic in which `*` stands for one word, and `>` at the end for one or more. A topic needs no registering.
    """

    def __init__(self, find_engine: Callable[[], Engine], settings: MessagingConfig) -> None:
        super().__init__(find_engine)
        self.settings = settings

    async def subscribe(self, agent_external_id: str, pattern: str) -> bool:
        """Subscribe an agent to the topics that a pattern matches, until `unsubscribe` or the agent's removal.

        The subscription is a row of the store: it outlives the process, and is the same for all of them. What is
        published on such a topic by another agent from now on reaches the agent like a note that was sent to it: its
        handler of notes gets it, with `context.topic`, or `receive` does, or it waits in the inbox.

        Args:
            agent_external_id: Who subscribes.
            pattern: 1 to 255 characters in at most 8 words with dots between them, without blanks; case matters.
                `*` stands for one word, `>` for one or more at the end: `orders.*.created`, `orders.>`.

        Returns:
            False if the agent was subscribed to this pattern already. Repeat-safe.

        Raises:
            InvalidArgumentError: The pattern is refused; says what to write.
            AgentNotFoundError: There is no such agent; names the closest.
            DatabaseError: The store failed.

        Example:
            await sdk.topics.subscribe("billing", "orders.*.created")
        """
        check_external_id(agent_external_id, field="agent_external_id")
        check_pattern(pattern, field="pattern")
        subscribe = self.engine.store.topics.subscribe
        is_new = await self.engine.names.look_up(agent_external_id, lambda agent: subscribe(agent.id, pattern))
        if is_new is None:
            raise AgentNotFoundError(external_id=agent_external_id)
        return is_new

    async def unsubscribe(self, agent_external_id: str, pattern: str) -> bool:
        """End a subscription. What was published before is still delivered.

        Args:
            agent_external_id: Whose.
            pattern: As it was subscribed to, letter by letter.

        Returns:
            False if there was none. Repeat-safe.

        Raises:
            InvalidArgumentError: The pattern is refused; says what to write.
            AgentNotFoundError: There is no such agent; names the closest.
            DatabaseError: The store failed.

        Example:
            await sdk.topics.unsubscribe("bob", "orders.*.created")
        """
        check_external_id(agent_external_id, field="agent_external_id")
        check_pattern(pattern, field="pattern")
        unsubscribe = self.engine.store.topics.unsubscribe
        return await self.engine.names.look_up(agent_external_id, lambda agent: unsubscribe(agent.id, pattern))

    async def list(
        self, agent_external_id: str | None = None, *, topic: str | None = None, limit: int = 100, offset: int = 0
    ) -> builtins.list[Subscription]:
        """List subscriptions, in order of their patterns.

        Args:
            agent_external_id: Of this agent; None is all.
            topic: Those that match this topic: to whom a publication would go. None is all.
            limit: At most so many, 1 to 1,000.
            offset: So many are passed over.

        Raises:
            AgentNotFoundError: There is no such agent; names the closest.
            InvalidArgumentError: An argument is refused.

        Example:
            readers = {one.agent_id for one in await sdk.topics.list(topic="orders.eu.created")}
        """
        check_page(limit, offset)
        patterns = None if topic is None else list_patterns(check_topic(topic, field="topic"))
        engine = self.engine

        async def look(agent_id: str | None) -> Sequence[SubscriptionRow]:
            return await engine.store.topics.list_subscriptions(agent_id, patterns, limit, offset)

        if agent_external_id is None:
            rows = await look(None)
        else:
            check_external_id(agent_external_id, field="agent_external_id")
            rows = await engine.names.look_up(agent_external_id, lambda agent: look(agent.id))
        names = await engine.names.find_by_id({row.agent_id for row in rows})
        return [
            Subscription(names[row.agent_id].external_id, row.pattern, row.created_at)
            for row in rows
            if row.agent_id in names
        ]

    async def publish(
        self,
        sender_external_id: str,
        topic: str,
        message: T | None = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        expires_in: float | None = None,
        deliver_at: datetime | None = None,
    ) -> builtins.list[str]:
        """Send a message to every agent that is subscribed to a topic when it is stored, but to the sender.

        When it returns, the messages are committed and synced, for all subscribers or for none, and what
        `sdk.one_way.send` promises holds for each: receipts, dead letters, and the order of this sender's messages to
        one recipient. An agent gets it once, whatever number of its patterns match. Nobody need serve the subscribers;
        what nobody handles waits in their inboxes.

        A cancelled call has an unknown outcome: repeat it with the same `idempotency_key`, and it is stored once, for
        those who were subscribed the first time.

        Args:
            sender_external_id: Who publishes. It gets nothing of it, though it be subscribed.
            topic: 1 to 255 characters in at most 8 words with dots between them, without blanks; case matters.
            message: The payload, as `send` takes it.
            metadata: Small JSON mapping that travels with the message to `context.metadata`; at most 64 KiB.
            idempotency_key: 1 to 255 characters. A repeat of the call under the same key answers with the first one's
                ids, before any other check; with another topic, payload or options it is refused.
            expires_in: Seconds from now after which a message that nobody began to handle expires; None never.
            deliver_at: An aware instant before which nobody handles it; None is now. It goes to those who are
                subscribed now.

        Returns:
            The ids of the messages, one for each subscriber; `sdk.receipts` follows them. Empty if nobody is
            subscribed, which is no error.

        Raises:
            InvalidArgumentError: An argument was refused; it names the field, the value and the remedy.
            PayloadError: The payload or the metadata is not storable JSON.
            AgentNotFoundError: The sender is not registered; names the closest.
            MailboxFullError: A subscriber has `mailbox_limit` open messages; nobody gets it then.
            TooManySubscribersError: More than 10,000 agents are subscribed to the topic, or so many that the payloads
                of all are more than 64 MiB together.
            IdempotencyConflictError: The key was used for another message.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            ids = await sdk.topics.publish("shop", "orders.eu.created", {"order": 17})
        """
        check_external_id(sender_external_id, field="sender_external_id")
        check_topic(topic, field="topic")
        note = make_note(
            self.settings,
            "publish",
            [topic],
            message,
            metadata,
            idempotency_key=idempotency_key,
            expires_in=expires_in,
            deliver_at=deliver_at,
        )

        def make_group(sender: AgentName, targets: Sequence[AgentName]) -> NewGroup:
            first_id = uuid7(spare_bits=SPARE_BITS)
            is_internal = not self.settings.cross_organization
            return note.make_group(sender.id, [], Publication(first_id, topic, is_internal))

        group, outcome = await post(
            self.engine, self.settings, sender_external_id, (), make_group, require_handler=False
        )
        if isinstance(outcome, Duplicate):
            return outcome.message_ids
        return [delivery.message_id for delivery in group.deliveries]


def check_topic(value: str, field: str) -> str:
    """Return the name of a topic as it is.

    Raises:
        InvalidArgumentError: It is none; says what to write.
    """
    for word in _split(value, field):
        if "*" in word or ">" in word:
            raise refuse(
                field,
                value,
                f"has {word!r} in it: '*' and '>' stand for words in what agents subscribe to. Name each word.",
            )
    return value


def check_pattern(value: str, field: str) -> str:
    """Return what an agent subscribes to as it is.

    Raises:
        InvalidArgumentError: It is no pattern; says what to write.
    """
    words = _split(value, field)
    for place, word in enumerate(words, 1):
        if ("*" in word or ">" in word) and word not in ("*", ">"):
            raise refuse(
                field,
                value,
                f"has {word!r} in it: '*' and '>' stand for whole words. Put dots around it.",
            )
        if word == ">" and place < len(words):
            raise refuse(
                field,
                value,
                "has words behind '>', which is all the rest. End with it, or use '*' for one word.",
            )
    return value


def _split(value: str, field: str) -> builtins.list[str]:
    """The words of a topic or pattern."""
    words = check_external_id(value, field).split(".")
    if not all(words):
        named = ".".join(filter(None, words))
        remedy = f"Use {named!r}." if named else "Write words with one dot between two of them."
        raise refuse(field, value, f"has a dot without a word on both sides. {remedy}")
    if blank := next((character for character in value if character.isspace()), None):
        raise refuse(field, value, f"has a blank in it. Use {value.replace(blank, '-')!r}.")
    if len(words) > MAX_WORDS:
        raise refuse(
            field, value, f"has {len(words)} words. At most {MAX_WORDS} are accepted; write some as one, with hyphens."
        )
    return words
