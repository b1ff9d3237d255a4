"""`agent-messaging search`: messages found again by their words, and by what was sent along."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..arguments import check_page
from .app import Command
from .names import AGENT, MEETING
from .narrowing import date_options, filter_option
from .opening import use
from .options import Options, pass_options
from .output import clean, content, instant, note, say, show
from .values import read_metadata

if TYPE_CHECKING:
    from .. import AgentMessaging, Record

KINDS = {"note": "one_way", "conversation": "conversation", "meeting": "meeting"}
"""What is searched, by the words of the command line."""


@click.command(cls=Command)
@click.argument("query", nargs=-1)
@click.option("--from", "sender", metavar="AGENT", type=AGENT, help="Sent by this agent.")
@click.option("--to", "recipient", metavar="AGENT", type=AGENT, help="Sent to this agent.")
@click.option("--kind", "words", type=click.Choice([*KINDS]), multiple=True, help="Only this kind. Repeatable.")
@click.option("--session", metavar="ID", help="Only in this conversation.")
@click.option("--meeting", metavar="ID", type=MEETING, help="Only in this meeting.")
@click.option("--thread", help="Only in this thread of conversations.")
@filter_option
@date_options("Sent")
@click.option("--limit", default=20, show_default=True, help="At most so many, up to 500.")
@click.option("--offset", default=0, help="Pass over so many of the best.")
@pass_options
def search(
    options: Options,
    query: tuple[str, ...],
    sender: str | None,
    recipient: str | None,
    words: tuple[str, ...],
    session: str | None,
    meeting: str | None,
    thread: str | None,
    metadata: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
) -> None:
    """Find messages by their words, the best first: notes, conversations, and what was said in meetings.

    A query is words that all occur, "phrases", OR, -word for what does not occur, begin* and from:AGENT, to:AGENT. With
    --metadata it may be left out: then the newest come first.

    \b
    Examples:
      agent-messaging search database migration
      agent-messaging search '"due date" OR invoice' --from alice --since 7d
      agent-messaging search -m priority=high --json -- report -draft
      agent-messaging search -m '{"ticket__exists": true}' --to bob
    """
    check_page(limit, offset, max_limit=500)
    filter = read_metadata(metadata)
    narrowing: dict[str, Any] = {
        "sender_id": sender,
        "recipient_id": recipient,
        "session_id": session,
        "meeting_id": meeting,
        "limit": limit + (limit < 500),  # one more tells whether there are others
        "offset": offset,
        "kinds": [KINDS[word] for word in words] or None,
        "thread": thread,
        "date_from": since,
        "date_to": until,
    }

    async def look(sdk: AgentMessaging) -> list[Record]:
        if filter and not query:
            return await sdk.get_messages_by_metadata(filter, **narrowing)
        return await sdk.search_messages(" ".join(query), metadata_filter=filter, **narrowing)

    found = use(options, look)
    matches = found[:limit]

    def human() -> None:
        for match in matches:
            _print(match)
        if not matches:
            say("Nothing matches." if not offset else "Nothing more matches.")
        if len(found) > limit:
            note(f"There are more; --offset {offset + limit} shows them.")

    show(options, {"matches": matches}, human)


def _print(match: Any) -> None:
    word = next(word for word, kind in KINDS.items() if kind == match.kind)
    place = "in the meeting" if match.recipient is None else f"→ {clean(match.recipient)}"
    say(f"{instant(match.timestamp)}  {word}  {clean(match.sender or '')} {place}  {match.id}")
    text, pieces, at = match.excerpt, [], 0
    for start, end in match.snippet_hits:
        pieces += [clean(text[at:start]), click.style(clean(text[start:end]), fg="yellow", bold=True)]
        at = end
    say(f"    {''.join([*pieces, clean(text[at:])]) or content(match.content)}")
