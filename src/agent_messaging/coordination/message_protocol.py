"""What agents that coordinate say to each other: messages, what is in them, and helpers that make them.

A message is a value. Nothing here reaches a store: `queue_manager` sends and receives messages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, TypeVar

from pydantic_core import from_json as parse_json

from ..arguments import check_count, check_external_id, check_flag, check_instant, check_name, parse_choice, refuse
from ..clock import utc_now
from ..exceptions import InvalidArgumentError, PayloadError
from ..handlers.tasks import check_capabilities
from ..ids import uuid7
from ..payloads import encode

MAX_MESSAGE_BYTES = 1024 * 1024
"""The longest message as JSON, in bytes of UTF-8. Send a reference to what is larger."""
EVERYBODY = "*"
"""The recipient of a broadcast: every registered agent but the sender."""

MOST = 2**31 - 2
"""The highest number of tasks or retries that is accepted: every store can count one more."""

_E = TypeVar("_E", bound=StrEnum)


class MessageType(StrEnum):
    """What a message is about. In JSON it is the value; both names of a task's assignment are read."""

    TASK_ASSIGNMENT = "task_assignment"
    TASK_REQUEST = TASK_ASSIGNMENT
    """Another name of the same member; its text `task_request` is read as this one too."""
    TASK_RESPONSE = "task_response"
    STATUS_UPDATE = "status_update"
    COORDINATION = "coordination"
    ERROR_REPORT = "error_report"
    COMPLETION = "completion"
    HEARTBEAT = "heartbeat"
    BROADCAST = "broadcast"

    @classmethod
    def _missing_(cls, value: object) -> MessageType | None:
        return cls.TASK_ASSIGNMENT if value == "task_request" else None


