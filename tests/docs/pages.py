"""How the pages of the documentation are read."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path


@cache
def anchors_of(page: Path) -> set[str]:
    """The anchors of its headings, as mkdocs makes them; those of one text are numbered."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        anchor = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
        anchors.add(f"{anchor}_{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors
