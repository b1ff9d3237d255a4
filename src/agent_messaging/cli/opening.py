"""Opening the SDK for a command, and leaving it in order however the command ends.

A command that opens the SDK is a process in the store like any other, but it has no handlers and so serves nobody.
Modules that take long to import are imported where they are used, here and in every command: help comes at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .commands import command
from .options import Options

if TYPE_CHECKING:
    import logging

    from .. import AgentMessaging, Config

T = TypeVar("T")

IN_MEMORY = ":memory:"


def load_config(options: Options, *, create: bool = False) -> Config:
    """The configuration of this command line.

    Args:
        create: Make tables as the user's setting `auto_initialize_schema` says; otherwise only verify them, so that
            looking at a store never makes or changes one.

    Raises:
        ConfigurationError: A setting cannot be used.
    """
    from .. import Config

    # A command makes a few calls, one after the other.
    config = Config(url=options.url, database={"min_pool_size": 1, "max_pool_size": 4})
    if create or config.store.path == IN_MEMORY:
        return config
    return config.model_copy(update={"auto_initialize_schema": False})


def check_exists(config: Config) -> None:
    """Say clearly that there is no SQLite file yet.

    Raises:
        SchemaVersionError: There is none; names the command that makes it.
    """
    from .. import SchemaVersionError

    path = config.store.path
    if path is not None and path != IN_MEMORY and not os.path.exists(path):
        raise SchemaVersionError(
            f"There is no store at {path!r} yet. Make it with `{command('db init')}`, "
            "or name another with --url or AGENT_MESSAGING_DATABASE_URL."
        )


@contextlib.asynccontextmanager
async def open_sdk(options: Options, *, create: bool = False) -> AsyncIterator[AgentMessaging]:
    """A started SDK that serves nobody.

    Args:
        create: Make the store if there is none; otherwise that is an error.
    """
    from .. import AgentMessaging

    config = load_config(options, create=create)
    if not create:
        check_exists(config)
    async with AgentMessaging(config) as sdk:
        yield sdk


def use(options: Options, call: Callable[[AgentMessaging], Coroutine[Any, Any, T]], *, create: bool = False) -> T:
    """Run a command's calls on a started SDK, and return their result; see `open_sdk`."""

    async def work() -> T:
        async with open_sdk(options, create=create) as sdk:
            return await call(sdk)

    return run(options, work())


def run(options: Options, work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; SIGTERM ends it as Ctrl-C does, so that the SDK leaves the store in order.

    A second Ctrl-C interrupts the leaving as well, and a third one ends the process by the signal itself.
    """
    main = _until_terminated(work)
    try:
        import asyncio
        import inspect
        import logging

        log = log_through(logging.StreamHandler(sys.stderr), options)
        with log, contextlib.ExitStack() as closing, asyncio.Runner() as runner:
            try:
                return runner.run(main)
            finally:
                if inspect.getcoroutinestate(main) != inspect.CORO_CLOSED:
                    closing.enter_context(_interrupted_by_the_signal_itself())
    finally:  # Ctrl-C may come before they have begun
        main.close()
        work.close()


@contextlib.contextmanager
def _interrupted_by_the_signal_itself() -> Iterator[None]:
    """Within, Ctrl-C ends the process: a `KeyboardInterrupt` would leave tasks behind, which complain of it."""
    import signal
    import threading

    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


async def _until_terminated(work: Coroutine[Any, Any, T]) -> T:
    import asyncio
    import signal

    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await work
    except asyncio.CancelledError:
        if terminated:
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def log_through(handler: logging.Handler, options: Options) -> Iterator[None]:
    """The SDK's log to a handler: all of it with -v, otherwise errors, because a command says itself what happened."""
    import logging

    logger = logging.getLogger("agent_messaging")
    handler.setLevel(logging.DEBUG if options.verbose else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    propagate, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
