"""The ways of rows between a store and an archive: exporting, and importing without being seen half done."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from ...delivery.names import Names
from ...delivery.probes import probe
from ...exceptions import AgentMessagingError, ArchiveError, StorageBusyError
from ...futures import call_from_thread
from ...storage.archive import TABLES, WITHOUT_ORGANIZATION, Reader
from ...storage.batches import MAX_BYTES, take
from ...storage.ports import StagedRow, Store
from .files import ArchiveReader, ArchiveWriter, Manifest
from .reports import ExportReport, ImportReport

Progress = Callable[[int, int], None]
"""Told, on the loop, how much is done, and of about how much."""

_BATCH = 500
_PARTS = 1_000
"""How finely a step of an import is told."""
_NAMED_FIRST = ("organizations", "agents")


async def export_store(
    store: Store, path: str, organization: str | None = None, progress: Progress | None = None
) -> ExportReport:
    """Write a store, or one organization, into a new file. See `Archive.export`.

    Args:
        path: The absolute path of a file that does not exist.
    """
    organization_id = None
    if organization is not None:
        organization_id = str((await Names(store.directory, store.location).get_organization(organization)).id)
    writer = ArchiveWriter(path, organization)
    try:
        await asyncio.to_thread(writer.begin)
        began = time.monotonic()
        async with store.archive.snapshot(organization_id) as snapshot:
            reader = Reader(snapshot.shift, snapshot.now)
            total = await snapshot.count() if progress is not None else 0
            done = 0
            for table in TABLES:
                if organization is not None and table in WITHOUT_ORGANIZATION:
                    continue
                async for page in snapshot.read(table):
                    done += await asyncio.to_thread(writer.write, table, reader.take(table, page))
                    probe("after_export_page")
                    if progress is not None:
                        progress(done, max(done, total))
            left_out = await snapshot.count_left_out() if organization is not None else {}
        seconds = time.monotonic() - began
        manifest = await asyncio.to_thread(writer.finish)
    finally:
        await asyncio.to_thread(writer.give_up)
    return ExportReport(
        path=path,
        organization=organization,
        rows=manifest.rows,
        counts=manifest.counts,
        sha256=manifest.sha256,
        size_bytes=writer.size_bytes,
        left_out={what: number for what, number in left_out.items() if number},
        damaged=tuple(reader.findings),
        snapshot_seconds=seconds,
    )


async def import_store(store: Store, path: str, progress: Progress | None = None) -> ImportReport:
    """Put the contents of an archive into a store. See `Archive.import_`."""
    reader = ArchiveReader(path)
    size = await asyncio.to_thread(_size_of, path)
    steps = _Steps(progress)
    manifest = await asyncio.to_thread(reader.check, lambda done: steps.tell(0, done / size))
    state = await store.archive.begin_import(manifest.sha256)
    taken = await _Staging(store, reader, manifest, state.staged).run(lambda share: steps.tell(1, share))
    if taken:
        await store.archive.drop_import(manifest.sha256)
        if state.finished_at is None:
            raise ArchiveError(
                f"The store at {store.location} has already: {', '.join(taken)}. Nothing was imported. Import into "
                "another store, or remove here what is to come from the archive."
            )
    else:
        probe("before_import")
        rows = manifest.rows
        if not await store.archive.finish_import(manifest.sha256, rows, lambda more: steps.place(more, rows)):
            raise _another_one(store)
    if progress is not None:
        progress(3 * _PARTS, 3 * _PARTS)
    return ImportReport(
        path=path,
        organization=reader.organization,
        rows=manifest.rows,
        counts=manifest.counts,
        sha256=manifest.sha256,
        resumed_rows=state.staged,
        is_repeat=bool(taken),
    )


class _Steps:
    """Tells how far an import is, which has three steps that take about as long as each other.

    It reads the file, lets its rows wait, and puts them in their places. The steps tell it from their threads.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._placed = 0

    def tell(self, step: int, share: float) -> None:
        """This share of the step is done."""
        if self._progress is not None:
            call_from_thread(self._loop, self._progress, int((step + share) * _PARTS), 3 * _PARTS)

    def place(self, rows: int, of: int) -> None:
        """So many rows more are in their places, or were compared."""
        self._placed += rows
        self.tell(2, self._placed / (2 * of))


class _Staging:
    """Lets the rows of an archive wait in a store, and goes on where an import was cut off.

    Args:
        staged: The rows that wait already.
    """

    def __init__(self, store: Store, reader: ArchiveReader, manifest: Manifest, staged: int) -> None:
        self._store = store
        self._reader = reader
        self._manifest = manifest
        self._staged = staged

    async def run(self, tell: Callable[[float], None]) -> list[str]:
        """Take all rows in; returns the names among them that the store has already, of which there must be none.

        Raises:
            ArchiveError: A row is not what the SDK writes.
            StorageBusyError: Another process imports into this store.
        """
        # Agents come early in an archive, and all else belongs to them.
        early = sum(self._manifest.counts.get(table, 0) for table in _NAMED_FIRST)
        batches = _batches(self._reader.rows(self._staged), self._staged)
        while batch := await asyncio.to_thread(next, batches, None):
            await self._take_in(batch)
            if self._staged - len(batch) < early <= self._staged and (taken := await self._store.archive.find_taken()):
                return taken
            probe("after_stage")
            tell(self._staged / self._manifest.rows)
        return await self._store.archive.find_taken()

    async def _take_in(self, batch: list[StagedRow]) -> None:
        archive, sha256 = self._store.archive, self._manifest.sha256
        try:
            is_in_turn = await archive.stage(sha256, batch)
        except ValueError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise ArchiveError(
                f"The archive {self._reader.path!r} cannot be imported: {error}. Nothing was imported. Export again."
            ) from None
        if not is_in_turn:
            raise _another_one(self._store)
        self._staged += len(batch)


def _another_one(store: Store) -> StorageBusyError:
    return StorageBusyError(
        f"Another process imports into the store at {store.location} as well. Nothing was imported by this one. Let "
        "the other one finish, and repeat the import if it was of another archive."
    )


def _batches(rows: Iterator[tuple[str, dict[str, Any]]], position: int) -> Iterator[list[StagedRow]]:
    """The rows in batches that are bounded by their bytes."""
    staged = (StagedRow(table, number, row) for number, (table, row) in enumerate(rows, position))
    while batch := take(staged, _size, most=_BATCH, most_bytes=MAX_BYTES):
        yield batch


def _size(row: StagedRow) -> int:
    return sum(len(value) for value in row.row.values() if isinstance(value, str))


def _size_of(path: str) -> int:
    try:
        found = os.stat(path)
    except OSError as error:
        raise _not_readable(path, error.strerror) from error
    if not stat.S_ISREG(found.st_mode):  # it is read twice, and a pipe nobody writes to would hold up its reader
        raise _not_readable(path, "it is no file, but a folder, a pipe or a device")
    return found.st_size


def _not_readable(path: str, why: str | None) -> ArchiveError:
    return ArchiveError(
        f"The archive {path!r} cannot be read: {why}. Name a file that `agent-messaging db export` has written."
    )
