"""Searching by the command line, and making the index anew, on both backends."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def notes(acme: str, cli: Cli) -> None:
    for sender, recipient, text, *more in (
        ("alice", "bob", "The database migration is done"),
        ("alice", "carol", "A draft of the migration", "-m", "priority=high"),
        ("bob", "alice", "機械学習\x1b[2J and a Database"),
    ):
        cli("send", sender, recipient, "--text", text, *more)


def test_matches_are_printed_with_who_wrote_them(notes: None, cli: Cli) -> None:
    lines = cli("search", "migration", "-m", '{"priority__exists": false}').out.splitlines()
    assert [line.strip() for line in lines[1:]] == ["The database migration is done"]
    assert "note  alice → bob" in lines[0]
    shown = cli("search", "学習").out
    assert "機械学習\\x1b[2J and a Database" in shown
    [match] = cli("search", "学習", "--json").json["matches"]
    assert (match["id"] in shown, match["sender"], match["content"]) == (True, "bob", "機械学習\x1b[2J and a Database")
    assert match["snippet"].startswith("機械**学習**")


def test_filters_and_pages(notes: None, cli: Cli) -> None:
    def found(*arguments: str) -> list[str]:
        return [match["content"].split()[-1] for match in cli("search", "--json", *arguments).json["matches"]]

    assert found("database") == ["done", "Database"]
    assert found("--", "migration", "-draft") == ["done"]
    assert found("migration", "--to", "carol", "-m", "priority=high") == ["migration"]
    assert found("database", "--from", "bob", "--kind", "note", "--since", "1h") == ["Database"]
    assert found("database", "--until", "1h") == found("database", "--kind", "meeting") == []
    first = cli("search", "database", "--limit", "1")
    assert "--offset 1 shows them" in first.err
    rest = cli("search", "database", "--limit", "1", "--offset", "1")
    assert len({*first.out.splitlines(), *rest.out.splitlines()}) == 4
    assert rest.err == ""
    assert cli("search", "absent").out == "Nothing matches.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["!?"], 2, "names nothing to look for"),
        (["tea", "--limit", "501"], 2, "limit"),
        (["tea", "--from", "alise"], 4, "Did you mean 'alice'?"),
        (["tea", "--session", "x"], 2, "session_id"),
        (["tea", "--since", "soon"], 2, "instant"),
    ],
)
def test_refusals_end_with_the_exit_code_of_their_error(
    acme: str, cli: Cli, arguments: list[str], code: int, said: str
) -> None:
    assert said in cli("search", *arguments, check=code).err


def test_the_index_is_made_anew_and_the_doctor_says_how_far_behind_it_is(notes: None, cli: Cli) -> None:
    before = cli("search", "database", "--json").json
    assert cli("doctor", "--json", check=None).json["search"]["behind"] >= 3
    assert "messages behind" in cli("doctor", check=None).out
    done = cli("db", "reindex", "--json").json
    assert (done["behind"], done["indexed_to"]) == (0, done["newest"])
    assert cli("db", "reindex").out == "Made the search index anew: it has all messages.\n"
    assert cli("doctor", "--json", check=None).json["search"]["behind"] == 0
    assert "up to date" in cli("doctor", check=None).out
    assert cli("search", "database", "--json").json == before
