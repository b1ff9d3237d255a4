"""The figures of an SDK object and of its store, read together."""

from __future__ import annotations

from ..delivery.engine import Engine
from ..observing.figures import Statistics
from ..storage.ports import TaskStatistics


async def read_statistics(engine: Engine) -> Statistics:
    """See `AgentMessaging.statistics`."""
    store, place = engine.store, engine.workplace
    counted = await store.deliveries.statistics()
    progress = await store.search.progress()
    alive = await store.processes.list_processes(0)
    tasks = TaskStatistics({}, None, None)
    if place.is_open:
        tasks = await place.store.tasks.statistics()
    recipient_id = counted.oldest_queued_recipient_id
    names = await engine.names.find_by_id([] if recipient_id is None else [recipient_id])
    recipient = None if recipient_id is None else names.get(recipient_id)
    return Statistics(
        process=engine.figures(),
        deliveries=dict(counted.counts),
        oldest_queued_age=counted.oldest_queued_age,
        oldest_queued_recipient=recipient_id if recipient is None else recipient.external_id,
        oldest_claim_age=counted.oldest_claim_age,
        index_lag=progress.behind,
        processes=sum(row.ended_at is None for row in alive),
        tasks=dict(tasks.counts),
        oldest_queued_task_age=tasks.oldest_queued_age,
    )
