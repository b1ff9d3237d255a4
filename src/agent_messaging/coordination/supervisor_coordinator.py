"""Supervisors, for code without asyncio: they hand out tasks, take in what became of them, and keep order.

Tasks, their state and their single result are in the store. A supervisor that is started again under its id goes on
where it was; several objects of one id, in any process, are one supervisor.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, TypedDict

from ..arguments import check_count, check_external_id, check_timeout
from ..audit import get_file_logger
from ..bodies import open_body
from ..exceptions import StorageCorruptError
from ..handlers.tasks import check_capabilities
from ..ids import uuid7
from ..loggers import get_logger
from ..models import DeliveryState, TaskState
from ..payloads import checksum, encode
from ..storage.ports import (
    AVAILABLE,
    Assigned,
    Beat,
    NewTask,
    Progress,
    Settling,
    TaskClaim,
    TaskFilter,
    TaskRow,
    TaskSettlement,
)
from .agent_registry import AgentRegistry, remove_stale
from .message_protocol import (
    EVERYBODY,
    MAX_MESSAGE_BYTES,
    MOST,
    AgentMessage,
    MessagePriority,
    MessageType,
    TaskRequest,
    check_agent,
    parse_priority,
    parse_type,
)
from .office import INTERVALS, Desk, Office, read_rows
from .queue_manager import MessageQueueManager, first_message_of, is_newest, prune, receive, send, settle
from .records import Sealed
from .stored import to_stored

logger = get_logger("agent_messaging.coordination")

TAKEN_IN = [
    MessageType.TASK_RESPONSE,
    MessageType.COMPLETION,
    MessageType.ERROR_REPORT,
    MessageType.STATUS_UPDATE,
    MessageType.HEARTBEAT,
]
"""What `process_incoming_messages` takes in. Other messages to the supervisor stay for `get_messages`."""
KEPT = 7 * 86_400.0
"""Seconds for which messages stay listed after their end, until maintenance forgets them."""
WORDS = {TaskState.DONE: "completed", TaskState.ASSIGNED: "assigned", TaskState.RUNNING: "in_progress"}
"""The states of tasks that have another word here."""
OPEN = frozenset(state for state in TaskState if not state.is_final)
BUSY = "busy"
"""The status of an agent that takes no tasks, and does not say why."""
COMPLETED = frozenset({"completed", "complete", "done", "success", "succeeded"})
FAILED = frozenset({"failed", "error", "rejected"})


class TaskStatus(TypedDict):
    """What is known of a task."""

    task_id: str
    task_type: str
    description: str
    status: str
    """queued, assigned, in_progress, completed, failed, cancelled or expired."""
    agent_id: str | None
    """Who has it, or had it last."""
    result: Any
    error_message: str | None
    completion_percentage: float
    attempts: int
    created_at: str
    """ISO 8601 in UTC, as all instants here."""
    assigned_at: str | None
    completed_at: str | None


class CoordinationMetrics(TypedDict):
    """The tasks of a supervisor, those that are not forgotten."""

    tasks_assigned: int
    tasks_completed: int
    tasks_failed: int
    average_duration_seconds: float
    """From the last assignment to the completion; 0 where none is completed."""


class CoordinationStats(TypedDict):
    """The state of a supervisor's work."""

    active_tasks: int
    active_agents: int
    completion_rate: float
    """The share of completed tasks among those that have ended, from 0 to 1; 0 where none has ended."""
    metrics: CoordinationMetrics


class Maintenance(TypedDict):
    """What maintenance did."""

    inactive_agents_removed: int
    old_messages_cleaned: int
    stale_tasks_handled: int
    """Tasks taken from agents that were dead or took too long, since this was last asked; they go to others."""


