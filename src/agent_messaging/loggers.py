"""The loggers of the package: a call of one raises nothing, whatever handlers an application has given to `logging`.

A line is logged in the middle of things that must go on: a commit, a run, a thread of a store. A handler, a filter or a
record factory that raises breaks the contract of `logging`, and would end them. What it raises ends here instead.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
from typing import Any

_told: set[str] = set()
"""The names of the loggers of which a failure was said."""
_thread = threading.local()
"""Its `is_logging` says whether a handler is called in this thread just now."""


def get_logger(name: str) -> logging.Logger:
    """The logger of this name, as of `logging.getLogger`, which now raises nothing.

    What its handlers, filters and record factory raise is written to stderr, of the first failure alone, and not at all
    if `logging.raiseExceptions` is off. While a level is off, a call of it costs what it did.
    """
    logger = logging.getLogger(name)
    guard = Guard(logger)
    # Beside the class of the logger, which an application may have chosen, and ahead of it.
    logger.handle = guard.handle  # type: ignore[method-assign]
    logger.makeRecord = guard.make_record  # type: ignore[method-assign]
    return logger


class Guard:
    """What a logger calls instead of two methods of its class."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def make_record(self, *arguments: Any, **options: Any) -> Any:
        """A record, or None where the record factory raises."""
        return self._call("makeRecord", *arguments, **options)

    def handle(self, record: logging.LogRecord | None) -> None:
        """Hand a record to the filters and handlers."""
        if record is not None:
            self._call("handle", record)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        is_outermost = not getattr(_thread, "is_logging", False)
        try:
            _thread.is_logging = True
            return getattr(type(self._logger), method)(self._logger, *arguments, **options)
        except Exception as error:
            # A handler that logs calls itself: only the outermost call has room to go on.
            if isinstance(error, RecursionError) and not is_outermost:
                raise
            self.tell(error)
            return None
        finally:
            if is_outermost:
                _thread.is_logging = False

    def tell(self, error: Exception) -> None:
        """Say on stderr that a handler failed, once for each logger."""
        name = self._logger.name
        if name in _told or not logging.raiseExceptions:
            return
        _told.add(name)
        with contextlib.suppress(Exception):  # there may be no stderr
            sys.stderr.write(
                f"A handler, a filter or the record factory of the log {name!r} failed, and the work goes on. Mend it: "
                "what it was given may be lost. Its failures are not said again.\n"
                + "".join(traceback.format_exception(error))
            )
