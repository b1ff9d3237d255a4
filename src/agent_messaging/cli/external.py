"""The external ids of agents, for what a store names by its own ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..storage.ports import Store


async def read_names(store: Store, ids: Collection[str]) -> dict[str, str]:
    """The external ids of the agents with these ids, by id; one that was removed is not among them."""
    agents = await store.directory.find_agents_by_id(ids) if ids else []
    return {str(agent.id): agent.external_id for agent in agents}
