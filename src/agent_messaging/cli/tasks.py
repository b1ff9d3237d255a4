"""`agent-messaging tasks`, `workers`, `schedules` and `queue`: work that is handed out, who does it, and what waits."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .app import Group
from .commands import command
from .opening import use
from .options import Options, page_options, pass_options, payload_options
from .output import clean, content, count, duration, instant, note, print_json, say, show, table, whole
from .patience import look_until_seen
from .values import parse_duration, read_payload

if TYPE_CHECKING:
    from .. import AgentMessaging
    from ..coordination import Schedule, Task, WorkerInfo
    from ..storage.ports import QueueStatistics

PRIORITIES = ("critical", "high", "medium", "low", "background")
STATES = ("queued", "assigned", "running", "done", "failed", "cancelled", "expired")
PAUSE = 0.25
"""Seconds between two looks of `tasks watch`."""


@click.group(cls=Group)
def tasks() -> None:
    """Hand out tasks to workers, and see what becomes of them.

    \b
    Example:
      agent-messaging tasks assign resize --payload '{"width": 400}' --wait
      agent-messaging tasks list --state failed
    """


@tasks.command()
@click.argument("type", metavar="TYPE")
@payload_options("The payload")
@click.option("--needs", multiple=True, metavar="CAPABILITY", help="What its worker can do. Default: TYPE. Repeatable.")
@click.option(
    "--priority", type=click.Choice(PRIORITIES), default="medium", show_default=True, help="How urgent it is."
)
@click.option("--description", default="", help="What is to be done, for people.")
@click.option("--id", "task_id", metavar="ID", help="The task's id; a repeat under the same id stores nothing.")
@click.option("--wait", is_flag=True, help="Wait for the result, and print it.")
@click.option(
    "--timeout", type=parse_duration, metavar="DURATION", help="With --wait: at most so long. Default: without end."
)
@pass_options
def assign(
    options: Options,
    type: str,
    text: str | None,
    payload: str | None,
    needs: tuple[str, ...],
    priority: str,
    description: str,
    task_id: str | None,
    wait: bool,
    timeout: float | None,
) -> None:
    """Hand a task to whichever worker can do it and has room, now or later. Prints its id.

    \b
    Examples:
      agent-messaging tasks assign resize --payload '{"width": 400}'
      agent-messaging tasks assign build --text docs --needs python --priority low
      agent-messaging tasks assign resize --payload '{"width": 400}' --wait
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait. Leave it out, or give both.")
    given = None if text is None and payload is None else read_payload(text, payload)

    async def hand_out(sdk: AgentMessaging) -> tuple[str, Any]:
        id = await sdk.tasks.delegate(
            type,
            given,
            required_capabilities=needs or None,
            priority=priority,
            description=description,
            task_id=task_id,
            supervisor="command line",
        )
        if not options.json and wait:
            note(f"Task {id} waits for its result; `{command('tasks show', id)}` looks at it.")
        return id, await sdk.tasks.result(id, timeout=timeout) if wait else None

    id, result = use(options, hand_out)
    document = {"task_id": id, **({"result": result} if wait else {})}
    show(options, document, lambda: say(whole(result) if wait else id))


@tasks.command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only in this state. Repeatable.")
@click.option("--type", "task_type", metavar="TYPE", help="Only of this type.")
@click.option("--worker", metavar="WORKER", help="Only those that this worker has, or had last.")
@click.option("--supervisor", metavar="NAME", help="Only those that were handed out by this one.")
@page_options(50)
@pass_options
def list_(
    options: Options,
    states: tuple[str, ...],
    task_type: str | None,
    worker: str | None,
    supervisor: str | None,
    limit: int,
    offset: int,
) -> None:
    """List tasks, the newest first.

    \b
    Examples:
      agent-messaging tasks list
      agent-messaging tasks list --state queued --state running --type resize
    """

    async def look(sdk: AgentMessaging) -> list[Task]:
        return await sdk.tasks.list(
            states=states or None,
            task_type=task_type,
            worker_id=worker,
            supervisor=supervisor,
            limit=limit,
            offset=offset,
        )

    found = use(options, look)
    rows = [
        (
            task.task_id,
            clean(task.type),
            _state(task),
            clean(task.worker_id or ""),
            task.priority.value,
            f"{task.attempt}/{task.max_attempts}",
            instant(task.created_at),
            clean(task.reason or task.description),
        )
        for task in found
    ]
    heads = ("id", "type", "state", "worker", "priority", "attempt", "created", "note")
    empty = f"There are no such tasks. To hand one out: {command('tasks assign', 'TYPE', text='…')}"
    show(options, {"tasks": found}, lambda: table(heads, rows, empty=empty))


