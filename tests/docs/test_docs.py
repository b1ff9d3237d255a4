"""Every code block of README and docs runs, and prints what the text says it prints."""

from __future__ import annotations

import ast
import asyncio
import inspect
import pkgutil
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from agent_messaging import AgentMessaging
from agent_messaging.cli.main import main
from tests.docs.pages import anchors_of
from tests.support import load_script

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    role: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, match[1], match[2] or "", match[3]))
    return found


ALL = blocks()
PROGRAMS = [block for block in ALL if block.language == "python" and block.role == ""]
FRAGMENTS = [block for block in ALL if block.language == "python" and block.role == "fragment"]


def printed_by(block: Block) -> str | None:
    """The `text` block that follows a program is what it prints."""
    after = ALL[ALL.index(block) + 1 :][:1]
    return after[0].text if after and after[0].page == block.page and after[0].language == "text" else None


def test_every_block_is_of_a_kind_that_is_run_or_is_no_code() -> None:
    assert {block.language for block in ALL} <= {"python", "text", "sh"}
    assert {block.role for block in ALL if block.language == "python"} <= {
        "",
        "fragment",
        "server",
        "client",
        "notebook",
        "test",
    }
    assert PROGRAMS
    assert FRAGMENTS


@pytest.mark.sampled(3)
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_runs_twice_and_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(block.text, encoding="utf-8")
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, str(program)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stderr
        expected = printed_by(block)
        if expected is not None:
            assert run.stdout == expected


@pytest.mark.parametrize("block", FRAGMENTS, ids=str)
async def test_a_fragment_runs_inside_a_started_sdk(block: Block, tmp_path: Path) -> None:
    source = "async def fragment(sdk):\n" + textwrap.indent(block.text, "    ")
    names: dict[str, object] = {"asyncio": asyncio}
    exec(compile(source, str(block), "exec"), names)
    async with AgentMessaging(f"sqlite:///{tmp_path}/docs.db") as sdk:
        await sdk.register_organization("acme", "Acme")
        for agent in ("alice", "bob", "carol"):
            await sdk.register_agent(agent, "acme", agent.title())
        await asyncio.wait_for(names["fragment"](sdk), 30)  # type: ignore[operator]


