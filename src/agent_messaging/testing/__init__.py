"""The kit for tests of programs that use the SDK; `docs/guide/testing.md` shows it at work.

`MessagingKit` is an SDK in memory with a clock that the test moves, scripted agents and faults. It needs nothing but
the package. With pytest its fixtures are there by themselves (`plugin`). `history` and `checker` judge runs of many
processes.
"""

# Names are loaded when first used, as those of the package are: every run of pytest imports this room for the plugin.

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents import NEVER as NEVER
    from .agents import Heard as Heard
    from .agents import ScriptedAgent as ScriptedAgent
    from .clock import HandClock as HandClock
    from .contexts import HandContext as HandContext
    from .contexts import make_context as make_context
    from .faults import Faults as Faults
    from .kit import MessagingKit as MessagingKit

_HOMES = {
    "NEVER": "agents",
    "Faults": "faults",
    "HandClock": "clock",
    "HandContext": "contexts",
    "Heard": "agents",
    "MessagingKit": "kit",
    "ScriptedAgent": "agents",
    "make_context": "contexts",
}

__all__ = ["NEVER", "Faults", "HandClock", "HandContext", "Heard", "MessagingKit", "ScriptedAgent", "make_context"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
