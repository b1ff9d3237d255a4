"""What others do, for the rows beside ours. The extra `bench` installs them; where one is missing, its row says so.

In memory and in one process: autogen-core's `send_message`, and plain `asyncio.Queue`, the limit of what a process can
do. With a server: NATS, where a `nats-server` is on the PATH.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .raw import PAYLOAD

IS_INSTALLED = importlib.util.find_spec("autogen_core") is not None
NO_NATS = "absent: no `nats-server` is on the PATH, or nats-py is not installed"
_HAS_NATS = importlib.util.find_spec("nats") is not None and shutil.which("nats-server") is not None


# --- asyncio ----------------------------------------------------------------------------------------------------------


async def queue_rate(pairs: int, count: int) -> float:
    """Messages in a second through a queue for each pair, as JSON, handled by a task for each."""
    queues: list[asyncio.Queue[str]] = [asyncio.Queue() for _ in range(pairs)]
    each = max(1, count // pairs)

    async def send(queue: asyncio.Queue[str]) -> None:
        for number in range(each):
            await queue.put(json.dumps({**PAYLOAD, "number": number}))

    async def handle(queue: asyncio.Queue[str]) -> None:
        for _ in range(each):
            json.loads(await queue.get())

    began = time.perf_counter()
    await asyncio.gather(*(send(queue) for queue in queues), *(handle(queue) for queue in queues))
    return each * pairs / (time.perf_counter() - began)


# --- autogen-core -----------------------------------------------------------------------------------------------------


@dataclass
class Question:
    """What is asked."""

    text: str
    number: int
    urgent: bool


@dataclass
class Answer:
    """What is answered."""

    text: str


if IS_INSTALLED:  # its decorators evaluate the annotations in this module
    from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

    class Responder(RoutedAgent):
        """Answers with the question's text."""

        def __init__(self) -> None:
            super().__init__("answers")

        @message_handler
        async def answer(self, message: Question, ctx: MessageContext) -> Answer:
            """See the class."""
            return Answer(message.text)


async def ask_rate(count: int, at_once: int) -> float:
    """Answers in a second, so many asks in flight, each to an agent of its own."""
    runtime = SingleThreadedAgentRuntime()
    await Responder.register(runtime, "responder", Responder)
    runtime.start()

    async def ask(flow: int, number: int) -> None:
        for one in range(number):
            question = Question(str(PAYLOAD["text"]), one, False)
            await runtime.send_message(question, AgentId("responder", str(flow)))

    await asyncio.gather(*(ask(flow, 1) for flow in range(at_once)))
    began = time.perf_counter()
    await asyncio.gather(*(ask(flow, count // at_once) for flow in range(at_once)))
    elapsed = time.perf_counter() - began
    await runtime.stop()
    return count // at_once * at_once / elapsed


# --- NATS -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _nats() -> AsyncIterator[Any]:
    """A client of a server that syncs what it stores, as ours does; the server is gone in the end."""
    import nats

    with tempfile.TemporaryDirectory(prefix="am-bench-nats-") as folder:
        port = free_port()
        settings = Path(folder, "server.conf")
        settings.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}/data", sync_interval: always }}\n',
            encoding="utf-8",
        )
        server = await asyncio.create_subprocess_exec(
            "nats-server", "-c", str(settings), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            while not await listens(port):
                await asyncio.sleep(0.05)
            client = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=5)
            yield client
            await client.close()
        finally:
            server.terminate()
            await server.wait()


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


async def listens(port: int) -> bool:
    """Whether a server has begun to listen there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def jetstream_rate(at_once: int, count: int) -> float | None:
    """Messages in a second: each is stored and synced, handled, and acknowledged so that the server says so."""
    if not _HAS_NATS:
        return None
    each = max(1, count // at_once)
    async with _nats() as client:
        stream = client.jetstream()
        await stream.add_stream(name="notes", subjects=["notes.*"])
        handled, everything = 0, asyncio.Event()

        async def handle(message: Any) -> None:
            nonlocal handled
            json.loads(message.data)
            await message.ack()
            handled += 1
            if handled == each * at_once:
                everything.set()

        await stream.subscribe("notes.*", durable="handler", cb=handle, manual_ack=True)

        async def send(flow: int) -> None:
            for number in range(each):
                await stream.publish(f"notes.{flow}", json.dumps({**PAYLOAD, "number": number}).encode())

        began = time.perf_counter()
        await asyncio.gather(*(send(flow) for flow in range(at_once)))
        await everything.wait()
        return each * at_once / (time.perf_counter() - began)


async def request_rate(at_once: int, count: int) -> float | None:
    """Answers in a second: requests through the server, which stores nothing."""
    if not _HAS_NATS:
        return None
    each = max(1, count // at_once)
    async with _nats() as client:

        async def answer(message: Any) -> None:
            await message.respond(json.dumps({"text": json.loads(message.data)["text"]}).encode())

        await client.subscribe("asks.*", cb=answer)

        async def ask(flow: int) -> None:
            for number in range(each):
                message = json.dumps({**PAYLOAD, "number": number}).encode()
                json.loads((await client.request(f"asks.{flow}", message, timeout=30)).data)

        began = time.perf_counter()
        await asyncio.gather(*(ask(flow) for flow in range(at_once)))
        return each * at_once / (time.perf_counter() - began)
