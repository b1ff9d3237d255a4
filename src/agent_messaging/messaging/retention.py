"""Retention: pruning what is old, when it is asked for. What is pruned by itself, the settings say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from ..arguments import check_flag, check_timeout, parse_choices
from ..delivery.retention import LEAST_AGE, release_space, walk
from ..models import Keeping, Prunable, PrunedKind, PruneReport
from ..storage.ports import CoordinationStore, Counted, Pruning, Store
from .door import Door

USUAL = tuple(kind for kind in Prunable if kind is not Prunable.DEAD_LETTERS)
"""The kinds that are pruned where none are named. Dead letters are work that somebody has still to look at."""
SHARE = 0.5
"""Of its time that a prune works, and leaves the store to the traffic for the rest."""
_WORK = {Prunable.TASKS, Prunable.QUEUE_MESSAGES, Prunable.DEAD_LETTERS}
"""The kinds that are pruned where the tasks are kept, too."""


class Retention(Door):
    """`sdk.retention`: nothing is removed unasked but what `MessagingConfig.retention` gives an age."""

    async def prune(
        self,
        older_than: float | timedelta,
        kinds: Iterable[Prunable | str] | None = None,
        *,
        unread: bool = False,
        dry_run: bool = False,
    ) -> PruneReport:
        """Remove what has ended and is older than an age, in small steps beside the traffic.

        Nothing goes that is open, unread by its recipient, awaited, or referred to by what stays. A message is had by
        its recipient if a handler has handled it, or if it was read. What was pruned is gone for good: its receipt,
        its place in histories and searches, and the answer of an ask; whoever asks for it is told that it was pruned.
        Nothing younger than a minute goes, whatever age is given.

        It takes as long as there is something to remove, some thousands a second. Cancelling it leaves pruned what was
        pruned so far. Repeating it is safe, and so is pruning in several processes at once.

        Args:
            older_than: Seconds, or a `timedelta`, since the last thing that happened to it: it was stored, settled,
                read or ended.
            kinds: `"messages"`, `"dead_letters"`, `"sessions"`, `"meetings"`, `"idempotency_keys"`, `"tasks"`,
                `"queue_messages"`. None is all but the dead letters.
            unread: True prunes messages, too, that their recipients have not had.
            dry_run: True only counts, as if each kind had gone before the next is counted.

        Returns:
            For each kind how many were pruned, their bytes, and how many stayed for which reason.

        Raises:
            InvalidArgumentError: The age is negative or no number, or a kind is none of these.
            DatabaseError: The store failed. What was pruned before is pruned.

        Example:
            report = await sdk.retention.prune(timedelta(days=30), ["messages", "sessions"])
            print(report.number, "rows,", report.size_bytes, "bytes")
        """
        age = check_age(older_than)
        wanted = check_kinds(kinds)
        check_flag(unread, "unread")
        check_flag(dry_run, "dry_run")
        engine, work = self.engine, None
        if _WORK.intersection(wanted):
            engine.workplace.need()
            work = engine.workplace.store
        return await prune(engine.store, age, wanted, unread=unread, dry_run=dry_run, coordination=work)


def check_age(older_than: float | timedelta) -> float:
    """The seconds.

    Raises:
        InvalidArgumentError: They are negative, no number, or more than any store is old.
    """
    age = older_than.total_seconds() if isinstance(older_than, timedelta) else older_than
    return 0.0 if age == 0 and age is not False else check_timeout(age, "older_than")


def check_kinds(kinds: Iterable[Prunable | str] | None) -> Sequence[Prunable]:
    """The kinds, each once, in the order in which they are pruned: what refers to others goes before them.

    Raises:
        InvalidArgumentError: One is no kind.
    """
    found = parse_choices(Prunable, kinds, "kinds")
    return USUAL if found is None else [kind for kind in Prunable if kind in found]


async def prune(
    store: Store,
    age: float,
    kinds: Sequence[Prunable],
    *,
    unread: bool,
    dry_run: bool,
    coordination: CoordinationStore | None = None,
    tell: Callable[[int], object] = lambda number: None,
) -> PruneReport:
    """Prune these kinds, and give back the space. `tell` gets the numbers of rows as they go."""
    found, counted = [], Counted()
    for kind in kinds:
        number = size = 0
        kept: Counter[Keeping] = Counter()
        wanted = Pruning(kind, max(age, LEAST_AGE), unread, dry_run, counted)
        async for page in walk(store, wanted, coordination=coordination, share=SHARE):
            number, size = number + page.number, size + page.size_bytes
            kept.update(page.kept)
            tell(page.number)
        found.append(PrunedKind(kind, number, size, dict(kept)))
    report = PruneReport(tuple(found), dry_run)
    if dry_run or not report.number:
        return report
    released = sum([step async for step in release_space(store.retention, share=SHARE)])
    return PruneReport(report.kinds, dry_run, released, await store.retention.find_space_advice())
