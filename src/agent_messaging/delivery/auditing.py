"""Tells the audit log of messages and tasks: handed out, received by a handler, and how that ended.

Where the log is switched off it costs one look at `base_dir`, without a call. Payloads are told as the store has them,
and written only where they were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..audit import active
from ..storage.ports import (
    ClaimedDelivery,
    ClaimedTask,
    NewGroup,
    NewTask,
    NewWorker,
    Settlement,
    Settling,
    TaskSettlement,
)
from .names import AgentName, Names

EVENTS = {
    Settling.DONE: "processed",
    Settling.RETRY: "retried",
    Settling.DEAD: "failed",
    Settling.RETURNED: "returned",
}
"""The words of the log for the end of a run."""
ENDS_OF_TASKS = {**EVENTS, Settling.DONE: "completed"}
"""The words for the end of the run of a task."""


def sent(group: NewGroup, names: Names) -> None:
    """A call's messages were stored."""
    log = active.logger
    if log.base_dir is None:
        return
    sender = names.cached_name(group.sender_id)
    for delivery in group.deliveries:
        recipient = names.cached_name(delivery.recipient_id)
        log.log_message(delivery.message_id, sender, recipient, group.kind.value, "sent", content=group.content)


def received(delivery: ClaimedDelivery, agent: AgentName, names: Names) -> None:
    """A handler begins with a message."""
    log = active.logger
    if log.base_dir is not None:
        log.log_message(
            delivery.message_id,
            names.cached_name(delivery.sender_id),
            agent.external_id,
            delivery.kind.value,
            "received",
            content=delivery.content,
        )


def ended(delivery: ClaimedDelivery, agent: AgentName, names: Names, settlement: Settlement) -> None:
    """A handler has ended with a message; the commit of it follows."""
    log = active.logger
    if log.base_dir is None:
        return
    event = EVENTS[settlement.how]
    data = {"attempt": settlement.claim.attempt}
    sender = names.cached_name(delivery.sender_id)
    log.log_message(delivery.message_id, sender, agent.external_id, delivery.kind.value, event, data=data)
    if settlement.how in (Settling.RETRY, Settling.DEAD):
        failed = {"message_id": delivery.message_id, **data}
        log.log_error(agent.external_id, "handler_failure", settlement.reason or "", failed)


def registered(agent_id: str, organization_id: str) -> None:
    """An agent was registered."""
    active.logger.log_agent_activity(agent_id, "registered", {"organization": organization_id})


def tasks_submitted(tasks: Sequence[NewTask], stored: Sequence[bool]) -> None:
    """Tasks were put into the pool, where `stored` says so."""
    log = active.logger
    if log.base_dir is not None:
        for task, is_new in zip(tasks, stored, strict=True):
            if is_new:
                data = {"task_type": task.type, "supervisor": task.supervisor}
                log.log_task(task.task_id, None, "submitted", data, content=task.content)


def task_began(task: ClaimedTask) -> None:
    """A worker has taken a task."""
    log = active.logger
    if log.base_dir is not None:
        data = {"task_type": task.type, "supervisor": task.supervisor, "attempt": task.attempt}
        log.log_task(task.claim.task_id, task.worker_id, "assigned", data, content=task.content)


def task_ended(task: ClaimedTask, settlement: TaskSettlement, seconds: float) -> None:
    """A worker has ended with a task after so many seconds; the commit of it follows."""
    log = active.logger
    if log.base_dir is None:
        return
    succeeded = settlement.how is Settling.DONE
    data = {"success": succeeded, "duration_ms": round(seconds * 1000), "attempt": task.attempt}
    event = ENDS_OF_TASKS[settlement.how]
    log.log_task(task.claim.task_id, task.worker_id, event, data, content=settlement.result)
    if succeeded:
        log.log_performance_metric(task.worker_id, "task_duration", data["duration_ms"], "ms")
    elif settlement.how is not Settling.RETURNED:
        failed = {"task_id": task.claim.task_id, "attempt": task.attempt}
        log.log_error(task.worker_id, "handler_failure", settlement.reason or "", failed)


def tasks_cancelled(task_ids: Sequence[str], cancelled: Sequence[bool], reason: str) -> None:
    """Tasks were ended from outside, where `cancelled` says so."""
    log = active.logger
    if log.base_dir is not None:
        for task_id, is_cancelled in zip(task_ids, cancelled, strict=True):
            if is_cancelled:
                log.log_task(task_id, None, "cancelled", {"reason": reason})


def enrolled(worker: NewWorker) -> None:
    """A worker has appeared."""
    data = {"agent_role": worker.role, "capabilities": list(worker.capabilities)}
    active.logger.log_agent_activity(worker.worker_id, "registered", data)
