"""`agent-messaging org`: organizations."""

from __future__ import annotations

import click

from .app import Group
from .confirming import confirm
from .opening import open_sdk, run
from .options import get_options
from .output import count, instant, say, show, table
from .values import check_renaming


@click.group(cls=Group)
def org() -> None:
    """Add, list and remove organizations: every agent belongs to one.

    \b
    Example:
      agent-messaging org add acme --name 'Acme Ltd.'
    """


@org.command()
@click.argument("id")
@click.option("--name", help="For people. Left out, it bears its id until a program or this command names it.")
@click.option("--rename", is_flag=True, help="Give an existing organization --name instead of refusing it.")
@click.pass_context
def add(ctx: click.Context, id: str, name: str | None, rename: bool) -> None:
    """Add an organization; makes the store if there is none. Repeating it changes nothing.

    \b
    Example:
      agent-messaging org add acme --name 'Acme Ltd.'
    """
    options = get_options(ctx)
    check_renaming(rename, name)

    async def work() -> None:
        async with open_sdk(options, create=True) as sdk:
            uuid = await sdk.register_organization(id, name, exist_ok=rename)
            found = await sdk.get_organization(id)
            location = sdk.config.store
        document = {"id": uuid, "external_id": id, "name": found.name}
        show(options, document, lambda: say(f"Organization {id} is in {location}."))

    run(options, work())


@org.command("list")
@click.option("--limit", default=100, show_default=True, help="At most so many, up to 1000.")
@click.option("--offset", default=0, help="Pass over so many.")
@click.pass_context
def list_(ctx: click.Context, limit: int, offset: int) -> None:
    """List organizations in order of their ids.

    \b
    Example:
      agent-messaging org list --json
    """
    options = get_options(ctx)

    async def work() -> None:
        async with open_sdk(options) as sdk:
            found = await sdk.list_organizations(limit=limit, offset=offset)
        rows = [(one.external_id, one.name, instant(one.created_at)) for one in found]
        empty = "No organizations. Add one: agent-messaging org add acme"
        show(options, {"organizations": found}, lambda: table(("organization", "name", "since"), rows, empty=empty))

    run(options, work())


@org.command()
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def remove(ctx: click.Context, id: str, yes: bool) -> None:
    """Remove an organization with its agents, their messages and receipts. This cannot be undone.

    \b
    Example:
      agent-messaging org remove acme --yes
    """
    options = get_options(ctx)

    async def look() -> str:
        async with open_sdk(options) as sdk:
            await sdk.get_organization(id)
            agents = len(await sdk.list_agents(id, limit=1000))
        more = " or more" if agents == 1000 else ""
        return f"organization {id!r} with {count(agents, 'agent')}{more} and all their messages"

    async def work() -> None:
        async with open_sdk(options) as sdk:
            await sdk.get_organization(id)  # raises, and suggests the closest
            removed = await sdk.deregister_organization(id)
        show(options, {"external_id": id, "removed": removed}, lambda: say(f"Organization {id} is removed."))

    if not yes:
        confirm(options, run(options, look()))
    run(options, work())
