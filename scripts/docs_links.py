"""A hook of mkdocs: makes of the pages, as they stand in the repository, pages of a site that has the pages alone.

The home page is the README, and two pages are CONTRIBUTING and the changelog. The page of decisions gets its list. A
link to what is no page, such as a test or a module, becomes its path, and one to an example leads to where the site
has it; where that is a paragraph of its own, it becomes the program, folded. The word behind the language of a block,
by which the tests know how to run it, is left out: with it the site would take neither the block nor the heading
behind it for one. Long names in tables may be broken behind a dot, a slash or an underscore.
"""

from __future__ import annotations

import posixpath
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages that stand at the root of the repository."""
BEHIND = ("decisions/", "requirements.md", "performance.md", "schema.md")
"""Pages that a search finds behind those that say how something is done."""
FENCE = re.compile(r"^```(\w+) \w+$", re.MULTILINE)
LIST = re.compile(r"^([^\s#|`>-].*)\n(?=- |1\. )", re.MULTILINE)
"""A list behind the line of a paragraph, which is none to the site without a blank line between the two."""
PARAGRAPH = re.compile(r"^\[(examples/\S+\.py)\]\(\S+\)$", re.MULTILINE)
"""A link to an example that is a paragraph."""
PROGRAM = re.compile(r"^`(examples/\S+\.py)`$", re.MULTILINE)
"""What becomes of it first, so that nothing in the program is taken for a link."""
SECTION = re.compile(r"^## (.+)$|" + PARAGRAPH.pattern, re.MULTILINE)
CELL_CODE = re.compile(r"(?<=<code>)[^<>]{18,}(?=</code>)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called for each page with its text; returns what is shown."""
    here = page.file.src_uri
    if here in ELSEWHERE:
        markdown, here = (ROOT / ELSEWHERE[here]).read_text(encoding="utf-8"), f"../{ELSEWHERE[here]}"
    if here.startswith(BEHIND):
        page.meta.setdefault("search", {"boost": 0.2})
    if here == "decisions/index.md":
        markdown += "\n" + "\n".join(_decisions())

    def shown(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(here), target))
        if path == "docs/decisions":
            path = "docs/decisions/index.md"
        path = next((f"docs/{name}" for name, file in ELSEWHERE.items() if file == path), path)
        if path in _examples():
            path, anchor = _examples()[path]
        if path.startswith("docs/") and (ROOT / path).is_file():
            to = posixpath.relpath(path, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))
            return f"[{text}]({to}{anchor})"
        name = text.strip("`")
        return f"`{path}`" if name in path else f"{text} (`{path}`)"

    markdown = LIST.sub(r"\1\n\n", FENCE.sub(r"```\1", markdown))
    return PROGRAM.sub(_program, LINK.sub(shown, PARAGRAPH.sub(r"`\1`", markdown)))


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Called for each page with what its text became; returns what is shown."""

    def breakable(cell: re.Match[str]) -> str:
        return CELL_CODE.sub(lambda code: re.sub(r"(?<=\w)(::|[._/])(?=\w)", r"\1<wbr>", code[0]), cell[0])

    return re.sub(r"<td.*?</td>", breakable, html, flags=re.DOTALL)


@cache
def _examples() -> dict[str, tuple[str, str]]:
    """The page and the anchor of each example, and of their folders."""
    found = {"examples": ("docs/examples.md", ""), "examples/frameworks": ("docs/recipes.md", "")}
    for page in ("docs/examples.md", "docs/recipes.md"):
        heading = ""
        for title, path in SECTION.findall((ROOT / page).read_text(encoding="utf-8")):
            if title:
                heading = "#" + re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())
            else:
                found[path] = (page, heading)
    return found


def _program(match: re.Match[str]) -> str:
    code = (ROOT / match[1]).read_text(encoding="utf-8").rstrip()
    return f'??? example "{match[1]}"\n' + textwrap.indent(f"```python\n{code}\n```", "    ")


def _decisions() -> list[str]:
    pages = sorted(path for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name[0].isdigit())
    titles = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in pages]
    return [f"- [{title}]({path.name})" for path, title in zip(pages, titles, strict=True)]
