"""Meetings: several agents, one of whom speaks at a time; the store keeps the turns."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload
from uuid import UUID

from ..config import MessagingConfig
from ..delivery.engine import Engine
from ..delivery.meetings import Selector, holds_turn
from ..delivery.names import AgentName
from ..exceptions import (
    AgentMessagingError,
    AgentNotFoundError,
    AgentNotInMeetingError,
    HostCannotLeaveError,
    IdempotencyConflictError,
    InvalidArgumentError,
    InvalidMeetingError,
    MeetingNotActiveError,
    MeetingNotFoundError,
    MeetingStateError,
    MeetingTimeoutError,
    NotMeetingHostError,
    NotYourTurnError,
    TurnLostError,
)
from ..handlers.functions import check_function
from ..ids import check_external_id, check_page, check_timeout, parse_choice, parse_id, refuse, uuid7
from ..models import (
    Meeting,
    MeetingParticipant,
    MeetingStatus,
    ParticipantStatus,
    Record,
    SpeakerSelection,
    T,
    Turn,
)
from ..payloads import checksum, encode, encode_metadata, fingerprint
from ..storage.assembly import (
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
    Start,
    Why,
)
from ..storage.ports import (
    Acted,
    Duplicate,
    KeyConflict,
    MeetingRow,
    NewInvitation,
    NewMeeting,
    NewSpeech,
    SeatRow,
    TurnRow,
    UnknownAgents,
)
from . import analytics
from .arguments import MISSING_MESSAGE, check_given
from .door import Door
from .posting import check_options

MAX_PARTICIPANTS = 1_000
"""Agents in one meeting, its host included: bounds one transaction."""
MAX_TURN_DURATION = 7 * 24 * 3600.0
"""Seconds."""
MeetingId = str | UUID
_SELECTOR = "Pass a function of the meeting so far."
P = ParamSpec("P")
R = TypeVar("R")


class _RenewedError(Exception):
    """A name stands for another agent than was thought."""


def _by_name(method: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Begin anew where an agent was refused that another process has registered anew: nothing has changed by then."""

    @wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        while True:
            try:
                return await method(*args, **kwargs)
            except _RenewedError:
                continue

    return call


