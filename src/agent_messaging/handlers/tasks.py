"""The task handlers of an SDK object: who works here, at what, and what a run of a task is told.

`delivery/labour.py` runs them, and `delivery/workforce.py` takes their tasks from the store.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from datetime import datetime
from functools import partial
from typing import Any, cast

from ..arguments import check_count, check_external_id, check_timeout, refuse
from ..clock import monotonic
from ..records import dataclass
from .registry import AnyHandler, Handler, make_handler

Errors = type[BaseException] | tuple[type[BaseException], ...]
RateGiven = float | tuple[float, float]


@dataclasses.dataclass(slots=True)
class TaskContext:
    """The facts about a task that its handler gets beside the payload.

    The SDK makes it. A test of a handler makes its own, with the fields it reads: `TaskContext("t1", "resize")`.
    """

    task_id: str
    """The same in every run of this task: use it to make a handler idempotent."""
    type: str
    worker_id: str = ""
    attempt: int = 1
    """1 in the first run; a repeat (after a failure, a crash or a timeout) counts up."""
    max_attempts: int = 1
    description: str = ""
    supervisor: str | None = None
    """The supervisor that handed it out, if that was said."""
    created_at: datetime | None = None
    run_limit: float | None = None
    """Seconds that this run may take."""
    is_cancelled: bool = field(default=False, compare=False)
    """Nobody wants its result any more: it was cancelled, its deadline passed, or another worker has it.

    An `async def` handler is cancelled then. A plain function runs in a thread, which cannot be: let it look here.
    """
    report: Callable[[float, str | None], None] | None = field(default=None, repr=False, compare=False)
    """Made by the SDK; see `progress`."""

    def progress(self, fraction: float, note: str | None = None) -> None:
        """Say how far this run is; `sdk.tasks.get` and the command line show it.

        It returns at once, in a thread too. The newest report is written within a quarter of a second as a rule, and
        is not promised: the result is. A run that has lost its task reports nothing.

        Args:
            fraction: 0 to 1.
            note: A few words on what is being done; longer ones are cut at 500 characters.

        Raises:
            InvalidArgumentError: The fraction is no number from 0 to 1, or the note is no text.

        Example:
            context.progress(0.4, "parsing")
        """
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise refuse("fraction", fraction, "must be a number from 0 to 1.")
        if note is not None and not isinstance(note, str):
            raise refuse("note", note, "must be text, or None.")
        report = self.report  # the run may end in its own thread meanwhile
        if report is not None:
            report(float(fraction), note)


TaskFunction = Callable[[Any, TaskContext], Any]
"""`async def handler(payload, context)`, or the same without `async`: it then runs in a thread."""


@dataclass(frozen=True, slots=True)
class TaskHandler:
    """A registered function with its worker and options."""

    worker_id: str
    handler: Handler
    capabilities: tuple[str, ...]
    capacity: int
    types: tuple[str, ...] | None = None
    """Tasks of these types alone; None takes any that the capabilities fit."""
    timeout: float | None = None
    """Seconds a run may take, of a task that does not say so itself; None is the setting default_timeout."""
    retry_on: tuple[type[BaseException], ...] | None = None
    """Only these errors are tried again; None is any."""
    give_up_on: tuple[type[BaseException], ...] = ()
    """These are not tried again."""
    retry_delay: float | None = None
    retry_max_delay: float | None = None
    rate: Rate | None = None
    """How fast it begins tasks."""
    rates: dict[str, Rate] = field(default_factory=dict)
    """How fast it begins tasks of a type, by type."""

    def takes(self, kind: str) -> bool:
        """Whether it takes tasks of this type."""
        return self.types is None or kind in self.types

    def is_able(self, needs: Iterable[str]) -> bool:
        """Whether it has all these capabilities."""
        return set(self.capabilities).issuperset(needs)

    def is_tried_again(self, error: BaseException) -> bool:
        """Whether a run that failed so is worth another one."""
        if isinstance(error, self.give_up_on):
            return False
        return self.retry_on is None or isinstance(error, self.retry_on)


class Rate:
    """Lets so many begin in a time, evenly: at most a full burst at once.

    Args:
        number: This many.
        seconds: In this time.
    """

    def __init__(self, number: float, seconds: float = 1.0, clock: Callable[[], float] = monotonic) -> None:
        self.number = number
        self.seconds = seconds
        self.clock = clock
        self._left = max(number, 1.0)
        self._at = clock()

    def allowance(self) -> int:
        """How many may begin now; none while more have begun than it lets."""
        now = self.clock()
        self._left = min(self._left + (now - self._at) * self.number / self.seconds, max(self.number, 1.0))
        self._at = now
        return max(int(self._left + 1e-9), 0)

    def spend(self, count: int = 1) -> None:
        """So many have begun."""
        self._left -= count

    @property
    def pause(self) -> float:
        """Seconds until one more may begin."""
        self.allowance()
        return max((1.0 - self._left) * self.seconds / self.number, 0.0)


class TaskHandlers:
    """The handlers of one SDK object, by worker."""

    def __init__(self) -> None:
        self._handlers: dict[str, TaskHandler] = {}
        self._followers: list[Callable[[], None]] = []

    def register(self, handler: TaskHandler) -> None:
        """Take a handler; it replaces the one of its worker."""
        self._handlers[handler.worker_id] = handler
        self._changed()

    def unregister(self, worker_id: str) -> bool:
        """Forget the handler of a worker; False if there was none."""
        found = self._handlers.pop(worker_id, None)
        self._changed()
        return found is not None

    def find(self, worker_id: str) -> TaskHandler | None:
        """The handler of a worker."""
        return self._handlers.get(worker_id)

    def __iter__(self) -> Iterator[TaskHandler]:
        return iter([*self._handlers.values()])

    def __len__(self) -> int:
        return len(self._handlers)

    def follow(self, changed: Callable[[], None]) -> None:
        """Call this after each change, in the thread that made it."""
        self._followers.append(changed)

    def leave(self, changed: Callable[[], None]) -> None:
        """Call it no more. Nothing happens if it was not called."""
        if changed in self._followers:
            self._followers.remove(changed)

    def _changed(self) -> None:
        for changed in [*self._followers]:
            changed()


def task_handler_maker(
    worker_id: str,
    *,
    capabilities: Iterable[str],
    max_concurrent_tasks: int,
    types: Iterable[str] | None,
    timeout: float | None,
    retry_on: Errors | None,
    give_up_on: Errors,
    retry_delay: float | None,
    retry_max_delay: float | None,
    rate: RateGiven | None,
    rates: Mapping[str, RateGiven] | None,
) -> Callable[[TaskFunction], TaskHandler]:
    """Check the options of a worker, and return what makes a handler of its function.

    Raises:
        InvalidArgumentError: One is refused; the function, where that cannot be called with (payload, context).
    """
    check_external_id(worker_id, field="worker_id")
    check_count(max_concurrent_tasks, "max_concurrent_tasks", most=100_000)
    make = partial(
        TaskHandler,
        worker_id=worker_id,
        capabilities=tuple(sorted(check_capabilities(capabilities, "capabilities"))),
        capacity=max_concurrent_tasks,
        types=None if types is None else tuple(sorted(check_capabilities(types, "types"))),
        timeout=check_timeout(timeout, "timeout", allow_none=True),
        retry_on=check_errors(retry_on, "retry_on"),
        give_up_on=check_errors(give_up_on, "give_up_on") or (),
        retry_delay=check_timeout(retry_delay, "retry_delay", allow_none=True),
        retry_max_delay=check_timeout(retry_max_delay, "retry_max_delay", allow_none=True),
        rate=None if rate is None else check_rate(rate, "rate"),
        rates=check_rates({} if rates is None else rates),
    )

    def make_of(function: TaskFunction) -> TaskHandler:
        checked = make_handler(cast(AnyHandler, function), ordered=False, concurrency=None, timeout=None)
        return make(handler=checked)

    return make_of


def check_capabilities(values: Iterable[str], field: str) -> list[str]:
    """Return names of capabilities, each once, in the order in which they are given.

    Raises:
        InvalidArgumentError: It is no list of names; a text by itself would be taken for its letters.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise refuse(field, values, "must be a list of names, such as ['python', 'sql'].")
    return list(dict.fromkeys(check_external_id(name, f"{field}[{place}]") for place, name in enumerate(values)))


def check_errors(errors: Errors | None, field: str) -> tuple[type[BaseException], ...] | None:
    """Return classes of errors as a tuple.

    Raises:
        InvalidArgumentError: It is neither a class of errors nor a tuple of them.
    """
    if errors is None:
        return None
    several = errors if isinstance(errors, tuple) else (errors,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in several):
        raise refuse(field, errors, "must be a class of errors, or a tuple of them.")
    return several


def check_rates(rates: Mapping[str, RateGiven]) -> dict[str, Rate]:
    """Make rates by type.

    Raises:
        InvalidArgumentError: They are no mapping from types of tasks to rates.
    """
    if not isinstance(rates, Mapping):
        raise refuse("rates", rates, "must be a mapping from types of tasks to rates, such as {'resize': 5}.")
    return {check_external_id(kind, "rates"): check_rate(one, "rates") for kind, one in rates.items()}


def check_rate(rate: RateGiven, field: str) -> Rate:
    """Make a rate: so many in a second, or (so many, in so many seconds).

    Raises:
        InvalidArgumentError: It is neither.
    """
    number, seconds = rate if isinstance(rate, tuple) and len(rate) == 2 else (rate, 1.0)
    return Rate(check_timeout(number, field), check_timeout(seconds, field))
