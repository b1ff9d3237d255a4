"""The ways of a row: out of a store, into a store, and compared with what was put there."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ...exceptions import StorageCorruptError
from ..aside import UNREADABLE
from ..checks import RULES, examine, find_damage
from .rest import put_to_rest
from .tables import AT_WORK, BODIES, PLAIN, REFERENCES, TABLES, Column, Form, Row, Table, name_of
from .values import JUMP, as_number, microseconds, spell, spell_entry


class Reader:
    """What reads rows of a store for an archive.

    Args:
        shift: Microseconds to be added to the store's clock for UTC.
        now: The instant of the snapshot.
    """

    def __init__(self, shift: int, now: datetime) -> None:
        self._shift = shift
        self._now = now
        self._skipped: dict[str, set[Any]] = {table: set() for table in TABLES}
        self.findings: list[str] = []
        """One sentence or two for each row that cannot be read, and for what belongs to it."""

    def take(self, table: str, raws: Iterable[Row]) -> Iterator[Row]:
        """The rows as they go into the archive, without those that cannot be read."""
        spec = TABLES[table]
        for raw in raws:
            found = self._examine(table, raw, spec)
            if found:
                self._skipped[table].add(raw.get("id", raw.get("message_id")))
                self.findings += found
            else:
                for column, nothing in REFERENCES.get(table, {}).items():
                    if raw[column] in self._skipped["messages"]:
                        raw[column] = nothing
                yield self.read(table, raw)

    def read(self, table: str, raw: Row) -> Row:
        """One row as it goes into the archive, in the state in which it is when no process of the store lives."""
        put_to_rest(table, raw, self._now)
        return self.restore(table, raw)

    def restore(self, table: str, raw: Row) -> Row:
        """A row that waits, as it stood in the archive."""
        return {
            column.name: raw.get(column.name) if column.form is PLAIN else self._value(column, raw)
            for column in TABLES[table].columns
        }

    def _examine(self, table: str, raw: Row, spec: Table) -> list[str]:
        for column, other in spec.belongs.items():
            if raw.get(column) is not None and raw[column] in self._skipped[other]:
                return [f"The {name_of(table, raw)} belongs to a row of {other} that is left out."]
        if raw.get("is_stray"):
            return [f"The {name_of(table, raw)} belongs to an agent that does not exist."]
        findings = examine(table, raw)
        for content, metadata, checksum in BODIES.get(table, ()):
            if raw.get(content) is not None:
                kept = None if metadata is None else raw[metadata]
                findings += find_damage(name_of(table, raw), raw[content], kept, raw[checksum])
        return findings

    def _value(self, column: Column, raw: Row) -> Any:
        value = raw.get(column.name)
        match column.form:
            case Form.DUE:
                return self._instant(value, raw, column.due)
            case _ if value is None:
                return None
            case Form.AT:
                return spell(microseconds(value))
            case Form.FLAG:
                return bool(value)
            case Form.SECONDS:
                return float(value)
            case Form.LIST:
                return json.loads(value) if isinstance(value, str) else value
            case Form.LOG:
                entries = json.loads(value) if isinstance(value, str) else value
                return [spell_entry(entry) for entry in entries] or None
        return value

    def _instant(self, at: Any, raw: Row, due_name: str) -> str | None:
        if due_name not in raw:  # one column for both: by the store's clock
            return None if at is None else spell(microseconds(at) + self._shift)
        due = raw[due_name]
        if not due:  # 0 is: at once
            return None
        decided = due + self._shift
        return spell(at if at is not None and abs(decided - at) < JUMP else decided)


_AT_ONCE = "run_due"
"""The column in which 0 stands for no instant."""


class Writer:
    """What makes rows for a store of rows of an archive.

    Args:
        shift: Microseconds to be added to the store's clock for UTC.
        as_numbers: Instants are microseconds, of two clocks, and lists are text; otherwise they are as in the archive.
    """

    def __init__(self, shift: int, *, as_numbers: bool) -> None:
        self._shift = shift
        self._as_numbers = as_numbers

    def make(self, table: str, row: Row) -> Row:
        """The row as the store writes it.

        Raises:
            ValueError: It has a value that no archive of the SDK has.
        """
        raw: Row = {}
        for column in TABLES[table].columns:
            try:
                raw |= self._make(column, row[column.name])
            except (ValueError, TypeError, AttributeError):
                raise ValueError(f"the {column.name} of its {name_of(table, row)} is not what the SDK writes") from None
        rules = RULES[table]
        for name, value in raw.items():
            if name in rules and not rules[name](value):
                raise ValueError(f"the {name} of its {name_of(table, row)} is not what the SDK writes")
        if raw.get("state") == AT_WORK.get(table, ...):
            raise ValueError(f"the state of its {name_of(table, row)} is not what the SDK exports")
        for content, metadata, checksum in BODIES.get(table, ()):
            if raw[content] is not None and not _is_sound(raw[content], metadata and raw[metadata], raw[checksum]):
                raise ValueError(f"the {content} of its {name_of(table, row)} is damaged")
        return raw

    def _make(self, column: Column, value: Any) -> Row:
        if column.form is Form.DUE:
            return self._instant(column, value)
        if value is None or not self._as_numbers:
            return {column.name: value}
        return {column.name: as_number(column.form, value)}

    def _instant(self, column: Column, value: str | None) -> Row:
        at = None if value is None else microseconds(value)
        if self._as_numbers:
            due = (0 if column.due == _AT_ONCE else None) if at is None else at - self._shift
            return {column.name: at, column.due: due}
        return {column.name: None if at is None else spell(at - self._shift)}


def _is_sound(content: Any, metadata: Any, checksum: Any) -> bool:
    is_text = isinstance(content, str) and isinstance(metadata, str | None)
    return is_text and isinstance(checksum, int) and not find_damage("body", content, metadata, checksum)


class Comparison:
    """Compares a table with what was put into it, both in its order, while both are read in pages.

    The store may have more: rows that are not expected are passed over.

    Args:
        before: The last numbers that the tables had before, by table.
    """

    def __init__(self, reader: Reader, table: str, before: Mapping[str, int]) -> None:
        self._reader = reader
        self._table = table
        self._expected: deque[Row] = deque()
        self._found: Iterator[Row] = iter(())
        spec = TABLES[table]
        number = before["messages" if "message_id" in spec.belongs else table] if spec.key == ("seq",) else None
        self.after = spec.start if number is None else (number,)
        """The key behind which the next page of the store begins."""

    @property
    def is_settled(self) -> bool:
        """Whether all that was expected was seen."""
        return not self._expected

    def expect(self, raws: Iterable[Row]) -> None:
        """Take in the next rows that were put into the store, as they waited."""
        self._expected.extend(raws)
        self._go_on()

    def see(self, raws: Sequence[Row]) -> None:
        """Take in the next page that the store has.

        Raises:
            StorageCorruptError: There are no more rows, and one that is expected was not among them.
        """
        if not raws:
            raise StorageCorruptError(
                f"The {name_of(self._table, self._expected[0])} would not be in the store as it is in the archive, so "
                "nothing was imported. Check the store with `agent-messaging db check`, or import into another one."
            )
        self.after = tuple(raws[-1][name] for name in TABLES[self._table].key)
        self._found = iter(raws)
        self._go_on()

    def _go_on(self) -> None:
        while self._expected and (row := next(self._found, None)) is not None:
            if self._are_alike(row, self._expected[0]):
                self._expected.popleft()

    def _are_alike(self, stored: Row, expected: Row) -> bool:
        if (greatest := TABLES[self._table].greatest) and stored[greatest] >= expected[greatest]:
            stored = stored | {greatest: expected[greatest]}
        # What waited is in the form of the store, so nearly all rows are alike as they are: a tenth of the time.
        if all(stored.get(name, value) == value for name, value in expected.items()):
            return True
        try:
            return self._reader.restore(self._table, stored) == self._reader.restore(self._table, expected)
        except UNREADABLE:  # somebody else's row, that is damaged
            return False
