"""The observers, who are told of facts: the door `sdk.observers`, and what the engine asks before it makes a fact.

Whoever is told can neither stop nor change anything: what an observer raises is logged once, and the work goes on.
Nothing is made, and nothing is called, while nobody listens.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..completion import Calls
from ..exceptions import InvalidArgumentError
from ..loggers import get_logger
from . import carrying
from .facts import Fact

if TYPE_CHECKING:
    from .figures import ProcessFigures

logger = get_logger("agent_messaging.observing")
log = get_logger("agent_messaging.facts")
"""One line for each fact, at DEBUG, with what it says as fields of the record too."""

SLOW = 0.1
"""Seconds that an observer may take before the log says, once, that it holds everything up."""


class Observer:
    """Is told of what happens in an SDK object. Each method does nothing; override those that are wanted.

    They are called on the event loop of the SDK object, in the step in which the thing has happened, so they must
    return at once: no I/O, no lock that is held for long. What they raise is logged once, and changes nothing.

    Example:
        class Counts(Observer):
            def __init__(self) -> None:
                self.of = Counter()

            def happened(self, fact: Fact) -> None:
                self.of[fact.type] += fact.count

        sdk.observers.add(Counts())
    """

    def happened(self, fact: Fact) -> None:
        """Something has happened."""

    def sending(self, fact: Fact) -> Mapping[str, str] | None:
        """Something is about to be stored; called in the sender's task, and of a call with several recipients once.

        Returns:
            What is to travel with it, such as a trace context: names and values in printable ASCII. Users never see it.
            The `traceparent` of it is in all later facts about it.
        """
        return None

    def handling(self, fact: Fact, carried: Mapping[str, str]) -> None:
        """A handler's run is about to begin in the calling task: what is set in its context stays until the run ends.

        Args:
            fact: As of `CLAIMED`.
            carried: What `sending` gave along, in whatever process.
        """

    def attached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """It was added to an SDK object, whose figures this reads, in any thread; None while it is not started.

        It is a bound method, which keeps that object alive; `weakref.WeakMethod` holds it without that.
        """

    def detached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """It was removed from that one."""


Told = TypeVar("Told", bound=Observer | Callable[..., object])


class _Listener:
    """An observer, called so that it can break nothing."""

    def __init__(self, given: Observer | Callable[[Fact], object]) -> None:
        self.given = given
        self.observer = given if isinstance(given, Observer) else _Function(given)
        self.carries = type(self.observer).sending is not Observer.sending
        self.looks_at_runs = type(self.observer).handling is not Observer.handling
        self._has_failed = False
        self._has_been_slow = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.monotonic()
        result = None
        try:
            result = function(*arguments)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("an observer is called, and not awaited: make it a plain function")
        except KeyboardInterrupt:
            raise  # it is meant for whatever runs just now
        except BaseException as error:
            result = None
            self.fail(error)
        if not self._has_been_slow and (taken := time.monotonic() - begun) > SLOW:
            self._has_been_slow = True
            logger.warning(
                "The observer %s took %.1f s, in which nothing else ran. Let it hand its work to a thread.",
                _name(self.given),
                taken,
            )
        return result

    def fail(self, error: BaseException) -> None:
        if not self._has_failed:
            self._has_failed = True
            logger.error(
                "The observer %s failed, and the work goes on. It is called again, and its failures are not said "
                "again.",
                _name(self.given),
                exc_info=error,
            )


class _Function(Observer):
    """A function as an observer."""

    def __init__(self, function: Callable[[Fact], object]) -> None:
        self.happened = function  # type: ignore[method-assign, assignment]


class Ears:
    """The listeners as the engine sees them: it asks whether there are any, and calls them all.

    The level of the log may change at any time. The timekeeper looks at it now and then, and no message or commit does.
    """

    def __init__(self) -> None:
        self.is_heard = False
        """Whether facts are made."""
        self.carriers: tuple[_Listener, ...] = ()
        """The observers that give something along."""
        self.watchers: tuple[_Listener, ...] = ()
        """The observers that are called in the task of a run before its handler."""
        self._listeners: tuple[_Listener, ...] = ()
        self._log = _Listener(_log)
        self._all: tuple[_Listener, ...] = ()
        self._lock = threading.Lock()

    def look(self) -> None:
        """See whether the log wants to be told."""
        if log.isEnabledFor(logging.DEBUG) is not (self._log in self._all):
            with self._lock:
                self._decide()

    def add(self, given: Observer | Callable[[Fact], object]) -> bool:
        """Tell it from now on; False if it is told already."""
        with self._lock:
            if any(one.given == given for one in self._listeners):
                return False
            self._listeners = (*self._listeners, _Listener(given))
            self._decide()
            return True

    def remove(self, given: Observer | Callable[[Fact], object]) -> bool:
        """Tell it no more; False if it was not told."""
        with self._lock:
            left = tuple(one for one in self._listeners if one.given != given)
            has_changed = len(left) < len(self._listeners)
            self._listeners = left
            self._decide()
            return has_changed

    def _decide(self) -> None:
        self.carriers = tuple(one for one in self._listeners if one.carries)
        self.watchers = tuple(one for one in self._listeners if one.looks_at_runs)
        self._all = (*self._listeners, self._log) if log.isEnabledFor(logging.DEBUG) else self._listeners
        self.is_heard = bool(self._all)

    def tell(self, fact: Fact) -> None:
        """Something has happened."""
        for one in self._all:
            one.call(one.observer.happened, fact)

    def ask(self, fact: Fact) -> dict[str, str]:
        """Ask the observers what is to travel with something that is about to be stored."""
        carried: dict[str, str] = {}
        for one in self.carriers:
            given = one.call(one.observer.sending, fact)
            if given:
                try:
                    carrying.write(given)
                except Exception as error:
                    one.fail(error)
                else:
                    carried |= given
        return carried

    def begin(self, fact: Fact, carried: Mapping[str, str]) -> None:
        """A handler's run is about to begin in the calling task."""
        for one in self.watchers:
            one.call(one.observer.handling, fact, carried)


