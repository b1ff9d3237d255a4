"""Handlers: registering them, finding them, and running them."""

from .events import EventHandler, MeetingEventHandler
from .registry import (
    AnyHandler,
    clear_handlers,
    get_handler,
    has_handler,
    list_handlers,
    register_conversation_handler,
    register_meeting_handler,
    register_message_notification_handler,
    register_one_way_handler,
    unregister_handler,
)

__all__ = [
    "AnyHandler",
    "EventHandler",
    "MeetingEventHandler",
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
