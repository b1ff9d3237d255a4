"""The files of the project that `agent-messaging init` writes: PROJECT stands for its name. A test runs them."""

from __future__ import annotations

README = """\
# PROJECT

Two agents, `customer` and `desk`, and a worker that counts words.

    python -m pip install 'agent-messaging[postgres]' pytest
    python -m pytest
    agent-messaging run PROJECT.worker:sdk        # the worker; then in another terminal:
    python -m PROJECT.ask 'What time is it?'
    agent-messaging ask customer desk --text 'And now?'
    agent-messaging tail                          # what agents send to each other, as they do

The store is the file `agent_messaging.db` here. On PostgreSQL, in containers:

    export POSTGRES_PASSWORD=secret
    docker compose up --build --detach
    docker compose run --rm worker python -m PROJECT.ask 'What time is it?'

`PROJECT/agents.py` has the handlers: begin there. `agent-messaging doctor` says what is wrong, and what to do about it.
"""

AGENTS = '''\
"""The agents, and what they do with what they are sent."""

from agent_messaging import AgentMessaging, MessageContext, TaskContext

ORGANIZATION = "PROJECT"
AGENTS = {"customer": "Customer", "desk": "Help desk"}


def make_sdk(url: str | None = None) -> AgentMessaging:
    """Without a URL the store is that of the environment, or the file agent_messaging.db."""
    sdk = AgentMessaging(url)

    @sdk.register_handler("desk")
    async def on_message(text: str, context: MessageContext) -> str | None:
        """What it returns is the answer to a question. A note has none."""
        if not context.requires_reply:
            print(f"{context.sender_id}: {text}", flush=True)
            return None
        words = await sdk.tasks.delegate("count", text, wait=True, timeout=30)
        return f"You asked a question of {words} words."

    @sdk.register_task_handler("counter", capabilities=["count"], max_concurrent_tasks=4)
    async def count(text: str, context: TaskContext) -> int:
        """A task goes to whichever process of the worker has room for it."""
        return len(text.split())

    return sdk


async def register(sdk: AgentMessaging) -> None:
    """Make the agents known to the store. Repeating it changes nothing."""
    await sdk.register_organization(ORGANIZATION, ORGANIZATION.title())
    for agent, name in AGENTS.items():
        await sdk.register_agent(agent, ORGANIZATION, name)
'''

WORKER = '''\
"""The process that serves the agents: agent-messaging run PROJECT.worker:sdk"""

from .agents import make_sdk

sdk = make_sdk()
'''

ASK = '''\
"""Send a note to the desk, ask it a question, and print the answer: python -m PROJECT.ask 'What time is it?'"""

import asyncio
import sys

from agent_messaging import AgentMessaging

from .agents import register


async def main(question: str) -> None:
    async with AgentMessaging() as sdk:
        await register(sdk)
        await sdk.wait_until_served("desk", timeout=30)
        [note] = await sdk.one_way.send("customer", ["desk"], "Good morning")
        print("note", (await sdk.receipts.wait([note], timeout=30))[0].state)
        print(await sdk.conversation.send_and_wait("customer", "desk", question, timeout=60))


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What time is it?"))
'''

TEST = '''\
"""The agents answer. The store is in memory, so the test needs nothing else."""

import asyncio

from PROJECT.agents import make_sdk, register


def test_the_desk_answers() -> None:
    async def ask() -> str:
        async with make_sdk("sqlite://:memory:") as sdk:
            await register(sdk)
            return await sdk.conversation.send_and_wait("customer", "desk", "What time is it?", timeout=30)

    assert asyncio.run(ask()) == "You asked a question of 4 words."
'''

PYPROJECT = """\
[project]
name = "PROJECT"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["agent-messaging[postgres]"]

[project.optional-dependencies]
dev = ["pytest"]

[tool.pytest.ini_options]
pythonpath = ["."]
testpaths = ["tests"]
"""

DOCKERFILE = """\
FROM python:3.13-slim
# By its number, Kubernetes sees that the user is not root.
RUN useradd --uid 10001 --create-home worker
WORKDIR /srv/PROJECT
# A wheel of agent-messaging that lies here is taken before that of the index.
COPY pyproject.toml *.whl ./
RUN pip install --no-cache-dir --find-links . 'agent-messaging[postgres]'
COPY PROJECT ./PROJECT
USER 10001
ENV MESSAGING_DRAIN_TIMEOUT=20 PYTHONUNBUFFERED=1
# A list, not a line: behind a shell, signals do not arrive.
CMD ["agent-messaging", "run", "PROJECT.worker:sdk"]
STOPSIGNAL SIGTERM
"""

COMPOSE = """\
# export POSTGRES_PASSWORD=secret; docker compose up --build
services:
  postgres:
    image: postgres:18
    environment:
      POSTGRES_DB: agents
      POSTGRES_USER: agents
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it to a password}
    volumes: [postgres:/var/lib/postgresql]
    healthcheck:
      # By TCP: while it makes the database it hears its own socket alone, and is not ready.
      test: [CMD, pg_isready, --host=127.0.0.1, --username=agents]
      interval: 2s
      retries: 30

  schema:
    build: .
    command: [agent-messaging, db, init]
    environment: &store
      POSTGRES_HOST: postgres
      POSTGRES_DB: agents
      POSTGRES_USER: agents
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}
    depends_on:
      postgres: {condition: service_healthy}

  worker:
    build: .
    environment: *store
    deploy: {replicas: 2}
    stop_grace_period: 30s # longer than MESSAGING_DRAIN_TIMEOUT and some seconds
    restart: on-failure
    depends_on:
      schema: {condition: service_completed_successfully}

volumes:
  postgres:
"""

IGNORED = """\
agent_messaging.db*
.env
.venv
__pycache__
.pytest_cache
"""

FILES = {
    "README.md": README,
    "pyproject.toml": PYPROJECT,
    "PROJECT/__init__.py": "",
    "PROJECT/agents.py": AGENTS,
    "PROJECT/worker.py": WORKER,
    "PROJECT/ask.py": ASK,
    "tests/test_agents.py": TEST,
    "Dockerfile": DOCKERFILE,
    "compose.yaml": COMPOSE,
    ".gitignore": IGNORED,
    ".dockerignore": IGNORED,
}
"""What is written, by path."""


def files_of(name: str) -> dict[str, str]:
    """The files of a project of this name."""
    return {path.replace("PROJECT", name): text.replace("PROJECT", name) for path, text in FILES.items()}
