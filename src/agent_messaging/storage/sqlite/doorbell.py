"""The doorbell of a store: a UDP socket on the loopback, to whose port a datagram means "look".

Rows are the truth, so a lost ring costs a poll interval and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress

from ...single_flight import SingleFlight
from . import forks

_MERGE = 0.002
"""Seconds within which rings to one process are merged into one."""
_REMEMBERED = 10_000
"""Processes whose doorbell, or lack of one, is remembered."""
_LAST_PORT = 65_535
_CLOSED = -1


class Doorbell:
    """Hears rings, and rings the doorbells of others.

    Args:
        find_ports: The ports of the processes that live, by their ids.
        is_mine: Whether a ring is for this process: a port may have been another's before.
        on_ring: Called on the running loop.
    """

    def __init__(
        self,
        find_ports: Callable[[], Awaitable[Mapping[str, int]]],
        is_mine: Callable[[str], bool],
        on_ring: Callable[[], None],
    ) -> None:
        self._find_ports = find_ports
        self._is_mine = is_mine
        self._on_ring = on_ring
        self._ports: dict[str, int] = {}
        """Of the processes last seen alive; 0 for those that are not."""
        self._rung: dict[str, float] = {}
        """When each was last rung, or will be."""
        self._unknown: set[str] = set()
        self._learning = SingleFlight(self._learn, "learning the ports of doorbells")
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        forks.add(self)
        self._listening: asyncio.Task[None] | None = None
        try:
            self._loop.add_reader(self._socket, self._hear)
        except NotImplementedError:  # the loop of Windows waits for data, not for sockets
            self._listening = self._loop.create_task(self._listen(), name="hear the doorbell")

    async def _listen(self) -> None:
        """Hear each ring by itself. Our own ring to a closed port comes back as an error, which says nothing."""
        while self._socket.fileno() != _CLOSED:
            try:
                rung = await self._loop.sock_recv(self._socket, 64)
            except OSError:
                await asyncio.sleep(_MERGE)
            else:
                if self._is_mine(rung.decode("ascii", "replace")):
                    self._on_ring()

    def _hear(self) -> None:
        rung = False
        with suppress(OSError):
            while True:
                rung = self._is_mine(self._socket.recv(64).decode("ascii", "replace")) or rung
        if rung:
            self._on_ring()

    def ring(self, process_ids: Iterable[str]) -> None:
        """See `ports.Presence`."""
        now = self._loop.time()
        for process_id in process_ids:
            if process_id not in self._ports:
                self._unknown.add(process_id)
                continue
            next_time = self._rung.get(process_id, 0.0) + _MERGE
            if next_time <= now:
                self._rung[process_id] = now
                self._send(process_id)
            elif next_time - _MERGE <= now:  # otherwise a later one is on its way already
                self._rung[process_id] = next_time
                self._loop.call_at(next_time, self._send, process_id)
        if self._unknown:
            self._learning.request()

    def _send(self, process_id: str) -> None:
        if port := self._ports.get(process_id, 0):
            with suppress(OSError):  # closed; or a full buffer: its owner has rings enough to hear
                self._socket.sendto(process_id.encode(), ("127.0.0.1", port))

    async def _learn(self) -> None:
        # Where this fails nobody is rung: their polls find what there is.
        asked, self._unknown = self._unknown, set()
        living = await self._find_ports()
        # A process that is not among the living never comes back: ids are not used again.
        known = self._ports if len(self._ports) < _REMEMBERED else {}
        self._ports = dict.fromkeys((*known, *asked), 0)
        self._ports.update({process_id: port for process_id, port in living.items() if 0 <= port <= _LAST_PORT})
        self._rung = {id: at for id, at in self._rung.items() if id in self._ports}
        for process_id in asked:
            self._send(process_id)

    def abandon(self) -> None:
        """Close the child's descriptor, and leave the poller alone, which the parent uses too."""
        self._learning.is_closed = True
        os.close(self._socket.detach())

    async def aclose(self) -> None:
        """Hear and ring no more. Another loop than its own calls this only after the own one was closed."""
        if self._loop is asyncio.get_running_loop():
            await self._learning.aclose()
        if self._listening is not None:
            self._listening.cancel()
            if not self._loop.is_closed():
                await asyncio.wait([self._listening])
        elif not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()
