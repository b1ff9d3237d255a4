"""A supervisor hands tasks to two workers; one task fails, and one finds nobody who can do it.

Run: python examples/coordination_demo.py
With Redis: REDIS_URL=redis://localhost:6379 python examples/coordination_demo.py
In memory: AGENT_COMMUNICATION_MODE=mock python examples/coordination_demo.py
It writes agent_communication_demo.log. Its source is agent_messaging/coordination/demo.py.
"""

from agent_messaging.coordination.demo import run_demo

if __name__ == "__main__":
    run_demo()
