"""Agents by name and by id, cached. A cached agent may have been removed meanwhile: the store has the last word."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import TypeVar

from ..exceptions import AgentNotFoundError, DatabaseError, OrganizationNotFoundError, OutcomeUnknownError
from ..models import Agent, Organization
from ..records import dataclass
from ..storage.ports import DirectoryStore

R = TypeVar("R")

CACHE_LIMIT = 50_000
"""Agents remembered; at this many the cache starts anew."""
NAMES_MAX_AGE = 5.0
"""Seconds after which what is told to handlers is looked up again, and the agents served here: another process may have
renamed one, or registered it anew."""
SUGGESTIONS_FROM = 5_000
"""Names that are looked through for close ones."""


@dataclass(frozen=True, slots=True)
class AgentName:
    """An agent, as the engine needs it."""

    id: str
    external_id: str
    name: str
    organization_id: str
    organization: str
    """The organization's external id."""


def external_or_none(names: Mapping[str, AgentName], id: str | None) -> str | None:
    """The external id of an agent that was looked up; None where it is gone, or there is none."""
    return names[id].external_id if id is not None and id in names else None


def external_or_id(names: Mapping[str, AgentName], id: str) -> str:
    """The external id of an agent that was looked up; one that is gone keeps its id."""
    return names[id].external_id if id in names else id


