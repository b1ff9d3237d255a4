"""What every error of the SDK has: a problem, a remedy and details. `exceptions` is their tree."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, ClassVar


class AgentMessagingError(Exception):
    """The messaging SDK failed; the subclass says how."""

    code: ClassVar[str] = "agent_messaging"
    """The name of the error for programs; it does not change between releases."""
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later as it is."""
    exit_code: ClassVar[int] = 1
    """The exit code of the command line."""
    problem_text: ClassVar[str] = ""
    """The problem, with the details as fields of `{0}`; empty where the docstring says it, or `render` does."""
    remedy_text: ClassVar[str] = ""
    """The remedy, likewise."""

    def __init__(self, message: str | None = None, *, remedy: str = "", **details: Any) -> None:
        for name, value in details.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no detail {name!r}")
            setattr(self, name, value)
        self.details = details
        if message is None:
            message = self.render() if details else _documentation(type(self))
            remedy = self.advise() if details else ""
        self.problem: str = message
        """The message without the remedy."""
        self.remedy: str = remedy
        """The next step in code; empty where the problem names it or there is none."""
        super().__init__(f"{message} {remedy}" if remedy else message)

    def render(self) -> str:
        """Build the problem from the details."""
        return self.problem_text.format(self) or _documentation(type(self))

    def advise(self) -> str:
        """Build the remedy from the details."""
        return self.remedy_text.format(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.problem, self.remedy, self.details)


def _documentation(cls: type[AgentMessagingError]) -> str:
    # Not with `inspect.getdoc`: where `python -OO` has removed the docstrings, it finds those of built-in errors.
    texts = (base.__doc__ for base in cls.__mro__ if issubclass(base, AgentMessagingError))
    text = next(filter(None, texts), f"{cls.__name__}: the page on troubleshooting says what it means.")
    return " ".join(text.split())


def copy_error(error: Any) -> Any:
    """Copy an error for one more caller, because raising an error writes a traceback into it.

    The cause of the copy is that of the error, or the error itself, whose traceback says where it failed. Only the
    SDK's own errors are copied: not every exception can be.
    """
    if not isinstance(error, AgentMessagingError):
        return error
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__ or (error if error.__traceback__ is not None else None)
    return copied


def _rebuild(cls: type[AgentMessagingError], problem: str, remedy: str, details: dict[str, Any]) -> Any:
    return cls(problem, remedy=remedy, **details)


def list_values(values: Iterable[object]) -> str:
    """The values as a message lists them."""
    return ", ".join(repr(value) for value in values)


def shorten(value: object, limit: int = 80) -> str:
    """The value as a message shows it, with at most so many characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}… ({len(text)} characters)"