class MessagePriority(StrEnum):
    """How urgent a message is. The most urgent ones are taken first, and of equal ones the oldest."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    BACKGROUND = "background"

    @property
    def rank(self) -> int:
        """The place in the order in which messages are taken: 0 for CRITICAL to 4 for BACKGROUND."""
        return _RANKS[self]


_RANKS = {priority: rank for rank, priority in enumerate(MessagePriority)}


class MessageStatus(StrEnum):
    """What became of a message."""

    PENDING = "pending"
    """It waits to be taken."""
    PROCESSING = "processing"
    """An agent has taken it, and has not said yet what became of it."""
    PROCESSED = "processed"
    FAILED = "failed"


class AgentRole(StrEnum):
    """What an agent is for."""

    SUPERVISOR = "supervisor"
    WORKER = "worker"
    RESEARCHER = "researcher"
    TESTER = "tester"
    DEVOPS = "devops"
    DOCUMENTATION = "documentation"
    COORDINATOR = "coordinator"


@dataclass(kw_only=True, slots=True)
class AgentMessage:
    """A message from one agent to another.

    Args:
        message_id: 1 to 255 characters, unique in its queue; made when not given. A message that is sent twice under
            one id is stored once.
        from_agent: The sender.
        to_agent: The recipient; `"*"` is every registered agent but the sender.
        message_type: A `MessageType` or its text.
        content: What JSON can hold, with text keys; the whole message may be 1 MiB long.
        priority: A `MessagePriority` or its text.
        timestamp: When it was made; with a time zone.
        parent_message_id: The message that this one answers.
        status: What became of it, as far as its reader knows.
        retry_count: How often it was taken before.
        max_retries: How often it is given out again before it is a dead letter.
        expires_at: When nobody shall take it any more; with a time zone. None is never.

    Raises:
        InvalidArgumentError: An argument is not as above.

    Example:
        message = AgentMessage(
            from_agent="planner",
            to_agent="builder",
            message_type=MessageType.TASK_ASSIGNMENT,
            content={"task": "process_data"},
        )
    """

    message_id: str = field(default_factory=uuid7)
    from_agent: str
    to_agent: str
    message_type: MessageType
    content: dict[str, Any]
    priority: MessagePriority = MessagePriority.MEDIUM
    timestamp: datetime = field(default_factory=utc_now)
    parent_message_id: str | None = None
    status: MessageStatus = MessageStatus.PENDING
    retry_count: int = 0
    max_retries: int = 3
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        check_external_id(self.message_id, "message_id")
        check_agent(self.from_agent, "from_agent")
        check_external_id(self.to_agent, "to_agent")
        self.message_type = _choice(MessageType, self.message_type, "message_type")
        if not isinstance(self.content, Mapping):
            raise refuse("content", self.content, "must be a mapping with text keys.")
        self.priority = _choice(MessagePriority, self.priority, "priority")
        self.timestamp = _instant(self.timestamp, "timestamp")
        if self.parent_message_id is not None:
            check_external_id(self.parent_message_id, "parent_message_id")
        self.status = _choice(MessageStatus, self.status, "status")
        check_count(self.retry_count, "retry_count", least=0, most=MOST)
        check_count(self.max_retries, "max_retries", least=0, most=MOST)
        self.expires_at = check_instant(self.expires_at, "expires_at")

    def is_expired(self) -> bool:
        """Tell whether its time is over by this machine's clock."""
        return self.expires_at is not None and utc_now() >= self.expires_at

    def can_retry(self) -> bool:
        """Tell whether it may be given out once more."""
        return self.retry_count < self.max_retries and not self.is_expired()

    def create_response(
        self, agent: str, content: dict[str, Any], *, message_type: MessageType = MessageType.TASK_RESPONSE
    ) -> AgentMessage:
        """Make the answer of `agent` to the sender, with this message as its parent and of the same priority."""
        return AgentMessage(
            from_agent=agent,
            to_agent=self.from_agent,
            message_type=message_type,
            content=content,
            priority=self.priority,
            parent_message_id=self.message_id,
        )

    def to_json(self) -> str:
        """Return the message as JSON text on one line, from which `from_json` makes an equal message.

        Raises:
            PayloadError: Its content is not JSON, or too long; the error names the place.
        """
        return encode(_plain(self), field="message", limit_bytes=MAX_MESSAGE_BYTES)

    @classmethod
    def from_json(cls, json_data: str) -> Self:
        """Make a message from its JSON text. Keys that a newer release added are passed over.

        Raises:
            PayloadError: It is not JSON, or not of a message.
            InvalidArgumentError: A value in it is not accepted; the error names it.
        """
        return _from_mapping(cls, _read(json_data))


class _Content:
    """What a message says, as a value."""

    __slots__ = ()

    def to_content(self) -> dict[str, Any]:
        """Return it as the content of a message."""
        return _plain(self)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Self:
        """Make it from the content of a message.

        Raises:
            PayloadError, InvalidArgumentError: The content does not hold it.
        """
        return _from_mapping(cls, content)


@dataclass(slots=True)
class TaskRequest(_Content):
    """Work that somebody is asked to do.

    Args:
        task_id: 1 to 255 characters, unique among tasks.
        task_type: What sort of work it is; workers choose their code by it.
        description: For people, and for agents that read.
        parameters: What JSON can hold, with text keys.
        required_capabilities: All of them are needed to do it.
        deadline: When it must be done; with a time zone. None is never.
        estimated_duration: Seconds.
        priority: A `MessagePriority` or its text.
    """

    task_id: str
    task_type: str
    description: str
    parameters: dict[str, Any]
    required_capabilities: list[str] = field(default_factory=list)
    deadline: datetime | None = None
    estimated_duration: float | None = None
    priority: MessagePriority = MessagePriority.MEDIUM

    def __post_init__(self) -> None:
        check_external_id(self.task_id, "task_id")
        check_name(self.task_type, "task_type")
        if not isinstance(self.description, str):
            raise refuse("description", self.description, "must be text.")
        if not isinstance(self.parameters, Mapping):
            raise refuse("parameters", self.parameters, "must be a mapping with text keys.")
        self.required_capabilities = check_capabilities(self.required_capabilities, "required_capabilities")
        self.deadline = check_instant(self.deadline, "deadline")
        self.priority = _choice(MessagePriority, self.priority, "priority")


