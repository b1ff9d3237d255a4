"""The queues of each backend."""

from .queue import QueueConformance, QueueOfProcesses


class TestQueue(QueueConformance, QueueOfProcesses):
    """On every store."""
