"""`agent-messaging run`: serve what a program registers, until the process is stopped."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from .app import Command
from .options import get_options
from .output import clean, note, to_json

if TYPE_CHECKING:
    from .. import AgentMessaging


@click.command(cls=Command)
@click.argument("target", metavar="MODULE:NAME")
@click.pass_context
def run(ctx: click.Context, target: str) -> None:
    """Serve the handlers of a program until Ctrl-C or SIGTERM, then leave in order.

    \b
    Example:
      agent-messaging run orders.serving:sdk

    NAME is an AgentMessaging in MODULE, or a function without arguments that returns one; the folder in which the
    command runs is searched first. The program chooses its store. A first signal lets what runs end, for at most the
    setting `drain_timeout`; a second one gives it back at once; a third one ends the process. No stop in order
    costs a message an attempt; its exit code is 0.
    """
    import asyncio

    options = get_options(ctx)
    if options.url is not None:
        raise click.UsageError("The program chooses its store: leave out --url, or set the environment.", ctx)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the SDK hears it, Ctrl-C ends the process: as an exception it can be lost while modules are loaded.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sdk = load(target, ctx)
    agents = served_by(sdk)
    if not agents:
        raise click.UsageError(f"{target} has no handlers. Register them where the module is loaded.", ctx)
    store = str(sdk.config.store)
    if options.json:
        note(to_json({"serving": agents, "store": store}))
    else:
        note(f"Serves {clean(', '.join(agents))} on {clean(store)}, until Ctrl-C or SIGTERM.")
    asyncio.run(sdk.run_until_stopped())


def load(target: str, ctx: click.Context) -> AgentMessaging[Any]:
    """The SDK object that is meant.

    Raises:
        click.UsageError: There is none there.
        click.ClickException: The module cannot be loaded.
    """
    from .. import AgentMessaging

    module, _, name = target.partition(":")
    if not module or not name:
        raise click.UsageError(f"{target!r} names no object. Write it as MODULE:NAME, such as orders.serving:sdk.", ctx)
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        if (
            isinstance(error, ModuleNotFoundError)
            and error.name is not None
            and f"{module}.".startswith(f"{error.name}.")
        ):
            raise click.UsageError(
                f"There is no module {error.name!r} in {os.getcwd()!r}, nor among those that are installed.", ctx
            ) from None
        raise click.ClickException(f"{module} cannot be loaded: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if callable(found):
        found = found()
    if not isinstance(found, AgentMessaging):
        raise click.UsageError(f"{target} is no AgentMessaging, nor a function that returns one.", ctx)
    return found


def served_by(sdk: AgentMessaging[Any]) -> list[str]:
    """The agents that the program has handlers for; "*" for those of bare global handlers."""
    from ..handlers.registry import global_registry

    return sorted({agent or "*" for registry in (sdk._handlers, global_registry) for agent, _, _ in registry})
