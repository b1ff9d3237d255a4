"""The stores as a whole, the processes that share them, and their signs of life, on every backend."""

from tests.conformance import PresenceConformance, ProcessConformance, StoreConformance


class TestStores(StoreConformance):
    """Opening, closing, describing, checking."""


class TestProcesses(ProcessConformance):
    """Every verb of `ProcessStore`."""


class TestPresence(PresenceConformance):
    """Every verb of `Presence`."""