class MeetingManager(Door, Generic[T]):
    """`sdk.meeting`: meetings with turns. Turns, their deadlines and all that is said are in the store.

    A meeting is created (its host attends from the start), ready once everybody invited attends, active from its start,
    and ended by its host. Exactly one turn is current in an active meeting; turns are numbered from 1.
    """

    def __init__(self, find_engine: Callable[[], Engine], settings: MessagingConfig) -> None:
        super().__init__(find_engine)
        self.settings = settings

    # --- before the start ---------------------------------------------------------------------------------------------

    async def create_meeting(
        self,
        organizer_external_id: str | None = None,
        participant_external_ids: Sequence[str] | None = None,
        turn_duration: float | None = None,
        *,
        speaker_selection: str | SpeakerSelection | Selector = SpeakerSelection.ROUND_ROBIN,
        host: str | None = None,
        agents: Sequence[str] | None = None,
        host_external_id: str | None = None,
        agent_external_ids: Sequence[str] | None = None,
    ) -> UUID:
        """Create a meeting and invite its participants.

        The organizer is its host: participant 0, who attends from the start. The others join in the order given; each
        gets an invitation: a mapping of meeting_id, host, participants and turn_duration to the handler that
        `sdk.register_handler` registered for it, and to notification handlers (`context.is_meeting_message`). With
        `Invitation` in its annotation a handler gets that object; one whose annotation does not fit is passed over,
        with a warning in the log. An invitation is durable, as any message.

        Args:
            organizer_external_id: The host.
            participant_external_ids: The others, without repetitions; the host may be among them. May be empty.
            turn_duration: Seconds of a turn, at most a week; None is the setting `default_meeting_turn_duration` (60).
                With the setting `enable_turn_timeout=False` turns do not end by time.
            speaker_selection: Who has the next turn where the speaker names nobody: "round_robin" (the order of
                joining), "host" (the host, who names each speaker when it speaks itself), or a function of this
                process that is given the meeting so far (meeting_id, participants, last_speaker, turn, and of the
                newest 1,000 messages what was said and the notes) and returns an external id, or None for the order of
                joining. Where it fails, names a stranger, takes more than ten seconds, or its process is gone, the
                order decides.
            host: Another name for the organizer; so is host_external_id.
            agents: Another name for the participants; so is agent_external_ids.

        Returns:
            The meeting's id.

        Raises:
            InvalidMeetingError: Participants repeat, or there are more than 1,000; a `ValueError`.
            InvalidArgumentError: Another argument is refused; a `ValueError`.
            AgentNotFoundError: An agent is not registered; names the closest.
            OutcomeUnknownError, DatabaseError: The store failed.

        Example:
            id = await sdk.meeting.create_meeting("alice", ["bob", "carol"], turn_duration=30)
        """
        host_id = _one_of("organizer_external_id", organizer_external_id, host=host, host_external_id=host_external_id)
        others = _one_of(
            "participant_external_ids", participant_external_ids, agents=agents, agent_external_ids=agent_external_ids
        )
        check_external_id(host_id, field="organizer_external_id")
        participants = _check_participants(host_id, others)
        duration = self._check_duration(turn_duration)
        selection, selector = _check_selection(speaker_selection)
        engine = self.engine
        meeting_id = uuid7()

        async def create() -> None:
            seated, gone = await self._create(meeting_id, participants, duration, selection)
            if gone:  # removed, and perhaps registered anew under its name
                seated, gone = await self._create(meeting_id, participants, duration, selection)
            if gone:
                raise AgentNotFoundError(external_id=gone[0], role="participant")
            if selector is not None:
                engine.meetings.selectors[meeting_id] = selector
            engine.invited([agent.id for agent in seated[1:]])

        await engine.commits.run(create())
        return UUID(meeting_id)

    async def _create(
        self, meeting_id: str, participants: Sequence[str], duration: float | None, selection: SpeakerSelection
    ) -> tuple[list[AgentName], list[str]]:
        """Store it; the agents, and the external ids of those that turned out to be gone."""
        engine = self.engine
        agents = await engine.names.get_all(participants, role="participant")
        meeting = self._new_meeting(meeting_id, agents, duration, selection)
        outcome = await engine.store.meetings.create(meeting, owner=engine.store.presence.process_id)
        if not isinstance(outcome, UnknownAgents):
            return agents, []
        engine.names.forget(outcome.ids)
        return agents, [agent.external_id for agent in agents if agent.id in outcome.ids] or [participants[0]]

    def _new_meeting(
        self, meeting_id: str, agents: Sequence[AgentName], duration: float | None, selection: SpeakerSelection
    ) -> NewMeeting:
        facts = {
            "meeting_id": meeting_id,
            "host": agents[0].external_id,
            "participants": [agent.external_id for agent in agents],
            "turn_duration": duration,
        }
        content = encode(facts, limit_bytes=16 * 1024 * 1024)
        sum_ = checksum(content, None)
        return NewMeeting(
            meeting_id,
            agents[0].id,
            tuple(agent.id for agent in agents),
            duration,
            selection,
            tuple(
                NewInvitation(uuid7(), agent.id, content, sum_, self.engine.is_notified(agent)) for agent in agents[1:]
            ),
            self.settings.max_attempts,
        )

    def choose_speakers(self, meeting_id: MeetingId, function: Selector) -> None:
        """Name the function that chooses the speakers of a meeting hosted here, as after a restart of its process.

        It takes effect for meetings created with a function for `speaker_selection`, at once where a speaker is to be
        chosen already. Of several processes the one is woken that named it last, or that last waited for a turn of the
        host's.

        Raises:
            InvalidArgumentError: The id is none, or the function cannot be called.
        """
        id = parse_id(meeting_id, field="meeting_id")
        check_function(function, field="function", takes=_SELECTOR)
        self.engine.meetings.selectors[id] = function
        self.engine.meetings.look()

    @overload
    async def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: None = None,
        *,
        wait_for_turn: Literal[False] = False,
    ) -> bool: ...
    @overload
    async def attend_meeting(
        self, agent_external_id: str, meeting_id: MeetingId, timeout: float, *, wait_for_turn: bool = False
    ) -> Turn: ...
    @overload
    async def attend_meeting(
        self, agent_external_id: str, meeting_id: MeetingId, timeout: None = None, *, wait_for_turn: Literal[True]
    ) -> Turn: ...
    @overload
    async def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: float | None = None,
        *,
        wait_for_turn: bool = False,
    ) -> bool | Turn: ...
    @_by_name
    async def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: float | None = None,
        *,
        wait_for_turn: bool = False,
    ) -> bool | Turn:
        """Say that an invited agent is there. Attending again changes nothing.

        Args:
            agent_external_id: Who attends.
            meeting_id: Where.
            timeout: Given, it waits for the agent's turn as `wait_for_turn` does, at most so many seconds.
            wait_for_turn: True waits too, at most the setting `default_meeting_timeout`.

        Returns:
            True; or, where it waits, the `Turn`.

        Raises:
            AgentNotInMeetingError: The agent is not invited, or has left.
            MeetingStateError: The meeting has started or ended without the agent.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.
            MeetingTimeoutError: Its turn did not come in time. It attends all the same.
        """
        _check_wait(timeout)
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        outcome = await self._act(id, Attend(agent.id))
        if not (isinstance(outcome, Refused) and outcome.why is Why.NOTHING):
            await self._expect(id, outcome, agent, before_start=True)
        if wait_for_turn or timeout is not None:
            return await self.wait_for_turn(agent_external_id, id, timeout)
        return True

    async def wait_until_ready(self, meeting_id: MeetingId, timeout: float | None = None) -> MeetingStatus:
        """Wait until everybody invited attends; return the status, which may be a later one.

        Raises:
            MeetingTimeoutError: Some have not attended within `timeout` seconds (None: no limit).
            MeetingNotFoundError: There is no such meeting.
        """
        id = parse_id(meeting_id, field="meeting_id")
        check_timeout(timeout, allow_none=True)
        try:
            async with asyncio.timeout(timeout):
                return (await self.engine.meetings.readiness.wait([id]))[id].status
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            seats = await self.engine.store.meetings.list_seats(id)
            missing = await self._external([seat.agent_id for seat in seats if seat.status == "invited"])
            raise MeetingTimeoutError(
                f"After {timeout:g} seconds {', '.join(map(repr, missing))} had not attended. Let them attend, or "
                "remove them with remove_participant."
            ) from error

    @_by_name
    async def start_meeting(
        self,
        host_external_id: str,
        meeting_id: MeetingId,
        initial_message: T | None = MISSING_MESSAGE,
        next_speaker_external_id: str | None = None,
    ) -> None:
        """Start a meeting that is ready; its host alone can.

        Without an opening message the host holds turn 1, or whoever is named. With one, that is the host's turn 1, and
        the next speaker has turn 2.

        Args:
            host_external_id: The host.
            meeting_id: Which.
            initial_message: The host's opening message; leave it out for none.
            next_speaker_external_id: Who has the turn then; None leaves it to the meeting's speaker selection. With
                an opening message it has to be named in a meeting in which the host names the speakers.

        Raises:
            NotMeetingHostError: The agent is not the host; a `MeetingPermissionError`.
            MeetingStateError: Somebody has not attended (names them), or the meeting has started or ended.
            AgentNotInMeetingError: The next speaker is not a participant.
            MeetingNotFoundError, AgentNotFoundError, PayloadError, InvalidArgumentError: An argument is refused.
        """
        speech = None
        if initial_message is not MISSING_MESSAGE and initial_message is not None:
            speech = self._speech(initial_message, None)
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        following = await self._find_next(next_speaker_external_id)
        act = Start(host.id, speech is not None, None if following is None else following.id)
        outcome = await self._act(id, act, speech=speech)
        acted = await self._expect(id, outcome, host, following, before_start=True)
        if acted.turn is not None and acted.turn.agent_id == host.id:
            self.engine.meetings.observed[id, host.id] = acted.turn.number

    # --- turns --------------------------------------------------------------------------------------------------------

    @_by_name
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
        """
        _check_wait(timeout)
        if timeout is None:
            timeout = self.settings.default_meeting_timeout
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        meetings = self.engine.meetings
        try:
            async with asyncio.timeout(timeout or None):
                if timeout == 0:
                    found = (await self.engine.store.meetings.find_standings([(id, agent.id)]))[id, agent.id]
                    if found is None:
                        raise MeetingNotFoundError(meeting_id=id)
                    standing = found
                else:
                    standing = await meetings.wait_for_turn(id, agent)
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise self._no_turn(agent_external_id, timeout) from error
        if standing.seat is None or standing.seat is ParticipantStatus.LEFT:
            await self._check_names(agent)
            raise AgentNotInMeetingError(f"{agent_external_id!r} is not a participant of this meeting (any more).")
        if standing.status is MeetingStatus.ENDED:
            return await meetings.open_turn(id, agent, None, has_ended=True)
        if not holds_turn(standing, agent.id):
            raise self._no_turn(agent_external_id, timeout)
        return await meetings.open_turn(id, agent, standing.turn, has_ended=False)

    @staticmethod
    def _no_turn(agent_external_id: str, timeout: float) -> MeetingTimeoutError:
        return MeetingTimeoutError(
            f"{agent_external_id!r} did not get the turn within {timeout:g} seconds. Wait longer, or see who has it "
            "with get_meeting_status."
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
    @_by_name
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

        When it returns, the speech is committed and synced, under the turn's number, and the next turn is current.

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
        speaker_id = _one_of("agent_external_id", agent_external_id, speaker_external_id=speaker_external_id)
        if meeting_id is None:
            raise InvalidArgumentError("meeting_id is missing. Pass the id of create_meeting.", field="meeting_id")
        check_given(message)
        check_options(None, idempotency_key)
        _check_wait(timeout)
        number = _check_turn(turn)
        speech = self._speech(message, metadata)
        if idempotency_key is not None:
            where = [parse_id(meeting_id, field="meeting_id")]
            mark = fingerprint(where, speech.content, speech.metadata, next_speaker=next_speaker_external_id)
            speech = replace(speech, idempotency_key=idempotency_key, fingerprint=mark)
        id, agent = await self._agent_in(speaker_id, meeting_id)
        following = await self._find_next(next_speaker_external_id)
        meetings = self.engine.meetings
        observed = meetings.observed.get((id, agent.id))
        act = Speak(agent.id, observed if number is None else number, None if following is None else following.id)
        outcome = await self._act(id, act, speech=speech)
        if isinstance(outcome, Duplicate):
            said = outcome.message_ids[0]
        else:
            await self._expect(id, outcome, agent, following)
            said = speech.message_id
            meetings.used(id, agent.id, act.number)
        if wait_for_turn or timeout is not None:
            return await self.wait_for_turn(speaker_id, id, timeout)
        return UUID(said)

    @_by_name
    async def pass_turn(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
    ) -> None:
        """Pass one's turn on without a word; the arguments and errors are those of `speak`."""
        number = _check_turn(turn)
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        following = await self._find_next(next_speaker_external_id)
        observed = self.engine.meetings.observed.get((id, agent.id))
        act = Pass(
            agent.id,
            observed if number is None else number,
            next_id=None if following is None else following.id,
        )
        await self._expect(id, await self._act(id, act), agent, following)
        self.engine.meetings.used(id, agent.id, act.number)

    # --- the host -----------------------------------------------------------------------------------------------------

    @_by_name
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
        """
        number = _check_turn(turn)
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        if number is None:
            row = await self._meeting(id)
            number = None if row.turn is None else row.turn.number
        await self._expect(id, await self._act(id, Skip(host.id, number)), host)

    @_by_name
    async def remove_participant(self, host_external_id: str, meeting_id: MeetingId, agent_external_id: str) -> None:
        """Remove a participant, invited or attending; the host alone can. If it has the turn, that ends first.

        Raises:
            NotMeetingHostError: The agent is not the host.
            HostCannotLeaveError: The participant is the host itself.
            AgentNotInMeetingError: It is not a participant.
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.
        """
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        check_external_id(agent_external_id, field="agent_external_id")
        removed = await self.engine.names.get(agent_external_id, role="participant")
        await self._expect(id, await self._act(id, Remove(host.id, removed.id)), host, removed)

    @_by_name
    async def end_meeting(self, host_external_id: str, meeting_id: MeetingId) -> None:
        """End a meeting; the host alone can. Whoever waits for a turn is told; the ending is in the history.

        Raises:
            NotMeetingHostError: The agent is not the host; a `MeetingPermissionError`.
            MeetingNotActiveError: It has ended already.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.
        """
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        await self._expect(id, await self._act(id, End(host.id)), host)

    @_by_name
    async def leave_meeting(self, agent_external_id: str, meeting_id: MeetingId) -> None:
        """Leave a meeting. If the agent has the turn, that ends first, and goes to the next.

        The last participant beside the host may leave too: the meeting goes on until its host ends it.

        Raises:
            HostCannotLeaveError: The host ends the meeting instead.
            AgentNotInMeetingError: The agent is not a participant (any more).
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.
        """
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        await self._expect(id, await self._act(id, Leave(agent.id)), agent)

    @_by_name
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
            AgentNotInMeetingError, HostCannotLeaveError, MeetingNotActiveError, MeetingNotFoundError,
                AgentNotFoundError: As of those calls.
        """
        id = parse_id(meeting_id, field="meeting_id")
        wanted = parse_choice(ParticipantStatus, status, "status", "is not a status of participants.")
        acts: dict[ParticipantStatus, Callable[[str], Act]] = {
            ParticipantStatus.ATTENDING: Attend,
            ParticipantStatus.INVITED: Absent,
            ParticipantStatus.LEFT: Leave,
        }
        agent = await analytics.find_agent(self.engine, agent_id)
        if wanted not in acts:
            return await self._move_turn(id, agent, wanted)
        outcome = await self._act(id, acts[wanted](agent.id))
        if not (isinstance(outcome, Refused) and outcome.why is Why.NOTHING):
            await self._expect(id, outcome, agent, before_start=wanted is not ParticipantStatus.LEFT)
        return None

    async def _move_turn(self, meeting_id: str, agent: AgentName, wanted: ParticipantStatus) -> None:
        """Let a participant speak, or wait, by passing the current turn on."""
        found = await self.engine.store.meetings.find_standings([(meeting_id, agent.id)])
        standing = found[meeting_id, agent.id]
        if standing is None:
            raise MeetingNotFoundError(meeting_id=meeting_id)
        if standing.seat is None or standing.seat == ParticipantStatus.LEFT:
            raise await self._explain(Refused(Why.NOT_PARTICIPANT, standing.status, agent.id), agent, None)
        turn = standing.turn
        if standing.status is not MeetingStatus.ACTIVE or turn is None:
            raise _wrong_status(standing.status, before_start=False)
        if standing.seat == wanted:
            return
        act: Act
        if wanted is ParticipantStatus.WAITING:
            act = Pass(agent.id, turn.number)
        elif turn.purpose is Purpose.SELECT:
            act = Choose(turn.number, agent.id)
        else:
            act = Pass(turn.agent_id, turn.number, next_id=agent.id)
        await self._expect(meeting_id, await self._act(meeting_id, act), agent)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def get_meeting(self, meeting_id: MeetingId) -> Meeting | None:
        """Look a meeting up; None if there is none."""
        row = await self.engine.store.meetings.find_meeting(parse_id(meeting_id, field="meeting_id"))
        if row is None:
            return None
        turn = _speaking(row)
        return Meeting(
            id=UUID(row.meeting_id),
            host_id=UUID(row.host_id),
            status=row.status,
            current_speaker_id=None if turn is None else UUID(turn.agent_id),
            turn_duration=row.turn_duration,
            turn_started_at=None if turn is None else turn.started_at,
            created_at=row.created_at,
            started_at=row.started_at,
            ended_at=row.ended_at,
        )

    async def get_participants(self, meeting_id: MeetingId) -> list[MeetingParticipant]:
        """List the participants in the order of joining, those who left included.

        `is_locked` tells that the participant has to wait for its turn.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return [_participant(row.meeting_id, seat) for seat in await self._seats(row)]

    async def list_meetings(
        self,
        agent_external_id: str | None = None,
        *,
        status: MeetingStatus | str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Record]:
        """List meetings, newest first: of an agent, hosted ones included, or (None) all; `limit` at most 1,000.

        Returns:
            Mappings with attribute access as of `get_meeting_status`, without the participants.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.
        """
        check_page(limit, offset)
        agent = (
            None
            if agent_external_id is None
            else await analytics.find_agent(self.engine, agent_external_id, field="agent_external_id")
        )
        statuses = None
        if status is not None:
            statuses = [parse_choice(MeetingStatus, status, "status", "must be created, ready, active or ended.")]
        rows = await self.engine.store.meetings.list_meetings(
            None if agent is None else agent.id, statuses=statuses, limit=limit, offset=offset
        )
        return [await analytics.describe(self.engine, row) for row in rows]

    async def get_meeting_status(self, meeting_id: MeetingId) -> Record | None:
        """Describe how a meeting stands; None if there is none.

        Returns:
            A mapping with attribute access: meeting_id, status (also state), host_id (external; also
            host_external_id), current_speaker and current_speaker_external_id (external id, or None), turn (its
            number, or None), turn_duration, turn_started_at, turn_deadline, seconds_left, speaker_selection,
            participants (external ids in the order of joining, without those who left), participant_count,
            participant_details (agent_id, join_order, status, joined_at, left_at of all), created_at, started_at,
            ended_at.
        """
        row = await self.engine.store.meetings.find_meeting(parse_id(meeting_id, field="meeting_id"))
        return None if row is None else await analytics.describe_with_seats(self.engine, row)

    async def get_meeting_history(self, meeting_id: MeetingId) -> list[Record]:
        """List all that was said, oldest first, with the SDK's own notes: joins, leaves, timeouts, the ending.

        Returns:
            Mappings with attribute access: id (also message_id), sender (also sender_id), sender_name, message_type,
            content (plain JSON), metadata, is_damaged (True: what is stored is not what was said, and the content is
            None), created_at.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return await analytics.list_history(self.engine, row.meeting_id)

    async def get_meeting_details(self, meeting_id: MeetingId) -> Record:
        """Describe a meeting with its counts.

        Returns:
            A mapping with attribute access: meeting_id, host (id, name), status, current_speaker (id, name; or None),
            turn_duration_seconds, turn_started_at, created_at, started_at, ended_at, participants (external ids),
            participant_count, attending_count, message_count.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        return await analytics.get_details(self.engine, await self._meeting(parse_id(meeting_id, field="meeting_id")))

    async def get_participant_history(self, meeting_id: MeetingId) -> list[Record]:
        """List all participants with their times.

        Returns:
            Mappings with attribute access: id, agent_id (external), agent_name, status, join_order, is_locked,
            joined_at, left_at; in the order of joining.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return await analytics.list_participants(self.engine, row, await self._seats(row))

    async def get_meeting_statistics(self, agent_id: UUID | str) -> Record:
        """Count an agent's meetings.

        Args:
            agent_id: UUID or external id.

        Returns:
            A mapping with attribute access: agent_id (external), hosted_meetings, participated_meetings (of others),
            active_hosted, total_messages_sent, meetings_spoke_in, avg_meeting_duration_seconds (None without any).

        Raises:
            AgentNotFoundError: There is no such agent.
        """
        return await analytics.get_statistics(self.engine, agent_id)

    async def get_participation_analysis(self, meeting_id: MeetingId) -> Record:
        """Tell who took part how much.

        Returns:
            A mapping with attribute access: total_participants, active_participants (who spoke), inactive_participants,
            participation_rate (percent), by_participant (by external id: message_count, first_message_at,
            last_message_at, total_content_length (characters of JSON), speaking_time_seconds (of turns that ended with
            a speech), speaking_time_percentage, status), most_active and least_active (None where nobody spoke),
            total_messages.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return await analytics.analyse_participation(self.engine, row, await self._seats(row))

    async def get_meeting_timeline(self, meeting_id: MeetingId) -> Record:
        """List all events and messages in the order in which they happened, whatever the clock did meanwhile.

        Returns:
            A mapping with attribute access: meeting_id, started_at, ended_at, duration_seconds, status, timeline: a
            list of {type "message", timestamp, sender_id, message_type, message_id, content} and {type "event",
            timestamp, event_type, agent_id, data}.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return await analytics.get_timeline(self.engine, row)

    async def get_turn_statistics(self, meeting_id: MeetingId) -> Record:
        """Count the turns.

        Returns:
            A mapping with attribute access: total_turns, total_messages, avg_messages_per_turn, unique_speakers,
            turn_changes, avg_turn_seconds, turns (a list of number, agent_id, started_at, ended_at, duration_seconds,
            how), participants_turn_stats (by external id: turns_taken, messages_sent, avg_messages_per_turn,
            timeouts, total_seconds).
            Numbers that are missing are of turns in which a function chose the next speaker. The turns of an agent that
            was removed stay, without what it said; its agent_id is None (among participants_turn_stats its UUID as
            text) if it was removed after the meeting had ended.

        Raises:
            MeetingNotFoundError: There is no such meeting.
        """
        row = await self._meeting(parse_id(meeting_id, field="meeting_id"))
        return await analytics.get_turn_statistics(self.engine, row)

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _act(
        self, meeting_id: str, act: Act, *, speech: NewSpeech | None = None
    ) -> Acted | Refused | Duplicate | KeyConflict | None:
        """Let the store decide an act; handlers of events that were registered before hear of it."""
        await self.engine.events.ready()
        return await self.engine.meetings.act(meeting_id, act, speech=speech)

    async def _agent_in(
        self, agent_external_id: str, meeting_id: MeetingId, *, field: str = "agent_external_id"
    ) -> tuple[str, AgentName]:
        check_external_id(agent_external_id, field=field)
        id = parse_id(meeting_id, field="meeting_id")
        return id, await self.engine.names.get(agent_external_id)

    async def _find_next(self, external_id: str | None) -> AgentName | None:
        if external_id is None:
            return None
        check_external_id(external_id, field="next_speaker_external_id")
        return await self.engine.names.get(external_id, role="next speaker")

    async def _meeting(self, meeting_id: str) -> MeetingRow:
        row = await self.engine.store.meetings.find_meeting(meeting_id)
        if row is None:
            raise MeetingNotFoundError(meeting_id=meeting_id)
        return row

    async def _seats(self, row: MeetingRow) -> list[SeatRow]:
        return await self.engine.store.meetings.list_seats(row.meeting_id)

    def _speech(self, message: Any, metadata: Mapping[str, Any] | None) -> NewSpeech:
        content = encode(message, field="message", limit_bytes=self.settings.max_payload_bytes)
        encoded = encode_metadata(metadata, field="metadata")
        return NewSpeech(uuid7(), content, encoded, checksum(content, encoded))

    def _check_duration(self, value: float | None) -> float | None:
        if value is not None:
            check_timeout(value, field="turn_duration", most=MAX_TURN_DURATION)
        if not self.settings.enable_turn_timeout:
            return None
        return self.settings.default_meeting_turn_duration if value is None else float(value)

    async def _expect(
        self,
        meeting_id: str,
        outcome: Acted | Refused | Duplicate | KeyConflict | None,
        agent: AgentName,
        other: AgentName | None = None,
        *,
        before_start: bool = False,
    ) -> Acted:
        """What an act has become, or the error that says why it was refused.

        Args:
            before_start: It belongs before the start; others belong behind it.
        """
        if isinstance(outcome, Acted):
            return outcome
        if outcome is None:
            raise MeetingNotFoundError(meeting_id=meeting_id)
        if isinstance(outcome, KeyConflict):
            raise IdempotencyConflictError
        assert isinstance(outcome, Refused), outcome
        if outcome.why is Why.WRONG_STATUS:
            raise _wrong_status(outcome.status, before_start=before_start)
        raise await self._explain(outcome, agent, other)

    async def _explain(self, refused: Refused, agent: AgentName, other: AgentName | None) -> AgentMessagingError:
        if refused.why in (Why.NOT_HOST, Why.NOT_PARTICIPANT, Why.NEXT_NOT_SEATED):
            await self._check_names(agent, other)
        name = agent.external_id
        [holder] = await self._external([refused.agent_id]) if refused.agent_id else [None]
        match refused.why:
            case Why.NOT_HOST:
                return NotMeetingHostError(f"{name!r} is not the host of this meeting; only its host may do this.")
            case Why.HOST_LEAVES:
                return HostCannotLeaveError(
                    f"{(other or agent).external_id!r} is the host and cannot leave: end_meeting."
                )
            case Why.NOT_PARTICIPANT:
                who = other.external_id if other is not None and other.id == refused.agent_id else name
                return AgentNotInMeetingError(f"{who!r} is not a participant of this meeting (any more).")
            case Why.NEXT_NOT_SEATED:
                return AgentNotInMeetingError(
                    f"{holder!r} cannot have the next turn: it is not a participant (any more)."
                )
            case Why.NEXT_MISSING:
                return InvalidArgumentError(
                    "next_speaker_external_id: in this meeting the host names the next speaker. Pass one.",
                    field="next_speaker_external_id",
                )
            case Why.NOT_READY:
                missing = ", ".join(map(repr, await self._external(list(refused.missing))))
                have = "has" if len(refused.missing) == 1 else "have"
                return MeetingStateError(
                    f"The meeting is not ready: {missing} {have} not attended. Wait with wait_until_ready, or remove "
                    "who will not come with remove_participant."
                )
            case Why.NOT_YOUR_TURN:
                whose = f"{holder!r} has turn {refused.number}" if holder else "the next speaker is being chosen"
                return NotYourTurnError(f"It's not {name}'s turn: {whose}. Wait for it with wait_for_turn.")
        assert refused.why is Why.TURN_LOST, refused
        return TurnLostError(
            f"The turn this was meant for is over; turn {refused.number} is current. Nothing was stored. Wait for the "
            "next one with wait_for_turn."
        )

    async def _check_names(self, *agents: AgentName | None) -> None:
        """See whether it is these agents that were refused, not others that had their names before."""
        for agent in agents:
            if agent is not None and (await self.engine.names.look_again(agent)).id != agent.id:
                raise _RenewedError

    async def _external(self, ids: Sequence[str]) -> list[str]:
        names = await self.engine.names.find_by_id(ids)
        return [names[id].external_id if id in names else id for id in ids]


