"""Pruning a store by the command line: counted first, asked, and then removed."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent_messaging import AgentMessaging
from agent_messaging.messaging import retention
from tests.cli.conftest import Cli


async def fill(url: str, number: int, size: int = 10) -> None:
    """Notes that were read, and one that was not."""
    async with AgentMessaging(url) as sdk:
        for _ in range(number):
            await sdk.conversation.send_no_wait("alice", "bob", "x" * size)
        await sdk.conversation.get_unread_messages("bob")
        await sdk.conversation.send_no_wait("alice", "carol", "unread")


def test_what_is_old_is_counted_then_pruned(acme: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fill(acme, 5))
    assert "Nothing to prune." in cli("db", "prune", "--older-than", "0").out  # the last minute stays
    monkeypatch.setattr(retention, "LEAST_AGE", 0.0)
    counted = cli("db", "prune", "--older-than", "0s", "--dry-run")
    assert counted.out.splitlines()[1].split()[:2] == ["messages", "5"]
    assert "3 have not ended" in counted.err  # a message, and the sessions
    refused = cli("db", "prune", "--older-than", "0s", check=2)
    assert "--yes" in refused.err
    assert cli("db", "prune", "--older-than", "0s", "--dry-run", "--json").json["number"] == 5
    done = cli("db", "prune", "--older-than", "0s", "--kind", "messages", "--yes")
    assert "Pruned 5 rows" in done.out
    assert "Pruning" not in done.err, "progress is for terminals"
    document = cli("db", "prune", "--older-than", "0s", "--yes", "--json").json
    assert (document["number"], document["dry_run"]) == (0, False)
    assert next(iter(document["kinds"])) == "messages"
    assert "dead_letters" not in document["kinds"]
    assert "no-such" in cli("db", "prune", "--older-than", "1d", "--kind", "no-such", check=2).err


def test_a_file_shrinks_when_it_is_pruned(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LEAST_AGE", 0.0)
    monkeypatch.setattr("agent_messaging.storage.sqlite.retention._WORTH_ADVICE", 1_000)
    for name, setting in (("new.db", 2), ("old.db", 0)):
        path = tmp_path / name
        url = f"sqlite:///{path}"
        if not setting:  # as an earlier release made it
            sqlite3.connect(path).execute("vacuum").connection.close()
        cli("org", "add", "acme", "--url", url)
        for agent in ("alice", "bob", "carol"):
            cli("agents", "add", agent, "--org", "acme", "--url", url)
        asyncio.run(fill(url, 60, 20_000))
        before = path.stat().st_size
        done = cli("db", "prune", "--older-than", "0", "--yes", "--url", url)
        assert "Pruned 60 rows" in done.out
        if setting:
            assert "went back to the system" in done.out
            assert path.stat().st_size < before / 2
        else:
            assert path.stat().st_size >= before / 2
            assert "agent-messaging db compact" in done.err
            cli("db", "compact", "--url", url)
            assert path.stat().st_size < before / 2
            assert "compact" not in cli("db", "prune", "--older-than", "0", "--yes", "--url", url).err
        cli("db", "check", "--url", url)


def test_only_a_file_is_compacted(acme: str, cli: Cli) -> None:
    if acme.startswith("postgres"):
        assert "VACUUM" in cli("db", "compact", check=None).err
    else:
        assert cli("db", "compact", "--json").json["size_bytes"] > 0


def test_an_age_that_no_store_has_is_refused(acme: str, cli: Cli) -> None:
    for age in ("99999999d", "9" * 400):
        assert "older_than" in cli("db", "prune", "--older-than", age, check=None).err
