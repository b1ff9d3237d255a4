"""Durable messaging between AI agents. The public names, nothing else; `docs/` has the guides.

Names are loaded when first used (PEP 562): the command line answers `--help` without loading pydantic.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AgentMessaging
    from .config import Config, DatabaseConfig, MessagingConfig
    from .exceptions import (
        AgentAlreadyExistsError,
        AgentMessagingError,
        AgentNotFound,
        AgentNotFoundError,
        AgentNotInMeetingError,
        ClaimLostError,
        ConfigurationError,
        ConversationEndedError,
        ConversationTimeoutError,
        DatabaseError,
        HandlerError,
        HandlerNotRegistered,
        HandlerNotRegisteredError,
        HandlerTimeoutError,
        HostCannotLeaveError,
        IdempotencyConflictError,
        InvalidArgumentError,
        InvalidMeetingError,
        InvalidMeetingStateError,
        InvalidOperation,
        InvalidSessionStateError,
        MailboxFullError,
        MeetingError,
        MeetingNotActiveError,
        MeetingNotFound,
        MeetingNotFoundError,
        MeetingPermissionError,
        MeetingStateError,
        MeetingTimeoutError,
        MessageNotFoundError,
        MutualWaitError,
        NoHandlerRegisteredError,
        NotCurrentSpeakerError,
        NotInitializedError,
        NotMeetingHostError,
        NotYourTurnError,
        OrganizationAlreadyExistsError,
        OrganizationNotFoundError,
        OutcomeUnknownError,
        PayloadError,
        SchemaVersionError,
        SessionError,
        SessionLockError,
        SessionNotFound,
        SessionNotFoundError,
        SessionStateError,
        StorageBusyError,
        StorageCorruptError,
        StorageForeignError,
        StorageFullError,
        StorageReplacedError,
        StorageUnavailableError,
        TimeoutException,
        TurnLostError,
    )
    from .exceptions import TimeoutError as TimeoutError  # by name, not by `*`
    from .handlers.registry import (
        AnyHandler,
        clear_handlers,
        get_handler,
        has_handler,
        list_handlers,
        register_one_way_handler,
    )
    from .messaging import DeadLetters, OneWayMessenger, Receipts, ReceivedMessage
    from .models import (
        Agent,
        DeadLetter,
        DeliveryState,
        HandlerContext,
        Kind,
        Meeting,
        MeetingEventPayload,
        MeetingEventType,
        MeetingParticipant,
        MeetingStatus,
        Message,
        MessageContext,
        MessageType,
        Organization,
        ParticipantStatus,
        Receipt,
        ReceiptEvent,
        Record,
        Session,
        SessionStatus,
        SessionType,
        T_Conversation,
        T_Meeting,
        T_OneWay,
    )

__version__ = "0.1.0"

_BY_NAME_ONLY = ("TimeoutError",)
"""Public, but not taken by `from agent_messaging import *`: it would hide the builtin, whose subclass it is."""
_HOMES = ("exceptions", "models", "config", "handlers.registry", "messaging", "client")


def __getattr__(name: str) -> Any:
    if name in __all__ or name in _BY_NAME_ONLY:
        from importlib import import_module

        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if name in vars(module):
                value = globals()[name] = vars(module)[name]
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
    "AnyHandler",
    "ClaimLostError",
    "Config",
    "ConfigurationError",
    "ConversationEndedError",
    "ConversationTimeoutError",
    "DatabaseConfig",
    "DatabaseError",
    "DeadLetter",
    "DeadLetters",
    "DeliveryState",
    "HandlerContext",
    "HandlerError",
    "HandlerNotRegistered",
    "HandlerNotRegisteredError",
    "HandlerTimeoutError",
    "HostCannotLeaveError",
    "IdempotencyConflictError",
    "InvalidArgumentError",
    "InvalidMeetingError",
    "InvalidMeetingStateError",
    "InvalidOperation",
    "InvalidSessionStateError",
    "Kind",
    "MailboxFullError",
    "Meeting",
    "MeetingError",
    "MeetingEventPayload",
    "MeetingEventType",
    "MeetingNotActiveError",
    "MeetingNotFound",
    "MeetingNotFoundError",
    "MeetingParticipant",
    "MeetingPermissionError",
    "MeetingStateError",
    "MeetingStatus",
    "MeetingTimeoutError",
    "Message",
    "MessageContext",
    "MessageNotFoundError",
    "MessageType",
    "MessagingConfig",
    "MutualWaitError",
    "NoHandlerRegisteredError",
    "NotCurrentSpeakerError",
    "NotInitializedError",
    "NotMeetingHostError",
    "NotYourTurnError",
    "OneWayMessenger",
    "Organization",
    "OrganizationAlreadyExistsError",
    "OrganizationNotFoundError",
    "OutcomeUnknownError",
    "ParticipantStatus",
    "PayloadError",
    "Receipt",
    "ReceiptEvent",
    "Receipts",
    "ReceivedMessage",
    "Record",
    "SchemaVersionError",
    "Session",
    "SessionError",
    "SessionLockError",
    "SessionNotFound",
    "SessionNotFoundError",
    "SessionStateError",
    "SessionStatus",
    "SessionType",
    "StorageBusyError",
    "StorageCorruptError",
    "StorageForeignError",
    "StorageFullError",
    "StorageReplacedError",
    "StorageUnavailableError",
    "T_Conversation",
    "T_Meeting",
    "T_OneWay",
    "TimeoutException",
    "TurnLostError",
    "clear_handlers",
    "get_handler",
    "has_handler",
    "list_handlers",
    "register_one_way_handler",
]