def _one_of(field: str, given: Any, **aliases: Any) -> Any:
    """The one of several names of an argument that was used."""
    used = {name: value for name, value in {field: given, **aliases}.items() if value is not None}
    if len(used) > 1:
        raise InvalidArgumentError(
            f"{' and '.join(used)} are names of one argument. Pass one of them.", field=list(used)[-1]
        )
    if not used:
        if field == "participant_external_ids":
            return []
        raise InvalidArgumentError(f"{field} is missing.", field=field)
    return next(iter(used.values()))


def _wrong_status(status: MeetingStatus, *, before_start: bool) -> AgentMessagingError:
    """Why an act cannot be in a meeting of this status."""
    if status is MeetingStatus.ENDED:
        text = "The meeting has ended."
        return MeetingStateError(text) if before_start else MeetingNotActiveError(text)
    if status is MeetingStatus.ACTIVE:
        return MeetingStateError("The meeting has started already.")
    if before_start:
        return MeetingStateError("The host attends its meeting from the start.")
    return MeetingNotActiveError(f"The meeting is {status.value}: it has not started. Its host starts it.")


def _check_participants(host: str, others: Any) -> list[str]:
    """All participants, the host first."""
    if isinstance(others, str) or not isinstance(others, list | tuple):
        raise refuse("participant_external_ids", others, "must be a list of external ids.")
    seen: dict[str, None] = {}
    for position, other in enumerate(others):
        check_external_id(other, field=f"participant_external_ids[{position}]")
        if other in seen:
            raise InvalidMeetingError(
                f"participant_external_ids[{position}]: {other!r} was named before. Name each participant once."
            )
        seen[other] = None
    seen.pop(host, None)
    if len(seen) >= MAX_PARTICIPANTS:
        raise InvalidMeetingError(
            f"{len(seen) + 1:,} participants were given; a meeting has at most {MAX_PARTICIPANTS:,}, its host included."
        )
    return [host, *seen]


