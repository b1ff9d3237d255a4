"""Who serves whom: which handler of which process gets an agent's messages, and what is said when nobody does."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection

import pytest

from agent_messaging import (
    AgentNotFoundError,
    ConversationTimeoutError,
    MessageContext,
    NoHandlerRegisteredError,
    OrganizationNotFoundError,
    TimeoutError,
    clear_handlers,
    register_one_way_handler,
)
from agent_messaging.delivery.names import AgentName
from agent_messaging.delivery.probes import arm, disarm
from agent_messaging.models import Kind
from tests.client.support import SOON, Gate, Inbox, MakeSdk, Sdk
from tests.support import eventually


async def test_a_message_for_an_agent_that_nobody_serves_is_refused_and_not_stored(sdk: Sdk) -> None:
    sdk.register_handler("bob")(Inbox())
    with pytest.raises(
        NoHandlerRegisteredError, match=r"one-way handler registered for 'carol'.*require_handler=False"
    ):
        await sdk.one_way.send("alice", ["bob", "carol"], "hi")
    assert await sdk.one_way.get_message_count("alice", "sender") == 0
    with pytest.raises(NoHandlerRegisteredError):
        await sdk.one_way.send("alice", "carol", "hi", require_handler=True)


async def test_a_message_can_be_stored_for_an_agent_that_nobody_serves_yet(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(require_handler=False)
    await sdk.add_people("alice", "bob")
    ids = await sdk.one_way.send("alice", "bob", "early")
    with pytest.raises(NoHandlerRegisteredError):
        await sdk.one_way.send("alice", "bob", "hi", require_handler=True)
    inbox = Inbox()
    sdk.register_handler("bob")(inbox)
    await sdk.wait(ids)
    assert inbox.messages == ["early"]


async def test_an_agents_own_handler_wins_over_global_ones_and_the_sdks_over_both(sdk: Sdk) -> None:
    bare, named, own = Inbox(), Inbox(), Inbox()
    register_one_way_handler(bare)
    register_one_way_handler(agent="bob")(named)
    register_one_way_handler(agent="carol")(named)
    sdk.register_handler("carol")(own)
    await sdk.add_people("dave")
    await sdk.wait(await sdk.one_way.send("alice", ["bob", "carol", "dave"], "hi"))
    assert [context.receiver_id for inbox in (bare, named, own) for context in inbox.contexts] == [
        "dave",
        "bob",
        "carol",
    ]


async def test_the_last_registration_wins(sdk: Sdk) -> None:
    first, second = Inbox(), Inbox()
    sdk.register_handler("bob")(first)
    sdk.register_handler("bob")(second)
    register_one_way_handler(first)
    register_one_way_handler(second)
    await sdk.wait(await sdk.one_way.send("alice", ["bob", "carol"], "hi"))
    assert (len(first.messages), len(second.messages)) == (0, 2)


async def test_a_global_handler_serves_every_sdk_object_of_the_process_that_registered_agents(
    make_sdk: MakeSdk,
) -> None:
    inbox = Inbox()
    register_one_way_handler(inbox)
    first, second = await make_sdk(), await make_sdk()
    await first.add_people("alice", "bob")
    await second.add_people("carol")
    await first.wait_until_served(["bob", "carol"], SOON)
    await first.wait(await first.one_way.send("alice", ["bob", "carol"], "hi"))
    assert sorted(context.receiver_id for context in inbox.contexts) == ["bob", "carol"]


async def test_a_global_handler_serves_agents_of_others_only_when_told_to(make_sdk: MakeSdk) -> None:
    registrar, worker = await make_sdk(), await make_sdk()
    await registrar.add_people("alice", "bob", "carol")
    inbox = Inbox()
    await registrar.close()  # its bare handlers would serve them too
    register_one_way_handler(inbox)
    with pytest.raises(NoHandlerRegisteredError, match="'bob'"):
        await worker.one_way.send("alice", "bob", "hi")
    await worker.serve("bob")
    await worker.wait(await worker.one_way.send("alice", "bob", "hi"))
    with pytest.raises(NoHandlerRegisteredError, match="'carol'"):
        await worker.one_way.send("alice", "carol", "hi")
    await worker.serve("*")
    await worker.wait(await worker.one_way.send("alice", "carol", "hi"))
    assert [context.receiver_id for context in inbox.contexts] == ["bob", "carol"]


async def test_serving_everybody_includes_agents_registered_later_by_others(make_sdk: MakeSdk) -> None:
    worker, other = await make_sdk(), await make_sdk()
    inbox = Inbox()
    register_one_way_handler(inbox)
    await worker.serve("*")
    await other.add_people("alice", "bob")
    await other.wait_until_served("bob", SOON)
    await other.wait(await other.one_way.send("alice", "bob", "hi"))
    assert inbox.messages == ["hi"]


async def test_serving_an_unknown_agent_is_refused(sdk: Sdk) -> None:
    with pytest.raises(AgentNotFoundError, match=r"'bobb'. Did you mean 'bob'"):
        await sdk.serve("alice", "bobb")
    sdk.register_handler("alice")(Inbox())
    with pytest.raises(TimeoutError, match=r"No live process serves 'bobb' \(not registered\) after 0.05 seconds"):
        await sdk.wait_until_served(["alice", "bobb"], 0.05)


async def test_a_global_handler_leaves_alone_an_agent_that_another_live_process_serves_itself(
    make_sdk: MakeSdk,
) -> None:
    bare, own = Inbox(), Inbox()
    general = await make_sdk()
    await general.add_people("alice", "bob", "carol")
    register_one_way_handler(bare)
    specialist = await make_sdk(handler_grace=0)
    specialist.register_handler("bob")(own)
    await specialist.wait_until_served("bob", SOON)
    # The other process is told by a ring; until it knows, either may take a message.
    bob = (await general.get_agent("bob")).id

    await eventually(lambda: any(id == str(bob) for id, _ in general._started().serving.neighbours.explicit))
    for number in range(5):
        await general.wait(await general.one_way.send("alice", ["bob", "carol"], number))
    assert own.messages == list(range(5))
    assert {context.receiver_id for context in bare.contexts} == {"carol"}
    await specialist.close()
    await eventually(lambda: not general._started().serving.neighbours.explicit)
    await general.wait(await general.one_way.send("alice", "bob", "back"))
    assert bare.messages[-1] == "back"


async def test_an_agent_counts_as_served_for_a_while_after_its_process_stopped(make_sdk: MakeSdk) -> None:
    patient, impatient = await make_sdk(handler_grace=60), await make_sdk(handler_grace=0)
    await patient.add_people("alice", "bob")
    worker = await make_sdk()
    worker.register_handler("bob")(Inbox())
    await patient.wait_until_served("bob", SOON)
    await worker.close()
    with pytest.raises(NoHandlerRegisteredError):
        await impatient.one_way.send("alice", "bob", "hi")
    ids = await patient.one_way.send("alice", "bob", "hi")
    with pytest.raises(TimeoutError, match=r"'bob'"):
        await patient.wait_until_served("bob", 0.05)
    inbox = Inbox()
    successor = await make_sdk()
    successor.register_handler("bob")(inbox)
    await patient.wait(ids)
    assert inbox.messages == ["hi"]


async def test_an_unregistered_handler_does_not_count_for_the_grace(make_sdk: MakeSdk) -> None:
    sdk, worker = await make_sdk(handler_grace=60), await make_sdk(handler_grace=60)
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(Inbox())
    await sdk.wait_until_served("bob", SOON)
    assert worker.unregister_handler("bob") is True
    assert worker.unregister_handler("bob") is False

    async def is_refused() -> bool:
        try:
            await sdk.one_way.send("alice", "bob", "hi")
        except NoHandlerRegisteredError:
            return True
        return False

    await eventually(is_refused)


async def test_what_was_unregistered_as_the_process_closed_does_not_count_for_the_grace(make_sdk: MakeSdk) -> None:
    sdk, worker = await make_sdk(handler_grace=60), await make_sdk(handler_grace=60)
    await sdk.add_people("alice", "bob")
    worker.register_handler("bob")(Inbox())
    await sdk.wait_until_served("bob", SOON)
    worker.unregister_handler("bob")
    await worker.close()
    newcomer = await make_sdk(handler_grace=60)  # has not heard from before that somebody serves bob
    with pytest.raises(NoHandlerRegisteredError):
        await newcomer.one_way.send("alice", "bob", "hi")


async def test_an_unregistered_handler_is_not_run_for_what_still_waits(sdk: Sdk) -> None:
    gate, successor = Gate(), Inbox()
    sdk.register_handler("bob", concurrency=1)(gate)
    ids = [id for number in range(3) for id in await sdk.one_way.send("alice", "bob", number)]
    await gate.wait_for(1)
    sdk.unregister_handler("bob")
    gate.open()
    await sdk.wait(ids[:1])
    sdk.register_handler("bob")(successor)
    await sdk.wait(ids)
    assert (gate.messages, successor.messages) == ([0], [1, 2])


async def test_waiting_for_a_server_ends_when_another_process_registers_its_handler(make_sdk: MakeSdk) -> None:
    sdk, worker = await make_sdk(), await make_sdk()
    await sdk.add_people("alice", "bob", "carol")
    waiting = asyncio.create_task(sdk.wait_until_served(["bob", "carol"], SOON))
    worker.register_handler("bob")(Inbox())
    with pytest.raises(TimeoutError, match=r"'carol' after 0.05 seconds"):
        await sdk.wait_until_served(["bob", "carol"], 0.05)
    assert not waiting.done()
    worker.register_handler("carol")(Inbox())
    await waiting


async def test_a_handler_serves_an_agent_that_another_process_registers_later(
    make_sdk: MakeSdk,
) -> None:
    worker, other = await make_sdk(), await make_sdk()
    inbox = Inbox()
    worker.register_handler("bob")(inbox)
    await other.add_people("alice", "bob")
    await other.wait_until_served("bob", SOON)
    await other.wait(await other.one_way.send("alice", "bob", "hi"))
    assert inbox.messages == ["hi"]


async def test_an_agent_that_is_registered_meanwhile_is_served_for_all_kinds_or_for_none(
    make_sdk: MakeSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits until it is served would be refused otherwise, for the kind whose handlers were looked at before."""
    worker, other = await make_sdk(), await make_sdk()
    worker.register_handler("bob")(Inbox())
    serving = worker._started().serving
    find_all = serving.names.find_all

    async def find_and_register(names: Collection[str]) -> dict[str, AgentName]:
        found = await find_all(names)
        if "bob" not in found:
            await other.add_people("alice", "bob")
            await serving.names.refresh(names)
        return found

    monkeypatch.setattr(serving.names, "find_all", find_and_register)
    await serving.publish()
    assert not serving.served_here(Kind.ONE_WAY)
    assert not serving.served_here(Kind.CONVERSATION)
    await serving.publish()
    assert serving.served_here(Kind.ONE_WAY) == serving.served_here(Kind.CONVERSATION) != set()


