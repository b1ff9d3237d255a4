"""Moving stores, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.archive`: change that, and run it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ..messaging.archive import Archive as AsyncArchive
from ..messaging.archive.reports import ExportReport, ImportReport
from .running import Blocking


class Archive(Blocking[AsyncArchive]):
    """`sdk.archive`: moves what is stored between stores, of whatever kind, by way of a file."""

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        organization: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportReport:
        """Write the store, or one organization, as it is at this instant into a new file, while everything goes on.

        The file has JSON lines, compressed, and a manifest with counts and a hash at its end. It has everything that
        outlives processes: organizations, agents, messages of all kinds with their receipts, sessions, asks, meetings
        with their turns and events, subscriptions, idempotency keys, dead letters, how far it was pruned, and, of a
        whole store, workers, queues, tasks and schedules. Ids and states stay as they are. The processes do not come
        along, so what they have claimed is in the file as if they had stopped: queued, with the attempt uncounted and
        the claim's token past. An ask whose asker waits in a process is cancelled in it, unless it has an idempotency
        key.

        When it returns the file is whole and synced; after an error, a crash or a cancellation there is none under this
        name. It holds one snapshot of the store, and reads it in pages: memory stays bounded.

        Args:
            path: The file to make; a relative one starts in the working directory. It must not exist. With the ending
                `.zst` it is compressed with zstd, which needs the package zstandard (`pip install
                'agent-messaging[zstd]'`); otherwise with gzip. Only its owner may read it.
            organization: The external id of the only organization to export; None is the whole store. What it shares
                with agents of other organizations is left out, and counted in the report.
            progress: Called now and then with how much is done, and of about how much.

        Returns:
            The report: counts, the hash, the size, what was left out, and rows that were damaged and skipped.

        Raises:
            InvalidArgumentError: There is something at the path.
            OrganizationNotFoundError: There is no such organization; names the closest.
            ConfigurationError: `.zst` needs a package that is missing.
            StorageFullError: No room for the file.
            DatabaseError: The file cannot be written, or the store failed.

        Example:
            report = sdk.archive.export("moving.jsonl.gz")
            print(report.rows, "rows,", report.size_bytes, "bytes")
        """
        return self._run(lambda: self._async.export(path, organization=organization, progress=progress))

    def import_(
        self, path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> ImportReport:
        """Put the contents of an archive into this store: all of it at once, or nothing.

        The file is compared with its manifest first. Then its rows wait in the store, where nobody sees them, until one
        transaction puts all of them in their places and compares each with the archive. So processes that use the store
        see nothing of it or everything. On SQLite that transaction keeps others from writing, about 40 s for a million
        messages: import large archives while nobody works.

        An import that was cut off goes on where it was when it is repeated with the same file. To repeat one that has
        finished changes nothing. Cancelling the call leaves it to be repeated, or to have happened.

        Args:
            path: A file that `export` has written, on any kind of store.
            progress: Called now and then with how much is done, and of how much.

        Returns:
            The report: counts, and how much an earlier try had done.

        Raises:
            ArchiveError: The file is damaged, not whole, no archive, or newer than this release; or the store has one
                of its organizations, agents, workers, tasks or schedules already. Nothing was imported.
            StorageBusyError: Another process imports into this store.
            StorageFullError: No room: make some and repeat it. Three times the size of the contents is enough.
            DatabaseError: The store failed; nothing was imported.

        Example:
            report = sdk.archive.import_("moving.jsonl.gz")
            print(report.counts["messages"], "messages")
        """
        return self._run(lambda: self._async.import_(path, progress=progress))
