"""Meetings as one SDK object takes part in them: acts, waiting for turns, turn handlers' runs, choosing speakers.

What holds is in the store. This remembers who waits here, which turns were seen here, and which functions choose the
next speaker of meetings hosted here.
"""

from .acts import Meetings, holds_turn
from .runs import TurnRun, TurnRuns
from .selection import Selector

__all__ = ["Meetings", "Selector", "TurnRun", "TurnRuns", "holds_turn"]
