"""The architecture page says of the tree what is true: its layers, its rooms, its modules, its names, its order."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "agent_messaging"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEPS = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A new pattern\n")[2]
ROOMS = ("", "delivery", "storage")
"""Those of which the page names every room and module; its sections name them without the folder."""


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def layers_of(container: str) -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one.get("containers") == [container]]
    return list(layers)


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def members() -> dict[str, set[str]]:
    """The methods of each class of the package, and the names of its bases."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = found.setdefault(node.name, set())
                names |= {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
                bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
                names |= {base.id for base in bases if isinstance(base, ast.Name)}
    return found


def has(classes: dict[str, set[str]], name: str, member: str) -> bool:
    own = classes.get(name, set())
    return member in own or any(has(classes, base, member) for base in own & classes.keys() - {name})


@pytest.mark.parametrize(
    ("title", "container"),
    [("Layers", "agent_messaging"), ("The seam: `storage/`", "agent_messaging.storage")],
)
def test_the_layers_are_those_that_the_contracts_prove(title: str, container: str) -> None:
    block = re.search(r"^```text\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == layers_of(container)


@pytest.mark.parametrize(
    ("title", "room"),
    [("Layers", ""), ("The engine: `delivery/`", "delivery"), ("The seam: `storage/`", "storage")],
)
def test_each_room_and_module_is_named(title: str, room: str) -> None:
    inside = [path for path in (PACKAGE / room).iterdir() if not path.name.startswith("__")]
    modules = {path.name for path in inside if path.suffix == ".py"}
    rooms = {f"{path.name}/" for path in inside if path.is_dir() and any(path.glob("*.py"))}
    assert (modules | rooms) - set(quoted(section(title))) == set()


@pytest.mark.parametrize("text", [PAGE, STEPS], ids=["page", "steps"])
def test_each_path_that_is_named_exists(text: str) -> None:
    paths = [name for name in quoted(text) if re.fullmatch(r"[\w./]+(\.py|\.toml|\.sql|/)", name)]
    places = [ROOT, ROOT / "src", PACKAGE, *(PACKAGE / room for room in ROOMS), PACKAGE / "storage" / "sqlite"]
    assert paths
    assert [path for path in paths if not any((place / path).exists() for place in places)] == []


def test_each_class_and_call_that_is_named_exists() -> None:
    classes = members()
    text = "\n".join(re.findall(r"^```text\n(.*?)^```$", section("Three ways"), re.MULTILINE | re.DOTALL))
    calls = {*re.findall(r"\b([A-Z][a-z]\w+)\.([a-z]\w+)", text + PAGE), *re.findall(r"`([A-Z]\w+)\.(\w+)`", STEPS)}
    assert [f"{name}.{member}" for name, member in sorted(calls) if not has(classes, name, member)] == []
    names = {name for name in quoted(PAGE + STEPS) if re.fullmatch(r"[A-Z][a-z]\w+", name)}
    assert names - classes.keys() == set()


def test_the_services_are_listed_in_their_order() -> None:
    source = (PACKAGE / "delivery" / "engine.py").read_text(encoding="utf-8")
    added = ", ".join(re.findall(r"self\.services\.add\((.*?), closing=", source))
    order = [name.rpartition(".")[2] for name in added.split(", ")]
    assert f"in the opposite one: {', '.join(order)}." in PAGE


def test_the_parts_are_listed_as_the_engine_makes_them() -> None:
    source = (PACKAGE / "delivery" / "engine.py").read_text(encoding="utf-8")
    made = re.findall(r"^        self\.(\w+) = [A-Z]\w+\(", source, re.MULTILINE)
    at = made.index("announcer")
    [told] = re.findall(r"only told and asked: ([\w, ]+)\.", PAGE)
    [commit] = re.findall(r"commit and call it: ([\w, ]+)\.", PAGE)
    assert [name for name in made[:at] if name in told.split(", ")] == told.split(", ")
    assert made[at + 1 :] == commit.split(", ")
