"""`agent-messaging meetings watch` and `sessions watch`: what is said, as it is said, until it ends."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..records import dataclass
from .external import read_names
from .mailbox import describe, print_message
from .meetings import meetings, status_of
from .names import AGENT, MEETING
from .opening import open_sdk, run
from .options import Options, pass_options
from .output import clean, note, print_json, say, shorten
from .patience import look_until_seen
from .progress import is_dumb
from .sessions import sessions
from .spoken import line_of
from .values import parse_duration

if TYPE_CHECKING:
    from .. import AgentMessaging, Record
    from ..storage.ports import MessageRow, SessionRow

PAUSE = 0.25
"""Seconds between two looks. This process takes no part in what it watches, so nobody wakes it."""
PAGE = 500

timeout_option = click.option(
    "--timeout", type=parse_duration, metavar="DURATION", help="End after this time: 30, 5m, 1h."
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look has found."""

    messages: Sequence[Mapping[str, Any]]
    now: str
    """How it stands, for the last line of a terminal."""
    is_over: bool
    """Nothing will follow."""


Watch = Callable[["AgentMessaging[Any]"], Awaitable[Callable[[], Awaitable[Look]]]]
"""Given the SDK, it finds what is to be watched, and returns the function that looks at it again."""


@meetings.command("watch")
@click.argument("id", type=MEETING)
@timeout_option
@pass_options
def watch_meeting(options: Options, id: str, timeout: float | None) -> None:
    """Watch a meeting: the transcript as it grows, who speaks, and the time that is left. Ends with the meeting.

    \b
    Examples:
      agent-messaging meetings watch ID
      agent-messaging meetings watch ID --json

    On a terminal the last line shows the speaker and the time left. With --json each message is one line of JSON.
    """

    async def find(sdk: AgentMessaging[Any]) -> Callable[[], Awaitable[Look]]:
        seen: int | None = None

        async def look() -> Look:
            nonlocal seen
            # The status first: what is said until it is "ended" is then among the messages that follow.
            status = await status_of(sdk, id)
            rows = await _read_behind(sdk.store.meetings.list_messages, str(status.meeting_id), seen)
            said = await _spoken(sdk, rows)
            seen = rows[-1].seq if rows else seen
            return Look(said, _standing(status), status.status.value == "ended")

        return look

    _watch(options, find, lambda message: say(line_of(message)), timeout)


@sessions.command("watch")
@click.argument("id", metavar="ID|AGENT", type=AGENT)
@click.argument("other", required=False, metavar="[OTHER]", type=AGENT)
@click.option("--thread", metavar="NAME", help="Of two agents, the thread that is meant; the main one if left out.")
@timeout_option
@pass_options
def watch_session(options: Options, id: str, other: str | None, thread: str | None, timeout: float | None) -> None:
    """Watch a conversation, by its id or by its two agents: what was said, and what is said from now on.

    \b
    Examples:
      agent-messaging sessions watch ID
      agent-messaging sessions watch alice bob --thread lunch

    Ends with the conversation, and marks nothing as read. On a terminal the last line shows who waits. With --json each
    message is one line of JSON.
    """
    if other is None and thread is not None:
        raise click.UsageError(
            "--thread goes with two agents: a conversation has a thread of its own.", click.get_current_context()
        )

    async def find(sdk: AgentMessaging[Any]) -> Callable[[], Awaitable[Look]]:
        session = await _find_session(sdk, id, other, thread)
        names = await read_names(sdk.store, {session.agent_a_id, session.agent_b_id})
        seen: int | None = None

        async def look() -> Look:
            nonlocal seen
            row = await sdk.store.sessions.find_session(session.session_id)
            rows = await _read_behind(sdk.store.sessions.list_messages, session.session_id, seen)
            said = await describe(sdk, rows)
            seen = rows[-1].seq if rows else seen
            waits = None if row is None or row.waiting_id is None else names.get(row.waiting_id)
            now = "  open; nobody waits for an answer" if waits is None else f"  {clean(waits)} waits for an answer"
            return Look(said, _one_line(now), row is None or row.ended_at is not None)

        return look

    _watch(options, find, print_message, timeout)


