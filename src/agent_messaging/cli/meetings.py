"""`agent-messaging meetings`: create meetings, look at them, and watch one live."""

from __future__ import annotations

import contextlib
import shutil
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .app import Group
from .narrowing import date_options, history_options, note_more, read_history
from .opening import open_sdk, run, use
from .options import Options, page_options, pass_options
from .output import clean, content, duration, instant, note, print_json, say, shorten, show, table
from .pages import format_options, write_page
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
    """Create and list meetings, show what was said, and watch one live.

    \b
    Example:
      agent-messaging meetings list
    """


@meetings.command()
@click.argument("host")
@click.argument("agents", nargs=-1, metavar="[AGENT]...")
@click.option("--turn-duration", type=parse_duration, metavar="DURATION", help="A turn ends after this time.")
@click.option("--max-turns", type=int, metavar="N", help="The meeting ends with so many turns.")
@click.option("--max-duration", type=parse_duration, metavar="DURATION", help="It ends this time after its start.")
@click.option("--host-names", is_flag=True, help="The host names each speaker; otherwise they follow in order.")
@click.option("--silent-host", is_flag=True, help="The host has no turns of its own.")
@pass_options
def create(
    options: Options,
    host: str,
    agents: tuple[str, ...],
    turn_duration: float | None,
    max_turns: int | None,
    max_duration: float | None,
    host_names: bool,
    silent_host: bool,
) -> None:
    """Create a meeting and invite agents to it. Its host starts it when all attend.

    \b
    Examples:
      agent-messaging meetings create alice bob carol
      agent-messaging meetings create alice bob carol --max-turns 12 --max-duration 10m

    The id of the meeting is printed.
    """
    selection = "host" if host_names else "round_robin"
    id = use(
        options,
        lambda sdk: sdk.meeting.create_meeting(
            host,
            list(agents),
            turn_duration,
            speaker_selection=selection,
            max_turns=max_turns,
            max_duration=max_duration,
            host_speaks=not silent_host,
        ),
    )
    show(options, {"meeting_id": id}, lambda: say(str(id)))


@meetings.command("list")
@click.argument("agent", required=False)
@click.option("--status", type=click.Choice(["created", "ready", "active", "ended"]), help="Only those in this state.")
@date_options("Created")
@page_options(100, "so many of the newest")
@click.option("--before", metavar="ID", help="Only those created before this one.")
@pass_options
def list_(
    options: Options,
    /,
    agent: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    **page: Any,
) -> None:
    """List meetings, newest first: of an agent, or all.

    \b
    Examples:
      agent-messaging meetings list alice --status active
      agent-messaging meetings list --since 7d --limit 20
    """
    found = use(
        options,
        lambda sdk: sdk.meeting.list_meetings(agent, status=status, date_from=since, date_to=until, **page),
    )
    rows = [
        (
            str(one.meeting_id),
            clean(one.host_id or ""),
            one.status.value if one.end_reason is None else f"ended: {one.end_reason.value}",
            str(one.turn or ""),
            clean(one.current_speaker or ""),
            instant(one.created_at),
        )
        for one in found
    ]
    columns = ("id", "host", "status", "turn", "speaker", "since")
    empty = "No meetings. To make one: agent-messaging meetings create HOST AGENT..."

    def human() -> None:
        table(columns, rows, empty=empty)
        if found and len(found) == page["limit"]:
            note(f"There may be more; --before {found[-1].meeting_id} goes on from here.")

    show(options, {"meetings": found}, human)


@meetings.command()
@click.argument("id")
@format_options
@pass_options
def export(options: Options, id: str, format: str, target: str | None) -> None:
    """Write a meeting as a page for people: Markdown, or one HTML file.

    \b
    Example:
      agent-messaging meetings export 01a213a9-26e2-731f-bd6e-7617e4c78203 --format html -o meeting.html
    """
    from ..messaging.transcripts import meeting_pieces

    write_page(options, lambda sdk: meeting_pieces(sdk.meeting, id, format), target)


@meetings.command("show")
@click.argument("id")
@pass_options
def show_(options: Options, id: str) -> None:
    """Show how a meeting stands: who is in it, who speaks, and how long.

    \b
    Example:
      agent-messaging meetings show 01a213a9-26e2-731f-bd6e-7617e4c78203
    """
    found = use(options, lambda sdk: _status(sdk, id))

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
@history_options
@pass_options
def history(options: Options, /, id: str, **given: Any) -> None:
    """Show what was said in a meeting, oldest first, with joins, leaves and timeouts.

    \b
    Examples:
      agent-messaging meetings history 01a213a9-26e2-731f-bd6e-7617e4c78203
      agent-messaging meetings history 01a213a9-26e2-731f-bd6e-7617e4c78203 --type user_defined --newest --limit 20
    """
    how = read_history(**given)
    narrowed = any(how.values())
    messages = use(options, lambda sdk: sdk.meeting.get_meeting_history(id, **how))

    def human() -> None:
        for one in messages:
            say(_line(one))
        if not messages:
            say("Nothing was said yet." if not narrowed else "Nothing such was said.")
        note_more(messages, how)

    show(options, {"messages": messages}, human)


@meetings.command()
@click.argument("id")
@pass_options
def timeline(options: Options, id: str) -> None:
    """Show a meeting's messages and events in their order.

    \b
    Example:
      agent-messaging meetings timeline 01a213a9-26e2-731f-bd6e-7617e4c78203
    """
    found = use(options, lambda sdk: sdk.meeting.get_meeting_timeline(id))

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
@pass_options
def watch(options: Options, id: str, timeout: float | None) -> None:
    """Watch a meeting: the transcript as it grows, who speaks, and the time that is left. Ends with the meeting.

    \b
    Examples:
      agent-messaging meetings watch 01a213a9-26e2-731f-bd6e-7617e4c78203
      agent-messaging meetings watch 01a213a9-26e2-731f-bd6e-7617e4c78203 --json

    On a terminal the last line shows the speaker and the time left. With --json each message is one line of JSON.
    """
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
    if status.max_turns is not None:
        text += f", {status.turns_taken} of {status.max_turns} turns taken"
    if status.max_duration is not None:
        text += f", at most {duration(status.max_duration)}"
    if status.current_speaker is not None:
        left = "" if status.seconds_left is None else f" for {duration(status.seconds_left)} more"
        text += f"; {status.current_speaker} has turn {status.turn}{left}"
    if status.end_reason is not None:
        from ..messaging.transcripts.notes import ENDS

        text += f"; it ended: {ENDS[status.end_reason.value]}"
    return clean(text)


def _line(message: Record) -> str:
    kind = message.message_type.value
    if message.is_damaged:
        return click.style(
            f"{_clock(message.created_at)}  — what {clean(message.sender or '?')} said is damaged", dim=True
        )
    if kind == "user_defined":
        return f"{_clock(message.created_at)}  {clean(message.sender or '?')}: {content(message.content)}"
    return click.style(f"{_clock(message.created_at)}  — {_note(message.content, message.sender or '?')}", dim=True)


def _note(what: Any, sender: str) -> str:
    """A note of the SDK's own, as a sentence."""
    from ..messaging.transcripts.notes import spell

    sentence = spell(what, sender)
    return content(what) if sentence is None else clean(sentence)


def _about(entry: Record) -> str:
    from ..messaging.transcripts.notes import ENDS

    if entry.type == "message":
        return content(entry.content)
    turn, reason = entry.data.get("turn"), entry.data.get("reason")
    return ENDS.get(str(reason), "") if turn is None else f"turn {turn}"


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S.%f}"[:-3]
