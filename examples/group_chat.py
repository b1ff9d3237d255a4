"""Three agents chat until one of them says the stop word; nobody writes a loop.

Run: python examples/group_chat.py
"""

import asyncio

from agent_messaging import AgentMessaging, MessageContext, Record

STOP = "DONE"


def seat_everybody(sdk: AgentMessaging) -> None:
    """Each says something in its turn. A language model would read `context.turn.messages`, and answer."""
    drafts = ["Turn and turn and turn about.", "Turn about."]
    remarks = ["Shorter, please.", f"That is it. {STOP}"]

    @sdk.register_meeting_handler("writer")
    async def write(message: dict[str, str], context: MessageContext) -> dict[str, str]:
        return {"text": drafts.pop(0)}

    @sdk.register_meeting_handler("critic")
    async def judge(message: dict[str, str], context: MessageContext) -> dict[str, str]:
        return {"text": remarks.pop(0)}


def is_done(meeting: Record) -> bool:
    """Asked after each turn, before anybody else speaks."""
    return meeting.last_message is not None and STOP in meeting.last_message.content["text"]


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("patron", "writer", "critic"):
            await sdk.register_agent(agent, "acme", agent.title())
        seat_everybody(sdk)
        transcript = await sdk.meeting.hold(
            "patron",
            ["writer", "critic"],
            {"text": "A poem about turns, please."},
            end_when=is_done,
            max_turns=20,
            max_duration=60,
        )
        for said in transcript.messages:
            print(f"{said.sender}: {said.content['text']}")
        print(f"{transcript.reason} after {transcript.turns} turns")


if __name__ == "__main__":
    asyncio.run(main())