@dataclass(slots=True)
class TaskResponse(_Content):
    """What became of a task.

    Args:
        task_id: The task.
        agent_id: Who worked on it.
        status: `"completed"`, `"failed"`, `"in_progress"`, or a word of the application's own.
        result: What JSON can hold.
        error_message: Why it failed.
        execution_time: Seconds.
        completion_percentage: 0 to 100.
        next_steps: What may be done now.
    """

    task_id: str
    agent_id: str
    status: str
    result: Any = None
    error_message: str | None = None
    execution_time: float | None = None
    completion_percentage: float | None = None
    next_steps: list[str] | None = None

    def __post_init__(self) -> None:
        check_external_id(self.task_id, "task_id")
        check_external_id(self.agent_id, "agent_id")
        check_name(self.status, "status")


@dataclass(slots=True)
class StatusUpdate(_Content):
    """What an agent says of itself.

    Args:
        agent_id: The agent.
        status: `"active"`, `"busy"`, `"offline"`, or a word of the application's own.
        is_available: False is that it takes no tasks, whatever its status; True and None leave that to the status.
        current_tasks: How many it is at work on; None says nothing of it.
        task_id: The task that this is about.
        completion_percentage: 0 to 100, of that task.
        message: For people.
    """

    agent_id: str
    status: str
    is_available: bool | None = None
    current_tasks: int | None = None
    task_id: str | None = None
    completion_percentage: float | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        check_external_id(self.agent_id, "agent_id")
        check_name(self.status, "status")
        if self.is_available is not None:
            check_flag(self.is_available, "is_available")
        if self.current_tasks is not None:
            check_count(self.current_tasks, "current_tasks", least=0, most=MOST)
        if self.task_id is not None:
            check_external_id(self.task_id, "task_id")


# --- helpers ----------------------------------------------------------------------------------------------------------


def create_task_request_message(
    from_agent: str,
    to_agent: str,
    task_type: str | TaskRequest,
    description: str = "",
    parameters: dict[str, Any] | None = None,
    required_capabilities: Iterable[str] = (),
    priority: MessagePriority | None = None,
) -> AgentMessage:
    """Make the message that asks an agent to do a task, under a new task id.

    Args:
        from_agent: Who asks.
        to_agent: Who shall do it.
        task_type: What sort of work it is; or a `TaskRequest`, which says everything that follows too.
        description: For people, and for agents that read.
        parameters: What JSON can hold, with text keys.
        required_capabilities: All of them are needed to do it.
        priority: MEDIUM by default, or that of the `TaskRequest`.

    Returns:
        The message. Its content is the task's: `content["task_id"]`, `content["task_type"]`, `content["parameters"]`.

    Raises:
        InvalidArgumentError: An argument is not accepted.
    """
    if isinstance(task_type, TaskRequest):
        if description or parameters is not None or required_capabilities:
            raise InvalidArgumentError(
                "task_type is a TaskRequest, which says what the task is. Leave description, parameters and "
                "required_capabilities out.",
                field="task_type",
            )
        request = task_type
    else:
        request = TaskRequest(
            uuid7(),
            task_type,
            description,
            {} if parameters is None else parameters,
            check_capabilities(required_capabilities, "required_capabilities"),
            priority=MessagePriority.MEDIUM if priority is None else priority,
        )
    return AgentMessage(
        from_agent=from_agent,
        to_agent=to_agent,
        message_type=MessageType.TASK_ASSIGNMENT,
        content=request.to_content(),
        priority=request.priority if priority is None else priority,
    )


def create_broadcast_message(
    from_agent: str,
    message_type: MessageType,
    content: dict[str, Any],
    priority: MessagePriority = MessagePriority.MEDIUM,
) -> AgentMessage:
    """Make a message to every registered agent but the sender."""
    return AgentMessage(
        from_agent=from_agent, to_agent=EVERYBODY, message_type=message_type, content=content, priority=priority
    )


