"""Celery beside the SDK: Celery runs the jobs, and a job asks an agent, and tells another one what became of it.

Run: python examples/frameworks/with_celery.py
It needs celery. The broker is in memory and the worker a thread of this program, so no server is needed.
"""

from celery import Celery
from celery.contrib.testing.worker import start_worker

from agent_messaging import MessageContext
from agent_messaging.sync import AgentMessaging

app = Celery("reports", broker="memory://", backend="cache+memory://")
sdk = AgentMessaging()
"""Workers that fork start it in each child: in a function that is connected to `celery.signals.worker_process_init`."""


@sdk.register_handler("analyst")
def analyst(message: dict[str, str], context: MessageContext) -> dict[str, str]:
    return {"text": f"The figures of {message['month']} are fine."}


@sdk.register_handler("boss")
def boss(message: dict[str, str], context: MessageContext) -> None:
    print(f"the boss hears from {context.sender_id}: {message['text']}")


@app.task(name="report", acks_late=True)
def report(month: str) -> str:
    """Celery may run a job twice after a crash. Under the same key, the note is stored once."""
    answer = sdk.conversation.send_and_wait("reporter", "analyst", {"month": month}, timeout=30)
    sent = sdk.one_way.send("reporter", "boss", answer, idempotency_key=f"report {month}")
    return str(sdk.receipts.wait(sent, timeout=30)[0].state.value)


def main() -> None:
    with sdk:
        sdk.register_organization("acme", "Acme")
        for agent in ("reporter", "analyst", "boss"):
            sdk.register_agent(agent, "acme", agent.title())
        with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
            print("the note is", report.delay("May").get(timeout=60))


if __name__ == "__main__":
    main()
