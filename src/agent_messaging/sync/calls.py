"""The calls and the doors of the SDK, for code without asyncio.

Written by scripts/generate_sync.py from `agent_messaging.client`: change that, and run it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar, overload
from uuid import UUID

from typing_extensions import TypeForm

from ..client import AgentMessaging as AsyncAgentMessaging
from ..handlers.events import EventHandler
from ..handlers.registry import AnyHandler, OnAbandoned
from ..handlers.tasks import Errors, RateGiven, TaskFunction
from ..messaging.pulling import DEFAULT_LEASE
from ..models import (
    Agent,
    AgentStatus,
    Kind,
    MeetingEventType,
    Message,
    Organization,
    Record,
    T_Conversation,
    T_Meeting,
    T_OneWay,
)
from ..observing.figures import ProcessFigures, Statistics
from .archive import Archive
from .conversation import Conversation
from .events import MeetingEventHandler
from .meeting import MeetingManager
from .observers import Observers
from .one_way import OneWayMessenger
from .pulling import ReceivedMessage
from .receipts import DeadLetters, Receipts
from .retention import Retention
from .running import Blocking
from .sides import AsyncConversation, SyncConversation
from .tasks import Tasks
from .topics import Topics

R = TypeVar("R")
F = TypeVar("F", bound=AnyHandler)
EventF = TypeVar("EventF", bound=EventHandler)
TaskF = TypeVar("TaskF", bound=TaskFunction)


class Calls(
    Blocking[AsyncAgentMessaging[T_OneWay, T_Conversation, T_Meeting]], Generic[T_OneWay, T_Conversation, T_Meeting]
):
    """The calls and the doors of the SDK, for code without asyncio."""

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the store, as it is at this instant, to a new SQLite file, while everything goes on.

        When it returns the copy is whole, checked and synced, and is a store that can be opened; after an error or a
        crash there is none. To restore it, stop the processes and put it in the place of the file, whose `-wal` and
        `-shm` must be gone. What was being handled when it was made is handled again, as after a crash. A store in
        memory can be copied too. Cancelling the call gives the copy up.

        Args:
            path: The file to make; a relative one starts in the working directory. It must not exist.

        Returns:
            Its absolute path.

        Raises:
            InvalidArgumentError: There is something at the path.
            ConfigurationError: The store is in PostgreSQL, which has its own tools (`pg_dump`).
            StorageFullError: No room for the copy.
            StorageCorruptError: The store is damaged.
            DatabaseError: The copy cannot be written, or the store failed.

        Example:
            sdk.backup(f"backups/{datetime.now():%Y-%m-%d}.db")
        """
        return self._run(lambda: self._async.backup(path))

    @property
    def archive(self) -> Archive:
        """Moving what is stored into a file, and from a file into a store."""
        return Archive(self._runner, self._async.archive)

    @property
    def one_way(self) -> OneWayMessenger[T_OneWay]:
        """One-way messages."""
        return OneWayMessenger(self._runner, self._async.one_way)

    @property
    def topics(self) -> Topics[T_OneWay]:
        """One-way messages to whoever is subscribed."""
        return Topics(self._runner, self._async.topics)

    @property
    def conversation(self) -> Conversation[T_Conversation]:
        """Questions with answers, and correspondence."""
        return Conversation(self._runner, self._async.conversation)

    @property
    def sync_conversation(self) -> SyncConversation[T_Conversation]:
        """The asking side of `conversation`, under names of its own."""
        return SyncConversation(self._runner, self._async.sync_conversation)

    @property
    def async_conversation(self) -> AsyncConversation[T_Conversation]:
        """The corresponding side of `conversation`, under names of its own."""
        return AsyncConversation(self._runner, self._async.async_conversation)

    @property
    def meeting(self) -> MeetingManager[T_Meeting]:
        """Meetings with turns."""
        return MeetingManager(self._runner, self._async.meeting)

    @property
    def tasks(self) -> Tasks:
        """Work that is handed out, and its results."""
        return Tasks(self._runner, self._async.tasks)

    @property
    def receipts(self) -> Receipts:
        """The receipts of messages."""
        return Receipts(self._runner, self._async.receipts)

    @property
    def dead_letters(self) -> DeadLetters:
        """Messages that were given up."""
        return DeadLetters(self._runner, self._async.dead_letters)

    @property
    def retention(self) -> Retention:
        """Pruning what is old."""
        return Retention(self._runner, self._async.retention)

    @property
    def meeting_events(self) -> MeetingEventHandler:
        """The meeting events of this SDK object: their handlers, and the `emit_…` calls for an application's own."""
        return MeetingEventHandler(self._runner, self._async.meeting_events)

    @property
    def observers(self) -> Observers:
        """Functions and exporters that are told of what happens in this SDK object, also before its start."""
        return Observers(self._runner, self._async.observers)

    def figures(self) -> ProcessFigures:
        """What this SDK object has and does at this moment: connections, handlers, claims, callers that wait.

        It asks nobody and costs some microseconds, so a monitor may call it often, in any thread.

        Raises:
            NotInitializedError: The SDK is not started.

        Example:
            if sdk.figures().pool.waiting > 100:
                shed_load()
        """
        return self._do(lambda: self._async.figures())

    def statistics(self) -> Statistics:
        """The figures of this SDK object, and those of its store: messages and tasks by state, ages, who is alive.

        The store counts: with a million messages that takes some tenths of a second, so once in 15 s is often enough.

        Raises:
            DatabaseError: The store failed.

        Example:
            statistics = sdk.statistics()
            print(statistics.deliveries.get(DeliveryState.QUEUED, 0), statistics.process.pool.in_use)
        """
        return self._run(lambda: self._async.statistics())

    def serve(self, *agent_external_ids: str) -> None:
        """Have this process's bare global handlers serve these agents; `"*"` is every agent of the store.

        Agents registered through this object are served anyway. An agent that another live process serves with a
        handler of its own is left to it.

        Raises:
            AgentNotFoundError: One of them is not registered; names the closest.

        Example:
            sdk.serve("bob", "carol")
        """
        self._run(lambda: self._async.serve(*agent_external_ids))

    def wait_until_served(self, agent_external_ids: str | Sequence[str], timeout: float | None = 30.0) -> None:
        """Wait until a live process, this one included, serves each of these agents. For start-up.

        A handler of any kind serves its agent, and so does a call of `receive`; this does not say which messages are
        handled. An agent that is not registered yet is waited for too.

        Args:
            agent_external_ids: One or more agents.
            timeout: Seconds; None waits without limit.

        Raises:
            TimeoutError: Some are still unserved; names them, and says which are not registered.

        Example:
            sdk.wait_until_served(["bob", "carol"], timeout=30)
        """
        self._run(lambda: self._async.wait_until_served(agent_external_ids, timeout))

    @overload
    def receive(
        self,
        agent_external_id: str,
        limit: int = 1,
        timeout: float | None = None,
        lease: float = DEFAULT_LEASE,
        *,
        payload_type: TypeForm[R],
    ) -> list[ReceivedMessage[R]]: ...
    @overload
    def receive(
        self, agent_external_id: str, limit: int = 1, timeout: float | None = None, lease: float = DEFAULT_LEASE
    ) -> list[ReceivedMessage[Any]]: ...

    def receive(
        self,
        agent_external_id: str,
        limit: int = 1,
        timeout: float | None = None,
        lease: float = DEFAULT_LEASE,
        *,
        payload_type: Any = Any,
    ) -> Any:
        """Pull one-way messages of an agent that has no handler: claim up to `limit`, oldest first.

        Each is settled by its `done`, `retry` or `reject`. If this process dies, or when the lease ends, it goes to
        whoever asks next, and the attempt counts. A process that pulls counts as serving the agent, until
        `handler_grace` seconds after its last call. Cancelling the call gives back what it claimed.

        Args:
            agent_external_id: Whose messages.
            limit: At most so many, 1 to 1,000.
            timeout: Seconds to wait for the first one; 0 only looks, None waits without limit.
            lease: Seconds for which a claim holds.
            payload_type: What the payloads become: a pydantic model, a dataclass, …; Any is plain JSON. One that does
                not fit goes to the dead letters.

        Returns:
            The messages; empty if none came in time.

        Raises:
            AgentNotFoundError: There is no such agent, or it was removed meanwhile; names the closest.
            DatabaseError: The store failed; what was claimed goes back.

        Example:
            for message in sdk.receive("bob", limit=10, timeout=5):
                print(message.content)
                message.done()
        """
        return [
            ReceivedMessage(self._runner, one)
            for one in self._run(
                lambda: self._any.receive(agent_external_id, limit, timeout, lease, payload_type=payload_type)
            )
        ]

    def register_organization(self, external_id: str, name: str | None = None, *, exist_ok: bool = False) -> UUID:
        """Register an organization; return its UUID.

        Registering the same id and name again returns the existing UUID.

        Args:
            external_id: 1 to 255 characters, in Unicode form NFC, without control characters; case matters.
            name: For people; 1 to 255 characters. None: an existing one keeps its name, and a new one bears its
                external id until somebody registers it with a name.
            exist_ok: True renames an existing organization instead of refusing another name.

        Raises:
            InvalidArgumentError: The id or the name is empty, too long, or has forbidden characters.
            OrganizationAlreadyExistsError: The id exists with another name.
            DatabaseError: The store failed.

        Example:
            sdk.register_organization("acme", "Acme")
        """
        return self._run(lambda: self._async.register_organization(external_id, name, exist_ok=exist_ok))

    def get_organization(self, external_id: str) -> Organization:
        """Look up an organization.

        Raises:
            OrganizationNotFoundError: There is none; names the closest.

        Example:
            organization = sdk.get_organization("acme")
        """
        return self._run(lambda: self._async.get_organization(external_id))

    def list_organizations(self, *, limit: int = 100, offset: int = 0) -> list[Organization]:
        """List organizations in order of external id; `limit` at most 1,000.

        Example:
            for organization in sdk.list_organizations():
                print(organization.external_id)
        """
        return self._run(lambda: self._async.list_organizations(limit=limit, offset=offset))

    def deregister_organization(self, external_id: str) -> bool:
        """Remove an organization with its agents, their messages and receipts; False if there was none.

        Accepted messages of its agents that were not handled yet end with it, without a dead letter.

        Example:
            was_there = sdk.deregister_organization("acme")
        """
        return self._run(lambda: self._async.deregister_organization(external_id))

    def register_agent(
        self, external_id: str, organization_external_id: str, name: str | None = None, *, exist_ok: bool = False
    ) -> UUID:
        """Register an agent in an organization; return its UUID.

        Registering the same id, organization and name again returns the existing UUID. Global handlers of this process
        serve the agent from now on.

        Args:
            external_id: 1 to 255 characters, unique over all organizations; case matters.
            organization_external_id: Its organization.
            name: For people; 1 to 255 characters. None: an existing one keeps its name, and a new one bears its
                external id until somebody registers it with a name.
            exist_ok: True renames an existing agent of this organization instead of refusing another name.

        Raises:
            InvalidArgumentError: An id or the name is empty, too long, or has forbidden characters.
            OrganizationNotFoundError: There is no such organization; names the closest.
            AgentAlreadyExistsError: The id exists with another name or in another organization.
            DatabaseError: The store failed.

        Example:
            sdk.register_agent("alice", "acme", "Alice")
        """
        return self._run(
            lambda: self._async.register_agent(external_id, organization_external_id, name, exist_ok=exist_ok)
        )

    def get_agent(self, external_id: str) -> Agent:
        """Look up an agent.

        Raises:
            AgentNotFoundError: There is none; names the closest.

        Example:
            agent = sdk.get_agent("alice")
            print(agent.id, agent.name)
        """
        return self._run(lambda: self._async.get_agent(external_id))

    def get_agent_status(self, external_id: str) -> AgentStatus:
        """Tell whether somebody serves an agent now, in whatever process.

        It is what a `send` to the agent goes by: to one that is online or away a message is stored, to one that is
        offline only with `require_handler=False`. A moment later it may be otherwise.

        Raises:
            AgentNotFoundError: There is no such agent; names the closest.

        Example:
            if sdk.get_agent_status("bob") is not AgentStatus.ONLINE:
                print("bob will see it later")
        """
        return self._run(lambda: self._async.get_agent_status(external_id))

    def list_agents(
        self, organization_external_id: str | None = None, *, limit: int = 100, offset: int = 0
    ) -> list[Agent]:
        """List agents in order of external id, of one organization or of all; `limit` at most 1,000.

        Raises:
            OrganizationNotFoundError: There is no such organization.

        Example:
            for agent in sdk.list_agents("acme"):
                print(agent.external_id)
        """
        return self._run(lambda: self._async.list_agents(organization_external_id, limit=limit, offset=offset))

    def deregister_agent(self, external_id: str) -> bool:
        """Remove an agent with its messages, sent and received, and their receipts; False if there was none.

        Accepted messages to it that were not handled yet end with it, without a dead letter. Whoever waits for their
        receipts is told that they do not exist any more.

        Example:
            was_there = sdk.deregister_agent("alice")
        """
        return self._run(lambda: self._async.deregister_agent(external_id))

    def register_handler(
        self,
        agent_external_id: str,
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        timeout: float | None = None,
        on_abandoned: OnAbandoned = "finish",
    ) -> Callable[[F], F]:
        """Register, as a decorator, the handler of one agent in this SDK object.

        It gets the agent's one-way messages, conversation messages (what it returns is the answer) and invitations to
        meetings (`context.is_meeting_message`). It wins over global handlers. It may be registered before the SDK is
        started and before the agent exists; messages that wait for the agent are then handled. The function is
        returned unchanged.

        An agent may have several, each with another type for its first parameter: a message goes to the one whose type
        its payload fits best, and to the one without a type (or with Any) if it fits no other. Of two for the same type
        the last one counts. They share the agent's slots: the smallest `concurrency` counts, and messages are ordered
        if any of them asks for it.

        Args:
            agent_external_id: Whose messages.
            ordered: One sender's messages run one after the other. False runs them at once, in no promised order.
            concurrency: Runs at once; None is the setting `handler_concurrency` (10).
            timeout: Seconds a run may take; None is the setting `handler_timeout` (30).
            on_abandoned: What becomes of the run of an ask whose asker does not wait any more
                (`context.is_abandoned`). "finish" lets it end; its answer is kept as an unread message. "cancel"
                cancels it, with the asks that it waits for; only for `def` functions.

        Raises:
            InvalidArgumentError: The id or an option is refused, the function does not take (message, context), or
                its type cannot be told apart from that of another handler of this agent.

        Example:
            @sdk.register_handler("bob")
            def on_note(message: Note, context: MessageContext) -> None: ...
        """
        return self._async.register_handler(
            agent_external_id, ordered=ordered, concurrency=concurrency, timeout=timeout, on_abandoned=on_abandoned
        )

    def register_meeting_handler(
        self,
        agent_external_id: str,
        *,
        concurrency: int | None = None,
        timeout: float | None = None,
        attend: bool = False,
    ) -> Callable[[F], F]:
        """Register, as a decorator, the turn handler of one agent in this SDK object; it wins over global ones.

        See `agent_messaging.register_meeting_handler`, for its options too.

        Example:
            @sdk.register_meeting_handler("bob", attend=True)
            def for_bob(message, context):
                return {"text": f"I heard {len(context.turn.messages)} of you."}
        """
        return self._async.register_meeting_handler(
            agent_external_id, concurrency=concurrency, timeout=timeout, attend=attend
        )

    def register_event_handler(self, event_type: MeetingEventType) -> Callable[[EventF], EventF]:
        """Register, as a decorator, a handler of one type of meeting event in this SDK object.

        It is called for every such event of every meeting, whichever process made it: `def handler(event)` with a
        `MeetingEventPayload`, or `def handler(meeting_id, agent_external_id, data)`. Several handlers of one
        event run at the same time; one that fails or hangs (it is cancelled after `handler_timeout`) disturbs nothing.
        It may be registered before the SDK is started. The function is returned unchanged. Annotated as
        `MeetingEvent[TurnChangedEventData]` (or `data: TurnChangedEventData`), it gets the data as that model; where
        they do not fit, which only events of an application's own can do, it is not called, and the log says why.

        Raises:
            InvalidArgumentError: The type is not one, or the function takes neither one nor three arguments.

        Example:
            @sdk.register_event_handler(MeetingEventType.TURN_CHANGED)
            def on_turn(event: MeetingEventPayload) -> None:
                print(event.data.current_speaker_external_id, "has the turn")
        """
        return self._async.register_event_handler(event_type)

    register_meeting_event_handler = register_event_handler

    def unregister_handler(self, agent_external_id: str, handler: AnyHandler | None = None) -> bool:
        """Forget a handler of one agent in this SDK object, or (None) all of them; False if it had none.

        A run that has begun goes on.

        Example:
            sdk.unregister_handler("bob", on_order)
        """
        return self._async.unregister_handler(agent_external_id, handler)

    def register_task_handler(
        self,
        worker_id: str,
        *,
        capabilities: Iterable[str],
        max_concurrent_tasks: int = 1,
        types: Iterable[str] | None = None,
        timeout: float | None = None,
        retry_on: Errors | None = None,
        give_up_on: Errors = (),
        retry_delay: float | None = None,
        retry_max_delay: float | None = None,
        rate: RateGiven | None = None,
        rates: Mapping[str, RateGiven] | None = None,
    ) -> Callable[[TaskF], TaskF]:
        """Register, as a decorator, the function with which a worker does its tasks, in this SDK object.

        The worker appears in the store when the SDK is started, gives signs of life by itself, and takes as many tasks
        as it has room for: those that its capabilities fit, the most urgent first, and of equal ones the oldest. What
        the function returns is the task's one result. If it raises, the task is tried again with a growing delay, and
        has failed at its last attempt. If this process dies, another one of the worker, or another worker, does the
        task; a result that comes too late is refused. An `def` function is cancelled when its task is.

        A worker may run in several processes at once: they share its places. The function is returned unchanged; the
        next registration of the same worker replaces it.

        Args:
            worker_id: 1 to 255 characters, the same in each process of this worker.
            capabilities: The names of what it can do. A task is for whoever can do all that it needs.
            max_concurrent_tasks: Tasks that it has at once, over all of its processes.
            types: Tasks of these types alone; None takes any that it is able to do.
            timeout: Seconds a run may take, of a task that does not say so itself; None is the setting
                `coordination.default_timeout` (300).
            retry_on: Errors, one class or a tuple, that are tried again; others fail the task at once. None is any.
            give_up_on: Errors that fail the task at once.
            retry_delay: Seconds; the longest delay after the first failure, doubled with each further one. None is the
                setting `messaging.retry_delay`.
            retry_max_delay: Seconds; no delay is longer. None is the setting `messaging.retry_max_delay`.
            rate: Tasks that it begins in a second, in this process, or (so many, in so many seconds). None is no limit.
            rates: The same for single types.

        Raises:
            InvalidArgumentError: An argument is refused, or the function cannot be called with (payload, context).

        Example:
            @sdk.register_task_handler("worker-1", capabilities=["resize"], max_concurrent_tasks=3)
            def resize(picture: dict, context: TaskContext) -> dict:
                context.progress(0.5, "half of it")
                return {"width": picture["width"] // 2}
        """
        return self._async.register_task_handler(
            worker_id,
            capabilities=capabilities,
            max_concurrent_tasks=max_concurrent_tasks,
            types=types,
            timeout=timeout,
            retry_on=retry_on,
            give_up_on=give_up_on,
            retry_delay=retry_delay,
            retry_max_delay=retry_max_delay,
            rate=rate,
            rates=rates,
        )

    def unregister_task_handler(self, worker_id: str) -> bool:
        """Take no more tasks for a worker here; what it runs goes on. False if it had no handler here.

        Example:
            sdk.unregister_task_handler("worker-1")
        """
        return self._async.unregister_task_handler(worker_id)

    def get_message(self, message_id: UUID | str) -> Message[Any]:
        """Look a message up: a note, a message of a conversation, or what was said in a meeting.

        All ids are UUIDs. It neither marks the message as read nor settles it; `sdk.receipts.get` tells its life.

        Args:
            message_id: As `send` returned it, or `context.message_id`.

        Returns:
            The message, with its content as plain JSON.

        Raises:
            MessageNotFoundError: There is no such message; says whether it was pruned.
            StorageCorruptError: What is stored is not what was sent.
            InvalidArgumentError: The id is not a UUID.

        Example:
            message = sdk.get_message(message_id)
            print(message.created_at, message.content)
        """
        return self._run(lambda: self._async.get_message(message_id))

    def search_messages(
        self,
        search_query: str,
        sender_id: str | None = None,
        recipient_id: str | None = None,
        session_id: UUID | str | None = None,
        meeting_id: UUID | str | None = None,
        limit: int = 50,
        offset: int = 0,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """Find messages by their words: notes, conversations and what was said in meetings, the best matches first.

        A message is found as soon as the call that sent it has returned, in whatever process. All strings of its
        payload are searched, up to 100,000 characters; keys, numbers and metadata are not. It neither marks messages as
        read nor settles them.

        A query is words that must all occur, `"phrases in quotes"`, `OR` between alternatives, `-word` for what must
        not occur, `begin*` for words that begin so, and `from:alice` and `to:bob`. Case and accents do not matter.
        `snake_case`, `CamelCase`, e-mail addresses and URLs are found whole and by their parts, and Chinese, Japanese,
        Korean and Thai by any of their characters. No text is a wrong query: what is no word separates words.

        Args:
            search_query: The query; at most 1,000 characters.
            sender_id: The external id of who sent it.
            recipient_id: The external id of whom it was sent to; what is said in meetings has no recipient.
            session_id: Of this conversation.
            meeting_id: Said in this meeting.
            limit: At most so many, 1 to 500.
            offset: So many of the best are passed over.
            metadata_filter: Conditions on the metadata, which all must hold: `{"priority": "high"}` (equal, with JSON's
                types apart: neither 1 nor "true" is True), `{"tags__contains": "urgent"}` (an array with this entry),
                `{"region__in": ["eu", "us"]}`, `{"ticket__exists": True}`; dots step into objects
                (`"order.id"`). At most 32.
            kinds: Of these kinds alone: "one_way", "conversation", "meeting". None is all.
            thread: Of this thread of a conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings with attribute access: id (and message_id), sender, recipient (and sender_id, recipient_id;
            external ids), content (plain JSON), timestamp (and created_at), ts_rank (and rank; more is better, compare
            it only within one call), snippet (a piece of the text with `**` around the words that match), snippet_hits
            (where they are in the piece without the marks, which is `excerpt`), kind, session_id, meeting_id, thread,
            topic, metadata. Equal ranks are in the order of time, the newest first. Of more than 1,000 matches the
            newest 1,000 are ranked and come first, then the next 1,000. Empty if nothing matches. Damaged messages are
            left out.

        Raises:
            InvalidArgumentError: The query names nothing to look for, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: sender_id or recipient_id is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            for match in sdk.search_messages('"database migration" -draft', sender_id="alice", limit=20):
                print(match.timestamp, match.snippet)
        """
        return self._run(
            lambda: self._async.search_messages(
                search_query,
                sender_id,
                recipient_id,
                session_id,
                meeting_id,
                limit,
                offset,
                metadata_filter=metadata_filter,
                kinds=kinds,
                thread=thread,
                date_from=date_from,
                date_to=date_to,
            )
        )

    def get_messages_by_metadata(
        self,
        metadata_filter: Mapping[str, Any],
        recipient_id: str | None = None,
        sender_id: str | None = None,
        session_id: UUID | str | None = None,
        meeting_id: UUID | str | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """List messages by their metadata, whatever their words: notes, conversations and meetings, the newest first.

        It neither marks messages as read nor settles them.

        Args:
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; all must hold. Empty is none.
            recipient_id: The external id of whom it was sent to; what is said in meetings has no recipient.
            sender_id: The external id of who sent it.
            session_id: Of this conversation.
            meeting_id: Said in this meeting.
            limit: At most so many, 1 to 500.
            offset: So many of the newest are passed over.
            kinds: Of these kinds alone: "one_way", "conversation", "meeting". None is all.
            thread: Of this thread of a conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings as of `search_messages`. All ranks are equal, and the snippet is the beginning of the text. Empty
            if nothing fits. Damaged messages are left out.

        Raises:
            InvalidArgumentError: The filter is no mapping, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: sender_id or recipient_id is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            urgent = sdk.get_messages_by_metadata({"tags__contains": "urgent"}, recipient_id="bob")
        """
        return self._run(
            lambda: self._async.get_messages_by_metadata(
                metadata_filter,
                recipient_id,
                sender_id,
                session_id,
                meeting_id,
                limit,
                offset,
                kinds=kinds,
                thread=thread,
                date_from=date_from,
                date_to=date_to,
            )
        )

    def get_messages_between_agents(
        self,
        agent_a_external_id: str,
        agent_b_external_id: str,
        limit: int = 100,
        offset: int = 0,
        *,
        metadata_filter: Mapping[str, Any] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        thread: str | None = None,
        date_from: datetime | None = None,
        date_to: datetime | None = None,
    ) -> list[Record]:
        """List all that two agents have sent to each other, notes and conversations of all sessions, the newest first.

        It neither marks messages as read nor settles them. It walks the messages of the store, so where the two wrote
        little among a million others it takes half a second.

        Args:
            agent_a_external_id: The one.
            agent_b_external_id: The other.
            limit: At most so many, 1 to 500.
            offset: So many of the newest are passed over.
            metadata_filter: Conditions on the metadata, as `search_messages` takes them; None is none.
            kinds: Of these kinds alone: "one_way", "conversation". None is both.
            thread: Of this thread of their conversation.
            date_from: Sent at or after this aware instant; None is no bound.
            date_to: Sent at or before it.

        Returns:
            Mappings as of `get_messages_by_metadata`. Empty if there are none.

        Raises:
            InvalidArgumentError: The two are the same, or an argument is out of range; a `ValueError`.
            AgentNotFoundError: One of the two is not registered; names the closest.
            NotInitializedError: The SDK is not started; a `RuntimeError`.
            DatabaseError: The store failed.

        Example:
            for message in sdk.get_messages_between_agents("alice", "bob", kinds=["conversation"]):
                print(message.timestamp, message.sender, message.content)
        """
        return self._run(
            lambda: self._async.get_messages_between_agents(
                agent_a_external_id,
                agent_b_external_id,
                limit,
                offset,
                metadata_filter=metadata_filter,
                kinds=kinds,
                thread=thread,
                date_from=date_from,
                date_to=date_to,
            )
        )
