"""The store and the names that the processes of the demo share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ... import Config

SENDER = "alice"
AGENTS = ("bob", "carol", "dave")
"""The agents that every worker serves."""
LINES = {"bob": "All tests are green."}
"""The speeches of the workers' turn handlers, by agent. An agent that is not here is silent in meetings."""


def config_for(path: str) -> Config:
    """The configuration of the demo, whatever the environment says: it shows the defaults."""
    from ... import Config, MessagingConfig

    messaging = MessagingConfig(
        auto_invoke_handlers=True,
        handler_timeout=30.0,
        handler_concurrency=10,
        handler_grace=60.0,
        require_handler=True,
        max_attempts=5,
        drain_timeout=5.0,
        mailbox_limit=1000,
    )
    return Config(url=f"sqlite:///{path}", messaging=messaging, auto_initialize_schema=True, debug=False)
