"""Named points in the engine at which a test can wait, raise, or end the process; inert in production."""

from __future__ import annotations

from collections.abc import Callable

POINTS = {
    "after_append",
    "after_claim",
    "before_settle",
    "after_settle",
    "before_tasks_settle",
    "after_tasks_settle",
    "before_index",
    "pruned_page",
    "after_export_page",
    "after_stage",
    "before_import",
}
_armed: dict[str, Callable[[], None]] = {}


def probe(name: str) -> None:
    """Run what a test has armed here, if anything."""
    if _armed and (action := _armed.get(name)) is not None:
        action()


def arm(name: str, action: Callable[[], None]) -> None:
    """Run `action` whenever one of the `POINTS` is passed.

    Raises:
        ValueError: There is no such point, so a test that waits for it would wait in vain.
    """
    if name not in POINTS:
        raise ValueError(f"No point is named {name!r}. There are: {', '.join(sorted(POINTS))}.")
    _armed[name] = action


def disarm() -> None:
    """Make every point inert again."""
    _armed.clear()
