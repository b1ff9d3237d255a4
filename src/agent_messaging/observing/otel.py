"""Spans and metrics for OpenTelemetry, by the semantic conventions for messaging.

    pip install 'agent-messaging[otel]'

It needs the API of OpenTelemetry alone. The application chooses the SDK, and where spans and metrics go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from ..exceptions import ConfigurationError
from . import carrying
from .facts import Fact, FactSubject, FactType
from .figures import ProcessFigures, Sources
from .observers import Observer

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError(
        "OpenTelemetry needs its API, which is not installed. Run: pip install 'agent-messaging[otel]'"
    ) from error

V = TypeVar("V")

SYSTEM = "agent_messaging"
MOST_OPEN = 100_000
"""Spans, and runs, that are remembered until their ends are told. Beyond that the oldest are forgotten."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds: those that the conventions name."""
_FAILED = ("retry", "dead")


class OpenTelemetryObserver(Observer):
    """Tells OpenTelemetry of messages, asks, meetings and tasks. One may observe several SDK objects.

    A send is a span of kind PRODUCER, a child of the caller's span. Its context travels with the message, under W3C
    names that users never see, so the run of a handler, in whatever process, is a child of it: a span of kind CONSUMER,
    which is current while the handler runs. The commit of its end is a child of that, of kind CLIENT. So an ask is
    three spans in one trace, and what its handler asks in turn is below the second.

    Args:
        tracer_provider: None is the global one.
        meter_provider: None is the global one.

    Example:
        sdk.observers.add(OpenTelemetryObserver())
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(SYSTEM, version("agent-messaging"), tracer_provider)
        self._propagator = TraceContextTextMapPropagator()
        self._sends = _Open[tuple[Any, float]]()
        """Spans of what is being sent, and since when, by what travels with it."""
        self._runs = _Open[Any]()
        """Spans of runs, by their claims."""
        self._settling = _Open[tuple[Any, int, Fact]]()
        """The contexts of runs that have ended, when (nanoseconds; 0: a caller had it), and of what, by claims."""
        self._sources = Sources()
        meter = metrics.get_meter(SYSTEM, version("agent-messaging"), meter_provider)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages and tasks that were handed to the store."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Messages and tasks that handlers, or callers, were given.",
        )
        self._operations = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "How long the commits of sends, and of the ends of runs, took.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "How long handlers ran.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._facts = meter.create_counter("agent_messaging.facts", "{fact}", "Everything that has happened.")
        self._observe_figures(meter)

    # --- spans --------------------------------------------------------------------------------------------------------

    def sending(self, fact: Fact) -> Mapping[str, str] | None:
        """See `Observer`: begins the span of a send."""
        span = self._tracer.start_span(
            _named("send", fact), kind=trace.SpanKind.PRODUCER, attributes=_attributes(fact, "send")
        )
        carried: dict[str, str] = {}
        self._propagator.inject(carried, context=trace.set_span_in_context(span, contexts.Context()))
        key = carried.get(carrying.TRACEPARENT)
        if key is None:  # nobody records anything
            return None
        self._sends.put(key, (span, time.monotonic()))
        return carried

    def handling(self, fact: Fact, carried: Mapping[str, str]) -> None:
        """See `Observer`: begins the span of a run, which stays current in its task."""
        parent = self._propagator.extract(dict(carried), context=contexts.Context())
        span = self._tracer.start_span(
            _named("process", fact),
            context=parent,
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes(fact, "process"),
        )
        contexts.attach(trace.set_span_in_context(span, parent))  # the task's own context ends with the task
        if fact.claim is not None:
            self._runs.put(fact.claim, span)

    def happened(self, fact: Fact) -> None:
        """See `Observer`."""
        self._facts.add(fact.count, _counted(fact) | {"agent_messaging.fact": fact.type.value})
        match fact.type:
            case FactType.STORED | FactType.REFUSED | FactType.REPEATED:
                self._end_send(fact)
            case FactType.CLAIMED:
                self._consumed.add(fact.count, _labels(fact, "process" if fact.how is None else "receive"))
                if fact.how is not None:
                    self._receive(fact)
            case FactType.HANDLED:
                self._end_run(fact)
            case FactType.SETTLED | FactType.DEAD | FactType.LOST if fact.claim is not None:
                self._settle(fact)

    def _end_send(self, fact: Fact) -> None:
        if fact.subject is FactSubject.MEETING:
            return  # an act without a speech was refused
        error = fact.reason if fact.type is FactType.REFUSED else None
        labels = _labels(fact, "send", error)
        if fact.type is not FactType.REPEATED:
            self._sent.add(fact.count, labels)
        begun = None if fact.traceparent is None else self._sends.take(fact.traceparent)
        if begun is None:
            return  # the first of a group has ended it
        span, since = begun
        if fact.session_id is not None:
            span.set_attribute("messaging.message.conversation_id", fact.session_id)
        if error is not None:
            _fail(span, error)
        span.end()
        self._operations.record(time.monotonic() - since, labels)

    def _receive(self, fact: Fact) -> None:
        """A message was pulled: a span of its own that links to the send, because the caller's goes on."""
        carried = {} if fact.traceparent is None else {carrying.TRACEPARENT: fact.traceparent}
        sent = trace.get_current_span(self._propagator.extract(carried, context=contexts.Context())).get_span_context()
        span = self._tracer.start_span(
            _named("receive", fact),
            kind=trace.SpanKind.CLIENT,
            attributes=_attributes(fact, "receive"),
            links=[trace.Link(sent)] if sent.is_valid else [],
        )
        span.end()
        if fact.claim is not None:
            self._settling.put(fact.claim, (trace.set_span_in_context(span, contexts.Context()), 0, fact))

    def _end_run(self, fact: Fact) -> None:
        error = _error_of(fact) if fact.how in _FAILED else None
        if fact.seconds is not None:
            self._processing.record(fact.seconds, _labels(fact, "process", error))
        span = None if fact.claim is None else self._runs.take(fact.claim)
        if span is None:
            return
        if fact.how is not None:
            span.set_attribute("agent_messaging.how", fact.how)
        if error is not None:
            _fail(span, error, fact.reason)
        span.end()
        if fact.claim is not None and fact.how is not None:
            self._settling.put(fact.claim, (trace.set_span_in_context(span, contexts.Context()), time.time_ns(), fact))

    def _settle(self, fact: Fact) -> None:
        """The end of a run is committed: the span reaches from the end of the run to here."""
        found = None if fact.claim is None else self._settling.take(fact.claim)
        if found is None:
            return
        parent, since, run = found
        now = time.time_ns()
        error = "claim_lost" if fact.type is FactType.LOST else None
        span = self._tracer.start_span(
            _named("settle", run),
            context=parent,
            kind=trace.SpanKind.CLIENT,
            attributes=_attributes(replace(run, how=fact.how), "settle"),
            start_time=min(since, now) or None,
        )
        if error is not None:
            _fail(span, error)
        span.end()
        if since:
            self._operations.record(max(now - since, 0) / 1e9, _labels(fact, "settle", error))

    # --- figures ------------------------------------------------------------------------------------------------------

    def attached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """See `Observer`."""
        self._sources.add(figures)

    def detached(self, figures: Callable[[], ProcessFigures | None]) -> None:
        """See `Observer`."""
        self._sources.remove(figures)

    def _observe_figures(self, meter: metrics.Meter) -> None:
        pool = {"db.client.connection.pool.name": SYSTEM}

        def observe(
            name: str,
            unit: str,
            description: str,
            read: Callable[[ProcessFigures], Mapping[str, float]],
            label: str = "",
        ) -> None:
            """One instrument; `read` gives a value for each value of the label."""

            def collect(_: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
                values: dict[str, float] = {}
                for figures in self._sources.read():
                    for word, value in read(figures).items():
                        values[word] = values.get(word, 0) + value
                shared = pool if name.startswith("db.") else {}
                return [
                    metrics.Observation(value, {**shared, **({label: word} if label else {})})
                    for word, value in values.items()
                ]

            meter.create_observable_up_down_counter(name, [collect], unit, description)

        observe(
            "db.client.connection.count",
            "{connection}",
            "Connections to the store.",
            lambda of: {"used": of.pool.in_use, "idle": of.pool.available},
            "db.client.connection.state",
        )
        observe(
            "db.client.connection.max",
            "{connection}",
            "The most connections that may be open.",
            lambda of: {"": of.pool.max_size},
        )
        observe(
            "db.client.connection.pending_requests",
            "{request}",
            "Calls that wait for a connection.",
            lambda of: {"": of.pool.waiting},
        )
        observe(
            "agent_messaging.slots",
            "{run}",
            "Runs of handlers that are possible at once.",
            lambda of: {"used": of.slots_used, "free": max(of.slots - of.slots_used, 0)},
            "agent_messaging.state",
        )
        observe(
            "agent_messaging.claims",
            "{message}",
            "Messages that this process has claimed.",
            lambda of: {"running": of.running, "settling": of.settling, "pulled": of.pulled},
            "agent_messaging.state",
        )
        observe("agent_messaging.outbox", "{call}", "Calls that wait to be stored.", lambda of: {"": of.outbox})
        observe(
            "agent_messaging.waits",
            "{caller}",
            "Callers that wait for answers, and for anything else.",
            lambda of: {"answer": of.asks, "other": of.waits},
            "agent_messaging.state",
        )
        observe("agent_messaging.tasks", "{task}", "Runs of task handlers.", lambda of: {"": of.tasks_running})


class _Open(Generic[V]):
    """Things that were begun, by key, until they end: at most `MOST_OPEN`; used in any thread."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._lock = threading.Lock()

    def put(self, key: str, value: V) -> None:
        with self._lock:
            self._values[key] = value
            if len(self._values) > MOST_OPEN:
                del self._values[next(iter(self._values))]

    def take(self, key: str) -> V | None:
        with self._lock:
            return self._values.pop(key, None)


def _destination(fact: Fact) -> str | None:
    return fact.topic or (fact.kind if fact.subject is FactSubject.TASK else fact.recipient)


def _named(operation: str, fact: Fact) -> str:
    destination = _destination(fact)
    return operation if destination is None else f"{operation} {destination}"


def _attributes(fact: Fact, operation: str) -> dict[str, Any]:
    """The attributes of a span."""
    found: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": _destination(fact),
        "messaging.message.id": fact.message_id or fact.task_id,
        "messaging.message.conversation_id": fact.session_id,
        "messaging.message.body.size": fact.size_bytes,
        "messaging.batch.message_count": fact.count if fact.count > 1 else None,
        "agent_messaging.subject": fact.subject.value,
        "agent_messaging.kind": fact.kind,
        "agent_messaging.sender": fact.sender,
        "agent_messaging.recipient": fact.recipient,
        "agent_messaging.thread": fact.conversation_thread,
        "agent_messaging.meeting.id": fact.meeting_id,
        "agent_messaging.meeting.turn": fact.turn,
        "agent_messaging.attempt": fact.attempt,
        "agent_messaging.how": fact.how,
    }
    return {name: value for name, value in found.items() if value is not None}


def _counted(fact: Fact) -> dict[str, str]:
    """The labels of any metric: words of which there are few, never an id or the name of an agent."""
    kind = fact.kind if fact.subject is not FactSubject.TASK else None
    return {"agent_messaging.subject": fact.subject.value, **({} if kind is None else {"agent_messaging.kind": kind})}


def _labels(fact: Fact, operation: str, error: str | None = None) -> dict[str, str]:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        **_counted(fact),
        **({} if error is None else {"error.type": error}),
    }


def _error_of(fact: Fact) -> str:
    """The name of the error with which a handler failed: a reason begins with it."""
    name = (fact.reason or "").partition(":")[0]
    return name if name.isidentifier() else "_OTHER"


def _fail(span: Any, error: str, description: str | None = None) -> None:
    span.set_attribute("error.type", error)
    span.set_status(trace.Status(trace.StatusCode.ERROR, description))
