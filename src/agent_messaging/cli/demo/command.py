"""`agent-messaging demo`: what the SDK promises, shown by real processes on a file of its own.

Every figure is measured in this run, and the exit code is 0 only if all that is claimed happened.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import click

from ..app import Command
from ..opening import run
from ..options import get_options
from ..output import show
from .quickstart import FILE, NEXT, SCRIPT
from .stage import Stage, bold


@click.command(cls=Command)
@click.option("--keep", is_flag=True, help="Leave the store, to look around in it.")
@click.pass_context
def demo(ctx: click.Context, keep: bool) -> None:
    """See it work in a few seconds: two processes on one file, a kill -9 in the middle of the work, a meeting.

    \b
    Example:
      agent-messaging demo --keep

    It needs no server and no network, uses a file of its own in the temporary folder, and measures what it prints. The
    exit code is 0 only if all that it claims happened.
    """
    from .acts import play

    options = get_options(ctx)
    folder = tempfile.mkdtemp(prefix="agent-messaging-demo-")
    path = os.path.join(os.path.realpath(folder), "demo.db")
    stage = Stage(options)
    try:
        stage.say(f"{bold('agent-messaging demo')}   no server, no network, one file:")
        stage.say(path)
        figures = run(options, play(stage, path))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    _print_script(stage)
    if keep:
        stage.say(f"\nThe store of this demo is kept: agent-messaging doctor --url sqlite:///{path}")
    if options.json:
        show(options, {"figures": figures, "store": path if keep else None, "script": SCRIPT}, lambda: None)


def _print_script(stage: Stage) -> None:
    stage.act(6, f"Your turn: save this as {FILE} and run it with python {FILE}")
    stage.say()
    for line in SCRIPT.splitlines():
        stage.say(line)
    stage.say(f"\n{bold('Then')}")
    for command, what in NEXT:
        stage.say(f"   {command:<28}{what}")
