"""`agent-messaging inbox`: what an agent has received, of every kind, and what waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..arguments import check_page, check_thread, parse_id
from ..kinds import FACTS, KIND_OF_WORD
from .app import Command
from .commands import command
from .mailbox import kinds_of, line_of, read_mailbox, word_for
from .names import AGENT
from .narrowing import date_options, filter_option, state_option
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, count, instant, note, say, show, table
from .values import read_metadata
from .waiting import Duty, read_duties

if TYPE_CHECKING:
    from datetime import datetime

    from .. import AgentMessaging

SHOWN = 5
"""Of what waits, so many lines stand under the list."""


@click.command(cls=Command)
@click.argument("agent", type=AGENT)
@click.option("--kind", "words", type=click.Choice([*KIND_OF_WORD]), multiple=True, help="Only this kind. Repeatable.")
@click.option("--unread", is_flag=True, help="Only notes and conversation messages not marked as read.")
@click.option("--from", "sender", metavar="AGENT", type=AGENT, help="Only what this agent sent.")
@click.option("--waiting", is_flag=True, help="Only what waits for the agent to act, with the command that does it.")
@click.option("--thread", metavar="NAME", help="Only what was said in this thread of a conversation.")
@state_option
@filter_option
@date_options("Sent")
@click.option("--before", metavar="ID", help="Only messages older than this one.")
@click.option("--mark-read", is_flag=True, help="Then mark all of the agent's notes as read, also those not listed.")
@page_options(20, "so many of the newest")
@pass_options
def inbox(
    options: Options,
    agent: str,
    words: tuple[str, ...],
    unread: bool,
    sender: str | None,
    waiting: bool,
    thread: str | None,
    states: tuple[str, ...],
    metadata: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    before: str | None,
    mark_read: bool,
    limit: int,
    offset: int,
) -> None:
    """List what an agent received, newest first: notes, messages of its conversations, invitations to meetings and
    turns in them. Looking handles nothing, settles nothing and answers nothing.

    \b
    Examples:
      agent-messaging inbox bob --unread --from alice
      agent-messaging inbox bob --waiting
      agent-messaging inbox bob --kind note --json | jq -r '.messages[].content'
      agent-messaging inbox bob -m priority=high --since 7d

    Under the list stands what waits for the agent, each with the command that does it: questions whose senders still
    wait, invitations, meetings that it can start, and turns that it has.
    """
    check_page(limit, offset)
    check_thread(thread)
    if waiting and any((unread, sender, states, metadata, since, until, before, mark_read)):
        raise click.UsageError("--waiting goes with --kind and --thread alone.", click.get_current_context())
    position = None if before is None else parse_id(before, "before")
    filter = read_metadata(metadata)

    async def look(sdk: AgentMessaging) -> tuple[list[dict[str, Any]], list[Duty], int, int | None]:
        from ..messaging.listing import make_wanted, refuse_position
        from ..storage.ports import Role

        wanted = make_wanted(date_from=since, date_to=until, states=states or None, metadata_filter=filter)
        if position is not None and await sdk.store.messages.find_seq(position) is None:
            raise refuse_position("before", position)
        kinds = [kind for kind in kinds_of(words) if not unread or FACTS[kind].is_sent]
        owner = await sdk.get_agent(agent)
        id, duties = str(owner.id), await read_duties(sdk, owner, kinds_of(words), thread=thread)
        sender_id = None if sender is None else str((await sdk.get_agent(sender)).id)
        if waiting:
            return [], duties, 0, None
        page: dict[str, Any] = {"limit": limit, "offset": offset, "thread": thread, "before": position}
        found = await read_mailbox(sdk, id, kinds, unread=unread, wanted=wanted, sender_id=sender_id, **page)
        counted = sdk.store.messages.count_messages
        there = [await counted(id, Role.RECIPIENT, kind, read=False if unread else None) for kind in kinds]
        return found, duties, sum(there), await sdk.one_way.mark_messages_read(agent) if mark_read else None

    found, duties, there, marked = use(options, look)
    if waiting:
        show(options, {"waiting": duties}, lambda: _print_waiting(agent, duties))
        return
    document: dict[str, Any] = {"messages": found, "waiting": duties}
    if marked is not None:
        document["marked_read"] = marked
    rows = [
        (
            instant(one["created_at"]),
            word_for(one),
            clean(one["sender_id"] or ""),
            _state(one),
            line_of(one),
            one["message_id"],
        )
        for one in found
    ]

    is_narrowed = any((sender, thread, states, metadata, since, until, before))

    def human() -> None:
        what = "such messages" if words or is_narrowed else "messages"
        empty = f"{agent} has no unread {what}." if unread else f"{agent} has received no {what} yet."
        table(("at", "kind", "from", "", "content", "id"), rows, empty=empty)
        if offset + len(found) < there and len(found) == limit:
            shown = "There may be more" if is_narrowed else f"{len(found)} of {there:,}"
            note(f"{shown}; --before {found[-1]['message_id']} goes on from here.")
        for duty in duties[:SHOWN]:
            note(str(duty))
        if len(duties) > SHOWN:
            note(f"{len(duties) - SHOWN:,} more wait for {agent}: {command('inbox', agent)} --waiting")
        if marked is not None:
            note(f"Marked {count(marked, 'note')} as read.")

    show(options, document, human)


def _print_waiting(agent: str, duties: list[Duty]) -> None:
    for duty in duties:
        say(str(duty))
    if not duties:
        say(f"Nothing waits for {agent}.")


def _state(message: dict[str, Any]) -> str:
    if message["ask"] is not None:
        return "waits" if message["reply"] is not None else str(message["ask"].value).replace("_", " ")
    return "new" if message["read_at"] is None and FACTS[message["kind"]].is_sent else ""
