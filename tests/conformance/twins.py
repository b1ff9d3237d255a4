"""What the tests share that give the same random program of verbs to two stores and compare what they answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from agent_messaging.exceptions import AgentMessagingError
from agent_messaging.storage.ports import AskRow, Claim, DeadRow, EndedAsk, ReceiptRow, Store

S = TypeVar("S")

_UNTOLD = {
    "seq",
    "kept_seq",
    "created_at",
    "updated_at",
    "ended_at",
    "read_at",
    "settled_at",
    "claimed_at",
    "died_at",
    "deliver_at",
}
"""Numbers and clocks of the store's own; of an instant it is compared whether there is one."""
_UNORDERED = (ReceiptRow, AskRow, DeadRow, EndedAsk)
_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def both(
    sides: Sequence[S],
    call: Callable[[S], Coroutine[Any, Any, Any]],
    run: Callable[[Coroutine[Any, Any, Any]], Any],
    *,
    names: Callable[[S], Mapping[str, str]] | None = None,
) -> list[Any]:
    """The answers of both, or the errors, which are alike.

    Args:
        names: What stands for the ids that a side knows; then its other ids, which the store made, are all one.
    """
    answers = []
    for side in sides:
        try:
            answers.append(run(call(side)))
        except AgentMessagingError as error:
            answers.append(error)
    first, second = (
        plain(answer, None if names is None else names(side)) for side, answer in zip(sides, answers, strict=True)
    )
    if differing := [*differences(first, second)]:
        raise AssertionError("The stores differ: " + "; ".join(differing))
    return answers


def differences(first: Any, second: Any, path: str = "") -> Iterator[str]:
    """Where two plain answers differ, and how."""
    if type(first) is type(second) and isinstance(first, dict) and first.keys() == second.keys():
        for key in first:
            yield from differences(first[key], second[key], f"{path}.{key}")
    elif type(first) is type(second) and isinstance(first, list | tuple) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif first != second:
        yield f"{path}: {first!r} and {second!r}"


def plain(value: Any, names: Mapping[str, str] | None = None) -> Any:
    """What is promised of an answer: without the store's own numbers and clocks, and without orders nobody promised."""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, AgentMessagingError):
        return type(value).__name__
    if isinstance(value, str | UUID) and names is not None:
        return _ID.sub(lambda id: names.get(id[0], "?"), str(value))
    if isinstance(value, Claim):
        return value.token, value.attempt
    if isinstance(value, BaseModel):
        instants = {one for _, one in value if isinstance(one, datetime)}
        told = {name: plain(one, names) for name, one in value if not isinstance(one, datetime)}
        return told | {"instants": len(instants)}  # whether it was changed since it was created
    if is_dataclass(value):
        told = {field.name: getattr(value, field.name) for field in fields(value)}
        return {
            name: (one is not None) if name in _UNTOLD or isinstance(one, datetime) else plain(one, names)
            for name, one in told.items()
            if name not in ("seq", "next_in", "left")
        } | {"": type(value).__name__}
    if isinstance(value, dict):
        return {
            plain(key, names): plain(one, names)
            for key, one in value.items()
            if key not in ("at", "claimed_at", "token")
        }
    if isinstance(value, set | frozenset):
        return sorted(str(plain(one, names)) for one in value)
    if isinstance(value, tuple):
        return tuple(plain(one, names) for one in value)
    if isinstance(value, list):
        rows = [plain(one, names) for one in value]
        return sorted(rows, key=str) if value and isinstance(value[0], _UNORDERED) else rows
    return value


@contextmanager
def opened(stores: list[Store], runner: asyncio.Runner) -> Iterator[None]:
    """Open them, and close them."""
    try:
        for store in stores:
            runner.run(store.open())
        yield
    finally:
        for store in stores:
            runner.run(store.aclose())
