"""Tracing: an ask and what its handler asks in turn are one trace, across agents, and processes too.

Run: pip install 'agent-messaging[otel]' opentelemetry-sdk; python examples/tracing.py
"""

import asyncio

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_messaging import AgentMessaging, MessageContext
from agent_messaging.observing.otel import OpenTelemetryObserver

# A program of yours has an exporter of its own here, such as that for OTLP.
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))


def print_tree(spans: list[ReadableSpan], parent: int | None = None, depth: int = 0) -> None:
    """Print the spans below one, in the order in which they began."""
    for span in sorted(spans, key=lambda one: one.start_time or 0):
        if (span.parent.span_id if span.parent else None) == parent:
            print("  " * depth + span.name)
            print_tree(spans, span.context.span_id, depth + 1)


async def main() -> None:
    sdk = AgentMessaging()
    sdk.observers.add(OpenTelemetryObserver(provider))

    @sdk.register_handler("desk")
    async def desk(question: str, context: MessageContext) -> str:
        return "Billing says: " + await sdk.conversation.send_and_wait("desk", "billing", question, response_type=str)

    @sdk.register_handler("billing")
    async def billing(question: str, context: MessageContext) -> str:
        return "it is paid."

    async with sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("customer", "desk", "billing"):
            await sdk.register_agent(name, "acme", name.title())
        with provider.get_tracer("shop").start_as_current_span("checkout"):
            answer = await sdk.conversation.send_and_wait("customer", "desk", "Is my order paid?")
    print_tree(list(exporter.get_finished_spans()))
    print(answer)


asyncio.run(main())
