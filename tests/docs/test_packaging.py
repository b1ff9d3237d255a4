"""What users install: everything that the package reads at run time is in the wheel."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from agent_messaging import __version__

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


def test_the_wheel_has_the_migrations_the_statements_and_the_mark_of_types(tmp_path: Path) -> None:
    [built] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        packed = set(wheel.namelist())
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    needed = {path.relative_to(SOURCE).as_posix() for path in files}
    assert {Path(name).suffix for name in needed} >= {".py", ".sql", ".typed"}
    assert not needed - packed
    folders = {name.partition("/")[0] for name in packed}
    assert folders == {"agent_messaging", f"agent_messaging-{__version__}.dist-info"}, "one place has the version"
