"""`agent-messaging agents`: who sends and receives."""

from __future__ import annotations

import click

from .app import Group
from .confirming import confirm
from .opening import open_sdk, run
from .options import get_options
from .output import count, instant, say, show, table
from .values import check_renaming


@click.group(cls=Group)
def agents() -> None:
    """Add, list and remove agents: those who send and receive.

    \b
    Example:
      agent-messaging agents add alice --org acme --name Alice
    """


@agents.command()
@click.argument("id")
@click.option("--org", required=True, metavar="ORG", help="The id of its organization.")
@click.option("--name", help="For people. Left out, it bears its id until a program or this command names it.")
@click.option("--rename", is_flag=True, help="Give an existing agent of this organization --name.")
@click.pass_context
def add(ctx: click.Context, id: str, org: str, name: str | None, rename: bool) -> None:
    """Add an agent to an organization. Repeating it changes nothing.

    \b
    Example:
      agent-messaging agents add alice --org acme --name Alice
    """
    options = get_options(ctx)
    check_renaming(rename, name)

    async def work() -> None:
        async with open_sdk(options) as sdk:
            uuid = await sdk.register_agent(id, org, name, exist_ok=rename)
            found = await sdk.get_agent(id)
        document = {"id": uuid, "external_id": id, "organization": org, "name": found.name}
        show(options, document, lambda: say(f"Agent {id} is in organization {org}."))

    run(options, work())


@agents.command("list")
@click.option("--org", metavar="ORG", help="Only those of this organization.")
@click.option("--limit", default=100, show_default=True, help="At most so many, up to 1000.")
@click.option("--offset", default=0, help="Pass over so many.")
@click.pass_context
def list_(ctx: click.Context, org: str | None, limit: int, offset: int) -> None:
    """List agents in order of their ids.

    \b
    Example:
      agent-messaging agents list --org acme
    """
    options = get_options(ctx)

    async def work() -> None:
        async with open_sdk(options) as sdk:
            found = await sdk.list_agents(org, limit=limit, offset=offset)
            ids = {str(agent.organization_id) for agent in found}
            organizations = await sdk.store.directory.find_organizations_by_id(ids)
        names = {one.id: one.external_id for one in organizations}
        documents = [{**agent.model_dump(), "organization": names.get(agent.organization_id)} for agent in found]
        rows = [
            (agent.external_id, names.get(agent.organization_id, ""), agent.name, instant(agent.created_at))
            for agent in found
        ]
        empty = "No agents. Add one: agent-messaging agents add alice --org acme"
        columns = ("agent", "organization", "name", "since")
        show(options, {"agents": documents}, lambda: table(columns, rows, empty=empty))

    run(options, work())


@agents.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(ctx: click.Context, id: str, yes: bool) -> None:
    """Remove an agent with its messages, sent and received, and their receipts. This cannot be undone.

    \b
    Example:
      agent-messaging agents remove alice --yes
    """
    options = get_options(ctx)

    async def look() -> str:
        async with open_sdk(options) as sdk:
            received = await sdk.one_way.get_message_count(id)
            sent = await sdk.one_way.get_message_count(id, role="sender")
        return f"agent {id!r} with {count(received, 'message')} received and {count(sent, 'message')} sent"

    async def work() -> None:
        async with open_sdk(options) as sdk:
            await sdk.get_agent(id)  # raises, and suggests the closest
            removed = await sdk.deregister_agent(id)
        show(options, {"external_id": id, "removed": removed}, lambda: say(f"Agent {id} is removed."))

    if not yes:
        confirm(options, run(options, look()))
    run(options, work())
