"""A user's function: whether it may be registered, and whether it runs on the loop or in a thread.

Handlers of messages, turns, notifications and events, and functions that choose speakers are judged alike. The callable
itself decides, not the function that it says it wraps (`functools.wraps`): a plain wrapper may block, whatever is
behind it.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from ..exceptions import InvalidArgumentError

_NAMES_MAY_BE_UNDEFINED: dict[str, Any] = {}
if sys.version_info >= (3, 14):
    from annotationlib import Format

    _NAMES_MAY_BE_UNDEFINED["annotation_format"] = Format.FORWARDREF


def is_coroutine_function(function: Any) -> bool:
    """Whether a call of it makes a coroutine, which runs on the loop; everything else runs in a thread."""
    return inspect.iscoroutinefunction(_called(function))


def is_async_generator_function(function: Any) -> bool:
    """Whether a call of it makes an asynchronous generator."""
    return inspect.isasyncgenfunction(_called(function))


def check_function(
    function: object, *, field: str = "handler", takes: str = "Pass a function.", may_yield: bool = False
) -> None:
    """Refuse what cannot be called, a class, and a function that yields instead of returning.

    Args:
        function: What the user gave.
        field: The parameter's name, for the error.
        takes: What to pass instead, for the error.
        may_yield: An asynchronous generator is taken too: what it yields are parts of its answer.

    Raises:
        InvalidArgumentError: It is one of these.
    """
    called = _called(function)
    if not callable(function):
        reason = f"cannot be called. {takes}"
    elif isinstance(called, type):
        reason = (
            f"is a class: calling it would only make an object. {takes} Or pass an object of it that can be called."
        )
    elif inspect.isgeneratorfunction(called) and may_yield:
        reason = f"yields in a thread, where nobody takes what it yields. {takes} Make it `async def`."
    elif inspect.isgeneratorfunction(called) or (inspect.isasyncgenfunction(called) and not may_yield):
        reason = f"yields, and nobody would take what it yields. {takes} It returns its result, or None."
    else:
        return
    raise InvalidArgumentError(field=field, value=function_name(function), reason=reason)


def check_result(result: object) -> None:
    """Refuse a generator, which a wrapper of a function that yields returns: nothing of its body has run, or would.

    Raises:
        TypeError: It is one.
    """
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        raise TypeError(
            f"{result.__qualname__!r} yields instead of returning, so that nothing of it has run. Let the function "
            "return its result, or None."
        )


def check_handler(function: object, *, may_yield: bool = False) -> None:
    """Refuse what cannot be called as `handler(message, context)`.

    Raises:
        InvalidArgumentError: As `check_function`, or it takes other arguments.
    """
    check_function(function, takes="Pass a function of (message, context).", may_yield=may_yield)
    signature = own_signature(function)
    if signature is None or fits(signature, 2):
        return
    reason = f"takes {signature}. A handler takes (message, context)."
    raise InvalidArgumentError(field="handler", value=function_name(function), reason=reason)


def read_signature(function: Any, *, follow_wrapped: bool = True) -> inspect.Signature:
    """The parameters. Names in annotations need not be defined yet.

    From Python 3.14 on annotations are evaluated when they are read. A name without a value is then a `ForwardRef`.

    Raises:
        ValueError: It is written in C and does not tell.
    """
    return inspect.signature(function, follow_wrapped=follow_wrapped, **_NAMES_MAY_BE_UNDEFINED)


def own_signature(function: Any) -> inspect.Signature | None:
    """Its own parameters, whatever it wraps; None for functions written in C that do not tell."""
    try:
        return read_signature(function, follow_wrapped=False)
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
    """The function whose body a call runs: the one behind a partial, or the method of an object's class."""
    while isinstance(function, partial):
        function = function.func
    if not callable(function) or inspect.isroutine(function) or isinstance(function, type):
        return function
    if inspect.iscoroutinefunction(function):  # an object that is marked as one
        return function
    return type(function).__call__


def function_name(function: object) -> str:
    """Its name in a message."""
    return getattr(function, "__qualname__", None) or type(function).__name__
