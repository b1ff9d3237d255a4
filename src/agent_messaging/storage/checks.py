"""What `Store.check` says of rows, the same for every backend: pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from ..bodies import open_body
from ..exceptions import StorageCorruptError


@dataclass(frozen=True, slots=True)
class Specimen:
    """A stored body, as a backend reads it to check it."""

    content: str
    metadata: str | None
    checksum: int


def find_damage(name: str, content: str, metadata: str | None, checksum: int) -> list[str]:
    """What is wrong with a body; `name` says whose it is, as "message 0198…"."""
    try:
        open_body(Specimen(content, metadata, checksum), name)
    except StorageCorruptError as error:
        return [str(error)]
    return []
