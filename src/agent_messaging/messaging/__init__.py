"""What a user calls: one module for each pattern, above the engine in `delivery`."""

from .one_way import OneWayMessenger
from .pulling import ReceivedMessage
from .receipts import DeadLetters, Receipts

__all__ = ["DeadLetters", "OneWayMessenger", "Receipts", "ReceivedMessage"]
