"""A process that handles messages until it is told to stop, or worse. Its settings are those of `program`."""

from __future__ import annotations

from tests.processes.program import Program


async def work(program: Program) -> None:
    await program.stopping.wait()
