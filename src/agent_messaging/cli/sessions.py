"""`agent-messaging sessions`: conversations of two agents, to look at and to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .app import Group
from .names import AGENT
from .narrowing import date_options, history_options, note_more, read_history, state_option
from .opening import use
from .options import Options, page_options, pass_options, thread_option
from .output import clean, content, instant, note, say, show, table
from .pages import format_options, write_page

if TYPE_CHECKING:
    from datetime import datetime

    from .. import AgentMessaging, Record


@click.group(cls=Group)
def sessions() -> None:
    """Look at conversations, follow them, and end them.

    \b
    Example:
      agent-messaging sessions list alice
    """


@sessions.command("list")
@click.argument("agent", type=AGENT)
@click.option(
    "--status",
    type=click.Choice(["open", "active", "waiting", "ended", "all"]),
    default="open",
    show_default=True,
    help="Only those in this state; active and waiting ones are open.",
)
@click.option("--thread", metavar="NAME", help="Only those in this thread.")
@date_options("Opened")
@page_options(100, "so many of the newest")
@click.option("--before", metavar="ID", help="Only those opened before this one.")
@pass_options
def list_(
    options: Options,
    agent: str,
    status: str,
    thread: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
    before: str | None,
) -> None:
    """List an agent's sessions, newest first, with who waits for whom: the open ones, if not said otherwise.

    \b
    Examples:
      agent-messaging sessions list alice
      agent-messaging sessions list alice --status ended --since 7d
    """
    found = use(
        options,
        lambda sdk: sdk.conversation.list_sessions(
            agent,
            status=None if status == "all" else status,
            thread=thread,
            date_from=since,
            date_to=until,
            limit=limit,
            offset=offset,
            before=before,
        ),
    )
    rows = [
        (
            one.session_id,
            clean(one.other_agent_id or ""),
            clean(one.thread or ""),
            one.status.value,
            one.locked_by or "",
            instant(one.created_at),
        )
        for one in found
    ]
    columns = ("id", "with", "thread", "status", "waits", "since")
    where = "" if thread is None else f" in the thread {thread}"
    if status == "open" and not any((since, until, before, offset)):
        empty = f"{agent} has no open session{where}. Its first conversation message opens one."
    else:
        empty = f"{agent} has no such session{where}."

    def human() -> None:
        table(columns, rows, empty=empty)
        if len(found) == limit:
            note(f"There may be more; --before {found[-1].session_id} goes on from here.")

    show(options, {"sessions": found}, human)


@sessions.command("show")
@click.argument("id")
@click.option("--unread", is_flag=True, help="Only messages that are unread.")
@state_option
@history_options
@pass_options
def show_(options: Options, /, id: str, unread: bool, states: tuple[str, ...], **given: Any) -> None:
    """Show what was said in a session, oldest first; it marks nothing as read.

    \b
    Examples:
      agent-messaging sessions show ID
      agent-messaging sessions show ID --newest --limit 20 -m priority=high
    """
    how = read_history(**given)

    async def look(sdk: AgentMessaging) -> tuple[Record, list[Record]]:
        info = await sdk.conversation.get_session_info(id)
        look = sdk.conversation.get_messages_in_session
        return info, await look(id, include_read=not unread, states=states or None, **how)

    info, messages = use(options, look)

    def human() -> None:
        waits = f", {info.locked_by} waits" if info.locked_by else ""
        thread = "" if info.thread is None else f", thread {clean(info.thread)}"
        say(f"{info.agent_a.id} and {info.agent_b.id}{thread}: {info.status.value}{waits}, {info.unread_count} unread")
        rows = [
            (
                instant(one.created_at),
                clean(one.sender_id or ""),
                _type(one),
                "" if one.is_read else "unread",
                content(one.content),
            )
            for one in messages
        ]
        table(("at", "from", "type", "", "content"), rows, empty="No messages.")
        note_more(messages, how)

    show(options, {"session": info, "messages": messages}, human)


def _type(message: Record) -> str:
    """Who has had it, of an ask that was passed on; else who wrote it, if that is not the application."""
    if message.way:
        return clean(" → ".join(message.way))
    return "" if message.message_type.value == "user_defined" else str(message.message_type.value)


@sessions.command()
@click.argument("id")
@format_options
@pass_options
def export(options: Options, id: str, format: str, target: str | None) -> None:
    """Write a session as a page for people: Markdown, or one HTML file. It marks nothing as read.

    \b
    Example:
      agent-messaging sessions export ID --format html -o talk.html
    """
    from ..messaging.transcripts import session_pieces

    write_page(options, lambda sdk: session_pieces(sdk.conversation, id, format), target)


@sessions.command()
@click.argument("agent", type=AGENT)
@click.argument("other", type=AGENT)
@thread_option
@pass_options
def end(options: Options, agent: str, other: str, thread: str | None) -> None:
    """End the open session of two agents in a thread; whoever waits in it is told.

    \b
    Example:
      agent-messaging sessions end alice bob
    """
    use(options, lambda sdk: sdk.conversation.end_conversation(agent, other, thread=thread))
    where = "" if thread is None else f" in the thread {clean(thread)}"
    ended = {"ended": [agent, other], "thread": thread}
    show(options, ended, lambda: say(f"The conversation of {agent} and {other}{where} is ended."))
