"""What the tests of conversations share: agents that answer, questions put, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from typing import Any

from agent_messaging import MessageContext
from tests.client.support import SOON, Inbox, Sdk
from tests.support import eventually

SLACK = 0.5
"""Seconds after its timeout by which an ask has returned."""
STEPS = 45
"""Turns of the loop after which a call is cancelled: past its end on SQLite and PostgreSQL."""


class Clerk(Inbox):
    """A handler whose script makes the answers."""

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        self.messages.append(message)
        self.contexts.append(context)
        result = self.script(message, context) if self.script is not None else None
        return await result if inspect.isawaitable(result) else result


class Desk(Inbox):
    """A handler that answers each message when the test says what."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.ended = 0

    async def __call__(self, message: Any, context: MessageContext) -> Any:
        self.messages.append(message)
        self.contexts.append(context)
        try:
            answer = await self.answers.get()
        finally:
            self.ended += 1
        if isinstance(answer, BaseException):
            raise answer
        return answer


def begin(call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a call that waits."""
    return asyncio.create_task(call)


def ask(sdk: Sdk, asker: str, responder: str, message: Any = "?", **options: Any) -> asyncio.Task[Any]:
    """Start an ask, by default of an agent that answers by its own code."""
    options = {"timeout": SOON, "require_handler": False} | options
    return begin(sdk.conversation.send_and_wait(asker, responder, message, **options))


async def until_waiting(sdk: Sdk, asker: str, responder: str) -> str:
    """Wait until the store has an open ask of this pair; its message id."""
    query = (
        "select m.id from asks a join messages m on m.seq = a.seq join agents x on x.id = a.asker_id "
        f"join agents y on y.id = a.responder_id where a.state = 'open' and x.external_id = '{asker}' "
        f"and y.external_id = '{responder}'"
    )
    found = await eventually(lambda: rows(sdk, query), SOON)
    return str(found[0][0])


async def until_registered(sdk: Sdk, count: int = 1) -> None:
    """Wait until so many waits for a message are registered in the store."""
    await eventually(lambda: rows(sdk, "select id from waits"), SOON, until=lambda found: len(found) == count)


async def rows(sdk: Sdk, query: str) -> list[tuple[Any, ...]]:
    """What the store has, by the SDK's own connections: closing another one to a file would drop its locks."""
    engine: Any = sdk.store.engine  # type: ignore[attr-defined]
    if hasattr(engine, "read"):
        return list(await engine.read(lambda connection: connection.execute(query).fetchall()))
    return [tuple(row) for row in await engine.run(lambda connection: connection.fetch(query), write=False)]


async def states_of_asks(sdk: Sdk) -> list[str]:
    """How the asks stand, in the order in which they were stored."""
    return [str(state) for (state,) in await rows(sdk, "select state from asks order by seq")]


async def nothing_is_left(*sdks: Sdk) -> None:
    """Nobody in these SDK objects waits for an answer or a message, no ask is open, and no wait is registered."""

    def in_memory() -> list[Any]:
        asks = [engine.asks for engine in engines]
        waiters = [waiters for engine in engines for waiters in (engine.asks.waiters, engine.waits.waiters)]
        return (
            [id for one in waiters for id in one._futures]
            + [wait for one in engines for wait in one.waits._held]
            + [
                id
                for one in asks
                for kept in (one._written, one._abandoned, one._given_up, one._again.waiting)
                for id in kept
            ]
        )

    engines = [sdk._started() for sdk in sdks]
    await eventually(in_memory, SOON, until=lambda found: not found)
    waiting = "select id from waits union all select asker_id from asks where state = 'open'"
    await eventually(lambda: rows(sdks[0], waiting), SOON, until=lambda found: not found)


async def session_of(sdk: Sdk, agent: str) -> Any:
    """The one open session of an agent."""
    [session] = await sdk.conversation.get_active_sessions(agent)
    return session


async def transcript(sdk: Sdk, session_id: str) -> list[tuple[str, Any, bool]]:
    """What was said, as (sender, content, whether it is read)."""
    records = await sdk.conversation.get_messages_in_session(session_id)
    return [(record.sender_id, record.content, record.is_read) for record in records]


async def cancel_after(steps: int, call: Coroutine[Any, Any, Any]) -> Any:
    """Cancel the call after so many turns of the loop, the later of which take time; None if it was cancelled."""
    task = asyncio.ensure_future(call)
    for step in range(steps):
        await asyncio.sleep(0 if step < 20 else 0.001)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None
