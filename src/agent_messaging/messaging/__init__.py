"""The calls of users: one module for each pattern, above the engine in `delivery`."""

from .archive import Archive
from .conversation import AskStream, Conversation, Outcome
from .meeting import MeetingManager
from .one_way import OneWayMessenger
from .pulling import ReceivedMessage
from .receipts import DeadLetters, Receipts
from .retention import Retention
from .sides import AsyncConversation, SyncConversation
from .topics import Topics

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
