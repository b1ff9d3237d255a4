"""Observing: the facts that are told, those who are told, and what exporters make of it.

`otel` and `prometheus` need an extra each, and are imported by name alone.
"""

from .facts import Fact as Fact
from .facts import FactSubject as FactSubject
from .facts import FactType as FactType
from .figures import PoolFigures as PoolFigures
from .figures import ProcessFigures as ProcessFigures
from .figures import Statistics as Statistics
from .observers import Observer as Observer
from .observers import Observers as Observers

__all__ = [
    "Fact",
    "FactSubject",
    "FactType",
    "Observer",
    "Observers",
    "PoolFigures",
    "ProcessFigures",
    "Statistics",
]
