"""The port of organizations and agents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from ...models import Agent, Organization


class DirectoryStore(Protocol):
    """Organizations and agents.

    An empty name is none: the record bears its external id until it is given one, which takes no `update_name`. An
    empty name never replaces another.
    """

    async def add_organization(self, id: str, external_id: str, name: str, *, update_name: bool) -> Organization:
        """Store the organization, or return the one that has this external id.

        With `update_name` the existing one takes the name. The caller compares what it gets with what it wanted.
        Repeat-safe.
        """
        ...

    async def find_organization(self, external_id: str) -> Organization | None: ...

    async def find_organizations_by_id(self, ids: Collection[str]) -> list[Organization]:
        """Those that exist, in any order."""
        ...

    async def list_organizations(self, limit: int, offset: int) -> list[Organization]:
        """A page in order of external id."""
        ...

    async def remove_organization(self, external_id: str) -> bool:
        """Remove it with its agents, their messages and all that hangs on them; False if there was none."""
        ...

    async def add_agent(
        self, id: str, external_id: str, organization_id: str, name: str, *, update_name: bool
    ) -> Agent | None:
        """Store the agent, or return the one that has this external id; None without that organization.

        With `update_name` an existing agent of the same organization takes the name. Repeat-safe.
        """
        ...

    async def find_agents(self, external_ids: Collection[str]) -> list[Agent]:
        """Those that exist, in any order."""
        ...

    async def find_agents_by_id(self, ids: Collection[str]) -> list[Agent]:
        """Those that exist, in any order."""
        ...

    async def list_agents(
        self, organization_id: str | None, limit: int, offset: int, *, starting_with: str = ""
    ) -> list[Agent]:
        """A page in order of external id, of one organization or of all: those whose external id starts so."""
        ...

    async def remove_agent(self, external_id: str) -> bool:
        """Remove it with its messages, sent and received, and their deliveries; False if there was none."""
        ...
