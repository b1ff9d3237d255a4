"""What a store has goes into another one of the other kind, and comes out of it the same, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from agent_messaging.messaging.archive.moving import export_store, import_store
from agent_messaging.storage.ports import Store

T = TypeVar("T")


async def contents(store: Store, path: Path) -> bytes:
    """The archive of the store, which is left at the path."""
    path.unlink(missing_ok=True)
    report = await export_store(store, str(path))
    assert report.damaged == ()
    return path.read_bytes()


def swap(
    stores: Sequence[Store], runner: asyncio.Runner, folder: Path, empty: Callable[[], Sequence[Store] | None]
) -> None:
    """Give each of two stores what the other has, and look that it comes out as it went in.

    Args:
        empty: Empties both, or returns empty ones of the same kinds.
    """
    paths = [folder / "first.gz", folder / "second.gz"]
    before = [runner.run(contents(store, path)) for store, path in zip(stores, paths, strict=True)]
    stores = empty() or stores
    for store, path in zip(stores, reversed(paths), strict=True):
        runner.run(import_store(store, str(path)))
    after = [runner.run(contents(store, folder / "after.gz")) for store in stores]
    assert after == before[::-1]
