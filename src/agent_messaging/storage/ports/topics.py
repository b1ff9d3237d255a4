"""The port of subscriptions. What is published is appended like any other message (see `DeliveryStore.append`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from ...records import dataclass


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """An agent gets what is published on the topics that a pattern matches."""

    pattern: str
    agent_id: str
    created_at: datetime


class TopicStore(Protocol):
    """Who is subscribed to what. Subscriptions outlive processes, and end with their agent."""

    async def subscribe(self, agent_id: str, pattern: str, *, now: datetime | None = None) -> bool | None:
        """Subscribe the agent; False if it is already, None without that agent. Repeat-safe."""
        ...

    async def unsubscribe(self, agent_id: str, pattern: str) -> bool:
        """End the subscription; False if there was none. Repeat-safe."""
        ...

    async def list_subscriptions(
        self, agent_id: str | None, patterns: Sequence[str] | None, limit: int, offset: int
    ) -> list[SubscriptionRow]:
        """A page in order of pattern and agent: of one agent or all, to these patterns (without repetitions) or any."""
        ...
