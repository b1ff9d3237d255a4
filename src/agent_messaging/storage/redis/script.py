"""The script that has all verbs, put together from `lua/*.lua` and the rules.

A rule is a table here, made by asking the function of `storage/workload.py` for each case, so that it is written once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files

from .. import workload
from ..ports import AVAILABLE, Settling

PARTS = ("common", "queue", "workers", "tasks", "pool", "processes", "dispatch")
_CASES = {"more": (1, 2), "last": (1, 1)}
"""An attempt, and how many there may be: one with others to come, and the last one."""


def build() -> str:
    """Put the script together."""
    ends = {
        how.value: {case: workload.end_of(how, *numbers).value for case, numbers in _CASES.items()} for how in Settling
    }
    lost = {case: workload.end_of_lost(*numbers).value for case, numbers in _CASES.items()}
    counted = {how.value: workload.attempts_after(how, 1) - 1 for how in Settling}
    rules = [
        f"local END_OF = {_table(ends)}",
        f"local LOST_END = {_table(lost)}",
        f"local ATTEMPTS_AFTER = {_table(counted)}",
        f"local WHY = {_table(workload.WHY)}",
        f"local AVAILABLE = {_table(dict.fromkeys(sorted(AVAILABLE), True))}",
    ]
    folder = files(__package__) / "lua"
    return "\n".join([*rules, *((folder / f"{part}.lua").read_text(encoding="utf-8") for part in PARTS)])


def _table(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_table(one)}" for name, one in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else f"'{value}'"


_TEXT = build()
DIGEST = hashlib.sha1(_TEXT.encode(), usedforsecurity=False).hexdigest()
NAME = f"agent_messaging_{DIGEST}"
"""Of the library, and of its function. Releases of the package side by side each have their own."""
NAME_OF_GROWING = f"{NAME}_growing"
"""The function of the verbs that a server refuses while its memory is used up."""
GROWING = frozenset({"put", "assign", "assign_waiting", "submit", "fire", "put_schedule", "register"})
"""Those verbs. The others give memory back, or take hardly any, and go on."""
FUNCTION = f"""#!lua name={NAME}
{_TEXT}
redis.register_function{{function_name = '{NAME}', callback = run, flags = {{'allow-oom'}}}}
redis.register_function{{function_name = '{NAME_OF_GROWING}', callback = run}}
"""
"""The library, for servers that keep functions: there a call costs 20 µs, where a script makes all of this anew
in each of its calls, in 170 µs."""
SUSTAINING = frozenset({"appear", "renew_life", "look", "set_clock", "renew", "heartbeat", "reprioritise"})
"""Verbs that take a little memory before they give any back, and yet have to go on while it is used up."""
SCRIPT = f"""{_TEXT}
-- A script cannot say that it may go on while memory is used up; but one that has deleted something may.
if ({_table(dict.fromkeys(sorted(SUSTAINING), True))})[ARGV[1]] then redis.call('DEL', KEYS[1] .. ':none') end
return run(KEYS, ARGV)
"""
"""The same for older servers."""
SCRIPT_DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