async def test_an_agent_registered_anew_is_still_served(make_sdk: MakeSdk) -> None:
    worker, other = await make_sdk(), await make_sdk()
    inbox, bare = Inbox(), Inbox()
    register_one_way_handler(bare)
    await worker.add_people("alice", "bob", "carol")
    worker.register_handler("bob")(inbox)
    await other.wait_until_served(["bob", "carol"], SOON)
    for name in ("bob", "carol"):
        await worker.deregister_agent(name)
        await worker.register_agent(name, "acme", name)
    await other.wait_until_served(["bob", "carol"], SOON)
    await other.wait(await other.one_way.send("alice", ["bob", "carol"], "hi"))
    assert inbox.messages == bare.messages == ["hi"]


async def test_without_automatic_invocation_messages_wait_to_be_fetched(make_sdk: MakeSdk) -> None:
    sdk = await make_sdk(auto_invoke_handlers=False)
    await sdk.add_people("alice", "bob")
    inbox = Inbox()
    sdk.register_handler("bob")(inbox)
    await sdk.one_way.send("alice", "bob", "hi")
    [message] = await sdk.receive("bob", timeout=SOON)
    assert message.content == "hi"
    await message.done()
    assert inbox.messages == []


async def test_global_handlers_can_be_looked_up_and_forgotten(sdk: Sdk) -> None:
    from agent_messaging import HandlerContext, get_handler, has_handler, list_handlers

    async def everybody(message: object, context: MessageContext) -> None: ...
    async def bobs(message: object, context: MessageContext) -> None: ...

    assert register_one_way_handler(everybody) is everybody
    assert register_one_way_handler(agent="bob")(bobs) is bobs
    one_way = HandlerContext.ONE_WAY
    assert set(list_handlers()) == {(None, one_way, everybody), ("bob", one_way, bobs)}
    assert get_handler(one_way) is get_handler(one_way, "alice") is everybody
    assert get_handler(one_way, "bob") is bobs
    assert has_handler(one_way)
    assert not has_handler(HandlerContext.CONVERSATION)
    clear_handlers()
    assert list_handlers() == []
    assert not has_handler(one_way, "bob")
    with pytest.raises(NoHandlerRegisteredError):
        await sdk.one_way.send("alice", "bob", "hi")


