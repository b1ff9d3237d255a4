"""How asks end, and what that means for the deliveries of their messages: what all transactions share that end some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw

from ...models import AskState
from ..ports import EndedAsk
from ..sql import Queries
from .clock import Instant
from .engine import fetch
from .rows import encode

_SQL = Queries(__package__, "asks")

Ending = tuple[int, AskState, int | None, str | None]
"""seq of the ask, its last state, seq of the answer, reason."""


def end_asks(connection: apsw.Connection, endings: Sequence[Ending], instant: Instant) -> None:
    """End those that are open, and nothing else."""
    if endings:
        connection.execute(_SQL["asks_end"], {"rows": encode(endings), "at": instant.at})


def settle_deliveries(connection: apsw.Connection, seqs: Sequence[int], instant: Instant) -> None:
    """End what is queued for those of these asks that have ended: nobody needs to handle it any more."""
    if seqs:
        connection.execute(_SQL["asks_settle_deliveries"], {"seqs": encode(seqs), "at": instant.at})


def give_up(
    connection: apsw.Connection, seqs: Sequence[int], state: AskState, instant: Instant, reason: str | None = None
) -> None:
    """End those that are open without an answer, and what is queued for them."""
    end_asks(connection, [(seq, state, None, reason) for seq in seqs], instant)
    settle_deliveries(connection, seqs, instant)


def follow(connection: apsw.Connection, seqs: Sequence[int], instant: Instant) -> tuple[list[EndedAsk], set[str]]:
    """After deliveries of asks have left their claims, bring both together again.

    An open ask whose delivery died fails. A delivery that was queued again for an ask that has ended, ends.

    Returns:
        The asks that failed, and the origins of the deliveries that ended.
    """
    failed: list[tuple[int, EndedAsk, str]] = []
    needless: list[int] = []
    origins: set[str] = set()
    if seqs:
        for seq, ask_id, state, asker, origin, reason in fetch(
            connection, _SQL["asks_find_returned"], {"seqs": encode(seqs)}
        ):
            if state == AskState.OPEN:
                failed.append((seq, EndedAsk(ask_id, AskState.FAILED, asker), reason))
            else:
                needless.append(seq)
                if origin is not None:
                    origins.add(origin)
    end_asks(connection, [(seq, ended.state, None, reason) for seq, ended, reason in failed], instant)
    settle_deliveries(connection, needless, instant)
    return [ended for _, ended, _ in failed], origins


def find_failed(connection: apsw.Connection, seqs: Sequence[int]) -> list[EndedAsk]:
    """Those of these asks that failed."""
    rows = fetch(connection, _SQL["asks_find_failed"], {"seqs": encode(seqs)}) if seqs else []
    return [EndedAsk(ask_id, AskState.FAILED, origin) for ask_id, origin in rows]


def find_workers(connection: apsw.Connection, seqs: Sequence[int]) -> set[str]:
    """The processes at work on these."""
    return set(fetch(connection, _SQL["asks_find_workers"], {"seqs": encode(seqs)})) if seqs else set()


def time_out(connection: apsw.Connection, seqs: Sequence[int], instant: Instant) -> set[str]:
    """End those of these that are past their deadline; returns who asked them, and who is at work on them."""
    late = fetch(connection, _SQL["asks_find_late"], {"now": instant.due, "seqs": encode(seqs)})
    give_up(connection, late["seqs"], AskState.TIMED_OUT, instant)
    return {origin for origin in late["origins"] if origin is not None} | find_workers(connection, late["seqs"])


def forget_processes(connection: apsw.Connection, process_ids: Iterable[str], instant: Instant) -> list[int]:
    """Remove the waits of ended processes, and cancel the asks that nobody can join.

    Returns:
        The asks whose deliveries these processes have claimed; to be given to `follow` once they are returned.
    """
    parameters = {"processes": encode(list(process_ids))}
    connection.execute(_SQL["waits_remove_of_processes"], parameters)
    lonely = fetch(connection, _SQL["asks_find_of_processes"], parameters)
    give_up(connection, lonely, AskState.CANCELLED, instant)
    claimed: list[int] = fetch(connection, _SQL["asks_find_claimed"], parameters)
    return claimed
