"""Agents that take work, for code without asyncio: who there is, what each can do, and how much it has to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, TypeVar

from pydantic_core import from_json

from ..arguments import check_count, check_external_id, check_name
from ..audit import get_file_logger
from ..handlers.tasks import check_capabilities
from ..payloads import encode_metadata
from ..storage.ports import AVAILABLE, Beat, NewWorker, WorkerRow
from .message_protocol import AgentRole, check_agent, parse_role
from .office import INTERVALS, PAGE, Desk, Office, read_rows

T = TypeVar("T")

MOST_TASKS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An agent, as the registry knows it."""

    agent_id: str
    agent_role: AgentRole
    capabilities: list[str]
    status: str
    """The agent's own word: with `"active"` and `"idle"` it takes tasks."""
    max_concurrent_tasks: int
    current_tasks: int
    """As they are booked for it, or as it says itself, whichever is more."""
    last_heartbeat: datetime
    metadata: dict[str, Any]
    is_available: bool
    """It lives, takes tasks, and has room for one more."""

    @property
    def load(self) -> float:
        """The share of its capacity that is taken; 1 or more is full."""
        return self.current_tasks / self.max_concurrent_tasks


class RegistryStats(TypedDict):
    """The state of the registry."""

    total_agents: int
    active_agents: int
    """Those whose heartbeat is not too old; what follows `by_status` is of these."""
    by_role: dict[str, int]
    by_status: dict[str, int]
    average_load: float
    """From 0 for idle to 1 for full; 0 where there are none."""
    total_capacity: int
    current_tasks: int


