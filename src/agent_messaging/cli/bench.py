"""`agent-messaging bench`: how fast this store is on this machine, beside what it takes to commit one row."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from .app import Command
from .opening import IN_MEMORY, check_exists, load_config, run
from .options import Options, pass_options
from .output import count, note, say, show, table
from .progress import is_dumb

if TYPE_CHECKING:
    from .. import Config
    from .measuring import Samples

SECONDS = 120.0
STEP = 0.2
"""Seconds between two looks of the progress bar."""
_NAMES = ("commits", "note", "notes", "ask", "asks")
"""Of the loads, in their order, as `--json` calls them."""


@click.command(cls=Command)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.05, max=3_600),
    default=SECONDS,
    show_default=True,
    help="How long all loads together run.",
)
@pass_options
def bench(options: Options, seconds: float) -> None:
    """Measure notes and asks on your store, beside the rate at which it commits single rows.

    \b
    Example:
      agent-messaging bench --url postgresql://db/agents --seconds 30

    It makes an organization of its own, whose agents write to each other, and removes it with all their messages. Other
    processes go on meanwhile; they are slowed, and they slow what is measured.
    """
    config = load_config(options)
    check_exists(config)
    figures = run(options, _measure(config, seconds))
    show(
        options, {"store": str(config.store), "seconds": seconds, **figures}, lambda: _tell(str(config.store), figures)
    )


async def _measure(config: Config, seconds: float) -> dict[str, Any]:
    from .. import AgentMessaging
    from .measuring import Bench

    figures: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    if config.store.path == IN_MEMORY:
        note("This store is in memory: nothing is synced, and nothing survives.")
    async with AgentMessaging(config) as sdk, Bench(sdk, config).opened() as measured:
        loads = measured.loads()
        each = seconds / len(loads)
        for name, (title, load) in zip(_NAMES, loads.items(), strict=True):
            async with _progress(title, each):
                samples = await load(each)
            figures[name] = _summary(title, samples)
    return figures


def _summary(title: str, samples: Samples) -> dict[str, Any]:
    return {
        "title": title,
        "count": len(samples.times),
        "rate": samples.rate,
        "p50": samples.percentile(0.5),
        "p99": samples.percentile(0.99),
    }


@contextlib.asynccontextmanager
async def _progress(title: str, seconds: float) -> AsyncIterator[None]:
    """A bar that fills in so many seconds, on a terminal alone."""
    if not sys.stderr.isatty() or is_dumb():
        yield
        return

    import asyncio

    with click.progressbar(length=round(seconds / STEP), label=title.ljust(28), file=sys.stderr) as bar:

        async def fill() -> None:
            began, done = time.monotonic(), 0
            while True:
                await asyncio.sleep(STEP)
                due = int((time.monotonic() - began) / STEP)
                bar.update(due - done)
                done = due

        filling = asyncio.create_task(fill())
        try:
            yield
        finally:
            filling.cancel()


def _tell(store: str, figures: dict[str, Any]) -> None:
    commits = figures["commits"]["rate"]
    rows = [
        (one["title"], f"{one['rate']:,.0f}/s", f"{one['rate'] / commits:.2f}", _ms(one["p50"]), _ms(one["p99"]))
        for one in (figures[name] for name in _NAMES)
    ]
    say(f"{store}, {count(figures['cores'], 'core')}, load {figures['load']:.1f} at the start")
    say()
    table(("load", "rate", "of commits", "p50", "p99"), rows, empty="")
    say()
    for line in _in_words(figures):
        say(line)


def _in_words(figures: dict[str, Any]) -> list[str]:
    commit, one, notes, ask, asks = (figures[name] for name in _NAMES)
    lines = [
        f"The store syncs a row in {_ms(commit['p50'])}. Everything else is measured by that.",
        f"A note is safe after {_ms(one['p50'])}: once its call has returned, no crash loses it.",
        f"A question is answered after {_ms(ask['p50'])}, 99 of 100 within {_ms(ask['p99'])}.",
        f"Many at once share commits: {notes['rate']:,.0f} notes a second were stored, handled and settled, and"
        f" {asks['rate']:,.0f} questions a second answered.",
    ]
    if figures["load"] > figures["cores"] / 2:
        lines.append(f"The machine was busy (load {figures['load']:.1f}): it can do better than these figures say.")
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds * 1_000:.3g} ms"
