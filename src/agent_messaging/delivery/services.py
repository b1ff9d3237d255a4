"""The parts of an engine: each is started and closed in one way, and listed in one order."""

from __future__ import annotations

from contextlib import AsyncExitStack


class Service:
    """A part of the engine that is started, and closed."""

    async def start(self) -> None:
        """Begin."""

    def look(self) -> None:
        """Anything may have changed in the store."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way that leaving waits for."""
        return True

    async def wait_until_idle(self) -> None:
        """Wait until nothing is under way that leaving waits for."""

    async def aclose(self, timeout: float) -> None:
        """End. Work under way may reach the store for so many seconds. Idempotent."""
        raise NotImplementedError


class Services:
    """The parts of an engine, in the order in which they are started. They are closed in the opposite one."""

    def __init__(self) -> None:
        self._services: list[tuple[Service, float]] = []
        self._begun = AsyncExitStack()

    def add(self, *services: Service, closing: float) -> None:
        """Append these; each has so many seconds for its end."""
        self._services += [(service, closing) for service in services]

    async def start(self) -> None:
        """Start them all."""
        for service, closing in self._services:
            self._begun.push_async_callback(service.aclose, closing)
            await service.start()

    def look(self) -> None:
        """Make each look in the store."""
        for service, _ in self._services:
            service.look()

    async def drain(self) -> None:
        """Wait until all are idle. One may give work to another before it is."""
        while True:
            for service, _ in self._services:
                await service.wait_until_idle()
            if all(service.is_idle for service, _ in self._services):
                return

    async def aclose(self) -> None:
        """Close the services whose start was begun, all of them: also where one fails, or this is cancelled."""
        await self._begun.aclose()
