"""The state in which an open row goes into an archive: that in which it is when no process of the store lives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from ...models import AskState, DeliveryState, TaskState
from ..ports import Settling
from ..workload import attempts_after
from .tables import Row
from .values import EPOCH, MICROSECOND, spell


def put_to_rest(table: str, raw: Row, now: datetime) -> None:
    """Bring a row into the state in which it is when no process of the store lives."""
    if (change := _REST.get(table)) is not None:
        change(raw, now)


def _give_back(raw: Row) -> None:
    """End a claim as one that was given back: the attempt does not count, and the token of the claim is past."""
    raw["token"] += 1
    raw["attempt"] = attempts_after(Settling.RETURNED, raw["attempt"])


def _rest_delivery(raw: Row, now: datetime) -> None:
    if raw["state"] == DeliveryState.CLAIMED:
        _give_back(raw)
        raw |= {"state": DeliveryState.QUEUED.value, "suspect": False}
    if raw["state"] == DeliveryState.QUEUED and raw["ask_state"] == AskState.OPEN and not raw["ask_keyed"]:
        raw |= {"state": DeliveryState.EXPIRED.value, "settled_at": _like(raw, now)}


def _rest_ask(raw: Row, now: datetime) -> None:
    if raw["state"] == AskState.OPEN and not raw["keyed"]:
        raw |= {"state": AskState.CANCELLED.value, "ended_at": _like(raw, now)}


def _rest_message(raw: Row, now: datetime) -> None:
    if raw["state"] == DeliveryState.CLAIMED:
        _give_back(raw)
        raw |= {"state": DeliveryState.QUEUED.value, "ended_as": Settling.RETURNED.value, "suspect": False}


def _rest_task(raw: Row, now: datetime) -> None:
    if raw["state"] == TaskState.RUNNING:
        _give_back(raw)
        raw |= {
            "state": TaskState.QUEUED.value,
            "ended_as": Settling.RETURNED.value,
            "until_at": None,
            "suspect": False,
        }
        if "until_due" in raw:
            raw["until_due"] = None


def _rest_worker(raw: Row, now: datetime) -> None:
    raw["booked"] = raw["assigned"]


_REST: dict[str, Callable[[Row, datetime], None]] = {
    "deliveries": _rest_delivery,
    "asks": _rest_ask,
    "queue_messages": _rest_message,
    "tasks": _rest_task,
    "workers": _rest_worker,
}
"""What becomes of an open row when the processes do not come along: as when they stop."""


def _like(raw: Row, now: datetime) -> Any:
    """The instant in the form of the row's others."""
    at = (now - EPOCH) // MICROSECOND
    return at if any(name.endswith("_due") for name in raw) else spell(at)
