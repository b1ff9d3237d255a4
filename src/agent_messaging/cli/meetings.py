"""`agent-messaging meetings`: look at meetings, and watch one live."""

from __future__ import annotations

import contextlib
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .app import Group
from .opening import open_sdk, run
from .options import Options, get_options
from .output import clean, content, duration, instant, note, print_json, say, shorten, show, table
from .values import parse_duration

if TYPE_CHECKING:
    from .. import AgentMessaging
    from ..models import Record
    from ..storage.ports import MessageRow

PAUSE = 0.25
"""Seconds between two looks. This process takes no part in the meeting, so nobody wakes it."""
PAGE = 500


@click.group(cls=Group)
def meetings() -> None:
    """List meetings, show what was said, and watch one live.

    \b
    Example:
      agent-messaging meetings list
    """


@meetings.command("list")
@click.argument("agent", required=False)
@click.option("--status", type=click.Choice(["created", "ready", "active", "ended"]), help="Only those in this state.")
@click.option("--limit", default=100, show_default=True, help="At most so many, up to 1000.")
@click.option("--offset", default=0, help="Pass over so many.")
@click.pass_context
def list_(ctx: click.Context, agent: str | None, status: str | None, limit: int, offset: int) -> None:
    """List meetings, newest first: of an agent, or all.

    \b
    Example:
      agent-messaging meetings list alice --status active
    """
    options = get_options(ctx)

    async def work() -> list[Record]:
        async with open_sdk(options) as sdk:
            return await sdk.meeting.list_meetings(agent, status=status, limit=limit, offset=offset)

    found = run(options, work())
    rows = [
        (
            str(one.meeting_id),
            clean(one.host_id or ""),
            one.status.value,
            str(one.turn or ""),
            clean(one.current_speaker or ""),
            instant(one.created_at),
        )
        for one in found
    ]
    columns = ("id", "host", "status", "turn", "speaker", "since")
    empty = "No meetings. sdk.meeting.create_meeting(...) makes one."
    show(options, {"meetings": found}, lambda: table(columns, rows, empty=empty))


@meetings.command("show")
@click.argument("id")
@click.pass_context
def show_(ctx: click.Context, id: str) -> None:
    """Show how a meeting stands: who is in it, who speaks, and how long.

    \b
    Example:
      agent-messaging meetings show 01a213a9-26e2-731f-bd6e-7617e4c78203
    """
    options = get_options(ctx)

    async def work() -> Record:
        async with open_sdk(options) as sdk:
            return await _status(sdk, id)

    found = run(options, work())

    def human() -> None:
        say(_headline(found))
        rows = [
            (
                str(one.join_order),
                clean(one.agent_id or ""),
                one.status.value,
                instant(one.joined_at),
                instant(one.left_at),
            )
            for one in found.participant_details
        ]
        table(("", "agent", "status", "joined", "left"), rows, empty="No participants.")

    show(options, {"meeting": found}, human)


@meetings.command()
@click.argument("id")
@click.pass_context
def history(ctx: click.Context, id: str) -> None:
    """Show all that was said in a meeting, with joins, leaves and timeouts.

    \b
    Example:
      agent-messaging meetings history 01a213a9-26e2-731f-bd6e-7617e4c78203
    """
    options = get_options(ctx)

    async def work() -> list[Record]:
        async with open_sdk(options) as sdk:
            return await sdk.meeting.get_meeting_history(id)

    messages = run(options, work())

    def human() -> None:
        for one in messages:
            say(_line(one))
        if not messages:
            say("Nothing was said yet.")

    show(options, {"messages": messages}, human)


@meetings.command()
@click.argument("id")
@click.pass_context
def timeline(ctx: click.Context, id: str) -> None:
    """Show a meeting's messages and events in their order.

    \b
    Example:
      agent-messaging meetings timeline 01a213a9-26e2-731f-bd6e-7617e4c78203
    """
    options = get_options(ctx)

    async def work() -> Record:
        async with open_sdk(options) as sdk:
            return await sdk.meeting.get_meeting_timeline(id)

    found = run(options, work())

    def human() -> None:
        rows = [
            (
                _clock(one.timestamp),
                one.type,
                one.event_type.value if one.type == "event" else one.message_type.value,
                clean((one.agent_id if one.type == "event" else one.sender_id) or ""),
                _about(one),
            )
            for one in found.timeline
        ]
        table(("at", "", "what", "who", "content"), rows, empty="Nothing has happened yet.")

    show(options, {"timeline": found}, human)


