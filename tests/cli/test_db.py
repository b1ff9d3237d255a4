"""Making, upgrading and checking a store, and the script that the reference names."""

from __future__ import annotations

import asyncio
import runpy
import sqlite3
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.cli.conftest import Cli

SCRIPT = Path(__file__).parents[2] / "scripts" / "init_db.py"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest) -> str:
    """A place where nothing is yet."""
    if request.param == "postgres":
        return str(request.getfixturevalue("empty_postgres_dsn"))
    return f"sqlite:///{request.getfixturevalue('sqlite_path')}"


@pytest.mark.parametrize("verb", ["init", "upgrade"])
def test_the_schema_is_made_once(verb: str, empty_url: str, cli: Cli) -> None:
    first = cli("db", verb, "--url", empty_url, "--json").json
    assert first["changed"] is True
    assert first["schema_version"] >= 1
    second = cli("db", verb, "--url", empty_url)
    assert "already has schema" in second.out
    cli("db", "check", "--url", empty_url)


async def test_the_schema_as_a_script_does_the_same(empty_postgres_dsn: str, cli: Cli) -> None:
    connection = await asyncpg.connect(empty_postgres_dsn)
    try:
        await connection.execute(cli("db", "schema").out)
    finally:
        await connection.close()
    for words in (["init"], ["check"]):
        done = await asyncio.to_thread(cli, "db", *words, "--url", empty_postgres_dsn)
        assert "already has schema" in done.out or "No damage found" in done.out


def test_the_script_does_the_same(empty_url: str) -> None:
    for says in ("now has schema", "already has schema"):
        ran = subprocess.run(
            [sys.executable, "-W", "error", str(SCRIPT), "--url", empty_url], capture_output=True, text=True, check=True
        )
        assert says in ran.stdout
        assert ran.stderr == ""


def test_the_script_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENT_MESSAGING_DATABASE_URL", f"sqlite:///{tmp_path / 'x.db'}")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code == 0
    assert str(tmp_path / "x.db") in capsys.readouterr().out


def test_backup_makes_a_store_of_its_own(cli: Cli, sqlite_path: Path, tmp_path: Path) -> None:
    cli("org", "add", "acme", "--url", f"sqlite:///{sqlite_path}")
    target = tmp_path / "copies" / "monday.db"
    target.parent.mkdir()
    made = cli("db", "backup", str(target), "--url", f"sqlite:///{sqlite_path}", "--json").json
    assert made == {"path": str(target), "size_bytes": target.stat().st_size}
    assert "acme" in cli("org", "list", "--url", f"sqlite:///{target}").out
    assert "exists already" in cli("db", "backup", str(target), "--url", f"sqlite:///{sqlite_path}", check=None).err


def test_export_and_import_carry_an_organization_to_another_store(acme: str, cli: Cli, tmp_path: Path) -> None:
    cli("send", "alice", "bob", "--text", "hi", "--no-require-handler")
    path, target = str(tmp_path / "acme.gz"), f"sqlite:///{tmp_path / 'target.db'}"
    done = cli("db", "export", path, "--org", "acme", "--json").json
    assert (done["path"], done["organization"], done["counts"]["messages"]) == (path, "acme", 1)
    assert "exists already" in cli("db", "export", path, check=2).err
    cli("db", "init", "--url", target)
    first = cli("db", "import", path, "--url", target)
    assert f"Imported {done['rows']} rows from {path}, and compared each with the file." in first.out
    assert "nothing to do" in cli("db", "import", path, "--url", target).out
    assert cli("db", "import", path, "--url", target, "--json").json["is_repeat"] is True
    assert "hi" in cli("inbox", "bob", "--url", target).out
    connection = sqlite3.connect(tmp_path / "target.db")
    connection.execute("update messages set content = '\"changed\"'")
    connection.commit()
    connection.close()
    skipped = cli("db", "export", str(tmp_path / "less.gz"), "--url", target, check=3)
    assert "2 damaged rows skipped" in skipped.out
    assert "has already: organization 'acme'" in cli("db", "import", path, check=5).err


def test_check_finds_a_changed_payload(cli: Cli, sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}"
    cli("org", "add", "acme", "--url", url)
    for agent in ("alice", "bob"):
        cli("agents", "add", agent, "--org", "acme", "--url", url)
    cli("send", "alice", "bob", "--text", "pay 10", "--url", url)
    assert cli("db", "check", "--url", url, "--json").json == {"ok": True, "findings": []}
    connection = sqlite3.connect(sqlite_path)
    connection.execute("update messages set content = '\"pay 1000\"'")
    connection.commit()
    connection.close()
    found = cli("db", "check", "--url", url, "--json", check=3).json
    assert found["ok"] is False
    assert "checksum" in found["findings"][0]
    deep = cli("doctor", "--deep", "--url", url, "--json", check=1).json
    assert deep["damage"] == found["findings"]
    assert "damage" not in cli("doctor", "--url", url, "--json", check=1).json
