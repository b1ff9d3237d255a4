"""Meetings as one SDK object takes part in them: acts, waiting for turns, turn handlers' runs, choosing speakers.

The facts are in the store. This room remembers who waits here, which turns were seen here, and which functions direct
meetings hosted here.
"""

from .acts import Meetings, holds_turn
from .runs import TurnRun, TurnRuns
from .selection import Condition, Selector

__all__ = ["Condition", "Meetings", "Selector", "TurnRun", "TurnRuns", "holds_turn"]