def create_heartbeat_message(
    from_agent: str,
    to_agent: str = EVERYBODY,
    *,
    status: str = "active",
    current_tasks: int | None = None,
    metrics: dict[str, Any] | None = None,
) -> AgentMessage:
    """Make the message by which an agent says that it lives, of the lowest priority.

    Args:
        from_agent: Who says so.
        to_agent: To whom; by default to every registered agent.
        status: As of `StatusUpdate`.
        current_tasks: How many tasks it is at work on.
        metrics: Its health; what JSON can hold, with text keys.
    """
    now = utc_now()
    content: dict[str, Any] = {"timestamp": now.isoformat(), "status": status, "metrics": metrics or {}}
    if current_tasks is not None:
        content["current_tasks"] = check_count(current_tasks, "current_tasks", least=0, most=MOST)
    return AgentMessage(
        from_agent=from_agent,
        to_agent=to_agent,
        message_type=MessageType.HEARTBEAT,
        content=content,
        priority=MessagePriority.BACKGROUND,
        timestamp=now,
    )


# --- values and JSON --------------------------------------------------------------------------------------------------


def parse_type(value: object, field: str) -> MessageType:
    """Return the message type that is given as itself or as one of its texts.

    Raises:
        InvalidArgumentError: It is neither.
    """
    return _choice(MessageType, value, field)


def parse_role(value: object, field: str) -> AgentRole:
    """Return the role that is given as itself or as its text.

    Raises:
        InvalidArgumentError: It is neither.
    """
    return _choice(AgentRole, value, field)


def parse_priority(value: object, field: str) -> MessagePriority:
    """Return the priority that is given as itself or as its text.

    Raises:
        InvalidArgumentError: It is neither.
    """
    return _choice(MessagePriority, value, field)


def _choice(choices: type[_E], value: object, field: str) -> _E:
    if choices is MessageType and value == "task_request":
        value = MessageType.TASK_ASSIGNMENT.value
    return parse_choice(choices, value, field)


def _instant(value: object, field: str) -> datetime:
    instant = check_instant(value, field)  # type: ignore[arg-type]
    if instant is None:
        raise refuse(field, value, "must be a datetime with a time zone.")
    return instant


def check_agent(value: str, field: str) -> str:
    """Check the name of one agent, and return it.

    Raises:
        InvalidArgumentError: It cannot be used.
    """
    if value == EVERYBODY:
        raise refuse(field, value, "stands for every agent. Give this one a name of its own.")
    return check_external_id(value, field)


def _plain(value: Any) -> dict[str, Any]:
    """The fields by name, instants as text in ISO 8601."""
    fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    return {name: one.isoformat() if isinstance(one, datetime) else one for name, one in fields.items()}


def _read(json_data: str) -> dict[str, Any]:
    try:
        values = parse_json(json_data)
    except (ValueError, TypeError):
        values = None
    if not isinstance(values, dict):
        raise PayloadError(field="json_data", reason="is not a JSON object. Pass what to_json returned.")
    return values


_T = TypeVar("_T", bound=AgentMessage | _Content)
_INSTANTS = frozenset({"timestamp", "expires_at", "deadline"})


def _from_mapping(kind: type[_T], values: Mapping[str, Any]) -> _T:
    known = dataclasses.fields(kind)  # type: ignore[arg-type]
    missing = [
        one.name
        for one in known
        if one.name not in values and one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise PayloadError(field=missing[0], reason=f"is missing; it is needed to make a {kind.__name__}.")
    arguments = {one.name: values[one.name] for one in known if one.name in values}
    for name in _INSTANTS & arguments.keys():
        arguments[name] = _parse_instant(arguments[name], name)
    return kind(**arguments)


def _parse_instant(value: object, field: str) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise refuse(field, value, "is not an instant in ISO 8601, such as '2026-05-01T09:00:00+00:00'.") from None
