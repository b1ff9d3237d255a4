"""The acts on meetings that callers asked for, and which of them may share a transaction and its statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from ..records import dataclass
from .assembly.terms import Act
from .batches import size_of
from .ports import Claim, NewSpeech


@dataclass(frozen=True, slots=True)
class Wanted:
    """An act that a caller asks for; see `ports.MeetingStore.act`."""

    meeting_id: str
    act: Act
    owner: str | None = None
    speech: NewSpeech | None = None
    claim: Claim | None = None
    now: datetime | None = None

    @property
    def agent_id(self) -> str | None:
        """The agent that acts; None where the host's process or the time acts."""
        return getattr(self.act, "agent_id", None)

    @property
    def size(self) -> int:
        """Bytes of its speech."""
        return 0 if self.speech is None else size_of(self.speech.content, self.speech.metadata)

    @property
    def key(self) -> tuple[str, str] | None:
        """Speaker and idempotency key."""
        if self.speech is None or self.speech.idempotency_key is None:
            return None
        return str(self.agent_id), self.speech.idempotency_key

    @property
    def is_like(self) -> tuple[object, ...]:
        """Equal for acts that may share a transaction.

        An act with a claim locks the delivery of its claim, any other act the delivery of the turn that it ends. Acts
        of one sort together lock deliveries once, in their order. Only an act with a speech may be repeated after a
        lost answer, because the id of the speech tells a repeat.
        """
        return self.owner, self.now, self.speech is not None, self.claim is not None


def first_round(wanted: Sequence[Wanted]) -> list[int]:
    """The positions of the acts that go first: no act meets another one, nor overtakes one that it would meet.

    Two acts meet in their meeting, which the second has to see as the first left it, or in their idempotency key.
    """
    round: list[int] = []
    met: set[object] = set()
    for position, one in enumerate(wanted):
        if one.is_like == wanted[0].is_like and one.meeting_id not in met and one.key not in met:
            round.append(position)
        met.add(one.meeting_id)
        if one.key is not None:
            met.add(one.key)
    return round


def rounds(wanted: Sequence[Wanted]) -> Iterator[list[int]]:
    """The positions of all acts, round by round."""
    left = list(range(len(wanted)))
    while left:
        round = [left[position] for position in first_round([wanted[position] for position in left])]
        yield round
        left = sorted(set(left) - set(round))
