"""The calls by which an SDK object becomes a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ..arguments import check_external_id
from ..handlers.tasks import Errors, RateGiven, TaskFunction, TaskHandlers, task_handler_maker

TaskF = TypeVar("TaskF", bound=TaskFunction)


class TaskHandling:
    """What `AgentMessaging` inherits to register task handlers. They may come before it is started, and after."""

    def __init__(self) -> None:
        self._task_handlers = TaskHandlers()

    def register_task_handler(
        self,
        worker_id: str,
        *,
        capabilities: Iterable[str],
        max_concurrent_tasks: int = 1,
        types: Iterable[str] | None = None,
        timeout: float | None = None,
        retry_on: Errors | None = None,
        give_up_on: Errors = (),
        retry_delay: float | None = None,
        retry_max_delay: float | None = None,
        rate: RateGiven | None = None,
        rates: Mapping[str, RateGiven] | None = None,
    ) -> Callable[[TaskF], TaskF]:
        """Register, as a decorator, the function with which a worker does its tasks, in this SDK object.

        The worker appears in the store when the SDK is started, gives signs of life by itself, and takes as many tasks
        as it has room for: those that its capabilities fit, the most urgent first, and of equal ones the oldest. What
        the function returns is the task's one result. If it raises, the task is tried again with a growing delay, and
        has failed at its last attempt. If this process dies, another one of the worker, or another worker, does the
        task; a result that comes too late is refused. An `async def` function is cancelled when its task is.

        A worker may run in several processes at once: they share its places. The function is returned unchanged; the
        next registration of the same worker replaces it.

        Args:
            worker_id: 1 to 255 characters, the same in each process of this worker.
            capabilities: The names of what it can do. A task is for whoever can do all that it needs.
            max_concurrent_tasks: Tasks that it has at once, over all of its processes.
            types: Tasks of these types alone; None takes any that it is able to do.
            timeout: Seconds a run may take, of a task that does not say so itself; None is the setting
                `coordination.default_timeout` (300).
            retry_on: Errors, one class or a tuple, that are tried again; others fail the task at once. None is any.
            give_up_on: Errors that fail the task at once.
            retry_delay: Seconds; the longest delay after the first failure, doubled with each further one. None is the
                setting `messaging.retry_delay`.
            retry_max_delay: Seconds; no delay is longer. None is the setting `messaging.retry_max_delay`.
            rate: Tasks that it begins in a second, in this process, or (so many, in so many seconds). None is no limit.
            rates: The same for single types.

        Raises:
            InvalidArgumentError: An argument is refused, or the function cannot be called with (payload, context).

        Example:
            @sdk.register_task_handler("worker-1", capabilities=["resize"], max_concurrent_tasks=3)
            async def resize(picture: dict, context: TaskContext) -> dict:
                context.progress(0.5, "half of it")
                return {"width": picture["width"] // 2}
        """
        make = task_handler_maker(
            worker_id,
            capabilities=capabilities,
            max_concurrent_tasks=max_concurrent_tasks,
            types=types,
            timeout=timeout,
            retry_on=retry_on,
            give_up_on=give_up_on,
            retry_delay=retry_delay,
            retry_max_delay=retry_max_delay,
            rate=rate,
            rates=rates,
        )

        def register(function: TaskF) -> TaskF:
            self._task_handlers.register(make(function))
            return function

        return register

    def unregister_task_handler(self, worker_id: str) -> bool:
        """Take no more tasks for a worker here; what it runs goes on. False if it had no handler here.

        Example:
            sdk.unregister_task_handler("worker-1")
        """
        return self._task_handlers.unregister(check_external_id(worker_id, field="worker_id"))
