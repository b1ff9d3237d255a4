"""The calls of a meeting from its start: participants wait for turns and use them, and the host directs it."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, overload
from uuid import UUID

from ...arguments import MISSING_MESSAGE, check_external_id, check_given, check_patience, parse_choice, parse_id
from ...delivery.meetings import holds_turn
from ...delivery.names import AgentName
from ...exceptions import (
    AgentMessagingError,
    InvalidArgumentError,
    MeetingTimeoutError,
)
from ...models import MeetingStatus, ParticipantStatus, T, Turn
from ...payloads import fingerprint
from ...storage.assembly.terms import (
    Absent,
    Act,
    Attend,
    Choose,
    End,
    Leave,
    Pass,
    Purpose,
    Refused,
    Remove,
    Skip,
    Speak,
    Why,
)
from ...storage.ports import Duplicate
from ..directory import find_agent
from ..posting import check_options
from .arguments import MeetingId, check_turn, one_of
from .calls import MeetingCalls
from .refusals import by_name, check_names, explain, not_in_meeting, wrong_status


class MeetingTurns(MeetingCalls[T]):
    """The calls from the start of a meeting."""

    @by_name
    async def wait_for_turn(self, agent_external_id: str, meeting_id: MeetingId, timeout: float | None = None) -> Turn:
        """Wait until an agent has the turn, in whatever process the one before it speaks, or the meeting has ended.

        It holds no connection and no thread. From now on the agent's acts here are bound to this turn: if it is over
        when they come, they are refused.

        Args:
            agent_external_id: Who waits.
            meeting_id: Where.
            timeout: Seconds; 0 only looks, None is the setting `default_meeting_timeout` (600).

        Returns:
            The turn: its number, its deadline, and what was said since the agent's last speech. At the end of the
            meeting one with `has_ended`, which is false: `while turn := await …wait_for_turn(…): …`.

        Raises:
            MeetingTimeoutError: The turn did not come in time; a `TimeoutError`.
            AgentNotInMeetingError: The agent is not a participant, or no longer.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent (any more).

        Example:
            while turn := await sdk.meeting.wait_for_turn("bob", meeting_id):
                await sdk.meeting.speak("bob", meeting_id, {"text": "Yes"}, turn=turn)
        """
        check_patience(timeout)
        if timeout is None:
            timeout = self.settings.default_meeting_timeout
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        meetings = self.engine.meetings
        try:
            async with asyncio.timeout(timeout or None):
                if timeout == 0:
                    found = await meetings.records.find_standing(id, agent.id)
                    if found is None:
                        raise await self._missing(id)
                    standing = found
                else:
                    standing = await meetings.wait_for_turn(id, agent)
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise self._no_turn(agent_external_id, timeout) from error
        if standing.seat is None or standing.seat is ParticipantStatus.LEFT:
            await check_names(self.engine.names, agent)
            raise not_in_meeting(agent_external_id)
        if standing.status is not MeetingStatus.ENDED and not holds_turn(standing, agent.id):
            raise self._no_turn(agent_external_id, timeout)
        return await meetings.open_turn(id, agent, standing)

    @staticmethod
    def _no_turn(agent_external_id: str, timeout: float) -> MeetingTimeoutError:
        return MeetingTimeoutError(
            f"{agent_external_id!r} did not get the turn within {timeout:g} seconds.",
            remedy="Wait longer, or see who has it with get_meeting_status.",
        )

    @overload
    async def speak(
        self,
        agent_external_id: str | None = None,
        meeting_id: MeetingId | None = None,
        message: T | None = ...,
        metadata: Mapping[str, Any] | None = None,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
        wait_for_turn: Literal[False] = False,
        timeout: None = None,
        idempotency_key: str | None = None,
        speaker_external_id: str | None = None,
    ) -> UUID: ...
    @overload
    async def speak(
        self,
        agent_external_id: str | None = None,
        meeting_id: MeetingId | None = None,
        message: T | None = ...,
        metadata: Mapping[str, Any] | None = None,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
        wait_for_turn: Literal[True],
        timeout: float | None = None,
        idempotency_key: str | None = None,
        speaker_external_id: str | None = None,
    ) -> Turn: ...
    @overload
    async def speak(
        self,
        agent_external_id: str | None = None,
        meeting_id: MeetingId | None = None,
        message: T | None = ...,
        metadata: Mapping[str, Any] | None = None,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
        wait_for_turn: bool = False,
        timeout: float,
        idempotency_key: str | None = None,
        speaker_external_id: str | None = None,
    ) -> Turn: ...
    @overload
    async def speak(
        self,
        agent_external_id: str | None = None,
        meeting_id: MeetingId | None = None,
        message: T | None = ...,
        metadata: Mapping[str, Any] | None = None,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
        wait_for_turn: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        speaker_external_id: str | None = None,
    ) -> UUID | Turn: ...
    @by_name
    async def speak(
        self,
        agent_external_id: str | None = None,
        meeting_id: MeetingId | None = None,
        message: T | None = MISSING_MESSAGE,
        metadata: Mapping[str, Any] | None = None,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
        wait_for_turn: bool = False,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        speaker_external_id: str | None = None,
    ) -> UUID | Turn:
        """Say something in one's turn, and pass the turn on.

        When it returns, the speech is committed and synced, under the turn's number, and the next turn is current. It
        takes neither `deliver_at` nor `expires_in`: a speech is said in the turn that it ends, and stays said.

        Args:
            agent_external_id: Who speaks; also speaker_external_id.
            meeting_id: Where.
            message: The payload.
            metadata: Small JSON mapping that is stored with it.
            next_speaker_external_id: Who has the next turn; None leaves it to the meeting's speaker selection. A host
                that names the speakers has to name one.
            turn: The turn it is meant for, a `Turn` or its number. None is the newest that this SDK object has shown
                for this agent (`wait_for_turn`, `start_meeting`), or, if it has shown none, the one that is current.
            wait_for_turn: True waits for the agent's next turn afterwards, at most `default_meeting_timeout` seconds.
            timeout: Given, it waits too, at most so many seconds.
            idempotency_key: 1 to 255 characters, among this agent's speeches. A repeat returns the first one's id.

        Returns:
            The message's id; or, where it waits, the agent's next `Turn`, or the end.

        Raises:
            NotYourTurnError: Another participant has the turn.
            TurnLostError: The turn it is meant for is over; a `NotYourTurnError`. Nothing was stored.
            MeetingNotActiveError: The meeting has not started, or has ended.
            AgentNotInMeetingError: The agent, or the next speaker, is not a participant.
            MeetingTimeoutError: It spoke, and its next turn did not come in time.
            MeetingNotFoundError, AgentNotFoundError, PayloadError, InvalidArgumentError, IdempotencyConflictError:
                An argument is refused.
            OutcomeUnknownError: The store did not answer in time. Repeat with the same idempotency_key.
            DatabaseError: The store refused; nothing was stored.

        Example:
            await sdk.meeting.speak("bob", meeting_id, {"text": "I agree."}, next_speaker_external_id="carol")
        """
        speaker_id = one_of("agent_external_id", agent_external_id, speaker_external_id=speaker_external_id)
        if meeting_id is None:
            raise InvalidArgumentError("meeting_id is missing. Pass the id of create_meeting.", field="meeting_id")
        check_given(message)
        check_options(None, idempotency_key)
        check_patience(timeout)
        number = check_turn(turn)
        speech = self._speech(message, metadata)
        if idempotency_key is not None:
            where = [parse_id(meeting_id, field="meeting_id")]
            mark = fingerprint(where, speech.content, speech.metadata, next_speaker=next_speaker_external_id)
            speech = replace(speech, idempotency_key=idempotency_key, fingerprint=mark)
        id, agent = await self._agent_in(speaker_id, meeting_id)
        following = await self._find_next(next_speaker_external_id)
        meetings = self.engine.meetings
        shown = meetings.last_shown(id, agent.id) if number is None else number
        act = Speak(agent.id, shown, None if following is None else following.id)
        outcome = await self._act(id, act, agent, following, speech=speech)
        if isinstance(outcome, Duplicate):
            said = outcome.message_ids[0]
        else:
            said = speech.message_id
            meetings.used(id, agent.id, act.number)
        if wait_for_turn or timeout is not None:
            return await self.wait_for_turn(speaker_id, id, timeout)
        return UUID(said)

    @by_name
    async def pass_turn(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
    ) -> None:
        """Pass one's turn on without a word; the arguments and errors are those of `speak`.

        Example:
            await sdk.meeting.pass_turn("bob", meeting_id)
        """
        number = check_turn(turn)
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        following = await self._find_next(next_speaker_external_id)
        meetings = self.engine.meetings
        shown = meetings.last_shown(id, agent.id) if number is None else number
        act = Pass(agent.id, shown, next_id=None if following is None else following.id)
        await self._act(id, act, agent, following)
        meetings.used(id, agent.id, act.number)

    # --- the host -----------------------------------------------------------------------------------------------------

    @by_name
    async def skip_turn(self, host_external_id: str, meeting_id: MeetingId, *, turn: int | Turn | None = None) -> None:
        """End the current turn of somebody and go on with the next; the host alone can.

        Args:
            host_external_id: The host.
            meeting_id: Where.
            turn: The turn that is meant; None is the one that is current when the call begins.

        Raises:
            NotMeetingHostError: The agent is not the host.
            TurnLostError: The turn meant is over.
            MeetingNotActiveError: The meeting has not started, or has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            await sdk.meeting.skip_turn("alice", meeting_id)
        """
        number = check_turn(turn)
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        if number is None:
            row = await self._get_meeting(id)
            number = None if row.turn is None else row.turn.number
        await self._act(id, Skip(host.id, number), host)

    @by_name
    async def remove_participant(self, host_external_id: str, meeting_id: MeetingId, agent_external_id: str) -> None:
        """Remove a participant, invited or attending; the host alone can. If it has the turn, that ends first.

        Raises:
            NotMeetingHostError: The agent is not the host.
            HostCannotLeaveError: The participant is the host itself.
            AgentNotInMeetingError: It is not a participant.
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            await sdk.meeting.remove_participant("alice", meeting_id, "bob")
        """
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        check_external_id(agent_external_id, field="agent_external_id")
        removed = await self.engine.names.get(agent_external_id, role="participant")
        await self._act(id, Remove(host.id, removed.id), host, removed)

    @by_name
    async def end_meeting(self, host_external_id: str, meeting_id: MeetingId) -> None:
        """End a meeting; the host alone can. Whoever waits for a turn is told; the ending is in the history.

        Raises:
            NotMeetingHostError: The agent is not the host; a `MeetingPermissionError`.
            MeetingNotActiveError: It has ended already.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            await sdk.meeting.end_meeting("alice", meeting_id)
        """
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        await self._act(id, End(host.id), host)

    @by_name
    async def leave_meeting(self, agent_external_id: str, meeting_id: MeetingId) -> None:
        """Leave a meeting. If the agent has the turn, that ends first, and goes to the next.

        The last participant beside the host may leave too: the meeting goes on until its host ends it.

        Raises:
            HostCannotLeaveError: The host ends the meeting instead.
            AgentNotInMeetingError: The agent is not a participant (any more).
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            await sdk.meeting.leave_meeting("bob", meeting_id)
        """
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        await self._act(id, Leave(agent.id), agent)

    @by_name
    async def update_participant_status(
        self, meeting_id: MeetingId, agent_id: UUID | str, status: ParticipantStatus | str
    ) -> None:
        """Set a participant's status by hand.

        ATTENDING is `attend_meeting`, LEFT is `leave_meeting`, INVITED takes an attendance back before the start. In an
        active meeting SPEAKING gives the participant the turn, which whoever has it passes on to it, and WAITING passes
        on the turn that it has. Setting the status that it has changes nothing.

        Args:
            meeting_id: Where.
            agent_id: UUID or external id.
            status: The new one.

        Raises:
            InvalidArgumentError: There is no such status.
            TurnLostError, NotYourTurnError: The turn changed meanwhile; nothing was changed by this call.
            MeetingStateError: The meeting's status forbids it.
            AgentNotInMeetingError, HostCannotLeaveError, MeetingNotActiveError: As of those calls.
            MeetingNotFoundError, AgentNotFoundError: The same.

        Example:
            await sdk.meeting.update_participant_status(meeting_id, "bob", ParticipantStatus.ATTENDING)
        """
        id = parse_id(meeting_id, field="meeting_id")
        wanted = parse_choice(ParticipantStatus, status, "status")
        acts: dict[ParticipantStatus, Callable[[str], Act]] = {
            ParticipantStatus.ATTENDING: Attend,
            ParticipantStatus.INVITED: Absent,
            ParticipantStatus.LEFT: Leave,
        }
        agent = await find_agent(self.engine, agent_id)
        if wanted not in acts:
            return await self._move_turn(id, agent, wanted)
        await self._act(id, acts[wanted](agent.id), agent, before_start=wanted is not ParticipantStatus.LEFT)
        return None

    async def _move_turn(self, meeting_id: str, agent: AgentName, wanted: ParticipantStatus) -> None:
        """Pass the current turn on, so that a participant speaks or waits."""
        found = await self.engine.store.meetings.find_standings([(meeting_id, agent.id)])
        standing = found[meeting_id, agent.id]
        if standing is None:
            raise await self._missing(meeting_id)
        if standing.seat is None or standing.seat == ParticipantStatus.LEFT:
            raise await explain(self.engine.names, Refused(Why.NOT_PARTICIPANT, standing.status, agent.id), agent)
        turn = standing.turn
        if standing.status is not MeetingStatus.ACTIVE or turn is None:
            raise wrong_status(standing.status, before_start=False)
        if standing.seat == wanted:
            return
        act: Act
        if wanted is ParticipantStatus.WAITING:
            act = Pass(agent.id, turn.number)
        elif turn.purpose is Purpose.SELECT:
            act = Choose(turn.number, agent.id)
        else:
            act = Pass(turn.agent_id, turn.number, next_id=agent.id)
        await self._act(meeting_id, act, agent)
