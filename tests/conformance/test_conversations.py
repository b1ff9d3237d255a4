"""Sessions, asks, circles of asks, and waits, on every backend."""

from tests.conformance import (
    AskConformance,
    CircleConformance,
    SessionConformance,
    WaitConformance,
)


class TestSessions(SessionConformance):
    """Opening, ending, listing, reading."""


class TestAsks(AskConformance):
    """Asking, answering, and all the other ends."""


class TestCircles(CircleConformance):
    """What could never be answered."""


class TestWaits(WaitConformance):
    """Waiting, taking, and notices."""
