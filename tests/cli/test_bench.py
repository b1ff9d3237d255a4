"""`agent-messaging bench` on a store in use: what it tells, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from agent_messaging import AgentMessaging
from tests.cli.conftest import Cli, Start

NAMES = {"commits", "note", "notes", "ask", "asks"}


def test_it_measures_and_leaves_the_store_as_it_was(acme: str, cli: Cli) -> None:
    cli("send", "alice", "bob", "--text", "Tea at four?", "--no-require-handler")
    found = cli("bench", "--seconds", "0.2", "--json").json
    assert found.keys() > NAMES
    for name in NAMES:
        assert found[name]["count"] > 0
        assert found[name]["rate"] > 0
        assert 0 < found[name]["p50"] <= found[name]["p99"]
    assert found["asks"]["count"] >= 100
    assert [one["external_id"] for one in cli("org", "list", "--json").json["organizations"]] == ["acme"]
    assert len(cli("agents", "list", "--json").json["agents"]) == 3
    [kept] = cli("inbox", "bob", "--json").json["messages"]
    assert kept["content"] == "Tea at four?"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_it_says_in_words_what_the_figures_mean(acme: str, cli: Cli) -> None:
    shown = cli("bench", "--seconds", "0.2").out
    for words in (
        "commits of one row",
        "The store syncs a row in",
        "no crash loses it",
        "A question is answered after",
    ):
        assert words in shown


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_it_makes_no_store(url: str, cli: Cli) -> None:
    outcome = cli("bench", "--seconds", "0.2", check=2)
    assert "agent-messaging db init" in outcome.err


def test_interrupted_it_removes_what_it_has_made(acme: str, start: Start) -> None:
    process = start("bench", "--seconds", "600")

    async def interrupt_in_the_middle() -> list[str]:
        async with AgentMessaging(acme) as sdk:
            while len(await sdk.list_organizations()) < 2:
                assert process.poll() is None
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            await asyncio.to_thread(process.wait, 60)
            return [one.external_id for one in await sdk.list_organizations()]

    assert asyncio.run(interrupt_in_the_middle()) == ["acme"]
    assert process.returncode == 130


def test_it_needs_nothing_of_the_sources_beside_the_package() -> None:
    code = "import sys, agent_messaging.cli.measuring, agent_messaging.cli.bench; print('benchmarks' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=os.sep)
    assert ran.stdout == "False\n"
