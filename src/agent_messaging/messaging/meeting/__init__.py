"""Meetings: several agents, one of whom speaks at a time; the store keeps the turns."""

from __future__ import annotations

from ...models import T
from .preparation import MeetingPreparation
from .views import MeetingViews

__all__ = ["MeetingManager"]


class MeetingManager(MeetingPreparation[T], MeetingViews[T]):
    """`sdk.meeting`: meetings with turns. Turns, their deadlines and all that is said are in the store.

    A meeting is created (its host attends from the start), ready once everybody invited attends, active from its start,
    and ended by its host. Exactly one turn is current in an active meeting; turns are numbered from 1.
    """
