"""Faults that a test plants between the SDK and its store, each at a commit: before it, or behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..storage.ports import Settlement, Settling

Commit = Literal["send", "settle", "speak"]
CALLS: dict[Commit, str] = {"send": "deliveries.append", "settle": "deliveries.settle", "speak": "meetings.act"}
"""What stores messages of all kinds, what ends the runs of handlers, and what acts in meetings."""
Call = Callable[[], Awaitable[Any]]
Crash = Callable[[Sequence[Settlement]], Awaitable[Any]]
"""It is given settlements, and makes the store see what a crash before them leaves; returns the store's answer."""


@dataclass(eq=False)
class _Fault:
    of: Commit
    text: str
    """For the error that says that it never happened."""
    happen: Callable[[Call, Sequence[Any]], Awaitable[Any]]
    times: int
    happened: int = 0


class Faults:
    """The faults of a kit. Each is planted for the next commit of its kind, and happens once, unless `times` is more.

    A fault that never happens fails the test when the kit is closed: it would have shown nothing.
    """

    def __init__(self, crash: Crash) -> None:
        self._crash = crash
        self._planted: list[_Fault] = []

    def lose_answer(self, of: Commit = "send", times: int = 1) -> None:
        """The next commit takes effect, and its answer is lost, as when a connection is cut just then.

        A send is repeated by the SDK, under the same id, until the store answers or `call_timeout` (10 s) is over: so
        the message is stored once, and with more `times` and `clock.advance` the caller gets `OutcomeUnknownError`.
        Ends of runs are repeated too. What a meeting is told is not: the caller gets `OutcomeUnknownError` at once.

        Args:
            of: `"send"` is any call that sends messages, `"settle"` the end of handlers' runs, `"speak"` any act in a
                meeting.
            times: So many commits, one after the other.
        """

        async def happen(call: Call, settlements: Sequence[Any]) -> Any:
            await call()
            raise OutcomeUnknownError("The answer of the store was lost: a fault that the test has planted.")

        self._plant(_Fault(of, f"lose_answer({of!r})", happen, times))

    def fail(self, error: DatabaseError, of: Commit = "send", times: int = 1) -> None:
        """The next commit does not take effect, and fails with this error.

        Args:
            error: What the store raises, such as `StorageFullError()` or `StorageUnavailableError()`.
            of: As of `lose_answer`.
            times: So many commits, one after the other.
        """

        async def happen(call: Call, settlements: Sequence[Any]) -> Any:
            raise error

        self._plant(_Fault(of, f"fail({type(error).__name__}, {of!r})", happen, times))

    def crash_before_settle(self, times: int = 1) -> None:
        """The process of a handler dies when its run has ended, before the store knows.

        So what it returned is lost, the attempt counts, and the message is handled again, or is a dead letter after
        its last attempt. The runs that end in the same commit share its fate. What else this process does goes on, as
        another process would.
        """

        async def happen(call: Call, settlements: Sequence[Any]) -> Any:
            return await self._crash(settlements)

        self._plant(_Fault("settle", "crash_before_settle()", happen, times))

    def clear(self) -> None:
        """From now on nothing happens that was planted."""
        for fault in self._planted:
            fault.times = fault.happened

    def _plant(self, fault: _Fault) -> None:
        if fault.of not in CALLS:
            raise ValueError(f"{fault.of!r} is no kind of commit. Use one of {', '.join(map(repr, CALLS))}.")
        self._planted.append(fault)

    async def meet(self, name: str, call: Call, arguments: Sequence[Any]) -> Any:
        """Make a call of the store, or let happen what is planted for it."""
        for fault in self._planted:
            if CALLS[fault.of] == name and fault.happened < fault.times:
                settlements = arguments[0] if fault.of == "settle" else ()
                if fault.of == "settle" and all(one.how is Settling.RETURNED for one in settlements):
                    break  # it only claims, or gives back what never ran
                fault.happened += 1
                return await fault.happen(call, settlements)
        return await call()

    def list_missed(self) -> list[str]:
        """What was planted and never happened."""
        return [fault.text for fault in self._planted if not fault.happened]
