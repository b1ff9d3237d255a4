"""Messages between agents, for code without asyncio: sent into queues, received by priority, marked as processed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from ..arguments import check_count, check_external_id, refuse
from ..audit import get_file_logger
from ..exceptions import DatabaseError, OutcomeUnknownError, StorageCorruptError
from ..loggers import get_logger
from ..models import DeliveryState
from ..storage.choosing import message_id_of
from ..storage.ports import Beat, QueueSettlement, Settling, TaskRow
from .message_protocol import EVERYBODY, AgentMessage, MessagePriority, MessageType, parse_type
from .office import INTERVALS, PAGE, Desk, Office, read_rows
from .stored import from_stored, to_stored

logger = get_logger("agent_messaging.coordination")

MOST_MESSAGES = 1000
"""Messages of one call."""
ENDS = {
    "processed": Settling.DONE,
    "completed": Settling.DONE,
    "failed": Settling.DONE,
    "retry": Settling.RETRY,
    "rejected": Settling.DEAD,
}
"""What becomes of a message by the status with which it is marked."""


class QueueStats(TypedDict):
    """The state of all queues of a target. Counts are of messages that are not cleaned away."""

    total_messages: int
    pending_messages: int
    """Those that wait to be received; `in_progress_messages` were received and not marked yet."""
    in_progress_messages: int
    processed_messages: int
    failed_messages: int
    """Those marked as failed."""
    dead_letters: int
    """Those that were received as often as they may be, or rejected."""
    expired_messages: int
    messages_per_minute: float
    """Those that ended within the last 60 seconds."""
    by_priority: dict[str, int]
    """Of pending messages and those in progress."""


class MessageQueueManager(Desk):
    """Queues of messages, one for each agent, on SQLite, PostgreSQL or Redis.

    A received message is hidden from others until it is marked as processed, its receiver's process ends, or
    `AGENT_DEFAULT_TIMEOUT` (300 s) is over; then it is received again, `max_retries` times at most, and is a dead
    letter after that. Objects on the same target share everything, also across processes. Any thread may call; on a
    running event loop each call warns, because the loop stands still meanwhile.

    Args:
        connection_string: `redis://…`, `postgresql://…` or `sqlite:///…`. None is the store that the environment
            names, and without any the SQLite file of the SDK.
        use_mock: True keeps everything in the memory of this object.
        target: Share this place of another object of the coordination.

    Raises:
        ConfigurationError: The connection string cannot be used. Nothing is opened before the first call.

    Example:
        queue = MessageQueueManager()
        queue.send_message(AgentMessage(from_agent="a", to_agent="b", message_type="coordination", content={}))
        for message in queue.get_messages("b"):
            queue.mark_processed(message.message_id, "b")
    """

    def send_message(self, message: AgentMessage) -> bool:
        """Store a message in its recipient's queue; when this returns True it is committed.

        A message to `"*"` goes to every registered agent but the sender. Sending one again, under the same id, stores
        nothing, so a call whose outcome is unknown can be repeated.

        Returns:
            False where the message has expired already, or where `"*"` reaches nobody.

        Raises:
            PayloadError: Its content is not JSON.
            StorageUnavailableError, StorageFullError: Nothing was stored.
            OutcomeUnknownError: Whether it was stored is unknown. Send it again.
        """
        if not isinstance(message, AgentMessage):
            raise refuse("message", message, "must be an AgentMessage.")
        if message.is_expired():
            return False
        return self._run(lambda office: send(office, message))

    def get_messages(
        self,
        agent_id: str,
        limit: int = 10,
        message_types: Iterable[MessageType] | None = None,
        block_ms: float = 0,
    ) -> list[AgentMessage]:
        """Receive messages of an agent: the most urgent first, of equal ones the oldest.

        It is a sign of life of the agent, if that is registered.

        Args:
            agent_id: Whose queue it is.
            limit: At most so many, up to 1,000.
            message_types: Of these types alone; None is any.
            block_ms: Milliseconds to wait for a message where there is none.

        Returns:
            The messages; each is the caller's until it is marked as processed.

        Raises:
            StorageUnavailableError, OutcomeUnknownError: None was received; those that may have been taken return.
            QueueDataLostError: Redis has lost messages. Call again for what is left.
        """
        check_external_id(agent_id, "agent_id")
        check_count(limit, "limit", most=MOST_MESSAGES)
        if isinstance(block_ms, bool) or not isinstance(block_ms, int | float) or not 0 <= block_ms < 1e12:
            raise refuse("block_ms", block_ms, "is not a number of milliseconds from 0.")
        types = None if message_types is None else _types(message_types)
        beat = self._target.settings.heartbeat_interval
        return self._run(lambda office: receive(office, agent_id, limit, types, block_ms / 1000, beat))

    def mark_processed(
        self, message_id: str, agent_id: str, status: str = "processed", error_message: str | None = None
    ) -> bool:
        """End a received message.

        Args:
            message_id: The message.
            agent_id: Whose queue it was received from.
            status: `"processed"` or `"completed"`; `"failed"` ends it as a failure; `"retry"` gives it out again, until
                its retries are used up; `"rejected"` makes it a dead letter.
            error_message: Why, for listings; 500 characters of it are kept. Put no payload into it.

        Returns:
            False where it is not this process's any more: it was never received here, it is marked already, or its
            time was over and somebody else has it. Then nothing changed.
        """
        check_external_id(message_id, "message_id")
        check_external_id(agent_id, "agent_id")
        if status not in ENDS:
            raise refuse("status", status, f"must be one of {', '.join(ENDS)}.")
        reason = error_message if error_message is None else str(error_message)[:500]
        return self._run(lambda office: settle(office, agent_id, message_id, status, reason))

    def get_queue_stats(self) -> QueueStats:
        """Count the messages of all queues."""
        return self._run(_statistics)

    def is_connected(self) -> bool:
        """Tell whether the store answers; opens it if that has not happened yet."""
        try:
            return self._lease.call(Office.is_connected)
        except (DatabaseError, OutcomeUnknownError):
            return False

    def cleanup_expired_messages(self) -> int:
        """Forget the messages that expired before anybody received them; returns how many they were."""
        return self._run(_clean)


async def send(office: Office, message: AgentMessage) -> bool:
    """Put a message into its queue, or into everybody's."""
    if message.to_agent == EVERYBODY:
        workers = read_rows(office.store.workers.list_workers)
        recipients = [worker.worker_id async for worker in workers if worker.worker_id != message.from_agent]
    else:
        recipients = [message.to_agent]
    for start in range(0, len(recipients), PAGE):
        await office.put([to_stored(message, recipient) for recipient in recipients[start : start + PAGE]])
    log = get_file_logger()
    for recipient in recipients:
        log.log_message(
            message.message_id, message.from_agent, recipient, message.message_type, "sent", content=message.content
        )
    return bool(recipients)


