"""`agent-messaging inbox`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..arguments import check_page, check_thread
from ..kinds import FACTS, KIND_OF_WORD
from .app import Command
from .mailbox import kinds_of, line_of, read_mailbox, waits_for, word_for
from .opening import use
from .options import Options, page_options, pass_options
from .output import clean, count, instant, note, show, table

if TYPE_CHECKING:
    from .. import AgentMessaging


@click.command(cls=Command)
@click.argument("agent")
@click.option("--kind", "words", type=click.Choice([*KIND_OF_WORD]), multiple=True, help="Only this kind. Repeatable.")
@click.option("--unread", is_flag=True, help="Only notes and conversation messages not marked as read.")
@click.option("--thread", metavar="NAME", help="Only what was said in this thread of a conversation.")
@click.option("--mark-read", is_flag=True, help="Then mark all of the agent's notes as read, also those not listed.")
@page_options(20, "so many of the newest")
@pass_options
def inbox(
    options: Options,
    agent: str,
    words: tuple[str, ...],
    unread: bool,
    thread: str | None,
    mark_read: bool,
    limit: int,
    offset: int,
) -> None:
    """List what an agent received, newest first: notes, messages of its conversations, invitations to meetings and
    turns in them. Looking handles nothing, settles nothing and answers nothing.

    \b
    Examples:
      agent-messaging inbox bob --unread
      agent-messaging inbox bob --kind note --json | jq -r '.messages[].content'

    Under the list stands the command that answers each question whose sender still waits.
    """
    check_page(limit, offset)
    check_thread(thread)

    async def look(sdk: AgentMessaging) -> tuple[list[dict[str, Any]], int, int | None]:
        from ..storage.ports import Role

        kinds = [kind for kind in kinds_of(words) if not unread or FACTS[kind].is_sent]
        id = str((await sdk.get_agent(agent)).id)
        found = await read_mailbox(sdk, id, kinds, unread=unread, limit=limit, offset=offset, thread=thread)
        counted = sdk.store.messages.count_messages
        there = [await counted(id, Role.RECIPIENT, kind, read=False if unread else None) for kind in kinds]
        return found, sum(there), await sdk.one_way.mark_messages_read(agent) if mark_read else None

    found, there, marked = use(options, look)
    document: dict[str, Any] = {"messages": found}
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

    def human() -> None:
        what = "such messages" if words or thread is not None else "messages"
        empty = f"{agent} has no unread {what}." if unread else f"{agent} has received no {what} yet."
        table(("at", "kind", "from", "", "content", "id"), rows, empty=empty)
        if offset + len(found) < there and len(found) == limit:
            shown = f"{len(found)} of {there:,}" if thread is None else "There may be more in this thread"
            note(f"{shown}; --limit and --offset show the others.")
        for one in found:
            if one["reply"] is not None:
                note(waits_for(one))
        if marked is not None:
            note(f"Marked {count(marked, 'note')} as read.")

    show(options, document, human)


def _state(message: dict[str, Any]) -> str:
    if message["ask"] is not None:
        return "waits" if message["reply"] is not None else str(message["ask"].value).replace("_", " ")
    return "new" if message["read_at"] is None and FACTS[message["kind"]].is_sent else ""
