"""The demo, run in full, and the script that it prints."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_messaging.cli.demo.crew import Crew
from agent_messaging.cli.demo.quickstart import NEXT, SCRIPT
from tests.cli.conftest import Cli, Start


def test_the_demo(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("MESSAGING_MAX_ATTEMPTS", "1")  # of no concern to the demo
    begun = time.monotonic()
    process = start("demo")
    assert process.stdout is not None
    first = process.stdout.readline()
    # The budget is 3 s to the first line and 10 s in all; three times that, for a machine that runs other tests.
    assert time.monotonic() - begun < 9
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert time.monotonic() - begun < 30
    assert first.startswith("agent-messaging demo")
    for claim in (
        "woken in",
        "handled by bob",
        "kill -9",
        "took it over",
        "attempt 2",
        "0 lost; 1 ran twice",
        "carol lost the turn",
    ):
        assert claim in out
    assert SCRIPT in out
    assert [line for line in out.splitlines()[1:] if len(line) > 80] == []  # after the path
    assert list(folder.iterdir()) == []


def test_the_demo_as_json_keeps_its_store(cli: Cli, start: Start) -> None:
    process = start("demo", "--json", "--keep")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    figures = document["figures"]
    assert (figures["sent"], figures["handled"], figures["runs"]) == (14, 14, 15)
    assert [event["event"] for event in figures["receipt"]["events"]] == [
        "stored",
        "claimed",
        "lost",
        "claimed",
        "done",
    ]
    assert figures["takeover_ms"] > 0
    assert figures["silent_s"] >= 1.0
    store = Path(document["store"])
    try:
        # And of the meeting two invitations, and the turn of the one who has a handler.
        assert cli("doctor", "--url", f"sqlite:///{store}", "--json").json["messages"]["counts"]["done"] == 14 + 2 + 1
    finally:
        subprocess.run(["rm", "-r", str(store.parent)], check=True)


def test_its_script_runs_twice_and_what_it_says_to_run_next(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(SCRIPT)
    for _ in range(2):
        ran = subprocess.run([sys.executable, "-W", "error", "first.py"], capture_output=True, text=True, check=True)
        assert ran.stdout == "bob got Tea at four?\n"
        assert ran.stderr == ""
    for command, _ in NEXT:
        _, *arguments = command.split()
        if arguments == ["tail"]:
            arguments += ["--timeout", "10ms"]
        cli(*arguments)
    assert "Tea at four?" in cli("inbox", "bob").out


async def test_no_worker_outlives_a_crew_whose_end_is_interrupted(tmp_path: Path) -> None:
    """The demo removes the folder of the store then, of which a worker that is yet to open it would complain."""
    crew = Crew(str(tmp_path / "demo.db"))
    for name in ("one", "two"):
        await crew.start(name)
    for worker in crew.workers:
        worker.child.send_signal(signal.SIGSTOP)  # it would take long to leave
    ending = asyncio.create_task(crew.end())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert [worker.child.returncode for worker in crew.workers] == 2 * [-signal.SIGKILL]


@pytest.mark.parametrize("is_left", [False, True])
def test_a_worker_complains_of_a_store_that_is_gone_unless_the_demo_is_gone_too(is_left: bool, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "agent_messaging.cli.demo.worker", str(tmp_path / "gone" / "demo.db")]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stderr is not None
        if is_left:
            worker.stdin.close()
        told = worker.stderr.read()
        assert ("does not exist" in told, worker.wait()) == ((False, 0) if is_left else (True, 1))
        assert bool(told) is not is_left
