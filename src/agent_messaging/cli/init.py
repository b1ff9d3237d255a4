"""`agent-messaging init`: a small project that works, to begin with."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys

import click

from ..arguments import absolute
from .app import Command
from .options import Options, pass_options
from .output import clean, count, say, show

TAKEN = frozenset({"agent_messaging", "asyncpg", "pytest", "tests"})
"""Names that the project needs, whatever is installed yet. In its folder it would hide a package of its name."""


class Refused(click.ClickException):
    """Nothing was written."""

    code = "exists"
    exit_code = 5


@click.command(cls=Command)
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--name", help="The name of its package. Default: that of the folder.")
@pass_options
def init(options: Options, folder: str, name: str | None) -> None:
    """Write a small project that works into a folder: two agents, a worker, a test, a Dockerfile and a compose file.

    \b
    Examples:
      agent-messaging init shop
      agent-messaging init . --name shop

    Nothing that is there is overwritten: if one of its files exists, nothing is written, and the exit code is 5. The
    store itself is made by the first program that runs, or by `agent-messaging db init`.
    """
    from .project import files_of

    target = absolute(folder)
    package = _package(name if name is not None else os.path.basename(target), is_given=name is not None)
    files = files_of(package)
    there = sorted(path for path in files if os.path.lexists(os.path.join(target, path)))
    if there:
        raise Refused(
            f"{', '.join(there)} in {target!r} would be overwritten. Nothing was written: name another folder."
        )
    for path, text in files.items():
        place = os.path.join(target, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "x", encoding="utf-8") as file:
            file.write(text)

    def human() -> None:
        say(f"Wrote {count(len(files), 'file')} into {clean(target)}. What to do next:")
        say()
        if target != absolute(os.curdir):
            words = shlex.quote(clean(folder))
            say(f"  cd {'./' if words.startswith('-') else ''}{words}")
        say("  python -m pip install pytest")
        say("  python -m pytest")
        say(f"  agent-messaging run {package}.worker:sdk")
        say(f"  python -m {package}.ask 'What time is it?'        in another terminal")

    show(options, {"folder": target, "package": package, "files": sorted(files)}, human)


def _package(text: str, *, is_given: bool) -> str:
    """The name of the package.

    Raises:
        click.UsageError: It can be none.
    """
    name = text if is_given else re.sub(r"\W+", "_", text).strip("_").lower()
    usable = name.isidentifier() and name.isascii() and not keyword.iskeyword(name)
    if usable and not _is_taken(name):
        return name
    why = f", because {name!r} is one that it would hide" if usable else ""
    raise click.UsageError(
        f"{text!r} cannot be the name of its package{why}. Give another one with --name, such as --name shop.",
        click.get_current_context(),
    )


def _is_taken(name: str) -> bool:
    from importlib.metadata import packages_distributions

    return name in TAKEN or name in sys.stdlib_module_names or name in packages_distributions()
