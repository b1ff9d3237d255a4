"""Every error the SDK raises, in one tree.

Each class documents when it arises and what to do; that text is its default message. Details are typed attributes,
given by keyword, and the message is built from them: the problem, then the remedy in code. Both are attributes too,
because elsewhere (on the command line) the remedy is another one. `code` is stable across releases, `retryable` says
whether the same call may succeed later unchanged. Every error survives pickling. Payloads never appear in a message.

    AgentMessagingError
    ├── NotInitializedError (RuntimeError)
    │   └── EventLoopError
    ├── ConfigurationError (ValueError)
    ├── InvalidArgumentError (ValueError)
    │   └── PayloadError
    ├── IdempotencyConflictError
    ├── AgentNotFoundError, OrganizationNotFoundError
    ├── MessageNotFoundError, TaskNotFoundError
    ├── MailboxFullError, TooManySubscribersError
    ├── ClaimLostError
    ├── HandlerError
    │   └── NoHandlerRegisteredError, HandlerTimeoutError
    ├── TaskError
    │   └── TaskFailedError, TaskCancelledError, TaskExpiredError
    ├── TimeoutError (builtins.TimeoutError)
    │   ├── ConversationTimeoutError
    │   ├── MeetingTimeoutError (MeetingError)
    │   └── OutcomeUnknownError
    ├── SessionError
    │   ├── SessionStateError
    │   │   └── SessionNotFoundError (ValueError)
    │   ├── SessionLockError
    │   │   └── MutualWaitError
    │   └── ConversationEndedError, PartsRestartedError
    ├── MeetingError
    │   ├── MeetingNotFoundError (ValueError), InvalidMeetingError (ValueError)
    │   ├── MeetingNotActiveError, MeetingStateError, AgentNotInMeetingError
    │   ├── NotYourTurnError
    │   │   └── TurnLostError
    │   └── MeetingPermissionError
    │       └── NotMeetingHostError, HostCannotLeaveError
    ├── DatabaseError
    │   ├── OrganizationAlreadyExistsError, AgentAlreadyExistsError
    │   ├── StorageUnavailableError, StorageBusyError, StorageFullError
    │   ├── StorageCorruptError, StorageReplacedError, StorageForeignError
    │   └── QueueDataLostError, SchemaVersionError
    └── ArchiveError
"""

from __future__ import annotations

import builtins
from typing import ClassVar

from .problems import AgentMessagingError as AgentMessagingError
from .problems import copy_error as copy_error
from .problems import list_values, shorten
from .store_errors import AgentAlreadyExistsError as AgentAlreadyExistsError
from .store_errors import ArchiveError as ArchiveError
from .store_errors import DatabaseError as DatabaseError
from .store_errors import OrganizationAlreadyExistsError as OrganizationAlreadyExistsError
from .store_errors import QueueDataLostError as QueueDataLostError
from .store_errors import SchemaVersionError as SchemaVersionError
from .store_errors import StorageBusyError as StorageBusyError
from .store_errors import StorageCorruptError as StorageCorruptError
from .store_errors import StorageForeignError as StorageForeignError
from .store_errors import StorageFullError as StorageFullError
from .store_errors import StorageReplacedError as StorageReplacedError
from .store_errors import StorageUnavailableError as StorageUnavailableError

# --- use of the SDK ---------------------------------------------------------------------------------------------------


class NotInitializedError(AgentMessagingError, RuntimeError):
    """SDK not initialized. Enter it by `async with` (in agent_messaging.sync `with`), or call `initialize()` first."""

    code = "not_initialized"
    exit_code = 2


class EventLoopError(NotInitializedError):
    """An AgentMessaging belongs to the event loop on which it was started, and this call comes from elsewhere: another
    loop, or a thread without one. `await` the call on that loop; from another thread, hand it over with
    `sdk.portal.call(sdk.one_way.send, ...)`; for each asyncio.run, make or start an AgentMessaging inside it.
    """

    code = "event_loop"


class ConfigurationError(AgentMessagingError, ValueError):
    """A setting cannot be used. Correct it in the Config, in the environment or in the .env file."""

    code = "configuration"
    exit_code = 2


class InvalidArgumentError(AgentMessagingError, ValueError):
    """An argument was refused; nothing was stored. Correct the argument and call again."""

    code = "invalid_argument"
    exit_code = 2
    field: str = ""
    """The parameter's name, with the position in a list where it is one of several."""
    value: object = None
    """The refused value; absent where it is a payload."""
    reason: str = ""
    """The rule that the value breaks, and what is accepted."""

    def render(self) -> str:
        return f"{self.field}: {shorten(self.value)} {self.reason}"