class AgentRegistry(Desk):
    """The agents of a target. It is shared like the queues of `MessageQueueManager`, with the same arguments.

    An agent is available from its registration until three heartbeat intervals (`AGENT_HEARTBEAT_INTERVAL`, 30 s)
    have passed without a heartbeat; receiving its messages is one too.

    Example:
        registry = AgentRegistry()
        registry.register_agent("builder", AgentRole.WORKER, ["python"], max_concurrent_tasks=3)
        registry.find_best_agent(["python"])
    """

    @property
    def _ttl(self) -> float:
        return INTERVALS * self._target.settings.heartbeat_interval

    def register_agent(
        self,
        agent_id: str,
        agent_role: AgentRole,
        capabilities: Iterable[str],
        max_concurrent_tasks: int = 1,
        metadata: dict[str, Any] | None = None,
    ) -> bool:
        """Make an agent known; it is found at once. Registering again replaces what is known, but not its tasks.

        Args:
            agent_id: 1 to 255 characters.
            agent_role: An `AgentRole` or its text.
            capabilities: What it can do.
            max_concurrent_tasks: How many tasks it may have at once, up to 2,147,483,647.
            metadata: What JSON can hold, with text keys.

        Returns:
            True.
        """
        role = parse_role(agent_role, "agent_role")
        check_count(max_concurrent_tasks, "max_concurrent_tasks", most=MOST_TASKS)
        worker = NewWorker(
            worker_id=check_agent(agent_id, "agent_id"),
            role=role.value,
            capabilities=tuple(check_capabilities(capabilities, "capabilities")),
            capacity=max_concurrent_tasks,
            ttl=self._ttl,
            metadata=encode_metadata(metadata),
        )
        self._change(lambda office: office.store.workers.register(worker))
        data = {"agent_role": role.value, "capabilities": list(worker.capabilities)}
        get_file_logger().log_agent_activity(agent_id, "registered", data)
        return True

    def find_available_agents(self, required_capabilities: Iterable[str], max_results: int = 10) -> list[AgentInfo]:
        """List the agents that live, take tasks, and have all these capabilities.

        The least loaded come first, of equal ones the longest idle. Full ones come last: they are listed with their
        load, and never chosen.

        Args:
            required_capabilities: All of them are needed; none is every agent.
            max_results: At most so many, up to 1,000.

        Raises:
            InvalidArgumentError: An argument is refused.
        """
        needs = check_capabilities(required_capabilities, "required_capabilities")
        check_count(max_results, "max_results", most=1000)
        return [_info(row) for row in self._run(lambda office: office.store.workers.find_available(needs, max_results))]

    def find_best_agent(self, required_capabilities: Iterable[str]) -> AgentInfo | None:
        """Return the agent that would get a task now, or None where nobody fits."""
        found = self.find_available_agents(required_capabilities, 1)
        return found[0] if found and found[0].is_available else None

    def update_heartbeat(self, agent_id: str, status: str = "active", current_tasks: int | None = None) -> bool:
        """Tell that an agent lives.

        Args:
            agent_id: The agent.
            status: Its word: with `"active"` and `"idle"` it takes tasks, with any other none.
            current_tasks: How many it has; it counts where that is more than are booked for it. None leaves what it
                said before.

        Returns:
            False where it is not registered.
        """
        check_name(status, "status")
        check_count(current_tasks, "current_tasks", least=0, most=MOST_TASKS, allow_none=True)
        beat = Beat(check_external_id(agent_id, "agent_id"), self._ttl, status, current_tasks)
        [known] = self._change(lambda office: office.store.workers.heartbeat([beat]))
        if known:
            data = {"status": status} if current_tasks is None else {"status": status, "current_tasks": current_tasks}
            get_file_logger().log_agent_activity(agent_id, "heartbeat", data)
        return known

    def get_agent(self, agent_id: str) -> AgentInfo | None:
        """Return what is known of an agent, dead or alive; None where it is not registered."""
        check_external_id(agent_id, "agent_id")
        found = self._run(lambda office: office.store.workers.find_workers([agent_id]))
        return _info(found[0]) if found else None

    def get_all_agents(self) -> list[AgentInfo]:
        """List all that are registered, in order of id, dead ones too."""
        return self._run(_list_all)

    def unregister_agent(self, agent_id: str) -> bool:
        """Forget an agent; its open tasks go to others. False where it was not registered."""
        check_external_id(agent_id, "agent_id")
        known = self._change(lambda office: office.store.workers.unregister(agent_id))
        if known:
            get_file_logger().log_agent_activity(agent_id, "unregistered")
        return known

    def cleanup_stale_agents(self) -> int:
        """Forget the agents whose heartbeat is too old; their open tasks go to others. Returns how many they were."""
        return len(self._change(remove_stale))

    def get_registry_stats(self) -> RegistryStats:
        """Count the agents and their tasks."""
        statistics = self._run(lambda office: office.store.workers.worker_statistics())
        return {
            "total_agents": statistics.total,
            "active_agents": statistics.alive,
            "by_role": statistics.by_role,
            "by_status": statistics.by_status,
            "average_load": statistics.load,
            "total_capacity": statistics.capacity,
            "current_tasks": statistics.busy,
        }

    def _change(self, work: Callable[[Office], Awaitable[T]]) -> T:
        """Do what may let tasks be assigned that wait for it."""

        async def change(office: Office) -> T:
            try:
                return await work(office)
            finally:
                office.hurry()

        return self._run(change)


async def remove_stale(office: Office) -> list[str]:
    """Forget the dead; returns who they were."""
    removed: list[str] = []
    while page := await office.store.workers.remove_stale(PAGE):
        removed += page
    for agent_id in removed:
        get_file_logger().log_agent_activity(agent_id, "removed", {"reason": "no heartbeat"})
    return removed


async def _list_all(office: Office) -> list[AgentInfo]:
    return [_info(row) async for row in read_rows(office.store.workers.list_workers)]


def _info(row: WorkerRow) -> AgentInfo:
    return AgentInfo(
        agent_id=row.worker_id,
        agent_role=AgentRole(row.role) if row.role in list(AgentRole) else AgentRole.WORKER,
        capabilities=list(row.capabilities),
        status=row.status if row.is_alive else "offline",
        max_concurrent_tasks=row.capacity,
        current_tasks=row.busy,
        last_heartbeat=row.heartbeat_at,
        metadata=_read(row.metadata),
        is_available=row.is_alive and row.status in AVAILABLE and row.free > 0,
    )


def _read(metadata: str | None) -> dict[str, Any]:
    try:
        values = from_json(metadata or "{}")
    except ValueError:  # a stranger wrote it: the agent is listed all the same
        values = None
    return values if isinstance(values, dict) else {}
