"""Why an act on a meeting was refused, in words, with the names of agents."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ...delivery.names import AgentName, Names, external_or_id
from ...exceptions import (
    AgentMessagingError,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    InvalidArgumentError,
    MeetingNotActiveError,
    MeetingStateError,
    NotMeetingHostError,
    NotYourTurnError,
    TurnLostError,
)
from ...models import MeetingStatus
from ...storage.assembly.terms import Refused, Why

P = ParamSpec("P")
R = TypeVar("R")


NAME_ANOTHER = "Name one of those whom get_meeting_status names."


class RenewedError(Exception):
    """A name stands for another agent than was thought."""


def by_name(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Begin the call again where another process has registered a refused agent anew; nothing has changed by then."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return await method(*args, **kwargs)
            except RenewedError:
                continue

    return call


async def explain(
    names: Names, refused: Refused, agent: AgentName, other: AgentName | None = None, *, before_start: bool = False
) -> AgentMessagingError:
    """Return the error that says why an act was refused.

    Args:
        agent: Who acts.
        other: Another agent that the act names.
        before_start: The act belongs before the start of the meeting. Other acts belong after it.

    Raises:
        RenewedError: A name stands for another agent now. Begin again.
    """
    if refused.why is Why.WRONG_STATUS:
        return wrong_status(refused.status, before_start=before_start)
    if refused.why in (Why.NOT_HOST, Why.NOT_PARTICIPANT, Why.NEXT_NOT_SEATED):
        await check_names(names, agent, other)
    name = agent.external_id
    [holder] = await external_ids(names, [refused.agent_id]) if refused.agent_id else [None]
    match refused.why:
        case Why.NOT_HOST:
            return NotMeetingHostError(
                f"Agent {name!r} is not the host of this meeting; only its host may do this.",
                remedy="get_meeting_status names the host.",
            )
        case Why.HOST_LEAVES:
            host = (other or agent).external_id
            return HostCannotLeaveError(f"{host!r} is the host and cannot leave.", remedy="Call end_meeting instead.")
        case Why.NOT_PARTICIPANT:
            who = other.external_id if other is not None and other.id == refused.agent_id else name
            return not_in_meeting(who)
        case Why.NEXT_NOT_SEATED:
            return AgentNotInMeetingError(
                f"{holder!r} cannot have the next turn: it is not a participant (any more).", remedy=NAME_ANOTHER
            )
        case Why.NEXT_MISSING:
            return InvalidArgumentError(
                "next_speaker_external_id: in this meeting the host names the next speaker.",
                remedy="Pass one.",
                field="next_speaker_external_id",
            )
        case Why.NOT_READY:
            missing = ", ".join(map(repr, await external_ids(names, list(refused.missing))))
            have = "has" if len(refused.missing) == 1 else "have"
            return MeetingStateError(
                f"The meeting is not ready: {missing} {have} not attended.",
                remedy="Wait with wait_until_ready, or remove who will not come with remove_participant.",
            )
        case Why.NOT_YOUR_TURN:
            whose = f"{holder!r} has turn {refused.number}" if holder else "the next speaker is being chosen"
            return NotYourTurnError(
                f"It's not {name}'s turn: {whose}.",
                remedy="Before speaking, wait for it with sdk.meeting.wait_for_turn(...).",
            )
    assert refused.why is Why.TURN_LOST, refused
    return TurnLostError(
        f"The turn this was meant for is over; turn {refused.number} is current. Nothing was stored.",
        remedy="Before speaking, wait for the next one with sdk.meeting.wait_for_turn(...).",
    )


def wrong_status(status: MeetingStatus, *, before_start: bool) -> AgentMessagingError:
    """Return the error that says why the meeting's status forbids an act."""
    if status is MeetingStatus.ENDED:
        text = "The meeting has ended. It stays so: hold another one."
        return MeetingStateError(text) if before_start else MeetingNotActiveError(text)
    if status is MeetingStatus.ACTIVE:
        return MeetingStateError("The meeting has started already. Take part in it, or hold another one.")
    if before_start:
        return MeetingStateError("The host attends its meeting from the start. Start it when all are there.")
    return MeetingNotActiveError(f"The meeting is {status.value}: it has not started. Its host starts it.")


def not_in_meeting(external_id: str) -> AgentNotInMeetingError:
    """Return the error of an agent that takes part in a meeting in which it is not."""
    return AgentNotInMeetingError(
        f"{external_id!r} is not a participant of this meeting (any more).",
        remedy="get_meeting_status names the participants; invite it to the next meeting.",
    )


async def check_names(names: Names, *agents: AgentName | None) -> None:
    """Check that these agents were refused, and not others that had their names before.

    Raises:
        RenewedError: A name stands for another agent now. Begin again.
    """
    for agent in agents:
        if agent is not None and (await names.look_again(agent)).id != agent.id:
            raise RenewedError


async def external_ids(names: Names, ids: Sequence[str]) -> list[str]:
    """Return the agents' external ids; an agent that is gone keeps its id."""
    found = await names.find_by_id(ids)
    return [external_or_id(found, id) for id in ids]
