"""The port of parts: what a run sends to the asker before its answer.

A *stream* stands for an ask whose asker reads parts. It begins with the ask (`NewGroup.is_streamed`) and ends when its
reader has gone; it holds the parts of one run, the newest that has sent any. Parts are not promised: the answer is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from typing import Protocol

from ...records import dataclass
from ..batches import size_of
from .deliveries import Claim


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part; already encoded and checked."""

    number: int
    """1 is the first of a run."""
    content: str
    checksum: int
    metadata: str | None = None
    """None: a part has none."""

    @property
    def size(self) -> int:
        """Bytes of its content."""
        return size_of(self.content)


@dataclass(frozen=True, slots=True)
class NewParts:
    """The parts that a run has made since those it has written."""

    ask_id: str
    claim: Claim
    parts: Sequence[PartRow]
    """In order, without a gap."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as a run sees it that sends parts."""

    reader: str | None
    """The process that reads; None: nobody does, or the run is not the one whose answer is waited for."""
    parts: int = 0
    """Parts of this run that are stored and not acknowledged."""
    size: int = 0
    """Their bytes."""


CLOSED = Stream(None)


@dataclass(frozen=True, slots=True)
class PartCursor:
    """How far a reader has come."""

    ask_id: str
    seq: int = 0
    token: int = 0
    """The run whose parts it reads, by its claim; (0, 0) before the first look."""
    number: int = 0
    """The last part that it has."""


@dataclass(frozen=True, slots=True)
class PartPage:
    """The parts behind a cursor."""

    cursor: PartCursor
    """Behind these parts. Another run than before: that one begins anew, and its parts begin with the first."""
    parts: list[PartRow] = field(default_factory=list)


class PartStore(Protocol):
    """Parts on their way."""

    async def write(self, batches: Sequence[NewParts]) -> list[Stream]:
        """Store the parts of these runs, at most one batch of each; answers how each stream stands afterwards.

        Nothing is stored where the stream is closed: its reader has gone, the ask has ended, or another run has the
        message. The first parts of a run replace those of the run before it. Repeat-safe by the numbers of the parts.
        """
        ...

    async def find_streams(self, runs: Sequence[tuple[str, Claim]]) -> list[Stream]:
        """How the streams of these asks stand for these runs. A plain read."""
        ...

    async def read(self, cursors: Sequence[PartCursor], limit: int) -> list[PartPage]:
        """For each cursor what is behind it, at most so many parts; without the ones behind which there is nothing.

        A plain read. A run that has taken the message over is something, also before its first part.
        """
        ...

    async def acknowledge(self, cursor: PartCursor) -> str | None:
        """Remove the parts up to the cursor; returns the process at work on the ask, which may wait for that.

        Repeat-safe.
        """
        ...

    async def end(self, ask_ids: Collection[str]) -> set[str]:
        """End these streams with all of their parts; returns the processes at work on the asks. Repeat-safe."""
        ...
