"""Tasks and their messages as texts, in which a store keeps what is handed out later, or again."""

from __future__ import annotations

import json

from .ports import NewQueueMessage, NewTask

_TASK = (
    "type",
    "needs",
    "priority",
    "content",
    "checksum",
    "max_attempts",
    "description",
    "supervisor",
    "run_limit",
    "expires_in",
)
_MESSAGE = (
    "message_id",
    "agent_id",
    "sender_id",
    "type",
    "priority",
    "content",
    "metadata",
    "checksum",
    "max_attempts",
    "expires_in",
)


def dump_task(task: NewTask) -> str:
    """What a schedule hands out, as it is kept; without an id, and without a message."""
    return json.dumps([getattr(task, name) for name in _TASK], ensure_ascii=False)


def load_task(text: str, task_id: str) -> NewTask:
    """The task that `dump_task` wrote, under this id."""
    values = dict(zip(_TASK, json.loads(text), strict=True))
    return NewTask(task_id, **{**values, "needs": tuple(values["needs"])})


def dump_message(message: NewQueueMessage) -> str:
    """A task's message as it is kept for later assignments."""
    return json.dumps([getattr(message, name) for name in _MESSAGE], ensure_ascii=False)


def load_message(text: str | None) -> NewQueueMessage | None:
    """The message that `dump_message` wrote; None where there is none, or it is unreadable: nobody is told then."""
    try:
        return None if text is None else NewQueueMessage(**dict(zip(_MESSAGE, json.loads(text), strict=True)))
    except (ValueError, TypeError):
        return None
