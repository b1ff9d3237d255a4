"""The SDK for code without asyncio: scripts, notebooks, Flask, worker frameworks. `AgentMessaging` is the way in.

Its classes have the names, calls, arguments, results and errors of the asynchronous ones. A call that is interrupted by
Ctrl-C is cancelled, in the sense of what its asynchronous twin says of cancelling.
"""

from .archive import Archive
from .conversation import Conversation
from .events import MeetingEventHandler
from .meeting import MeetingManager
from .observers import Observers
from .one_way import OneWayMessenger
from .pulling import ReceivedMessage
from .receipts import DeadLetters, Receipts
from .retention import Retention
from .sdk import AgentMessaging
from .sides import AsyncConversation, SyncConversation
from .streams import AskStream
from .tasks import Tasks
from .topics import Topics

__all__ = [
    "AgentMessaging",
    "Archive",
    "AskStream",
    "AsyncConversation",
    "Conversation",
    "DeadLetters",
    "MeetingEventHandler",
    "MeetingManager",
    "Observers",
    "OneWayMessenger",
    "Receipts",
    "ReceivedMessage",
    "Retention",
    "SyncConversation",
    "Tasks",
    "Topics",
]
