"""Asks that a call names by their ids: those that an agent is to answer or to refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...delivery.forwarding import ENDS
from ...delivery.names import AgentName
from ...exceptions import SessionStateError
from ...models import AskState
from ...storage.ports import AskRow

if TYPE_CHECKING:
    from ...delivery.engine import Engine

REFUSED = "refused: "
"""The beginning of the reason of an ask that was refused. A handler that failed has the class of its error there."""
NAME_AN_OPEN_ONE = "Name an open one, by the id of its message: `list_open_asks` has them."


async def get_open_ask(engine: Engine, agent: AgentName, ask_id: str) -> AskRow:
    """The open ask that an agent has.

    Raises:
        SessionStateError: There is none of this id, another agent has it, or it is over. Says which.
    """
    found = await engine.store.sessions.find_asks([ask_id])
    if not found:
        raise SessionStateError(
            f"No ask has the id {ask_id!r}: nobody waits for its answer. Nothing was stored.",
            remedy=NAME_AN_OPEN_ONE,
        )
    if found[0].state is not AskState.OPEN or found[0].responder_id != agent.id:
        raise await explain_end(engine, agent, found[0])
    return found[0]


async def explain_end(engine: Engine, agent: AgentName, ask: AskRow) -> SessionStateError:
    """Return the error that says why an agent can neither answer nor refuse an ask any more."""
    if ask.responder_id != agent.id:
        holder = (await engine.names.find_by_id([ask.responder_id])).get(ask.responder_id)
        has = ask.responder_id if holder is None else holder.external_id
        return SessionStateError(
            f"The ask {ask.ask_id} is with {has!r} and not with {agent.external_id!r}.", remedy=NAME_AN_OPEN_ONE
        )
    end = ENDS.get(ask.state, "has ended")
    return SessionStateError(
        f"The ask {ask.ask_id} {end}: nobody waits for its answer any more. Nothing was stored.",
        remedy=NAME_AN_OPEN_ONE,
    )
