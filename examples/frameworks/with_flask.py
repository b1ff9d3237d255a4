"""A Flask service in front of an agent: each request asks it, with the blocking SDK, from whatever thread it is in.

Run: python examples/frameworks/with_flask.py
It needs flask. A test client stands where a browser would; `flask --app with_flask run` serves it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, jsonify, request

from agent_messaging import ConversationTimeoutError, MessageContext
from agent_messaging.sync import AgentMessaging

sdk = AgentMessaging()


@sdk.register_handler("clerk")
def clerk(message: dict[str, str], context: MessageContext) -> dict[str, str]:
    return {"answer": f"{message['ask']}? On Monday."}


@contextmanager
def started() -> Iterator[None]:
    """One SDK for the process; behind a server that forks, start it in each worker (gunicorn: `post_fork`)."""
    with sdk:
        sdk.register_organization("acme", "Acme")
        for agent in ("web", "clerk"):
            sdk.register_agent(agent, "acme", agent.title())
        yield


app = Flask(__name__)


@app.post("/ask")
def ask() -> Any:
    question = request.get_json()
    try:
        # A thread for each request: two requests at the same time are two conversations of the same agents.
        answer = sdk.conversation.send_and_wait("web", "clerk", question, timeout=20, thread=question["id"])
    except ConversationTimeoutError:
        return jsonify({"error": "nobody answered in time"}), 504
    return jsonify(answer)


def main() -> None:
    with started():
        client = app.test_client()
        for number in (1, 2):
            response = client.post("/ask", json={"id": f"request-{number}", "ask": "When do we ship"})
            print(response.status_code, response.get_json()["answer"])


if __name__ == "__main__":
    main()