class SupervisorCoordinator(Desk):
    """Hands out tasks, and takes in their results.

    A task whose agent dies, or takes longer than `AGENT_DEFAULT_TIMEOUT` (300 s), is given to another one,
    `AGENT_MAX_RETRIES` (3) times at most; the late result of the first is refused. Choosing the agent, booking the
    task and sending its message are one step, so no agent ever has more tasks than it takes.

    Args:
        supervisor_id: The agent whose queue gets the answers.
        connection_string: As of `MessageQueueManager`.
        use_mock: As of `MessageQueueManager`; queue and registry of this object share the memory.

    Attributes:
        supervisor_id: As given.
        queue_manager: The queues of the same target.
        agent_registry: The agents of the same target.

    Example:
        coordinator = SupervisorCoordinator("planner")
        coordinator.agent_registry.register_agent("builder", AgentRole.WORKER, ["python"])
        task_id = coordinator.assign_task("build", "Build it", {"target": "api"}, ["python"])
    """

    def __init__(self, supervisor_id: str, connection_string: str | None = None, use_mock: bool = False) -> None:
        self.supervisor_id: str = check_agent(supervisor_id, "supervisor_id")
        super().__init__(connection_string, use_mock)
        self.queue_manager: MessageQueueManager = MessageQueueManager(target=self._target)
        self.agent_registry: AgentRegistry = AgentRegistry(target=self._target)

    def assign_task(
        self,
        task_type: str,
        description: str,
        parameters: dict[str, Any],
        required_capabilities: Iterable[str],
        priority: MessagePriority = MessagePriority.MEDIUM,
        *,
        timeout: float | None = None,
    ) -> str | None:
        """Give a task to the best agent that can do it and has room: the least loaded, then the longest idle.

        Args:
            task_type: What sort of work it is.
            description: For people, and for agents that read.
            parameters: What JSON can hold, with text keys.
            required_capabilities: All of them are needed.
            priority: Of the message in the agent's queue.
            timeout: Seconds after which another agent gets it; None is `AGENT_DEFAULT_TIMEOUT`.

        Returns:
            The id of the task, or None where nobody fits: then nothing was stored.

        Raises:
            StorageUnavailableError, StorageFullError: Nothing was stored.
            OutcomeUnknownError: Whether it was assigned is unknown; `active_tasks` tells.
        """
        task = self._new_task(
            TaskRequest(
                task_id=uuid7(),
                task_type=task_type,
                description=description,
                parameters=parameters,
                required_capabilities=check_capabilities(required_capabilities, "required_capabilities"),
                priority=parse_priority(priority, "priority"),
            ),
            timeout,
        )
        agent_id = self._run(lambda office: _assign(office, task))
        if agent_id is None:
            return None
        data = {"task_type": task_type, "supervisor": self.supervisor_id}
        get_file_logger().log_task(task.task_id, agent_id, "assigned", data, content=parameters)
        return task.task_id

    def process_incoming_messages(self, max_messages: int = 10) -> int:
        """Take in results, errors and signs of life that agents have sent to this supervisor.

        A `TASK_RESPONSE` ends its task as its status says (`"completed"`, `"failed"`; `"in_progress"` reports the
        progress), an `ERROR_REPORT` ends it as failed, unless its content says `"retry": true`: then another agent gets
        it. Of a task that was given to somebody else meanwhile, the result is refused.

        Args:
            max_messages: At most so many.

        Returns:
            How many messages were taken in; 0 where there were none.

        Raises:
            InvalidArgumentError: `max_messages` is no whole number.
        """
        check_count(max_messages, "max_messages", least=0)
        types = [one.value for one in TAKEN_IN]
        beat = self._target.settings.heartbeat_interval
        return self._run(lambda office: _take_in(office, self.supervisor_id, max_messages, types, beat))

    def get_task_status(self, task_id: str) -> TaskStatus | None:
        """Return what is known of a task of any supervisor; None where there is none."""
        check_external_id(task_id, "task_id")
        found = self._run(lambda office: office.store.tasks.find_tasks([task_id]))
        return _status(found[0]) if found else None

    @property
    def active_tasks(self) -> dict[str, TaskStatus]:
        """The tasks of this supervisor that have not ended, by id, the newest first."""
        which = TaskFilter(states=OPEN, supervisor=self.supervisor_id)
        return {row.task_id: _status(row) for row in self._run(lambda office: _list(office, which))}

    def broadcast_message(
        self,
        message_type: MessageType,
        content: dict[str, Any],
        priority: MessagePriority = MessagePriority.MEDIUM,
    ) -> bool:
        """Send a message to every registered agent but this one; False where there is nobody else."""
        message = AgentMessage(
            from_agent=self.supervisor_id,
            to_agent=EVERYBODY,
            message_type=parse_type(message_type, "message_type"),
            content=content,
            priority=parse_priority(priority, "priority"),
        )
        return self._run(lambda office: send(office, message))

    def get_coordination_stats(self) -> CoordinationStats:
        """Count the tasks of this supervisor, and the agents that live."""
        return self._run(lambda office: _statistics(office, self.supervisor_id))

    def cleanup_and_maintenance(self) -> Maintenance:
        """Forget dead agents and old messages, and give their tasks to others.

        Messages that expired are forgotten, and others 7 days after their end; dead letters stay.
        """
        return self._run(_maintain)

    def close(self) -> None:
        """Close the store. Tasks go on; an object of the same id finds them again."""
        self.queue_manager.close()
        self.agent_registry.close()
        super().close()

    shutdown = close

    def _new_task(self, request: TaskRequest, timeout: float | None) -> NewTask:
        timeout = self._target.settings.default_timeout if timeout is None else check_timeout(timeout)
        retries = self._target.settings.max_retries
        message = AgentMessage(
            message_id=first_message_of(request.task_id),
            from_agent=self.supervisor_id,
            to_agent=self.supervisor_id,  # until somebody is chosen
            message_type=MessageType.TASK_ASSIGNMENT,
            content=request.to_content(),
            priority=request.priority,
            max_retries=retries,
        )
        content = encode(request.parameters, field="parameters", limit_bytes=MAX_MESSAGE_BYTES)
        return NewTask(
            task_id=request.task_id,
            type=request.task_type,
            needs=tuple(sorted(request.required_capabilities)),
            priority=request.priority.rank,
            content=content,
            checksum=checksum(content, None),
            max_attempts=retries + 1,
            description=request.description,
            supervisor=self.supervisor_id,
            run_limit=timeout,
            message=to_stored(message, ""),
        )


