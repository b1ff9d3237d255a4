"""The reference is made of docstrings: each call that a user may make has an example there, of calls that exist."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import Any

from agent_messaging import AgentMessaging, ReceivedMessage
from tests.client.doors import doors_of

NO_CALLS = {"portal", "store", "config"}


def calls_of(owner: object) -> dict[str, Any]:
    """The public methods of an object, by name."""
    kind = type(owner)
    names = [name for name in dir(kind) if not name.startswith("_")]
    return {name: getattr(kind, name) for name in names if inspect.isfunction(inspect.unwrap(getattr(kind, name)))}


def example_in(call: Any) -> str | None:
    found = re.search(r"^Examples?:\n((?: {4}.*\n?|\n)+)", inspect.getdoc(call) or "", re.MULTILINE)
    return textwrap.dedent(found[1]) if found else None


async def test_each_call_of_a_door_has_an_example() -> None:
    sdk = AgentMessaging[Any]("sqlite://:memory:")
    async with sdk:
        doors = {"sdk": sdk, **{f"sdk.{name}": door for name, door in doors_of(sdk).items()}}
        calls = {
            f"{name}.{call}": function for name, door in doors.items() for call, function in calls_of(door).items()
        }
        calls |= {f"message.{name}": getattr(ReceivedMessage, name) for name in ("done", "retry", "reject")}
        assert len(calls) > 100
        assert [name for name, function in calls.items() if example_in(function) is None] == []
        for name, function in calls.items():
            example = example_in(function)
            assert example is not None
            tree = compile(example, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
            assert isinstance(tree, ast.AST)
            named = re.findall(r"\bsdk\.(\w+)(?:\.(\w+))?\(", example)
            assert [one for one in named if not _exists(sdk, *one)] == [], name
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and (called := _find_call(sdk, node.func)) is not None:
                    keywords = {one.arg: None for one in node.keywords if one.arg is not None}
                    inspect.signature(called).bind_partial(*node.args, **keywords)


def _find_call(sdk: object, node: ast.expr) -> Any:
    """What an expression such as `sdk.meeting.speak` names; None for anything else."""
    if isinstance(node, ast.Name):
        return sdk if node.id == "sdk" else None
    if not isinstance(node, ast.Attribute) or (owner := _find_call(sdk, node.value)) is None:
        return None
    return getattr(owner, node.attr) if node.attr not in NO_CALLS else None


def _exists(sdk: object, first: str, second: str) -> bool:
    found = getattr(sdk, first, None)
    return found is not None and (not second or hasattr(found, second))