class PayloadError(InvalidArgumentError):
    """A payload or metadata is not storable JSON; nothing was stored. Send what JSON can hold, within the limits."""

    code = "payload"

    def render(self) -> str:
        return f"{self.field} {self.reason}"


class IdempotencyConflictError(AgentMessagingError):
    """This idempotency key was used for a different message; nothing was stored. Use a new key for a new message."""

    code = "idempotency_conflict"
    exit_code = 5
    idempotency_key: str = ""
    problem_text = (
        "The idempotency key {0.idempotency_key!r} was already used by this sender for a message with other "
        "recipients, payload or options; nothing was stored. Use a new key for a new message."
    )


# --- names ------------------------------------------------------------------------------------------------------------


class _UnknownNameError(AgentMessagingError):
    """A name is not registered."""

    exit_code = 4
    noun: ClassVar[str] = "Name"
    method: ClassVar[str] = ""
    external_id: str = ""
    suggestions: tuple[str, ...] = ()
    """The closest registered names, closest first; may be empty."""
    role: str = ""
    """The use of the name, such as "sender"; may be empty."""
    store: str = ""
    """The store in which it was looked for: a file, or a URL without its password."""
    remedy_text = "Register it with `sdk.{0.method}(...)`, or correct the name."

    def render(self) -> str:
        noun = f"{self.role.capitalize()} {self.noun.lower()}" if self.role else self.noun
        hint = f" Did you mean {' or '.join(repr(name) for name in self.suggestions)}?" if self.suggestions else ""
        where = f" It was looked for in the store {self.store}." if self.store else ""
        return f"{noun} not found: {self.external_id!r}.{hint}{where}"


class AgentNotFoundError(_UnknownNameError):
    """No agent has this external id. Register it with `sdk.register_agent(...)`, or correct the name."""

    code = "agent_not_found"
    noun = "Agent"
    method = "register_agent"


class OrganizationNotFoundError(_UnknownNameError):
    """No organization has this external id. Register it with `sdk.register_organization(...)`."""

    code = "organization_not_found"
    noun = "Organization"
    method = "register_organization"


def _tell_pruned(noun: str, id: str) -> str:
    return (
        f"The {noun} {id!r} was pruned: retention has removed everything of its age. It does not come back. To keep "
        "the next ones longer, prune with a greater age, or raise that of MessagingConfig(retention=...)."
    )


class MessageNotFoundError(AgentMessagingError):
    """No message has this id. It was removed with its agent or pruned, or is none that `send` returned; check it."""

    code = "message_not_found"
    exit_code = 4
    message_id: str = ""
    is_pruned: bool = False
    """Retention has removed it, with everything of its age."""
    problem_text = (
        "No message has the id {0.message_id!r}. "
        "It may have been removed with its agent; check the id that `send` returned."
    )

    def render(self) -> str:
        return _tell_pruned("message", self.message_id) if self.is_pruned else super().render()


class TaskNotFoundError(AgentMessagingError):
    """No task has this id. It may have been pruned; check the id that `delegate` returned."""

    code = "task_not_found"
    exit_code = 4
    task_id: str = ""
    problem_text = "No task has the id {0.task_id!r}. It may have been pruned; check the id that `delegate` returned."


# --- delivery ---------------------------------------------------------------------------------------------------------


class MailboxFullError(AgentMessagingError):
    """A recipient's mailbox is full; nothing was stored. Send again when it has caught up."""

    code = "mailbox_full"
    retryable = True
    exit_code = 6
    recipients: tuple[str, ...] = ()
    limit: int = 0
    topic: str = ""
    """Where it was to be published; empty if it was not."""

    def render(self) -> str:
        leave = f", end its subscription to {self.topic!r}" if self.topic else ""
        return (
            f"The mailbox of {list_values(self.recipients)} is full: {self.limit} messages wait to be handled there. "
            f"Nothing was stored. Send again when it has caught up, serve it with more processes{leave}, or raise "
            "mailbox_limit."
        )


class TooManySubscribersError(AgentMessagingError):
    """More agents are subscribed to a topic than one publication goes to. Publish on topics that fewer subscribe to."""

    code = "too_many_subscribers"
    exit_code = 6
    topic: str = ""
    limit: int = 0

    def render(self) -> str:
        return (
            f"More than {self.limit:,} agents are subscribed to {self.topic!r}, which is more than one publication of "
            "this size goes to. Nothing was stored. Publish on several topics that fewer agents subscribe to, or a "
            "smaller payload, such as a reference to it."
        )


