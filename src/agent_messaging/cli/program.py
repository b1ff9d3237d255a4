"""A program to be served: found by its name, its handlers named, and served in this process until it is stopped."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..arguments import absolute
from .options import Options
from .output import tell
from .services import EVERY_AGENT

if TYPE_CHECKING:
    from .. import AgentMessaging

ENDS_WITHIN = 3.0
"""Seconds that tasks and threads of the program have to end after the SDK has been left."""


class LoadError(click.ClickException):
    """The program cannot be loaded.

    Args:
        error: What it raised.
    """

    def __init__(self, module: str, error: BaseException) -> None:
        super().__init__(f"{module} cannot be loaded: {type(error).__name__}: {error}")
        self.error = error


def load(target: str, ctx: click.Context) -> AgentMessaging[Any]:
    """Find the SDK object that is meant by MODULE:NAME.

    Raises:
        click.UsageError: There is none there.
        LoadError: The module, or the function that makes it, fails.
    """
    from .. import AgentMessaging

    module, _, name = target.partition(":")
    if not module or not name:
        raise click.UsageError(f"{target!r} names no object. Write it as MODULE:NAME, such as orders.serving:sdk.", ctx)
    sys.path.insert(0, absolute(os.curdir))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if callable(found):
            found = found()
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            raise click.UsageError(
                f"There is no module {missing!r} in {os.getcwd()!r}, nor among those that are installed.", ctx
            ) from None
        raise LoadError(module, error) from error
    if not isinstance(found, AgentMessaging):
        raise click.UsageError(f"{target} is no AgentMessaging, nor a function that returns one.", ctx)
    return found


def print_traceback(error: LoadError) -> None:
    """Print where in the program it failed, without the steps that lead into it."""
    frames = error.error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(error.error.with_traceback(frames)))
    click.echo(text, err=True, nl=False)


def _is_ours(file: str) -> bool:
    return file == __file__ or file == importlib.__file__ or file.startswith("<frozen importlib")


def served_by(sdk: AgentMessaging[Any]) -> list[str]:
    """The agents and workers that the program has handlers for; "*" for those of bare global handlers."""
    from ..handlers.registry import global_registry

    agents = {agent or EVERY_AGENT for registry in (sdk._handlers, global_registry) for agent, _, _ in registry}
    return sorted(agents | {handler.worker_id for handler in sdk._task_handlers})


def log_to_stderr(options: Options, label: str, level: int) -> None:
    """Write the SDK's log to stderr, each line with the process, unless the program has set up its own logging."""
    logger = logging.getLogger("agent_messaging")
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.DEBUG if options.verbose else level)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {label}: %(message)s"))
    logger.addHandler(handler)


def serve(sdk: AgentMessaging[Any], on_started: Callable[[], None]) -> bool:
    """Serve until a signal, and return when the SDK is left and all that the program began has ended.

    Returns whether a signal has ended it, and not the program itself.

    Bare handlers serve every agent that no other live process serves by name.

    What does not end then, such as a handler that goes on although it was cancelled, ends with the process: soon, with
    a line on stderr and exit code 0, because its message has gone back in order.
    """
    import asyncio

    async def begin() -> None:
        if EVERY_AGENT in served_by(sdk):
            await sdk.serve(EVERY_AGENT)
        on_started()

    with asyncio.Runner() as runner:
        by_signal = runner.run(sdk._run_until_stopped(begin))
        # It goes on while the interpreter ends, which waits for threads that are no daemons.
        watch = threading.Timer(ENDS_WITHIN, _end_all_the_same)
        watch.daemon = True
        watch.start()
    return by_signal


def _end_all_the_same() -> None:
    tell(f"Something that the program began has not ended {ENDS_WITHIN:g} s after it was told to: it is cut off.")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(0)
