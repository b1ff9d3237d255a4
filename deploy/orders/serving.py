"""The agents of the worker: agent-messaging run orders.serving:sdk. The environment names the store."""

from agent_messaging import AgentMessaging, MessageContext, TaskContext

sdk = AgentMessaging()


@sdk.register_handler("desk")
async def on_question(question: str, context: MessageContext) -> str:
    """What it returns is the answer."""
    words = await sdk.tasks.delegate("count", question, wait=True, timeout=30)
    return f"You asked a question of {words} words."


@sdk.register_task_handler("counter", capabilities=["count"], max_concurrent_tasks=4)
async def count(text: str, context: TaskContext) -> int:
    """Any of the workers does it, whichever has room."""
    return len(text.split())