class Observers(Calls):
    """`sdk.observers`: who is told of what happens in this SDK object, from before its start on.

    Each process is told of what it does itself: a message that another process handles is `STORED` here, and `CLAIMED`,
    `HANDLED` and `SETTLED` there.
    """

    def __init__(self, ears: Ears, figures: Callable[[], ProcessFigures | None]) -> None:
        self.ears = ears
        self.figures = figures

    def add(self, observer: Told) -> Told:
        """Tell an observer, or a function that takes a `Fact`, of everything from now on. Idempotent; in any thread.

        Args:
            observer: An `Observer`, or a plain function.

        Returns:
            The observer, so that this can stand above a function as a decorator.

        Raises:
            InvalidArgumentError: It cannot be called, or it is a coroutine function.

        Example:
            @sdk.observers.add
            def see(fact: Fact) -> None:
                print(fact)
        """
        if not isinstance(observer, Observer):
            if isinstance(observer, type) or not callable(observer):
                raise InvalidArgumentError(
                    field="observer", value=None, reason="is no Observer. Pass an object of one, or a function."
                )
            called = observer if inspect.isroutine(observer) else getattr(type(observer), "__call__")  # noqa: B004, B009
            if inspect.iscoroutinefunction(called):
                raise InvalidArgumentError(
                    field="observer", value=None, reason="is a coroutine function. Pass a plain one: it is not awaited."
                )
        if self.ears.add(observer) and isinstance(observer, Observer):
            observer.attached(self.figures)
        return observer

    def remove(self, observer: Observer | Callable[..., object]) -> None:
        """Tell this one no more. Nothing happens if it was never added.

        Example:
            sdk.observers.remove(see)
        """
        if self.ears.remove(observer) and isinstance(observer, Observer):
            observer.detached(self.figures)


def _log(fact: Fact) -> None:
    log.debug("%s", fact, extra=fact.known)


def _name(given: object) -> str:
    return getattr(given, "__qualname__", None) or type(given).__qualname__
