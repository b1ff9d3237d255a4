"""`agent-messaging meetings`: create meetings, and look at them. `taking_part` and `watching` have the other verbs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .app import Group
from .commands import command
from .names import AGENT, MEETING
from .narrowing import date_options, history_options, note_more, read_history
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, content, duration, instant, note, say, show, table
from .pages import format_options, write_page
from .spoken import clock, line_of
from .values import parse_duration

if TYPE_CHECKING:
    from .. import AgentMessaging
    from ..models import Record


@click.group(cls=Group)
def meetings() -> None:
    """Hold meetings, in which one speaks at a time: create and start them, attend, speak, and see what was said.

    \b
    Example:
      agent-messaging meetings create alice bob carol
      agent-messaging meetings attend bob ID
      agent-messaging meetings start alice ID --text 'Where do we eat?'
      agent-messaging meetings speak bob ID --text 'At the harbour.'
      agent-messaging meetings watch ID
    """


@meetings.command()
@click.argument("host", type=AGENT)
@click.argument("agents", nargs=-1, metavar="[AGENT]...", type=AGENT)
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
      agent-messaging meetings create alice bob carol --max-turns 12

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
@click.argument("agent", required=False, type=AGENT)
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
    empty = f"No meetings. To make one: {command('meetings create', 'HOST', 'AGENT...')}"

    def human() -> None:
        table(columns, rows, empty=empty)
        if found and len(found) == page["limit"]:
            note(f"There may be more; --before {found[-1].meeting_id} goes on from here.")

    show(options, {"meetings": found}, human)


@meetings.command()
@click.argument("id", type=MEETING)
@format_options
@pass_options
def export(options: Options, id: str, format: str, target: str | None) -> None:
    """Write a meeting as a page for people: Markdown, or one HTML file.

    \b
    Example:
      agent-messaging meetings export ID --format html -o meeting.html
    """
    from ..messaging.transcripts import meeting_pieces

    write_page(options, lambda sdk: meeting_pieces(sdk.meeting, id, format), target)


@meetings.command("show")
@click.argument("id", type=MEETING)
@pass_options
def show_(options: Options, id: str) -> None:
    """Show how a meeting stands: who is in it, who speaks, and how long.

    \b
    Example:
      agent-messaging meetings show ID
    """
    found = use(options, lambda sdk: status_of(sdk, id))

    def human() -> None:
        say(headline(found))
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
@click.argument("id", type=MEETING)
@history_options
@pass_options
def history(options: Options, /, id: str, **given: Any) -> None:
    """Show what was said in a meeting, oldest first, with joins, leaves and timeouts.

    \b
    Examples:
      agent-messaging meetings history ID
      agent-messaging meetings history ID --type user_defined --newest --limit 20
    """
    how = read_history(**given)
    narrowed = any(how.values())
    messages = use(options, lambda sdk: sdk.meeting.get_meeting_history(id, **how))

    def human() -> None:
        for one in messages:
            say(line_of(one))
        if not messages:
            say("Nothing was said yet." if not narrowed else "Nothing such was said.")
        note_more(messages, how)

    show(options, {"messages": messages}, human)


@meetings.command()
@click.argument("id", type=MEETING)
@pass_options
def timeline(options: Options, id: str) -> None:
    """Show a meeting's messages and events in their order.

    \b
    Example:
      agent-messaging meetings timeline ID
    """
    found = use(options, lambda sdk: sdk.meeting.get_meeting_timeline(id))

    def human() -> None:
        rows = [
            (
                clock(one.timestamp),
                one.type,
                one.event_type.value if one.type == "event" else one.message_type.value,
                clean((one.agent_id if one.type == "event" else one.sender_id) or ""),
                _about(one),
            )
            for one in found.timeline
        ]
        table(("at", "", "what", "who", "content"), rows, empty="Nothing has happened yet.")

    show(options, {"timeline": found}, human)


async def status_of(sdk: AgentMessaging[Any], id: str) -> Record:
    """How a meeting stands.

    Raises:
        MeetingNotFoundError: There is no such meeting.
    """
    from .. import MeetingNotFoundError

    found = await sdk.meeting.get_meeting_status(id)
    if found is None:
        raise MeetingNotFoundError(meeting_id=id)
    return found


CHOOSING = {
    "round_robin": "speakers in order",
    "host": "the host names speakers",
    "custom": "a function names speakers",
}


def headline(status: Record) -> str:
    """How a meeting stands, on one line."""
    turns = "turns do not end by time" if status.turn_duration is None else f"turns of {duration(status.turn_duration)}"
    text = f"{status.host_id}'s meeting, "
    if status.end_reason is None:
        text += f"{status.status.value}, "
    text += f"{turns}, {CHOOSING[status.speaker_selection.value]}"
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


def _about(entry: Record) -> str:
    from ..messaging.transcripts.notes import ENDS

    if entry.type == "message":
        return content(entry.content)
    turn, reason = entry.data.get("turn"), entry.data.get("reason")
    return ENDS.get(str(reason), "") if turn is None else f"turn {turn}"