def _check_selection(value: Any) -> tuple[SpeakerSelection, Selector | None]:
    if callable(value) and not isinstance(value, str):
        check_function(value, field="speaker_selection", takes=_SELECTOR)
        return SpeakerSelection.CUSTOM, value
    if isinstance(value, str) and value in (SpeakerSelection.ROUND_ROBIN, SpeakerSelection.HOST):
        return SpeakerSelection(value), None
    raise refuse("speaker_selection", value, "must be 'round_robin', 'host', or a function of the meeting so far.")


def _check_wait(timeout: float | None) -> None:
    """Refuse what is no time to wait, before anything is done; 0 only looks, None is left to the settings."""
    if timeout is not None and (type(timeout) not in (int, float) or timeout != 0):
        check_timeout(timeout)


def _check_turn(turn: int | Turn | None) -> int | None:
    if isinstance(turn, Turn):
        if turn.number is None:
            raise refuse("turn", None, "is the end of the meeting, in which nobody can act.")
        return turn.number
    if turn is None or (type(turn) is int and turn > 0):
        return turn
    raise refuse("turn", turn, "must be a Turn, its number from 1, or None.")


def _speaking(row: MeetingRow) -> TurnRow | None:
    return row.turn if row.turn is not None and row.turn.purpose is Purpose.SPEAK else None


def _participant(meeting_id: str, seat: SeatRow) -> MeetingParticipant:
    return MeetingParticipant(
        id=UUID(seat.seat_id),
        meeting_id=UUID(meeting_id),
        agent_id=UUID(seat.agent_id),
        status=seat.status,
        join_order=seat.join_order,
        is_locked=seat.status is ParticipantStatus.WAITING,
        joined_at=seat.joined_at,
        left_at=seat.left_at,
    )
