"""What Hypothesis may choose of an act in a meeting."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from .machine import OWNERS, PICK


@dataclass(frozen=True, slots=True)
class Choice:
    """What an act is to be. Each takes of it what it needs."""

    verb: str
    number: int
    agent: int | None
    """None: whoever it is up to."""
    off: int | None
    """How far the number given is from that of the current turn; None gives none."""
    next: int | None
    speaks: bool
    key: str | None
    fingerprint: str
    owner: int


VERBS = {
    "speak": 6,
    "pass_on": 3,
    "choose": 2,
    "skip": 1,
    "repeat": 2,
    "attend": 2,
    "absent": 1,
    "start": 2,
    "leave": 1,
    "remove": 1,
    "end": 1,
    "sit": 1,
    "record": 1,
}
"""With how often each is to be tried."""
TURN_VERBS = {"speak", "pass_on", "choose", "skip", "repeat"}
CHOICES = st.builds(
    Choice,
    verb=st.sampled_from([verb for verb, weight in VERBS.items() for _ in range(weight)]),
    number=PICK,
    agent=st.sampled_from([None] * 12 + [0, 1, 2, 3]),
    off=st.sampled_from([0] * 7 + [None, -1, 1]),
    next=st.sampled_from([None] * 12 + [0, 1, 2, 3]),
    speaks=st.booleans(),
    key=st.sampled_from([None, None, None, None, "k", "l"]),
    fingerprint=st.sampled_from(["f", "f", "g"]),
    owner=OWNERS,
)