@pytest.mark.parametrize("point", ["after_append", "before_settle", "after_settle"])
async def test_a_handler_unregistered_while_a_claim_is_under_way_loses_no_message(sdk: Sdk, point: str) -> None:
    sdk.register_handler("bob", concurrency=1)(first := Inbox())
    armed = True

    def unregister() -> None:
        nonlocal armed
        if armed:
            armed = False
            sdk.unregister_handler("bob")

    arm(point, unregister)
    try:
        calls = [sdk.one_way.send("alice", "bob", number, require_handler=False) for number in range(5)]
        answers = await asyncio.wait_for(asyncio.gather(*calls), SOON)
        await eventually(lambda: not armed)
    finally:
        disarm()
    sdk.register_handler("bob")(second := Inbox())
    ids = [id for answer in answers for id in answer]
    assert {receipt.state.value for receipt in await sdk.wait(ids)} == {"done"}
    assert sorted(first.messages + second.messages) == list(range(5))


async def test_who_waited_for_an_agent_that_is_served_here_may_tell_others(make_sdk: MakeSdk) -> None:
    here, elsewhere = await make_sdk(), await make_sdk()
    await here.add_people("alice", "bob")
    here.register_handler("bob")(inbox := Inbox())
    await here.wait_until_served("bob", SOON)
    await elsewhere.one_way.send("alice", "bob", "at once")
    await inbox.wait_for(1)


