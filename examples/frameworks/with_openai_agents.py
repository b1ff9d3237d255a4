"""An agent of the OpenAI Agents SDK behind ours: its tool asks another agent, its memory is the conversation's history.

Run: python examples/frameworks/with_openai_agents.py
It needs openai-agents. A model of this file stands where OpenAI's would, so nothing leaves the machine.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, RunContextWrapper, Runner, Usage, function_tool
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from agent_messaging import AgentMessaging, MessageContext


class FakeModel(Model):
    """It looks the weather up where it has not yet, and then tells it."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        last = input[-1] if isinstance(input, list) else {"content": input}
        if last.get("type") == "function_call_output":
            return self._say(f"In Paris it is {last['output']}.")
        call = ResponseFunctionToolCall(
            id="call", call_id="call", type="function_call", name="ask_station", arguments=json.dumps({"city": "Paris"})
        )
        return ModelResponse(output=[call], usage=Usage(), response_id=None)

    def _say(self, text: str) -> ModelResponse:
        said = ResponseOutputText(type="output_text", text=text, annotations=[])
        message = ResponseOutputMessage(id="said", type="message", role="assistant", status="completed", content=[said])
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError("this program does not stream")


@function_tool
async def ask_station(run: RunContextWrapper[AgentMessaging], city: str) -> str:
    """Ask the weather station, in whatever process it is."""
    report = await run.context.conversation.send_and_wait("guide", "station", {"city": city}, timeout=30)
    return str(report["weather"])


async def main() -> None:
    guide = Agent(name="guide", instructions="Tell the weather.", model=FakeModel(), tools=[ask_station])
    async with AgentMessaging() as sdk:
        await sdk.register_organization("travel", "Travel")
        for agent in ("traveller", "guide", "station"):
            await sdk.register_agent(agent, "travel", agent.title())

        @sdk.register_handler("station")
        async def measure(message: dict[str, str], context: MessageContext) -> dict[str, str]:
            return {"weather": "sunny"}

        @sdk.register_handler("guide")
        async def answer(message: str, context: MessageContext) -> str:
            # What the two said before is in the store, so it outlives this process.
            assert context.session_id is not None
            said = await sdk.conversation.get_conversation_history(context.session_id, limit=20, newest_first=True)
            turns: list[Any] = [
                {"role": "user" if one.sender_id == context.sender_id else "assistant", "content": one.content}
                for one in reversed(said)
            ]
            config = RunConfig(tracing_disabled=True)
            result = await Runner.run(guide, turns, context=sdk, run_config=config)
            return str(result.final_output)

        print(await sdk.conversation.send_and_wait("traveller", "guide", "How is the weather in Paris?", timeout=60))


if __name__ == "__main__":
    asyncio.run(main())
