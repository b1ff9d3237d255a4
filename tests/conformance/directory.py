"""Organizations and agents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent_messaging.ids import uuid7 as new_id
from agent_messaging.models import Agent, Kind, Organization
from agent_messaging.storage.ports import Role, Settling, Store, UnknownAgents

from .base import StoreFixtures
from .world import World


async def add_organization(store: Store, external_id: str, name: str = "Name", **options: bool) -> Organization:
    """Add an organization under a new id."""
    return await store.directory.add_organization(new_id(), external_id, name, **{"update_name": False, **options})


async def add_agent(
    store: Store, external_id: str, organization: Organization, name: str = "Name", **options: bool
) -> Agent | None:
    """Add an agent under a new id."""
    return await store.directory.add_agent(
        new_id(), external_id, str(organization.id), name, **{"update_name": False, **options}
    )


class OrganizationConformance(StoreFixtures):
    """Organizations: stored once per external id, listed, removed with all that hangs on them."""

    async def test_what_was_stored_is_found_as_it_was_given(self, store: Store) -> None:
        id = new_id()
        before = datetime.now(UTC)
        added = await store.directory.add_organization(id, "acme Zürich 株", "Acme ✓", update_name=False)
        assert (str(added.id), added.external_id, added.name) == (id, "acme Zürich 株", "Acme ✓")
        assert before - timedelta(seconds=5) <= added.created_at <= datetime.now(UTC) + timedelta(seconds=5)
        assert added.created_at.utcoffset() == timedelta(0)
        assert await store.directory.find_organization("acme Zürich 株") == added

    async def test_several_are_found_by_id(self, store: Store) -> None:
        added = [await add_organization(store, name) for name in ("a", "b", "c")]
        wanted = [str(added[2].id), new_id(), str(added[0].id)]
        found = await store.directory.find_organizations_by_id(wanted)
        assert sorted(found, key=lambda organization: organization.external_id) == [added[0], added[2]]
        assert await store.directory.find_organizations_by_id([]) == []

    async def test_finding_an_unknown_one_gives_none(self, store: Store) -> None:
        await add_organization(store, "acme")
        assert await store.directory.find_organization("ACME") is None
        assert await store.directory.find_organization("acme ") is None

    async def test_adding_an_organization_again_returns_the_first_unchanged(self, store: Store) -> None:
        first = await add_organization(store, "acme", "First")
        assert await add_organization(store, "acme", "Second") == first
        assert await store.directory.find_organization("acme") == first

    async def test_with_update_name_the_existing_one_takes_the_name(self, store: Store) -> None:
        first = await add_organization(store, "acme", "First")
        renamed = await add_organization(store, "acme", "Second", update_name=True)
        assert (renamed.id, renamed.name, renamed.created_at) == (first.id, "Second", first.created_at)
        assert renamed.updated_at >= first.updated_at
        assert await store.directory.find_organization("acme") == renamed

    async def test_one_without_a_name_bears_its_external_id_until_somebody_names_it(self, store: Store) -> None:
        first = await add_organization(store, "acme", "")
        assert first.name == "acme"
        assert await store.directory.find_organization("acme") == first
        assert await store.directory.find_organizations_by_id([str(first.id)]) == [first]
        assert await store.directory.list_organizations(10, 0) == [first]
        assert await add_organization(store, "acme", "", update_name=True) == first
        named = await add_organization(store, "acme", "Acme")
        assert (named.id, named.name) == (first.id, "Acme")
        assert await add_organization(store, "acme", "Another") == named
        assert await add_organization(store, "acme", "", update_name=True) == named

    async def test_the_list_is_paged_in_order_of_external_id(self, store: Store) -> None:
        for name in ("b", "d", "a", "c"):
            await add_organization(store, name)
        page = await store.directory.list_organizations(2, 0)
        rest = await store.directory.list_organizations(10, 2)
        assert [organization.external_id for organization in page + rest] == ["a", "b", "c", "d"]
        assert len(page) == 2

    async def test_removing_takes_its_agents_and_messages_along_and_nobody_elses(
        self, store: Store, world: World
    ) -> None:
        other = await add_organization(store, "other")
        neighbour = await add_agent(store, "neighbour", other)
        assert neighbour is not None
        mine = await world.send()
        crossing = await world.send(str(neighbour.id), world.bob)
        external_id = (await self.find_world(world)).external_id

        assert await store.directory.remove_organization(external_id) is True

        assert await store.directory.find_organization(external_id) is None
        assert await store.directory.find_agents_by_id([world.alice, world.bob]) == []
        assert await store.deliveries.list_receipts([mine, crossing]) == []
        assert await store.directory.find_agents(["neighbour"]) == [neighbour]
        assert await store.directory.remove_organization(external_id) is False

    async def find_world(self, world: World) -> Organization:
        found = await world.store.directory.list_organizations(100, 0)
        return next(organization for organization in found if str(organization.id) == world.organization_id)


class AgentConformance(StoreFixtures):
    """Agents: external ids unique over all organizations, listed, removed with their messages."""

    async def test_what_was_stored_is_found_by_either_id(self, store: Store) -> None:
        organization = await add_organization(store, "acme")
        agent = await add_agent(store, "älice", organization, "Alice")
        assert agent is not None
        assert (agent.external_id, agent.organization_id, agent.name) == ("älice", organization.id, "Alice")
        assert await store.directory.find_agents(["älice"]) == [agent]
        assert await store.directory.find_agents_by_id([str(agent.id)]) == [agent]

    async def test_finding_several_gives_those_that_exist(self, store: Store) -> None:
        organization = await add_organization(store, "acme")
        agents = [await add_agent(store, f"agent-{number}", organization) for number in range(3)]
        found = await store.directory.find_agents(["agent-2", "nobody", "agent-0"])
        assert {agent.external_id for agent in found} == {"agent-0", "agent-2"}
        known = [str(agent.id) for agent in agents if agent]
        by_id = await store.directory.find_agents_by_id([known[1], new_id()])
        assert [agent.external_id for agent in by_id] == ["agent-1"]
        assert await store.directory.find_agents([]) == []
        assert await store.directory.find_agents_by_id([]) == []

    async def test_an_agent_of_no_organization_is_refused(self, store: Store) -> None:
        assert await store.directory.add_agent(new_id(), "alice", new_id(), "Alice", update_name=False) is None
        assert await store.directory.find_agents(["alice"]) == []

    async def test_adding_an_agent_again_returns_the_first_unchanged(self, store: Store) -> None:
        organization = await add_organization(store, "acme")
        first = await add_agent(store, "alice", organization, "First")
        assert await add_agent(store, "alice", organization, "Second") == first

    async def test_with_update_name_the_existing_agent_takes_the_name(self, store: Store) -> None:
        organization = await add_organization(store, "acme")
        first = await add_agent(store, "alice", organization, "First")
        renamed = await add_agent(store, "alice", organization, "Second", update_name=True)
        assert first is not None
        assert renamed is not None
        assert (renamed.id, renamed.name) == (first.id, "Second")
        assert await store.directory.find_agents(["alice"]) == [renamed]

    async def test_an_agent_without_a_name_bears_its_external_id_until_its_organization_names_it(
        self, store: Store
    ) -> None:
        acme, other = await add_organization(store, "acme"), await add_organization(store, "other")
        first = await add_agent(store, "alice", acme, "")
        assert first is not None
        assert first.name == "alice"
        assert await store.directory.find_agents(["alice"]) == [first]
        assert await store.directory.find_agents_by_id([str(first.id)]) == [first]
        assert await store.directory.list_agents(None, 10, 0) == [first]
        assert await add_agent(store, "alice", other, "Theirs") == first
        named = await add_agent(store, "alice", acme, "Alice")
        assert named is not None
        assert (named.id, named.name) == (first.id, "Alice")
        assert await add_agent(store, "alice", acme, "Another") == named
        assert await add_agent(store, "alice", acme, "", update_name=True) == named

    async def test_another_organization_can_neither_take_nor_rename_an_agent(self, store: Store) -> None:
        first = await add_agent(store, "alice", await add_organization(store, "acme"), "First")
        other = await add_organization(store, "other")
        answered = await add_agent(store, "alice", other, "Second", update_name=True)
        assert answered == first
        assert await store.directory.find_agents(["alice"]) == [first]

    async def test_the_list_is_paged_in_order_of_external_id_of_one_organization_or_all(self, store: Store) -> None:
        acme, other = await add_organization(store, "acme"), await add_organization(store, "other")
        for name, organization in (("c", acme), ("a", other), ("d", acme), ("b", acme)):
            await add_agent(store, name, organization)

        async def names(organization_id: str | None, limit: int, offset: int, starting_with: str = "") -> list[str]:
            page = await store.directory.list_agents(organization_id, limit, offset, starting_with=starting_with)
            return [agent.external_id for agent in page]

        assert await names(str(acme.id), 10, 0) == ["b", "c", "d"]
        assert await names(None, 3, 0) == ["a", "b", "c"]
        assert await names(None, 3, 3) == ["d"]
        assert await names(new_id(), 10, 0) == []
        for name, organization in (("ca", other), ("c%_", acme), ("cé", acme), ("C", acme)):
            await add_agent(store, name, organization)
        assert await names(None, 10, 0, "c") == ["c", "c%_", "ca", "cé"]
        assert await names(None, 2, 1, "c") == ["c%_", "ca"]
        assert await names(str(acme.id), 10, 0, "c") == ["c", "c%_", "cé"]
        assert await names(None, 10, 0, "c%") == ["c%_"]
        assert await names(None, 10, 0, "cé") == ["cé"]
        assert await names(None, 10, 0, "x") == []

    async def test_removing_an_agent_removes_what_it_sent_and_received(self, store: Store, world: World) -> None:
        received, sent = await world.send(world.alice, world.bob), await world.send(world.bob, world.carol)
        untouched = await world.send(world.alice, world.carol)
        claimed = await world.claim_one(world.bob)
        bob = (await store.directory.find_agents_by_id([world.bob]))[0]

        assert await store.directory.remove_agent(bob.external_id) is True

        left = await world.deliveries.list_receipts([received, sent, untouched])
        assert [receipt.message_id for receipt in left] == [untouched]
        assert await store.messages.list_messages(world.alice, Role.SENDER, Kind.ONE_WAY, limit=10) != []
        assert await store.messages.count_messages(world.alice, Role.SENDER, Kind.ONE_WAY) == 1
        # Whoever was at work on one of them learns that it counts no more.
        assert (await world.settle(claimed, Settling.DONE)).moved == [False]
        assert isinstance((await world.append(world.group(world.alice, world.bob)))[0], UnknownAgents)
        assert await store.directory.remove_agent(bob.external_id) is False

    async def test_a_removed_agents_external_id_can_be_used_again(self, store: Store) -> None:
        organization = await add_organization(store, "acme")
        first = await add_agent(store, "alice", organization)
        await store.directory.remove_agent("alice")
        second = await add_agent(store, "alice", organization)
        assert first is not None
        assert second is not None
        assert first.id != second.id


class DirectoryConformance(OrganizationConformance, AgentConformance):
    """All of `DirectoryStore`."""
