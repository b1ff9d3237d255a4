"""`agent-messaging inbox`."""

from __future__ import annotations

from typing import Any

import click

from .app import Command, get_options
from .opening import open_sdk, run
from .output import content, count, instant, note, show, table


@click.command(cls=Command)
@click.argument("agent")
@click.option("--unread", is_flag=True, help="Only messages not marked as read.")
@click.option("--mark-read", is_flag=True, help="Then mark all of the agent's messages as read, also those not listed.")
@click.option("--limit", default=20, show_default=True, help="At most so many, up to 1000.")
@click.option("--offset", default=0, help="Pass over so many of the newest.")
@click.pass_context
def inbox(ctx: click.Context, agent: str, unread: bool, mark_read: bool, limit: int, offset: int) -> None:
    """List the messages an agent received, newest first. Looking handles nothing and settles nothing.

    \b
    Examples:
      agent-messaging inbox bob --unread
      agent-messaging inbox bob --json | jq -r '.messages[].content'
    """
    options = get_options(ctx)

    async def work() -> None:
        marked = None
        async with open_sdk(options) as sdk:
            found = await sdk.one_way.get_received_messages(agent, include_read=not unread, limit=limit, offset=offset)
            if mark_read:
                marked = await sdk.one_way.mark_messages_read(agent)
            more = await sdk.one_way.get_message_count(agent, read_status=False if unread and not mark_read else None)
        document: dict[str, Any] = {"messages": found}
        if marked is not None:
            document["marked_read"] = marked
        rows = [
            (
                instant(one.created_at),
                one.sender_id or "",
                "" if one.read_at is not None else "new",
                content(one.content),
                one.message_id,
            )
            for one in found
        ]

        def human() -> None:
            empty = f"{agent} has no unread messages." if unread else f"{agent} has received nothing yet."
            table(("at", "from", "", "content", "id"), rows, empty=empty)
            if offset + len(found) < more and len(found) == limit:
                note(f"{len(found)} of {more:,}; --limit and --offset show the others.")
            if marked is not None:
                note(f"Marked {count(marked, 'message')} as read.")

        show(options, document, human)

    run(options, work())
