"""`agent-messaging coordination`: the coordination of supervisors and workers, shown."""

from __future__ import annotations

import click

from .app import Command, Group
from .options import Options, pass_options
from .output import say, show


@click.group(cls=Group)
def coordination() -> None:
    """See supervisors and workers at work.

    \b
    Example:
      agent-messaging coordination demo
    """


@coordination.command(cls=Command)
@pass_options
def demo(options: Options) -> None:
    """See a supervisor hand tasks to two workers: one task fails, and one finds nobody who can do it.

    \b
    Examples:
      agent-messaging coordination demo
      agent-messaging coordination demo --url redis://localhost:6379

    It runs in the store, with agents of its own, and writes agent_communication_demo.log in this folder. With
    AGENT_COMMUNICATION_MODE=mock it runs in memory.
    """
    from ..coordination.demo import run_demo

    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        if not options.json:
            say(line)

    run_demo(tell, options.url)
    if options.json:
        show(options, {"lines": lines}, lambda: None)
