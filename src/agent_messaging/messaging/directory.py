"""Organizations and agents: registering, looking up and removing them; these calls are the SDK object's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from ..arguments import check_external_id, check_flag, check_name, check_page
from ..delivery import auditing
from ..delivery.names import AgentName
from ..exceptions import AgentAlreadyExistsError, OrganizationAlreadyExistsError, OrganizationNotFoundError
from ..ids import uuid7
from ..models import Agent, AgentStatus, Organization

if TYPE_CHECKING:
    from ..delivery.engine import Engine


class Directory:
    """The share of `AgentMessaging` that names who sends and who receives."""

    def _started(self) -> Engine:
        """The engine that is started now."""
        raise NotImplementedError

    # --- organizations ------------------------------------------------------------------------------------------------

    async def register_organization(self, external_id: str, name: str | None = None, *, exist_ok: bool = False) -> UUID:
        """Register an organization; return its UUID.

        Registering the same id and name again returns the existing UUID.

        Args:
            external_id: 1 to 255 characters, in Unicode form NFC, without control characters; case matters.
            name: For people; 1 to 255 characters. None: an existing one keeps its name, and a new one bears its
                external id until somebody registers it with a name.
            exist_ok: True renames an existing organization instead of refusing another name.

        Raises:
            InvalidArgumentError: The id or the name is empty, too long, or has forbidden characters.
            OrganizationAlreadyExistsError: The id exists with another name.
            DatabaseError: The store failed.

        Example:
            await sdk.register_organization("acme", "Acme")
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")
        if name is not None:
            check_name(name, field="name")
        check_flag(exist_ok, "exist_ok")
        found = await engine.store.directory.add_organization(uuid7(), external_id, name or "", update_name=exist_ok)
        if name is not None and found.name != name:
            raise OrganizationAlreadyExistsError(external_id=external_id, name=found.name)
        return found.id

    async def get_organization(self, external_id: str) -> Organization:
        """Look up an organization.

        Raises:
            OrganizationNotFoundError: There is none; names the closest.

        Example:
            organization = await sdk.get_organization("acme")
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")
        return await engine.names.get_organization(external_id)

    async def list_organizations(self, *, limit: int = 100, offset: int = 0) -> list[Organization]:
        """List organizations in order of external id; `limit` at most 1,000.

        Example:
            for organization in await sdk.list_organizations():
                print(organization.external_id)
        """
        engine = self._started()
        check_page(limit, offset)
        return await engine.store.directory.list_organizations(limit, offset)

    async def deregister_organization(self, external_id: str) -> bool:
        """Remove an organization with its agents, their messages and receipts; False if there was none.

        Accepted messages of its agents that were not handled yet end with it, without a dead letter.

        Example:
            was_there = await sdk.deregister_organization("acme")
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")

        async def remove() -> bool:
            removed = await engine.store.directory.remove_organization(external_id)
            engine.names.clear()
            if removed:
                await engine.announcer.removed()
            return removed

        return await engine.commits.run(remove())

    # --- agents -------------------------------------------------------------------------------------------------------

    async def register_agent(
        self, external_id: str, organization_external_id: str, name: str | None = None, *, exist_ok: bool = False
    ) -> UUID:
        """Register an agent in an organization; return its UUID.

        Registering the same id, organization and name again returns the existing UUID. Global handlers of this process
        serve the agent from now on.

        Args:
            external_id: 1 to 255 characters, unique over all organizations; case matters.
            organization_external_id: Its organization.
            name: For people; 1 to 255 characters. None: an existing one keeps its name, and a new one bears its
                external id until somebody registers it with a name.
            exist_ok: True renames an existing agent of this organization instead of refusing another name.

        Raises:
            InvalidArgumentError: An id or the name is empty, too long, or has forbidden characters.
            OrganizationNotFoundError: There is no such organization; names the closest.
            AgentAlreadyExistsError: The id exists with another name or in another organization.
            DatabaseError: The store failed.

        Example:
            await sdk.register_agent("alice", "acme", "Alice")
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")
        check_external_id(organization_external_id, field="organization_external_id")
        if name is not None:
            check_name(name, field="name")
        check_flag(exist_ok, "exist_ok")
        organization = await engine.names.get_organization(organization_external_id)

        async def register() -> UUID:
            found = await engine.store.directory.add_agent(
                uuid7(), external_id, str(organization.id), name or "", update_name=exist_ok
            )
            if found is None:
                raise OrganizationNotFoundError(external_id=organization_external_id)
            await engine.names.remember([found])
            if (name is not None and found.name != name) or found.organization_id != organization.id:
                known = engine.names.cached(external_id)
                raise AgentAlreadyExistsError(
                    external_id=external_id, name=found.name, organization=known.organization if known else ""
                )
            await engine.adopt([external_id])
            auditing.registered(external_id, organization_external_id)
            return found.id

        return await engine.commits.run(register())

    async def get_agent(self, external_id: str) -> Agent:
        """Look up an agent.

        Raises:
            AgentNotFoundError: There is none; names the closest.

        Example:
            agent = await sdk.get_agent("alice")
            print(agent.id, agent.name)
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")
        found = await engine.store.directory.find_agents([external_id])
        if found:
            return found[0]
        engine.names.clear()
        await engine.names.get(external_id)  # raises, with suggestions
        return (await engine.store.directory.find_agents([external_id]))[0]

    async def get_agent_status(self, external_id: str) -> AgentStatus:
        """Tell whether somebody serves an agent now, in whatever process.

        It is what a `send` to the agent goes by: to one that is online or away a message is stored, to one that is
        offline only with `require_handler=False`. A moment later it may be otherwise.

        Raises:
            AgentNotFoundError: There is no such agent; names the closest.

        Example:
            if await sdk.get_agent_status("bob") is not AgentStatus.ONLINE:
                print("bob will see it later")
        """
        engine = self._started()
        return await engine.serving.find_status(await find_agent(engine, external_id, field="external_id"))

    async def list_agents(
        self, organization_external_id: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Agent]:
        """List agents in order of external id, of one organization or of all; `limit` at most 1,000.

        Raises:
            OrganizationNotFoundError: There is no such organization.

        Example:
            for agent in await sdk.list_agents("acme"):
                print(agent.external_id)
        """
        engine = self._started()
        check_page(limit, offset)
        within = None
        if organization_external_id is not None:
            within = str((await self.get_organization(organization_external_id)).id)
        return await engine.store.directory.list_agents(within, limit, offset)

    async def deregister_agent(self, external_id: str) -> bool:
        """Remove an agent with its messages, sent and received, and their receipts; False if there was none.

        Accepted messages to it that were not handled yet end with it, without a dead letter. Whoever waits for their
        receipts is told that they do not exist any more.

        Example:
            was_there = await sdk.deregister_agent("alice")
        """
        engine = self._started()
        check_external_id(external_id, field="external_id")

        async def remove() -> bool:
            known = engine.names.cached(external_id)
            removed = await engine.store.directory.remove_agent(external_id)
            engine.names.forget([known.id] if known else [])
            if removed:
                await engine.announcer.removed()
            return removed

        return await engine.commits.run(remove())


async def find_agent(engine: Engine, agent_id: str | UUID, *, field: str = "agent_id") -> AgentName:
    """An agent by its UUID or its external id, as it is in the store now.

    Raises:
        AgentNotFoundError: There is none; names the closest.
    """
    if isinstance(agent_id, UUID):
        agent_id = str(agent_id)
    check_external_id(agent_id, field=field)
    await engine.names.refresh([agent_id])
    known = await engine.names.find_all([agent_id])
    if agent_id in known:
        return known[agent_id]
    if _is_uuid(agent_id):
        by_id = await engine.names.find_by_id([agent_id.lower()])
        if by_id:
            return by_id[agent_id.lower()]
    return await engine.names.get(agent_id)  # raises, with suggestions


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
