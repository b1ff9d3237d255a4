"""A web service on agents: every request asks one front agent, which asks billing or support; on any number of servers.

Run: python examples/help_desk.py
Two servers share one store. First one customer asks, then twenty at once. It needs fastapi, uvicorn and httpx.
A server by itself: uvicorn --app-dir examples help_desk:app
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from agent_messaging import AgentMessaging, MessageContext

CUSTOMERS, QUESTIONS = 20, 10
"""So many ask at once, and each of them so many, one after the other."""


class Question(BaseModel):
    customer: str
    text: str


class Answer(BaseModel):
    text: str
    by: str


# --- the servers: each has all agents, and the store decides which server's agent gets a question ---------------------

sdk = AgentMessaging()


@sdk.register_handler("front")
async def front(question: Question, context: MessageContext) -> Answer:
    expert = "billing" if "invoice" in question.text else "support"
    # Each run asks in a conversation of its own, so one front agent has as many questions open as it has runs.
    return await sdk.conversation.send_and_wait("front", expert, question, timeout=20, response_type=Answer)


@sdk.register_handler("billing")
async def billing(question: Question, context: MessageContext) -> Answer:
    await asyncio.sleep(0.1)  # looks it up
    return Answer(text=f"{question.customer}: paid, {question.text}", by="billing")


@sdk.register_handler("support")
async def support(question: Question, context: MessageContext) -> Answer:
    await asyncio.sleep(0.1)
    return Answer(text=f"{question.customer}: solved, {question.text}", by="support")


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("web", "front", "billing", "support"):
            await sdk.register_agent(agent, "acme", agent.title())
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/ask")
async def ask(question: Question) -> Answer:
    return await sdk.conversation.send_and_wait(
        "web", "front", question, timeout=30, response_type=Answer, thread=f"request {uuid4()}"
    )


# --- the customers ----------------------------------------------------------------------------------------------------


async def is_answered(client: httpx.AsyncClient, url: str, customer: str, number: int) -> bool:
    """Ask one question, and see whether the answer is the right one."""
    by, done = ("billing", "paid") if number % 2 else ("support", "solved")
    text = f"{'invoice' if number % 2 else 'printer'} {number}"
    response = await client.post(f"{url}/ask", json={"customer": customer, "text": text})
    return bool(response.json() == {"text": f"{customer}: {done}, {text}", "by": by})


async def visit(urls: list[str]) -> None:
    async with httpx.AsyncClient(timeout=60) as client:

        async def one(customer: int) -> list[bool]:
            url = urls[customer % len(urls)]
            return [await is_answered(client, url, f"customer {customer}", number) for number in range(QUESTIONS)]

        for url in urls:  # both servers are up
            await is_answered(client, url, "somebody", 0)
        began = time.perf_counter()
        right = await one(0)
        alone = (time.perf_counter() - began) / len(right)
        print(f"one customer: {sum(right)} of {len(right)} answers are right, {1000 * alone:.0f} ms for each")
        began = time.perf_counter()
        answers = await asyncio.gather(*(one(customer) for customer in range(CUSTOMERS)))
        right = [answer for some in answers for answer in some]
        together = (time.perf_counter() - began) / len(right)
        print(f"{CUSTOMERS} customers at once: {1000 * together:.0f} ms for each, {alone / together:.1f} times as fast")
        print(f"{sum(right)} of {len(right)} answers are right")


def main() -> None:
    with contextlib.ExitStack() as stack:
        urls, servers = [], []
        for _ in range(2):
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            command = [sys.executable, __file__, str(listening.fileno())]
            server = subprocess.Popen(command, pass_fds=[listening.fileno()])  # noqa: S603
            servers.append(stack.enter_context(server))
            urls.append(f"http://127.0.0.1:{listening.getsockname()[1]}")
        try:
            asyncio.run(visit(urls))
        finally:
            for server in servers:
                server.terminate()


def serve(listening: socket.socket) -> None:
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1]))) if len(sys.argv) > 1 else main()
