"""An index of words that is damaged, or has no room: what searches find stays the same, and it can be made anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from agent_messaging import AgentMessaging, StorageFullError
from agent_messaging.delivery.indexing import take_in


async def test_a_damaged_index_is_passed_over_until_it_is_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/search.db"

    async def find(sdk: AgentMessaging) -> list[object]:
        return [match.content for match in await sdk.search_messages("tea")]

    async with AgentMessaging(url) as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("alice", "bob"):
            await sdk.register_agent(agent, "acme", agent)
        for number in range(3):
            await sdk.one_way.send("alice", "bob", f"tea {number}", require_handler=False)
        await take_in(sdk.store.search, sdk.store.presence.process_id)
        whole = await find(sdk)
    damaging = apsw.Connection(str(tmp_path / "search.db"))
    damaging.execute("delete from search_words_data where id > 10")
    damaging.close()
    async with AgentMessaging(url) as sdk:
        assert await find(sdk) == whole
        assert "agent-messaging db reindex" in caplog.text
        assert "search_words" in "".join(await sdk.store.check())
        caplog.clear()
        await sdk.store.search.restart()
        assert await take_in(sdk.store.search, sdk.store.presence.process_id)
        assert await find(sdk) == whole
        assert not caplog.records
        assert await sdk.store.check() == []


async def test_a_disk_that_fills_while_the_index_is_made_anew_hides_nothing(tmp_path: Path) -> None:
    async with AgentMessaging(f"sqlite:///{tmp_path}/search.db") as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("alice", "bob"):
            await sdk.register_agent(agent, "acme", agent)
        for number in range(20):
            text = " ".join(f"w{number}x{word}" for word in range(500))
            await sdk.one_way.send("alice", "bob", f"tea {text}", require_handler=False)

        engine: Any = sdk.store.engine  # type: ignore[attr-defined]

        async def limit(pages: int) -> None:
            await engine.write(lambda con: con.pragma("max_page_count", pages))

        async def take_all_in() -> None:
            while await take_in(sdk.store.search, process_id):
                pass

        async def check() -> None:
            assert len(await sdk.search_messages("tea")) == 20
            for number in (0, 10, 19):
                assert len(await sdk.search_messages(f"w{number}x499")) == 1

        process_id = sdk.store.presence.process_id
        assert await take_in(sdk.store.search, process_id, limit=5)
        await limit(await engine.write(lambda con: con.pragma("page_count")))
        with pytest.raises(StorageFullError):
            await take_all_in()
        assert 0 < (await sdk.store.search.progress()).behind < 20
        await check()
        await sdk.store.search.restart()
        await check()
        await limit(1_000_000)
        await take_all_in()
        assert (await sdk.store.search.progress()).behind == 0
        await check()
