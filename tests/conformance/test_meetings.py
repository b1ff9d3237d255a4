"""Meetings, on every backend."""

from tests.conformance import MeetingConformance, MeetingMachineConformance, MeetingRaceConformance


class TestMeetings(MeetingConformance):
    """Every verb of `MeetingStore`."""


class TestMeetingRaces(MeetingRaceConformance):
    """One winner, and everybody reports it."""


class TestMeetingMachine(MeetingMachineConformance):
    """The store and the rules of meetings agree."""
