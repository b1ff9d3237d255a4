"""`agent-messaging ask`, `reply`, `forward` and `sessions`: conversations of two agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .app import Command, Group
from .errors import explain
from .narrowing import date_options, history_options, note_more, read_history, state_option
from .opening import use
from .options import Options, metadata_option, page_options, pass_options, payload_options
from .output import clean, content, instant, note, say, show, table, whole
from .pages import format_options, write_page
from .values import hint_at_text, parse_duration, read_metadata, read_payload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .. import AgentMessaging, Outcome, Record

thread_option = click.option("--thread", metavar="NAME", help="The name of the conversation; the main one if left out.")
only_thread_option = click.option("--thread", metavar="NAME", help="Only what is said in this thread.")


@click.command(cls=Command)
@click.argument("sender", metavar="FROM")
@click.argument("recipients", metavar="TO...", nargs=-1, required=True)
@payload_options("The question")
@metadata_option
@click.option("--key", help="Idempotency key: repeating the command with it joins the open ask, or tells how it ended.")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="Wait so long for the answer: 90, 10m, 2h.")
@thread_option
@click.option("--queue", is_flag=True, help="Queue behind an open ask of the two in the thread instead of refusing.")
@click.option(
    "--require-handler/--no-require-handler",
    default=None,
    help="Refuse the ask unless a live process serves the recipient (the default), or ask it all the same.",
)
@click.option(
    "--first", type=click.IntRange(min=1), help="Of several, end when so many have answered; give up the others."
)
@pass_options
def ask(
    options: Options,
    sender: str,
    recipients: tuple[str, ...],
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    timeout: float | None,
    thread: str | None,
    queue: bool,
    require_handler: bool | None,
    first: int | None,
) -> None:
    """Ask an agent as another one, and print its answer; or ask several at once.

    \b
    Examples:
      agent-messaging ask alice support --text 'How do I reset my password?'
      agent-messaging ask alice bob --payload '{"task": "review"}' --timeout 10m --json
      agent-messaging ask alice bob carol --text 'Who is free?' --first 1

    The answer is printed on stdout: text as it is (but for what a terminal would obey), anything else as JSON. The exit
    code is 7 if the recipient's handler failed and 8 if no answer came in time; a late one is kept as an unread
    message. Of several, each has a line with its answer or its error, and the exit code is that of the first error, if
    fewer have answered than were to.
    """
    message = read_payload(text, payload, hint=hint_at_text("ask", sender, recipients))
    extra = read_metadata(metadata)
    how: dict[str, Any] = {"thread": thread, "idempotency_key": key, "require_handler": require_handler}
    if len(recipients) > 1:
        if queue:
            raise click.UsageError("--queue goes with one recipient.", click.get_current_context())
        poll = use(
            options,
            lambda sdk: sdk.conversation.ask_many(sender, recipients, message, timeout, extra, first=first, **how),
        )
        _show_outcomes(options, poll, len(recipients) if first is None else first)
        return
    if first is not None:
        raise click.UsageError("--first goes with several recipients.", click.get_current_context())
    how["wait_for_session"] = queue
    [to] = recipients
    answer = use(options, lambda sdk: sdk.conversation.send_and_wait(sender, to, message, timeout, extra, **how))
    show(options, {"answer": answer}, lambda: say(whole(answer)))


def _show_outcomes(options: Options, outcomes: Sequence[Outcome], wanted: int) -> None:
    errors = [None if one.error is None else explain(one.error) for one in outcomes]
    documents = []
    for one, error in zip(outcomes, errors, strict=True):
        told = None if error is None else dict(zip(("code", "message", "details"), error[:3], strict=True))
        documents.append({"recipient_id": one.recipient, "answer": one.answer, "error": told})
    rows = [
        (one.recipient, "" if error else content(one.answer), clean(error[1]) if error else "")
        for one, error in zip(outcomes, errors, strict=True)
    ]
    show(options, {"outcomes": documents}, lambda: table(("agent", "content", "reason"), rows, empty=""))
    if errors.count(None) < wanted:
        click.get_current_context().exit(next(error[3] for error in errors if error is not None))


@click.command(cls=Command)
@click.argument("sender", metavar="FROM")
@click.argument("recipient", metavar="TO")
@payload_options("The answer")
@click.option("--key", help="Idempotency key: repeating the command with it answers once.")
@click.option("--thread", metavar="NAME", help="The thread in which it waits, where it waits in several.")
@pass_options
def reply(
    options: Options,
    sender: str,
    recipient: str,
    text: str | None,
    payload: str | None,
    key: str | None,
    thread: str | None,
) -> None:
    """Answer an agent that waits, as the one it asked.

    \b
    Example:
      agent-messaging reply bob alice --text 'At four.'

    Who waits for whom is in `agent-messaging sessions list`.
    """
    message = read_payload(text, payload)
    how: dict[str, Any] = {"thread": thread, "idempotency_key": key}
    id = use(options, lambda sdk: sdk.conversation.reply(sender, recipient, message, **how))
    show(options, {"message_id": id}, lambda: say(f"{id}  to {recipient}"))


@click.command(cls=Command)
@click.argument("agent")
@click.argument("id")
@click.argument("to")
@pass_options
def forward(options: Options, agent: str, id: str, to: str) -> None:
    """Pass an open question on to another agent, whose answer the asker gets.

    \b
    Example:
      agent-messaging forward bob 0199d2c4-8f0e-7cc1-b54d-0d5d3c1a7e11 carol

    The ids of the questions that wait for an agent are in `agent-messaging inbox`. One that a handler is at work on is
    left to that. `agent-messaging receipt` shows which way a question went.
    """
    way = use(options, lambda sdk: sdk.conversation.forward(agent, id, to))
    show(options, {"message_id": id, "way": way}, lambda: say(f"{id}  {clean(' → '.join(way))}"))


@click.group(cls=Group)
def sessions() -> None:
    """Look at conversations, and end them.

    \b
    Example:
      agent-messaging sessions list alice
    """


@sessions.command("list")
@click.argument("agent")
@click.option(
    "--status",
    type=click.Choice(["open", "active", "waiting", "ended", "all"]),
    default="open",
    show_default=True,
    help="Only those in this state; active and waiting ones are open.",
)
@only_thread_option
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
      agent-messaging sessions show 01a21376-d11b-7686-85ef-aa97cf6277fe
      agent-messaging sessions show 01a21376-d11b-7686-85ef-aa97cf6277fe --newest --limit 20 -m priority=high
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
      agent-messaging sessions export 01a21376-d11b-7686-85ef-aa97cf6277fe --format html -o talk.html
    """
    from ..messaging.transcripts import session_pieces

    write_page(options, lambda sdk: session_pieces(sdk.conversation, id, format), target)


@sessions.command()
@click.argument("agent")
@click.argument("other")
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