class Names:
    """The cache. Look-ups by name raise for unknown ones and suggest the closest.

    Args:
        location: Which store it is, for errors: two processes on two stores are the usual cause of an unknown name.
    """

    def __init__(self, directory: DirectoryStore, location: str) -> None:
        self.directory = directory
        self.location = location
        self._by_name: dict[str, AgentName] = {}
        self._by_id: dict[str, AgentName] = {}
        self._read_at: dict[str, float] = {}
        """When each was read, by id; of the clock that is monotonic."""
        self._organizations: dict[str, str] = {}

    def cached(self, external_id: str) -> AgentName | None:
        """The agent, if it was looked up before."""
        return self._by_name.get(external_id)

    def cached_by_id(self, id: str) -> AgentName | None:
        """The agent, if it was looked up before."""
        return self._by_id.get(id)

    def cached_name(self, id: str) -> str:
        """The agent's external id, if it was looked up before; its id otherwise."""
        agent = self._by_id.get(id)
        return id if agent is None else agent.external_id

    def cached_all(self, external_ids: Iterable[str]) -> list[AgentName] | None:
        """These agents, in this order, if all of them were looked up before."""
        try:
            return [*map(self._by_name.__getitem__, external_ids)]
        except KeyError:
            return None

    def cached_lately(self, id: str, other_id: str) -> tuple[AgentName, AgentName] | None:
        """The agents of these ids, if both were read a moment ago (`NAMES_MAX_AGE`)."""
        oldest = time.monotonic() - NAMES_MAX_AGE
        try:
            if self._read_at[id] >= oldest and self._read_at[other_id] >= oldest:
                return self._by_id[id], self._by_id[other_id]
        except KeyError:
            pass
        return None

    async def get(self, external_id: str, *, role: str = "") -> AgentName:
        """The agent of this name.

        Raises:
            AgentNotFoundError: There is none; names the closest.
        """
        return (await self.get_all([external_id], role=role))[0]

    async def get_all(
        self, external_ids: Collection[str], *, role: str = "", within: str | None = None
    ) -> list[AgentName]:
        """These agents, in this order; suggestions come only from the organization `within`, if given."""
        found = await self.find_all(external_ids)
        for external_id in external_ids:
            if external_id not in found:
                suggestions = await self._closest_agents(external_id, within)
                raise AgentNotFoundError(
                    external_id=external_id, suggestions=suggestions, role=role, store=self.location
                )
        return [found[external_id] for external_id in external_ids]

    async def find_all(self, external_ids: Iterable[str]) -> dict[str, AgentName]:
        """The agents of these names that exist, by name."""
        # What was known stays known here: while the store is asked, others may forget it, or start the cache anew.
        wanted = list(external_ids)
        known = {name: self._by_name[name] for name in wanted if name in self._by_name}
        missing = [name for name in wanted if name not in known]
        if missing:
            await self.remember(await self.directory.find_agents(missing))
            known |= {name: self._by_name[name] for name in missing if name in self._by_name}
        return known

    async def find_by_id(self, ids: Iterable[str], *, max_age: float = float("inf")) -> dict[str, AgentName]:
        """The agents of these ids, as they were at most `max_age` seconds ago, or as last read if the store fails."""
        wanted = set(ids)
        oldest = time.monotonic() - max_age
        known = {id: self._by_id[id] for id in wanted if id in self._by_id}  # see find_all
        missing = [id for id in wanted if id not in known or self._read_at[id] < oldest]
        if missing:
            try:
                found = await self.directory.find_agents_by_id(missing)
            except (DatabaseError, OutcomeUnknownError):
                if not all(id in known for id in missing):
                    raise
            else:
                self.forget(set(missing) - {str(agent.id) for agent in found})
                await self.remember(found)
                for id in missing:
                    known.pop(id, None)
                known |= {id: self._by_id[id] for id in missing if id in self._by_id}
        return known

    async def remember(self, agents: Iterable[Agent]) -> None:
        """Cache agents that were just read or written."""
        agents = list(agents)
        unknown = {str(agent.organization_id) for agent in agents} - self._organizations.keys()
        if unknown:
            organizations = await self.directory.find_organizations_by_id(unknown)
            self._organizations |= {str(one.id): one.external_id for one in organizations}
        if len(self._by_id) + len(agents) > CACHE_LIMIT:
            self.clear()
        for agent in agents:
            organization_id = str(agent.organization_id)
            organization = self._organizations.get(organization_id, "")
            known = AgentName(str(agent.id), agent.external_id, agent.name, organization_id, organization)
            before = self._by_name.get(known.external_id)
            if before is not None and before.id != known.id:  # it was removed, and registered anew
                self.forget([before.id])
            self._by_name[known.external_id] = self._by_id[known.id] = known
            self._read_at[known.id] = time.monotonic()

    async def refresh(self, external_ids: Collection[str]) -> None:
        """Look these up again: one that was removed and registered anew has another id."""
        if external_ids:
            found = await self.directory.find_agents(external_ids)
            current = {agent.external_id: str(agent.id) for agent in found}
            known = [self._by_name[name] for name in external_ids if name in self._by_name]
            self.forget(agent.id for agent in known if current.get(agent.external_id) != agent.id)
            await self.remember(found)

    async def look_again(self, agent: AgentName, *, role: str = "") -> AgentName:
        """The agent of this name as it is now; for where an empty answer may only mean that it was removed.

        Raises:
            AgentNotFoundError: It was removed; names the closest.
        """
        await self.refresh([agent.external_id])
        return await self.get(agent.external_id, role=role)

    async def look_up(self, external_id: str, look: Callable[[AgentName], Awaitable[R]], *, role: str = "") -> R:
        """Look in the store for an agent, and once more if nothing is there and the name belongs to another agent now.

        Raises:
            AgentNotFoundError: There is none; names the closest.
        """
        agent = await self.get(external_id, role=role)
        answer = await look(agent)
        if not answer:
            again = await self.look_again(agent, role=role)
            if again.id != agent.id:
                return await look(again)
        return answer

    def forget(self, ids: Iterable[str]) -> None:
        """Drop agents that turned out to be gone."""
        for id in ids:
            known = self._by_id.pop(id, None)
            self._read_at.pop(id, None)
            if known is not None and self._by_name.get(known.external_id) is known:
                del self._by_name[known.external_id]

    def clear(self) -> None:
        """Drop every agent."""
        self._by_name.clear()
        self._by_id.clear()
        self._read_at.clear()

    async def get_organization(self, external_id: str) -> Organization:
        """The organization of this name, as it is in the store now.

        Raises:
            OrganizationNotFoundError: There is none; names the closest.
        """
        organization = await self.directory.find_organization(external_id)
        if organization is None:
            known = [one.external_id for one in await self.directory.list_organizations(SUGGESTIONS_FROM, 0)]
            raise OrganizationNotFoundError(
                external_id=external_id, suggestions=_closest(external_id, known), store=self.location
            )
        return organization

    async def _closest_agents(self, external_id: str, within: str | None) -> tuple[str, ...]:
        agents = await self.directory.list_agents(within, SUGGESTIONS_FROM, 0)
        return _closest(external_id, [agent.external_id for agent in agents])


def _closest(wanted: str, known: list[str]) -> tuple[str, ...]:
    import difflib  # only errors need it

    folded = {name.casefold(): name for name in known}
    return tuple(folded[match] for match in difflib.get_close_matches(wanted.casefold(), list(folded), n=3))
