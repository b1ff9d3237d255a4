"""The rules of streams of parts, the same for every backend: pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import dataclass
from .ports import Claim, NewParts, PartCursor, PartPage, PartRow, Stream

MOST_PARTS = 10_000
"""Unread parts of a run with which it waits for its reader."""
MOST_BYTES = 16 * 1024 * 1024
"""Their bytes, likewise."""


@dataclass(frozen=True, slots=True)
class Known:
    """A stream as it is stored."""

    reader: str
    seq: int
    token: int
    """The run whose parts it holds, by its claim; (0, 0) before the first."""
    written: int
    """Parts of that run so far."""
    parts: int
    size: int
    """Of those that are not acknowledged."""

    def is_of(self, claim: Claim) -> bool:
        """Whether it holds the parts of this run."""
        return (self.seq, self.token) == (claim.seq, claim.token)

    def seen_by(self, claim: Claim) -> Stream:
        """The stream as the run sees it."""
        return Stream(self.reader, self.parts, self.size) if self.is_of(claim) else Stream(self.reader)


@dataclass(frozen=True, slots=True)
class Writing:
    """A batch that is to be written."""

    batch: NewParts
    new: Sequence[PartRow]
    """Without those that a repeat finds stored, or acknowledged."""
    written: int
    is_anew: bool
    """The parts of another run go before."""
    stream: Stream
    """Afterwards."""


def has_room(stream: Stream) -> bool:
    """Whether a run may send one more part; a closed stream takes any number, and keeps none."""
    return stream.reader is None or (stream.parts < MOST_PARTS and stream.size < MOST_BYTES)


def judge(batch: NewParts, known: Known) -> Writing:
    """What a run's batch changes in a stream that is open for it."""
    is_anew = not known.is_of(batch.claim)
    written = 0 if is_anew else known.written
    new = [part for part in batch.parts if part.number > written]
    before = known.seen_by(batch.claim)
    after = Stream(known.reader, before.parts + len(new), before.size + sum(part.size for part in new))
    return Writing(batch, new, new[-1].number if new else written, is_anew, after)


def turn(cursor: PartCursor, seq: int, token: int, parts: list[PartRow]) -> PartPage | None:
    """The page behind a cursor, where the message's newest claim is this one; None: there is nothing."""
    is_same = (cursor.seq, cursor.token) == (seq, token)
    if is_same and not parts:
        return None
    number = parts[-1].number if parts else 0
    return PartPage(PartCursor(cursor.ask_id, seq, token, number), parts)
