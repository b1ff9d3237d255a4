"""`agent-messaging dead-letters`: messages that were given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..kinds import KIND_OF_WORD
from .app import Group
from .commands import command
from .names import AGENT
from .narrowing import date_options, filter_option
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, content, count, instant, note, say, show, table
from .values import read_metadata

if TYPE_CHECKING:
    from datetime import datetime


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List messages that were given up, with the reasons, and queue them again.

    \b
    Example:
      agent-messaging dead-letters list --agent bob
    """


@dead_letters.command("list")
@click.option("--agent", type=AGENT, help="Only those sent to this agent.")
@click.option("--kind", "words", type=click.Choice([*KIND_OF_WORD]), multiple=True, help="Only this kind. Repeatable.")
@filter_option
@date_options("Sent")
@page_options(20, "so many of the newest")
@pass_options
def list_(
    options: Options,
    agent: str | None,
    words: tuple[str, ...],
    metadata: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
) -> None:
    """List dead letters, newest first, each with the last reason; with --json all reasons.

    \b
    Example:
      agent-messaging dead-letters list --agent bob --since 7d --json
    """
    how: dict[str, Any] = {
        "kinds": [KIND_OF_WORD[word] for word in words] or None,
        "metadata_filter": read_metadata(metadata),
        "date_from": since,
        "date_to": until,
        "limit": limit,
        "offset": offset,
    }
    found = use(options, lambda sdk: sdk.dead_letters.list(agent, **how))
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
            note(f"When the cause is gone: {command('dead-letters redrive', 'ID')}, or --agent NAME for all of one.")

    show(options, {"dead_letters": found}, human)


@dead_letters.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--agent", type=AGENT, help="All those sent to this agent.")
@pass_options
def redrive(options: Options, ids: tuple[str, ...], agent: str | None) -> None:
    """Queue dead letters again, with all their attempts before them. Those that are not dead are passed over.

    \b
    Examples:
      agent-messaging dead-letters redrive ID
      agent-messaging dead-letters redrive --agent bob
    """
    if not ids and agent is None:
        raise click.UsageError(
            "Say which: ids of dead letters, or --agent for all of one agent.", click.get_current_context()
        )
    moved = use(options, lambda sdk: sdk.dead_letters.redrive(list(ids) or None, recipient_external_id=agent))
    show(options, {"redriven": moved}, lambda: say(f"{count(moved, 'message')} queued again."))
