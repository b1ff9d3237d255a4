"""Metrics for Prometheus.

    pip install 'agent-messaging[prometheus]'

Every label has few values: none is an id, the name of an agent, or the type of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..exceptions import ConfigurationError
from .facts import Fact, FactSubject, FactType
from .figures import ProcessFigures, Sources, Statistics
from .observers import Observer

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.metrics_core import GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ConfigurationError(
        "Prometheus needs its client, which is not installed. Run: pip install 'agent-messaging[prometheus]'"
    ) from error

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds. An agent may think for minutes."""


class PrometheusObserver(Observer, Collector):
    """Counts what happens, and shows the figures of the SDK objects to which it was added, as sums.

    Args:
        registry: Where the metrics are registered; one observer for each. None is the client's own.

    Example:
        sdk.observers.add(PrometheusObserver())
        prometheus_client.start_http_server(9464)
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        self._facts = Counter(
            "agent_messaging_facts",
            "Everything that has happened: what to what, and how or why.",
            ("fact", "subject", "kind", "how"),
            registry=registry,
        )
        self._seconds = Histogram(
            "agent_messaging_run_seconds",
            "How long handlers ran, and what the ends of their runs ask for.",
            ("subject", "kind", "how"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._sources = Sources()
        self._shown: Statistics | None = None
        registry.register(self)

    def happened(self, fact: Fact) -> None:
        """See `Observer`."""
        kind = "" if fact.subject is FactSubject.TASK else fact.kind or ""
        how = (fact.reason if fact.type is FactType.REFUSED else fact.how) or ""
        self._facts.labels(fact.type.value, fact.subject.value, kind, how).inc(fact.count)
        if fact.type is FactType.HANDLED and fact.seconds is not None:
            self._seconds.labels(fact.subject.value, kind, how).observe(fact.seconds)

    def show(self, statistics: Statistics) -> None:
        """Show the figures of the store too, as they were read by `sdk.statistics()`, until the next call.

        Call it in one process of those that share a store, every 15 s or so.

        Example:
            observer.show(await sdk.statistics())
        """
        self._shown = statistics

    def attached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """See `Observer`."""
        self._sources.add(figures)

    def detached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """See `Observer`."""
        self._sources.remove(figures)

    def describe(self) -> list[Metric]:
        """Nothing is read when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the figures of now; Prometheus asks in a thread of its own."""
        found = self._sources.read()

        def total(read: Callable[[ProcessFigures], int]) -> int:
            return sum(map(read, found))

        connections = GaugeMetricFamily(
            "agent_messaging_pool_connections", "Connections to the store.", labels=["state"]
        )
        connections.add_metric(["used"], total(lambda of: of.pool.in_use))
        connections.add_metric(["idle"], total(lambda of: of.pool.available))
        yield connections
        yield _gauge("pool_connections_max", "Most connections at once.", total(lambda of: of.pool.max_size))
        yield _gauge("pool_waiting", "Calls that wait for a connection.", total(lambda of: of.pool.waiting))
        yield _gauge("outbox_calls", "Calls that wait to be stored.", total(lambda of: of.outbox))
        slots = GaugeMetricFamily("agent_messaging_slots", "Runs that are possible at once.", labels=["state"])
        slots.add_metric(["used"], total(lambda of: of.slots_used))
        slots.add_metric(["free"], max(total(lambda of: of.slots - of.slots_used), 0))
        yield slots
        claims = GaugeMetricFamily("agent_messaging_claims", "Messages claimed here.", labels=["state"])
        claims.add_metric(["running"], total(lambda of: of.running))
        claims.add_metric(["settling"], total(lambda of: of.settling))
        claims.add_metric(["pulled"], total(lambda of: of.pulled))
        yield claims
        waits = GaugeMetricFamily("agent_messaging_waits", "Callers that wait.", labels=["for"])
        waits.add_metric(["answer"], total(lambda of: of.asks))
        waits.add_metric(["other"], total(lambda of: of.waits))
        yield waits
        yield _gauge("tasks_running", "Runs of task handlers.", total(lambda of: of.tasks_running))
        if (shown := self._shown) is not None:
            yield from _of_store(shown)


def _of_store(shown: Statistics) -> Iterator[Metric]:
    deliveries = GaugeMetricFamily("agent_messaging_deliveries", "Messages in the store.", labels=["state"])
    for state, number in shown.deliveries.items():
        deliveries.add_metric([state.value], number)
    yield deliveries
    tasks = GaugeMetricFamily("agent_messaging_tasks", "Tasks in the store.", labels=["state"])
    for task_state, number in shown.tasks.items():
        tasks.add_metric([task_state.value], number)
    yield tasks
    oldest = "Seconds for which the oldest message that nobody has claimed has been due."
    yield _gauge("oldest_queued_seconds", oldest, shown.oldest_queued_age or 0.0)
    yield _gauge("oldest_claim_seconds", "Seconds since the oldest open claim.", shown.oldest_claim_age or 0.0)
    yield _gauge("index_lag_messages", "Messages that the index of words does not have yet.", shown.index_lag)
    yield _gauge("processes", "Processes alive on the store.", shown.processes)


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(f"agent_messaging_{name}", description, value=value)
