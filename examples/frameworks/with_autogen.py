"""Two AutoGen agents in a meeting of the SDK: each speaks when it has the turn, and hears what was said since its last.

Run: python examples/frameworks/with_autogen.py
It needs autogen-agentchat and autogen-ext. Its models replay what is written here, so nothing leaves the machine.
"""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_ext.models.replay import ReplayChatCompletionClient

from agent_messaging import AgentMessaging, MessageContext, Record

STOP = "DONE"
LINES = {
    "writer": ["Turn and turn and turn about.", "Turn about."],
    "critic": ["Shorter, please.", f"That is it. {STOP}"],
}


def seat(sdk: AgentMessaging, name: str) -> None:
    """Let an AutoGen agent take part; the meeting's order, deadlines and transcript are the store's."""
    agent = AssistantAgent(name, model_client=ReplayChatCompletionClient(LINES[name]))

    @sdk.register_meeting_handler(name)
    async def speak(message: dict[str, str], context: MessageContext) -> dict[str, str]:
        assert context.turn is not None
        heard = [TextMessage(content=said.content["text"], source=said.sender) for said in context.turn.messages]
        response = await agent.on_messages(heard, CancellationToken())
        return {"text": str(response.chat_message.to_text())}


def is_done(meeting: Record) -> bool:
    """Asked after each turn, before anybody else speaks."""
    return meeting.last_message is not None and STOP in meeting.last_message.content["text"]


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("press", "Press")
        for agent in ("editor", *LINES):
            await sdk.register_agent(agent, "press", agent.title())
        for agent in LINES:
            seat(sdk, agent)
        transcript = await sdk.meeting.hold(
            "editor", list(LINES), {"text": "A line on turns, please."}, end_when=is_done, max_turns=20, max_duration=60
        )
        for said in transcript.messages:
            print(f"{said.sender}: {said.content['text']}")
        print(f"{transcript.reason} after {transcript.turns} turns")


if __name__ == "__main__":
    asyncio.run(main())