async def _assign(office: Office, task: NewTask) -> str | None:
    news = await office.store.tasks.assign([task], origin=None)
    office.announce(news.listeners | news.processes)
    [outcome] = news.outcomes
    return outcome.worker_id if isinstance(outcome, Assigned) else None


# --- incoming messages ------------------------------------------------------------------------------------------------


async def _take_in(office: Office, supervisor_id: str, most: int, types: list[str], beat: float) -> int:
    messages = await receive(office, supervisor_id, most, types, 0.0, beat)
    for message in messages:
        try:
            refused = await _handle(office, message, INTERVALS * beat)
        except Exception:
            # It is given out again, and is a dead letter after its retries: nothing is lost, and the others go on.
            logger.exception("message %r from %r could not be taken in", message.message_id, message.from_agent)
            await settle(office, supervisor_id, message.message_id, "retry", "it could not be taken in")
            continue
        if refused is None:
            await settle(office, supervisor_id, message.message_id, "processed", None)
        else:
            get_file_logger().log_error(message.from_agent, "refused_message", refused)
            await settle(office, supervisor_id, message.message_id, "failed", refused)
    return len(messages)


async def _handle(office: Office, message: AgentMessage, ttl: float) -> str | None:
    """Take in one message; returns why it was refused, if it was."""
    content = message.content
    if message.message_type in (MessageType.STATUS_UPDATE, MessageType.HEARTBEAT):
        tasks = content.get("current_tasks")
        said = content.get("status")
        status = said if isinstance(said, str) and said else None
        if content.get("is_available") is False and (status is None or status in AVAILABLE):
            status = BUSY
        await office.store.workers.heartbeat(
            [Beat(message.from_agent, ttl, status, min(tasks, MOST) if type(tasks) is int and tasks >= 0 else None)]
        )
        if not isinstance(content.get("task_id"), str):
            return None
    task_id = content.get("task_id")
    found = await office.store.tasks.find_tasks([task_id]) if isinstance(task_id, str) else []
    if not found:
        return "it names no task that is known"
    [task] = found
    if task.worker_id != message.from_agent or not _answers(task, message):
        return "the task was given to somebody else meanwhile"
    return await _end(office, task, message)


def _answers(task: TaskRow, message: AgentMessage) -> bool:
    """Whether a message is about the assignment in which the task is, or was last."""
    asked = message.parent_message_id
    if asked is None:  # the reference's workers name it in their message ids
        _, _, asked = message.message_id.partition("-")
    if not asked.startswith(first_message_of(task.task_id)):
        return True  # it does not say: the worker has the task, and that is what counts
    return is_newest(task, asked) or not task.state.is_held


