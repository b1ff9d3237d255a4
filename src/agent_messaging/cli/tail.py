"""`agent-messaging tail`: follow messages as they are stored."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import click

from .app import Command, Options, get_options
from .opening import open_sdk, run
from .output import clean, content, note, print_json, say, to_json
from .values import parse_duration

if TYPE_CHECKING:
    from .. import Agent, AgentMessaging
    from ..storage.ports import MessageRow

PAUSE = 0.2
"""Seconds between two looks. A process that serves nobody is not woken, so this one has to look."""
PAGE = 500


@click.command(cls=Command)
@click.argument("agent", required=False)
@click.option("--limit", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="End after this time: 30, 5m, 1h.")
@click.pass_context
def tail(ctx: click.Context, agent: str | None, limit: int | None, timeout: float | None) -> None:
    """Follow what one agent, or every agent, receives from now on, until Ctrl-C. Looking handles nothing.

    \b
    Examples:
      agent-messaging tail
      agent-messaging tail bob --limit 1 --timeout 30 --json

    When it has begun it says so on stderr: what is sent from then on is shown. With --json each message is one line of
    JSON. The exit code is 0 however the following ended.
    """
    options = get_options(ctx)
    try:
        run(options, _follow(options, agent, limit, timeout))
    except KeyboardInterrupt:
        if not options.json:
            note("")


async def _follow(options: Options, agent: str | None, limit: int | None, timeout: float | None) -> None:
    import asyncio

    seen = 0
    async with open_sdk(options) as sdk:
        named = None if agent is None else await sdk.get_agent(agent)
        try:
            async with asyncio.timeout(timeout) as timer, contextlib.aclosing(follow(sdk, named)) as records:
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
    """To stderr: what is sent from now on will be shown."""
    if options.json:
        note(to_json({"following": agent}))
    else:
        note(f"Following {agent or 'every agent'} from now on; Ctrl-C ends it.")


def _print(options: Options, record: dict[str, Any]) -> None:
    if options.json:
        print_json(record)
        return
    at = f"{record['created_at'].astimezone():%H:%M:%S.%f}"[:-3]
    say(f"{at}  {clean(record['sender_id'])} → {clean(record['recipient_id'])}  {content(record['content'])}")


async def follow(sdk: AgentMessaging, agent: Agent | None) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The messages received from now on, as mappings; None once, when "now" is settled."""
    import asyncio

    from .. import Kind

    agents: dict[str, str] = {}
    """External ids by id."""
    newest: dict[str, int] = {}
    """The sequence number behind which each agent is followed."""
    started = False
    while True:
        begun = time.monotonic()
        found = [agent] if agent is not None else await _every_agent(sdk)
        rows: list[MessageRow] = []
        for one in found:
            id = str(one.id)
            agents[id] = one.external_id
            if not started:
                newest[id] = await _newest(sdk, id)
                continue
            # One that was added meanwhile is followed from its first message.
            while page := await _received(sdk, id, Kind.ONE_WAY, limit=PAGE, after_seq=newest.get(id, 0)):
                newest[id] = page[-1].seq
                rows += page
                if len(page) < PAGE:
                    break
        if not started:
            started = True
            yield None
        unknown = {row.sender_id for row in rows} - agents.keys()
        if unknown:
            agents |= {str(one.id): one.external_id for one in await sdk.store.directory.find_agents_by_id(unknown)}
        for row in sorted(rows, key=lambda row: row.seq):
            yield {
                "message_id": row.message_id,
                "sender_id": agents.get(row.sender_id, row.sender_id),
                "recipient_id": agents.get(row.recipient_id or "", row.recipient_id),
                "content": json.loads(row.content),
                "metadata": json.loads(row.metadata) if row.metadata else None,
                "created_at": row.created_at,
            }
        # A look at many agents takes longer: it must not keep the store busy.
        await asyncio.sleep(max(PAUSE, 2 * (time.monotonic() - begun)))


async def _newest(sdk: AgentMessaging, agent_id: str) -> int:
    from .. import Kind

    rows = await _received(sdk, agent_id, Kind.ONE_WAY, limit=1)
    return rows[0].seq if rows else 0


async def _received(sdk: AgentMessaging, agent_id: str, *given: Any, **how: Any) -> list[MessageRow]:
    from ..storage.ports import Role

    return await sdk.store.messages.list_messages(agent_id, Role.RECIPIENT, *given, **how)


async def _every_agent(sdk: AgentMessaging) -> list[Agent]:
    agents: list[Agent] = []
    while page := await sdk.list_agents(limit=1000, offset=len(agents)):
        agents += page
        if len(page) < 1000:
            break
    return agents
