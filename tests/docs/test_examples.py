"""The programs in examples/ run, twice in the same folder, and print what they show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ELSEWHERE = {"help_desk.py"}
"""Of several processes: `tests/examples/test_programs.py` runs it on both stores."""
EXAMPLES = sorted(path for path in (Path(__file__).parents[2] / "examples").glob("*.py") if path.name not in ELSEWHERE)
LAST_LINE = {
    "coordination_demo.py": "completed 3, failed 1, active 0",
    "correspondence.py": "chapter 1: Shorter, please., chapter 2: Fine.",
    "group_chat.py": "end_when after 5 turns",
    "human_in_the_loop.py": "bought ['paper']",
    "interview.py": "ended after 7 messages",
    "meeting.py": "alice ended it",
    "newsroom.py": "ben heard: storm leads with: A storm is coming.",
    "notifications.py": "alice done, bob done, carol done",
    "task_pipeline.py": "filed contract, invoice, letter, minutes",
    "work_queue.py": "finished [0, 1, 2, 3, 4, 5]",
}


def test_every_example_says_what_it_prints() -> None:
    assert {example.name for example in EXAMPLES} == LAST_LINE.keys()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_twice_in_one_folder(example: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, str(example)],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,  # without a terminal nobody is asked
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1] == LAST_LINE[example.name]
