"""The errors of stores, and of what is moved between them. `exceptions` has the whole tree, and exports them."""

from __future__ import annotations

from .problems import AgentMessagingError


class DatabaseError(AgentMessagingError):
    """The store failed; the subclass and the message say why. `agent-messaging doctor` examines it."""

    code = "database"
    exit_code = 3


class ArchiveError(AgentMessagingError):
    """An archive cannot be imported, and nothing of it was. Get it again from where it was made, or export again."""

    code = "archive"
    exit_code = 5


class OrganizationAlreadyExistsError(DatabaseError):
    """An organization with this external id exists with another name. Pass exist_ok=True to rename it."""

    code = "organization_already_exists"
    exit_code = 5
    external_id: str = ""
    name: str = ""
    problem_text = "Organization {0.external_id!r} already exists with the name {0.name!r}."
    remedy_text = "Use another external id, or pass exist_ok=True to rename it."


class AgentAlreadyExistsError(DatabaseError):
    """An agent with this external id exists with another name or organization. Pass exist_ok=True to rename it."""

    code = "agent_already_exists"
    exit_code = 5
    external_id: str = ""
    name: str = ""
    organization: str = ""
    problem_text = (
        "Agent {0.external_id!r} already exists in organization {0.organization!r} with the name {0.name!r}. External "
        "ids are unique over all organizations."
    )
    remedy_text = "Use another one, or, to rename it within its organization, pass exist_ok=True."


class StorageUnavailableError(DatabaseError):
    """The store cannot be reached; nothing was stored. Check that it runs and its URL (`agent-messaging doctor`)."""

    code = "storage_unavailable"
    retryable = True


class StorageBusyError(DatabaseError):
    """The store stayed busy for as long as the call may wait; nothing was stored. Try again later."""

    code = "storage_busy"
    retryable = True


class StorageFullError(DatabaseError):
    """The disk, or the size the store may have, is used up; nothing was stored. Make room and try again."""

    code = "storage_full"
    retryable = True


class StorageCorruptError(DatabaseError):
    """The store holds damaged data. Stop writing, run `agent-messaging doctor`, and restore from a backup."""

    code = "storage_corrupt"


class StorageReplacedError(DatabaseError):
    """The database file was removed or replaced while open; nothing more is stored in it. Restart the process."""

    code = "storage_replaced"


class StorageForeignError(DatabaseError):
    """The database belongs to another program. Point the SDK at a database of its own."""

    code = "storage_foreign"


class QueueDataLostError(DatabaseError):
    """Redis has lost changes that it had acknowledged. Put again what is known elsewhere, and switch persistence on."""

    code = "queue_data_lost"
    location: str = ""
    changes: int | None = None
    """How many are known to be lost; None: all that was there."""
    remedy_text = (
        "Queues are usable again, with what is left. Put again what you know from elsewhere; and set `appendonly yes`, "
        "`appendfsync always`, `maxmemory-policy noeviction` and replicas that are waited for, so that it stays the "
        "only time."
    )

    def render(self) -> str:
        if self.changes is None:
            return (
                f"{self.location} has lost its queues, agents and tasks, all that this object had seen there: it was "
                "emptied (FLUSHALL), restarted without an append-only file, or replaced."
            )
        return (
            f"{self.location} has lost its newest {self.changes:,} changes of queues, agents and tasks: it was "
            "restarted with an older state, or a replica was promoted that had not received them."
        )


class SchemaVersionError(DatabaseError):
    """The schema of the store does not fit this release. Run `agent-messaging db upgrade`, or upgrade the package."""

    code = "schema_version"
    exit_code = 2
