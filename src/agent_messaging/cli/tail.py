"""`agent-messaging tail`: follow messages as they are stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..arguments import check_thread
from ..kinds import KIND_OF_WORD
from .app import Command
from .mailbox import describe, is_in, kinds_of, line_of, waits_for, word_for
from .opening import open_sdk, run
from .options import Options, get_options
from .output import clean, note, print_json, say, to_json
from .values import parse_duration

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging
    from ..models import Kind
    from ..storage.ports import MessageRow

PAUSE = 0.2
"""Seconds between two looks. A process that serves nobody is not woken, so this one has to look."""
PAGE = 500


@click.command(cls=Command)
@click.argument("agent", required=False)
@click.option("--kind", "words", type=click.Choice([*KIND_OF_WORD]), multiple=True, help="Only this kind. Repeatable.")
@click.option("--thread", metavar="NAME", help="Only what is said in this thread of a conversation.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="End after this time: 30, 5m, 1h.")
@click.pass_context
def tail(
    ctx: click.Context,
    agent: str | None,
    words: tuple[str, ...],
    thread: str | None,
    limit: int | None,
    timeout: float | None,
) -> None:
    """Follow what one agent, or every agent, receives from now on, until Ctrl-C: notes, messages of conversations,
    invitations to meetings and turns in them. Looking handles nothing and answers nothing.

    \b
    Examples:
      agent-messaging tail
      agent-messaging tail bob --limit 1 --timeout 30 --json

    When it has begun it says so on stderr: what is sent from then on is shown. Under a question whose sender waits
    stands, on stderr, the command that answers it. With --json each message is one line of JSON. The exit code is 0
    however the following ended.
    """
    options = get_options(ctx)
    check_thread(thread)
    try:
        run(options, _follow(options, agent, kinds_of(words), thread, limit, timeout))
    except KeyboardInterrupt:
        if not options.json:
            note("")


async def _follow(
    options: Options,
    agent: str | None,
    kinds: Sequence[Kind],
    thread: str | None,
    limit: int | None,
    timeout: float | None,
) -> None:
    import asyncio

    seen = 0
    async with open_sdk(options) as sdk:
        named = None if agent is None else await sdk.get_agent(agent)
        try:
            following = contextlib.aclosing(follow(sdk, named, kinds, thread))
            async with asyncio.timeout(timeout) as timer, following as records:
                async for record in records:
                    if record is None:
                        _print_begin(options, agent)
                        continue
                    _print(options, record)
                    seen += 1
                    if seen == limit:
                        return
        except TimeoutError:
            if not timer.expired():
                raise


def _print_begin(options: Options, agent: str | None) -> None:
    """Say on stderr that messages from now on will be shown."""
    if options.json:
        note(to_json({"following": agent}))
    else:
        note(f"Following {agent or 'every agent'} from now on; Ctrl-C ends it.")


def _print(options: Options, record: dict[str, Any]) -> None:
    if options.json:
        print_json(record)
        return
    at = f"{record['created_at'].astimezone():%H:%M:%S.%f}"[:-3]
    who = f"{clean(record['sender_id'])} → {clean(record['recipient_id'])}"
    say(f"{at}  {word_for(record):<10}  {who}  {line_of(record)}")
    if record["reply"] is not None:
        note(f"{'':14}{waits_for(record)}")


async def follow(
    sdk: AgentMessaging, agent: Agent | None, kinds: Sequence[Kind], thread: str | None = None
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The messages of these kinds received from now on, as mappings; None once, when "now" is settled."""
    import asyncio

    newest: dict[tuple[str, Kind], int] = {}
    """The sequence number behind which each agent is followed."""
    started = False
    while True:
        begun = time.monotonic()
        found = [agent] if agent is not None else await _every_agent(sdk)
        rows: list[MessageRow] = []
        for place in [(str(one.id), kind) for one in found for kind in kinds]:
            if not started:
                newest[place] = await _newest(sdk, *place)
                continue
            # One that was added meanwhile is followed from its first message.
            while page := await _received(sdk, *place, limit=PAGE, after_seq=newest.get(place, 0)):
                newest[place] = page[-1].seq
                rows += [row for row in page if is_in(row, thread)]
                if len(page) < PAGE:
                    break
        if not started:
            started = True
            yield None
        rows.sort(key=lambda row: row.seq)
        for start in range(0, len(rows), PAGE):
            for message in await describe(sdk, rows[start : start + PAGE]):
                yield message
        # A look at many agents takes longer: it must not keep the store busy.
        await asyncio.sleep(max(PAUSE, 2 * (time.monotonic() - begun)))


async def _newest(sdk: AgentMessaging, agent_id: str, kind: Kind) -> int:
    rows = await _received(sdk, agent_id, kind, limit=1)
    return rows[0].seq if rows else 0


async def _received(sdk: AgentMessaging, agent_id: str, kind: Kind, **how: Any) -> list[MessageRow]:
    from ..storage.ports import Role

    return await sdk.store.messages.list_messages(agent_id, Role.RECIPIENT, kind, **how)


async def _every_agent(sdk: AgentMessaging) -> list[Agent]:
    agents: list[Agent] = []
    while page := await sdk.list_agents(limit=1000, offset=len(agents)):
        agents += page
        if len(page) < 1000:
            break
    return agents
