"""Sessions, asks, circles of asks, and waits, on every backend."""

from tests.conformance import (
    AskConformance,
    CircleConformance,
    ForwardConformance,
    GivingUpConformance,
    SessionConformance,
    ThreadConformance,
    WaitConformance,
)


class TestSessions(SessionConformance):
    """Opening, ending, listing, reading."""


class TestAsks(AskConformance):
    """Asking, answering, and all the other ends."""


class TestGivingUp(GivingUpConformance):
    """Runs whose askers do not wait any more."""


class TestCircles(CircleConformance):
    """What could never be answered."""


class TestThreads(ThreadConformance):
    """Conversations side by side."""


class TestForwarding(ForwardConformance):
    """Passing an open ask on."""


class TestWaits(WaitConformance):
    """Waiting, taking, and notices."""
