"""The programs in examples/ run, twice in the same folder, and print what they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent_messaging.sync import AgentMessaging
from tests.support import load_script

ROOT = Path(__file__).parents[2]

ELSEWHERE = {"help_desk.py"}
"""Of several processes: `tests/examples/test_programs.py` runs it on both stores."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name not in ELSEWHERE)
LAST_LINE = {
    "brainstorming.py": "nobody after 9 turns",
    "coordination_demo.py": "completed 3, failed 1, active 0",
    "correspondence.py": "chapter 1: Shorter, please., chapter 2: Fine.",
    "group_chat.py": "end_when after 5 turns",
    "human_in_the_loop.py": "bought ['paper']",
    "interview.py": "ended after 7 messages",
    "meeting.py": "alice ended it",
    "newsroom.py": "ben heard: storm leads with: A storm is coming.",
    "notifications.py": "alice done, bob done, carol done",
    "tracing.py": "Billing says: it is paid.",
    "supervisor.py": "done 3 of 4",
    "task_pipeline.py": "filed contract, invoice, letter, minutes",
    "work_queue.py": "finished [0, 1, 2, 3, 4, 5]",
}
OWN = {
    "correspondence.py": {"author", "editor"},
    "human_in_the_loop.py": {"buyer", "office", "pat"},
    "newsroom.py": {"ann", "ben", "checker", "chief", "wire"},
}
"""Agents of other organizations than acme, by the program that alone has them: so all get along in one folder."""


def test_every_example_says_what_it_prints() -> None:
    assert {example.name for example in EXAMPLES} == LAST_LINE.keys()


def test_no_agent_is_of_two_organizations() -> None:
    names = [name for own in OWN.values() for name in own]
    assert len(names) == len(set(names))
    for program in (ROOT / "examples").glob("*.py"):
        others = {name for other, own in OWN.items() if other != program.name for name in own}
        assert not {name for name in others if f'"{name}"' in program.read_text(encoding="utf-8")}, program.name


def test_the_site_shows_every_example() -> None:
    """`make docs` puts each in the place of a link that is a paragraph of its own."""
    pages = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("examples.md", "recipes.md"))
    shown = re.findall(r"^\[(\S+)\]\(\.\./\1\)$", pages, re.MULTILINE)
    assert sorted(shown) == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*.py"))


def run_twice(program: Path, folder: Path, last_line: str) -> None:
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, str(program)],
            cwd=folder,
            stdin=subprocess.DEVNULL,  # without a terminal nobody is asked
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.splitlines()[-1] == last_line


@pytest.mark.sampled(3)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_twice_in_one_folder(example: Path, tmp_path: Path) -> None:
    run_twice(example, tmp_path, LAST_LINE[example.name])
    with AgentMessaging(f"sqlite:///{tmp_path / 'agent_messaging.db'}") as sdk:
        organizations = {organization.id: organization.external_id for organization in sdk.list_organizations()}
        agents = [(organizations[agent.organization_id], agent) for agent in sdk.list_agents()]
    for organization, agent in agents:
        assert agent.external_id in OWN.get(example.name, ()) or organization == "acme"
        assert agent.name == agent.external_id.title() or organization != "acme"


FRAMEWORKS = load_script("run_frameworks")
IMPORTED = {
    "autogen": "autogen_agentchat",
    "celery": "celery",
    "flask": "flask",
    "langgraph": "langgraph",
    "openai-agents": "agents",
    "pydantic-ai": "pydantic_ai",
}


def test_each_framework_has_an_example_its_requirements_and_a_last_line() -> None:
    """`make lint` reads their types in any case: mypy has examples/ among its files."""
    programs = {path.name for path in (ROOT / "examples" / "frameworks").glob("*.py")}
    assert programs == {FRAMEWORKS.example_of(name).name for name in IMPORTED}
    assert FRAMEWORKS.requirements().keys() == FRAMEWORKS.LAST_LINE.keys() == IMPORTED.keys()


@pytest.mark.parametrize("name", IMPORTED)
def test_an_agent_of_a_framework_works_behind_the_sdk(name: str, tmp_path: Path) -> None:
    """Where it is not installed, `make frameworks` runs it, in an environment of its own."""
    program = FRAMEWORKS.example_of(name)
    compile(program.read_text(encoding="utf-8"), str(program), "exec")
    pytest.importorskip(
        IMPORTED[name], reason=f"{IMPORTED[name]} is not installed; `make frameworks` installs and runs it"
    )
    run_twice(program, tmp_path, FRAMEWORKS.LAST_LINE[name])
