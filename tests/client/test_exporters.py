"""What OpenTelemetry and Prometheus are told of, through their own tools for tests."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from agent_messaging import AgentMessaging, HandlerError, MessageContext, TaskContext
from agent_messaging.observing.otel import OpenTelemetryObserver
from agent_messaging.observing.prometheus import PrometheusObserver
from tests.client.meeting_support import Table
from tests.client.support import SOON, Inbox, MakeSdk, Sdk
from tests.support import eventually


class Telemetry:
    """An OpenTelemetry SDK that keeps everything."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.provider.get_tracer("test")
        self.observer = OpenTelemetryObserver(self.provider, self.meters)

    def spans(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]

    async def wait(self, name: str, number: int = 1) -> list[ReadableSpan]:
        return await eventually(lambda: self.spans(name), SOON, until=lambda found: len(found) >= number)

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            (dict(point.attributes or {}), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.provider.shutdown()
    made.meters.shutdown()


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


async def test_an_ask_is_three_spans_of_one_trace_and_what_its_handler_asks_is_below_it(
    make_sdk: MakeSdk, telemetry: Telemetry
) -> None:
    """The handlers are in another SDK object, as they would be in another process."""
    sdk, other = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    for one in (sdk, other):
        one.observers.add(telemetry.observer)
    inner: list[trace.Span] = []

    async def bob(message: Any, context: MessageContext) -> Any:
        with telemetry.tracer.start_as_current_span("thinking"):
            return await other.conversation.send_and_wait("bob", "carol", message)

    def carol(message: Any, context: MessageContext) -> str:
        inner.append(trace.get_current_span())  # in a thread
        return "yes"

    other.register_handler("bob")(bob)
    other.register_handler("carol")(carol)
    await sdk.wait_until_served(["bob", "carol"])
    with telemetry.tracer.start_as_current_span("outside") as outside:
        assert await sdk.conversation.send_and_wait("alice", "bob", "?", timeout=SOON) == "yes"
    [settle] = await telemetry.wait("settle bob")
    [send], [process] = telemetry.spans("send bob"), telemetry.spans("process bob")
    [thinking], [send_on], [process_on] = (
        telemetry.spans(name) for name in ("thinking", "send carol", "process carol")
    )
    assert parent_of(send) == outside.get_span_context().span_id
    assert parent_of(process) == id_of(send)
    assert parent_of(settle) == id_of(process)
    assert parent_of(thinking) == id_of(process)
    assert parent_of(send_on) == id_of(thinking)
    assert parent_of(process_on) == id_of(send_on)
    assert inner[0].get_span_context().span_id == id_of(process_on)
    traces = {span.context.trace_id for span in telemetry.spans() if span.context is not None}
    assert traces == {outside.get_span_context().trace_id}
    assert (send.kind, process.kind, settle.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT)
    told = dict(process.attributes or {})
    assert told["messaging.system"] == "agent_messaging"
    assert (told["messaging.operation.name"], told["messaging.operation.type"]) == ("process", "process")
    assert told["messaging.destination.name"] == "bob"
    assert told["messaging.message.id"] == dict(send.attributes or {})["messaging.message.id"]
    assert "messaging.message.conversation_id" in told


SENDER = """
import asyncio, sys
from opentelemetry.sdk.trace import TracerProvider
from agent_messaging import AgentMessaging
from agent_messaging.observing.otel import OpenTelemetryObserver

async def main():
    provider = TracerProvider()
    async with AgentMessaging(sys.argv[1]) as sdk:
        sdk.observers.add(OpenTelemetryObserver(provider))
        with provider.get_tracer("sender").start_as_current_span("outside") as span:
            await sdk.one_way.send("alice", "bob", "from elsewhere", require_handler=False)
        print(span.get_span_context().trace_id)

asyncio.run(main())
"""


async def test_a_message_of_a_process_that_has_ended_is_handled_in_its_trace(
    sdk: Sdk, url: str, telemetry: Telemetry
) -> None:
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", SENDER, url, stdout=asyncio.subprocess.PIPE)
    said, _ = await sender.communicate()
    assert sender.returncode == 0
    sdk.observers.add(telemetry.observer)
    sdk.register_handler("bob")(Inbox())
    [process] = await telemetry.wait("process bob")
    assert process.context is not None
    assert process.context.trace_id == int(said)


async def test_notes_to_many_failures_pulls_speeches_and_tasks(make_sdk: MakeSdk, telemetry: Telemetry) -> None:
    sdk = await make_sdk(require_handler=False, max_attempts=1)
    await sdk.add_people("alice", "bob", "carol")
    sdk.observers.add(telemetry.observer)

    @sdk.register_handler("bob")
    async def fail(message: Any, context: MessageContext) -> None:
        raise ValueError("the printer is on fire")

    await sdk.one_way.send("alice", ["bob", "carol"], 1)
    [process] = await telemetry.wait("process bob")
    [send] = telemetry.spans("send")
    assert dict(send.attributes or {})["messaging.batch.message_count"] == 2
    assert parent_of(process) == id_of(send)
    assert process.status.status_code is StatusCode.ERROR
    assert dict(process.attributes or {})["error.type"] == "ValueError"
    [pulled] = await sdk.receive("carol")
    await pulled.done()
    [receive], [settle] = telemetry.spans("receive carol"), telemetry.spans("settle carol")
    assert [link.context.span_id for link in receive.links] == [id_of(send)]
    assert parent_of(settle) == id_of(receive)
    with pytest.raises(HandlerError):
        await sdk.conversation.send_and_wait("alice", "bob", 1, timeout=SOON)

    sdk.register_meeting_handler("carol")(lambda message, context: "spoken")
    table = await Table.gather(sdk, "carol")
    await sdk.meeting.start_meeting("alice", table.id)
    await table.speak("alice", "hello")
    await table.wait("alice")
    by_alice, by_carol = (
        one for one in telemetry.spans("send") if dict(one.attributes or {})["agent_messaging.kind"] == "meeting"
    )
    [turn] = await telemetry.wait("process carol")  # alice may have her turn before the run of the last is over
    assert parent_of(turn) == id_of(by_alice), "a turn handler answers what was said last"
    assert parent_of(by_carol) == id_of(turn)

    @sdk.register_task_handler("w", capabilities=["work"])
    async def work(item: Any, context: TaskContext) -> str:
        return "done"

    await sdk.tasks.delegate("work", 1, wait=True, timeout=SOON)
    [task] = await telemetry.wait("settle work") and telemetry.spans("process work")
    assert parent_of(task) == id_of(telemetry.spans("send work")[0])


async def test_metrics_have_labels_of_few_values(sdk: Sdk, telemetry: Telemetry) -> None:
    registry = CollectorRegistry()
    prometheus = sdk.observers.add(PrometheusObserver(registry))
    sdk.observers.add(telemetry.observer)
    sdk.register_handler("bob")(Inbox())
    sent = [id for n in range(3) for id in await sdk.one_way.send("alice", "bob", n)]
    await sdk.wait(sent)
    await telemetry.wait("settle bob", 3)
    prometheus.show(await sdk.statistics())
    page = generate_latest(registry).decode()
    assert 'agent_messaging_facts_total{fact="settled",how="done",kind="one_way",subject="message"} 3.0' in page
    assert 'agent_messaging_run_seconds_count{how="done",kind="one_way",subject="message"} 3.0' in page
    assert 'agent_messaging_deliveries{state="done"} 3.0' in page
    assert 'agent_messaging_pool_connections{state="used"}' in page
    assert not [word for word in (*sent, "alice", "bob") if word in page]
    [(labels, point)] = telemetry.points("messaging.client.sent.messages")
    assert point.value == 3
    assert labels == {
        "messaging.system": "agent_messaging",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "agent_messaging.subject": "message",
        "agent_messaging.kind": "one_way",
    }
    [(_, consumed)] = telemetry.points("messaging.client.consumed.messages")
    [(_, processed)] = telemetry.points("messaging.process.duration")
    assert (consumed.value, processed.count) == (3, 3)
    operations = {
        labels["messaging.operation.name"]: one.count
        for labels, one in telemetry.points("messaging.client.operation.duration")
    }
    assert operations == {"send": 3, "settle": 3}
    states = {
        labels["db.client.connection.state"]: one.value
        for labels, one in telemetry.points("db.client.connection.count")
    }
    figures = sdk.figures()
    assert sum(states.values()) == figures.pool.size
    slots = {labels["agent_messaging.state"]: one.value for labels, one in telemetry.points("agent_messaging.slots")}
    assert sum(slots.values()) == figures.slots
    for observer in (prometheus, telemetry.observer):
        sdk.observers.remove(observer)
    assert "agent_messaging_slots" in generate_latest(registry).decode()
    assert {one.value for _, one in telemetry.points("agent_messaging.claims")} <= {0}


async def test_an_sdk_object_that_was_closed_is_forgotten_by_those_it_told(telemetry: Telemetry) -> None:
    registry = CollectorRegistry()
    async with AgentMessaging("sqlite://:memory:") as sdk:
        sdk.observers.add(telemetry.observer)
        sdk.observers.add(PrometheusObserver(registry))
        assert "agent_messaging_pool_connections_max 0.0" not in generate_latest(registry).decode()
    closed = weakref.ref(sdk)
    del sdk
    gc.collect()
    assert closed() is None
    assert "agent_messaging_pool_connections_max 0.0" in generate_latest(registry).decode()


async def test_without_an_sdk_of_opentelemetry_nothing_travels(sdk: Sdk) -> None:
    sdk.observers.add(OpenTelemetryObserver(trace.NoOpTracerProvider()))
    sdk.register_handler("bob")(inbox := Inbox())
    [id] = await sdk.one_way.send("alice", "bob", 1)
    await sdk.wait([id])
    assert inbox.messages == [1]


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("otel", "opentelemetry", "otel"), ("prometheus", "prometheus_client", "prometheus")],
)
def test_a_missing_extra_is_named(module: str, package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from agent_messaging import AgentMessaging, ConfigurationError\n"
        f"try: import agent_messaging.observing.{module}\n"
        "except ConfigurationError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"agent-messaging[{extra}]" in ran.stdout
