"""`python -m benchmarks`: run the benches and print their rows."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import (
    asks,
    backlog,
    coordination,
    growth,
    machine,
    mailbox,
    meetings,
    one_way,
    retention,
    search,
    startup,
    takeover,
    tasks,
    topics,
    wakeup,
)
from .harness import Bench, Family, Row, merge
from .output import print_head, print_row, write_json
from .stores import Backend, PostgreSQL, SQLite

FAMILIES: dict[str, Family] = {
    "one_way": one_way,
    "backlog": backlog,
    "asks": asks,
    "wakeup": wakeup,
    "takeover": takeover,
    "mailbox": mailbox,
    "retention": retention,
    "search": search,
    "topics": topics,
    "meetings": meetings,
    "tasks": tasks,
    "coordination": coordination,
    "startup": startup,
}
GROWTH = Path("docs/growth")
BACKENDS: dict[str, type[Backend]] = {"sqlite": SQLite, "postgres": PostgreSQL}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments choose."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", choices=FAMILIES, action="append", help=f"{', '.join(FAMILIES)}")
    parser.add_argument("--store", choices=BACKENDS, action="append", help="only on this store")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, for a first look")
    parser.add_argument("--scale", type=float, help="another share of a whole run, such as 0.01")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="run N times; each figure is the median")
    parser.add_argument("--growth", metavar="FOLDER", nargs="?", const=GROWTH, type=Path, help=growth.HELP)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there too")
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, and leaves no server behind
    backends = [BACKENDS[name]() for name in options.store or BACKENDS]
    bench = Bench(options.scale or (0.1 if options.quick else 1.0), backends)
    try:
        if options.growth:
            asyncio.run(_grow(bench, options.growth))
        else:
            asyncio.run(_measure(bench, options.only or list(FAMILIES), options.runs, options.json))
    finally:
        for backend in backends:
            backend.close()


async def _grow(bench: Bench, folder: Path) -> None:
    await _describe(bench)
    await growth.measure(bench, folder)
    print(f"\nduring   {bench.facts['during']}")


async def _describe(bench: Bench) -> None:
    bench.facts |= await machine.describe(bench.backends)
    if bench.scale != 1:
        bench.facts["scale"] = f"{bench.scale:g} of a whole run, which is for seeing that it works"
    for name, fact in bench.facts.items():
        print(f"{name:8} {fact}")


async def _measure(bench: Bench, names: Sequence[str], runs: int, file: Path | None) -> None:
    began = time.perf_counter()
    await _describe(bench)
    found: dict[str, list[list[Row]]] = {name: [] for name in names}
    busy: dict[str, list[float]] = {name: [] for name in names}
    for number in range(1, runs + 1):
        for name in names:
            print_head(f"{_title(name)}{f' (run {number} of {runs})' if runs > 1 else ''}")
            rows: list[Row] = []
            watch = machine.Watch(bench.backends)
            async for row in FAMILIES[name].measure(bench):
                print_row(row)
                rows.append(row)
            found[name].append(rows)
            if (others := watch.others()) is not None:
                busy[name].append(others)
    merged = {name: merge(mine) for name, mine in found.items()}
    if runs > 1:
        for name, mine in merged.items():
            print_head(f"{_title(name)} (median of {runs} runs)")
            for row in mine:
                print_row(row)
    shares = {name: max(mine) if mine else None for name, mine in busy.items()}
    most = max((share for share in shares.values() if share is not None), default=None)
    bench.facts["during"] = f"load {os.getloadavg()[0]:.1f}; {machine.said(most)}"
    missed = sum(row.holds is False for mine in merged.values() for row in mine)
    print(f"\nduring   {bench.facts['during']}")
    print(f"{time.perf_counter() - began:.0f} s; {missed or 'no'} target{'' if missed == 1 else 's'} missed")
    if file is not None:
        write_json(file, bench.facts, merged, {name: _title(name) for name in names}, shares, runs)


def _title(name: str) -> str:
    return (inspect.getdoc(FAMILIES[name]) or name).partition("\n")[0]


if __name__ == "__main__":
    main()
