"""The values of an archive: text that is the same whatever store it is from, and what a store makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from .tables import Form, Row

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
JUMP = 1_000_000
"""Microseconds by which two clocks of a store may differ without one of them having jumped."""
to_line = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
"""A row as it stands in an archive: the same text for the same row, whatever store it is from."""


def shift_of(due: int, at: int) -> int:
    """The microseconds to be added to store time for UTC: none, unless the clock of people has jumped since the boot.

    It is rounded to seconds, so that it is the same at each look.
    """
    return 0 if abs(at - due) < JUMP else round((at - due) / JUMP) * JUMP


def microseconds(value: int | str) -> int:
    """Microseconds since 1970, in UTC, of an instant as a store or an archive has it.

    Raises:
        ValueError: It is no instant of the years 1 to 9999.
    """
    if isinstance(value, int):
        return value
    found = (datetime.fromisoformat(value) - EPOCH) // MICROSECOND
    if not _FIRST <= found <= _LAST:
        raise ValueError(f"{value!r} is an instant of no year in UTC")
    return found


def spell(instant: int) -> str:
    """Microseconds since 1970, in UTC, as the text of an archive."""
    instant = min(max(instant, _FIRST), _LAST)  # for ever stays for ever, though the clock was set
    return (EPOCH + timedelta(microseconds=instant)).isoformat(timespec="microseconds")


def spell_entry(entry: Row) -> Row:
    """An entry of a log; its instants are the values of these names."""
    return {
        name: spell(microseconds(value)) if name in ("at", "claimed_at") and value is not None else value
        for name, value in sorted(entry.items())
    }


def _number_entries(entries: Sequence[Row]) -> str:
    return to_line(
        [
            {
                name: microseconds(value) if name in ("at", "claimed_at") and value is not None else value
                for name, value in entry.items()
            }
            for entry in entries
        ]
    )


_NUMBERS: dict[Form, Callable[[Any], Any]] = {
    Form.AT: microseconds,
    Form.FLAG: int,
    Form.LIST: to_line,
    Form.LOG: _number_entries,
}
"""How a value becomes what SQLite stores."""


def as_number(form: Form, value: Any) -> Any:
    """A value as SQLite stores it: instants as numbers, lists as text."""
    change = _NUMBERS.get(form)
    return value if change is None else change(value)