async def test_the_cells_of_a_notebook_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As IPython runs them: a cell may await, and what it defines is there in the next one."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    cells = [block for block in ALL if block.role == "notebook"]
    assert len(cells) == 3
    for cell in cells:
        code = compile(cell.text, str(cell), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if inspect.isawaitable(done):
            await asyncio.wait_for(done, 30)


def test_the_tests_of_the_pages_pass(tmp_path: Path) -> None:
    """In one run, of pytest as it is installed: those for pytest-asyncio, for anyio and for unittest."""
    tests = [block for block in ALL if block.role == "test"]
    for number, block in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(block.text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    number = sum(len(re.findall(r"^ *(?:async )?def test_", block.text, re.MULTILINE)) for block in tests)
    assert (run.returncode, run.stdout.splitlines()[-1].partition(" in ")[0]) == (0, f"{number} passed"), run.stdout


def commands() -> list[tuple[Block, list[str]]]:
    """The lines of the blocks that call our command."""
    found = []
    for block in ALL:
        for line in block.text.splitlines() if block.language in ("sh", "text") else ():
            words = shlex.split(line.removeprefix("$ "), comments=True) if "agent-messaging " in line[:18] else []
            if words[:1] == ["agent-messaging"]:
                ends = [words.index(word) for word in words if word in ("|", ">", "||", "&&", ";")]
                found.append((block, words[1 : min(ends, default=len(words))]))
    return found


def test_the_commands_of_the_pages_exist_with_their_options() -> None:
    assert len(commands()) > 20
    for block, words in commands():
        at: click.Command = main
        known = {name for parameter in main.params for name in (*parameter.opts, *parameter.secondary_opts)}
        rest = list(words)
        while isinstance(at, click.Group) and rest and not rest[0].startswith("-"):
            inner = at.get_command(click.Context(at), rest.pop(0))
            assert inner is not None, f"{block}: {words}"
            at = inner
            known |= {name for parameter in at.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert not isinstance(at, click.Group) or "--help" in rest, f"{block}: {words}"
        options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)} - {"--help"}
        assert options <= known, f"{block}: {words} has {options - known}"


def test_the_two_processes_of_the_quick_start_talk(tmp_path: Path) -> None:
    for role in ("server", "client"):
        [block] = [block for block in ALL if block.role == role]
        (tmp_path / f"{role}.py").write_text(block.text, encoding="utf-8")
    server = subprocess.Popen(
        [sys.executable, "server.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        client = subprocess.run(
            [sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (client.returncode, client.stdout) == (0, "done\n"), client.stderr
        assert server.stdout is not None
        assert server.stdout.readline() == "bob handles hello over there\n"
    finally:
        server.kill()
        server.communicate()


def test_the_site_has_every_page() -> None:
    """`make docs` builds it; its list of pages is written by hand."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- .+: (\S+\.md)$", settings, re.MULTILINE))
    docs = ROOT / "docs"
    for file in re.findall(r"\w+/[\w-]+\.(?:css|js)\b", settings):
        assert (docs / file).is_file(), "the theme would load it from another host, or nothing"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if not path.name[0].isdigit()}
    assert listed == pages


def test_the_reference_has_every_public_class_and_function() -> None:
    import agent_messaging
    from agent_messaging import coordination, testing

    shown: list[object] = []
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for name, options in re.findall(r"^::: (\S+)\n((?: +.+\n)*)", text, re.MULTILINE):
            entry = pkgutil.resolve_name(name)
            if not inspect.ismodule(entry):
                shown.append(entry)
            elif (members := re.search(r"members: \[(.*)\]", options)) is not None:
                shown += [getattr(entry, member) for member in members[1].split(", ")]
            else:
                shown += [one for one in vars(entry).values() if getattr(one, "__module__", "") == name]
    missing = [
        f"{package.__name__}.{name}"
        for package in (agent_messaging, coordination, testing)
        for name in package.__all__
        if inspect.isclass(one := getattr(package, name)) or inspect.isfunction(one)
        if one not in shown
    ]
    assert missing == []


@pytest.mark.parametrize(
    "name", ["guide/handlers.md", "quick-start.md", "index.md", "decisions/0041-a-task-is-booked-or-pulled.md"]
)
def test_the_site_is_given_blocks_that_it_knows(name: str) -> None:
    """One with two words behind its fence is none to it, nor is the heading that follows."""
    hook = load_script("docs_links")
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    shown = hook.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=name), meta={}), None, None)
    assert re.findall(r"^```\w+ .*$", shown, re.MULTILINE) == []
    assert re.findall(r"^[\w*].*\n- .*$", shown, re.MULTILINE) == [], "no list to it without a blank line before"
    page = "README.md" if name == "index.md" else f"docs/{name}"
    assert shown.count("```python\n") == sum(block.language == "python" for block in ALL if block.page == page)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_anchors_that_are_linked_to_are_headings() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            linked = (page.parent / target) if target else page
            assert anchor in anchors_of(linked), f"{page.relative_to(ROOT)} links to {target}#{anchor}"


def test_the_troubleshooting_page_has_every_error_that_is_raised_and_no_other() -> None:
    import agent_messaging

    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    exported = {name: getattr(agent_messaging, name) for name in agent_messaging.__all__ if name.endswith("Error")}
    told = set(re.findall(r"`(\w+Error)`", text))
    above = {"DatabaseError", "MeetingError", "SessionError", "TaskError"}
    """Each of them is raised as one of those below it."""
    assert {one.__name__ for one in exported.values()} - above <= told <= exported.keys()


@pytest.mark.parametrize("script", ["describe_schema", "draw_states"])
def test_the_pages_that_a_script_writes_are_what_it_writes(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_site_shows_examples_as_code_and_a_row_for_each_argument() -> None:
    pytest.importorskip("griffe", reason="griffe is not installed; `make docs` installs it")
    docstrings = load_script("docs_docstrings")
    text = "Do it.\n\nArgs:\n    a: One.\n    b, c: Two,\n        and three.\n\nExample:\n    do(1)\n"
    shown = "Do it.\n\nArgs:\n    a: One.\n    b: Two,\n        and three.\n    c: Two,\n        and three.\n\n"
    shown += "Example:\n    ```python\n    do(1)\n    ```\n"
    assert docstrings.parted(docstrings.fenced(text)) == shown


def test_the_site_shows_records_by_their_fields_and_calls_as_one_makes_them() -> None:
    griffe = pytest.importorskip("griffe", reason="griffe is not installed; `make docs` installs it")
    code = """
        LIMIT = 7
        class Record(dict):
            "A mapping."
        class Found(Record):
            "What was found."
            id: str
            size: int
            "In bytes."
        class _Finding:
            def found(self, limit=LIMIT) -> Found:
                "Say it."
        class Counting:
            def count(self) -> int:
                "Count."
        class Finder(_Finding, Counting):
            "Finds."
            def __init__(self, engine): ...
            def find(self, message=MISSING_MESSAGE) -> Found:
                "Find it."
    """
    extensions = griffe.load_extensions("dataclasses", load_script("docs_docstrings").Docstrings)
    with griffe.temporary_visited_package(
        "shown", {"__init__.py": textwrap.dedent(code)}, extensions=extensions, docstring_parser="google"
    ) as package:
        fields = package["Found"].docstring.parsed[1].value
        assert [(one.name, str(one.annotation), one.description) for one in fields] == [
            ("id", "str", ""),
            ("size", "int", "In bytes."),
        ]
        assert list(package["Finder"].members) == ["find", "found", "count"], "its own calls first, none of the SDK's"
        lines = [one.alias_lineno if one.is_alias else one.lineno for one in package["Finder"].members.values()]
        assert lines == sorted(lines)
        assert [str(one.default) for one in package["Finder"]["find"].parameters] == ["None", "None"]
        assert str(package["_Finding"]["found"].parameters["limit"].default) == "7"
