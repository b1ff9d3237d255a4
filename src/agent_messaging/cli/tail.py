"""`agent-messaging tail`: follow messages as they are stored."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..arguments import check_thread
from ..kinds import FACTS, KIND_OF_WORD, Kind
from ..records import dataclass
from .app import Command
from .mailbox import describe, is_in, kinds_of, print_message
from .names import AGENT, MEETING
from .narrowing import filter_option
from .opening import open_sdk, run
from .options import Options, get_options
from .output import note, print_json, to_json
from .patience import look_until_seen
from .values import parse_duration, read_metadata

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging
    from ..messaging.listing import Wanted
    from ..storage.ports import MessageRow

PAUSE = 0.2
"""Seconds between two looks. A process that serves nobody is not woken, so this one has to look."""
PAGE = 500


@dataclass(slots=True)
class Followed:
    """Which messages are followed."""

    wanted: Wanted
    """By their metadata."""
    kinds: Sequence[Kind]
    """Of an agent's mailbox."""
    agent: Agent | None = None
    """Who receives them; None is every agent."""
    sender: Agent | None = None
    thread: str | None = None
    meeting: str | None = None
    """The id of a meeting: what is about it, and what is said in it."""
    newest: dict[tuple[str, Kind], int] | None = None
    """The sequence number behind which each agent is followed, and the meeting; None before the first look."""
    look_time: float = 0.0
    """Seconds that the last look took."""

    def fits(self, row: MessageRow) -> bool:
        """Whether a message that was received is among them."""
        if self.sender is not None and row.sender_id != str(self.sender.id):
            return False
        if self.meeting is not None and row.kind is not Kind.MEETING and _meeting_of(row) != self.meeting:
            return False
        return is_in(row, self.thread) and self.wanted.fits(row)


def _meeting_of(row: MessageRow) -> str | None:
    """The meeting that an invitation or a turn is about."""
    from ..bodies import open_or_mark

    content = open_or_mark(row, f"message {row.message_id}").content if FACTS[row.kind].is_of_meeting else None
    return content.get("meeting_id") if isinstance(content, dict) else None


@click.command(cls=Command)
@click.argument("agent", required=False, type=AGENT)
@click.option("--kind", "words", type=click.Choice([*KIND_OF_WORD]), multiple=True, help="Only this kind. Repeatable.")
@click.option("--from", "sender", metavar="AGENT", type=AGENT, help="Only what this agent sends.")
@click.option("--thread", metavar="NAME", help="Only what is said in this thread of a conversation.")
@click.option(
    "--meeting", metavar="ID", type=MEETING, help="Only of this meeting: invitations, turns, and what is said in it."
)
@filter_option
@click.option("--limit", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="End after this time: 30, 5m, 1h.")
@click.pass_context
def tail(
    ctx: click.Context,
    agent: str | None,
    words: tuple[str, ...],
    sender: str | None,
    thread: str | None,
    meeting: str | None,
    metadata: tuple[str, ...],
    limit: int | None,
    timeout: float | None,
) -> None:
    """Follow what one agent, or every agent, receives from now on, until Ctrl-C: notes, messages of conversations,
    invitations to meetings and turns in them. Looking handles nothing and answers nothing.

    \b
    Examples:
      agent-messaging tail
      agent-messaging tail bob --limit 1 --timeout 30 --json
      agent-messaging tail --from alice --kind note -m priority=high
      agent-messaging tail --meeting ID

    When it has begun it says so on stderr: what is sent from then on is shown. Under a question whose sender waits
    stands, on stderr, the command that answers it. With --json each message is one line of JSON. The exit code is 0
    however the following ended.
    """
    options = get_options(ctx)
    check_thread(thread)
    if meeting is not None and thread is not None:
        raise click.UsageError("--thread is of conversations, and --meeting of meetings. Give one of them.", ctx)

    async def find(sdk: AgentMessaging) -> Followed:
        from ..messaging.listing import make_wanted
        from .meetings import status_of

        id = None if meeting is None else str((await status_of(sdk, meeting)).meeting_id)
        wanted = make_wanted(metadata_filter=read_metadata(metadata))
        return Followed(
            wanted,
            kinds_of(words),
            agent=None if agent is None else await sdk.get_agent(agent),
            sender=None if sender is None else await sdk.get_agent(sender),
            thread=thread,
            meeting=id,
        )

    try:
        run(options, _follow(options, find, limit, timeout))
    except KeyboardInterrupt:
        if not options.json:
            note("")


