"""All ways in one workflow: a topic tells, a meeting chooses, tasks write, an ask checks, a note tells everybody.

Run: python examples/newsroom.py
"""

import asyncio

from agent_messaging import AgentMessaging, MessageContext, TaskContext

AGENTS = {"wire": "The wire", "chief": "The editor in chief", "ann": "Ann", "ben": "Ben", "checker": "The fact checker"}


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("paper", "The paper")
        for name, title in AGENTS.items():
            await sdk.register_agent(name, "paper", title)
        news: asyncio.Queue[str] = asyncio.Queue()
        told: list[str] = []

        @sdk.register_handler("chief")
        async def chief(message: str, context: MessageContext) -> None:
            await news.put(message)

        @sdk.register_handler("checker")
        async def checker(story: str, context: MessageContext) -> bool:
            return "rumour" not in story

        for name in ("ann", "ben"):

            @sdk.register_meeting_handler(name, attend=True)
            async def vote(message: object, context: MessageContext) -> str:
                return "storm"

            @sdk.register_handler(name)
            async def hear(message: str, context: MessageContext) -> None:
                told.append(f"{context.receiver_id} heard: {message}")

        @sdk.register_task_handler("desk", capabilities=["write"], max_concurrent_tasks=2)
        async def write(subject: str, context: TaskContext) -> str:
            return f"A {subject} is coming."

        # 1. A topic brings the news to whoever is subscribed.
        await sdk.topics.subscribe("chief", "news.*")
        for subject in ("storm", "rumour"):
            await sdk.topics.publish("wire", "news.local", subject)
        subjects = {await news.get(), await news.get()}
        # 2. A meeting chooses what comes first.
        held = await sdk.meeting.hold("chief", ["ann", "ben"], sorted(subjects), max_turns=3)
        votes = [said.content for said in held.messages if isinstance(said.content, str) and said.content in subjects]
        # 3. Tasks write the stories, and an ask checks each.
        stories = [result.result async for result in sdk.tasks.map("write", sorted(subjects), timeout=30)]
        good = [one for one in stories if await sdk.conversation.send_and_wait("chief", "checker", one, timeout=30)]
        # 4. A note tells the reporters, and its receipts say that they heard it.
        ids = await sdk.one_way.send("chief", ["ann", "ben"], f"{max(votes)} leads with: {good[0]}")
        await sdk.receipts.wait(ids, timeout=30)
        print("\n".join(sorted(told)))


if __name__ == "__main__":
    asyncio.run(main())
