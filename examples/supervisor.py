"""A supervisor hands work to two workers: it plans, watches progress, mends what failed, and reports.

Run: python examples/supervisor.py
The workers may be in other processes, on other machines with PostgreSQL: then they are programs of their own, served by
`agent-messaging run module:sdk`. The same without asyncio is coordination_demo.py.
"""

import asyncio
from datetime import UTC, datetime, timedelta

from agent_messaging import AgentMessaging, TaskContext
from agent_messaging.exceptions import TaskExpiredError

PLAN = {"api": ("python", 60), "schema": ("sql", 60), "report": ("sql", 60), "legacy": ("cobol", 1)}
"""What is to be written, the capability that it needs, and the seconds for which anybody wants it."""


def hire(sdk: AgentMessaging) -> None:
    """Two workers: one knows Python, the other one SQL, and stumbles once."""
    stumbled: set[str] = set()

    @sdk.register_task_handler("ada", capabilities=["write", "python"], max_concurrent_tasks=2)
    async def ada(subject: str, context: TaskContext) -> str:
        context.progress(0.5, "a first draft")
        return f"{subject}.py"

    @sdk.register_task_handler("edgar", capabilities=["write", "sql"], max_concurrent_tasks=2)
    async def edgar(subject: str, context: TaskContext) -> str:
        if subject == "report" and subject not in stumbled:
            stumbled.add(subject)
            raise ConnectionError("the database was away")  # the log tells of it, and it is tried again
        return f"{subject}.sql"


async def main() -> None:
    async with AgentMessaging() as sdk:
        hire(sdk)
        # Everything is handed out at once; a task waits until somebody who can do it has room, or its deadline passes.
        now, tasks = datetime.now(UTC), {}
        for subject, (skill, seconds) in PLAN.items():
            needs, deadline = ["write", skill], now + timedelta(seconds=seconds)
            tasks[subject] = await sdk.tasks.delegate("write", subject, required_capabilities=needs, deadline=deadline)
        done = 0
        for subject, task_id in tasks.items():
            try:
                result = await sdk.tasks.result(task_id, timeout=60)
            except TaskExpiredError:
                print(f"{subject}: nobody could do it in time")
            else:
                done += 1
                print(f"{subject}: {result}, at attempt {(await sdk.tasks.get(task_id)).attempt}")
        print(f"done {done} of {len(PLAN)}")


if __name__ == "__main__":
    asyncio.run(main())
