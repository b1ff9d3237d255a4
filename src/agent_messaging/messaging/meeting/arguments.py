"""Checks the arguments of the calls of meetings, and fills in those that were left out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ...arguments import check_count, check_external_id, check_timeout, refuse
from ...config import MessagingConfig
from ...delivery.meetings import Condition, Selector
from ...exceptions import InvalidArgumentError, InvalidMeetingError
from ...handlers.functions import check_function
from ...models import SpeakerSelection, Turn
from ...storage.assembly.terms import Bounds

MAX_PARTICIPANTS = 1_000
"""Agents in one meeting, its host included. It bounds one transaction."""
MAX_TURN_DURATION = 7 * 24 * 3600.0
"""Seconds."""
MAX_DURATION = 366 * 24 * 3600.0
"""Seconds."""
MAX_TURNS = 1_000_000
MeetingId = str | UUID
SELECTOR = "Pass a function of the meeting so far."


def one_of(field: str, given: Any, **aliases: Any) -> Any:
    """Return the argument that was given under one of its several names."""
    used = {name: value for name, value in {field: given, **aliases}.items() if value is not None}
    if len(used) > 1:
        raise InvalidArgumentError(
            f"{' and '.join(used)} are names of one argument. Pass one of them.", field=list(used)[-1]
        )
    if not used:
        if field == "participant_external_ids":
            return []
        raise InvalidArgumentError(f"{field} is missing. Pass the external id of an agent.", field=field)
    return next(iter(used.values()))


def check_participants(host: str, others: Any) -> list[str]:
    """Return all participants, the host first."""
    if isinstance(others, str) or not isinstance(others, list | tuple):
        raise refuse("participant_external_ids", others, "must be a list of external ids.")
    seen: dict[str, None] = {}
    for position, other in enumerate(others):
        check_external_id(other, field=f"participant_external_ids[{position}]")
        if other in seen:
            raise InvalidMeetingError(
                f"participant_external_ids[{position}]: {other!r} was named before. Name each participant once."
            )
        seen[other] = None
    seen.pop(host, None)
    if len(seen) >= MAX_PARTICIPANTS:
        raise InvalidMeetingError(
            f"{len(seen) + 1:,} participants were given; a meeting has at most {MAX_PARTICIPANTS:,}, its host included."
        )
    return [host, *seen]


def check_selection(value: Any) -> tuple[SpeakerSelection, Selector | None]:
    if callable(value) and not isinstance(value, str):
        check_function(value, field="speaker_selection", takes=SELECTOR)
        return SpeakerSelection.CUSTOM, value
    if isinstance(value, str) and value in (SpeakerSelection.ROUND_ROBIN, SpeakerSelection.HOST):
        return SpeakerSelection(value), None
    raise refuse("speaker_selection", value, "must be 'round_robin', 'host', or a function of the meeting so far.")


def check_bounds(max_turns: int | None, max_duration: float | None, end_when: Condition | None) -> Bounds:
    """Return what ends a meeting by itself."""
    check_count(max_turns, "max_turns", most=MAX_TURNS, allow_none=True)
    check_timeout(max_duration, field="max_duration", most=MAX_DURATION, allow_none=True)
    if end_when is not None:
        check_function(end_when, field="end_when", takes=SELECTOR)
    return Bounds(max_turns, None if max_duration is None else float(max_duration), None if end_when is None else True)


def check_turn(turn: int | Turn | None) -> int | None:
    if isinstance(turn, Turn):
        if turn.number is None:
            raise refuse("turn", None, "is the end of the meeting, in which nobody can act.")
        return turn.number
    if turn is None or (type(turn) is int and turn > 0):
        return turn
    raise refuse("turn", turn, "must be a Turn, its number from 1, or None.")


def check_duration(value: float | None, settings: MessagingConfig) -> float | None:
    """Return the seconds of a turn, or None where turns do not end by time."""
    if value is not None:
        check_timeout(value, field="turn_duration", most=MAX_TURN_DURATION)
    if not settings.enable_turn_timeout:
        return None
    return settings.default_meeting_turn_duration if value is None else float(value)
