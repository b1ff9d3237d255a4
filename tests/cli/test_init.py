"""The project that `init` writes works: its test passes, its worker answers its program, its files name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from agent_messaging.cli.main import main
from tests.cli.conftest import Cli, Start


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=True
    )


def test_what_is_written_works(cli: Cli, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENT_MESSAGING_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    told = cli("init", "My Shop")
    folder = tmp_path / "My Shop"
    assert "agent-messaging run my_shop.worker:sdk" in told.out
    assert " passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider").stdout
    worker = start("run", "my_shop.worker:sdk", module="agent_messaging.cli.entry", cwd=folder)
    asked = run(folder, "-W", "error", "-m", "my_shop.ask", "What time is it in Rome?")
    assert (asked.stdout, asked.stderr) == ("note done\nYou asked a question of 6 words.\n", "")
    worker.terminate()
    out, _ = worker.communicate(timeout=60)
    assert (out, worker.returncode) == ("customer: Good morning\n", 0)


def test_nothing_is_overwritten(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("mine", encoding="utf-8")
    refused = cli("init", str(tmp_path), "--name", "shop", "--json", check=5)
    assert refused.error["code"] == "exists"
    assert "Dockerfile in" in refused.error["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"]
    for name in ("class", "json", "tests", "a-b", "agent_messaging", "pydantic", "pytest"):
        assert "--name" in cli("init", str(tmp_path / "new"), "--name", name, check=2).err
    assert not (tmp_path / "new").exists()
    (tmp_path / "Dockerfile").unlink()
    (tmp_path / "notes.txt").write_text("stays", encoding="utf-8")
    written = cli("init", str(tmp_path), "--name", "shop", "--json").json
    assert (written["package"], written["folder"]) == ("shop", str(tmp_path))
    assert all((tmp_path / path).exists() for path in written["files"])


def test_the_way_into_a_folder_whose_name_looks_like_an_option(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = cli("init", "--", "-shop")
    assert "  cd ./-shop\n" in told.out


def test_its_files_for_containers_name_what_exists(cli: Cli, tmp_path: Path) -> None:
    cli("init", str(tmp_path), "--name", "shop")
    docker = (tmp_path / "Dockerfile").read_text(encoding="utf-8")
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text(encoding="utf-8"))
    [of_image] = re.findall(r"^CMD (\[.*\])$", docker, re.MULTILINE)
    services = compose["services"]
    for command in (yaml.safe_load(of_image), services["schema"]["command"]):
        found: click.Command = main
        for word in command[1:]:
            if isinstance(found, click.Group):
                inner = found.get_command(click.Context(found), word)
                assert inner is not None, word
                found = inner
    [copied] = re.findall(r"^COPY (\w+) ", docker, re.MULTILINE)
    assert (tmp_path / copied / "worker.py").exists()
    known = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    [settings] = re.findall(r"^ENV (.*)$", docker, re.MULTILINE)
    names = {*re.findall(r"(\w+)=", settings), *services["worker"]["environment"]}
    unknown = {name for name in names if not re.search(rf"\b{name}\b", known)}
    assert unknown <= {"POSTGRES_USER", "POSTGRES_PASSWORD", "PYTHONUNBUFFERED"}
    [drain] = re.findall(r"MESSAGING_DRAIN_TIMEOUT=(\d+)", docker)
    assert float(services["worker"]["stop_grace_period"].removesuffix("s")) >= float(drain) + 5
    for other in ("schema", "worker"):
        assert set(services[other]["depends_on"]) <= services.keys()
