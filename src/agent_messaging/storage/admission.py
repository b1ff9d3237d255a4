"""What becomes of a call that stores: rules, pure, once for every backend.

Here is which message is the answer to an open ask. Circles of asks are judged in `circles`.
"""

from __future__ import annotations

from typing import Protocol

from .ports import Answering

OUTSIDE = 0
"""Where an agent's own code took an ask: in no handler's run. Otherwise the seq of the message whose run it was in."""


class AwaitedAsk(Protocol):
    """The open ask of a message's recipient to its sender, as far as the rule looks at it."""

    @property
    def seq(self) -> int: ...

    @property
    def taken_within(self) -> int | None:
        """Where the own code of the agent that was asked has taken it, by reading it or as the answer to its own ask.

        None where it did not: the ask is queued, or a handler's run took it.
        """
        ...


def is_answer(how: Answering | None, ask: AwaitedAsk | None, *, asked_by_run: int | None) -> bool:
    """Whether a message answers its recipient's open ask to its sender.

    Only what is meant as the answer is the answer. Of an ask that a run has taken, that is the run's result, which
    comes with its settlement, or an explicit reply. An ask that the agent's own code has taken outside any run is
    answered by the next message from there, too; one that was taken in a run of another message by a reply alone, like
    one that nobody has taken.

    Args:
        how: What the caller means.
        ask: The open ask; None if there is none.
        asked_by_run: The message in whose run the call is made, where that is itself an ask of the recipient to the
            sender. A reply in there is meant for that ask, and not for a later one that is open now.
    """
    if ask is None or how is None:
        return False
    if how is Answering.REQUIRED:
        return asked_by_run in (None, ask.seq)
    return ask.taken_within == OUTSIDE
