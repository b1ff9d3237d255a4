"""Commands of this program as it recommends them: they do what they say when they are pasted into a shell."""

from __future__ import annotations

import shlex

import click

from .options import get_options


def command(name: str, /, *arguments: str, **options: str) -> str:
    """A command with its arguments and options, quoted where a shell needs it.

    Arguments that look like options stand last, behind `--`. A store that this command line names with --url is named
    there too, unless its password would be shown.
    """
    given = [f"--{option} {shlex.quote(value)}" for option, value in (options | _store()).items()]
    words = [shlex.quote(argument) for argument in arguments]
    dashed = any(argument.startswith("-") for argument in arguments)
    parts = [*given, "--", *words] if dashed else [*words, *given]
    return " ".join(["agent-messaging", name, *parts])


def _store() -> dict[str, str]:
    from ..config.urls import mask

    context = click.get_current_context(silent=True)
    url = None if context is None else get_options(context).url
    return {} if url is None or mask(url) != url else {"url": url}
