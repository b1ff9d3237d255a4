"""What a person copies from a table is whole: never broken over lines, never cut, however narrow the terminal."""

from __future__ import annotations

import io
import random
import sys
import uuid

import click
import pytest
import rich.console
from rich.cells import cell_len

from agent_messaging.cli import output

COLUMNS = [
    ("at", "kind", "from", "", "content", "id"),
    ("at", "from", "to", "runs", "reason", "content", "id"),
    ("id", "with", "status", "waits", "since"),
    ("id", "host", "status", "turn", "speaker", "since"),
    ("agent", "organization", "name", "since"),
    ("process", "since", "serves"),
    ("at", "after", "event", "attempt", "process", "reason"),
]


def some(chance: random.Random, column: str) -> str:
    if column == "id":
        return str(uuid.UUID(int=chance.getrandbits(128)))
    if column in ("content", "reason"):
        return " ".join(
            "".join(chance.choices("abc長é", k=chance.randrange(1, 60))) for _ in range(chance.randrange(9))
        )
    if column == "serves":
        return ", ".join(f"agent-{number}" for number in range(chance.randrange(1, 40)))
    return "".join(chance.choices("abcd-長", k=chance.choice([0, 3, 8, 20, 70])))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(rich.console.Console, "is_terminal", True)
    output.table(columns, rows, empty="")
    monkeypatch.undo()
    return click.unstyle(stream.getvalue())


def test_a_duration_is_rounded_and_never_less_exact_than_it_was_given() -> None:
    given = (0.34, 0.9998, 12.34, 59.97, 90, 299.7, 3599.8, 5400, 35_990, 86_399, 2 * 86_400, 2.5 * 86_400)
    assert [output.duration(seconds) for seconds in given] == [
        *("340 ms", "1 s", "12.3 s", "1 min", "1 min 30 s", "5 min", "1 h", "1 h 30 min", "10 h", "1 day"),
        *("2 days", "2 days 12 h"),
    ]


def test_whatever_is_copied_is_whole_at_every_width(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(200):
        width, columns = chance.choice([40, 60, 80, 100, 120, 160, 240]), chance.choice(COLUMNS)
        rows = [tuple(some(chance, column) for column in columns) for _ in range(chance.randrange(1, 4))]
        screen = drawn(monkeypatch, width, columns, rows)
        for row in rows:
            for column, cell in zip(columns, row, strict=True):
                if column not in ("content", "reason", "serves", "name"):
                    assert cell in screen, (width, column, cell, screen)
                else:
                    assert all(word in screen for word in cell.split() if cell_len(word) <= 24 or column == "serves")
        if "────" in screen:
            assert max(cell_len(line) for line in screen.splitlines()) <= width, screen
        assert "…" not in screen


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    id, text = str(uuid.uuid4()), "x" * 300
    output.table(("id", "content"), [(id, text)], empty="")
    assert capsys.readouterr().out.splitlines()[1] == f"{id}  {text}"
