"""`agent-messaging run`: serve what a program registers, until the process is stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..system import IS_WINDOWS
from .app import Command
from .options import Options, get_options
from .output import clean, tell, to_json

if TYPE_CHECKING:
    from .. import AgentMessaging


@click.command(cls=Command)
@click.argument("target", metavar="MODULE:NAME")
@click.option(
    "--processes",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Serve in N processes, each started again when it dies. Default: in this process, without another one.",
)
@click.option("--reload", is_flag=True, help="Start anew when a file of the program changes. For development.")
@click.option("--place", hidden=True, metavar="NUMBER/COUNT", help="Said by a supervisor to the processes it starts.")
@click.pass_context
def run(ctx: click.Context, target: str, processes: int | None, reload: bool, place: str | None) -> None:
    """Serve the handlers of a program until Ctrl-C or SIGTERM, then leave in order.

    \b
    Examples:
      agent-messaging run orders.serving:sdk
      agent-messaging run orders.serving:sdk --processes 4
      agent-messaging run orders.serving:sdk --reload

    NAME is an AgentMessaging in MODULE, or a function without arguments that returns one; the folder in which the
    command runs is searched first. The program chooses its store. Its bare global handlers serve every agent that no
    other live process serves by name. A first signal lets what runs end, for at most the
    setting `drain_timeout`; a second one gives it back at once; a third one ends the process. No stop in order
    costs a message an attempt.

    With --processes or --reload this process only starts the others, passes signals on, and starts a process that
    has died again after a pause, which grows from 0.5 to 30 s until the process has lived for 10 s. If this process
    is killed the others leave in order.

    Exit codes: 0 stopped in order; 1 the program cannot be loaded; 2 wrong use; 3 the store failed at the start;
    128 + the signal's number where a signal ended a process that was to stop in order.
    """
    options = get_options(ctx)
    if options.url is not None:
        raise click.UsageError("The program chooses its store: leave out --url, or set the environment.", ctx)
    if (before := signal.getsignal(signal.SIGINT)) is signal.default_int_handler:
        # Until the SDK hears it, Ctrl-C ends the process: as an exception it can be lost while modules are loaded.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        ctx.call_on_close(lambda: signal.signal(signal.SIGINT, before))
    if place is None and (processes is not None or reload):
        if IS_WINDOWS:
            raise click.UsageError(
                "--processes and --reload pass signals on to other processes, which Windows does not do. Start "
                "`agent-messaging run` once for each process.",
                ctx,
            )
        from .supervisor import Supervisor

        def tell_of(line: str) -> None:
            tell(to_json({"supervisor": line}) if options.json else line)

        command = command_of(target, options, reload=reload)
        ctx.exit(Supervisor(command, processes or 1, reload=reload, tell=tell_of).run())
    _serve(ctx, target, options, place, reload=reload)


def command_of(target: str, options: Options, *, reload: bool) -> Callable[[str], list[str]]:
    """The command line of a process that a supervisor starts, by its place."""
    shared = ["--json"] * options.json + ["--verbose"] * options.verbose + ["--reload"] * reload
    python = [sys.executable, "-P", "-m", f"{__package__}.entry"]
    return lambda place: [*python, "run", target, *shared, "--place", place]


def _serve(ctx: click.Context, target: str, options: Options, place: str | None, *, reload: bool) -> None:
    import logging

    from .program import LoadError, load, log_to_stderr, print_traceback, serve, served_by

    process: dict[str, Any] = {"pid": os.getpid()}
    channel = None
    label = f"pid {os.getpid()}"
    if place is not None:
        import multiprocessing

        from .supervised import Channel

        channel = Channel(tells_files=reload)
        label = f"process {place.replace('/', ' of ')} (pid {os.getpid()})"
        process["process"], process["processes"] = (int(part) for part in place.split("/"))
        multiprocessing.current_process().name = f"process-{process['process']}"  # `%(processName)s` in logs
    try:
        sdk = load(target, ctx)
    except LoadError as error:
        if channel is not None:
            channel.tell_files(error.error)
        if not options.json:
            print_traceback(error)
        raise
    agents = served_by(sdk)
    if not agents:
        raise click.UsageError(f"{target} has no handlers. Register them where the module is loaded.", ctx)
    check_shared(sdk, ctx, process.get("processes", 1))
    log_to_stderr(options, label, logging.INFO if place is None else logging.WARNING)  # a supervisor tells the rest
    store = str(sdk.config.store)

    def started() -> None:
        if options.json:
            tell(to_json({"serving": agents, "store": store, **process}))
        else:
            who = "" if place is None else f" as {label}"
            tell(f"Serves {clean(', '.join(agents))} on {clean(store)}{who}, until Ctrl-C or SIGTERM.")
        if channel is not None:
            channel.tell_ready()

    if channel is not None:
        channel.watch()
    by_signal = serve(sdk, started)
    if channel is not None:
        channel.tell_closed(by_signal=by_signal)


def check_shared(sdk: AgentMessaging[Any], ctx: click.Context, processes: int) -> None:
    """Refuse several processes that would each have a store of their own.

    Raises:
        click.UsageError: They would.
    """
    from .opening import IN_MEMORY

    if processes > 1 and sdk.config.store.path == IN_MEMORY:
        raise click.UsageError("A store in memory is of one process alone. Leave out --processes, or use a file.", ctx)
