"""Holding a meeting in one call, and waiting for the end of one."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections.abc import Sequence
from uuid import UUID

from ...arguments import MISSING_MESSAGE, check_external_id, check_timeout, parse_id
from ...delivery.meetings import Condition, Selector
from ...exceptions import (
    AgentMessagingError,
    AgentNotFoundError,
    AgentNotInMeetingError,
    InvalidArgumentError,
    MeetingStateError,
    MeetingTimeoutError,
)
from ...futures import outlive
from ...models import Kind, MeetingStatus, SpeakerSelection, T, Transcript
from ...storage.assembly.terms import Attend
from .. import analytics
from .arguments import MeetingId
from .preparation import MeetingPreparation

PATIENCE = 1.0
"""Seconds for which a call that fails waits until its meeting has ended. The ending goes on behind them."""


class MeetingHolding(MeetingPreparation[T]):
    """The calls for those who only want a transcript."""

    async def hold(
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
            transcript = await sdk.meeting.hold("alice", ["bob", "carol"], {"text": "Where do we eat?"}, max_turns=7)
            for message in transcript.messages:
                print(message.sender, message.content["text"])
        """
        engine = self.engine
        bounds = (max_turns, max_duration, end_when, timeout)
        if not callable(speaker_selection) and all(bound is None for bound in bounds):
            raise InvalidArgumentError(
                "Nothing would end this meeting. Pass max_turns, max_duration, end_when or timeout.", field="max_turns"
            )
        check_timeout(attend_timeout, field="attend_timeout")
        check_timeout(timeout, allow_none=True)
        check_external_id(host_external_id, field="host_external_id")
        if host_speaks is None:
            host = await engine.names.get(host_external_id, role="host")
            handlers = engine.serving.find_handlers(host, Kind.TURN)
            names_speakers = speaker_selection == SpeakerSelection.HOST
            host_speaks = names_speakers or (handlers is not None and not handlers.newest.is_bare)
        creating = asyncio.ensure_future(
            self.create_meeting(
                host_external_id,
                participant_external_ids,
                turn_duration,
                speaker_selection=speaker_selection,
                max_turns=max_turns,
                max_duration=max_duration,
                end_when=end_when,
                host_speaks=host_speaks,
            )
        )
        try:
            async with asyncio.timeout(timeout):
                id = await outlive(creating)
                await self._attend_here(str(id))
                if await self.wait_until_ready(id, attend_timeout) is MeetingStatus.READY:
                    await self._start(host_external_id, id, opening, next_speaker_external_id)
                return await self.wait_until_ended(id)
        except BaseException as error:
            with contextlib.suppress(AgentMessagingError, builtins.TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await engine.commits.run(self._give_up(host_external_id, creating))
            if isinstance(error, builtins.TimeoutError) and not isinstance(error, AgentMessagingError):
                raise MeetingTimeoutError(
                    f"The meeting did not end within {timeout:g} seconds, so it was ended. Its history stays: "
                    "get_meeting_history. Allow more time, or bound it by max_turns or max_duration."
                ) from error
            raise

    async def _attend_here(self, meeting_id: str) -> None:
        """Attend for the participants with a turn handler here. Those elsewhere are to be woken in their process."""
        seats = await self.engine.store.meetings.list_seats(meeting_id)
        agents = await self.engine.names.find_by_id([seat.agent_id for seat in seats[1:]])
        for agent in agents.values():
            if self.engine.serving.find_handlers(agent, Kind.TURN) is not None:
                # One that has left meanwhile, or was removed, is not waited for: the meeting is held without it.
                with contextlib.suppress(AgentNotInMeetingError, AgentNotFoundError):
                    await self._act(meeting_id, Attend(agent.id), agent, before_start=True)

    async def _start(self, host_external_id: str, id: UUID, opening: T | None, next_speaker: str | None) -> None:
        """Start the meeting, unless somebody has ended it in the host's name."""
        try:
            await self.start_meeting(host_external_id, id, opening, next_speaker)
        except MeetingStateError:
            if (await self._get_meeting(id)).status is not MeetingStatus.ENDED:
                raise

    async def _give_up(self, host_external_id: str, creating: asyncio.Future[UUID]) -> None:
        with contextlib.suppress(AgentMessagingError):
            await self.end_meeting(host_external_id, await creating)

    async def wait_until_ended(self, meeting_id: MeetingId, timeout: float | None = None) -> Transcript:
        """Wait until a meeting has ended, in whatever process, and return what was said.

        Args:
            meeting_id: Which.
            timeout: Seconds; None is no limit.

        Raises:
            MeetingTimeoutError: It has not ended within `timeout` seconds. It goes on.
            MeetingNotFoundError: There is no such meeting (any more).

        Example:
            transcript = await sdk.meeting.wait_until_ended(meeting_id)
            print(transcript.reason)
        """
        id = parse_id(meeting_id, field="meeting_id")
        check_timeout(timeout, allow_none=True)
        try:
            async with asyncio.timeout(timeout):
                await self.engine.meetings.endings.wait([id])
        except builtins.TimeoutError as error:
            if isinstance(error, AgentMessagingError):
                raise
            raise MeetingTimeoutError(
                f"The meeting has not ended within {timeout:g} seconds. Wait longer, or have its host end it with "
                "end_meeting."
            ) from error
        return await analytics.get_transcript(self.engine, await self._get_meeting(id))
