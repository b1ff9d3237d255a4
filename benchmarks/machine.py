"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence

from .stores import Backend


async def describe(backends: Sequence[Backend]) -> dict[str, str]:
    """The machine, the versions, and how long its disk takes to sync."""
    sync = sync_seconds(tempfile.gettempdir())
    load = os.getloadavg()[0]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "stores": "; ".join([await backend.version() for backend in backends]),
        "disk": f"a synced write of 4 KiB in {tempfile.gettempdir()} takes {sync * 1e3:.2f} ms ({1 / sync:,.0f}/s)",
        "load": f"{load:.1f} when it began" + (": the machine is busy, expect noise" if load > 0.5 else ""),
    }


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
