"""Durable messaging between AI agents. The public names, nothing else; `docs/` has the guides.

Names are loaded when first used (PEP 562): the command line answers `--help` without loading pydantic. `__all__` says
which names those are; type checkers find them in the modules of the imports below.
"""

# ruff: noqa: F403, F405

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AgentMessaging
    from .config import *
    from .event_data import *
    from .exceptions import *
    from .exceptions import TimeoutError as TimeoutError  # by name, not by `*`
    from .handlers.events import MeetingEventHandler
    from .handlers.registry import *
    from .handlers.tasks import TaskContext
    from .messaging import *
    from .messaging.archive.reports import ExportReport, ImportReport
    from .models import *
    from .observing import *
    from .observing.figures import *

__version__ = "0.1.0"

_BY_NAME_ONLY = ("TimeoutError",)
"""Public, but not taken by `from agent_messaging import *`: it would hide the builtin, whose subclass it is."""
_HOMES = (
    "exceptions",
    "models",
    "config",
    "handlers.registry",
    "handlers.tasks",
    "handlers.events",
    "messaging",
    "client",
    "observing",
    "observing.figures",
    "event_data",  # its models take 3 ms, which most programs never need
    "messaging.archive.reports",
)


def __getattr__(name: str) -> Any:
    if name in __all__ or name in _BY_NAME_ONLY:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):  # some load it only now
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_BY_NAME_ONLY})


__all__ = [
    "Agent",
    "AgentAlreadyExistsError",
    "AgentMessaging",
    "AgentMessagingError",
    "AgentNotFound",
    "AgentNotFoundError",
    "AgentNotInMeetingError",
    "AgentStatus",
    "AnyHandler",
    "Archive",
    "ArchiveError",
    "AskState",
    "AskStream",
    "AsyncConversation",
    "ClaimLostError",
    "Config",
    "ConfigurationError",
    "Conversation",
    "ConversationEndedError",
    "ConversationTimeoutError",
    "CoordinationConfig",
    "DatabaseConfig",
    "DatabaseError",
    "DeadLetter",
    "DeadLetters",
    "DeliveryState",
    "ErrorOccurredEventData",
    "EventData",
    "EventLoopError",
    "ExportReport",
    "Fact",
    "FactSubject",
    "FactType",
    "FinalAnswer",
    "HandlerContext",
    "HandlerError",
    "HandlerNotRegistered",
    "HandlerNotRegisteredError",
    "HandlerTimeoutError",
    "HostCannotLeaveError",
    "IdempotencyConflictError",
    "ImportReport",
    "InvalidArgumentError",
    "InvalidMeetingError",
    "InvalidMeetingStateError",
    "InvalidOperation",
    "InvalidSessionStateError",
    "Invitation",
    "Keeping",
    "Kind",
    "MailboxFullError",
    "Meeting",
    "MeetingEnd",
    "MeetingEndedEventData",
    "MeetingError",
    "MeetingEvent",
    "MeetingEventHandler",
    "MeetingEventPayload",
    "MeetingEventType",
    "MeetingManager",
    "MeetingNotActiveError",
    "MeetingNotFound",
    "MeetingNotFoundError",
    "MeetingParticipant",
    "MeetingPermissionError",
    "MeetingStartedEventData",
    "MeetingStateError",
    "MeetingStatus",
    "MeetingStatusResponse",
    "MeetingTimeoutError",
    "Message",
    "MessageContext",
    "MessageNotFoundError",
    "MessagePostedEventData",
    "MessageType",
    "MessagingConfig",
    "MutualWaitError",
    "NoHandlerRegisteredError",
    "NotCurrentSpeakerError",
    "NotInitializedError",
    "NotMeetingHostError",
    "NotYourTurnError",
    "Observer",
    "Observers",
    "OneWayMessenger",
    "Organization",
    "OrganizationAlreadyExistsError",
    "OrganizationNotFoundError",
    "Outcome",
    "OutcomeUnknownError",
    "ParticipantJoinedEventData",
    "ParticipantLeftEventData",
    "ParticipantStatus",
    "ParticipantStatusChangedEventData",
    "PartsRestartedError",
    "PayloadError",
    "PoolFigures",
    "ProcessFigures",
    "Prunable",
    "PruneReport",
    "PrunedKind",
    "QueueDataLostError",
    "Receipt",
    "ReceiptEvent",
    "Receipts",
    "ReceivedMessage",
    "Record",
    "Retention",
    "SchemaVersionError",
    "Session",
    "SessionError",
    "SessionLockError",
    "SessionNotFound",
    "SessionNotFoundError",
    "SessionStateError",
    "SessionStatus",
    "SessionType",
    "SpeakerSelection",
    "Statistics",
    "StorageBusyError",
    "StorageCorruptError",
    "StorageForeignError",
    "StorageFullError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "Subscription",
    "SyncConversation",
    "T_Conversation",
    "T_Meeting",
    "T_OneWay",
    "TaskCancelledError",
    "TaskContext",
    "TaskError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskNotFoundError",
    "TaskState",
    "TimeoutException",
    "TimeoutOccurredEventData",
    "TooManySubscribersError",
    "Topics",
    "Transcript",
    "Turn",
    "TurnChangedEventData",
    "TurnEnd",
    "TurnLostError",
    "clear_handlers",
    "get_handler",
    "has_handler",
    "list_handlers",
    "register_conversation_handler",
    "register_meeting_handler",
    "register_message_notification_handler",
    "register_one_way_handler",
    "unregister_handler",
]
