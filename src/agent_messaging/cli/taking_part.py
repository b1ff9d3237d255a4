"""The verbs of `agent-messaging meetings` by which an agent takes part: attend, start, wait, speak, pass, leave, end.

Each is one call of `sdk.meeting`, and prints how the meeting stands behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .meetings import headline, meetings, status_of
from .names import AGENT, OPEN_MEETING
from .opening import use
from .options import Options, metadata_option, pass_options, payload_options
from .output import clean, duration, note, say, show
from .spoken import line_of
from .values import parse_duration, read_metadata, read_payload

if TYPE_CHECKING:
    from .. import AgentMessaging, Record, Turn

next_option = click.option(
    "--next", "following", metavar="AGENT", type=AGENT, help="Who has the turn then; the order decides if left out."
)
turn_option = click.option(
    "--turn", type=int, metavar="NUMBER", help="The turn that is meant: refused if another one is current by now."
)


def _act(options: Options, id: str, call: Callable[[AgentMessaging[Any]], Awaitable[Any]], said: str) -> None:
    """Do something in a meeting, and print how that stands then."""

    async def work(sdk: AgentMessaging[Any]) -> tuple[Any, Record]:
        return await call(sdk), await status_of(sdk, id)

    answer, status = use(options, work)
    document = {"meeting": status} if answer is None else {"message_id": answer, "meeting": status}

    def human() -> None:
        say(f"{clean(said)} {headline(status)}.")

    show(options, document, human)


@meetings.command()
@click.argument("agent", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@pass_options
def attend(options: Options, agent: str, id: str) -> None:
    """Attend a meeting to which an agent is invited. Attending again changes nothing.

    \b
    Example:
      agent-messaging meetings attend bob ID
    """

    async def call(sdk: AgentMessaging[Any]) -> None:
        await sdk.meeting.attend_meeting(agent, id)

    _act(options, id, call, f"{agent} attends:")


@meetings.command()
@click.argument("host", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@payload_options("The opening message")
@next_option
@click.option("--wait", type=parse_duration, metavar="DURATION", help="Wait so long until everybody attends: 30, 5m.")
@pass_options
def start(
    options: Options,
    host: str,
    id: str,
    text: str | None,
    payload: str | None,
    following: str | None,
    wait: float | None,
) -> None:
    """Start a meeting that everybody attends, as its host. An opening message is the host's turn 1.

    \b
    Examples:
      agent-messaging meetings start alice ID
      agent-messaging meetings start alice ID --text 'Where do we eat?' --wait 5m

    Without an opening message the host has turn 1, or the agent named with --next. With --text - or --payload - it is
    read from standard input.
    """
    opening = {} if text is None and payload is None else {"initial_message": read_payload(text, payload)}

    async def call(sdk: AgentMessaging[Any]) -> None:
        if wait is not None:
            await sdk.meeting.wait_until_ready(id, wait)
        await sdk.meeting.start_meeting(host, id, next_speaker_external_id=following, **opening)

    _act(options, id, call, "Started:")


@meetings.command()
@click.argument("agent", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@click.option(
    "--timeout",
    type=parse_duration,
    metavar="DURATION",
    help="At most so long: 30, 5m. Default: 10m, or DEFAULT_MEETING_TIMEOUT.",
)
@pass_options
def wait(options: Options, agent: str, id: str, timeout: float | None) -> None:
    """Wait until an agent has the turn, and print what was said since its last one.

    \b
    Example:
      agent-messaging meetings wait bob ID && echo 'it is my turn'

    The exit code is 0 with the turn, 1 where the meeting has ended, 8 where the turn did not come in time.
    """

    async def call(sdk: AgentMessaging[Any]) -> Turn:
        return await sdk.meeting.wait_for_turn(agent, id, timeout)

    turn = use(options, call)
    document = {"turn": turn.number, "deadline": turn.deadline, "messages": turn.messages, "notes": turn.notes}

    def human() -> None:
        for message in sorted((*turn.messages, *turn.notes), key=lambda one: one.created_at):
            say(line_of(message))
        if turn.number is None:
            note("The meeting has ended.")
            return
        left = "" if turn.deadline is None else f", {duration(_seconds_until(turn.deadline))} left"
        note(f"{clean(agent)} has turn {turn.number}{left}.")

    show(options, document, human)
    if turn.number is None:
        click.get_current_context().exit(1)


def _seconds_until(deadline: datetime) -> float:
    return max((deadline - datetime.now(UTC)).total_seconds(), 0.0)


@meetings.command()
@click.argument("agent", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@payload_options("What is said")
@metadata_option
@next_option
@turn_option
@click.option("--key", help="Idempotency key: repeating the command with it says it once.")
@pass_options
def speak(
    options: Options,
    agent: str,
    id: str,
    text: str | None,
    payload: str | None,
    metadata: tuple[str, ...],
    following: str | None,
    turn: int | None,
    key: str | None,
) -> None:
    """Say something in the turn that an agent has, which goes on to the next then.

    \b
    Examples:
      agent-messaging meetings speak bob ID --text 'At the harbour.'
      agent-messaging meetings speak bob ID --text 'Carol?' --next carol --turn 4
    """
    message, extra = read_payload(text, payload), read_metadata(metadata)

    async def call(sdk: AgentMessaging[Any]) -> str:
        how: dict[str, Any] = {"next_speaker_external_id": following, "turn": turn, "idempotency_key": key}
        return str(await sdk.meeting.speak(agent, id, message, extra, **how))

    _act(options, id, call, "Said:")


@meetings.command("pass")
@click.argument("agent", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@next_option
@turn_option
@pass_options
def pass_(options: Options, agent: str, id: str, following: str | None, turn: int | None) -> None:
    """Pass the turn on that an agent has, without a word.

    \b
    Example:
      agent-messaging meetings pass bob ID --next carol
    """
    _act(
        options,
        id,
        lambda sdk: sdk.meeting.pass_turn(agent, id, next_speaker_external_id=following, turn=turn),
        f"{agent} passed:",
    )


@meetings.command()
@click.argument("host", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@turn_option
@pass_options
def skip(options: Options, host: str, id: str, turn: int | None) -> None:
    """End the current turn of somebody who is silent, as the host, and go on with the next.

    \b
    Example:
      agent-messaging meetings skip alice ID
    """
    _act(options, id, lambda sdk: sdk.meeting.skip_turn(host, id, turn=turn), "Skipped:")


@meetings.command()
@click.argument("agent", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@pass_options
def leave(options: Options, agent: str, id: str) -> None:
    """Leave a meeting. A turn that the agent has goes to the next. The host ends its meeting instead.

    \b
    Example:
      agent-messaging meetings leave bob ID
    """
    _act(options, id, lambda sdk: sdk.meeting.leave_meeting(agent, id), f"{agent} left:")


@meetings.command()
@click.argument("host", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@click.argument("agent", type=AGENT)
@pass_options
def remove(options: Options, host: str, id: str, agent: str) -> None:
    """Remove a participant, invited or attending, as the host.

    \b
    Example:
      agent-messaging meetings remove alice ID bob
    """
    _act(options, id, lambda sdk: sdk.meeting.remove_participant(host, id, agent), f"{agent} was removed:")


@meetings.command()
@click.argument("host", type=AGENT)
@click.argument("id", type=OPEN_MEETING)
@pass_options
def end(options: Options, host: str, id: str) -> None:
    """End a meeting, as its host. Whoever waits in it is told.

    \b
    Example:
      agent-messaging meetings end alice ID
    """
    _act(options, id, lambda sdk: sdk.meeting.end_meeting(host, id), "Ended:")
