"""An agent asks a person before it spends money, and waits; the person answers from another program, or from here.

Run: python examples/human_in_the_loop.py
To answer as the person, run it in a terminal and type yes or no. Without a terminal, pat answers by a rule.
"""

import asyncio
import sys

from agent_messaging import AgentMessaging, ConversationTimeoutError, MessageContext


def decide(question: str) -> str:
    """What a person would say; a plain function, so it may take its time without holding anything up."""
    if sys.stdin.isatty():
        return input(f"{question} [yes/no] ")
    return "yes" if "20" in question else "no"


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("shop", "The shop")
        for name, title in (("office", "Office"), ("buyer", "Buying agent"), ("pat", "Pat, a person")):
            await sdk.register_agent(name, "shop", title)

        @sdk.register_handler("pat", concurrency=1)
        def pat(question: str, context: MessageContext) -> str:
            return decide(question)

        @sdk.register_handler("buyer")
        async def buyer(order: dict[str, int], context: MessageContext) -> list[str]:
            bought = []
            for item, price in order.items():
                try:
                    said = await sdk.conversation.send_and_wait(
                        "buyer", "pat", f"May I buy {item} for {price}?", timeout=120
                    )
                except ConversationTimeoutError:
                    said = "no"  # nobody was there: the safe answer
                if said == "yes":
                    bought.append(item)
            return bought

        order = {"paper": 20, "a printer": 400}
        print("bought", await sdk.conversation.send_and_wait("office", "buyer", order, timeout=300))


if __name__ == "__main__":
    asyncio.run(main())
