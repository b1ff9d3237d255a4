"""`agent-messaging topics`: messages to whoever is subscribed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from .app import Group
from .commands import command
from .external import read_names
from .names import AGENT
from .opening import use
from .options import Options, page_options, pass_options
from .output import instant, note, say, show, table
from .send import Sent, find_out, note_options, report
from .values import read_metadata, read_payload

if TYPE_CHECKING:
    from .. import AgentMessaging, Subscription


@click.group(cls=Group)
def topics() -> None:
    """Publish to topics, and subscribe agents to them. A topic is words with dots between them.

    \b
    Example:
      agent-messaging topics subscribe billing 'orders.*.created'
      agent-messaging topics publish shop orders.eu.created --text 'Order 17'
    """


@topics.command("list")
@click.argument("agent", required=False, type=AGENT)
@click.option("--topic", metavar="TOPIC", help="Only those that match it: who would get what is published there.")
@page_options(100)
@pass_options
def list_(options: Options, agent: str | None, topic: str | None, limit: int, offset: int) -> None:
    """List subscriptions, of one agent or of all, in order of their patterns.

    \b
    Examples:
      agent-messaging topics list billing
      agent-messaging topics list --topic orders.eu.created
    """

    async def look(sdk: AgentMessaging) -> list[Subscription]:
        return await sdk.topics.list(agent, topic=topic, limit=limit, offset=offset)

    found = use(options, look)
    whose, what = "Nobody is" if agent is None else f"Agent {agent} is not", "" if topic is None else f" to {topic}"
    empty = f"{whose} subscribed{what}. To subscribe: {command('topics subscribe', agent or 'AGENT', 'orders.>')}"
    rows = [(one.pattern, one.agent_id, instant(one.created_at)) for one in found]
    show(options, {"subscriptions": found}, lambda: table(("pattern", "agent", "since"), rows, empty=empty))


@topics.command()
@click.argument("agent", type=AGENT)
@click.argument("pattern")
@pass_options
def subscribe(options: Options, agent: str, pattern: str) -> None:
    """Subscribe an agent to the topics that a pattern matches. Repeating it changes nothing.

    In a pattern * stands for one word, and > at its end for one or more. Quote it: a shell expands both.

    \b
    Examples:
      agent-messaging topics subscribe billing 'orders.*.created'
      agent-messaging topics subscribe audit 'orders.>'
    """
    is_new = use(options, lambda sdk: sdk.topics.subscribe(agent, pattern))
    document = {"agent_id": agent, "pattern": pattern, "is_new": is_new}
    already = "" if is_new else " already"
    show(options, document, lambda: say(f"Agent {agent} is{already} subscribed to {pattern}."))


@topics.command()
@click.argument("agent", type=AGENT)
@click.argument("pattern")
@pass_options
def unsubscribe(options: Options, agent: str, pattern: str) -> None:
    """End a subscription, named as it was made. What was published before is still delivered.

    \b
    Example:
      agent-messaging topics unsubscribe billing 'orders.*.created'
    """
    ended = use(options, lambda sdk: sdk.topics.unsubscribe(agent, pattern))
    document = {"agent_id": agent, "pattern": pattern, "ended": ended}

    def human() -> None:
        if ended:
            say(f"Agent {agent} is no longer subscribed to {pattern}.")
        else:
            say(f"Agent {agent} was not subscribed to {pattern}. See: {command('topics list', agent)}")

    show(options, document, human)


@topics.command()
@click.argument("sender", metavar="FROM", type=AGENT)
@click.argument("topic")
@note_options
@pass_options
def publish(
    options: Options,
    sender: str,
    topic: str,
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    expires_in: float | None,
    deliver_at: datetime | None,
    wait: float | None,
) -> None:
    """Send a message to every agent that is subscribed to a topic, but to the sender: to all of them or to none.

    \b
    Examples:
      agent-messaging topics publish shop orders.eu.created --text 'Order 17'
      agent-messaging topics publish shop orders.eu.created --payload '{"id": 17}'

    The ids of the messages are printed, one for each subscriber; `agent-messaging receipt ID` follows one of them. With
    --wait the exit code tells: 0 all handled, 7 one died, expired or was withdrawn, 8 not handled in time (they go on).
    """
    message, extra = read_payload(text, payload), read_metadata(metadata)

    async def work(sdk: AgentMessaging) -> Sent:
        ids = await sdk.topics.publish(
            sender, topic, message, extra, idempotency_key=key, expires_in=expires_in, deliver_at=deliver_at
        )
        rows = {row.message_id: row.recipient_id for row in await sdk.store.deliveries.list_receipts(ids)}
        names = await read_names(sdk.store, set(rows.values()))
        sent = {id: names[rows[id]] for id in ids if rows.get(id) in names}  # who was removed has none any more
        return await find_out(sdk, sent, wait)

    sent = use(options, work)
    if not sent.recipients and not options.json:
        say(f"Nobody is subscribed to {topic}; nothing was stored.")
        note(f"Who is subscribed to what: {command('topics list')}")
    report(options, sent)
