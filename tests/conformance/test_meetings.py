"""Meetings, on every backend."""

from agent_messaging.testing.conformance import MeetingConformance


class TestMeetings(MeetingConformance):
    """Every verb of `MeetingStore`."""
