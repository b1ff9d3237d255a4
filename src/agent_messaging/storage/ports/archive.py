"""The ports of moving: all rows of a store as of one instant, and rows that are put into another one all at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol

from ...records import dataclass


@dataclass(frozen=True, slots=True)
class StagedRow:
    """A row that waits to be put into its table."""

    table: str
    position: int
    """Its place among all rows of the archive; 0 is the first."""
    row: dict[str, Any]
    """As the archive has it."""


@dataclass(frozen=True, slots=True)
class ImportState:
    """How far an import has come."""

    staged: int
    """Rows that wait."""
    finished_at: datetime | None
    """When an archive of these contents was put in place; None if it was not."""


class Snapshot(Protocol):
    """The store as it was at one instant."""

    shift: int
    """Microseconds to be added to the store's clock for UTC."""
    now: datetime

    def read(self, table: str) -> AsyncIterator[list[dict[str, Any]]]:
        """All rows of a table as they are stored, in the order of its key, in pages that are bounded by their bytes."""
        ...

    async def count(self) -> int:
        """About how many rows there are; for a progress bar."""
        ...

    async def count_left_out(self) -> dict[str, int]:
        """How much of the organization is left out, because it is shared with another: messages and meetings."""
        ...


class ArchiveStore(Protocol):
    """Reads a store for an archive, and puts one into it."""

    def snapshot(self, organization_id: str | None) -> AbstractAsyncContextManager[Snapshot]:
        """The store as it is now; others go on meanwhile. None is all organizations, and the coordination."""
        ...

    async def begin_import(self, archive: str) -> ImportState:
        """Begin an import, or go on with it. What waits of another archive is dropped.

        Args:
            archive: The hash of its contents.
        """
        ...

    async def stage(self, archive: str, rows: Sequence[StagedRow]) -> bool:
        """Let rows wait, which nobody sees. False: the first one's turn is past or has not come, by another process."""
        ...

    async def find_taken(self) -> list[str]:
        """The names of waiting rows that the store has already, of each table at most ten: "agent 'alice'"."""
        ...

    async def finish_import(self, archive: str, rows: int, tell: Callable[[int], None]) -> bool:
        """Put all waiting rows in their places, in one transaction, and compare each with what waited.

        False, and nothing changed, if not all rows of the archive wait: another import began meanwhile.

        Args:
            rows: How many rows the archive has.
            tell: Called now and then, in any thread, with how many rows more are in their places, or were compared.

        Raises:
            StorageCorruptError: A row is not in the store as it waited; nothing was put in place.
            DatabaseError: The store refused a row; nothing was put in place.
        """
        ...

    async def drop_import(self, archive: str) -> None:
        """Drop what waits of an archive."""
        ...
