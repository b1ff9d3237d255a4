"""`agent-messaging receive`: take the notes that wait for an agent which no program serves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .app import Command
from .names import AGENT
from .opening import use
from .options import Options, pass_options
from .output import clean, content, note, say, show
from .spoken import clock
from .values import parse_duration

if TYPE_CHECKING:
    from .. import AgentMessaging
    from ..messaging.pulling import ReceivedMessage

NOTHING = 8
"""The exit code where nothing came in time: that of TimeoutError."""


@click.command(cls=Command)
@click.argument("agent", type=AGENT)
@click.option("--limit", default=1, show_default=True, help="At most so many, up to 1000.")
@click.option(
    "--timeout",
    type=parse_duration,
    default="0",
    metavar="DURATION",
    help="Wait so long for the first: 30, 5m. Default: only look.",
)
@pass_options
def receive(options: Options, agent: str, limit: int, timeout: float) -> None:
    """Take the oldest notes that wait for an agent, print them, and settle them as handled.

    \b
    Examples:
      agent-messaging receive bob --limit 10
      agent-messaging receive bob --timeout 1h --json | jq '.messages[0].content'

    It is for an agent that no program serves: a note that is taken goes to no handler. It is settled when it has been
    printed. If this command is cut off before, it comes back. The exit code is 8 if there was none in time.
    `agent-messaging inbox` only looks.
    """

    async def take(sdk: AgentMessaging) -> bool:
        found = await sdk.receive(agent, limit, timeout)
        if found:
            show(options, {"messages": [_document(one) for one in found]}, lambda: _print(found))
            sys.stdout.flush()
        for one in found:
            await one.done()
        return bool(found)

    if not use(options, take):
        show(options, {"messages": []}, lambda: note(f"No note waits for {clean(agent)}."))
        click.get_current_context().exit(NOTHING)


def _document(message: ReceivedMessage[Any]) -> dict[str, Any]:
    context = message.context
    return {
        "message_id": message.message_id,
        "sender_id": context.sender_id,
        "recipient_id": context.receiver_id,
        "content": message.content,
        "metadata": context.metadata,
        "attempt": context.attempt,
        "created_at": message.created_at,
    }


def _print(messages: list[ReceivedMessage[Any]]) -> None:
    for one in messages:
        say(f"{clock(one.created_at)}  {clean(one.context.sender_id)}: {content(one.content)}")
