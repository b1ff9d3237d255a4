"""What a function of the user's is: whether it may be registered, and whether it runs on the loop or in a thread.

The same for every place that takes one: handlers of messages, turns, notifications and events, and functions that
choose speakers. What the callable itself is decides, not what it says that it wraps (`functools.wraps`): a plain
wrapper may block, whatever is behind it.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from ..exceptions import InvalidArgumentError


def is_coroutine_function(function: Any) -> bool:
    """Whether calling it makes a coroutine, so that it runs on the loop; everything else runs in a thread."""
    return inspect.iscoroutinefunction(_called(function))


def check_function(function: object, *, field: str = "handler", takes: str = "Pass a function.") -> None:
    """Refuse what is no function to be called for its result.

    Args:
        function: What the user gave.
        field: The parameter's name, for the error.
        takes: What to pass instead, for the error.

    Raises:
        InvalidArgumentError: It is not callable, is a class, or yields instead of returning.
    """
    called = _called(function)
    if not callable(function):
        reason = f"cannot be called. {takes}"
    elif isinstance(called, type):
        reason = (
            f"is a class: calling it would only make an object. {takes} Or pass an object of it that can be called."
        )
    elif inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        reason = f"yields, and nobody would take what it yields. {takes} It returns its result, or None."
    else:
        return
    raise InvalidArgumentError(field=field, value=function_name(function), reason=reason)


def check_result(result: object) -> None:
    """Refuse what a wrapper returned of a function that yields: nothing of its body has run, nor would anything.

    Raises:
        TypeError: It is a generator.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(
            f"{result.__qualname__!r} yields instead of returning, so that nothing of it has run. Let the function "
            "return its result, or None."
        )


def check_handler(function: object, *, field: str = "handler") -> None:
    """Refuse what cannot be called as `handler(message, context)`.

    Raises:
        InvalidArgumentError: As `check_function`, or it takes other arguments.
    """
    check_function(function, field=field, takes="Pass a function of (message, context).")
    signature = own_signature(function)
    if signature is None or fits(signature, 2):
        return
    reason = f"takes {signature}. A handler takes (message, context)."
    raise InvalidArgumentError(field=field, value=function_name(function), reason=reason)


def own_signature(function: Any) -> inspect.Signature | None:
    """What it takes itself, whatever it wraps; None of some functions written in C, which do not tell."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except ValueError:
        return None


def fits(signature: inspect.Signature, count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _called(function: Any) -> Any:
    """The function whose body runs when it is called: behind a partial, and of an object the method of its class."""
    while isinstance(function, partial):
        function = function.func
    if not callable(function) or inspect.isroutine(function) or isinstance(function, type):
        return function
    if inspect.iscoroutinefunction(function):  # an object that is marked as one
        return function
    return type(function).__call__


def function_name(function: object) -> str:
    """What to call it in a message."""
    return getattr(function, "__qualname__", None) or type(function).__name__
