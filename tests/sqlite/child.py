"""A process with a store of its own, which does what it is told line by line and answers in JSON."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import time
import uuid
from typing import Any

from agent_messaging.storage.ports import CLAIM_MARGIN, ClaimRequest
from agent_messaging.storage.sqlite.store import SQLiteStore


async def main(path: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    rings = 0

    def on_ring() -> None:
        nonlocal rings
        rings += 1

    await store.presence.start(on_ring, lambda: None)
    answer(store.presence.process_id)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, arguments = json.loads(line)
        if verb == "find_dead":
            answer(await store.presence.find_dead())
        elif verb == "claim":
            requests = [ClaimRequest(**arguments, run_limit=-CLAIM_MARGIN + 600)]
            answer([d.message_id for d in await store.deliveries.claim(requests, owner=store.presence.process_id)])
        elif verb == "now":
            answer(store.clock.now().due)
        elif verb == "rings":
            answer(rings)
        elif verb == "ring":
            store.presence.ring([arguments["process_id"]])
            answer(None)
        elif verb == "fork":
            answer(fork())
        elif verb == "hold_write_lock":
            hold_write_lock(path, arguments["seconds"])
            answer("released")
        elif verb == "count_writes":
            answer(await count_writes(store, arguments["seconds"]))


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def fork() -> int:
    """Leave a child behind that lives on and does nothing."""
    pid = os.fork()
    if pid == 0:
        os.close(0)
        os.close(1)
        time.sleep(60)
        os._exit(0)
    return pid


def hold_write_lock(path: str, seconds: float) -> None:
    """As a process does that is stopped in the middle of a write."""
    fd = os.open(f"{path}-am/write.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    answer("held")
    time.sleep(seconds)
    os.close(fd)


async def count_writes(store: SQLiteStore, seconds: float) -> int:
    """Write without a pause, and tell how often it was this process's turn."""
    count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        external_id = f"{os.getpid()}-{count}"
        await store.directory.add_organization(str(uuid.uuid4()), external_id, "", update_name=False)
        count += 1
    return count


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
