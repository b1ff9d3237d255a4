"""What every port builds on: what a backend can do, and the margin of a claim."""

from __future__ import annotations

from ...records import dataclass

CLAIM_MARGIN = 60.0
"""Seconds added to a run's limit for the hard end of its claim, past which even a live owner loses it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; nobody asks for its name."""

    processes: bool
    """Several processes, and several SDK objects, may share the store."""
    durable: bool
    """What is stored outlives the process."""
    appends_at_once: int = 1
    """Appends of one process that are worth having in flight together: more than one where a server does the work."""

    @property
    def works_apart(self) -> bool:
        """Whether a server does the work, beside which this process can do something else."""
        return self.appends_at_once > 1


@dataclass(frozen=True, slots=True)
class Dues:
    """Seconds until time changes something of each kind: nothing or less where it is due, None where none is known."""

    deliveries: float | None
    turns: float | None
    tasks: float | None
    schedules: float | None
    queue: float | None


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What `doctor` prints of a store; `warnings` each end with what to do."""

    backend: str
    location: str
    """Without a password."""
    version: str
    schema_version: int
    """0 where the store has none."""
    durability: dict[str, str]
    warnings: tuple[str, ...]
