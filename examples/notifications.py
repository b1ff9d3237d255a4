"""One agent notifies three others; the receipts say when each has handled it.

Run: python examples/notifications.py
"""

import asyncio

from pydantic import BaseModel

from agent_messaging import AgentMessaging, MessageContext, register_one_way_handler


class Alert(BaseModel):
    text: str
    priority: str = "normal"


@register_one_way_handler
async def on_alert(alert: Alert, context: MessageContext) -> None:
    print(f"{context.receiver_id}: {alert.text} ({alert.priority}, {context.metadata['ticket']})")


async def main() -> None:
    async with AgentMessaging[Alert]() as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("monitor", "alice", "bob", "carol"):
            await sdk.register_agent(agent, "acme", agent.title())
        ids = await sdk.one_way.send(
            "monitor",
            ["alice", "bob", "carol"],
            Alert(text="disk is 90 % full", priority="high"),
            metadata={"ticket": "OPS-7"},
        )
        receipts = await sdk.receipts.wait(ids, timeout=10)
        print(", ".join(f"{receipt.recipient_id} {receipt.state.value}" for receipt in receipts))


if __name__ == "__main__":
    asyncio.run(main())
