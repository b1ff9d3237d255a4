"""What the benches say of figures: whether a target is reached, what several runs make, and what got worse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.harness import Figure, Row, at_least, at_most, below, merge, percentile, rate
from benchmarks.output import write_json

from benchmarks import compare


def test_a_target_is_a_share_of_the_raw_limit_or_a_limit_in_the_unit_of_the_figure() -> None:
    raw = rate([1_000.0])
    assert at_least(0.25, "share", rate([250.0]), raw).holds
    assert not at_least(0.25, "share", rate([249.0]), raw).holds
    start, click = Figure((210.0,), "ms"), Figure((50.0,), "ms")
    assert not at_most(2, "start", start, click, plus=100.0).holds
    assert at_most(2, "start", start, click, plus=110.0).holds
    assert below(5.0, "p50", Figure((5.0,), "ms")).holds
    assert not below(5.0, "p50", Figure((5.1,), "ms")).holds
    assert Row("told", raw).holds is None


def test_a_percentile_is_that_of_all_samples_and_spreads_as_its_parts_do() -> None:
    figure = percentile([number / 1_000 for number in range(1, 101)], 0.5)
    assert figure.median == pytest.approx(51.0)
    assert figure.values == pytest.approx((11.0, 31.0, 51.0, 71.0, 91.0))
    assert percentile([0.001], 0.99).values == pytest.approx((1.0,))


def test_of_several_runs_each_figure_is_the_median() -> None:
    runs = [[at_least(0.5, "notes", rate([one, one + 2]), rate([10.0]))] for one in (3.0, 9.0, 5.0)]
    [row] = merge(runs)
    assert row.figure is not None
    assert row.figure.values == (4.0, 10.0, 6.0)
    assert (row.ratio, row.holds) == (0.6, True)


def written(path: Path, *rows: Row) -> str:
    write_json(path, {"machine": "one"}, {"notes": rows}, {"notes": "Notes"}, {"notes": 0.0}, 1)
    return str(path)


def test_what_got_worse_beyond_the_spread_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steady, slow = rate([99.0, 100.0, 101.0]), rate([79.0, 80.0, 81.0])
    before = written(
        tmp_path / "before.json",
        Row("falls", steady),
        Row("noisy", rate([50.0, 100.0, 150.0])),
        Row("beside", steady, rate([1_000.0])),
        Row("waits", Figure((4.0,), "ms")),
        Row("gone", steady),
    )
    after = written(
        tmp_path / "after.json",
        Row("falls", slow),
        Row("noisy", slow),
        Row("beside", slow, rate([800.0])),  # the machine was as much slower
        Row("waits", Figure((2.0,), "ms")),
        Row("comes", steady),
    )
    with pytest.raises(SystemExit, match="1"):
        compare.main([before, after])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    said = {words[0]: words[-1] for words in lines if words[0] != "before"}
    assert said == {
        "falls": "WORSE",
        "noisy": "-20%",
        "beside": "+0%",
        "waits": "better",
        "comes": "new",
        "gone": "gone",
    }
    with pytest.raises(SystemExit, match="0"):
        compare.main([before, before])


def test_the_file_has_every_repetition(tmp_path: Path) -> None:
    written(tmp_path / "rows.json", at_least(0.25, "share", rate([1.0, 2.0, 4.0]), rate([4.0])))
    [row] = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]["notes"]
    assert (row["figure"], row["figures"], row["ratio"], row["holds"]) == (2.0, [1.0, 2.0, 4.0], 0.5, True)