async def _find_session(sdk: AgentMessaging[Any], id: str, other: str | None, thread: str | None) -> SessionRow:
    from .. import SessionNotFoundError
    from ..arguments import check_thread, parse_id

    if other is None:
        wanted = parse_id(id, "id")
        row = await sdk.store.sessions.find_session(wanted)
        if row is None:
            raise SessionNotFoundError(session_id=wanted)
        return row
    check_thread(thread)
    one, two = await sdk.get_agent(id), await sdk.get_agent(other)
    row = await sdk.store.sessions.find_open_session(str(one.id), str(two.id), thread or "")
    if row is None:
        where = "" if thread is None else f" in the thread {thread!r}"
        raise SessionNotFoundError(f"{id!r} and {other!r} have no open session{where}. Their next message opens one.")
    return row


def _watch(options: Options, find: Watch, show: Callable[[Mapping[str, Any]], None], timeout: float | None) -> None:
    try:
        run(options, _follow(options, find, print_json if options.json else show, timeout))
    except KeyboardInterrupt:
        if not options.json:
            note("")


async def _follow(
    options: Options, find: Watch, show: Callable[[Mapping[str, Any]], None], timeout: float | None
) -> None:
    import asyncio

    live = not options.json and sys.stdout.isatty() and not is_dumb()
    async with open_sdk(options) as sdk:
        look = await find(sdk)
        try:
            async with asyncio.timeout(timeout) as timer:
                while True:
                    found = await look_until_seen(options, look, before=lambda: _erase(live))
                    _erase(live)
                    for one in found.messages:
                        show(one)
                    if found.is_over:
                        return
                    if live:
                        click.echo(found.now, nl=False)
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            if not timer.expired():
                raise
        finally:
            _erase(live)


def _erase(live: bool) -> None:
    if live:
        with contextlib.suppress(OSError):
            click.echo("\r\x1b[K", nl=False)


async def _read_behind(read: Callable[..., Awaitable[list[MessageRow]]], id: str, seen: int | None) -> list[MessageRow]:
    """All messages behind a sequence number; of all of them, without one."""
    rows: list[MessageRow] = []
    while True:
        page = await read(id, limit=PAGE, after_seq=rows[-1].seq if rows else seen)
        rows += page
        if len(page) < PAGE:
            return rows


async def _spoken(sdk: AgentMessaging[Any], rows: Sequence[MessageRow]) -> list[Record]:
    """What was said in a meeting, as `line_of` takes it."""
    from ..bodies import open_or_mark
    from ..models import Record

    names = await read_names(sdk.store, {row.sender_id for row in rows})
    messages = []
    for row in rows:
        body = open_or_mark(row, f"message {row.message_id}")
        messages.append(
            Record(
                message_id=row.message_id,
                sender=names.get(row.sender_id),
                message_type=row.message_type,
                content=body.content,
                metadata=body.metadata or None,
                is_damaged=body.is_damaged,
                created_at=row.created_at,
            )
        )
    return messages


def _standing(status: Record) -> str:
    if status.current_speaker is None:
        return _one_line(f"  {status.status.value}, {status.participant_count} participants")
    left = "" if status.seconds_left is None else f", {status.seconds_left:.0f} s left"
    turn = f" has turn {status.turn}{left}"
    name = shorten(clean(status.current_speaker), max(_room() - len(turn) - 2, 1))
    return click.style(shorten(f"  {name}{turn}", _room()), bold=True)


def _one_line(text: str) -> str:
    """The last line of a live view: one line on every terminal, because no more than one can be erased."""
    return click.style(shorten(text, _room()), dim=True)


def _room() -> int:
    return shutil.get_terminal_size().columns - 1
