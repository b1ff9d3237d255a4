"""An extension of mkdocstrings: makes of our docstrings and classes what it shows as they are meant.

An example is code, and not a paragraph of text. Arguments and errors of which the same is to be said share a line with
us, and have a row each in its tables. The fields of a record, a setting or an error are one table, also those that
need no sentence, and so are the words of an enum. An error tells its code, which has no docstring of its own.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
SECTION = re.compile(r"^(?:Args|Raises):\n((?: {4}.*\n?)+)", re.MULTILINE)
RETURNS = re.compile(r"^((?:Returns|Yields):\n {4}(?:[^`:\n]|`[^`\n]*`)+):(?= )", re.MULTILINE)
"""A colon in the sentence about a result; what stands before it would be taken for the type, which the call has."""
SEVERAL = re.compile(r"^    (\w+(?:, \w+)+):((?:.*\n?)(?: {8}.*\n?)*)", re.MULTILINE)

RECORDS = {"BaseModel", "Snapshot", "Record", "Settings", "TypedDict", "AgentMessagingError"}
"""The classes whose subclasses are known by their fields, as a dataclass is."""
FORGOTTEN = ("...", "MISSING_MESSAGE")
"""The default of a payload that has to be given: it is there so that the error can say so."""
INTRODUCED = {"exceptions", "event_data"}
"""Modules whose docstring is for users."""
ORDER = 100_000
"""More lines than a module has."""


def fenced(text: str) -> str:
    """A docstring whose example stands between fences."""

    def fence(match: re.Match[str]) -> str:
        code = textwrap.dedent(match[1]).strip("\n")
        behind = "\n" if match[1].endswith("\n\n") else ""
        return "Example:\n" + textwrap.indent(f"```python\n{code}\n```", "    ") + "\n" + behind

    return EXAMPLE.sub(fence, text)


def parted(text: str) -> str:
    """A docstring in which each argument and each error has an entry of its own."""

    def part(match: re.Match[str]) -> str:
        words = match[2] if match[2].endswith("\n") else f"{match[2]}\n"
        return "".join(f"    {name}:{words}" for name in match[1].split(", "))

    return SECTION.sub(lambda section: SEVERAL.sub(part, section[0]), text)


class Docstrings(griffe.Extension):
    """Called with the package once it is read."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Put docstrings, classes and calls in the form in which they are shown."""
        objects = list(_objects_of(pkg))
        for one in objects:
            if one.docstring is not None:
                one.docstring.value = parted(fenced(RETURNS.sub(r"\1&#58;", one.docstring.value)))
        classes = [one for one in objects if isinstance(one, griffe.Class)]
        fields = {id(one): _fields_of(one) for one in classes}
        for one in classes:
            if one.name.endswith("Error"):
                _tell_code(one)
            _show_fields(one, fields)
        for one in classes:
            for name in fields[id(one)]:
                one.members.pop(name, None)
            if one.docstring is None or "Args:" not in one.docstring.value:
                one.members.pop("__init__", None)  # the SDK makes it
        for one in classes:
            _place_inherited(one)
        for one in objects:
            if isinstance(one, griffe.Function):
                _show_call(one)
            elif isinstance(one, griffe.Module) and one.name not in INTRODUCED:
                one.docstring = None  # it is for those who read the module


def _objects_of(owner: griffe.Object) -> Iterator[griffe.Object]:
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            yield member
            if isinstance(member, griffe.Module | griffe.Class):
                yield from _objects_of(member)


def _bases_of(cls: griffe.Class) -> list[griffe.Class]:
    """The bases of a class that are of this package, nearest first."""
    try:
        return [base.final_target if isinstance(base, griffe.Alias) else base for base in cls.mro()]
    except (ValueError, griffe.AliasResolutionError):
        return []


