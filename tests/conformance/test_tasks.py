"""The workers and tasks of each backend."""

from .coordination_machine import CoordinationMachine
from .tasks import PoolConformance, TaskConformance, TasksOfProcesses, WorkerConformance


class TestTasks(WorkerConformance, TaskConformance, PoolConformance, TasksOfProcesses, CoordinationMachine):
    """On every store."""
