"""The calls of a meeting until its start: create it, attend, start."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload
from uuid import UUID

from ...arguments import (
    MISSING_MESSAGE,
    check_external_id,
    check_flag,
    check_patience,
    check_timeout,
    parse_id,
    refuse,
)
from ...delivery.meetings import Condition, Selector
from ...delivery.names import AgentName
from ...exceptions import AgentMessagingError, AgentNotFoundError, MeetingTimeoutError
from ...handlers.functions import check_function
from ...ids import uuid7
from ...models import Kind, MeetingStatus, SpeakerSelection, T, Turn
from ...observing import carrying
from ...payloads import checksum, encode
from ...storage.assembly.terms import Attend, Start
from ...storage.ports import Acted, NewInvitation, NewMeeting, UnknownAgents
from .arguments import (
    SELECTOR,
    MeetingId,
    check_bounds,
    check_duration,
    check_participants,
    check_selection,
    one_of,
)
from .refusals import by_name
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
        bounds = check_bounds(max_turns, max_duration, end_when)
        check_flag(host_speaks, "host_speaks")
        if selection is SpeakerSelection.HOST and not host_speaks:
            raise refuse("host_speaks", False, "must be True where the host names the speakers.")
        engine = self.engine
        planned = NewMeeting(
            uuid7(),
            "",
            (),
            duration,
            selection,
            max_attempts=self.settings.max_attempts,
            max_turns=bounds.max_turns,
            max_duration=bounds.max_duration,
            host_speaks=host_speaks,
            end_when=end_when is not None,
        )

        facts, invited = engine.announcer.facts, len(participants) - 1
        carried: dict[str, str] = {}
        if facts.ears.carriers and invited:
            carried = facts.invite(planned.meeting_id, host_id, invited)

        async def create() -> None:
            try:
                created, gone = await self._create(planned, participants, carried)
                if gone:  # removed, and perhaps registered anew under its name
                    created, gone = await self._create(planned, participants, carried)
                if gone:
                    raise AgentNotFoundError(external_id=gone[0], role="participant")
            except AgentMessagingError as error:
                if facts.ears.is_heard and invited:
                    facts.not_invited(planned.meeting_id, host_id, invited, carried, error)
                raise
            engine.meetings.selection.direct(planned.meeting_id, selector, end_when)
            engine.announcer.invited(created)

        await engine.commits.run(create())
        return UUID(planned.meeting_id)

    async def _create(
        self, planned: NewMeeting, participants: Sequence[str], carried: Mapping[str, str]
    ) -> tuple[NewMeeting, list[str]]:
        """Store the meeting. Return it with its agents, and the external ids of those that turned out to be gone."""
        engine = self.engine
        agents = await engine.names.get_all(participants, role="participant")
        meeting = self._invite(planned, agents, carried)
        outcome = await engine.store.meetings.create(meeting, owner=engine.store.presence.process_id)
        if not isinstance(outcome, UnknownAgents):
            return meeting, []
        engine.names.forget(outcome.ids)
        return meeting, [agent.external_id for agent in agents if agent.id in outcome.ids] or [participants[0]]

    def _invite(self, planned: NewMeeting, agents: Sequence[AgentName], carried: Mapping[str, str]) -> NewMeeting:
        """Seat these agents in a planned meeting, the host first."""
        facts: dict[str, object] = {
            "meeting_id": planned.meeting_id,
            "host": agents[0].external_id,
            "participants": [agent.external_id for agent in agents],
            "turn_duration": planned.turn_duration,
        }
        limits = {"max_turns": planned.max_turns, "max_duration": planned.max_duration}
        facts |= {name: limit for name, limit in limits.items() if limit is not None}
        content = encode(facts, limit_bytes=16 * 1024 * 1024)
        metadata, notices = carrying.pack(None, carried), self.engine.notices
        sum_ = checksum(content, metadata)
        invitations = (
            NewInvitation(uuid7(), agent.id, content, sum_, notices.is_notified(agent), metadata)
            for agent in agents[1:]
        )
        ids = tuple(agent.id for agent in agents)
        return replace(planned, host_id=ids[0], participant_ids=ids, invitations=tuple(invitations))

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
        self._direct(meeting_id, function, selector=function)

    def end_when(self, meeting_id: MeetingId, function: Condition) -> None:
        """Name the function that says when a meeting hosted here ends, as after a restart of its process.

        It takes effect for meetings created or started with `end_when`; otherwise as `choose_speakers`.

        Raises:
            InvalidArgumentError: The id is none, or the function cannot be called.

        Example:
            sdk.meeting.end_when(meeting_id, lambda meeting: len(meeting.messages) > 20)
        """
        self._direct(meeting_id, function, condition=function)

    def _direct(self, meeting_id: MeetingId, function: object, **given: Any) -> None:
        id = parse_id(meeting_id, field="meeting_id")
        check_function(function, field="function", takes=SELECTOR)
        self.engine.meetings.selection.direct(id, **given)
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

        Example:
            turn = await sdk.meeting.attend_meeting("bob", meeting_id, wait_for_turn=True)
        """
        check_patience(timeout)
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

        Example:
            await sdk.meeting.wait_until_ready(meeting_id, timeout=30)
        """
        id = parse_id(meeting_id, field="meeting_id")
        check_timeout(timeout, allow_none=True)
        try:
            async with asyncio.timeout(timeout):
                return (await self.engine.meetings.readiness.wait([id]))[id].status
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise await self._nobody_came(id, f"{timeout:g}") from error

    async def _nobody_came(self, meeting_id: str, seconds: str) -> MeetingTimeoutError:
        serving = self.engine.serving
        await serving.neighbours.read()
        seats = await self.engine.store.meetings.list_seats(meeting_id)
        names = await self.engine.names.find_by_id([seat.agent_id for seat in seats if seat.status == "invited"])
        kinds = (Kind.TURN, Kind.INVITATION, Kind.NOTIFICATION)
        alone = [
            repr(agent.external_id)
            for agent in names.values()
            if not any(serving.is_served(agent, kind, live_only=True) for kind in kinds)
        ]
        missing = ", ".join(repr(agent.external_id) for agent in names.values())
        unserved = f" No live process has a handler for {', '.join(alone)}." if alone else ""
        return MeetingTimeoutError(
            f"After {seconds} seconds {missing} had not attended.{unserved}",
            remedy="Let them attend (attend_meeting, or attend=True at register_meeting_handler), or remove them with "
            "remove_participant.",
        )

    @by_name
    async def start_meeting(
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
            await sdk.meeting.start_meeting("alice", meeting_id, {"text": "Shall we ship?"}, max_turns=12)
        """
        speech = None
        if initial_message is not MISSING_MESSAGE and initial_message is not None:
            speech = self._speech(initial_message, None)
        bounds = check_bounds(max_turns, max_duration, end_when)
        id, host = await self._agent_in(host_external_id, meeting_id, field="host_external_id")
        following = await self._find_next(next_speaker_external_id)
        act = Start(host.id, speech is not None, None if following is None else following.id, bounds)
        self.engine.meetings.selection.direct(id, condition=end_when)
        acted = await self._act(id, act, host, following, speech=speech, before_start=True)
        if end_when is not None:
            self.engine.meetings.look()  # it sits for the host, whom another process may have seated
        if isinstance(acted, Acted) and acted.turn is not None and acted.turn.agent_id == host.id:
            self.engine.meetings.show(id, host.id, acted.turn.number)
