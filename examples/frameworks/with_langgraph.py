"""Two LangGraph agents behind the SDK: a node of the writer's graph asks the critic's, wherever that one runs.

Run: python examples/frameworks/with_langgraph.py
It needs langgraph. Its models are fakes that stand where any chat model would, so nothing leaves the machine.
"""

import asyncio
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from agent_messaging import AgentMessaging, MessageContext


def scripted(*answers: str) -> GenericFakeChatModel:
    """A chat model that says these, one after the other."""
    return GenericFakeChatModel(messages=iter([AIMessage(answer) for answer in answers]))


def make_writer(sdk: AgentMessaging) -> Any:
    """A graph: draft, have it reviewed, revise."""
    model = scripted("Turn and turn and turn about.", "Turn about.")

    async def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def review(state: MessagesState) -> dict[str, Any]:
        # The ask is stored before it is sent: if this process dies, its run is repeated, and the critic's with it.
        draft = state["messages"][-1].content
        remark = await sdk.conversation.send_and_wait("writer", "critic", {"text": draft}, timeout=30)
        return {"messages": [HumanMessage(remark["text"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("draft", write)
    graph.add_node("review", review)
    graph.add_node("revise", write)
    for one, other in ((START, "draft"), ("draft", "review"), ("review", "revise"), ("revise", END)):
        graph.add_edge(one, other)
    return graph.compile()


def make_critic() -> Any:
    """A graph of one node."""
    model = scripted("Shorter, please.")

    async def judge(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("judge", judge)
    graph.add_edge(START, "judge")
    graph.add_edge("judge", END)
    return graph.compile()


def seat(sdk: AgentMessaging, agent: str, graph: Any) -> None:
    """Let a graph answer for an agent."""

    @sdk.register_handler(agent)
    async def answer(message: dict[str, str], context: MessageContext) -> dict[str, str]:
        state = await graph.ainvoke({"messages": [HumanMessage(message["text"])]})
        text = state["messages"][-1].content
        print(f"{agent} to {context.sender_id}: {text}")
        return {"text": text}


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("press", "Press")
        for agent in ("editor", "writer", "critic"):
            await sdk.register_agent(agent, "press", agent.title())
        seat(sdk, "writer", make_writer(sdk))
        seat(sdk, "critic", make_critic())
        line = await sdk.conversation.send_and_wait(
            "editor", "writer", {"text": "A line on turns, please."}, timeout=60
        )
        print(f"the editor has: {line['text']}")


if __name__ == "__main__":
    asyncio.run(main())
