"""Turns that end by time, in more meetings than one call to the store takes on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from agent_messaging.delivery.meetings import TIME_OUT_PAGES, TIME_OUTS, Meetings
from agent_messaging.models import MeetingStatus
from agent_messaging.storage.ports import Acted, TimedOut


class Overdue:
    """A store with so many turns to end."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.calls = 0

    async def time_out(self, limit: int) -> TimedOut:
        self.calls += 1
        ended = min(limit, self.left)
        self.left -= ended
        return TimedOut({str(self.left + i): Acted(MeetingStatus.ACTIVE, None) for i in range(ended)}, 7.0)


def meetings_on(store: Overdue) -> Meetings:
    presence = SimpleNamespace(process_id="me", ring=lambda processes: None)
    rest: dict[str, Any] = dict.fromkeys(
        ("on_turn", "on_events", "on_deadline", "on_ended_turn", "run_plain"), lambda *_: None
    )
    return Meetings(cast(Any, store), cast(Any, presence), cast(Any, None), cast(Any, None), **rest)


async def test_all_turns_whose_time_is_over_end_without_a_pause() -> None:
    store = Overdue(TIME_OUTS * 3)
    assert await meetings_on(store).time_out() == 7.0
    assert (store.left, store.calls) == (0, 4)


async def test_turns_that_end_faster_than_they_can_be_ended_leave_room_for_others() -> None:
    store = Overdue(TIME_OUTS * TIME_OUT_PAGES * 2)
    assert await meetings_on(store).time_out() == 0.0
    assert store.calls == TIME_OUT_PAGES
