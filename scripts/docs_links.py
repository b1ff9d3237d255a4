"""A hook of mkdocs: makes of the pages, as they stand in the repository, pages of a site that has the pages alone.

The home page is the README, and one page is CONTRIBUTING. The page of decisions gets its list. A link to what is no
page, such as a test or a module, becomes its path; where a link to an example is a paragraph of its own, it becomes the
program, folded. The word behind the language of a block, by which the tests know how to run it, is left out: with it
the site would take neither the block nor the heading behind it for one.
"""

from __future__ import annotations

import posixpath
import re
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ELSEWHERE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages that stand at the root of the repository."""
BEHIND = ("decisions/", "requirements.md", "performance.md", "schema.md")
"""Pages that a search finds behind those that say how something is done."""
FENCE = re.compile(r"^```(\w+) \w+$", re.MULTILINE)
PROGRAM = re.compile(r"^`(examples/\S+\.py)`$", re.MULTILINE)
"""The link to one, once it has become its path."""
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
        if path.startswith("docs/") and (ROOT / path).is_file():
            to = posixpath.relpath(path, posixpath.join("docs", posixpath.dirname(page.file.src_uri)))
            return f"[{text}]({to}{anchor})"
        name = text.strip("`")
        return f"`{path}`" if name in path else f"{text} (`{path}`)"

    return PROGRAM.sub(_program, LINK.sub(shown, FENCE.sub(r"```\1", markdown)))


def _program(match: re.Match[str]) -> str:
    code = (ROOT / match[1]).read_text(encoding="utf-8").rstrip()
    return f'??? example "{match[1]}"\n' + textwrap.indent(f"```python\n{code}\n```", "    ")


def _decisions() -> list[str]:
    pages = sorted(path for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name[0].isdigit())
    titles = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in pages]
    return [f"- [{title}]({path.name})" for path, title in zip(pages, titles, strict=True)]
