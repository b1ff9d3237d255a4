"""What the figures were measured on, and how much of it other processes took meanwhile."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence

from .stores import Backend

BUSY = 0.1
"""Cores that other processes may use before a run says that the machine was busy."""
IN_MEMORY = 20e-6
"""Seconds of a synced write below which there is no disk."""
LOOK = 1.0
"""Seconds over which their share is measured before a run."""


async def describe(backends: Sequence[Backend]) -> dict[str, str]:
    """The machine, the versions, how long its disk takes to sync, and how busy it is."""
    watch = Watch(backends)
    await asyncio.sleep(LOOK)
    others = watch.others()
    sync = sync_seconds(tempfile.gettempdir())
    disk = f"a synced write of 4 KiB in the temporary folder takes {sync * 1e3:.2f} ms ({1 / sync:,.0f}/s)"
    if sync < IN_MEMORY:
        disk += ": IT IS IN MEMORY, where commits cost nothing; set TMPDIR to a folder on a disk"
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "stores": "; ".join([await backend.version() for backend in backends]),
        "disk": disk,
        "before": f"load {os.getloadavg()[0]:.1f}; {said(others)}",
    }


def said(others: float | None) -> str:
    """How busy other processes were, with a warning where it matters."""
    if others is None:
        return "this system does not tell what other processes used"
    text = f"other processes used {others:.2f} of {os.cpu_count()} cores"
    return text if others < BUSY else f"{text}: THE MACHINE WAS BUSY, and the figures say little"


def sync_seconds(folder: str, times: int = 50) -> float:
    """The median time of appending 4 KiB to a file and syncing them."""
    taken = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno()) if hasattr(os, "fdatasync") else os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


class Watch:
    """How many cores other processes used since it was made or last asked: Linux tells it in /proc.

    This process with all that it started counts as the bench, and so does each server that a backend started.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = backends
        self._at = self._look()

    def others(self) -> float | None:
        """Cores, on average since the last time."""
        before, self._at = self._at, self._look()
        if before is None or self._at is None or self._at[0] <= before[0]:
            return None
        elapsed, busy, mine = (now - then for now, then in zip(self._at, before, strict=True))
        return max(0.0, (busy - mine) / elapsed)

    def _look(self) -> tuple[float, float, float] | None:
        """Now, and the processor time so far of the whole machine and of the bench; in seconds."""
        try:
            with open("/proc/stat", encoding="ascii") as file:
                user, nice, system, _, _, irq, softirq, steal = (int(part) for part in file.readline().split()[1:9])
            parents: dict[int, int] = {}
            used: dict[int, int] = {}
            for name in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                        parts = file.read().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                parents[int(name)], used[int(name)] = int(parts[1]), sum(map(int, parts[11:15]))
        except (FileNotFoundError, ValueError):
            return None
        roots = {os.getpid(), *(pid for backend in self.backends if (pid := backend.server_pid()) is not None)}
        mine = sum(ticks for pid, ticks in used.items() if _descends(pid, roots, parents))
        second = os.sysconf("SC_CLK_TCK")
        return time.monotonic(), (user + nice + system + irq + softirq + steal) / second, mine / second


def _descends(pid: int, roots: set[int], parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid in roots:
            return True
        pid = parents[pid]
    return False
