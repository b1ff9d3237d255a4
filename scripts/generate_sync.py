"""Write `agent_messaging.sync` from the asynchronous classes: each call blocks, and is otherwise the same.

    python scripts/generate_sync.py            write the modules
    python scripts/generate_sync.py --check    fail if one of them is not what would be written

What a class of `agent_messaging.sync` shares with no other (starting, leaving, streams) is written by hand there.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "agent_messaging"
TARGET = ROOT / "src" / PACKAGE / "sync"

HEADER = '''"""{title}

Written by scripts/generate_sync.py from `{source}`: change that, and run it again.
"""

from __future__ import annotations

'''


@dataclass
class Written:
    """One class to write.

    Attributes:
        module: The module of `agent_messaging.sync` that gets it.
        source: The module of the asynchronous class.
        name: Its name there.
        title: The first line of the module.
        named: Its name here, if that is another.
        skipped: Calls that are written by hand, or make no sense without an event loop.
        direct: Calls that are not made on the event loop: those that register a function, before the start too.
    """

    module: str
    source: str
    name: str
    title: str
    named: str = ""
    skipped: frozenset[str] = frozenset()
    direct: frozenset[str] = frozenset()


BY_HAND = frozenset({"initialize", "close", "run_until_stopped", "store", "portal"})
REGISTERING = frozenset(
    {
        "register_handler",
        "register_meeting_handler",
        "register_event_handler",
        "unregister_handler",
        "register_task_handler",
        "unregister_task_handler",
    }
)
CLASSES = [
    Written("one_way", "messaging.one_way", "OneWayMessenger", "One-way messages, for code without asyncio."),
    Written("topics", "messaging.topics", "Topics", "Topics, for code without asyncio."),
    Written("conversation", "messaging.conversation", "Conversation", "Conversations, for code without asyncio."),
    Written("sides", "messaging.sides", "SyncConversation", "The sides of conversations, for code without asyncio."),
    Written("sides", "messaging.sides", "AsyncConversation", ""),
    Written("meeting", "messaging.meeting", "MeetingManager", "Meetings, for code without asyncio."),
    Written("tasks", "coordination.tasks", "Tasks", "Work that is handed out, for code without asyncio."),
    Written("receipts", "messaging.receipts", "Receipts", "Receipts and dead letters, for code without asyncio."),
    Written("receipts", "messaging.receipts", "DeadLetters", ""),
    Written("retention", "messaging.retention", "Retention", "Pruning what is old, for code without asyncio."),
    Written("archive", "messaging.archive", "Archive", "Moving stores, for code without asyncio."),
    Written(
        "events",
        "handlers.events",
        "MeetingEventHandler",
        "Meeting events, for code without asyncio.",
        direct=frozenset({"register_handler", "unregister_handler"}),
    ),
    Written(
        "observers",
        "observing.observers",
        "Observers",
        "Observers, for code without asyncio.",
        direct=frozenset({"add", "remove"}),
    ),
    Written(
        "calls",
        "client",
        "AgentMessaging",
        "The calls and the doors of the SDK, for code without asyncio.",
        named="Calls",
        skipped=BY_HAND,
        direct=REGISTERING,
    ),
]
DOORS = {one.name: one.module for one in CLASSES if one.name != "AgentMessaging"}
"""Classes of which there is a blocking one of the same name, and its module."""
HANDMADE = {"AskStream": "streams", "ReceivedMessage": "pulling"}
NO_CALLS = {"Door", "Calls", "_Side", "Generic", "object"}
"""Bases whose methods are not offered."""
EXAMPLES = (
    (r"\basync (with|for|def)\b", r"\1"),
    (r"\bawait asyncio\.sleep\b", "time.sleep"),
    (r"\bawait ", ""),
)
"""What is put instead in docstrings: patterns and their replacements."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """One module of the package: what its names mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        module = importlib.import_module(f"{PACKAGE}.{name}")
        assert module.__file__ is not None
        self.path = Path(module.__file__)
        self.is_package = self.path.name == "__init__.py"
        self.tree = ast.parse(self.path.read_text())

    @cached_property
    def imported(self) -> dict[str, str]:
        """The import statement of each imported name, as one of `agent_messaging.sync` writes it."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[(alias.asname or alias.name).partition(".")[0]] = ast.unparse(ast.Import([alias]))
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found[alias.asname or alias.name] = f"from {self._origin(node)} import {ast.unparse(alias)}"
        return found

    def _origin(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self.name.split(".")
        above = parts[: len(parts) - node.level + self.is_package]
        return "." * 2 + ".".join([*above, *([node.module] if node.module else [])])

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    @cached_property
    def assigned(self) -> dict[str, ast.stmt]:
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = node
        return found


@dataclass
class Module:
    """One module that is being written."""

    title: str
    source: str
    imports: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    """Definitions of type variables, by their names."""
    body: list[str] = field(default_factory=list)

    def need(self, name: str, source: Source, own: str) -> None:
        """Import or define what this name means in that module."""
        if name in DOORS or name in HANDMADE:
            home = DOORS.get(name) or HANDMADE[name]
            if home != own:
                self.imports.add(f"from .{home} import {name}")
        elif name in source.imported:
            self.imports.add(source.imported[name])
        elif name in source.assigned:
            text = ast.unparse(source.assigned[name])
            if "TypeVar(" in text:
                self.variables[name] = text
                for node in ast.walk(source.assigned[name]):
                    if isinstance(node, ast.Name) and node.id != name:
                        self.need(node.id, source, own)
            else:
                self.imports.add(f"from ..{source.name} import {name}")
        elif name in source.classes:
            self.imports.add(f"from ..{source.name} import {name}")
        elif not hasattr(builtins, name):
            raise LookupError(f"{name} of {source.name}")

    def text(self) -> str:
        head = HEADER.format(title=self.title, source=f"{PACKAGE}.{self.source}")
        return "\n".join(
            [head + "\n".join(sorted(self.imports)), "", *self.variables.values(), "", "", "\n\n".join(self.body), ""]
        )


def mro(source: Source, name: str) -> Iterator[tuple[Source, ast.ClassDef]]:
    """A class of the package and its bases there, in the order in which methods are found."""
    cls = getattr(importlib.import_module(f"{PACKAGE}.{source.name}"), name)
    for base in cls.__mro__:
        if base.__name__ not in NO_CALLS:
            home = Source(base.__module__.removeprefix(f"{PACKAGE}."))
            yield home, home.classes[base.__name__]


def is_overload(function: Function) -> bool:
    return any(ast.unparse(one) == "overload" for one in function.decorator_list)


def is_property(function: Function) -> bool:
    return any(ast.unparse(one) == "property" for one in function.decorator_list)


def names_in(function: Function) -> set[str]:
    """Those that its signature uses."""
    arguments = function.args
    parts: list[ast.AST | None] = [
        *(arg.annotation for arg in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]),
        *(arg.annotation for arg in (arguments.vararg, arguments.kwarg) if arg),
        *arguments.defaults,
        *arguments.kw_defaults,
        function.returns,
    ]
    return {node.id for part in parts if part for node in ast.walk(part) if isinstance(node, ast.Name)}


def forwarded(function: Function) -> str:
    """Its arguments, passed on."""
    arguments = function.args
    given = [arg.arg for arg in [*arguments.posonlyargs, *arguments.args]][1:]
    if arguments.vararg:
        given.append(f"*{arguments.vararg.arg}")
    given += [f"{arg.arg}={arg.arg}" for arg in arguments.kwonlyargs]
    if arguments.kwarg:
        given.append(f"**{arguments.kwarg.arg}")
    return ", ".join(given)


def signature(function: Function, returned: str | None = None) -> str:
    """Its first line. `returned` stands for what it says of what it returns."""
    returns = f" -> {returned or as_blocking(ast.unparse(function.returns))}" if function.returns else ""
    return f"def {function.name}({ast.unparse(function.args)}){returns}:"


def as_blocking(annotation: str) -> str:
    return annotation.replace("AsyncIterator[", "Iterator[")


def docstring(function: Function | ast.ClassDef, indent: str) -> list[str]:
    text = ast.get_docstring(function)
    if text is None:
        return []
    for pattern, instead in EXAMPLES:
        text = re.sub(pattern, instead, text)
    escaped = text.replace("\\", "\\\\")
    lines = f'"""{escaped}\n"""'.splitlines() if "\n" in text else [f'"""{escaped}"""']
    return [(indent + line).rstrip() for line in lines]


class Writer:
    """Writes one class into a module."""

    def __init__(self, module: Module, one: Written) -> None:
        self.module = module
        self.one = one
        self.source = Source(one.source)
        self.written: set[str] = set()
        self.lines: list[str] = []

    def write(self) -> None:
        bases = list(mro(self.source, self.one.name))
        own = bases[0][1]
        generic = next((ast.unparse(base) for base in own.bases if ast.unparse(base).startswith("Generic[")), None)
        if generic is None:
            generic = self._parameters(bases)
        self.module.imports.add("from .running import Blocking")
        inherited = [f"Blocking[Async{self.one.name}{self._arguments(generic)}]", *([generic] if generic else [])]
        self.module.imports.add(f"from ..{self.one.source} import {self.one.name} as Async{self.one.name}")
        if generic:
            self.module.imports.add("from typing import Generic")
            for name in re.findall(r"\w+", generic)[1:]:
                self.module.need(name, self.source, self.one.module)
        self.lines.append(f"class {self.one.named or self.one.name}({', '.join(inherited)}):")
        self.lines += [f'    """{self.one.title}"""'] if self.one.named else docstring(own, "    ")
        for source, node in bases:
            names = {f.name for f in node.body if isinstance(f, Function)} - self.written - self.one.skipped
            for item in node.body:
                if isinstance(item, Function) and item.name in names and not item.name.startswith("_"):
                    self._function(item, source, overloaded=self._is_overloaded(node, item.name))
                elif isinstance(item, ast.Assign) and isinstance(item.value, ast.Name):
                    self._alias(item)
            self.written |= names
        self.module.body.append("\n".join(self.lines))

    def _parameters(self, bases: list[tuple[Source, ast.ClassDef]]) -> str | None:
        for _, node in bases:
            for base in node.bases:
                if found := re.fullmatch(r"\w+\[(T(?:, T)*)\]", ast.unparse(base)):
                    return f"Generic[{found[1]}]"
        return None

    @staticmethod
    def _arguments(generic: str | None) -> str:
        return "" if generic is None else generic.removeprefix("Generic")

    @staticmethod
    def _is_overloaded(node: ast.ClassDef, name: str) -> bool:
        return any(isinstance(item, Function) and item.name == name and is_overload(item) for item in node.body)

    def _alias(self, item: ast.Assign) -> None:
        target = item.targets[0]
        assert isinstance(target, ast.Name)
        assert isinstance(item.value, ast.Name)
        if not target.id.startswith("_") and item.value.id not in self.one.skipped:
            self.lines += ["", f"    {target.id} = {item.value.id}"]

    def _function(self, function: Function, source: Source, *, overloaded: bool) -> None:
        for name in names_in(function) - {"property", "overload", "AsyncIterator"}:
            self.module.need(name, source, self.one.module)
        if is_overload(function):
            self.module.imports.add("from typing import overload")
            self.lines += ["    @overload", f"    {signature(function)} ..."]
            return
        if is_property(function):
            self._property(function)
            return
        call = f"{'self._any' if overloaded else 'self._async'}.{function.name}({forwarded(function)})"
        # Of a call with overloads these say what it returns.
        first = signature(function, "Any" if overloaded else None)
        if overloaded:
            self.module.imports.add("from typing import Any")
        self.lines += ["", f"    {first}", *docstring(function, " " * 8)]
        self.lines.append(" " * 8 + self._call(function, call))

    def _property(self, function: Function) -> None:
        assert function.returns is not None
        door = ast.unparse(function.returns)
        self.lines += ["", "    @property", f"    {signature(function)}", *docstring(function, " " * 8)]
        self.lines.append(f"        return {door.partition('[')[0]}(self._runner, self._async.{function.name})")

    def _call(self, function: Function, call: str) -> str:
        returns = "" if function.returns is None else ast.unparse(function.returns)
        if function.name in self.one.direct:
            return f"return {call}"
        if "AsyncIterator[" in returns:
            self.module.imports |= {"from collections.abc import Iterator", "from .streams import iterate"}
            return f"return iterate(self._runner, lambda: {call})"
        if returns.startswith("AskStream["):
            return f"return AskStream(self._runner, lambda: {call})"
        if "ReceivedMessage[" in returns:
            return f"return [ReceivedMessage(self._runner, one) for one in self._run(lambda: {call})]"
        run = "_run" if isinstance(function, ast.AsyncFunctionDef) else "_do"
        return f"{'' if returns == 'None' else 'return '}self.{run}(lambda: {call})"


def formatted(text: str) -> str:
    """As ruff formats it, with its imports in order."""
    for command in (["check", "--select", "I", "--fix-only", "--quiet"], ["format"]):
        run = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET / "written.py"), "-"]
        text = subprocess.run(run, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout  # noqa: S603
    return text


def write_all() -> dict[Path, str]:
    """The text of each module."""
    modules: dict[str, Module] = {}
    for one in CLASSES:
        module = modules.setdefault(one.module, Module(one.title, one.source))
        Writer(module, one).write()
    return {TARGET / f"{name}.py": formatted(module.text()) for name, module in modules.items()}


def main() -> int:
    written = write_all()
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in written.items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what scripts/generate_sync.py writes. Run it, and commit that.")
        return 1 if stale else 0
    for path, text in written.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
