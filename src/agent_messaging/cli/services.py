"""The agents that live processes serve; this command's own process is not among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..records import dataclass
from .external import read_names

if TYPE_CHECKING:
    from .. import AgentMessaging, Kind
    from ..storage.ports import ProcessRow

EVERY_AGENT = "*"


@dataclass(frozen=True, slots=True)
class Services:
    """A look at the processes of the store."""

    processes: Sequence[ProcessRow]
    names: dict[str, str]
    """External ids by id."""

    def is_served(self, agent_id: str, kind: Kind) -> bool:
        """Whether a live process handles what this agent receives."""
        return any(
            service.kind is kind and service.agent_id in (None, agent_id)
            for process in self.processes
            for service in process.services
        )

    def served_by(self, process: ProcessRow) -> list[str]:
        """The external ids of the agents a process serves, for whatever kind of message; "*" is all of them."""
        ids = {service.agent_id for service in process.services}
        return sorted(EVERY_AGENT if id is None else self.names.get(id, id) for id in ids)


async def read_services(sdk: AgentMessaging) -> Services:
    """Look at the live processes."""
    rows = await sdk.store.processes.list_processes(0.0)
    own = sdk.store.presence.process_id
    live = [row for row in rows if row.ended_at is None and row.process_id != own]
    ids = {service.agent_id for row in live for service in row.services if service.agent_id is not None}
    return Services(live, await read_names(sdk.store, ids))
