"""`agent-messaging ask`, `reply`, `write`, `forward` and `refuse`: what agents say to each other in conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..kinds import FACTS, Kind
from .app import Command
from .errors import explain
from .names import AGENT
from .opening import use
from .options import Options, metadata_option, pass_options, payload_options, thread_option
from .output import clean, content, say, show, table, whole
from .send import Sent, find_out, note_options, report
from .values import hint_at_text, parse_duration, read_metadata, read_payload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from .. import AgentMessaging, Outcome
    from ..storage.ports import MessageRow


@click.command(cls=Command)
@click.argument("sender", metavar="FROM", type=AGENT)
@click.argument("recipients", metavar="TO...", nargs=-1, required=True, type=AGENT)
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
      agent-messaging ask alice bob --payload '{"task": "review"}' --timeout 10m
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
@click.argument("sender", metavar="FROM", type=AGENT)
@click.argument("recipient", metavar="TO", type=AGENT)
@payload_options("The answer")
@metadata_option
@click.option("--key", help="Idempotency key: repeating the command with it answers once.")
@click.option("--thread", metavar="NAME", help="The thread in which it waits, where it waits in several.")
@pass_options
def reply(
    options: Options,
    sender: str,
    recipient: str,
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    thread: str | None,
) -> None:
    """Answer an agent that waits, as the one it asked; or answer any message, by its id.

    \b
    Examples:
      agent-messaging reply bob alice --text 'At four.'
      agent-messaging reply bob alice --thread lunch --text 'At noon.'
      agent-messaging reply bob ID --text 'At four.'

    What waits for an agent is in `agent-messaging inbox`, with the ids. The answer to a question is what its asker
    waits for; that to a message is written in the thread in which it was said; that to a note is a note.
    """
    message, extra, ctx = read_payload(text, payload), read_metadata(metadata), click.get_current_context()

    async def answer(sdk: AgentMessaging) -> tuple[str, str]:
        received = await _find_received(sdk, sender, recipient)
        if received is None:
            how: dict[str, Any] = {"thread": thread, "idempotency_key": key}
            return await sdk.conversation.reply(sender, recipient, message, extra, **how), recipient
        if thread is not None:
            raise click.UsageError("--thread goes with the name of an agent: a message has a thread of its own.", ctx)
        return await _answer(sdk, sender, received, message, extra, key)

    id, to = use(options, answer)
    show(options, {"message_id": id, "recipient_id": to}, lambda: say(f"{id}  to {clean(to)}"))


async def _find_received(sdk: AgentMessaging, agent: str, id: str) -> MessageRow | None:
    """The message that an agent has received under this id; None where that is the name of an agent, or no id.

    Raises:
        MessageNotFoundError: The agent has received none of this id.
    """
    from .. import InvalidArgumentError, MessageNotFoundError
    from ..arguments import parse_id

    try:
        wanted = parse_id(id, "recipient")
    except InvalidArgumentError:
        return None
    if await sdk.store.directory.find_agents([id]):
        return None
    recipient = str((await sdk.get_agent(agent)).id)
    found = await sdk.store.messages.find_message(wanted)
    if found is None or found.recipient_id != recipient or not FACTS[found.kind].is_sent:
        raise MessageNotFoundError(message_id=wanted)
    return found


async def _answer(
    sdk: AgentMessaging, agent: str, received: MessageRow, message: Any, metadata: Any, key: str | None
) -> tuple[str, str]:
    """Answer a message in the way in which it was said. Return the id of the answer, and who gets it."""
    from .. import AgentNotFoundError

    senders = await sdk.store.directory.find_agents_by_id([received.sender_id])
    if not senders:
        raise AgentNotFoundError(f"The sender of message {received.message_id} was removed: nobody can be answered.")
    to = senders[0].external_id
    if received.kind is Kind.ONE_WAY:
        how: dict[str, Any] = {"idempotency_key": key, "require_handler": False}
        [id] = await sdk.one_way.send(agent, [to], message, metadata, **how)
        return id, to
    answered = received.message_id
    if await sdk.store.sessions.find_asks([answered]):
        answer = sdk.conversation.reply
        return await answer(agent, to, message, metadata, message_id=answered, idempotency_key=key), to
    write = sdk.conversation.send_no_wait
    return await write(agent, to, message, metadata, thread=received.thread or None, idempotency_key=key), to


@click.command(cls=Command)
@click.argument("sender", metavar="FROM", type=AGENT)
@click.argument("recipient", metavar="TO", type=AGENT)
@thread_option
@note_options
@pass_options
def write(
    options: Options,
    sender: str,
    recipient: str,
    thread: str | None,
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    expires_in: float | None,
    deliver_at: datetime | None,
    wait: float | None,
) -> None:
    """Write to an agent in the conversation of the two, and go on; it answers some time, or never.

    \b
    Examples:
      agent-messaging write alice bob --text 'The draft is on its way.'
      agent-messaging write alice bob --thread lunch --text 'The usual place?'

    `agent-messaging sessions watch` follows the conversation. An agent that waits for this sender, because it has asked
    it, has `agent-messaging reply`.
    """
    message, extra = read_payload(text, payload), read_metadata(metadata)

    async def work(sdk: AgentMessaging) -> Sent:
        id = await sdk.conversation.send_no_wait(
            sender,
            recipient,
            message,
            extra,
            thread=thread,
            idempotency_key=key,
            expires_in=expires_in,
            deliver_at=deliver_at,
        )
        return await find_out(sdk, {id: recipient}, wait, Kind.CONVERSATION)

    report(options, use(options, work))


@click.command(cls=Command)
@click.argument("agent", type=AGENT)
@click.argument("id")
@click.option("--reason", required=True, metavar="TEXT", help="A sentence for the asker.")
@pass_options
def refuse(options: Options, agent: str, id: str, reason: str) -> None:
    """Refuse an open question: its asker is told at once, with the reason.

    \b
    Example:
      agent-messaging refuse bob ID --reason 'I must not say.'

    The ids of the questions that wait for an agent are in `agent-messaging inbox`.
    """
    use(options, lambda sdk: sdk.conversation.refuse(agent, id, reason))
    show(options, {"message_id": id, "reason": reason}, lambda: say(f"{id}  refused"))


@click.command(cls=Command)
@click.argument("agent", type=AGENT)
@click.argument("id")
@click.argument("to", type=AGENT)
@pass_options
def forward(options: Options, agent: str, id: str, to: str) -> None:
    """Pass an open question on to another agent, whose answer the asker gets.

    \b
    Example:
      agent-messaging forward bob ID carol

    The ids of the questions that wait for an agent are in `agent-messaging inbox`. One that a handler is at work on is
    left to that. `agent-messaging receipt` shows which way a question went.
    """
    way = use(options, lambda sdk: sdk.conversation.forward(agent, id, to))
    show(options, {"message_id": id, "way": way}, lambda: say(f"{id}  {clean(' → '.join(way))}"))