async def test_who_is_unknown_or_unserved_is_said_with_the_store_that_was_asked(sdk: Sdk) -> None:
    """Two processes on two stores are the usual cause."""
    store = sdk.store.location
    assert "hunter2" not in store
    with pytest.raises(NoHandlerRegisteredError, match=re.escape(f"of the store {store};")):
        await sdk.one_way.send("alice", "bob", 1)
    with pytest.raises(NoHandlerRegisteredError, match=re.escape(f"of the store {store};")):
        await sdk.conversation.send_and_wait("alice", "bob", 1, timeout=1)
    with pytest.raises(ConversationTimeoutError, match=re.escape(f"from 'bob' in the store {store}.")):
        await sdk.conversation.send_and_wait("alice", "bob", 1, timeout=0.5, require_handler=False)
    with pytest.raises(
        AgentNotFoundError, match=re.escape(f"'bbo'. Did you mean 'bob'? It was looked for in the store {store}.")
    ):
        await sdk.one_way.send("alice", "bbo", 1)
    with pytest.raises(
        OrganizationNotFoundError, match=re.escape(f"'nowhere'. It was looked for in the store {store}.")
    ):
        await sdk.register_agent("dave", "nowhere", "Dave")
    with pytest.raises(
        TimeoutError, match=re.escape(f"No live process serves 'bob' after 0.01 seconds in the store {store}.")
    ):
        await sdk.wait_until_served("bob", timeout=0.01)
