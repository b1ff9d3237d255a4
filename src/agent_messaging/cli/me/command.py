"""The command: what it needs, the SDK of the program, and what ends it. The screen is loaded with its first use."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from ..app import Command
from ..errors import INTERNAL_ERROR
from ..names import AGENT
from ..opening import check_exists, load_config, log_through
from ..options import Options, pass_options
from ..output import note, tell
from ..progress import is_dumb

if TYPE_CHECKING:
    from ... import Config

KEPT = 1_000
"""Lines of the log that are kept until the screen is gone."""
LEAVES_WITHIN = 1.0
"""Seconds for what is under way when a person leaves. Nothing waits for the person, so there is hardly anything."""
TOLD_AFTER = 2.0
"""Seconds of leaving after which the person is told what it waits for."""


@click.command(cls=Command)
@click.argument("agent", type=AGENT)
@pass_options
def me(options: Options, agent: str) -> None:
    """Take part as an agent, at a full-screen program: its inbox, the questions that wait for its answer, its meetings,
    what it has sent, and search.

    \b
    Example:
      agent-messaging me alice

    While it is open the agent is served: agents may ask it, and wait until you answer, refuse, or their time is over.
    What comes while it is closed is there when it opens. A message counts as read when you have opened it. ? shows the
    keys, q leaves. It needs textual: pip install 'agent-messaging[terminal]'.
    """
    if importlib.util.find_spec("textual") is None:
        raise click.ClickException(
            "This program needs textual, which is not installed. Run: pip install 'agent-messaging[terminal]'"
        )
    if options.json or is_dumb() or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(
            "This program needs a terminal that can be drawn on, and has no --json. Elsewhere use `agent-messaging "
            "inbox`, `tail`, `reply` and `send`."
        )
    config = load_config(options)
    check_exists(config)
    import asyncio

    with _kept_log(options), asyncio.Runner() as runner:
        has_failed = runner.run(_sit(config, agent))
    if has_failed:  # the toolkit has shown where
        click.get_current_context().exit(INTERNAL_ERROR)


def config_of_a_person(config: Config) -> Config:
    """The configuration with which a person takes part: whoever leaves waits for nothing."""
    return config.model_copy(update={"messaging": config.messaging.model_copy(update={"drain_timeout": LEAVES_WITHIN})})


async def _sit(config: Config, agent: str) -> bool:
    """Run the program until it is left; returns whether it has failed by a mistake of ours."""
    import asyncio

    from ... import AgentMessaging
    from ...system import STOPS
    from .desk import Desk
    from .program import Me

    async with AgentMessaging(config_of_a_person(config)) as sdk:
        program = Me(await Desk.open(sdk, agent))
        loop = asyncio.get_running_loop()
        # Each of them leaves as the key does, and so gives back in order.
        with contextlib.suppress(NotImplementedError):  # the loop of Windows hears none
            for number in STOPS:
                loop.add_signal_handler(number, program.exit)
        try:
            await program.run_async()
        finally:
            with contextlib.suppress(NotImplementedError):
                for number in STOPS:
                    loop.remove_signal_handler(number)
        farewell = loop.call_later(TOLD_AFTER, tell, "The store does not answer the farewell yet. Ctrl-C ends at once.")
    farewell.cancel()
    return bool(program.return_code)


@contextlib.contextmanager
def _kept_log(options: Options) -> Iterator[None]:
    """Within, the SDK's log is kept, because the screen belongs to the program; the newest of it is printed then."""
    import logging

    kept: deque[str] = deque(maxlen=KEPT)

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(self.format(record))

    try:
        with log_through(Keeper(), options):
            yield
    finally:
        for line in kept:
            note(line)