@meetings.command()
@click.argument("id")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="End after this time: 30, 5m, 1h.")
@click.pass_context
def watch(ctx: click.Context, id: str, timeout: float | None) -> None:
    """Watch a meeting: the transcript as it grows, who speaks, and the time that is left. Ends with the meeting.

    \b
    Examples:
      agent-messaging meetings watch 01a213a9-26e2-731f-bd6e-7617e4c78203
      agent-messaging meetings watch 01a213a9-26e2-731f-bd6e-7617e4c78203 --json

    On a terminal the last line shows the speaker and the time left. With --json each message is one line of JSON.
    """
    options = get_options(ctx)
    try:
        run(options, _watch(options, id, timeout))
    except KeyboardInterrupt:
        if not options.json:
            note("")


async def _watch(options: Options, id: str, timeout: float | None) -> None:
    import asyncio

    live = not options.json and sys.stdout.isatty()
    seen: int | None = None
    async with open_sdk(options) as sdk:
        try:
            async with asyncio.timeout(timeout) as timer:
                while True:
                    # The status first: what is said until it is "ended" is then among the messages that follow.
                    status = await _status(sdk, id)
                    messages, seen = await _read_on(sdk, str(status.meeting_id), seen)
                    _erase(live)
                    for one in messages:
                        _print(options, one)
                    if status.status.value == "ended":
                        return
                    if live:
                        click.echo(_now(status), nl=False)
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            if not timer.expired():
                raise
        finally:
            _erase(live)


async def _read_on(sdk: AgentMessaging[Any], id: str, seen: int | None) -> tuple[list[Record], int | None]:
    """What was said behind a sequence number, and the number behind which the next look begins."""
    from ..bodies import open_or_mark
    from ..models import Record

    rows: list[MessageRow] = []
    while True:
        after = rows[-1].seq if rows else seen
        page = await sdk.store.meetings.list_messages(id, limit=PAGE, after_seq=after)
        rows += page
        if len(page) < PAGE:
            break
    agents = await sdk.store.directory.find_agents_by_id({row.sender_id for row in rows}) if rows else []
    names = {str(agent.id): agent.external_id for agent in agents}
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
    return messages, rows[-1].seq if rows else seen


def _erase(live: bool) -> None:
    if live:
        with contextlib.suppress(OSError):
            click.echo("\r\x1b[K", nl=False)


def _print(options: Options, message: Record) -> None:
    if options.json:
        print_json(message)
    else:
        say(_line(message))


def _now(status: Record) -> str:
    """The last line of a live view: one line on every terminal, because no more than one can be erased."""
    room = shutil.get_terminal_size().columns - 1
    if status.current_speaker is None:
        text = f"  {status.status.value}, {status.participant_count} participants"
        return click.style(shorten(text, room), dim=True)
    left = "" if status.seconds_left is None else f", {status.seconds_left:.0f} s left"
    turn = f" has turn {status.turn}{left}"
    name = shorten(clean(status.current_speaker), max(room - len(turn) - 2, 1))
    return click.style(shorten(f"  {name}{turn}", room), bold=True)


async def _status(sdk: AgentMessaging[Any], id: str) -> Record:
    from .. import MeetingNotFoundError

    found = await sdk.meeting.get_meeting_status(id)
    if found is None:
        raise MeetingNotFoundError(meeting_id=id)
    return found


def _headline(status: Record) -> str:
    turns = "turns do not end by time" if status.turn_duration is None else f"turns of {duration(status.turn_duration)}"
    text = f"{status.host_id}'s meeting, {status.status.value}, {turns}, {status.speaker_selection.value}"
    if status.current_speaker is not None:
        left = "" if status.seconds_left is None else f" for {duration(status.seconds_left)} more"
        text += f"; {status.current_speaker} has turn {status.turn}{left}"
    return clean(text)


def _line(message: Record) -> str:
    kind = message.message_type.value
    if message.is_damaged:
        return click.style(
            f"{_clock(message.created_at)}  — what {clean(message.sender or '?')} said is damaged", dim=True
        )
    if kind == "user_defined":
        return f"{_clock(message.created_at)}  {clean(message.sender or '?')}: {content(message.content)}"
    return click.style(f"{_clock(message.created_at)}  — {_note(message.content)}", dim=True)


def _note(what: dict[str, Any]) -> str:
    """A note of the SDK's own, as a sentence."""
    agent = clean(str(what.get("agent") or what.get("timed_out_agent") or what.get("host") or ""))
    match what.get("type"):
        case "participant_joined":
            return f"{agent} joined"
        case "participant_left":
            return f"{agent} left" if what.get("how") == "left" else f"{agent} was {what.get('how')}"
        case "timeout":
            return f"{agent} was silent until the turn ended"
        case "turn_skipped":
            return f"the host skipped {agent}"
        case "turn_passed":
            return f"{agent} passed: {clean(str(what.get('reason')))}"
        case "meeting_ended":
            return f"{agent} ended the meeting"
    return content(what)


def _about(entry: Record) -> str:
    if entry.type == "message":
        return content(entry.content)
    turn = entry.data.get("turn")
    return "" if turn is None else f"turn {turn}"


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S.%f}"[:-3]
