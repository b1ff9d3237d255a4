"""`agent-messaging agents`: who sends and receives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..kinds import CONTEXT_OF_KIND, FACTS, SENT
from .app import Group
from .commands import command
from .confirming import confirm
from .names import AGENT, ORGANIZATION
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, count, instant, say, show, table
from .services import read_services
from .values import check_renaming
from .waiting import Duty, read_duties

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging, Organization


@click.group(cls=Group)
def agents() -> None:
    """Add, show, list and remove agents: those who send and receive.

    \b
    Example:
      agent-messaging agents add alice --org acme --name Alice
    """


@agents.command()
@click.argument("id")
@click.option("--org", required=True, metavar="ORG", type=ORGANIZATION, help="The id of its organization.")
@click.option("--name", help="For people. Left out, it bears its id until a program or this command names it.")
@click.option("--rename", is_flag=True, help="Give an existing agent of this organization --name.")
@pass_options
def add(options: Options, id: str, org: str, name: str | None, rename: bool) -> None:
    """Add an agent to an organization. Repeating it changes nothing.

    \b
    Example:
      agent-messaging agents add alice --org acme --name Alice
    """
    check_renaming(rename, name)

    async def register(sdk: AgentMessaging) -> Agent:
        await sdk.register_agent(id, org, name, exist_ok=rename)
        return await sdk.get_agent(id)

    found = use(options, register)
    document = {"id": found.id, "external_id": id, "organization": org, "name": found.name}
    show(options, document, lambda: say(f"Agent {id} is in organization {org}."))


@agents.command("list")
@click.option("--org", metavar="ORG", type=ORGANIZATION, help="Only those of this organization.")
@page_options(100)
@pass_options
def list_(options: Options, org: str | None, limit: int, offset: int) -> None:
    """List agents in order of their ids.

    \b
    Example:
      agent-messaging agents list --org acme
    """

    async def look(sdk: AgentMessaging) -> tuple[list[Agent], Sequence[Organization]]:
        found = await sdk.list_agents(org, limit=limit, offset=offset)
        ids = {str(agent.organization_id) for agent in found}
        return found, await sdk.store.directory.find_organizations_by_id(ids)

    found, organizations = use(options, look)
    names = {one.id: one.external_id for one in organizations}
    documents = [{**agent.model_dump(), "organization": names.get(agent.organization_id)} for agent in found]
    rows = [
        (agent.external_id, names.get(agent.organization_id, ""), agent.name, instant(agent.created_at))
        for agent in found
    ]
    empty = f"No agents. Add one: {command('agents add', 'alice', org=org or 'acme')}"
    columns = ("agent", "organization", "name", "since")
    show(options, {"agents": documents}, lambda: table(columns, rows, empty=empty))


@agents.command("show")
@click.argument("id", type=AGENT)
@pass_options
def show_(options: Options, id: str) -> None:
    """Show an agent: who serves it, what it has not read, and what waits for it, with the command that does it.

    \b
    Example:
      agent-messaging agents show alice
    """

    async def look(sdk: AgentMessaging) -> tuple[dict[str, Any], list[Duty]]:
        from ..storage.ports import Role

        found = await sdk.get_agent(id)
        [home] = await sdk.store.directory.find_organizations_by_id({str(found.organization_id)})
        services, own = await read_services(sdk), str(found.id)
        counted = sdk.store.messages.count_messages
        facts: dict[str, Any] = {
            **found.model_dump(),
            "organization": home.external_id,
            "status": await sdk.get_agent_status(id),
            "served": [kind for kind in CONTEXT_OF_KIND if services.is_served(own, kind)],
            "unread": {kind.value: await counted(own, Role.RECIPIENT, kind, read=False) for kind in SENT},
            "sessions": len(await sdk.store.sessions.list_sessions(own, open_only=True, limit=1000)),
        }
        return facts, await read_duties(sdk, found)

    facts, duties = use(options, look)

    def human() -> None:
        say(f"{id} ({clean(facts['name'])}) of {facts['organization']}, since {instant(facts['created_at'])}")
        served = ", ".join(f"{FACTS[kind].word or kind.value}s" for kind in facts["served"])
        by = f"a live process serves its {served}" if served else "no live process serves it"
        say(f"{facts['status'].value}: {by}")
        notes, messages = facts["unread"].values()
        said = f"{count(notes, 'note')} and {count(messages, 'message')} of conversations"
        say(f"unread: {said}; in {count(facts['sessions'], 'open conversation')}")
        for duty in duties:
            say(str(duty))

    show(options, {"agent": facts, "waiting": duties}, human)


@agents.command()
@click.argument("id", type=AGENT)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_options
def remove(options: Options, id: str, yes: bool) -> None:
    """Remove an agent with its messages, sent and received, and their receipts. This cannot be undone.

    \b
    Example:
      agent-messaging agents remove alice --yes
    """

    async def look(sdk: AgentMessaging) -> str:
        received = await sdk.one_way.get_message_count(id)
        sent = await sdk.one_way.get_message_count(id, role="sender")
        return f"agent {id!r} with {count(received, 'message')} received and {count(sent, 'message')} sent"

    async def deregister(sdk: AgentMessaging) -> bool:
        await sdk.get_agent(id)  # raises, and suggests the closest
        return await sdk.deregister_agent(id)

    if not yes:
        confirm(options, use(options, look))
    removed = use(options, deregister)
    show(options, {"external_id": id, "removed": removed}, lambda: say(f"Agent {id} is removed."))
