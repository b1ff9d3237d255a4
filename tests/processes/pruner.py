"""A process that prunes whatever has ended, page by page, until it is killed. It says each page that had something."""

from __future__ import annotations

import asyncio
import sys

from agent_messaging import Config
from agent_messaging.bootstrap import build_store
from agent_messaging.states import Prunable
from agent_messaging.storage.ports import Pruned, Pruning
from tests.processes.program import say

PAGE = 5


async def main(url: str) -> None:
    store = build_store(Config(url=url))
    await store.open()
    while True:
        for kind in (Prunable.MESSAGES, Prunable.SESSIONS):
            page = Pruned(next=())
            while page.next is not None:
                page = await store.retention.prune(Pruning(kind, 0), after=page.next or None, limit=PAGE)
                if page.number:
                    say(f"{kind} {page.number}")
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
