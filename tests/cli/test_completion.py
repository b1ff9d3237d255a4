"""Completion: commands, options and the names in the store; silence where there is none."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_messaging.cli.completion import VARIABLE
from agent_messaging.cli.main import main
from tests.cli.conftest import Cli

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What a shell would offer behind these words; nothing may go to stderr."""
    monkeypatch.chdir(tmp_path)

    def offered(*words: str, shell: str = "zsh") -> list[str]:
        monkeypatch.setenv(VARIABLE, f"{shell}_complete")
        monkeypatch.setenv("COMP_WORDS", shlex.join(["agent-messaging", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([], prog_name="agent-messaging")
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (0, "")
        lines = out.splitlines()
        return lines[1::3] if shell == "zsh" else [line.partition(",")[2] for line in lines if line]

    return offered


@pytest.mark.sampled(1)
def test_names_are_those_of_the_store(acme: str, complete: Complete, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("agents", "add", "a friend", "--org", "acme")
    cli("agents", "add", "$(reboot)", "--org", "acme")
    id = cli("meetings", "create", "alice", "bob").out.strip()
    assert complete("inbox", "a") == ["a friend", "alice"]
    assert complete("send", "alice", "bob", "") == ["$(reboot)", "a friend", "alice", "bob", "carol"]
    # What bash would run, or take for two words, is quoted.
    assert complete("inbox", "", shell="bash")[:2] == ["'$(reboot)'", "'a friend'"]
    assert complete("agents", "list", "--org", "") == ["acme"]
    assert complete("meetings", "attend", "bob", "") == complete("tail", "--meeting", id[:4]) == [id]
    assert complete("meetings", "attend", "carol", "") == []
    monkeypatch.delenv(VARIABLE)
    cli("meetings", "end", "alice", id)
    assert complete("meetings", "speak", "alice", "") == []
    assert complete("meetings", "show", "") == [id]


@pytest.mark.parametrize("url", ["sqlite:///absent.db", "postgresql://me@127.0.0.1:1/db", "nonsense", "mysql://x"])
def test_without_a_store_nothing_is_offered_and_nothing_made(url: str, complete: Complete, tmp_path: Path) -> None:
    assert complete("--url", url, "inbox", "") == []
    assert list(tmp_path.iterdir()) == []


def test_commands_and_options_need_no_store(complete: Complete) -> None:
    assert {"attend", "speak", "watch"} <= set(complete("meetings", ""))
    assert complete("inbox", "bob", "--kind", "") == ["note", "conversation", "invitation", "turn"]
    assert "--waiting" in complete("inbox", "bob", "--w")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_the_shell(shell: str, cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(cli("completion", shell).out, encoding="utf-8")
    assert cli("completion", shell, "--json").json["script"].strip() == script.read_text(encoding="utf-8").strip()
    if shutil.which(shell) is None:
        assert "_AGENT_MESSAGING_COMPLETE" in script.read_text(encoding="utf-8")
        return
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_bash_completes_a_name(acme: str, cli: Cli, tmp_path: Path) -> None:
    command = tmp_path / "agent-messaging"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m agent_messaging.cli.entry "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    asked = (
        f"{cli('completion', 'bash').out}\n"
        "COMP_WORDS=(agent-messaging inbox bo); COMP_CWORD=2\n"
        '_agent_messaging_completion agent-messaging; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    ran = subprocess.run(
        ["bash", "--norc", "-c", asked],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("bob\n", "")
