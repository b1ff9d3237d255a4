"""Topics by the command line, on both backends."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.conftest import Cli


def test_agents_subscribe_and_leave(acme: str, cli: Cli) -> None:
    first = cli("topics", "subscribe", "bob", "orders.>", "--json").json
    assert first == {"agent_id": "bob", "pattern": "orders.>", "is_new": True}
    assert cli("topics", "subscribe", "bob", "orders.>").out == "Agent bob is already subscribed to orders.>.\n"
    cli("topics", "subscribe", "carol", "*.eu.created")
    [one, two] = cli("topics", "list", "--json").json["subscriptions"]
    assert [(found["agent_id"], found["pattern"]) for found in (one, two)] == [
        ("carol", "*.eu.created"),
        ("bob", "orders.>"),
    ]
    assert cli("topics", "list", "bob", "--json").json["subscriptions"] == [two]
    assert cli("topics", "list", "--topic", "orders.us", "--json").json["subscriptions"] == [two]
    assert cli("topics", "list", "--offset", "1", "--json").json["subscriptions"] == [two]
    assert cli("topics", "unsubscribe", "bob", "orders.>", "--json").json["ended"] is True
    assert "topics list bob" in cli("topics", "unsubscribe", "bob", "orders.>").out
    assert cli("topics", "list", "bob").out.startswith("Agent bob is not subscribed. To subscribe:")


def test_what_nobody_is_subscribed_to_says_how_to_subscribe(acme: str, cli: Cli) -> None:
    shown = cli("topics", "list", "--topic", "orders.new").out
    assert shown.startswith("Nobody is subscribed to orders.new.")
    command = shown.partition("To subscribe: agent-messaging ")[2].replace("AGENT", "bob")
    cli(*shlex.split(command))
    assert [id["pattern"] for id in cli("topics", "list", "--json").json["subscriptions"]] == ["orders.>"]


def test_publishing_prints_who_got_it(acme: str, cli: Cli) -> None:
    for agent in ("bob", "carol"):
        cli("topics", "subscribe", agent, "orders.*")
    done = cli("topics", "publish", "alice", "orders.new", "--text", "Order 17", "-m", "via=web", "--key", "k")
    lines = [line.split("  to ") for line in done.out.splitlines()]
    assert [to for _, to in lines] == ["bob", "carol"]
    assert "No live process serves 'bob' and 'carol'" in done.err
    again = cli(
        "topics", "publish", "alice", "orders.new", "--text", "Order 17", "-m", "via=web", "--key", "k", "--json"
    )
    assert again.json["unserved"] == ["bob", "carol"]
    assert [one["message_id"] for one in again.json["messages"]] == [id for id, _ in lines]
    [got] = cli("inbox", "bob", "--json").json["messages"]
    assert (got["content"], got["topic"], got["metadata"]) == ("Order 17", "orders.new", {"via": "web"})
    assert "orders.new: Order 17" in cli("inbox", "bob").out
    waited = cli("topics", "publish", "alice", "orders.new", "--payload", "[1]", "--wait", "0.05", "--json", check=8)
    assert [one["state"] for one in waited.json["receipts"]] == ["queued", "queued"]


def test_publishing_to_nobody_is_no_error(acme: str, cli: Cli) -> None:
    done = cli("topics", "publish", "alice", "orders.new", "--text", "hi")
    assert done.out == "Nobody is subscribed to orders.new; nothing was stored.\n"
    assert "agent-messaging topics list" in done.err
    assert cli("topics", "publish", "alice", "orders.new", "--text", "hi", "--json").json["messages"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["subscribe", "bop", ">"], 4, "Did you mean 'bob'?"),
        (["subscribe", "bob", "a..b"], 2, "Use 'a.b'"),
        (["publish", "alice", "orders.*", "--text", "hi"], 2, "Name each word"),
        (["publish", "alice", "orders.new", "--text", ""], 0, ""),
    ],
)
def test_refusals_end_with_the_exit_code_of_their_error(
    acme: str, cli: Cli, arguments: list[str], code: int, said: str
) -> None:
    assert said in cli("topics", *arguments, check=code).err
