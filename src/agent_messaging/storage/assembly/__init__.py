"""The rules of meetings, once for every backend: what an act changes, or why it is refused. Pure; the backends load the
meeting under a lock, ask `decide`, and write what it answers in the same transaction.

A meeting's turns are numbered from 1 and rise by one; one is current while the meeting is active. An act that ends the
current turn begins the next one, or a *selection*: a turn of the host's in which nobody speaks and the host's process
names the next speaker.
"""

from .rules import SELECTION_LIMIT, decide
from .terms import (
    Absent,
    Act,
    Assembly,
    Attend,
    Changes,
    Choose,
    CurrentTurn,
    Decision,
    End,
    Event,
    Leave,
    NewTurn,
    Note,
    Pass,
    Purpose,
    Refused,
    Remove,
    Seat,
    Skip,
    Speak,
    Start,
    TimeOut,
    Vanish,
    Why,
    agents_named,
    render,
)

__all__ = [
    "SELECTION_LIMIT",
    "Absent",
    "Act",
    "Assembly",
    "Attend",
    "Changes",
    "Choose",
    "CurrentTurn",
    "Decision",
    "End",
    "Event",
    "Leave",
    "NewTurn",
    "Note",
    "Pass",
    "Purpose",
    "Refused",
    "Remove",
    "Seat",
    "Skip",
    "Speak",
    "Start",
    "TimeOut",
    "Vanish",
    "Why",
    "agents_named",
    "decide",
    "render",
]