def _place_inherited(cls: griffe.Class) -> None:
    """Put what a class inherits behind its own members, in the order of its bases; else the farthest came first."""
    for place, base in enumerate(_bases_of(cls), start=1):
        for name, member in base.members.items():
            if not member.is_alias and not name.startswith("_") and name not in cls.members:
                line = place * ORDER + (member.lineno or 0)
                cls.members[name] = griffe.Alias(name, member, parent=cls, lineno=line, inherited=True)


def _names_of_bases(cls: griffe.Class) -> set[str]:
    return {str(base).split("[")[0].split(".")[-1] for one in (cls, *_bases_of(cls)) for base in one.bases} | {cls.name}


def _is_enum(cls: griffe.Class) -> bool:
    return bool(_names_of_bases(cls) & {"StrEnum", "IntEnum", "Enum"})


def _fields_of(cls: griffe.Class) -> dict[str, griffe.Attribute]:
    """The attributes of a class that one table shows, by name. Of a class that is no record, those with a docstring."""
    is_enum = _is_enum(cls)
    is_record = any(str(one.value).startswith("dataclass") for one in cls.decorators)
    is_record = is_record or bool(_names_of_bases(cls) & RECORDS)
    found = {}
    for name, member in cls.members.items():
        if not isinstance(member, griffe.Attribute) or name.startswith("_") or "property" in member.labels:
            continue
        if str(member.annotation) == "ClassVar" or str(member.value).startswith("property("):
            continue
        is_of_class = "instance-attribute" not in member.labels
        member.labels -= {"class-attribute", "instance-attribute"}
        if is_enum:
            is_shown = member.annotation is None and member.value is not None
        elif name.endswith("_text"):
            is_shown = False
        elif is_of_class and member.annotation is not None:
            is_shown = name in ("code", "retryable", "exit_code")
        else:
            is_shown = (is_record and member.annotation is not None) or member.docstring is not None
        if is_shown:
            found[name] = member
    return found


def _show_fields(cls: griffe.Class, fields: dict[int, dict[str, griffe.Attribute]]) -> None:
    """Give a class the table of its fields, those of its bases first; not where its docstring tells its arguments."""
    bases = _bases_of(cls)
    if cls.name.endswith("Error") and cls.name != "AgentMessagingError":
        bases = [base for base in bases if base.name != "AgentMessagingError"]  # the same for all
    shown = {name: one for base in reversed([cls, *bases]) for name, one in fields.get(id(base), {}).items()}
    if not shown or cls.docstring is None or "Args:" in cls.docstring.value:
        return
    has_defaults = "Settings" in _names_of_bases(cls)
    rows = []
    for name, one in shown.items():
        text = one.docstring.value if one.docstring is not None else ""
        annotation = one.value if _is_enum(cls) else _plain(one.annotation, one.module)
        default = _default_of(one.value) if has_defaults else None
        if str(default).isupper():
            default = _literal(_find(str(default), one.module))
        rows.append(griffe.DocstringAttribute(name, annotation=annotation, description=text, value=default))
    title = "Values:" if _is_enum(cls) else "Settings:" if has_defaults else "Fields:"
    sections = cls.docstring.parsed
    behind = 1 if sections and sections[0].kind is griffe.DocstringSectionKind.text else 0
    sections.insert(behind, griffe.DocstringSectionAttributes(rows, title=title))


def _plain(annotation: Any, module: griffe.Module) -> Any:
    """An annotation without the checks of the value."""
    if isinstance(annotation, griffe.ExprBinOp):
        left, right = _plain(annotation.left, module), _plain(annotation.right, module)
        return griffe.ExprBinOp(left, annotation.operator, right)
    if isinstance(annotation, griffe.ExprName):
        named = _find(annotation.name, module)
        if isinstance(named, griffe.ExprCall) and annotation.name.startswith("_"):  # a type parameter of a record
            given = {one.name: one.value for one in named.arguments if isinstance(one, griffe.ExprKeyword)}
            return given.get("default", annotation)
        return _plain(named, module) if str(named).startswith(("Annotated[", "Literal[")) else annotation
    if isinstance(annotation, griffe.ExprSubscript) and str(annotation.left) in ("Annotated", "ClassVar"):
        inner = annotation.slice
        return _plain(inner.elements[0] if isinstance(inner, griffe.ExprTuple) else inner, module)
    return annotation


