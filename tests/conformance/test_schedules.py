"""The schedules of each backend."""

from .schedules import ScheduleConformance


class TestSchedules(ScheduleConformance):
    """On every store."""
