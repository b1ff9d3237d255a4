"""Pruning what is old, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.retention`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from ..messaging.retention import Retention as AsyncRetention
from ..models import Prunable, PruneReport
from .running import Blocking


class Retention(Blocking[AsyncRetention]):
    """`sdk.retention`: nothing is removed unasked but what `MessagingConfig.retention` gives an age."""

    def prune(
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
            report = sdk.retention.prune(timedelta(days=30), ["messages", "sessions"])
            print(report.number, "rows,", report.size_bytes, "bytes")
        """
        return self._run(lambda: self._async.prune(older_than, kinds, unread=unread, dry_run=dry_run))