def _spelled(annotation: Any, module: griffe.Module) -> Any:
    """An annotation with what stands behind our own short names for types, which nobody outside knows."""
    if isinstance(annotation, griffe.ExprBinOp):
        left, right = _spelled(annotation.left, module), _spelled(annotation.right, module)
        return griffe.ExprBinOp(left, annotation.operator, right)
    if isinstance(annotation, griffe.ExprTuple):
        return griffe.ExprTuple([_spelled(one, module) for one in annotation.elements], implicit=annotation.implicit)
    if isinstance(annotation, griffe.ExprSubscript):
        left = (
            str(annotation.left).removeprefix("builtins.") if "builtins." in str(annotation.left) else annotation.left
        )
        return griffe.ExprSubscript(left, _spelled(annotation.slice, module))
    if isinstance(annotation, griffe.ExprName):
        named = _find(annotation.name, module)
        return named if isinstance(named, griffe.ExprBinOp | griffe.ExprSubscript) else annotation
    return annotation


def _literal(value: Any) -> str | None:
    """A number or a text as it is written; None for anything else."""
    return value if isinstance(value, str) else None


def _find(name: str, module: griffe.Module) -> Any:
    """The value that a module knows by this name; None where it has none."""
    try:
        found: Any = module.members[name]
        return found.value if found.is_attribute else None
    except (KeyError, griffe.AliasResolutionError, AttributeError):
        return None


def _default_of(value: Any) -> Any:
    """The default of a setting as one would write it; None where a function makes it."""
    if isinstance(value, griffe.ExprCall) and str(value.function) == "Field":
        named = {one.name: one.value for one in value.arguments if isinstance(one, griffe.ExprKeyword)}
        return named.get("default")
    return value


def _tell_code(cls: griffe.Class) -> None:
    """Say the code of an error, whether it may be repeated, and what else catches it."""
    code, retryable = (cls.members.get(name) for name in ("code", "retryable"))
    if cls.docstring is None or not isinstance(code, griffe.Attribute):
        return
    said = f"Code `{str(code.value)[1:-1]}`"
    if isinstance(retryable, griffe.Attribute) and str(retryable.value) == "True":
        said += "; retryable"
    if parents := [f"`{name}`" for name in _public_bases(cls)]:
        said += f"; caught as {' and '.join(parents)} too"
    cls.docstring.value = f"{cls.docstring.value.rstrip()}\n\n{said}."


def _public_bases(cls: griffe.Class) -> list[str]:
    by_name = {base.name: base for base in _bases_of(cls)}
    names: list[str] = []
    for base in map(str, cls.bases if cls.name != "AgentMessagingError" else ()):
        names += _public_bases(by_name[base]) if base.startswith("_") and base in by_name else [base]
    return names


def _show_call(function: griffe.Function) -> None:
    """Show a call as one makes it: constants by their values, and of several forms the types of the last one."""
    for form in (function, *(function.overloads or ())):
        is_first = True  # no argument before it may be left out
        for parameter in form.parameters:
            default = str(parameter.default)
            if is_first and parameter.name == "message" and default in FORGOTTEN:
                parameter.default = None
            elif default.startswith(("MISSING", "lambda", "(lambda")):
                parameter.default = "..."
            elif default.isupper() and (value := _literal(_find(default, function.module))) is not None:
                parameter.default = value
            parameter.annotation = _spelled(parameter.annotation, function.module)
            is_first = is_first and parameter.default is None
        form.returns = _spelled(form.returns, function.module)
    for form in function.overloads or ():
        if str(function.returns) == "Any":
            function.returns = form.returns
        for parameter in function.parameters:
            if str(parameter.annotation) == "Any" and parameter.name in form.parameters:
                parameter.annotation = form.parameters[parameter.name].annotation
