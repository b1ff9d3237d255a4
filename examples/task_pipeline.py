"""A pipeline: each document is fetched, summarised and filed, by workers that take as much as they have room for.

Run: python examples/task_pipeline.py
"""

import asyncio
from typing import TypedDict

from agent_messaging import AgentMessaging, TaskContext

DOCUMENTS = ["contract", "invoice", "letter", "minutes"]


class Text(TypedDict):
    name: str
    text: str


async def main() -> None:
    async with AgentMessaging() as sdk:

        @sdk.register_task_handler("fetcher", capabilities=["fetch"], max_concurrent_tasks=4)
        async def fetch(name: str, context: TaskContext) -> Text:
            return {"name": name, "text": f"The {name} says a great deal."}

        @sdk.register_task_handler("summariser", capabilities=["summarise"], max_concurrent_tasks=2)
        async def summarise(document: Text, context: TaskContext) -> Text:
            context.progress(0.5, "read")
            return {"name": document["name"], "text": document["text"].split()[1]}

        filed: list[str] = []

        @sdk.register_task_handler("clerk", capabilities=["file"])
        async def file(document: Text, context: TaskContext) -> None:
            filed.append(document["text"])

        # Each stage begins with a document as soon as the stage before it has ended with it.
        async for fetched in sdk.tasks.map("fetch", DOCUMENTS, timeout=30):
            summary = await sdk.tasks.delegate("summarise", fetched.result, wait=True, timeout=30)
            await sdk.tasks.delegate("file", summary, wait=True, timeout=30)
        print("filed", ", ".join(sorted(filed)))


if __name__ == "__main__":
    asyncio.run(main())
