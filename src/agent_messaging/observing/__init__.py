"""Observing: the facts that are told, those who are told, and what exporters make of it.

`otel` and `prometheus` need an extra each, and are imported by name alone. So are `figures`, which few programs read.
"""

from .facts import Fact as Fact
from .facts import FactSubject as FactSubject
from .facts import FactType as FactType
from .observers import Observer as Observer
from .observers import Observers as Observers

__all__ = [
    "Fact",
    "FactSubject",
    "FactType",
    "Observer",
    "Observers",
]
