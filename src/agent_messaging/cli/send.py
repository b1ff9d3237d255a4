"""`agent-messaging send`: notes to agents, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..kinds import Kind
from ..records import dataclass
from .app import Command
from .names import AGENT
from .opening import use
from .options import Options, metadata_option, pass_options, payload_options
from .output import count, note, say, show
from .services import read_services
from .values import hint_at_text, parse_duration, parse_instant, read_metadata, read_payload

if TYPE_CHECKING:
    from .. import AgentMessaging, Receipt

NOT_HANDLED = 7
"""The exit code of --wait when a message ended in another way than handled: that of HandlerError."""


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Sent:
    """What was stored, and what became of it."""

    recipients: dict[str, str]
    """By message id."""
    unserved: list[str]
    failure: Exception | None
    """The messages are not all final, though they were waited for."""
    receipts: list[Receipt] | None
    """None: they were not waited for."""


def note_options(command: F) -> F:
    """The options of a note, whoever it goes to."""
    for option in (
        click.option(
            "--wait",
            type=parse_duration,
            metavar="DURATION",
            help="Wait so long for it to be handled; print the receipts.",
        ),
        click.option(
            "--deliver-at", type=parse_instant, metavar="INSTANT", help="Handle not before: 2030-01-31T09:00, or +10m."
        ),
        click.option(
            "--expires-in", type=parse_duration, metavar="DURATION", help="Expire if nobody began by then: 90, 10m, 2h."
        ),
        click.option("--key", help="Idempotency key: repeating the command with it stores the message once."),
        metadata_option,
        payload_options("The payload"),
    ):
        command = option(command)
    return command


@click.command(cls=Command)
@click.argument("sender", metavar="FROM", type=AGENT)
@click.argument("recipients", metavar="TO...", nargs=-1, required=True, type=AGENT)
@note_options
@click.option(
    "--require-handler/--no-require-handler",
    default=None,
    help="Refuse the message unless a live process serves every recipient, or store it for later. "
    "Default: store it and say who is not served, unless MESSAGING_REQUIRE_HANDLER is set.",
)
@pass_options
def send(
    options: Options,
    sender: str,
    recipients: tuple[str, ...],
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    expires_in: float | None,
    deliver_at: datetime | None,
    require_handler: bool | None,
    wait: float | None,
) -> None:
    """Send a message from one agent to others: stored for all of them or none, and synced, when this returns.

    \b
    Examples:
      agent-messaging send alice bob --text 'Tea at four?'
      agent-messaging send alice bob carol --payload '{"do": "review"}' --wait 10
      git log -1 | agent-messaging send alice bob --key "$(git rev-parse HEAD)"

    The ids of the messages are printed, one for each recipient; `agent-messaging receipt ID` follows one of them. With
    --wait the exit code tells: 0 all handled, 7 one died, expired or was withdrawn, 8 not handled in time (they go on).
    """
    message = read_payload(text, payload, hint=hint_at_text("send", sender, recipients))
    extra = read_metadata(metadata)

    async def work(sdk: AgentMessaging) -> Sent:
        required = require_handler
        # A shell often sends a message before its reader is started, so it is kept unless the user decided otherwise.
        if required is None and "require_handler" not in sdk.config.messaging.model_fields_set:
            required = False
        ids = await sdk.one_way.send(
            sender,
            list(recipients),
            message,
            extra,
            idempotency_key=key,
            expires_in=expires_in,
            deliver_at=deliver_at,
            require_handler=required,
        )
        return await find_out(sdk, dict(zip(ids, recipients, strict=True)), wait)

    report(options, use(options, work))


async def find_out(
    sdk: AgentMessaging, recipients: dict[str, str], wait: float | None, kind: Kind = Kind.ONE_WAY
) -> Sent:
    """What became of messages of a kind, after so many seconds at most."""
    unserved = await find_unserved(sdk, [*recipients.values()], kind)
    return Sent(recipients, unserved, *(await _wait(sdk, [*recipients], wait)))


def report(options: Options, sent: Sent) -> None:
    """Print what was sent, and end with the exit code that tells what became of it, where that was waited for."""
    messages = [{"message_id": id, "recipient_id": to} for id, to in sent.recipients.items()]
    document: dict[str, Any] = {"messages": messages, "unserved": sent.unserved}
    if sent.receipts is not None:
        document["receipts"] = sent.receipts

    def human() -> None:
        for number, (id, to) in enumerate(sent.recipients.items()):
            state = f"  {sent.receipts[number].state.value}" if sent.receipts is not None else ""
            say(f"{id}  to {to}{state}")
        if sent.unserved and sent.receipts is None:
            whose = (
                " and ".join(map(repr, sent.unserved)) if len(sent.unserved) < 4 else count(len(sent.unserved), "agent")
            )
            note(f"Stored. No live process serves {whose} now; it will be handled as soon as one does.")

    show(options, document, human)
    if sent.failure is not None:
        raise sent.failure
    if any(receipt.state.value != "done" for receipt in sent.receipts or ()):
        click.get_current_context().exit(NOT_HANDLED)


async def find_unserved(sdk: AgentMessaging, external_ids: Sequence[str], kind: Kind) -> list[str]:
    """Return those of these agents that no live process serves, for messages of this kind."""
    services = await read_services(sdk)
    agents = {agent.external_id: agent for agent in await sdk.store.directory.find_agents(external_ids)}
    return [name for name in external_ids if name in agents and not services.is_served(str(agents[name].id), kind)]


async def _wait(
    sdk: AgentMessaging, ids: list[str], seconds: float | None
) -> tuple[Exception | None, list[Receipt] | None]:
    """The receipts, and the error if they are not final: what was stored is printed in any case."""
    from .. import TimeoutError

    if seconds is None:
        return None, None
    try:
        return None, await sdk.receipts.wait(ids, timeout=seconds)
    except TimeoutError as error:
        return error, [await sdk.receipts.get(id) for id in ids]
