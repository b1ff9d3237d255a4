"""`agent-messaging db prune`: removing what has ended and is old, after it was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import click

from ..states import Keeping, Prunable
from .confirming import confirm
from .db import _use_store, db
from .opening import load_config
from .options import Options, pass_options
from .output import count, note, say, show, table
from .progress import bar
from .values import parse_duration

if TYPE_CHECKING:
    from ..models import PruneReport
    from ..storage.ports import CoordinationStore, Store

WORDS = {kind.value.replace("_", "-"): kind for kind in Prunable}
"""What the command line calls them."""
_REASONS = {
    Keeping.OPEN: "have not ended",
    Keeping.UNREAD: "are unread (--unread prunes them too)",
    Keeping.AWAITED: "are awaited",
    Keeping.REFERRED: "are needed by what stays",
}


@db.command()
@click.option("--older-than", required=True, metavar="AGE", help="Seconds, or a number with m, h or d: 30d.")
@click.option(
    "--kind",
    "words",
    multiple=True,
    type=click.Choice(list(WORDS)),
    metavar="KIND",
    help=f"Only this kind: {', '.join(WORDS)}. Repeatable. Default: all but the dead letters.",
)
@click.option("--unread", is_flag=True, help="Also messages that their recipients have not had.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_options
def prune(options: Options, older_than: str, words: tuple[str, ...], unread: bool, dry_run: bool, yes: bool) -> None:
    """Remove what has ended and is older than AGE, in small steps beside the traffic. It is counted first.

    Nothing goes that is open, unread by its recipient, awaited, or needed by what stays. Breaking it off is safe.

    \b
    Examples:
      agent-messaging db prune --older-than 30d --dry-run
      agent-messaging db prune --older-than 7d --kind messages --yes
    """
    from ..messaging.retention import check_age, check_kinds

    age, kinds = check_age(parse_duration(older_than)), check_kinds([WORDS[word] for word in words] or None)

    def run(counted: PruneReport | None) -> PruneReport:
        def call(tell: Callable[[int], None]) -> PruneReport:
            return _use_store(options, lambda store: _prune(options, store, age, kinds, unread, tell, counted is None))

        if counted is None:
            return call(lambda number: None)
        with bar(options, "Pruning") as progress:
            done = 0

            def tell(number: int) -> None:
                nonlocal done
                done += number
                progress(done, counted.number)

            return call(tell)

    counted = run(None)
    if not options.json:
        _show_counted(counted)
    if dry_run or not counted.number:
        show(options, _document(counted, dry_run), lambda: None)
        return
    if not yes:
        confirm(options, f"{count(counted.number, 'row')} for good")
    done = run(counted)
    show(options, _document(done, dry_run), lambda: _show_done(done))


async def _prune(
    options: Options,
    store: Store,
    age: float,
    kinds: Sequence[Prunable],
    unread: bool,
    tell: Callable[[int], None],
    dry_run: bool,
) -> PruneReport:
    from ..messaging.retention import prune

    async with AsyncExitStack() as closing:
        coordination = await _find_coordination(options, closing)
        return await prune(store, age, kinds, unread=unread, dry_run=dry_run, coordination=coordination, tell=tell)


async def _find_coordination(options: Options, closing: AsyncExitStack) -> CoordinationStore | None:
    """The store of queues and tasks, where that is not the SDK's own."""
    from ..bootstrap import build_work_store

    coordination = build_work_store(load_config(options))
    if coordination is not None:
        closing.push_async_callback(coordination.aclose)
        await coordination.open()
    return coordination


def _show_counted(report: PruneReport) -> None:
    rows = [
        (one.kind.value.replace("_", "-"), f"{one.number:,}", _size(one.size_bytes), f"{sum(one.kept.values()):,}")
        for one in report.kinds
    ]
    table(("kind", "prunable", "size", "stay"), rows, empty="Nothing.")
    reasons: Counter[Keeping] = Counter()
    for one in report.kinds:
        reasons.update(one.kept)
    if reasons:
        why = ", ".join(f"{reasons[reason]:,} {text}" for reason, text in _REASONS.items() if reasons[reason])
        note(f"Old enough, and stay: {why}.")
    if not report.number:
        say("Nothing to prune.")


def _show_done(report: PruneReport) -> None:
    released = f"; {_size(report.released_bytes)} went back to the system" if report.released_bytes else ""
    say(f"Pruned {count(report.number, 'row')}{released}.")
    if report.advice:
        note(report.advice)


def _document(report: PruneReport, dry_run: bool) -> dict[str, object]:
    kinds = {
        one.kind.value: {"number": one.number, "size_bytes": one.size_bytes, "kept": {**one.kept}}
        for one in report.kinds
    }
    return {
        "dry_run": dry_run,
        "number": report.number,
        "size_bytes": report.size_bytes,
        "released_bytes": report.released_bytes,
        "advice": report.advice,
        "kinds": kinds,
    }


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:,.0f} {unit}" if unit == "B" or number >= 100 else f"{number:,.1f} {unit}"
        number /= 1024
    return ""