async def _follow(
    options: Options,
    find: Callable[[AgentMessaging], Awaitable[Followed]],
    limit: int | None,
    timeout: float | None,
) -> None:
    import asyncio

    seen = 0
    async with open_sdk(options) as sdk:
        followed = await find(sdk)
        try:
            async with asyncio.timeout(timeout) as timer:
                await look(sdk, followed)
                _print_begin(options, followed)
                while True:
                    for record in await look_until_seen(options, partial(look, sdk, followed)):
                        if options.json:
                            print_json(record)
                        else:
                            print_message(record)
                        seen += 1
                        if seen == limit:
                            return
                    # A look at many agents takes longer: it must not keep the store busy.
                    await asyncio.sleep(max(PAUSE, 2 * followed.look_time))
        except TimeoutError:
            if not timer.expired():
                raise


def _print_begin(options: Options, followed: Followed) -> None:
    """Say on stderr that messages from now on will be shown."""
    agent = None if followed.agent is None else followed.agent.external_id
    if options.json:
        note(to_json({"following": agent}))
    else:
        note(f"Following {agent or 'every agent'} from now on; Ctrl-C ends it.")


async def look(sdk: AgentMessaging, followed: Followed) -> list[dict[str, Any]]:
    """The messages that were received since the look before, as mappings. The first one finds none, and begins."""
    begun = time.monotonic()
    agents = [followed.agent] if followed.agent is not None else await _every_agent(sdk)
    places = [(str(one.id), kind) for one in agents for kind in followed.kinds]
    if followed.meeting is not None:
        places.append((followed.meeting, Kind.MEETING))
    if followed.newest is None:
        followed.newest = {place: await _newest(sdk, *place) for place in places}
        return []
    newest = dict(followed.newest)
    rows: list[MessageRow] = []
    for place in places:
        # One that was added meanwhile is followed from its first message.
        while page := await _received(sdk, *place, limit=PAGE, after_seq=newest.get(place, 0)):
            newest[place] = page[-1].seq
            rows += filter(followed.fits, page)
            if len(page) < PAGE:
                break
    rows.sort(key=lambda row: row.seq)
    found = []
    for start in range(0, len(rows), PAGE):
        found += await describe(sdk, rows[start : start + PAGE])
    followed.newest, followed.look_time = newest, time.monotonic() - begun
    return found


async def _newest(sdk: AgentMessaging, id: str, kind: Kind) -> int:
    how: dict[str, Any] = {"newest_first": True} if kind is Kind.MEETING else {}
    rows = await _received(sdk, id, kind, limit=1, **how)
    return rows[0].seq if rows else 0


async def _received(sdk: AgentMessaging, id: str, kind: Kind, **how: Any) -> list[MessageRow]:
    """What an agent received of a kind, or what was said in a meeting."""
    from ..storage.ports import Role

    if kind is Kind.MEETING:
        return await sdk.store.meetings.list_messages(id, **how)
    return await sdk.store.messages.list_messages(id, Role.RECIPIENT, kind, **how)


async def _every_agent(sdk: AgentMessaging) -> list[Agent]:
    agents: list[Agent] = []
    while page := await sdk.list_agents(limit=1000, offset=len(agents)):
        agents += page
        if len(page) < 1000:
            break
    return agents