@tasks.command("show")
@click.argument("id")
@pass_options
def show_(options: Options, id: str) -> None:
    """Show one task: who has it, how far it is, what went wrong, and its result.

    \b
    Example:
      agent-messaging tasks show ID
    """

    async def look(sdk: AgentMessaging) -> tuple[Task, Any]:
        task = await sdk.tasks.get(id)
        return task, await sdk.tasks.result(id, timeout=0) if task.state == "done" else None

    task, result = use(options, look)

    def human() -> None:
        say(f"{task.task_id}  {clean(task.type)}  {_state(task)}")
        say(f"attempt {task.attempt} of {task.max_attempts}, priority {task.priority.value}")
        say(f"needs {clean(', '.join(task.required_capabilities) or 'nothing')}")
        if task.worker_id is not None:
            say(f"worker {clean(task.worker_id)}")
        say(f"payload {content(task.payload)}")
        if task.reason is not None:
            say(f"reason {clean(task.reason)}")
        if task.state == "done":
            say(f"result {content(result)}")
        rows = [
            (
                instant(datetime.fromisoformat(str(entry["at"]))) if "at" in entry else "",
                *(clean(str(entry.get(key) or "")) for key in ("event", "attempt", "worker", "reason")),
            )
            for entry in task.log
        ]
        if rows:
            say()
            table(("at", "event", "attempt", "worker", "reason"), rows, empty="")

    show(options, {"task": task, "result": result}, human)


@tasks.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@click.option("--reason", default="cancelled on the command line", show_default=True, help="Why, for listings.")
@pass_options
def cancel(options: Options, ids: tuple[str, ...], reason: str) -> None:
    """End tasks that nobody wants any more; what their runs return later is refused.

    \b
    Example:
      agent-messaging tasks cancel ID --reason 'the customer left'
    """
    moved = use(options, lambda sdk: sdk.tasks.cancel(ids, reason=reason))
    document = {"tasks": [{"task_id": id, "cancelled": one} for id, one in zip(ids, moved, strict=True)]}

    def human() -> None:
        for id, one in zip(ids, moved, strict=True):
            say(f"Task {id} {'is cancelled' if one else 'had ended before, or does not exist'}.")

    show(options, document, human)


@tasks.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--type", "task_type", metavar="TYPE", help="All that have failed of this type.")
@pass_options
def redrive(options: Options, ids: tuple[str, ...], task_type: str | None) -> None:
    """Queue failed tasks again, with all their attempts before them. Those that have not failed are passed over.

    \b
    Examples:
      agent-messaging tasks redrive ID
      agent-messaging tasks redrive --type resize
    """
    if not ids and task_type is None:
        raise click.UsageError("Say which: ids of tasks, or --type for all of one type.", click.get_current_context())
    moved = use(options, lambda sdk: sdk.tasks.redrive(list(ids) or None, task_type=task_type))
    show(options, {"redriven": moved}, lambda: say(f"{count(moved, 'task')} queued again."))


@tasks.command()
@click.argument("id")
@click.option("--timeout", type=parse_duration, metavar="DURATION", help="At most so long. Default: until it ends.")
@pass_options
def watch(options: Options, id: str, timeout: float | None) -> None:
    """Follow one task until it ends: a line for each change of its state or progress.

    \b
    Example:
      agent-messaging tasks watch ID --timeout 10m
    """

    async def follow(sdk: AgentMessaging) -> None:
        import asyncio

        seen: tuple[object, ...] = ()
        async with asyncio.timeout(timeout):
            while True:
                task = await look_until_seen(options, lambda: sdk.tasks.get(id))
                now = (task.state, task.progress, task.note, task.worker_id, task.attempt)
                if now != seen:
                    seen = now
                    if options.json:
                        print_json({"task": task})
                    else:
                        told = "" if task.note is None else f"  {clean(task.note)}"
                        say(f"{_state(task)}  {clean(task.worker_id or '')}{told}".rstrip())
                if task.state.is_final:
                    return
                await asyncio.sleep(PAUSE)

    try:
        use(options, follow)
    except TimeoutError as error:
        from .. import TimeoutError as Late

        raise Late(f"Task {id!r} has not ended. It goes on.") from error


@click.group(cls=Group)
def workers() -> None:
    """See who does tasks.

    \b
    Example:
      agent-messaging workers list
    """


@workers.command("list")
@page_options(100)
@pass_options
def list_workers(options: Options, limit: int, offset: int) -> None:
    """List workers: what they can do, how much they have, and whether they live.

    \b
    Example:
      agent-messaging workers list
    """

    async def look(sdk: AgentMessaging) -> list[WorkerInfo]:
        return await sdk.tasks.workers(limit=limit, offset=offset)

    found = use(options, look)
    rows = [
        (
            clean(one.worker_id),
            clean(one.role),
            clean(one.status) if one.is_alive else "dead",
            f"{one.current_tasks}/{one.max_concurrent_tasks}",
            clean(", ".join(one.capabilities)),
            instant(one.last_heartbeat),
        )
        for one in found
    ]
    empty = "There are no workers. A program that registers task handlers is one: agent-messaging run MODULE:NAME"
    heads = ("worker", "role", "status", "tasks", "capabilities", "heartbeat")
    show(options, {"workers": found}, lambda: table(heads, rows, empty=empty))


