"""`agent-messaging org`: organizations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .app import Group
from .commands import command
from .confirming import confirm
from .names import ORGANIZATION
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, count, instant, note, say, show, table
from .values import check_renaming

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging, Organization


@click.group(cls=Group)
def org() -> None:
    """Add, show, list and remove organizations: every agent belongs to one.

    \b
    Example:
      agent-messaging org add acme --name 'Acme Ltd.'
    """


@org.command()
@click.argument("id")
@click.option("--name", help="For people. Left out, it bears its id until a program or this command names it.")
@click.option("--rename", is_flag=True, help="Give an existing organization --name instead of refusing it.")
@pass_options
def add(options: Options, id: str, name: str | None, rename: bool) -> None:
    """Add an organization; makes the store if there is none. Repeating it changes nothing.

    \b
    Example:
      agent-messaging org add acme --name 'Acme Ltd.'
    """
    check_renaming(rename, name)

    async def register(sdk: AgentMessaging) -> tuple[Organization, str]:
        await sdk.register_organization(id, name, exist_ok=rename)
        return await sdk.get_organization(id), str(sdk.config.store)

    found, location = use(options, register, create=True)
    document = {"id": found.id, "external_id": id, "name": found.name}
    show(options, document, lambda: say(f"Organization {id} is in {location}."))


@org.command("list")
@page_options(100)
@pass_options
def list_(options: Options, limit: int, offset: int) -> None:
    """List organizations in order of their ids.

    \b
    Example:
      agent-messaging org list --json
    """
    found = use(options, lambda sdk: sdk.list_organizations(limit=limit, offset=offset))
    rows = [(one.external_id, one.name, instant(one.created_at)) for one in found]
    empty = f"No organizations. Add one: {command('org add', 'acme')}"
    show(options, {"organizations": found}, lambda: table(("organization", "name", "since"), rows, empty=empty))


@org.command("show")
@click.argument("id", type=ORGANIZATION)
@pass_options
def show_(options: Options, id: str) -> None:
    """Show an organization, with its agents.

    \b
    Example:
      agent-messaging org show acme
    """

    async def look(sdk: AgentMessaging) -> tuple[Organization, list[Agent]]:
        return await sdk.get_organization(id), await sdk.list_agents(id, limit=1000)

    found, agents = use(options, look)

    def human() -> None:
        say(f"{id} ({clean(found.name)}), since {instant(found.created_at)}")
        rows = [(agent.external_id, agent.name, instant(agent.created_at)) for agent in agents]
        add_one = command("agents add", "alice", org=id)
        table(("agent", "name", "since"), rows, empty=f"No agents. Add one: {add_one}")
        if len(agents) == 1000:
            note(f"There may be more: {command('agents list', org=id, offset='1000')}")

    show(options, {"organization": found, "agents": agents}, human)


@org.command()
@click.argument("id", type=ORGANIZATION)
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_options
def remove(options: Options, id: str, yes: bool) -> None:
    """Remove an organization with its agents, their messages and receipts. This cannot be undone.

    \b
    Example:
      agent-messaging org remove acme --yes
    """

    async def look(sdk: AgentMessaging) -> str:
        agents = len(await sdk.list_agents(id, limit=1000))
        more = " or more" if agents == 1000 else ""
        return f"organization {id!r} with {count(agents, 'agent')}{more} and all their messages"

    async def deregister(sdk: AgentMessaging) -> bool:
        await sdk.get_organization(id)  # raises, and suggests the closest
        return await sdk.deregister_organization(id)

    if not yes:
        confirm(options, use(options, look))
    removed = use(options, deregister)
    show(options, {"external_id": id, "removed": removed}, lambda: say(f"Organization {id} is removed."))
