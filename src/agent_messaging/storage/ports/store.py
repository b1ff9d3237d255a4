"""A backend as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from .archive import ArchiveStore
from .base import Capabilities, Dues, StoreFacts
from .deliveries import DeliveryStore
from .directory import DirectoryStore
from .forwarding import ForwardingStore
from .meetings import MeetingStore
from .messages import MessageStore
from .parts import PartStore
from .processes import Presence, ProcessStore
from .queue import QueueStore
from .retention import RetentionStore
from .schedules import ScheduleStore
from .search import SearchStore
from .sessions import SessionStore
from .tasks import TaskPool
from .topics import TopicStore
from .workers import WorkerStore

if TYPE_CHECKING:
    from ...observing.figures import PoolFigures


class Store(Protocol):
    """A backend. Built without I/O; usable between `open` and `aclose`."""

    @property
    def location(self) -> str:
        """Which store it is: the file, or the URL without its password."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def directory(self) -> DirectoryStore: ...
    @property
    def deliveries(self) -> DeliveryStore: ...
    @property
    def messages(self) -> MessageStore: ...
    @property
    def sessions(self) -> SessionStore: ...
    @property
    def parts(self) -> PartStore: ...
    @property
    def topics(self) -> TopicStore: ...
    @property
    def forwarding(self) -> ForwardingStore: ...
    @property
    def meetings(self) -> MeetingStore: ...
    @property
    def search(self) -> SearchStore: ...
    @property
    def retention(self) -> RetentionStore: ...
    @property
    def queue(self) -> QueueStore: ...
    @property
    def workers(self) -> WorkerStore: ...
    @property
    def tasks(self) -> TaskPool: ...
    @property
    def schedules(self) -> ScheduleStore: ...
    @property
    def archive(self) -> ArchiveStore: ...
    @property
    def processes(self) -> ProcessStore: ...
    @property
    def presence(self) -> Presence: ...

    async def open(self, *, initialize: bool = True) -> None:
        """Connect, check that the store is ours and safe, and bring the schema up to date.

        `initialize=False` only verifies the schema: `SchemaVersionError` names the command to run. Safe to call from
        many processes at once.
        """
        ...

    async def find_dues(self, now: datetime | None = None) -> Dues:
        """When `advance` of each noun, `time_out` of the meetings and `find_due` of the schedules have something to do.

        One round trip, and a plain read.
        """
        ...

    async def describe(self) -> StoreFacts: ...

    def measure_pool(self) -> PoolFigures:
        """How the connections stand at this moment, without I/O; in any thread, also where it is not open."""
        ...

    async def check(self) -> list[str]:
        """Look for damage: the integrity of the store, the checksum of every body, the values of every row.

        Each finding names the row, and its last sentence is what to do.
        """
        ...

    async def backup(self, path: str) -> None:
        """Copy the store as it is now to a file that does not exist yet; others go on meanwhile.

        When this returns the copy is whole, checked and synced; after an error or a crash there is none.

        Raises:
            ConfigurationError: The store is not a file; names the tool that copies it.
        """
        ...

    async def compact(self) -> None:
        """Write the store anew without its free pages, so that from then on freed ones go back to the system.

        Nobody else can write meanwhile, for some seconds a gigabyte. After an error or a crash it is as it was.

        Raises:
            ConfigurationError: The store is not a file; names the tool.
        """
        ...

    async def aclose(self) -> None:
        """Give everything back. Idempotent, also after a failed `open`."""
        ...
