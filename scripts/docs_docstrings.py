"""An extension of mkdocstrings: makes of our docstrings what it shows as they are meant.

An example is code, and not a paragraph of text. Arguments of which the same is to be said share a line with us, and
have a row each in its table. An error tells its code, which has no docstring of its own.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
ARGUMENTS = re.compile(r"^Args:\n((?: {4}.*\n?)+)", re.MULTILINE)
RETURNS = re.compile(r"^(Returns:\n {4}[^`:\n]+):(?= )", re.MULTILINE)
"""A colon in the sentence about a result; what stands before it would be taken for the type, which the call has."""
SEVERAL = re.compile(r"^    (\w+(?:, \w+)+):((?:.*\n?)(?: {8}.*\n?)*)", re.MULTILINE)


def fenced(text: str) -> str:
    """A docstring whose example stands between fences."""

    def fence(match: re.Match[str]) -> str:
        code = textwrap.dedent(match[1]).strip("\n")
        return "Example:\n" + textwrap.indent(f"```python\n{code}\n```", "    ") + "\n"

    return EXAMPLE.sub(fence, text)


def parted(text: str) -> str:
    """A docstring in which each argument has an entry of its own."""

    def part(match: re.Match[str]) -> str:
        words = match[2] if match[2].endswith("\n") else f"{match[2]}\n"
        return "".join(f"    {name}:{words}" for name in match[1].split(", "))

    return ARGUMENTS.sub(lambda section: SEVERAL.sub(part, section[0]), text)


class Docstrings(griffe.Extension):
    """Called with each module, class and function that is read."""

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Say the code of an error, and whether it may be repeated."""
        code, retryable = (cls.members.get(name) for name in ("code", "retryable"))
        if cls.name.endswith("Error") and cls.docstring is not None and isinstance(code, griffe.Attribute):
            repeated = isinstance(retryable, griffe.Attribute) and str(retryable.value) == "True"
            said = f"Code `{str(code.value)[1:-1]}`" + ("; retryable." if repeated else ".")
            cls.docstring.value = f"{cls.docstring.value.rstrip()}\n\n{said}"

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change its docstring."""
        if obj.docstring is not None:
            obj.docstring.value = parted(fenced(RETURNS.sub(r"\1&#58;", obj.docstring.value)))