class ClaimLostError(AgentMessagingError):
    """This claim is no longer the newest: the message was taken over, or ended meanwhile. Do not settle it again."""

    code = "claim_lost"
    message_id: str = ""
    problem_text = (
        "The claim on message {0.message_id!r} is no longer the newest: its lease ended and it was taken over, or it "
        "was settled meanwhile. What this run did counts for nothing here; do not settle it again."
    )


class HandlerError(AgentMessagingError):
    """The recipient's handler failed. Its process has the traceback in its log."""

    code = "handler"
    exit_code = 7


class NoHandlerRegisteredError(HandlerError):
    """No process serves the recipient; nothing was stored. Register a handler, or send with require_handler=False."""

    code = "no_handler_registered"
    retryable = True
    agents: tuple[str, ...] = ()
    kind: str = "one-way"
    store: str = ""
    """The store whose processes were looked at: a file, or a URL without its password."""

    def render(self) -> str:
        where = f" of the store {self.store}" if self.store else ""
        nobody = f"No {self.kind} handler registered for {list_values(self.agents)}"
        return f"{nobody} in any live process{where}; nothing was stored."

    def advise(self) -> str:
        # An ask is not stored for later: it ends with its timeout.
        anyway = "ask it all the same" if self.kind == "conversation" else "store it for later"
        return f"Register one there, wait with `sdk.wait_until_served(...)`, or {anyway} with require_handler=False."


class HandlerTimeoutError(HandlerError):
    """A handler ran longer than it may. Make it shorter, or raise what limits it: handler_timeout as a rule."""

    code = "handler_timeout"
    timeout: float = 0.0
    limit: str = "handler_timeout"
    """What gives it more time when it is raised: a setting, or an argument of the call that set the limit."""
    problem_text = "Handler timed out after {0.timeout:g}s."
    remedy_text = "Make it shorter, or raise {0.limit}."


class TaskError(AgentMessagingError):
    """A task ended without a result. Its reason says why; `sdk.tasks.get` shows what was tried."""

    code = "task"
    exit_code = 7
    task_id: str = ""
    reason: str = ""
    problem_text = "Task {0.task_id!r} has no result: {0.reason}."
    remedy_text = "`sdk.tasks.get` shows what was tried."


class TaskFailedError(TaskError):
    """A task failed for good, or at its last attempt. Its reason says why; `sdk.tasks.get` shows what was tried."""

    code = "task_failed"
    problem_text = "Task {0.task_id!r} failed: {0.reason}."


class TaskCancelledError(TaskError):
    """A task was cancelled. Delegate it again if it is still wanted."""

    code = "task_cancelled"
    problem_text = "Task {0.task_id!r} was cancelled: {0.reason}."
    remedy_text = "Delegate it again if it is still wanted."


class TaskExpiredError(TaskError):
    """A task's deadline passed before it was done. Give it more time, or see whether its workers are alive."""

    code = "task_expired"
    problem_text = "Task {0.task_id!r} has expired: {0.reason}."
    remedy_text = "Give it more time, or see with `sdk.tasks.workers` whether somebody can do it."


# --- time -------------------------------------------------------------------------------------------------------------


class TimeoutError(AgentMessagingError, builtins.TimeoutError):
    """The operation did not end within its timeout. Try again, or give it more time."""

    code = "timeout"
    retryable = True
    exit_code = 8


class ConversationTimeoutError(TimeoutError):
    """No response was received within the timeout. A late answer is kept as an unread message."""

    code = "conversation_timeout"


class OutcomeUnknownError(TimeoutError):
    """The store did not answer in time: the call may have taken effect. Repeat it with the same idempotency_key."""

    code = "outcome_unknown"


# --- sessions ---------------------------------------------------------------------------------------------------------


class SessionError(AgentMessagingError):
    """A conversation cannot do this; the subclass and the message say why, and what to do."""

    code = "session"


class SessionStateError(SessionError):
    """The session, or the ask, is in a state in which this cannot be done. `list_open_asks` shows who waits."""

    code = "session_state"


class SessionNotFoundError(SessionStateError, ValueError):
    """These agents have no open session, or no session has this id. Their first message opens one."""

    code = "session_not_found"
    exit_code = 4
    session_id: str = ""
    problem_text = (
        "No session has the id {0.session_id!r}. It may have been removed with an agent of it; get_active_sessions "
        "lists the open ones."
    )
    is_pruned: bool = False
    """Retention has removed it, with everything of its age."""

    def render(self) -> str:
        return _tell_pruned("session", self.session_id) if self.is_pruned else super().render()


