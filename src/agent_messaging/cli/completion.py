"""`agent-messaging completion`: the script by which a shell completes, and what it is offered from the store.

A person waits for names at each press of a key. So the look takes a second at most, asks the store alone, without the
engine, and offers nothing where anything goes wrong: nothing may be printed between what the person types.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from .app import Command
from .external import read_names
from .options import Options, get_options, pass_options
from .output import note, say, show

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..storage.ports import Store

PROGRAM = "agent-messaging"
VARIABLE = "_AGENT_MESSAGING_COMPLETE"
"""By it the script asks the program."""
HOW = {
    "bash": "For every new shell: agent-messaging completion bash > "
    "~/.local/share/bash-completion/completions/agent-messaging",
    "zsh": "For every new shell: echo 'eval \"$(agent-messaging completion zsh)\"' >> ~/.zshrc",
    "fish": "For every new shell: agent-messaging completion fish > ~/.config/fish/completions/agent-messaging.fish",
}
PATIENCE = 1.0
"""Seconds for the whole look."""
OFFERED = 50
"""Names offered at most. Of more, the next letter chooses."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice([*HOW]))
@pass_options
def completion(options: Options, shell: str) -> None:
    """Print the script by which a shell completes commands, options, and the names of agents, organizations and
    meetings.

    \b
    Examples:
      eval "$(agent-messaging completion bash)"
      agent-messaging completion bash \\
        > ~/.local/share/bash-completion/completions/agent-messaging
      echo 'eval "$(agent-messaging completion zsh)"' >> ~/.zshrc
      agent-messaging completion fish \\
        > ~/.config/fish/completions/agent-messaging.fish

    The first line is for this shell alone, each of the others for every new one. Bash needs to be 4.4 or newer. Names
    are those of the store that the settings or --url name; without one, nothing is offered.
    """
    from click.shell_completion import get_completion_class

    shape = get_completion_class(shell)
    assert shape is not None
    made = shape(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE)
    script = made.source_template % made.source_vars()

    def human() -> None:
        say(script.rstrip("\n"))
        if sys.stdout.isatty():
            note(HOW[shell])

    show(options, {"shell": shell, "script": script, "install": HOW[shell]}, human)


def find_names(ctx: click.Context, noun: str, incomplete: str) -> list[CompletionItem]:
    """The names of what is in the store that begin so, each with a word about it; none where it cannot be asked."""
    import asyncio
    import logging
    import warnings

    from click.shell_completion import CompletionItem

    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"):
            found = asyncio.run(_look(ctx, noun, incomplete))
    except Exception:  # whatever it is, the person has not asked for it
        return []
    finally:
        logging.disable(logging.NOTSET)
    # Bash puts the words into the line as they are, so one that it would read in another way is quoted.
    in_bash = os.environ.get(VARIABLE, "").startswith("bash")
    return [
        CompletionItem(shlex.quote(name) if in_bash else name, help=" ".join(about.split()) or None)
        for name, about in found
    ]


async def _look(ctx: click.Context, noun: str, incomplete: str) -> list[tuple[str, str]]:
    import asyncio

    from .. import Config
    from ..bootstrap import build_store
    from .opening import check_exists

    config = Config(url=get_options(ctx).url, database={"min_pool_size": 1, "max_pool_size": 1})
    check_exists(config)
    store = build_store(config)
    try:
        async with asyncio.timeout(PATIENCE):
            await store.open(initialize=False)
            match noun:
                case "agent":
                    agents = await store.directory.list_agents(None, OFFERED, 0, starting_with=incomplete)
                    return [(one.external_id, one.name) for one in agents]
                case "organization":
                    organizations = await store.directory.list_organizations(1000, 0)
                    return [
                        (one.external_id, one.name) for one in organizations if one.external_id.startswith(incomplete)
                    ]
            return await _find_meetings(store, ctx, incomplete, open_only=noun == "open meeting")
    finally:
        await store.aclose()


async def _find_meetings(
    store: Store, ctx: click.Context, incomplete: str, *, open_only: bool
) -> list[tuple[str, str]]:
    """The newest meetings: of the agent that the line names before, or of all."""
    from ..models import MeetingStatus

    whose = ctx.params.get("agent") or ctx.params.get("host")
    agents = await store.directory.find_agents([whose]) if whose else []
    open_ones = {MeetingStatus.CREATED, MeetingStatus.READY, MeetingStatus.ACTIVE}
    rows = await store.meetings.list_meetings(
        str(agents[0].id) if agents else None, statuses=open_ones if open_only else None, limit=OFFERED
    )
    names = await read_names(store, {row.host_id for row in rows})
    return [
        (row.meeting_id, f"{names.get(row.host_id, '?')}'s {row.status.value} meeting")
        for row in rows
        if row.meeting_id.startswith(incomplete)
    ]
