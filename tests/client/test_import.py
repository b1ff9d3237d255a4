"""Importing the SDK: what is loaded at once, and what only when it is used."""

from __future__ import annotations

import subprocess
import sys

LATER = (
    # Backends, and what belongs to them.
    "agent_messaging.storage.sqlite",
    "agent_messaging.storage.postgres",
    "apsw",
    "asyncpg",
    "redis",
    "sqlite3",
    # The command line and the tools for tests.
    "agent_messaging.cli",
    "agent_messaging.testing",
    "click",
    "rich",
    # Errors, `.env` files, and what pydantic loads for models of some kinds alone.
    "difflib",
    "dotenv",
    "importlib.metadata",
    "pydantic.root_model",
    "pydantic.networks",
    "pydantic.dataclasses",
    "pydantic.experimental",
    "pydantic.v1",
    # What serves agents once an SDK object is started.
    "agent_messaging.delivery.announcer",
    "agent_messaging.delivery.engine",
    "agent_messaging.delivery.dispatcher",
    # Patterns that many programs never use, and what errors, logs and threads alone need.
    "agent_messaging.messaging.archive",
    "agent_messaging.messaging.meeting",
    "agent_messaging.messaging.receipts",
    "agent_messaging.messaging.retention",
    "agent_messaging.messaging.sides",
    "agent_messaging.messaging.topics",
    "agent_messaging.portal",
    "json",
    # Nothing that the SDK has for programs beside it.
    "httpx",
    "fastapi",
    "hypothesis",
    "multiprocessing",
    "pytest",
    "email",
)


def test_what_few_need_is_not_loaded_at_the_start() -> None:
    code = (
        "import asyncio, sys\n"
        "from agent_messaging import AgentMessaging\n"
        f"print(*sorted(name for name in {LATER!r} if name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == []


def test_the_root_alone_loads_none_of_its_modules() -> None:
    code = "import sys, agent_messaging; print(*[name for name in sys.modules if name.startswith('agent_messaging')])"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["agent_messaging"]


def test_each_run_of_pytest_loads_the_plugin_and_nothing_else() -> None:
    code = (
        "import sys, agent_messaging.testing.plugin\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('agent_messaging', 'pydantic', 'apsw'))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["agent_messaging", "agent_messaging.testing", "agent_messaging.testing.plugin"]
