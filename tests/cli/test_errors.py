"""What goes wrong is one clear line with the next step, and an exit code by its kind; never a traceback unasked."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from agent_messaging import (
    AgentAlreadyExistsError,
    AgentMessagingError,
    AgentNotFoundError,
    ConfigurationError,
    InvalidArgumentError,
    MeetingNotFoundError,
    NoHandlerRegisteredError,
    OrganizationAlreadyExistsError,
    OrganizationNotFoundError,
    SessionLockError,
    SessionNotFoundError,
    SessionStateError,
    TaskCancelledError,
    TaskExpiredError,
    TaskFailedError,
)
from agent_messaging.cli.errors import report_error
from tests.cli.conftest import Cli, Start

ID = "0199d2c4-8f0e-7cc1-b54d-0d5d3c1a7e11"
on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""Where the backend has no part in what is tested."""


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (AgentNotFoundError(external_id="bbo"), "Add it with `agent-messaging agents add`, or correct the name."),
        (OrganizationNotFoundError(external_id="x"), "Add it with `agent-messaging org add`, or correct the name."),
        (NoHandlerRegisteredError(agents=("bob",)), "or store it for later with --no-require-handler."),
        (NoHandlerRegisteredError(agents=("bob",), kind="conversation"), "or ask it all the same with --no-require-"),
        (AgentAlreadyExistsError(external_id="bob"), "to rename it within its organization, pass --rename."),
        (OrganizationAlreadyExistsError(external_id="acme"), "Use another external id, or pass --rename."),
        (SessionLockError(sender="alice"), "Ask beside it with --thread NAME, or pass --queue to queue behind it."),
        (
            SessionNotFoundError("No session.", remedy="Use that."),
            "See who waits with `agent-messaging inbox AGENT --waiting`.",
        ),
        (SessionStateError("No.", remedy="Use that call."), "A message of its own is `agent-messaging write`."),
        (MeetingNotFoundError(meeting_id="x"), "See the ids with `agent-messaging meetings list`."),
        (InvalidArgumentError("No.", remedy="Pass one.", field="next_speaker_external_id"), "Name one with --next."),
        (TaskFailedError(task_id="x", reason="y"), "`agent-messaging tasks show` shows what was tried."),
        (TaskCancelledError(task_id="x", reason="y"), "Hand it out again if it is still wanted."),
        (TaskExpiredError(task_id="x", reason="y"), "with `agent-messaging workers list` whether somebody can do it."),
        (ConfigurationError("No.", remedy="Correct it."), "No. Correct it."),
        (AgentNotFoundError("just this"), "just this"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AgentMessagingError) else None,
)
def test_a_remedy_is_that_of_the_command_line(
    error: AgentMessagingError, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_error(error, as_json=False) == error.exit_code
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {error.problem}")
    assert remedy in printed
    assert not error.remedy or remedy.endswith(error.remedy) or error.remedy not in printed


@on_sqlite
@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "says"),
    [
        (["send", "alice", "bbo", "--text", "x"], 4, "agent_not_found", "Did you mean 'bob'?"),
        (["inbox", "nobody"], 4, "agent_not_found", "agent-messaging agents add"),
        (["agents", "add", "x", "--org", "acmee"], 4, "organization_not_found", "Did you mean 'acme'?"),
        (["agents", "remove", "nobody", "--yes"], 4, "agent_not_found", "nobody"),
        (["org", "remove", "nowhere", "--yes"], 4, "organization_not_found", "nowhere"),
        (["receipt", ID], 4, "message_not_found", ID),
        (["receipt", "x"], 2, "invalid_argument", "UUID"),
        (["agents", "add", "bob", "--org", "acme", "--name", "Robert"], 5, "agent_already_exists", "--rename"),
        (["org", "add", "acme", "--name", "Other"], 5, "organization_already_exists", "--rename"),
        (["send", "alice", "alice", "--text", "x"], 2, "invalid_argument", "is the sender"),
        (["send", "alice", "bob", "--payload", "NaN"], 2, "payload", "message"),
        (["inbox", "bob", "--limit", "0"], 2, "invalid_argument", "limit"),
        (["send", "alice", "bob", "--payload", "{a}"], 2, "usage", "not JSON"),
        (["send", "alice", "bob", "--text", "x", "--payload", "1"], 2, "usage", "Give one of them"),
        (["send", "alice", "bob", "--text", "x", "-m", "novalue"], 2, "usage", "key=value"),
        (["send", "alice", "bob", "--text", "x", "--expires-in", "soon"], 2, "usage", "duration"),
        (["send", "alice", "bob", "--text", "x", "--deliver-at", "teatime"], 2, "usage", "instant"),
        (["send", "alice", "--text", "x"], 2, "usage", "TO"),
        (["dead-letters", "redrive"], 2, "usage", "--agent"),
        (["inbx"], 2, "usage", "inbx"),
        (["inbox", "bob", "--nope"], 2, "usage", "--nope"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    arguments: list[str], exit_code: int, code: str, says: str, acme: str, cli: Cli
) -> None:
    human = cli(*arguments, check=exit_code)
    assert human.out == ""
    assert human.err.count("\n") == 1
    assert human.err.startswith("error: ")
    assert says in human.err
    assert "sdk." not in human.err
    machine = cli("--json", *arguments, check=exit_code)
    assert machine.out == ""
    assert machine.error["code"] == code
    assert says in machine.error["message"]
    assert isinstance(machine.error["details"], dict)


@on_sqlite
def test_details_are_in_the_json_error(acme: str, cli: Cli) -> None:
    details = cli("inbox", "bbo", "--json", check=4).error["details"]
    assert details["external_id"] == "bbo"
    assert details["suggestions"] == ["bob"]


READING = [
    ["org", "list"],
    ["agents", "list"],
    ["agents", "add", "a", "--org", "acme"],
    ["inbox", "bob"],
    ["send", "alice", "bob", "--text", "x"],
    ["tail", "--limit", "1"],
    ["receipt", ID],
    ["dead-letters", "list"],
    ["dead-letters", "redrive", "--agent", "bob"],
    ["db", "check"],
    ["doctor"],
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_looking_at_a_missing_file_makes_nothing(arguments: list[str], cli: Cli, tmp_path: Path) -> None:
    looked = cli(*arguments, check=2)
    assert "agent-messaging db init" in looked.out + looked.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [line for line in READING if line[0] != "doctor"], ids=" ".join)
def test_looking_at_an_empty_database_makes_nothing(arguments: list[str], cli: Cli, empty_postgres_dsn: str) -> None:
    looked = cli(*arguments, "--url", empty_postgres_dsn, "--json", check=2)
    assert looked.error["code"] == "schema_version"
    assert "agent-messaging db" in looked.error["message"]
    assert "auto_initialize_schema" not in looked.error["message"]


def test_a_bad_url_is_refused_without_its_password(cli: Cli) -> None:
    for url in ("postgresql://me:s3cret@:99999/x", "mysql://me:s3cret@host/db", "me:s3cret@host"):
        refused = cli("agents", "list", "--url", url, "--json", check=2)
        assert refused.error["code"] == "configuration"
        assert "s3cret" not in refused.err


def test_a_server_that_is_down(cli: Cli) -> None:
    url = "postgresql://me:s3cret@127.0.0.1:1/db"
    down = cli("agents", "list", "--url", url, "--json", check=3)
    assert down.error["code"] == "storage_unavailable"
    doctor = cli("doctor", "--url", url, check=3)
    assert "✗" in doctor.out
    assert "→" in doctor.out
    for text in (down.err, doctor.out, cli("agents", "list", "--url", url, "-v", check=3).err):
        assert "s3cret" not in text


def test_a_foreign_file_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "foreign.db"
    connection = sqlite3.connect(path)
    connection.execute("create table theirs (x)")
    connection.close()
    before = path.read_bytes()
    for arguments in (["agents", "list"], ["db", "init"], ["db", "upgrade"]):
        assert cli(*arguments, "--url", f"sqlite:///{path}", "--json", check=3).error["code"] == "storage_foreign"
    assert path.read_bytes() == before


@on_sqlite
def test_tracebacks_only_when_asked_for(cli: Cli, acme: str) -> None:
    assert "Traceback" not in cli("inbox", "nobody", check=4).err
    for option in ("-v", "--debug"):
        assert "Traceback" in cli("inbox", "nobody", option, check=4).err
    assert "Traceback" in cli("inbox", "--nonsense", "--debug", check=2).err


@on_sqlite
def test_a_defect_is_one_line_too(cli: Cli, acme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_messaging.client import AgentMessaging

    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(AgentMessaging, "list_agents", broken)
    failed = cli("agents", "list", check=70)
    assert failed.err.count("\n") == 1
    assert "ZeroDivisionError" in failed.err


def test_a_broken_pipe_ends_quietly(start: Start, cli: Cli, tmp_path: Path) -> None:
    cli("org", "add", "acme")
    reader, writer = os.pipe()
    os.close(reader)
    process = start("org", "list", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 141


@on_sqlite
def test_a_terminal_that_cannot_show_a_letter_is_no_error(acme: str, cli: Cli, start: Start) -> None:
    cli("send", "alice", "bob", "--text", "tea 茶")
    process = start("inbox", "bob", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "tea \\u8336" in out
