"""`agent-messaging dead-letters`: messages that were given up."""

from __future__ import annotations

import click

from .app import Group
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, content, count, instant, note, say, show, table


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List messages that were given up, with the reasons, and queue them again.

    \b
    Example:
      agent-messaging dead-letters list --agent bob
    """


@dead_letters.command("list")
@click.option("--agent", help="Only those sent to this agent.")
@page_options(20, "so many of the newest")
@pass_options
def list_(options: Options, agent: str | None, limit: int, offset: int) -> None:
    """List dead letters, newest first, each with the last reason; with --json all reasons.

    \b
    Example:
      agent-messaging dead-letters list --agent bob --json
    """
    found = use(options, lambda sdk: sdk.dead_letters.list(agent, limit=limit, offset=offset))
    rows = [
        (
            instant(one.died_at),
            one.sender_id,
            one.recipient_id,
            str(one.attempt),
            clean(one.reasons[-1]) if one.reasons else "",
            content(one.content, 60),
            one.message_id,
        )
        for one in found
    ]

    def human() -> None:
        table(("at", "from", "to", "runs", "reason", "content", "id"), rows, empty="No dead letters.")
        if found:
            note("When the cause is gone: agent-messaging dead-letters redrive ID, or --agent NAME for all of one.")

    show(options, {"dead_letters": found}, human)


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--agent", help="All those sent to this agent.")
@pass_options
def redrive(options: Options, ids: tuple[str, ...], agent: str | None) -> None:
    """Queue dead letters again, with all their attempts before them. Those that are not dead are passed over.

    \b
    Examples:
      agent-messaging dead-letters redrive 0199d2c4-8f0e-7cc1-b54d-0d5d3c1a7e11
      agent-messaging dead-letters redrive --agent bob
    """
    if not ids and agent is None:
        raise click.UsageError(
            "Say which: ids of dead letters, or --agent for all of one agent.", click.get_current_context()
        )
    moved = use(options, lambda sdk: sdk.dead_letters.redrive(list(ids) or None, recipient_external_id=agent))
    show(options, {"redriven": moved}, lambda: say(f"{count(moved, 'message')} queued again."))
