"""What users install: everything that the package reads at run time is in the wheel, and what is said of it is true."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import yaml  # type: ignore[import-untyped, unused-ignore]
from hatchling.builders.sdist import SdistBuilder
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
    if not module.name.endswith(".plugin"):  # of pytest
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


def test_from_the_sdist_comes_the_same_wheel_and_what_the_tests_need(tmp_path: Path) -> None:
    [built] = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as sdist:
        sdist.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"agent_messaging-{__version__}"
    wheels = [
        next(WheelBuilder(str(root)).build(directory=str(tmp_path / name), versions=["standard"]))
        for name, root in (("from tree", ROOT), ("from sdist", unpacked))
    ]
    names = [sorted(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]
    assert names[0] == names[1]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    needed = set(re.findall(r'\b(?:ROOT|REPOSITORY) / "([\w.-]+)"', tests))
    assert needed >= {"CONTRIBUTING.md", "pyproject.toml", "docs"}
    assert [name for name in sorted(needed) if not (unpacked / name).exists()] == []


def test_the_classifiers_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert f">={pythons[0]}" == project["requires-python"]
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in pythons
    assert ("Typing :: Typed" in project["classifiers"]) == (SOURCE / "agent_messaging" / "py.typed").exists()
    assert "MIT" in (ROOT / project["license-files"][0]).read_text(encoding="utf-8")


def test_the_servers_for_tests_are_those_that_the_tests_take() -> None:
    text = (ROOT / "tests" / "compose.yaml").read_text(encoding="utf-8")
    server = yaml.safe_load(text)["services"]["postgres"]
    [(variable, user, password, port)] = re.findall(r"(\w+)=postgresql://(\w+):(\w+)@127\.0\.0\.1:(\d+)/", text)
    assert server["environment"] == {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password}
    assert server["ports"] == [f"127.0.0.1:{port}:5432"]
    assert f'environ.get("{variable}"' in (ROOT / "tests" / "fixtures" / "postgres.py").read_text(encoding="utf-8")


def test_what_ships_for_testing_imports_without_pytest_and_hypothesis() -> None:
    imported = subprocess.run([sys.executable, "-c", WITHOUT_TEST_TOOLS], capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr
    [folder] = agent_messaging.testing.__path__
    shipped = {path.stem for path in Path(folder).glob("*.py")} - {"__init__", "plugin"}
    assert {name.rpartition(".")[2] for name in imported.stdout.split()} == shipped
