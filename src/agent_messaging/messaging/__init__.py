"""The calls of users: one module for each pattern, above the engine in `delivery`.

Names are loaded when first used, as those of the package: most programs use few of the patterns.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archive import Archive
    from .conversation import AskStream, Conversation, Outcome
    from .meeting import MeetingManager
    from .one_way import OneWayMessenger
    from .pulling import ReceivedMessage
    from .receipts import DeadLetters, Receipts
    from .retention import Retention
    from .sides import AsyncConversation, SyncConversation
    from .topics import Topics

_HOMES = {
    "archive": ("Archive",),
    "conversation": ("AskStream", "Conversation", "Outcome"),
    "meeting": ("MeetingManager",),
    "one_way": ("OneWayMessenger",),
    "pulling": ("ReceivedMessage",),
    "receipts": ("DeadLetters", "Receipts"),
    "retention": ("Retention",),
    "sides": ("AsyncConversation", "SyncConversation"),
    "topics": ("Topics",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Archive",
    "AskStream",
    "AsyncConversation",
    "Conversation",
    "DeadLetters",
    "MeetingManager",
    "OneWayMessenger",
    "Outcome",
    "Receipts",
    "ReceivedMessage",
    "Retention",
    "SyncConversation",
    "Topics",
]
