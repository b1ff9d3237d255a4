"""Two pydantic-ai agents behind the SDK: the front desk has a tool that asks the expert, typed on both sides.

Run: python examples/frameworks/with_pydantic_ai.py
It needs pydantic-ai-slim. A FunctionModel and a TestModel stand where any model would, so nothing leaves the machine.
"""

import asyncio

from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from agent_messaging import AgentMessaging, MessageContext


class Question(BaseModel):
    text: str


class Advice(BaseModel):
    text: str
    is_certain: bool


def route(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The front desk's model: it calls its tool, and repeats what that says."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[TextPart(f"Billing says: {last.content}")])
    assert isinstance(last, UserPromptPart)
    return ModelResponse(parts=[ToolCallPart("ask_expert", {"expert": "billing", "text": str(last.content)})])


front_desk = Agent(FunctionModel(route), deps_type=AgentMessaging)
billing = Agent(
    TestModel(custom_output_args={"text": "It was paid on Monday.", "is_certain": True}), output_type=Advice
)


@front_desk.tool
async def ask_expert(ctx: RunContext[AgentMessaging], expert: str, text: str) -> str:
    """Ask another agent of the house, in whatever process it is."""
    advice = await ctx.deps.conversation.send_and_wait(
        "front-desk", expert, Question(text=text), timeout=30, response_type=Advice
    )
    return advice.text if advice.is_certain else f"perhaps: {advice.text}"


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("customer", "front-desk", "billing"):
            await sdk.register_agent(agent, "acme", agent.title())

        @sdk.register_handler("front-desk")
        async def at_the_desk(question: Question, context: MessageContext) -> str:
            return str((await front_desk.run(question.text, deps=sdk)).output)

        @sdk.register_handler("billing")
        async def in_billing(question: Question, context: MessageContext) -> Advice:
            advice: Advice = (await billing.run(question.text)).output
            return advice

        question = Question(text="Was invoice 7 paid?")
        print(await sdk.conversation.send_and_wait("customer", "front-desk", question, timeout=60))


if __name__ == "__main__":
    asyncio.run(main())
