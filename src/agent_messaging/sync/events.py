"""Meeting events, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.handlers.events`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ..handlers.events import EventHandler
from ..handlers.events import MeetingEventHandler as AsyncMeetingEventHandler
from ..models import MeetingEventType, ParticipantStatus
from .running import Blocking


class MeetingEventHandler(Blocking[AsyncMeetingEventHandler]):
    """The event handlers of one SDK object; `sdk.meeting_events`.

    The handlers of one event run at the same time; one that fails or hangs disturbs no other, and no meeting.
    """

    def register_handler(self, event_type: MeetingEventType, handler: EventHandler) -> None:
        """Call the handler for each event of this type from now on.

        Annotated with a model (`event: MeetingEvent[TurnChangedEventData]`, or `data: TurnChangedEventData` where it
        takes three), it gets the data as that model. Data of an application's own event may not fit it: the handler is
        then not called, and the log says why.

        Raises:
            InvalidArgumentError: The type is not one, or the handler takes neither one nor three arguments.

        Example:
            def on_end(event):
                print(event.data.reason)

            sdk.meeting_events.register_handler(MeetingEventType.MEETING_ENDED, on_end)
        """
        return self._async.register_handler(event_type, handler)

    def unregister_handler(self, event_type: MeetingEventType, handler: EventHandler) -> bool:
        """Call it no more; False if it was not registered.

        Example:
            sdk.meeting_events.unregister_handler(MeetingEventType.MEETING_ENDED, on_end)
        """
        return self._async.unregister_handler(event_type, handler)

    def emit_event(self, meeting_id: UUID | str, event_type: MeetingEventType, data: dict[str, Any]) -> None:
        """Record an event of your own; the timeline has it, and the handlers of every SDK object get it.

        Raises:
            MeetingNotFoundError: There is no such meeting.
            InvalidArgumentError: The type is not one, or the data are no mapping.
            PayloadError: The data are not JSON, or larger than 64 KiB.

        Example:
            sdk.meeting_events.emit_event(meeting_id, MeetingEventType.ERROR_OCCURRED, {"printer": "on fire"})
        """
        self._run(lambda: self._async.emit_event(meeting_id, event_type, data))

    def emit_meeting_started(
        self, meeting_id: UUID | str, host_id: UUID | str, participant_ids: Sequence[UUID | str]
    ) -> None:
        """Record that a meeting started, for an application that holds it beside the SDK; nothing starts by it.

        Every `emit_...` call takes the fields of the event's model, and handlers get the event like the SDK's own.

        Args:
            meeting_id: The meeting.
            host_id: The id of an agent, not its external id, as in all these calls.
            participant_ids: In the order of joining.

        Raises:
            InvalidArgumentError: A value does not fit the model; says which, and what it must be.
            MeetingNotFoundError, PayloadError: As `emit_event`.

        Example:
            sdk.meeting_events.emit_meeting_started(meeting_id, alice.id, [alice.id, bob.id])
        """
        self._run(lambda: self._async.emit_meeting_started(meeting_id, host_id, participant_ids))

    def emit_meeting_ended(self, meeting_id: UUID | str, host_id: UUID | str) -> None:
        """Record that a meeting ended; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_meeting_ended(meeting_id, alice.id)
        """
        self._run(lambda: self._async.emit_meeting_ended(meeting_id, host_id))

    def emit_turn_changed(
        self,
        meeting_id: UUID | str,
        previous_speaker_id: UUID | str | None = None,
        current_speaker_id: UUID | str | None = None,
    ) -> None:
        """Record that somebody else has the turn; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_turn_changed(meeting_id, alice.id, bob.id)
        """
        self._run(lambda: self._async.emit_turn_changed(meeting_id, previous_speaker_id, current_speaker_id))

    def emit_participant_joined(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent joined; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_participant_joined(meeting_id, bob.id)
        """
        self._run(lambda: self._async.emit_participant_joined(meeting_id, agent_id))

    def emit_participant_left(self, meeting_id: UUID | str, agent_id: UUID | str) -> None:
        """Record that an agent left; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_participant_left(meeting_id, bob.id)
        """
        self._run(lambda: self._async.emit_participant_left(meeting_id, agent_id))

    def emit_timeout_occurred(
        self, meeting_id: UUID | str, timed_out_agent_id: UUID | str, next_speaker_id: UUID | str | None = None
    ) -> None:
        """Record that an agent's time was over; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_timeout_occurred(meeting_id, bob.id, carol.id)
        """
        self._run(lambda: self._async.emit_timeout_occurred(meeting_id, timed_out_agent_id, next_speaker_id))

    def emit_message_posted(
        self,
        meeting_id: UUID | str,
        message_id: UUID | str | None,
        sender_id: UUID | str,
        content: Any,
        timestamp: datetime | None = None,
    ) -> None:
        """Record a speech of up to 64 KiB; see `emit_meeting_started`.

        Args:
            meeting_id: The meeting.
            message_id: The id of the message, if there is one.
            sender_id: The speaker.
            content: The speech; JSON, as the payload of a message.
            timestamp: An instant with a time zone; None is now.

        Example:
            sdk.meeting_events.emit_message_posted(meeting_id, None, bob.id, {"text": "from the phone"})
        """
        self._run(lambda: self._async.emit_message_posted(meeting_id, message_id, sender_id, content, timestamp))

    def emit_participant_status_changed(
        self,
        meeting_id: UUID | str,
        agent_id: UUID | str,
        previous_status: ParticipantStatus | str,
        current_status: ParticipantStatus | str,
    ) -> None:
        """Record that a participant's status changed; see `emit_meeting_started`.

        Example:
            sdk.meeting_events.emit_participant_status_changed(meeting_id, bob.id, "invited", "attending")
        """
        self._run(
            lambda: self._async.emit_participant_status_changed(meeting_id, agent_id, previous_status, current_status)
        )

    def emit_error_occurred(
        self,
        meeting_id: UUID | str,
        error_type: str,
        error_message: str,
        affected_agent_id: UUID | str | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Record that something went wrong in a meeting; see `emit_meeting_started`.

        Args:
            meeting_id: The meeting.
            error_type: The kind of error, as a word for programs.
            error_message: A sentence for people.
            affected_agent_id: The agent that it concerns, if any.
            timestamp: An instant with a time zone; None is now.

        Example:
            sdk.meeting_events.emit_error_occurred(meeting_id, "printer", "It is on fire.", bob.id)
        """
        self._run(
            lambda: self._async.emit_error_occurred(meeting_id, error_type, error_message, affected_agent_id, timestamp)
        )
