"""`python -m benchmarks`: run the benches and print their rows."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import asks, backlog, machine, mailbox, meetings, one_way, startup, takeover, topics, wakeup
from .harness import Bench, Family, Row, print_head, print_row, write_json
from .stores import Backend, PostgreSQL, SQLite

FAMILIES: dict[str, Family] = {
    "one_way": one_way,
    "backlog": backlog,
    "takeover": takeover,
    "wakeup": wakeup,
    "mailbox": mailbox,
    "topics": topics,
    "asks": asks,
    "meetings": meetings,
    "startup": startup,
}
BACKENDS: dict[str, type[Backend]] = {"sqlite": SQLite, "postgres": PostgreSQL}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments choose."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", choices=FAMILIES, action="append", help=f"{', '.join(FAMILIES)}")
    parser.add_argument("--store", choices=BACKENDS, action="append", help="only on this store")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, for a first look")
    parser.add_argument("--scale", type=float, help="another share of a whole run, such as 0.01")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there too")
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    backends = [BACKENDS[name]() for name in options.store or BACKENDS]
    bench = Bench(options.scale or (0.1 if options.quick else 1.0), backends)
    try:
        rows = asyncio.run(_measure(bench, options.only or list(FAMILIES)))
    finally:
        for backend in backends:
            backend.close()
    if options.json:
        write_json(options.json, bench.facts, rows)


async def _measure(bench: Bench, names: Sequence[str]) -> dict[str, list[Row]]:
    began = time.perf_counter()
    bench.facts |= await machine.describe(bench.backends)
    for name, fact in bench.facts.items():
        print(f"{name:8} {fact}")
    rows: dict[str, list[Row]] = {}
    for name in names:
        family = FAMILIES[name]
        print_head(inspect.getdoc(family) or name)
        rows[name] = []
        async for row in family.measure(bench):
            print_row(row)
            rows[name].append(row)
    missed = sum(row.holds is False for mine in rows.values() for row in mine)
    print(f"\n{time.perf_counter() - began:.0f} s; {missed or 'no'} target{'' if missed == 1 else 's'} missed")
    return rows


if __name__ == "__main__":
    main()
