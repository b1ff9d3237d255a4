"""What is not there any more: whether it was pruned, so that the error can say so.

No row tells it. Ids are made by time, so one that is not found, and is no newer than the newest id that was ever pruned
of its kind, is taken for pruned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..exceptions import MeetingNotFoundError, MessageNotFoundError, SessionNotFoundError
from ..models import Prunable

if TYPE_CHECKING:
    from ..delivery.engine import Engine

E = TypeVar("E", MessageNotFoundError, SessionNotFoundError, MeetingNotFoundError)

_KINDS = {
    MessageNotFoundError: ("message_id", (Prunable.MESSAGES, Prunable.DEAD_LETTERS)),
    SessionNotFoundError: ("session_id", (Prunable.SESSIONS,)),
    MeetingNotFoundError: ("meeting_id", (Prunable.MEETINGS,)),
}


async def explain_missing(engine: Engine, error: E) -> E:
    """The error that says that it was pruned, if it was; else the error as it is."""
    field, kinds = _KINDS[type(error)]
    id = getattr(error, field)
    if len(id) != 36 or id[14] != "7":  # of another maker, and not in the order of time
        return error
    newest = [await engine.store.retention.find_newest_pruned(kind) for kind in kinds]
    is_pruned = any(one is not None and id <= one for one in newest)
    return type(error)(**{field: id}, is_pruned=True) if is_pruned else error
