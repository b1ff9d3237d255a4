"""Ask the desk a question, and print the answer: python -m orders.ask 'What time is it?'"""

import asyncio
import sys

from agent_messaging import AgentMessaging


async def main(question: str) -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("orders", "Orders")
        for agent in ("customer", "desk"):
            await sdk.register_agent(agent, "orders", agent.title())
        await sdk.wait_until_served("desk", timeout=30)
        print(await sdk.conversation.send_and_wait("customer", "desk", question, timeout=60))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What time is it?"))
