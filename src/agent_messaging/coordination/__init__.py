"""Coordination: supervisors hand work to workers, over a queue with priorities and a registry of agents."""

from __future__ import annotations

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

__all__ = [
    "EVERYBODY",
    "AgentMessage",
    "AgentRole",
    "FileLogger",
    "MessagePriority",
    "MessageStatus",
    "MessageType",
    "StatusUpdate",
    "TaskRequest",
    "TaskResponse",
    "create_broadcast_message",
    "create_heartbeat_message",
    "create_task_request_message",
    "disable_file_logging",
    "enable_file_logging",
    "get_file_logger",
]
