"""Commands of this program as it recommends them: they do what they say when they are pasted into a shell."""

from __future__ import annotations

import shlex


def command(name: str, /, *arguments: str, **options: str) -> str:
    """A command with its arguments and options, quoted where a shell needs it.

    Arguments that look like options stand last, behind `--`.
    """
    given = [f"--{option} {shlex.quote(value)}" for option, value in options.items()]
    words = [shlex.quote(argument) for argument in arguments]
    dashed = any(argument.startswith("-") for argument in arguments)
    parts = [*given, "--", *words] if dashed else [*words, *given]
    return " ".join(["agent-messaging", name, *parts])
