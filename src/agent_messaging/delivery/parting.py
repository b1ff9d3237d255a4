"""The end of a process whose event loop is blocked: what it holds goes back all the same, uncounted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..loggers import get_logger
from ..storage.ports import CoordinationStore, Store

if TYPE_CHECKING:
    from .engine import Engine

logger = get_logger("agent_messaging.delivery")

GIVE_BACK_TIMEOUT = 3.0
"""Seconds. A process that is told to end at once ends then, whatever the store does."""


def give_back(engine: Engine, build: Callable[[], Store], build_work: Callable[[], CoordinationStore | None]) -> None:
    """Give back what an engine holds, without its loop. For a signal handler, behind which the process ends.

    The engine's store answers through the loop that is blocked, so another one is opened in a thread of its own. The
    main thread waits for it, so that the handler which blocks it goes no further meanwhile.

    Args:
        build: Makes the other store.
        build_work: Makes the other one of the tasks, where that is apart.
    """
    if not engine.store.capabilities.processes:
        return
    # Nothing is done in the main thread itself: it may hold any lock, so whatever waits for one is left behind.
    work = partial(asyncio.run, _give_back(engine, build, build_work))
    thread = threading.Thread(target=work, name="agent-messaging-parting", daemon=True)
    thread.start()
    thread.join(GIVE_BACK_TIMEOUT)


async def _give_back(
    engine: Engine, build: Callable[[], Store], build_work: Callable[[], CoordinationStore | None]
) -> None:
    try:
        process_id = engine.store.presence.process_id
        store = build()
        await store.open(initialize=False)
        if settlements := engine.dispatcher.runs.cut_off_all():
            await store.deliveries.settle(settlements, owner=process_id)
        await store.processes.retire(process_id)
        if engine.workplace.is_apart and engine.workplace.is_open and (work := build_work()) is not None:
            await work.processes.retire(engine.workplace.presence.process_id)
    except Exception as error:
        logger.warning("could not give back what was at work; others will find out: %s", error)
    # It is not closed: the process ends now, and closing a file takes SQLite's locks from the store at work.
