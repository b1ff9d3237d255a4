"""Work is handed to an agent that pulls it: two workers share its mailbox, and a job that fails is tried again.

Run: python examples/work_queue.py
"""

import asyncio

from agent_messaging import AgentMessaging, ReceivedMessage


async def work(sdk: AgentMessaging, worker: int, finished: list[int]) -> None:
    while jobs := await sdk.receive("builder", limit=2, timeout=1, lease=60):
        for job in jobs:
            await handle(job, worker, finished)


async def handle(job: ReceivedMessage, worker: int, finished: list[int]) -> None:
    number = job.content["number"]
    if number == 3 and job.context.attempt == 1:
        await job.retry(after=0.1, reason="the compiler was busy")
    else:
        finished.append(number)
        await job.done()


async def main() -> None:
    async with AgentMessaging() as sdk:
        await sdk.register_organization("acme", "Acme")
        await sdk.register_agent("planner", "acme", "Planner")
        await sdk.register_agent("builder", "acme", "Builder")
        for number in range(6):
            await sdk.one_way.send("planner", "builder", {"number": number}, require_handler=False)
        finished: list[int] = []
        await asyncio.gather(*(work(sdk, worker, finished) for worker in (1, 2)))
        print("finished", sorted(finished))


if __name__ == "__main__":
    asyncio.run(main())