@click.group(cls=Group)
def schedules() -> None:
    """See what is handed out again and again, and end it.

    \b
    Example:
      agent-messaging schedules list
    """


@schedules.command("list")
@page_options(100)
@pass_options
def list_schedules(options: Options, limit: int, offset: int) -> None:
    """List schedules: their rules, when they fired last, and when they fire next.

    \b
    Example:
      agent-messaging schedules list
    """

    async def look(sdk: AgentMessaging) -> list[Schedule]:
        return await sdk.tasks.schedules(limit=limit, offset=offset)

    found = use(options, look)
    rows = [
        (
            clean(one.name),
            clean(one.task_type),
            f"every {duration(one.every)}" if one.every is not None else clean(f"{one.cron} ({one.timezone})"),
            instant(one.next_at),
            instant(one.fired_at),
            f"{one.fired:,}",
        )
        for one in found
    ]
    empty = "There are no schedules. A program makes one: await sdk.tasks.schedule(NAME, TYPE, cron='0 3 * * *')"
    heads = ("name", "type", "rule", "next", "last", "fired")
    show(options, {"schedules": found}, lambda: table(heads, rows, empty=empty))


@schedules.command("remove")
@click.argument("name")
@pass_options
def remove_schedule(options: Options, name: str) -> None:
    """End a schedule. Tasks that it has handed out go on.

    \b
    Example:
      agent-messaging schedules remove nightly
    """
    removed = use(options, lambda sdk: sdk.tasks.unschedule(name))
    said = f"Schedule {clean(name)} is removed." if removed else f"There is no schedule {clean(name)}."
    show(options, {"name": name, "removed": removed}, lambda: say(said))


@click.group(cls=Group)
def queue() -> None:
    """See the queues through which supervisors and workers talk.

    \b
    Example:
      agent-messaging queue stats
    """


@queue.command()
@click.argument("agent", required=False)
@pass_options
def stats(options: Options, agent: str | None) -> None:
    """Count the messages of one agent's queue, or of all, and the tasks.

    \b
    Examples:
      agent-messaging queue stats
      agent-messaging queue stats worker-1
    """

    async def look(sdk: AgentMessaging) -> tuple[QueueStatistics, Any]:
        return await sdk.tasks.engine.workplace.store.queue.statistics(agent), await sdk.tasks.statistics()

    messages, work = use(options, look)
    document = {
        "messages": {str(state): number for state, number in messages.counts.items()},
        "failed": messages.failed,
        "open_by_priority": {PRIORITIES[rank]: number for rank, number in messages.by_priority.items()},
        "settled_in_the_last_minute": messages.settled_lately,
        "oldest_queued_seconds": messages.oldest_queued_age,
        "tasks": {str(state): number for state, number in work.counts.items()},
        "oldest_queued_task_seconds": work.oldest_queued_age,
    }

    def human() -> None:
        for title, counts, age in (
            ("messages", document["messages"], messages.oldest_queued_age),
            ("tasks", document["tasks"], work.oldest_queued_age),
        ):
            told = ", ".join(f"{number:,} {state}" for state, number in counts.items()) or "none"
            oldest = "" if age is None else f"; the oldest waits since {duration(age)}"
            say(f"{title}: {told}{oldest}")

    show(options, document, human)


@queue.command("redrive")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--agent", help="Only of this agent's queue; without ids, all dead letters of it.")
@pass_options
def redrive_messages(options: Options, ids: tuple[str, ...], agent: str | None) -> None:
    """Queue dead letters of the queues again, with all their attempts before them. Others are passed over.

    \b
    Examples:
      agent-messaging queue redrive --agent worker-1
      agent-messaging queue redrive task-ID
    """
    if not ids and agent is None:
        raise click.UsageError(
            "Say which: ids of messages, or --agent for all of one agent.", click.get_current_context()
        )

    async def redrive(sdk: AgentMessaging) -> int:
        return await sdk.tasks.engine.workplace.store.queue.redrive(agent, list(ids) or None)

    moved = use(options, redrive)
    show(options, {"redriven": moved}, lambda: say(f"{count(moved, 'message')} queued again."))


def _state(task: Task) -> str:
    """Its state, with how far it is."""
    if task.state == "running" and task.progress:
        return f"running {task.progress:.0%}"
    return str(task.state)
