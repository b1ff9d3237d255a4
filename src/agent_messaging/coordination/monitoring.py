"""The health of a target, and figures of its work, as the reference has them."""

from __future__ import annotations

from typing import TypedDict

from .supervisor_coordinator import SupervisorCoordinator


class Health(TypedDict):
    """Whether a target can be used."""

    database_connected: bool
    agents_registered: int
    queue_operational: bool


class PerformanceMetrics(TypedDict):
    """Figures of the work at a target."""

    message_throughput: float
    """Messages that ended within the last minute."""
    agent_utilization: float
    """The mean load of the agents that live: 0 is idle, 1 is full."""
    task_completion_rate: float
    """The share of completed tasks among those of the supervisor that have ended."""


def health_check(coordinator: SupervisorCoordinator | None = None) -> Health:
    """Look whether a target can be used.

    Args:
        coordinator: Whose target; None is the one that the environment names.

    Returns:
        Where the store does not answer, `database_connected` is False and nothing else is known. No error is raised.

    Raises:
        ConfigurationError: The environment names no store that can be used.
    """
    if coordinator is None:
        with SupervisorCoordinator("health-monitor") as made:
            return health_check(made)
    connected = coordinator.queue_manager.is_connected()
    return {
        "database_connected": connected,
        "agents_registered": coordinator.agent_registry.get_registry_stats()["total_agents"] if connected else 0,
        "queue_operational": connected and len(coordinator.queue_manager.get_queue_stats()) > 0,
    }


def get_performance_metrics(coordinator: SupervisorCoordinator | None = None) -> PerformanceMetrics:
    """Return figures of the work at a target.

    Args:
        coordinator: Whose target and whose tasks; None is the target that the environment names, and a supervisor
            without tasks.
    """
    if coordinator is None:
        with SupervisorCoordinator("metrics") as made:
            return get_performance_metrics(made)
    return {
        "message_throughput": coordinator.queue_manager.get_queue_stats()["messages_per_minute"],
        "agent_utilization": coordinator.agent_registry.get_registry_stats()["average_load"],
        "task_completion_rate": coordinator.get_coordination_stats()["completion_rate"],
    }
