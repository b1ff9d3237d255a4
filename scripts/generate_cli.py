"""Write the help of every command into docs/reference/cli.md, behind the line that says so.

python scripts/generate_cli.py            write the page
python scripts/generate_cli.py --check    fail if it is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from agent_messaging.cli.main import main

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
MARK = "<!-- scripts/generate_cli.py writes what follows. -->\n"
SHARED = "\nOptions of every command:"
WIDTH = 78
"""What the site shows of a line without scrolling."""


def contexts(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[click.Context]:
    settings = command.context_settings
    context = command.context_class(
        command, parent=parent, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH, **settings
    )
    yield context
    if isinstance(command, click.Group):
        for inner, one in command.commands.items():
            if not one.hidden:
                yield from contexts(one, inner, context)


def sections() -> Iterator[str]:
    program = "agent-messaging"
    for context in contexts(main, program):
        name = context.command_path.removeprefix(program).strip()
        if name:
            text = context.command.get_help(context).partition(SHARED)[0].rstrip()
            yield f"{'##' if ' ' not in name else '###'} {name}\n\n```text\n{text}\n```\n"


def written(page: str) -> str:
    head, mark, _ = page.partition(MARK)
    return head + mark + "\n" + "\n".join(sections())


if __name__ == "__main__":
    now = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if now == written(now) else f"{PAGE} is not what its script writes: python scripts/generate_cli.py")
    PAGE.write_text(written(now), encoding="utf-8")
