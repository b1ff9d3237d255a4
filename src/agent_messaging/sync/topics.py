"""Topics, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.topics`: change that, and run it again.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic

from ..arguments import MISSING_MESSAGE
from ..messaging.topics import Topics as AsyncTopics
from ..models import Subscription, T
from .running import Blocking


class Topics(Blocking[AsyncTopics[T]], Generic[T]):
    """`sdk.topics`: messages to whoever is interested.

    A topic is a name of words with dots between them, such as `orders.eu.created`. Agents subscribe to a pattern: a
    topic in which `*` stands for one word, and `>` at the end for one or more. A topic needs no registering.
    """

    def subscribe(self, agent_external_id: str, pattern: str) -> bool:
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
            sdk.topics.subscribe("billing", "orders.*.created")
        """
        return self._run(lambda: self._async.subscribe(agent_external_id, pattern))

    def unsubscribe(self, agent_external_id: str, pattern: str) -> bool:
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
            sdk.topics.unsubscribe("bob", "orders.*.created")
        """
        return self._run(lambda: self._async.unsubscribe(agent_external_id, pattern))

    def list(
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
            readers = {one.agent_id for one in sdk.topics.list(topic="orders.eu.created")}
        """
        return self._run(lambda: self._async.list(agent_external_id, topic=topic, limit=limit, offset=offset))

    def publish(
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
            ids = sdk.topics.publish("shop", "orders.eu.created", {"order": 17})
        """
        return self._run(
            lambda: self._async.publish(
                sender_external_id,
                topic,
                message,
                metadata,
                idempotency_key=idempotency_key,
                expires_in=expires_in,
                deliver_at=deliver_at,
            )
        )