async def receive(
    office: Office, agent_id: str, limit: int, types: list[str] | None, block: float, beat: float
) -> list[AgentMessage]:
    """Take messages out of a queue; what cannot be read, or is about a task that somebody else has, is ended."""
    if office.is_to_beat(agent_id, beat):
        await office.store.workers.heartbeat([Beat(agent_id, INTERVALS * beat)])
    taken = await office.claim(agent_id, limit, types, block)
    messages: list[AgentMessage] = []
    try:
        for claimed in taken:
            try:
                messages.append(from_stored(claimed))
            except StorageCorruptError as error:
                logger.warning("%s It is a dead letter now.", error)
                await settle(office, agent_id, claimed.claim.message_id, "rejected", "it cannot be read")
        messages = await _without_superseded(office, agent_id, messages)
    except BaseException:
        await office.give_back(agent_id, [claimed.claim for claimed in taken])
        raise
    log = get_file_logger()
    for message in messages:
        log.log_message(
            message.message_id, message.from_agent, agent_id, message.message_type, "received", content=message.content
        )
    return messages


async def _without_superseded(office: Office, agent_id: str, messages: list[AgentMessage]) -> list[AgentMessage]:
    """Leave out assignments of tasks that were given to somebody else, or have ended, since the message was put."""
    tasks = {
        message.content["task_id"]
        for message in messages
        if message.message_type is MessageType.TASK_ASSIGNMENT and isinstance(message.content.get("task_id"), str)
    }
    if not tasks:
        return messages
    known = {task.task_id: task for task in await office.store.tasks.find_tasks(tasks)}
    kept: list[AgentMessage] = []
    for message in messages:
        task = known.get(message.content.get("task_id", ""))
        if (
            message.message_type is MessageType.TASK_ASSIGNMENT
            and task is not None
            and task.supervisor == message.from_agent
            and not (task.worker_id == agent_id and is_newest(task, message.message_id))
        ):
            await settle(office, agent_id, message.message_id, "processed", None)
        else:
            kept.append(message)
    return kept


def first_message_of(task_id: str) -> str:
    """The id of the message of a task's first assignment; `message_id_of` gives those of later ones."""
    return f"task-{task_id}"


def is_newest(task: TaskRow, message_id: str) -> bool:
    """Whether this message is the one of the assignment in which the task is now."""
    return task.state.is_held and message_id == message_id_of(first_message_of(task.task_id), task.token)


async def settle(office: Office, agent_id: str, message_id: str, status: str, reason: str | None) -> bool:
    """End a message that this process has."""
    held = office.find(agent_id, message_id)
    if held is None:
        return False
    if ENDS[status] is Settling.DONE:
        reason = (reason or status) if status == "failed" else None
    [moved] = await office.store.queue.settle([QueueSettlement(held.claim, ENDS[status], reason=reason)])
    office.forget(agent_id, message_id)
    if moved:
        data = {"reason": reason} if reason else None
        get_file_logger().log_message(message_id, held.sender_id, agent_id, held.type, status, data=data)
    return moved


async def _statistics(office: Office) -> QueueStats:
    statistics = await office.store.queue.statistics()
    counts = {state: statistics.counts.get(state, 0) for state in DeliveryState}
    return {
        "total_messages": sum(counts.values()),
        "pending_messages": counts[DeliveryState.QUEUED],
        "in_progress_messages": counts[DeliveryState.CLAIMED],
        "processed_messages": counts[DeliveryState.DONE] - statistics.failed,
        "failed_messages": statistics.failed,
        "dead_letters": counts[DeliveryState.DEAD],
        "expired_messages": counts[DeliveryState.EXPIRED],
        "messages_per_minute": float(statistics.settled_lately),
        "by_priority": {one.value: statistics.by_priority.get(one.rank, 0) for one in MessagePriority},
    }


async def _clean(office: Office) -> int:
    while (await office.store.queue.advance()).next_in == 0:
        pass
    return await prune(office, -1.0, [DeliveryState.EXPIRED])  # those of this very moment too


async def prune(office: Office, older_than: float, states: list[DeliveryState]) -> int:
    """Forget all messages that ended in these states so many seconds ago."""
    total = 0
    while number := await office.store.queue.prune(older_than, PAGE, states=states):
        total += number
    return total


def _types(message_types: Iterable[MessageType]) -> list[str]:
    given = [message_types] if isinstance(message_types, str) else list(message_types)
    return [parse_type(one, "message_types").value for one in given]
