"""The threads of plain handlers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from agent_messaging.handlers.threads import DaemonThreads


async def test_a_job_for_which_no_thread_can_be_started_is_not_run_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has a limit of threads. Nobody is given the job, and the next ones have a thread each."""
    threads, ran = DaemonThreads(), list[str]()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        threads.call(ran.append, "refused")
    monkeypatch.undo()
    await threads.call(ran.append, "next")
    together = threading.Barrier(3)
    async with asyncio.timeout(20):
        await asyncio.gather(*(threads.call(together.wait, 10) for _ in range(3)))
    assert ran == ["next"]
    assert not threads.is_current
    assert await threads.call(lambda: threads.is_current)
    threads.close()
