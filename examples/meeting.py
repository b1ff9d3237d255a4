"""Three agents meet: the host speaks by hand, two take part by turn handlers, one of them only once.

Run: python examples/meeting.py
"""

import asyncio
from typing import Any

from agent_messaging import AgentMessaging, MeetingEventPayload, MeetingEventType, MessageContext


def take_part(sdk: AgentMessaging) -> None:
    """Bob and Carol attend when they are invited, and say something when they have the turn."""

    @sdk.register_handler("bob")
    @sdk.register_handler("carol")
    async def on_invitation(invitation: dict[str, Any], context: MessageContext) -> None:
        if context.meeting_id is not None:
            await sdk.meeting.attend_meeting(context.receiver_id, context.meeting_id)

    @sdk.register_meeting_handler("bob")
    async def for_bob(message: dict[str, str], context: MessageContext) -> dict[str, str]:
        assert context.turn is not None  # it is called in a turn
        return {"text": f"I heard {len(context.turn.messages)} of you."}

    @sdk.register_meeting_handler("carol")
    async def for_carol(message: dict[str, str], context: MessageContext) -> dict[str, str] | None:
        number = context.turn.number if context.turn else None
        return {"text": "Ship it."} if number is not None and number < 5 else None  # None passes

    @sdk.register_event_handler(MeetingEventType.MEETING_ENDED)
    async def on_end(event: MeetingEventPayload) -> None:
        print(f"{event.data.host_external_id} ended it")


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("alice", "bob", "carol"):
            await sdk.register_agent(agent, "acme", agent.title())
        take_part(sdk)
        meeting_id = await sdk.meeting.create_meeting("alice", ["bob", "carol"], turn_duration=30)
        await sdk.meeting.wait_until_ready(meeting_id, timeout=10)
        await sdk.meeting.start_meeting("alice", meeting_id, {"text": "Do we release today?"})
        await sdk.meeting.wait_for_turn("alice", meeting_id, timeout=30)
        await sdk.meeting.speak("alice", meeting_id, {"text": "Any objections?"}, wait_for_turn=True)
        for said in await sdk.meeting.get_meeting_history(meeting_id):
            if said.message_type == "user_defined":
                print(f"{said.sender}: {said.content['text']}")
        turns = await sdk.meeting.get_turn_statistics(meeting_id)
        print(", ".join(f"{turn.number} {turn.agent_id} {turn.how.value}" for turn in turns.turns if turn.how))
        await sdk.meeting.end_meeting("alice", meeting_id)


if __name__ == "__main__":
    asyncio.run(main())
