"""Meetings: several agents, one of whom speaks at a time; the store keeps the turns."""

from __future__ import annotations

from ...models import T
from .holding import MeetingHolding
from .views import MeetingViews

__all__ = ["MeetingManager"]


class MeetingManager(MeetingHolding[T], MeetingViews[T]):
    """`sdk.meeting`: meetings with turns. Turns, their deadlines and all that is said are in the store.

    A meeting is created (its host attends from the start), ready once everybody invited attends, active from its start,
    and ended by its host, or by itself: `max_turns`, `max_duration`, `end_when`. Exactly one turn is current in an
    active meeting; turns are numbered from 1. `hold` does all of it in one call, and returns a transcript.
    """
