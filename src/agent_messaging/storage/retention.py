"""What may be pruned. The rules are pure, and the same for every backend.

A backend loads what is old enough, asks `sort`, and deletes what is going. Nothing goes that is open, unread by its
recipient, awaited, or referred to by what stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ..records import dataclass
from ..states import DeliveryState, Keeping, Prunable
from .aside import Aside
from .ports import Counted, Place, Pruned, Pruning

ROW_BYTES = 250
"""About what a row takes beside its contents, with its entries in indexes."""
_ALL = 2**31 - 1

WALKED = frozenset(Prunable) - {Prunable.TASKS, Prunable.QUEUE_MESSAGES}
"""The kinds that `RetentionStore.prune` walks through."""


@dataclass(frozen=True, slots=True)
class OldMessage:
    """A note or conversation message to which nothing has happened for long, or a dead letter."""

    key: int
    """Its seq."""
    id: str
    state: DeliveryState
    was_handled: bool
    """A handler of its recipient, or a receiver, had it."""
    is_read: bool
    has_expiry: bool
    """It was worth something until an instant only: expired, nobody reads it."""
    is_awaited: bool
    """Its ask is open, or a notification handler is still to be told."""
    is_referred: bool
    """The way of an ask that was passed on leads over it, or the thread of an open session is named after it."""
    question: int | None
    """The message that it answers, while that is stored."""
    size: int
    is_question: bool
    session_id: str | None


@dataclass(frozen=True, slots=True)
class OldSession:
    """A session to which nothing has happened for long."""

    key: str
    id: str
    is_open: bool
    messages: int
    """As far as they were counted: see `Walk.most`."""
    size: int = 0


@dataclass(frozen=True, slots=True)
class OldMeeting:
    """A meeting to which nothing has happened for long."""

    key: str
    id: str
    is_open: bool
    has_open_deliveries: bool
    """A turn that is handled, or an invitation that waits."""
    size: int


@dataclass(frozen=True, slots=True)
class OldKey:
    """An idempotency key that was used long ago."""

    key: tuple[str, str, str]
    """Its sender, the call, and the key itself."""
    id: str
    """Always empty: nobody asks whether a key was pruned."""
    is_open: bool
    """A message that was stored under it has not ended, so a repeat may still come for it."""
    size: int


class Old(Protocol):
    """Anything that the rules judge."""

    @property
    def key(self) -> object: ...
    @property
    def id(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Sorted:
    """What goes, and why the rest stays."""

    going: Sequence[Old]
    kept: Counter[Keeping]

    @property
    def keys(self) -> list[Any]:
        """The keys of what goes."""
        return [one.key for one in self.going]

    @property
    def newest_id(self) -> str:
        """The greatest id of what goes."""
        return max((one.id for one in self.going), default="")

    def told(self, next: Place | None) -> Pruned:
        """The same, as the caller is told of it; the walk goes on at `next`."""
        return Pruned(len(self.going), sum(one.size + ROW_BYTES for one in self.going), dict(self.kept), next)


@dataclass(frozen=True, slots=True)
class Walk:
    """How one kind is walked through."""

    page: str
    """In the name of the SQL block that finds a page."""
    noun: str
    """In those of the blocks that do the rest."""
    make: Callable[..., Any]
    """What is judged, of the columns that a row has."""
    judge: Callable[[Any, Collection[object]], Keeping | None]
    """Whether it stays; the second argument has the keys of what goes before it."""
    share: int = 1
    """A page is so many times shorter, because each of its rows has so much that hangs on it."""
    most: int = 1
    """Messages of a session that are counted: whether there is one, unless some of them are taken for gone."""
    note: Callable[[Any], None] | None = None
    """Told of each that goes."""

    def sort(self, rows: Iterable[Sequence[Any]], aside: Aside) -> Sorted:
        """Judge the rows in their order. One that cannot be read stays."""
        going: dict[object, Old] = {}
        kept: Counter[Keeping] = Counter()
        for one in aside.all(lambda row: self.make(*row), rows, f"one of the {self.noun}"):
            if (reason := self.judge(one, going)) is None:
                going[one.key] = one
                if self.note is not None:
                    self.note(one)
            else:
                kept[reason] += 1
        return Sorted(list(going.values()), kept)


def find_walk(wanted: Pruning) -> Walk:
    """The walk through this kind.

    Raises:
        KeyError: It has a port of its own.
    """
    counted = wanted.counted
    messages = _message, judge_messages(unread=wanted.unread, gone=counted.questions)
    note = partial(_note, counted) if wanted.dry_run else None
    return {
        Prunable.MESSAGES: Walk("messages", "messages", *messages, note=note),
        Prunable.DEAD_LETTERS: Walk("dead_letters", "messages", *messages, note=note),
        Prunable.SESSIONS: Walk(
            "sessions",
            "sessions",
            OldSession,
            judge_sessions(gone=counted.messages),
            most=_ALL if wanted.dry_run else 1,
        ),
        Prunable.MEETINGS: Walk("meetings", "meetings", OldMeeting, judge_meeting, share=20),
        Prunable.IDEMPOTENCY_KEYS: Walk("keys", "keys", _key, judge_key),
    }[wanted.kind]


def _message(seq: int, id: str, state: str, *facts: Any) -> OldMessage:
    return OldMessage(seq, id, DeliveryState(state), *facts)


def _note(counted: Counted, old: OldMessage) -> None:
    """Have a message that a dry run has counted taken for gone."""
    if old.is_question:
        counted.questions.add(old.key)
    if old.session_id is not None:
        counted.messages[old.session_id] += 1


def _key(sender_id: str, call: str, key: str, *facts: Any) -> OldKey:
    return OldKey((sender_id, call, key), "", *facts)


def judge_messages(
    *, unread: bool, gone: Collection[object] = ()
) -> Callable[[OldMessage, Collection[object]], Keeping | None]:
    """Judge messages; those that nobody has had go only with `unread`. A dead letter is one that nobody had.

    Args:
        unread: Also those that nobody has had.
        gone: Questions that are taken for gone.
    """

    def judge(old: OldMessage, going: Collection[object]) -> Keeping | None:
        if not old.state.is_final:
            return Keeping.OPEN
        if old.is_awaited:
            return Keeping.AWAITED
        if old.is_referred or not (old.question is None or old.question in going or old.question in gone):
            return Keeping.REFERRED
        return None if unread or _was_had(old) else Keeping.UNREAD

    return judge


def _was_had(old: OldMessage) -> bool:
    match old.state:
        case DeliveryState.DONE:
            return old.is_read or old.was_handled
        case DeliveryState.EXPIRED:  # an ask that has ended unhandled can still be read
            return old.is_read or old.has_expiry
        case _:  # its sender took it back, or it was given up
            return True


def judge_sessions(*, gone: Mapping[str, int]) -> Callable[[OldSession, Collection[object]], Keeping | None]:
    """Judge sessions, of which so many messages are taken for gone."""

    def judge(old: OldSession, _going: Collection[object]) -> Keeping | None:
        if old.is_open:
            return Keeping.OPEN
        return Keeping.REFERRED if old.messages > gone.get(old.id, 0) else None

    return judge


def judge_meeting(old: OldMeeting, _going: Collection[object]) -> Keeping | None:
    """Judge a meeting."""
    return Keeping.OPEN if old.is_open or old.has_open_deliveries else None


def judge_key(old: OldKey, _going: Collection[object]) -> Keeping | None:
    """Judge an idempotency key."""
    return Keeping.OPEN if old.is_open else None
