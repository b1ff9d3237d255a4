"""The calls of a meeting until its start: create it, attend, start."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Sequence
from typing import Literal, overload
from uuid import UUID

from ...arguments import MISSING_MESSAGE, check_external_id, check_timeout, parse_id
from ...delivery.meetings import Selector
from ...delivery.names import AgentName
from ...exceptions import AgentMessagingError, AgentNotFoundError, MeetingTimeoutError
from ...handlers.functions import check_function
from ...ids import uuid7
from ...models import MeetingStatus, SpeakerSelection, T, Turn
from ...payloads import checksum, encode
from ...storage.assembly.terms import Attend, Start
from ...storage.ports import Acted, NewInvitation, NewMeeting, UnknownAgents
from .arguments import SELECTOR, MeetingId, check_duration, check_participants, check_selection, check_wait, one_of
from .refusals import by_name, external_ids
from .turns import MeetingTurns


class MeetingPreparation(MeetingTurns[T]):
    """The calls until the start of a meeting."""

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
        host_id = one_of("organizer_external_id", organizer_external_id, host=host, host_external_id=host_external_id)
        others = one_of(
            "participant_external_ids", participant_external_ids, agents=agents, agent_external_ids=agent_external_ids
        )
        check_external_id(host_id, field="organizer_external_id")
        participants = check_participants(host_id, others)
        duration = check_duration(turn_duration, self.settings)
        selection, selector = check_selection(speaker_selection)
        engine = self.engine
        meeting_id = uuid7()

        async def create() -> None:
            seated, gone = await self._create(meeting_id, participants, duration, selection)
            if gone:  # removed, and perhaps registered anew under its name
                seated, gone = await self._create(meeting_id, participants, duration, selection)
            if gone:
                raise AgentNotFoundError(external_id=gone[0], role="participant")
            if selector is not None:
                engine.meetings.selection.choose_speakers(meeting_id, selector)
            engine.announcer.invited([agent.id for agent in seated[1:]])

        await engine.commits.run(create())
        return UUID(meeting_id)

    async def _create(
        self, meeting_id: str, participants: Sequence[str], duration: float | None, selection: SpeakerSelection
    ) -> tuple[list[AgentName], list[str]]:
        """Store the meeting. Return its agents, and the external ids of those that turned out to be gone."""
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
                NewInvitation(uuid7(), agent.id, content, sum_, self.engine.notices.is_notified(agent))
                for agent in agents[1:]
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
        check_function(function, field="function", takes=SELECTOR)
        self.engine.meetings.selection.choose_speakers(id, function)
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
    @by_name
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
        check_wait(timeout)
        id, agent = await self._agent_in(agent_external_id, meeting_id)
        await self._act(id, Attend(agent.id), agent, before_start=True)
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
            missing = await external_ids(
                self.engine.names, [seat.agent_id for seat in seats if seat.status == "invited"]
            )
            raise MeetingTimeoutError(
                f"After {timeout:g} seconds {', '.join(map(repr, missing))} had not attended. Let them attend, or "
                "remove them with remove_participant."
            ) from error

    @by_name
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
        acted = await self._act(id, act, host, following, speech=speech, before_start=True)
        if isinstance(acted, Acted) and acted.turn is not None and acted.turn.agent_id == host.id:
            self.engine.meetings.show(id, host.id, acted.turn.number)
