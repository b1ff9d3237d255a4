"""The annotations of handlers, also those that name classes which are not defined yet."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import typing_extensions

from ..loggers import get_logger
from ..payloads import MISSING, Late
from .functions import function_name, read_signature

logger = get_logger("agent_messaging.handlers")


def handler_annotation(function: Callable[..., Any], position: int = 0) -> Any:
    """Return the annotation of a handler's first parameter (or another), for a `Decoder`; `MISSING` if it has none.

    It is read when the handler is registered: classes that are local to a function are found while that function runs.
    An annotation that names something not defined yet becomes a `LateAnnotation`.
    """
    try:
        parameters = list(read_signature(function).parameters.values())
    except ValueError:
        return MISSING
    wanted = parameters[position] if position < len(parameters) else None
    if wanted is None or wanted.annotation is MISSING:
        return MISSING
    if wanted.kind not in (wanted.POSITIONAL_ONLY, wanted.POSITIONAL_OR_KEYWORD):
        return MISSING
    late = LateAnnotation(function, wanted.annotation)
    try:
        return late.evaluate()
    except Exception:
        return late


class LateAnnotation(Late):
    """A handler's annotation whose names are not all defined yet; the decoder resolves it with the first message."""

    def __init__(self, function: Callable[..., Any], annotation: Any) -> None:
        self.name = function_name(function)
        self.annotation = annotation
        target = _target(function)
        self.globals: dict[str, Any] = getattr(target, "__globals__", {})
        self.locals = _enclosing_locals(target)

    def evaluate(self) -> Any:
        def stub(message: Any) -> None: ...

        stub.__annotations__ = {"message": self.annotation}
        hints = typing_extensions.get_type_hints(stub, self.globals, self.locals, include_extras=True)
        return hints["message"]

    def resolve(self) -> Any:
        """Return the annotation, or `MISSING` with a warning in the log if a name in it still is not defined."""
        try:
            self.annotation = self.evaluate()
        except Exception as error:
            logger.warning(
                "The annotation %r of the handler %s cannot be resolved (%s): it gets plain JSON values.",
                getattr(self.annotation, "__forward_arg__", self.annotation),
                self.name,
                error,
            )
            self.annotation = MISSING
        return self.annotation


def _target(function: Any) -> Any:
    """The function that its author wrote, behind a partial, a callable object, a decorator and a bound method."""
    while isinstance(function, partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    function = inspect.unwrap(function)
    return getattr(function, "__func__", function)


def _enclosing_locals(function: Any) -> dict[str, Any]:
    """The names around a nested function: all while the outer function runs, afterwards those that it uses itself."""
    names: dict[str, Any] = {}
    outer, nested, _ = str(getattr(function, "__qualname__", "")).rpartition(".<locals>.")
    if not nested:
        return names
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_qualname == outer and frame.f_globals is function.__globals__:
            return dict(frame.f_locals)
        frame = frame.f_back
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return names
