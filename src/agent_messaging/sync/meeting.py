"""Meetings, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.messaging.meeting`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Literal, overload
from uuid import UUID

from ..arguments import MISSING_MESSAGE
from ..delivery.meetings import Condition, Selector
from ..messaging.meeting import MeetingManager as AsyncMeetingManager
from ..messaging.meeting.arguments import MeetingId
from ..models import (
    Meeting,
    MeetingParticipant,
    MeetingStatus,
    MeetingStatusResponse,
    MessageType,
    ParticipantStatus,
    Record,
    SpeakerSelection,
    T,
    Transcript,
    Turn,
)
from .running import Blocking


class MeetingManager(Blocking[AsyncMeetingManager[T]], Generic[T]):
    """`sdk.meeting`: meetings with turns. Turns, their deadlines and all that is said are in the store.

    A meeting is created (its host attends from the start), ready once everybody invited attends, active from its start,
    and ended by its host, or by itself: `max_turns`, `max_duration`, `end_when`. Exactly one turn is current in an
    active meeting; turns are numbered from 1. `hold` does all of it in one call, and returns a transcript.
    """

    def hold(
        self,
        host_external_id: str,
        participant_external_ids: Sequence[str],
        opening: T | None = MISSING_MESSAGE,
        *,
        next_speaker_external_id: str | None = None,
        turn_duration: float | None = None,
        speaker_selection: str | SpeakerSelection | Selector = SpeakerSelection.ROUND_ROBIN,
        max_turns: int | None = None,
        max_duration: float | None = None,
        end_when: Condition | None = None,
        host_speaks: bool | None = None,
        attend_timeout: float = 30.0,
        timeout: float | None = None,
    ) -> Transcript:
        """Hold a meeting from its creation to its end, and return what was said.

        It creates the meeting, waits until everybody attends, starts it, and waits for its end. Participants with a
        turn handler in this SDK object attend by this call. Others attend by themselves: with `attend=True` at
        `register_meeting_handler`, or by `attend_meeting`.

        If the call is cancelled or raises, the meeting is ended. If the SDK is closed, or this process dies, it goes on
        until `max_turns` or `max_duration` ends it, and `wait_until_ended` waits for it elsewhere.

        Args:
            host_external_id: The host.
            participant_external_ids: The others.
            opening: The host's opening message, which is turn 1; leave it out for none.
            next_speaker_external_id: Who speaks first, after the opening.
            turn_duration, speaker_selection, max_turns, max_duration, end_when: As of `create_meeting`.
            host_speaks: True gives the host its turns, False leaves it out of the order. None is True if the host has
                a turn handler of its own in this SDK object, or names the speakers.
            attend_timeout: Seconds within which everybody has to attend.
            timeout: Seconds for the whole call; None is no limit.

        Raises:
            MeetingTimeoutError: Somebody has not attended in time (the error names who, and whom nobody serves), or the
                meeting did not end within `timeout`.
            InvalidArgumentError: Nothing would end the meeting, or an argument is refused as by `create_meeting`.
            AgentMessagingError: As of `create_meeting`, `start_meeting` and `wait_until_ended`.

        Example:
            transcript = sdk.meeting.hold("alice", ["bob", "carol"], {"text": "Where do we eat?"}, max_turns=7)
            for message in transcript.messages:
                print(message.sender, message.content["text"])
        """
        return self._run(
            lambda: self._async.hold(
                host_external_id,
                participant_external_ids,
                opening,
                next_speaker_external_id=next_speaker_external_id,
                turn_duration=turn_duration,
                speaker_selection=speaker_selection,
                max_turns=max_turns,
                max_duration=max_duration,
                end_when=end_when,
                host_speaks=host_speaks,
                attend_timeout=attend_timeout,
                timeout=timeout,
            )
        )

    def wait_until_ended(self, meeting_id: MeetingId, timeout: float | None = None) -> Transcript:
        """Wait until a meeting has ended, in whatever process, and return what was said.

        Args:
            meeting_id: Which.
            timeout: Seconds; None is no limit.

        Raises:
            MeetingTimeoutError: It has not ended within `timeout` seconds. It goes on.
            MeetingNotFoundError: There is no such meeting (any more).

        Example:
            transcript = sdk.meeting.wait_until_ended(meeting_id)
            print(transcript.reason)
        """
        return self._run(lambda: self._async.wait_until_ended(meeting_id, timeout))

    def create_meeting(
        self,
        organizer_external_id: str | None = None,
        participant_external_ids: Sequence[str] | None = None,
        turn_duration: float | None = None,
        *,
        speaker_selection: str | SpeakerSelection | Selector = SpeakerSelection.ROUND_ROBIN,
        max_turns: int | None = None,
        max_duration: float | None = None,
        end_when: Condition | None = None,
        host_speaks: bool = True,
        host: str | None = None,
        agents: Sequence[str] | None = None,
        host_external_id: str | None = None,
        agent_external_ids: Sequence[str] | None = None,
    ) -> UUID:
        """Create a meeting and invite its participants.

        The organizer is its host: participant 0, who attends from the start. The others join in the order given. Each
        gets an invitation, which is durable, as any message: a mapping of meeting_id, host, participants and
        turn_duration, and of max_turns and max_duration where they are given. It goes to the handler that
        `sdk.register_handler` registered for the agent, and to notification handlers (`context.is_meeting_message`).
        With `Invitation` in its annotation a handler gets that object. One whose annotation does not fit is passed
        over, with a warning in the log.

        Args:
            organizer_external_id: The host.
            participant_external_ids: The others, without repetitions; the host may be among them. May be empty.
            turn_duration: Seconds of a turn, at most a week; None is the setting `default_meeting_turn_duration` (60).
                With the setting `enable_turn_timeout=False` turns do not end by time.
            speaker_selection: Who has the next turn where the speaker names nobody: "round_robin" (the order of
                joining), "host" (the host, who names each speaker when it speaks itself), or a function of this
                process. It gets the meeting so far: a mapping with attribute access of meeting_id, participants,
                last_speaker, last_message (or None), turn, messages and notes (of both the newest 1,000). It returns
                an external id, or None to end the meeting. Where it fails, names a stranger, takes more than ten
                seconds, or its process is gone, the order of joining decides.
            max_turns: With so many turns the meeting ends, however the last one ended; an opening message is one.
                None does not end it by turns.
            max_duration: Seconds from the start after which the meeting ends, at most 366 days, whatever process is
                there then. A turn ends with its meeting. None does not end it by time.
            end_when: A function of this process that is asked after each turn whether the meeting ends. It gets the
                meeting so far, as the function above. Nobody speaks until it has answered, at most ten seconds. Where
                it fails, takes longer, or its process is gone, the meeting goes on under its other bounds.
            host_speaks: False leaves the host out of the order; it speaks only if somebody names it. When nobody else
                is left the meeting ends.
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
            id = sdk.meeting.create_meeting("alice", ["bob", "carol"], turn_duration=30)
        """
        return self._run(
            lambda: self._async.create_meeting(
                organizer_external_id,
                participant_external_ids,
                turn_duration,
                speaker_selection=speaker_selection,
                max_turns=max_turns,
                max_duration=max_duration,
                end_when=end_when,
                host_speaks=host_speaks,
                host=host,
                agents=agents,
                host_external_id=host_external_id,
                agent_external_ids=agent_external_ids,
            )
        )

    def choose_speakers(self, meeting_id: MeetingId, function: Selector) -> None:
        """Name the function that chooses the speakers of a meeting hosted here, as after a restart of its process.

        It takes effect for meetings created with a function for `speaker_selection`, at once where a speaker is to be
        chosen already. Of several processes the one is woken that named it last, or that last waited for a turn of the
        host's.

        Raises:
            InvalidArgumentError: The id is none, or the function cannot be called.

        Example:
            sdk.meeting.choose_speakers(meeting_id, lambda meeting: meeting.participants[0])
        """
        self._do(lambda: self._async.choose_speakers(meeting_id, function))

    def end_when(self, meeting_id: MeetingId, function: Condition) -> None:
        """Name the function that says when a meeting hosted here ends, as after a restart of its process.

        It takes effect for meetings created or started with `end_when`; otherwise as `choose_speakers`.

        Raises:
            InvalidArgumentError: The id is none, or the function cannot be called.

        Example:
            sdk.meeting.end_when(meeting_id, lambda meeting: len(meeting.messages) > 20)
        """
        self._do(lambda: self._async.end_when(meeting_id, function))

    @overload
    def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: None = None,
        *,
        wait_for_turn: Literal[False] = False,
    ) -> bool: ...
    @overload
    def attend_meeting(
        self, agent_external_id: str, meeting_id: MeetingId, timeout: float, *, wait_for_turn: bool = False
    ) -> Turn: ...
    @overload
    def attend_meeting(
        self, agent_external_id: str, meeting_id: MeetingId, timeout: None = None, *, wait_for_turn: Literal[True]
    ) -> Turn: ...
    @overload
    def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: float | None = None,
        *,
        wait_for_turn: bool = False,
    ) -> bool | Turn: ...

    def attend_meeting(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        timeout: float | None = None,
        *,
        wait_for_turn: bool = False,
    ) -> Any:
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

        Example:
            turn = sdk.meeting.attend_meeting("bob", meeting_id, wait_for_turn=True)
        """
        return self._run(
            lambda: self._any.attend_meeting(agent_external_id, meeting_id, timeout, wait_for_turn=wait_for_turn)
        )

    def wait_until_ready(self, meeting_id: MeetingId, timeout: float | None = None) -> MeetingStatus:
        """Wait until everybody invited attends; return the status, which may be a later one.

        Raises:
            MeetingTimeoutError: Some have not attended within `timeout` seconds (None: no limit).
            MeetingNotFoundError: There is no such meeting.

        Example:
            sdk.meeting.wait_until_ready(meeting_id, timeout=30)
        """
        return self._run(lambda: self._async.wait_until_ready(meeting_id, timeout))

    def start_meeting(
        self,
        host_external_id: str,
        meeting_id: MeetingId,
        initial_message: T | None = MISSING_MESSAGE,
        next_speaker_external_id: str | None = None,
        *,
        max_turns: int | None = None,
        max_duration: float | None = None,
        end_when: Condition | None = None,
    ) -> None:
        """Start a meeting that is ready; its host alone can.

        Without an opening message the host holds turn 1 (where it does not speak, the first participant), or the agent
        that is named. With one, that is the host's turn 1, and the next speaker has turn 2. It takes neither
        `deliver_at` nor `expires_in`, as `speak`: the first turn begins now.

        Args:
            host_external_id: The host.
            meeting_id: Which.
            initial_message: The host's opening message; leave it out for none.
            next_speaker_external_id: Who has the turn then; None leaves it to the meeting's speaker selection. With
                an opening message it has to be named in a meeting in which the host names the speakers.
            max_turns, max_duration, end_when: What ends the meeting by itself, as of `create_meeting`; None leaves each
                as it was created.

        Raises:
            NotMeetingHostError: The agent is not the host; a `MeetingPermissionError`.
            MeetingStateError: Somebody has not attended (names them), or the meeting has started or ended.
            AgentNotInMeetingError: The next speaker is not a participant.
            MeetingNotFoundError, AgentNotFoundError, PayloadError, InvalidArgumentError: An argument is refused.

        Example:
            sdk.meeting.start_meeting("alice", meeting_id, {"text": "Shall we ship?"}, max_turns=12)
        """
        self._run(
            lambda: self._async.start_meeting(
                host_external_id,
                meeting_id,
                initial_message,
                next_speaker_external_id,
                max_turns=max_turns,
                max_duration=max_duration,
                end_when=end_when,
            )
        )

    def wait_for_turn(self, agent_external_id: str, meeting_id: MeetingId, timeout: float | None = None) -> Turn:
        """Wait until an agent has the turn, in whatever process the one before it speaks, or the meeting has ended.

        It holds no connection and no thread. From now on the agent's acts here are bound to this turn: if it is over
        when they come, they are refused.

        Args:
            agent_external_id: Who waits.
            meeting_id: Where.
            timeout: Seconds; 0 only looks, None is the setting `default_meeting_timeout` (600).

        Returns:
            The turn: its number, its deadline, and what was said since the agent's last speech. At the end of the
            meeting one with `has_ended`, which is false: `while turn := …wait_for_turn(…): …`.

        Raises:
            MeetingTimeoutError: The turn did not come in time; a `TimeoutError`.
            AgentNotInMeetingError: The agent is not a participant, or no longer.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent (any more).

        Example:
            while turn := sdk.meeting.wait_for_turn("bob", meeting_id):
                sdk.meeting.speak("bob", meeting_id, {"text": "Yes"}, turn=turn)
        """
        return self._run(lambda: self._async.wait_for_turn(agent_external_id, meeting_id, timeout))

    @overload
    def speak(
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
    def speak(
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
    def speak(
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
    def speak(
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

    def speak(
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
    ) -> Any:
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
            sdk.meeting.speak("bob", meeting_id, {"text": "I agree."}, next_speaker_external_id="carol")
        """
        return self._run(
            lambda: self._any.speak(
                agent_external_id,
                meeting_id,
                message,
                metadata,
                next_speaker_external_id=next_speaker_external_id,
                turn=turn,
                wait_for_turn=wait_for_turn,
                timeout=timeout,
                idempotency_key=idempotency_key,
                speaker_external_id=speaker_external_id,
            )
        )

    def pass_turn(
        self,
        agent_external_id: str,
        meeting_id: MeetingId,
        *,
        next_speaker_external_id: str | None = None,
        turn: int | Turn | None = None,
    ) -> None:
        """Pass one's turn on without a word; the arguments and errors are those of `speak`.

        Example:
            sdk.meeting.pass_turn("bob", meeting_id)
        """
        self._run(
            lambda: self._async.pass_turn(
                agent_external_id, meeting_id, next_speaker_external_id=next_speaker_external_id, turn=turn
            )
        )

    def skip_turn(self, host_external_id: str, meeting_id: MeetingId, *, turn: int | Turn | None = None) -> None:
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
            sdk.meeting.skip_turn("alice", meeting_id)
        """
        self._run(lambda: self._async.skip_turn(host_external_id, meeting_id, turn=turn))

    def remove_participant(self, host_external_id: str, meeting_id: MeetingId, agent_external_id: str) -> None:
        """Remove a participant, invited or attending; the host alone can. If it has the turn, that ends first.

        Raises:
            NotMeetingHostError: The agent is not the host.
            HostCannotLeaveError: The participant is the host itself.
            AgentNotInMeetingError: It is not a participant.
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            sdk.meeting.remove_participant("alice", meeting_id, "bob")
        """
        self._run(lambda: self._async.remove_participant(host_external_id, meeting_id, agent_external_id))

    def end_meeting(self, host_external_id: str, meeting_id: MeetingId) -> None:
        """End a meeting; the host alone can. Whoever waits for a turn is told; the ending is in the history.

        Raises:
            NotMeetingHostError: The agent is not the host; a `MeetingPermissionError`.
            MeetingNotActiveError: It has ended already.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            sdk.meeting.end_meeting("alice", meeting_id)
        """
        self._run(lambda: self._async.end_meeting(host_external_id, meeting_id))

    def leave_meeting(self, agent_external_id: str, meeting_id: MeetingId) -> None:
        """Leave a meeting. If the agent has the turn, that ends first, and goes to the next.

        The last participant beside the host may leave too: the meeting goes on until its host ends it.

        Raises:
            HostCannotLeaveError: The host ends the meeting instead.
            AgentNotInMeetingError: The agent is not a participant (any more).
            MeetingNotActiveError: The meeting has ended.
            MeetingNotFoundError, AgentNotFoundError: There is no such meeting or agent.

        Example:
            sdk.meeting.leave_meeting("bob", meeting_id)
        """
        self._run(lambda: self._async.leave_meeting(agent_external_id, meeting_id))

    def update_participant_status(
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
            sdk.meeting.update_participant_status(meeting_id, "bob", ParticipantStatus.ATTENDING)
        """
        self._run(lambda: self._async.update_participant_status(meeting_id, agent_id, status))

    def get_meeting(self, meeting_id: MeetingId) -> Meeting | None:
        """Look a meeting up; None if there is none.

        Example:
            meeting = sdk.meeting.get_meeting(meeting_id)
        """
        return self._run(lambda: self._async.get_meeting(meeting_id))

    def get_participants(self, meeting_id: MeetingId) -> list[MeetingParticipant]:
        """List the participants in the order of joining, those who left included.

        `is_locked` tells that the participant has to wait for its turn.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            for participant in sdk.meeting.get_participants(meeting_id):
                print(participant.agent_id, participant.status)
        """
        return self._run(lambda: self._async.get_participants(meeting_id))

    def list_meetings(
        self,
        agent_external_id: str | None = None,
        *,
        status: MeetingStatus | str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        before: MeetingId | None = None,
    ) -> list[Record]:
        """List meetings, newest first: of an agent, hosted ones included, or (None) all.

        Args:
            agent_external_id: Whose; None is all meetings.
            status: Only those that are "created", "ready", "active" or "ended" now; None is all.
            date_from: Created at or after this aware instant; None is no bound.
            date_to: Created at or before it.
            limit: At most so many, 1 to 1,000.
            offset: So many of the newest are passed over.
            before: The id of a meeting: only those created before it, so that a page costs as much however deep it is.
                Pass the id of the last one of the page before. None begins at the newest.

        Returns:
            Mappings with attribute access as of `get_meeting_status`, without what is about participants.

        Raises:
            AgentNotFoundError: There is no such agent.
            InvalidArgumentError: An argument is out of range.

        Example:
            for meeting in sdk.meeting.list_meetings("alice", status="active"):
                print(meeting.meeting_id)
        """
        return self._run(
            lambda: self._async.list_meetings(
                agent_external_id,
                status=status,
                date_from=date_from,
                date_to=date_to,
                limit=limit,
                offset=offset,
                before=before,
            )
        )

    def get_meeting_status(self, meeting_id: MeetingId) -> MeetingStatusResponse | None:
        """Describe how a meeting stands; None if there is none.

        Returns:
            A mapping with attribute access; `MeetingStatusResponse` names its keys.

        Example:
            status = sdk.meeting.get_meeting_status(meeting_id)
            print(status.state, status.current_speaker, status.turn)
        """
        return self._run(lambda: self._async.get_meeting_status(meeting_id))

    def get_meeting_history(
        self,
        meeting_id: MeetingId,
        *,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
        message_types: Iterable[MessageType | str] | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
        before: UUID | str | None = None,
        after: UUID | str | None = None,
        newest_first: bool = False,
    ) -> list[Record]:
        """List what was said, oldest first, with the SDK's own notes: joins, leaves, timeouts, the ending.

        Args:
            meeting_id: Of this meeting.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.
            message_types: Of these types alone, such as ["user_defined"]; None is all.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            limit: At most so many, 1 to 1,000; None is all.
            offset: So many are passed over.
            before: The id of a message: only older ones. A page by position costs as much however deep it is, and what
                is said meanwhile moves nothing.
            after: The id of a message: only newer ones. Pass the id of the last one of the page before.
            newest_first: List from the newest on. Then pass the id of the last one of a page as `before`.

        Returns:
            Mappings with attribute access: id (also message_id), sender (also sender_id), sender_name, message_type,
            content (plain JSON), metadata, is_damaged (True: what is stored is not what was said, and the content is
            None), created_at.

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: An argument is refused; names it.

        Example:
            for said in sdk.meeting.get_meeting_history(meeting_id):
                print(said.sender, said.content)
        """
        return self._run(
            lambda: self._async.get_meeting_history(
                meeting_id,
                date_from=date_from,
                date_to=date_to,
                message_types=message_types,
                metadata_filter=metadata_filter,
                limit=limit,
                offset=offset,
                before=before,
                after=after,
                newest_first=newest_first,
            )
        )

    def get_transcript(self, meeting_id: MeetingId, *, format: str = "markdown") -> str:
        """Return what was said in a meeting as a page for people, with who joined, left, passed and was silent.

        See `sdk.conversation.get_transcript` for what the page is like. A meeting that goes on is shown as far as it
        is.

        Args:
            meeting_id: Of this meeting.
            format: "markdown" (or "md") or "html".

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: There is no such format.

        Example:
            print(sdk.meeting.get_transcript(meeting_id))
        """
        return self._run(lambda: self._async.get_transcript(meeting_id, format=format))

    def get_meeting_details(self, meeting_id: MeetingId) -> Record:
        """Describe a meeting with its counts.

        Returns:
            A mapping with attribute access: meeting_id, host (id, name), status, current_speaker (id, name; or None),
            turn_duration_seconds, turn_started_at, created_at, started_at, ended_at, end_reason, participants (external
            ids), participant_count, attending_count, message_count.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            details = sdk.meeting.get_meeting_details(meeting_id)
        """
        return self._run(lambda: self._async.get_meeting_details(meeting_id))

    def get_participant_history(self, meeting_id: MeetingId) -> list[Record]:
        """List all participants with their times.

        Returns:
            Mappings with attribute access: id, agent_id (external), agent_name, status, join_order, is_locked,
            joined_at, left_at; in the order of joining.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            history = sdk.meeting.get_participant_history(meeting_id)
        """
        return self._run(lambda: self._async.get_participant_history(meeting_id))

    def get_meeting_statistics(self, agent_id: UUID | str) -> Record:
        """Count an agent's meetings.

        Args:
            agent_id: UUID or external id.

        Returns:
            A mapping with attribute access: agent_id (external), hosted_meetings, participated_meetings (of others),
            active_hosted, total_messages_sent, meetings_spoke_in, avg_meeting_duration_seconds (None without any).

        Raises:
            AgentNotFoundError: There is no such agent.

        Example:
            statistics = sdk.meeting.get_meeting_statistics("alice")
            print(statistics.active_hosted)
        """
        return self._run(lambda: self._async.get_meeting_statistics(agent_id))

    def get_participation_analysis(self, meeting_id: MeetingId) -> Record:
        """Tell who took part how much.

        Returns:
            A mapping with attribute access: total_participants, active_participants (who spoke), inactive_participants,
            participation_rate (percent), by_participant (by external id: message_count, first_message_at,
            last_message_at, total_content_length (characters of JSON), speaking_time_seconds (of turns that ended with
            a speech), speaking_time_percentage, status), most_active and least_active (None where nobody spoke),
            total_messages.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            analysis = sdk.meeting.get_participation_analysis(meeting_id)
            print(analysis.by_participant["bob"].message_count)
        """
        return self._run(lambda: self._async.get_participation_analysis(meeting_id))

    def get_meeting_timeline(self, meeting_id: MeetingId) -> Record:
        """List all events and messages in the order in which they happened, whatever the clock did meanwhile.

        Returns:
            A mapping with attribute access: meeting_id, started_at, ended_at, duration_seconds, status, end_reason,
            timeline: a list of {type "message", timestamp, sender_id, message_type, message_id, content} and {type
            "event", timestamp, event_type, agent_id, data}.

        Raises:
            MeetingNotFoundError: There is no such meeting.

        Example:
            for entry in (sdk.meeting.get_meeting_timeline(meeting_id)).timeline:
                print(entry.type)
        """
        return self._run(lambda: self._async.get_meeting_timeline(meeting_id))

    def get_turn_statistics(self, meeting_id: MeetingId) -> Record:
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

        Example:
            statistics = sdk.meeting.get_turn_statistics(meeting_id)
            print(statistics.participants_turn_stats["bob"].turns_taken)
        """
        return self._run(lambda: self._async.get_turn_statistics(meeting_id))
