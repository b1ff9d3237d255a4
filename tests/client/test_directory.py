"""Organizations and agents."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

import pytest

from agent_messaging import (
    Agent,
    AgentAlreadyExistsError,
    AgentNotFoundError,
    AgentStatus,
    MessageNotFoundError,
    Organization,
    OrganizationAlreadyExistsError,
    OrganizationNotFoundError,
    ReceivedMessage,
)
from agent_messaging.delivery import names as known_names
from agent_messaging.delivery import runs
from agent_messaging.messaging import pulling
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def test_what_was_registered_can_be_looked_up(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    before = datetime.now(UTC)
    organization_id = await sdk.register_organization("acme", "Acme Corporation")
    agent_id = await sdk.register_agent("alice", "acme", "Alice Agent")
    organization, agent = await sdk.get_organization("acme"), await sdk.get_agent("alice")
    assert isinstance(organization_id, UUID)
    assert isinstance(agent_id, UUID)
    assert isinstance(organization, Organization)
    assert isinstance(agent, Agent)
    assert (organization.id, organization.external_id, organization.name) == (
        organization_id,
        "acme",
        "Acme Corporation",
    )
    assert (agent.id, agent.external_id, agent.name) == (agent_id, "alice", "Alice Agent")
    assert agent.organization_id == organization_id
    for instant in (organization.created_at, organization.updated_at, agent.created_at, agent.updated_at):
        assert abs((instant - before).total_seconds()) < SOON


async def test_an_agent_is_online_while_a_process_serves_it_then_away_and_at_last_offline(make_sdk: MakeSdk) -> None:
    sdk, impatient = await make_sdk(handler_grace=60), await make_sdk(handler_grace=0)
    await sdk.add_people("alice", "bob")
    assert await sdk.get_agent_status("bob") is AgentStatus.OFFLINE
    worker = await make_sdk()
    worker.register_handler("bob")(Inbox())
    await sdk.wait_until_served("bob", timeout=SOON)
    assert [await one.get_agent_status("bob") for one in (worker, sdk)] == [AgentStatus.ONLINE] * 2
    await worker.close()
    assert await sdk.get_agent_status("bob") is AgentStatus.AWAY
    assert await impatient.get_agent_status("bob") is AgentStatus.OFFLINE
    assert await sdk.get_agent_status("alice") is AgentStatus.OFFLINE
    with pytest.raises(AgentNotFoundError, match="'bib'"):
        await sdk.get_agent_status("bib")


async def test_registering_the_same_again_returns_the_same_id(sdk: Sdk) -> None:
    assert await sdk.register_organization("acme", "Acme") == (await sdk.get_organization("acme")).id
    assert await sdk.register_agent("alice", "acme", "Alice") == (await sdk.get_agent("alice")).id


async def test_another_name_is_refused_unless_it_is_a_renaming(sdk: Sdk) -> None:
    with pytest.raises(OrganizationAlreadyExistsError, match=r"'acme' already exists with the name 'Acme'.*exist_ok"):
        await sdk.register_organization("acme", "Another")
    with pytest.raises(AgentAlreadyExistsError, match=r"'alice' already exists in organization 'acme'.*'Alice'"):
        await sdk.register_agent("alice", "acme", "Another")
    assert (await sdk.get_organization("acme")).name == "Acme"
    assert (await sdk.get_agent("alice")).name == "Alice"
    assert await sdk.register_organization("acme", "New", exist_ok=True) == (await sdk.get_organization("acme")).id
    assert await sdk.register_agent("alice", "acme", "New", exist_ok=True) == (await sdk.get_agent("alice")).id
    assert (await sdk.get_organization("acme")).name == (await sdk.get_agent("alice")).name == "New"
    assert (await sdk.get_agent("alice")).updated_at > (await sdk.get_agent("alice")).created_at


async def test_an_agent_of_another_organization_is_refused_even_as_a_renaming(sdk: Sdk) -> None:
    await sdk.register_organization("globex", "Globex")
    for exist_ok in (False, True):
        with pytest.raises(AgentAlreadyExistsError, match="in organization 'acme'"):
            await sdk.register_agent("alice", "globex", "Alice", exist_ok=exist_ok)
    assert (await sdk.get_agent("alice")).name == "Alice"


async def test_concurrent_registrations_of_one_agent_agree_on_its_id(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(), await make_sdk()
    ids = await asyncio.gather(
        *(one.register_organization("acme", "Acme") for one in (first, second) for _ in range(5))
    )
    assert len(set(ids)) == 1
    ids = await asyncio.gather(*(one.register_agent("bob", "acme", "Bob") for one in (first, second) for _ in range(5)))
    assert len(set(ids)) == 1


async def test_unknown_names_are_refused_with_the_closest_ones(sdk: Sdk) -> None:
    with pytest.raises(AgentNotFoundError, match=r"Agent not found: 'alcie'. Did you mean 'alice'\?") as agent:
        await sdk.get_agent("alcie")
    assert agent.value.suggestions == ("alice",)
    with pytest.raises(OrganizationNotFoundError, match=r"'acmee'. Did you mean 'acme'\?") as organization:
        await sdk.get_organization("acmee")
    assert organization.value.suggestions == ("acme",)
    with pytest.raises(OrganizationNotFoundError, match="'acmee'"):
        await sdk.register_agent("dave", "acmee", "Dave")
    with pytest.raises(OrganizationNotFoundError, match="'acmee'"):
        await sdk.list_agents("acmee")
    with pytest.raises(AgentNotFoundError, match=r"'Alice'. Did you mean 'alice'"):
        await sdk.get_agent("Alice")


async def test_lists_are_pages_in_the_order_of_ids(sdk: Sdk) -> None:
    await sdk.add_people("Zoe", "älf", "adam", organization="globex")

    async def page(within: str | None, limit: int = 100, offset: int = 0) -> list[str]:
        return [agent.external_id for agent in await sdk.list_agents(within, limit=limit, offset=offset)]

    everyone = ["Zoe", "adam", "alice", "bob", "carol", "älf"]
    assert await page(None) == everyone, "in the order of code points, on each backend"
    assert await page("globex") == ["Zoe", "adam", "älf"]
    assert [*await page(None, 2), *await page(None, 2, 2), *await page(None, 2, 4)] == everyone
    assert await page(None, 2, 6) == []
    assert [one.external_id for one in await sdk.list_organizations()] == ["acme", "globex"]
    assert [one.external_id for one in await sdk.list_organizations(limit=1, offset=1)] == ["globex"]


async def test_names_in_any_script_come_back_as_they_were(sdk: Sdk) -> None:
    for name in (
        "エージェント",
        "агент",
        "o'brien",
        'quo"te',
        "back\\slash",
        "%_*",
        "a b",
        "👩‍🚀"[0],
        "x" * 255,
        "*"[:1] * 2,
    ):
        await sdk.register_agent(name, "acme", name)
        found = await sdk.get_agent(name)
        assert (found.external_id, found.name) == (name, name)


async def test_a_removed_agent_takes_its_messages_along(sdk: Sdk) -> None:
    inbox = Inbox()
    for name in ("alice", "bob", "carol"):
        sdk.register_handler(name)(inbox)
    handled = await sdk.one_way.send("alice", ["bob", "carol"], "handled")
    await sdk.wait(handled)
    [sent_by_bob] = await sdk.one_way.send("bob", "carol", "from bob")
    await sdk.wait([sent_by_bob])
    assert await sdk.deregister_agent("bob") is True
    assert await sdk.deregister_agent("bob") is False
    with pytest.raises(AgentNotFoundError):
        await sdk.get_agent("bob")
    for gone in (handled[0], sent_by_bob):
        with pytest.raises(MessageNotFoundError):
            await sdk.receipts.get(gone)
    assert await sdk.state(handled[1]) == "done"
    assert await sdk.one_way.get_message_count("alice", "sender") == 1
    assert await sdk.one_way.get_message_count("carol") == 1


async def test_whoever_waits_for_a_removed_agents_receipt_is_released(make_sdk: MakeSdk) -> None:
    first, second = await make_sdk(), await make_sdk()
    await first.add_people("alice", "bob")
    ids = await first.one_way.send("alice", "bob", "never handled", require_handler=False)
    here = asyncio.create_task(first.receipts.wait(ids, timeout=SOON))
    there = asyncio.create_task(second.receipts.wait(ids, timeout=SOON))
    await eventually(lambda: all(sdk._started().lots.receipts._futures for sdk in (first, second)))
    await first.deregister_agent("bob")
    for waiting in (here, there):
        with pytest.raises(MessageNotFoundError):
            await waiting


async def test_removing_an_organization_removes_its_agents_and_their_messages(sdk: Sdk) -> None:
    await sdk.add_people("gina", organization="globex")
    ids = await sdk.one_way.send("alice", "gina", "hi", require_handler=False)
    waiting = asyncio.create_task(sdk.receipts.wait(ids, timeout=SOON))
    await eventually(lambda: sdk._started().lots.receipts._futures)
    assert await sdk.deregister_organization("globex") is True
    assert await sdk.deregister_organization("globex") is False
    with pytest.raises(MessageNotFoundError):
        await waiting
    with pytest.raises(AgentNotFoundError):
        await sdk.get_agent("gina")
    with pytest.raises(AgentNotFoundError):
        await sdk.one_way.send("alice", "gina", "hi", require_handler=False)
    assert await sdk.one_way.get_message_count("alice", "sender") == 0
    assert [one.external_id for one in await sdk.list_agents()] == ["alice", "bob", "carol"]


async def test_a_name_registered_anew_elsewhere_is_the_new_agent_here_too(make_sdk: MakeSdk) -> None:
    here, elsewhere = await make_sdk(), await make_sdk()
    await here.add_people("alice", "bob")
    inbox = Inbox()
    elsewhere.register_handler("bob")(inbox)
    await here.wait_until_served("bob", SOON)
    await here.wait(await here.one_way.send("alice", "bob", 1))
    assert await elsewhere.deregister_agent("bob")
    new_id = await elsewhere.register_agent("bob", "acme", "New Bob")
    await here.wait(await here.one_way.send("alice", "bob", 2, require_handler=False))
    assert inbox.messages == [1, 2]
    assert inbox.contexts[1].recipient_name == "New Bob"
    assert (await here.get_agent("bob")).id == new_id


async def test_a_sender_removed_elsewhere_is_reported_as_unknown(make_sdk: MakeSdk) -> None:
    here, elsewhere = await make_sdk(), await make_sdk()
    await here.add_people("alice", "bob", "alicia")
    await here.one_way.send("alice", "bob", 1, require_handler=False)
    await elsewhere.deregister_agent("alice")
    with pytest.raises(AgentNotFoundError, match=r"Sender agent not found: 'alice'.*'alicia'"):
        await here.one_way.send("alice", "bob", 2, require_handler=False)


async def test_handlers_and_receivers_are_told_the_names_that_agents_were_given_elsewhere(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    sdk.register_handler("bob")(inbox := Inbox())
    await sdk.wait(await sdk.one_way.send("alice", "bob", "before"))
    [pulled] = await _pull(sdk, "before")
    for name in ("alice", "bob", "carol"):
        await other.register_agent(name, "acme", f"New {name}", exist_ok=True)
    for module in (known_names, runs, pulling):
        monkeypatch.setattr(module, "NAMES_MAX_AGE", 0.0)
    await sdk.wait(await sdk.one_way.send("alice", "bob", "after"))
    await sdk.wait(await other.one_way.send("alice", "bob", "from elsewhere"))
    [again] = await _pull(sdk, "after")
    names = [(context.sender_name, context.recipient_name) for context in inbox.contexts]
    assert names == [("Alice", "Bob"), ("New alice", "New bob"), ("New alice", "New bob")]
    assert (pulled.context.sender_name, pulled.context.recipient_name) == ("Alice", "Carol")
    assert (again.context.sender_name, again.context.recipient_name) == ("New alice", "New carol")


async def _pull(sdk: Sdk, content: str) -> list[ReceivedMessage]:
    await sdk.one_way.send("alice", "carol", content, require_handler=False)
    messages = await sdk.receive("carol", timeout=SOON)
    for message in messages:
        await message.done()
    return messages


async def test_a_record_without_a_name_takes_the_first_one_and_no_name_conflicts_with_none(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk()
    organization = await sdk.register_organization("initech")
    agent = await sdk.register_agent("milton", "initech")
    assert (await sdk.get_organization("initech")).name == "initech"
    assert (await sdk.get_agent("milton")).name == "milton"
    assert await sdk.register_organization("initech", "Initech Inc.") == organization
    assert await sdk.register_agent("milton", "initech", "Milton W.") == agent
    assert await sdk.register_organization("initech") == organization
    assert await sdk.register_agent("milton", "initech") == agent
    assert (await sdk.get_organization("initech")).name == "Initech Inc."
    assert (await sdk.get_agent("milton")).name == "Milton W."
    with pytest.raises(OrganizationAlreadyExistsError):
        await sdk.register_organization("initech", "initech")
    with pytest.raises(AgentAlreadyExistsError):
        await sdk.register_agent("milton", "initech", "milton")
    await sdk.register_organization("globex")
    with pytest.raises(AgentAlreadyExistsError, match="in organization 'initech'"):
        await sdk.register_agent("milton", "globex")


@pytest.mark.parametrize("backend", ["sqlite"])
async def test_a_cache_that_starts_anew_under_a_look_up_hides_no_agent(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so at its limit, and forgets an agent that somebody has registered anew."""
    names = sdk._started().names
    directory = names.directory
    by_name, by_id = directory.find_agents, directory.find_agents_by_id
    alice, bob = [str((await sdk.get_agent(name)).id) for name in ("alice", "bob")]

    async def find(external_ids: Collection[str]) -> list[Agent]:
        names.clear()
        return await by_name(external_ids)

    async def find_by_id(ids: Collection[str]) -> list[Agent]:
        names.clear()
        return await by_id(ids)

    monkeypatch.setattr(directory, "find_agents", find)
    monkeypatch.setattr(directory, "find_agents_by_id", find_by_id)
    for _ in range(2):
        await names.get("alice")
        names.forget([bob])
        assert [one.id for one in await names.get_all(["alice", "bob"])] == [alice, bob]
        await names.get("alice")
        names.forget([bob])
        assert (await names.find_by_id([alice, bob])).keys() == {alice, bob}
