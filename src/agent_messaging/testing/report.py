"""The report of a judgement: the promises that were broken, and the counts. See `checker`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .history import Event


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    invariant: str
    message_id: str | None
    text: str
    events: tuple[Event, ...] = ()
    """The events that show it."""

    def __str__(self) -> str:
        about = f" {self.message_id}" if self.message_id else ""
        return "\n".join([f"{self.invariant}{about}: {self.text}", *(f"    {event}" for event in self.events)])


@dataclass(slots=True)
class Report:
    """The counts, and the broken promises."""

    violations: list[Violation] = field(default_factory=list)
    events: int = 0
    processes: int = 0
    torn: int = 0
    """Lines cut short by the death of their writer."""
    calls: Counter[str] = field(default_factory=Counter)
    """tried, accepted, refused and unknown calls."""
    acked: int = 0
    """Messages whose caller was told that they are stored."""
    lost: int = 0
    """Accepted messages that did not end as promised."""
    unknown: int = 0
    """Messages whose caller never learned whether they are stored."""
    recovered: int = 0
    """Unknown messages that were handled."""
    refused: int = 0
    ghosts: int = 0
    settled_twice: int = 0
    stale_refused: int = 0
    """Settlements refused because their claim was not the newest: fencing at work."""
    wrong_accepted: int = 0
    """Settlements accepted although their claim was not the newest."""
    justified_repeats: int = 0
    unjustified_repeats: int = 0
    takeovers_after_kill: list[float] = field(default_factory=list)
    """Seconds until the next run, ascending."""
    takeovers_after_pause: list[float] = field(default_factory=list)
    attempts_max: int = 0
    order_pairs: int = 0
    """Neighbours in a lane whose order was compared."""
    order_violations: int = 0
    depth_max: int = 0
    asks: Counter[str] = field(default_factory=Counter)
    """Asks by how they returned; `killed` are those whose process did not live to."""
    overruns: list[float] = field(default_factory=list)
    """Seconds by which asks returned after their deadlines, ascending."""
    abandonments: list[float] = field(default_factory=list)
    """Seconds after which runs were told that their askers do not wait any more, ascending."""
    parts: Counter[str] = field(default_factory=Counter)
    """Parts that readers were given; how often they were told of another run, and had read all."""
    late_answers: int = 0
    """Answers to asks that had ended otherwise, kept as unread messages."""
    turns: Counter[str] = field(default_factory=Counter)
    """Turns by how they ended."""
    turn_violations: int = 0
    lost_turns: int = 0
    """Speeches refused because their turn was over: numbered turns at work."""
    timeout_delays: list[float] = field(default_factory=list)
    """Seconds between a turn's deadline and its end by time, ascending."""
    reads: int = 0

    def blame(self, invariant: str, subject: str | None, text: str, *events: Event | None) -> None:
        """Add a broken promise."""
        shown = tuple(event for event in events if event is not None)
        self.violations.append(Violation(invariant, subject, text, shown))

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def sums_up(self) -> bool:
        """Whether every call has one outcome, unknown being one."""
        return self.calls["tried"] == self.calls["accepted"] + self.calls["refused"] + self.calls["unknown"]

    def assert_ok(self, listed: int = 20) -> None:
        """Raise AssertionError with the table and the first violations, if there are any."""
        if self.violations:
            shown = [str(violation) for violation in self.violations[:listed]]
            more = len(self.violations) - len(shown)
            rest = [f"... and {more} more"] if more else []
            raise AssertionError("\n".join(["the history breaks promises", str(self), *shown, *rest]))

    def __str__(self) -> str:
        broken = Counter(violation.invariant for violation in self.violations)
        verdict = (
            "ok" if self.ok else f"{broken.total()} violations: " + ", ".join(f"{i} {n}" for i, n in broken.items())
        )
        calls, equals = self.calls, "=" if self.sums_up else "≠"
        rows = {
            "history": f"{self.events:,} events of {self.processes} processes, {self.torn} lines torn",
            "calls": f"{calls['tried']:,} tried {equals} {calls['accepted']:,} accepted + {calls['refused']:,} refused"
            f" + {calls['unknown']:,} unknown",
            "messages": f"acked {self.acked:,}, lost {self.lost}, refused {self.refused:,}, unknown {self.unknown},"
            f" recovered {self.recovered}, ghosts {self.ghosts}",
            "settling": f"settled twice {self.settled_twice}, stale refused {self.stale_refused},"
            f" stale accepted {self.wrong_accepted}",
            "repeats": f"justified {self.justified_repeats}, unjustified {self.unjustified_repeats},"
            f" attempts at most {self.attempts_max}",
            "take-over": f"after kill {summarize(self.takeovers_after_kill)}",
            "": f"after pause {summarize(self.takeovers_after_pause)}",
            "order": f"{self.order_violations} of {self.order_pairs:,} pairs swapped",
            "mailbox": f"at most {self.depth_max:,} open",
            "asks": f"{_counts(self.asks)}; after the deadline {summarize(self.overruns)}; late answers"
            f" {self.late_answers}; runs told of it {summarize(self.abandonments)}",
            "parts": _counts(self.parts),
            "turns": f"{_counts(self.turns)}; violations {self.turn_violations}, speeches too late {self.lost_turns};"
            f" timed out {summarize(self.timeout_delays)}",
            "reads": f"{self.reads:,}",
            "verdict": verdict,
        }
        return "\n".join(f"{name:<10} {text}" for name, text in rows.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items())) or "0"


def percentile(ascending: list[float], percent: float) -> float:
    """The smallest value that so many percent of them do not exceed."""
    rank = max(1, -(-len(ascending) * percent // 100))
    return ascending[int(rank) - 1]


def summarize(ascending: list[float]) -> str:
    """Their number, with p50, p99 and the longest."""
    if not ascending:
        return "0"
    p50, p99, most = percentile(ascending, 50), percentile(ascending, 99), ascending[-1]
    return f"{len(ascending)}: p50 {p50:.3f} s, p99 {p99:.3f} s, max {most:.3f} s"
