"""Coordination: supervisors hand work to workers, over queues with priorities and a registry of agents.

Names are loaded when first used (PEP 562), as those of `agent_messaging`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent_registry import AgentInfo, AgentRegistry
    from .file_logger import FileLogger, disable_file_logging, enable_file_logging, get_file_logger
    from .message_protocol import (
        EVERYBODY,
        AgentMessage,
        AgentRole,
        MessagePriority,
        MessageStatus,
        MessageType,
        StatusUpdate,
        TaskRequest,
        TaskResponse,
        create_broadcast_message,
        create_heartbeat_message,
        create_task_request_message,
    )
    from .monitoring import get_performance_metrics, health_check
    from .queue_manager import MessageQueueManager
    from .records import Schedule, Task, TaskOutcome, WorkerInfo
    from .supervisor_coordinator import SupervisorCoordinator
    from .tasks import Tasks

_HOMES = (
    "message_protocol",
    "file_logger",
    "queue_manager",
    "agent_registry",
    "supervisor_coordinator",
    "monitoring",
    "tasks",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                value = globals()[name] = vars(module)[name]
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "EVERYBODY",
    "AgentInfo",
    "AgentMessage",
    "AgentRegistry",
    "AgentRole",
    "FileLogger",
    "MessagePriority",
    "MessageQueueManager",
    "MessageStatus",
    "MessageType",
    "Schedule",
    "StatusUpdate",
    "SupervisorCoordinator",
    "Task",
    "TaskOutcome",
    "TaskRequest",
    "TaskResponse",
    "Tasks",
    "WorkerInfo",
    "create_broadcast_message",
    "create_heartbeat_message",
    "create_task_request_message",
    "disable_file_logging",
    "enable_file_logging",
    "get_file_logger",
    "get_performance_metrics",
    "health_check",
]