class SessionLockError(SessionError):
    """This side of the session already waits for an answer. Name a thread, or pass wait_for_session=True to queue."""

    code = "session_lock"
    retryable = True
    sender: str = ""
    recipient: str = ""
    ask_id: str = ""
    """The message id of the ask that is open."""
    thread: str | None = None
    """The thread of that ask; None is the main one."""
    remedy_text = (
        'Ask in a conversation of its own beside it, send_and_wait(…, thread="a name"), or queue behind it, '
        "send_and_wait(…, wait_for_session=True)."
    )

    def render(self) -> str:
        where = "" if self.thread is None else f" in the thread {self.thread!r}"
        return (
            f"{self.sender!r} already waits for an answer of {self.recipient!r}{where} (message {self.ask_id}); "
            "nothing was stored."
        )


class MutualWaitError(SessionLockError):
    """Waiting here would close a circle of agents that wait for each other; nothing was stored. Answer instead."""

    code = "mutual_wait"
    path: tuple[str, ...] = ()
    remedy_text = ""

    def render(self) -> str:
        return f"This wait would close a circle: {' → '.join(self.path)}. Nothing was stored; answer instead of asking."


class PartsRestartedError(SessionError):
    """Another run has taken the ask over, and its parts begin anew. Drop those you have, and iterate again."""

    code = "parts_restarted"
    retryable = True
    ask_id: str = ""
    problem_text = (
        "The run that sent these parts of the answer to the ask {0.ask_id} has ended without an answer: its process "
        "died or stopped, or the ask was passed on. The run that took over sends its parts from the beginning."
    )
    remedy_text = "Drop the parts you have, and iterate over the same stream again; or await its answer."


class ConversationEndedError(SessionError):
    """The conversation was ended while waiting. The next message opens a new session."""

    code = "conversation_ended"


# --- meetings ---------------------------------------------------------------------------------------------------------


class MeetingError(AgentMessagingError):
    """A meeting cannot do this; the subclass and the message say why, and what to do."""

    code = "meeting"


class MeetingNotFoundError(MeetingError, ValueError):
    """No meeting has this id. Use the id that create_meeting returned."""

    code = "meeting_not_found"
    exit_code = 4
    meeting_id: str = ""
    problem_text = "No meeting has the id {0.meeting_id!r}."
    remedy_text = "Use the id that create_meeting returned; a meeting is removed with its host's agent."
    is_pruned: bool = False
    """Retention has removed it, with everything of its age."""

    def render(self) -> str:
        return _tell_pruned("meeting", self.meeting_id) if self.is_pruned else super().render()

    def advise(self) -> str:
        return "" if self.is_pruned else super().advise()


class MeetingNotActiveError(MeetingError):
    """The meeting is not active. Start it first; an ended meeting stays ended."""

    code = "meeting_not_active"


class MeetingStateError(MeetingError):
    """The meeting is in a state in which this cannot be done. See which with `get_meeting_status`."""

    code = "meeting_state"


class InvalidMeetingError(MeetingError, ValueError):
    """The meeting cannot be held like this; nothing was stored. Correct the participants or the turn duration."""

    code = "invalid_meeting"
    exit_code = 2


class AgentNotInMeetingError(MeetingError):
    """The agent is not a participant of this meeting. See who is with `get_meeting_status`."""

    code = "agent_not_in_meeting"


class NotYourTurnError(MeetingError):
    """Another participant has the turn. Wait for yours with `sdk.meeting.wait_for_turn(...)` before speaking."""

    code = "not_your_turn"
    retryable = True


class TurnLostError(NotYourTurnError):
    """The turn this act was meant for is over. Wait for the next one."""

    code = "turn_lost"


class MeetingPermissionError(MeetingError):
    """Only another participant of the meeting may do this, as a rule its host. `get_meeting_status` names the host."""

    code = "meeting_permission"


class NotMeetingHostError(MeetingPermissionError):
    """Only the meeting's host may do this. `get_meeting_status` names it."""

    code = "not_meeting_host"


class HostCannotLeaveError(MeetingPermissionError):
    """The host cannot leave its meeting. End it instead."""

    code = "host_cannot_leave"


class MeetingTimeoutError(TimeoutError, MeetingError):
    """The turn, the attendance or the end of the meeting did not come within the timeout. Wait again, or longer."""

    code = "meeting_timeout"


# --- names of the older documents -------------------------------------------------------------------------------------

HandlerNotRegisteredError = NoHandlerRegisteredError
InvalidSessionStateError = SessionStateError
InvalidMeetingStateError = MeetingStateError
NotCurrentSpeakerError = NotYourTurnError
AgentNotFound = AgentNotFoundError
SessionNotFound = SessionNotFoundError
MeetingNotFound = MeetingNotFoundError
HandlerNotRegistered = NoHandlerRegisteredError
TimeoutException = TimeoutError
InvalidOperation = AgentMessagingError