async def _end(office: Office, task: TaskRow, message: AgentMessage) -> str | None:
    content = message.content
    said = content.get("status")
    status = said.lower() if isinstance(said, str) else ""
    claim = TaskClaim(task.task_id, task.token)
    error = content.get("error_message")
    if message.message_type is MessageType.ERROR_REPORT or status in FAILED:
        how = Settling.RETRY if content.get("retry") is True else Settling.DEAD
        reason = str(error or content.get("error_type") or "the agent reported an error")[:500]
        settlement = TaskSettlement(claim, how, reason=reason)
    elif message.message_type is MessageType.COMPLETION or status in COMPLETED:
        result = encode(content.get("result"), field="result", limit_bytes=MAX_MESSAGE_BYTES)
        settlement = TaskSettlement(claim, Settling.DONE, result=result, checksum=checksum(result, None))
    else:
        share = content.get("completion_percentage")
        if isinstance(share, int | float) and not isinstance(share, bool):
            await office.store.tasks.progress([Progress(claim, min(max(share / 100, 0.0), 1.0))])
        return None
    news = await office.store.tasks.settle([settlement])
    office.announce(news.listeners | news.processes)
    office.hurry()  # there is room again, or the task is to be assigned again
    if not news.moved[0]:
        return "the task has ended already"
    _log_end(task, message, settlement)
    return None


def _log_end(task: TaskRow, message: AgentMessage, settlement: TaskSettlement) -> None:
    log = get_file_logger()
    succeeded = settlement.how is Settling.DONE
    data: dict[str, Any] = {"success": succeeded}
    if task.assigned_at is not None:
        data["duration_ms"] = round((message.timestamp - task.assigned_at).total_seconds() * 1000)
        if succeeded:
            log.log_performance_metric(message.from_agent, "task_duration", data["duration_ms"], "ms")
    log.log_task(
        task.task_id,
        message.from_agent,
        "completed" if succeeded else "failed",
        data,
        content=message.content.get("result"),
    )
    if not succeeded:
        kind = message.content.get("error_type")
        reason = settlement.reason if log.include_payloads else "the agent reported an error"
        log.log_error(
            message.from_agent,
            kind if isinstance(kind, str) else "task_failed",
            reason or "",
            {"task_id": task.task_id},
        )


# --- state ------------------------------------------------------------------------------------------------------------


async def _list(office: Office, which: TaskFilter) -> list[TaskRow]:
    return [row async for row in read_rows(partial(office.store.tasks.list_tasks, which))]


def _status(row: TaskRow) -> TaskStatus:
    return {
        "task_id": row.task_id,
        "task_type": row.type,
        "description": row.description,
        "status": WORDS.get(row.state, row.state.value),
        "agent_id": row.worker_id,
        "result": _result(row),
        "error_message": row.reason if row.state is not TaskState.DONE else None,
        "completion_percentage": row.fraction * 100,
        "attempts": row.attempt,
        "created_at": row.created_at.isoformat(),
        "assigned_at": None if row.assigned_at is None else row.assigned_at.isoformat(),
        "completed_at": None if row.settled_at is None else row.settled_at.isoformat(),
    }


def _result(row: TaskRow) -> Any:
    if row.result is None or row.result_checksum is None:
        return None
    try:
        return open_body(Sealed(row.result, row.result_checksum), f"the result of the task {row.task_id}").content
    except StorageCorruptError as error:
        logger.warning("%s", error)
        return None


async def _statistics(office: Office, supervisor_id: str) -> CoordinationStats:
    tasks = await office.store.tasks.statistics(supervisor_id)
    workers = await office.store.workers.worker_statistics()
    counts = {state: tasks.counts.get(state, 0) for state in TaskState}
    ended = sum(number for state, number in counts.items() if state.is_final)
    return {
        "active_tasks": sum(number for state, number in counts.items() if not state.is_final),
        "active_agents": workers.alive,
        "completion_rate": counts[TaskState.DONE] / ended if ended else 0.0,
        "metrics": {
            "tasks_assigned": sum(counts.values()),
            "tasks_completed": counts[TaskState.DONE],
            "tasks_failed": counts[TaskState.FAILED] + counts[TaskState.EXPIRED],
            "average_duration_seconds": tasks.average_duration or 0.0,
        },
    }


async def _maintain(office: Office) -> Maintenance:
    removed = await remove_stale(office)
    await office.advance()
    cleaned = await prune(office, -1.0, [DeliveryState.EXPIRED])
    cleaned += await prune(office, KEPT, [DeliveryState.DONE])
    stale, office.stale_tasks_handled = office.stale_tasks_handled, 0
    return {
        "inactive_agents_removed": len(removed),
        "old_messages_cleaned": cleaned,
        "stale_tasks_handled": stale,
    }
