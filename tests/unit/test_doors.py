"""What completion offers on the SDK and on its doors: what a user may call, and nothing that it works with."""

from __future__ import annotations

from typing import Any

from agent_messaging import AgentMessaging, Config, MessagingConfig
from tests.client.doors import doors_of


def offered(door: object) -> set[str]:
    return {name for name in dir(door) if not name.startswith("_")}


async def test_completion_offers_calls_alone() -> None:
    async with AgentMessaging[Any]("sqlite://:memory:") as sdk:
        for door in doors_of(sdk).values():
            assert offered(door)
            assert all(callable(getattr(door, name)) for name in offered(door)), door
            methods = {name for kind in type(door).__mro__ for name in vars(kind) if callable(vars(kind)[name])}
            assert offered(door) <= methods, door
        assert offered(sdk.dead_letters) >= {"list", "redrive"}
        assert sdk.one_way.engine is sdk.conversation.engine, "it is there, for the modules beside it"


async def test_a_received_message_offers_what_it_is_and_how_it_ends() -> None:
    config = Config(url="sqlite://:memory:", messaging=MessagingConfig(require_handler=False))
    async with AgentMessaging[Any](config) as sdk:
        await sdk.register_organization("acme", "Acme")
        for name in ("alice", "bob"):
            await sdk.register_agent(name, "acme", name.title())
        await sdk.one_way.send("alice", "bob", "hello")
        [message] = await sdk.receive("bob")
        await message.done()
    assert offered(message) == {"content", "context", "message_id", "created_at", "done", "retry", "reject"}
