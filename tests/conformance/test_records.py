"""Organizations, agents and messages as records, on every backend."""

from tests.conformance import DirectoryConformance, MessageConformance


class TestDirectory(DirectoryConformance):
    """Every verb of `DirectoryStore`."""


class TestMessages(MessageConformance):
    """Every verb of `MessageStore`."""
