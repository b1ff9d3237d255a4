"""An index of words that is damaged: what searches find stays the same, and it can be made anew."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from agent_messaging import AgentMessaging
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
