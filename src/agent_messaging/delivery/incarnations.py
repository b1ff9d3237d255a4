"""The host and pid of processes, for people: an incarnation id says nothing to them."""

from __future__ import annotations

from collections.abc import Collection

from ..exceptions import DatabaseError, OutcomeUnknownError
from ..ids import is_id
from ..loggers import get_logger
from ..storage.ports import ProcessStore

logger = get_logger("agent_messaging.delivery")

CACHE_LIMIT = 10_000
"""Processes remembered; at this many the cache starts anew."""


class Incarnations:
    """Host and pid by incarnation id. They never change, so each is looked up once."""

    def __init__(self, processes: ProcessStore) -> None:
        self._processes = processes
        self._known: dict[str, tuple[str, int] | None] = {}
        """None: the store has forgotten it."""

    async def find(self, process_ids: Collection[str]) -> dict[str, tuple[str, int]]:
        """The known ones among these. If the store does not answer, the unknown are left out."""
        missing = [id for id in set(process_ids) - self._known.keys() if is_id(id)]
        if missing:
            if len(self._known) + len(missing) > CACHE_LIMIT:
                self._known.clear()
                missing = [id for id in set(process_ids) if is_id(id)]
            try:
                found = await self._processes.find_processes(missing)
            except (DatabaseError, OutcomeUnknownError) as error:
                logger.debug("could not look up where processes ran: %s", error)
            else:
                self._known |= {id: found.get(id) for id in missing}
        return {id: place for id in process_ids if (place := self._known.get(id)) is not None}
