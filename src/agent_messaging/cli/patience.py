"""What a command does that follows something while the store is away: it says so once, and goes on when it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from .errors import explain
from .options import Options
from .output import note, to_json

T = TypeVar("T")

PAUSE = 1.0
"""Seconds until the store is tried again. A try waits some seconds itself."""


async def look_until_seen(
    options: Options, look: Callable[[], Awaitable[T]], *, before: Callable[[], None] = lambda: None
) -> T:
    """What a look finds, however long the store is away meanwhile.

    Args:
        look: Reads. It changes nothing before its last await, so that a look that failed can be repeated whole.
        before: Done before something is said about it.
    """
    import asyncio

    from .. import OutcomeUnknownError, StorageBusyError, StorageUnavailableError

    is_away = False
    while True:
        try:
            found = await look()
        except (StorageUnavailableError, StorageBusyError, OutcomeUnknownError) as error:
            if not is_away:
                code, text, *_ = explain(error)
                before()
                going_on = "It goes on when the store is back."
                note(to_json({"away": {"code": code, "message": text}}) if options.json else f"{text} {going_on}")
            is_away = True
            await asyncio.sleep(PAUSE)
            continue
        if is_away:
            note(to_json({"away": None}) if options.json else "The store is back.")
        return found
