"""Writing a transcript as a page: to a new file, or to stdout."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from .opening import use
from .options import Options
from .output import print_json, say, show

if TYPE_CHECKING:
    from .. import AgentMessaging

F = TypeVar("F", bound=Callable[..., Any])


def format_options(command: F) -> F:
    """`--format` and `--output`."""
    form = click.option(
        "--format", type=click.Choice(["md", "html"]), default="md", show_default=True, help="The form of the page."
    )
    target = click.option(
        "-o",
        "--output",
        "target",
        metavar="PATH",
        type=click.Path(),
        help="Write to this new file; stdout if left out.",
    )
    return form(target(command))


def write_page(options: Options, pieces: Callable[[AgentMessaging], AsyncIterator[str]], target: str | None) -> None:
    """Write the pieces of a page. With --json its path is told, or it is a string of the document."""
    from ..arguments import check_new_file

    path = None if target is None else check_new_file(target, field="output")
    kept = io.StringIO()

    async def write(sdk: AgentMessaging) -> None:
        found = pieces(sdk)
        first = await anext(found)  # what is unknown is said before there is a file
        with _out(path, kept if options.json else None) as out:
            out.write(first)
            async for piece in found:
                out.write(piece)

    use(options, write)
    if path is not None:
        size = os.path.getsize(path)
        show(options, {"path": path, "size_bytes": size}, lambda: say(f"Wrote {path} ({size:,} bytes)."))
    elif options.json:
        print_json({"page": kept.getvalue()}, indent=2)


@contextmanager
def _out(path: str | None, kept: io.StringIO | None) -> Iterator[IO[str]]:
    if path is not None:
        with open(path, "x", encoding="utf-8") as file:
            yield file
    elif kept is not None:
        yield kept
    else:
        yield sys.stdout
