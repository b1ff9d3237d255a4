"""What exports and imports report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An archive that was written."""

    path: str
    organization: str | None
    """The external id of the only organization in it; None: it has the whole store."""
    rows: int
    counts: Mapping[str, int]
    """Rows of each table."""
    sha256: str
    """Of its contents: the same for stores that are the same."""
    size_bytes: int
    left_out: Mapping[str, int]
    """Of one organization: its messages and meetings with agents of others, which stay out of its archive."""
    damaged: tuple[str, ...]
    """A sentence or two for each row that could not be read, and for what belongs to it. None is in the archive."""
    snapshot_seconds: float
    """For how long it held the snapshot: meanwhile the store reclaims no space of what changes."""


@dataclass(frozen=True, slots=True)
class ImportReport:
    """An archive that was put into a store."""

    path: str
    organization: str | None
    """The external id of the only organization in it; None: it was a whole store's."""
    rows: int
    counts: Mapping[str, int]
    """Rows of each table."""
    sha256: str
    resumed_rows: int
    """Rows that an earlier try, which was cut off, had read."""
    is_repeat: bool
    """The archive was imported here before, so this call has changed nothing."""
