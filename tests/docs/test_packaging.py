"""What users install: everything that the package reads at run time is in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

import agent_messaging.testing
from agent_messaging import __version__

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

WITHOUT_TEST_TOOLS = """
import importlib, pkgutil, sys
sys.modules["pytest"] = sys.modules["hypothesis"] = None  # importing either fails
import agent_messaging.testing
for module in pkgutil.walk_packages(agent_messaging.testing.__path__, "agent_messaging.testing."):
    importlib.import_module(module.name)
    print(module.name)
"""


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


def test_what_ships_for_testing_imports_without_pytest_and_hypothesis() -> None:
    imported = subprocess.run([sys.executable, "-c", WITHOUT_TEST_TOOLS], capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr
    [folder] = agent_messaging.testing.__path__
    shipped = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert {name.rpartition(".")[2] for name in imported.stdout.split()} == shipped
