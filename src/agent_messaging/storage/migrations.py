"""The rules of migrating a schema, the same for every backend. The backend runs the SQL.

Migrations are `migrations/NNNN_name.sql` in the backend's package, with the same numbers and names in each backend.
One that has been applied is recorded with its checksum and never changes again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from ..exceptions import SchemaVersionError
from ..records import dataclass


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of SQL."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """sha256 of the text, with line ends as in the repository."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def load(package: str) -> list[Migration]:
    """The migrations of a backend, in order."""
    found = [entry for entry in (files(package) / "migrations").iterdir() if entry.name.endswith(".sql")]
    return [
        Migration(int(entry.name[:4]), entry.name[5:-4], entry.read_text(encoding="utf-8"))
        for entry in sorted(found, key=lambda entry: entry.name)
    ]


def pending(known: list[Migration], applied: Mapping[int, str]) -> list[Migration]:
    """The migrations that are still to be applied; `applied` has the checksums of those in the store, by number.

    Raises:
        SchemaVersionError: The store is newer than this release, or an applied migration has another text.
    """
    newest = known[-1].number
    if applied and max(applied) > newest:
        raise SchemaVersionError(
            f"The store has schema {max(applied)}, newer than the {newest} this release knows. "
            "Upgrade agent-messaging in this process; other processes already use the newer one."
        )
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise SchemaVersionError(
                f"Migration {migration.number} ({migration.name}) of the store has another text than this release's. "
                "The store was made by a modified build; restore it from a backup or start a new one."
            )
    return [migration for migration in known if migration.number not in applied]


def require_current(known: list[Migration], applied: Mapping[int, str]) -> None:
    """Verify that nothing is to be applied.

    Raises:
        SchemaVersionError: Something is to be applied; names the command that does it.
    """
    missing = pending(known, applied)
    if missing:
        state = f"has schema {max(applied)}" if applied else "has no schema yet"
        raise SchemaVersionError(
            f"The store {state}, this release needs {known[-1].number}. Run `agent-messaging db upgrade` first."
        )
