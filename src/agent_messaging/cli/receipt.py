"""`agent-messaging receipt`: the life of one message."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import click

from .app import Command
from .opening import use
from .options import Options, pass_options
from .output import clean, duration, instant, say, show, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .. import Receipt, ReceiptEvent


@click.command(cls=Command)
@click.argument("id")
@pass_options
def receipt(options: Options, id: str) -> None:
    """Show the life of one message: stored, claimed, failed, taken over, handled. Each line is a durable fact.

    \b
    Example:
      agent-messaging receipt ID
    """
    found = use(options, lambda sdk: sdk.receipts.get(id))

    def human() -> None:
        read = f", read {instant(found.read_at)}" if found.read_at is not None else ""
        say(f"{found.message_id}  {' → '.join((found.sender_id, *(found.way or (found.recipient_id,))))}")
        say(f"{found.state.value}, attempt {found.attempt} of {found.max_attempts}{read}")
        if found.deliver_at is not None and not found.is_final:
            say(f"due {instant(found.deliver_at)}")
        if found.expires_at is not None and not found.is_final:
            say(f"expires {instant(found.expires_at)}")
        say()
        table(("at", "after", "event", "attempt", "process", "reason"), life(found), empty="")

    show(options, {"receipt": found}, human)


def life(receipt: Receipt, processes: Mapping[str, str] | None = None) -> list[tuple[str, str, str, str, str, str]]:
    """The events as rows: when, how long after the first, what, which attempt, which process, why.

    Args:
        processes: Names of processes by their incarnation id; the others are shown by their pid and, if it is another
            than here, their host, or by the id where nobody knows these any more.
    """
    begun = receipt.events[0].at
    return [
        (
            f"{event.at.astimezone():%H:%M:%S.%f}"[:-3],
            f"+{duration(max(0.0, (event.at - begun).total_seconds()))}",
            event.event,
            "" if event.attempt is None else str(event.attempt),
            (processes or {}).get(event.process or "", _place(event)),
            clean(event.reason or ""),
        )
        for event in receipt.events
    ]


def _place(event: ReceiptEvent) -> str:
    if event.pid is None:
        return event.process or ""
    return f"pid {event.pid}" if event.host == socket.gethostname() else f"pid {event.pid} on {clean(event.host or '')}"
