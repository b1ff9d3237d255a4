"""Named points in the engine at which a test can wait, raise, or end the process; inert in production."""

from __future__ import annotations

from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}


def probe(name: str) -> None:
    """Run what a test has armed here, if anything."""
    if _armed and (action := _armed.get(name)) is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run `action` whenever a point is passed: after_append, after_claim, before_settle, after_settle, before_index,
    before_tasks_settle, after_tasks_settle, after_export_page, after_stage, before_import."""
    _armed[name] = action


def disarm() -> None:
    """Make every point inert again."""
    _armed.clear()
