"""Decoding: stored JSON becomes objects."""

from __future__ import annotations

import sys
import threading
from typing import Any, get_origin

import typing_extensions
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import from_json

from ..exceptions import InvalidArgumentError, PayloadError
from .annotations import MISSING, Late, is_plain, modernize
from .wording import name_of, problems_of


class Decoder:
    """Makes objects of stored JSON: fresh ones each time, of the type that an annotation asks for.

    Keeps what pydantic builds for an annotation, which takes a hundred times as long as using it.
    """

    def __init__(self, size: int = 512) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.adapters: dict[object, tuple[Any, TypeAdapter[Any]]] = {}

    def decode(
        self, content: str | bytes, annotation: Any = MISSING, *, field: str = "message", strict: bool | None = None
    ) -> Any:
        """Return the object that the annotation asks for; plain JSON values for Any, object, a type variable or none.

        Args:
            content: JSON text.
            annotation: The type that is asked for.
            field: Where the payload stands, for the error.
            strict: True converts nothing that JSON could have said itself; None does as the type says.

        What a validator of the user raises beside ValueError and AssertionError is passed on.

        Raises:
            PayloadError: The payload does not fit; the reason has the place of each problem, and no value.
            InvalidArgumentError: Pydantic cannot make objects of such an annotation.
        """
        if isinstance(annotation, Late):
            annotation = annotation.resolve()
        if annotation is MISSING or is_plain(annotation):
            try:
                return from_json(content)
            except ValueError:
                raise PayloadError(field=field, reason="is not JSON that can be read.") from None
        # By name too, because that is how it was written, whatever the aliases are.
        try:
            return self.adapter(annotation).validator.validate_json(content, strict=strict, by_alias=True, by_name=True)
        except ValidationError as error:
            raise _misfit(error, annotation, field) from None
        except PydanticUserError as error:
            raise _unusable(annotation) from error

    def convert(self, values: dict[str, Any], annotation: Any, *, field: str) -> Any:
        """Return what the annotation asks for, made of values that were decoded before; these, if they are of its type.

        Raises:
            PayloadError, InvalidArgumentError: As `decode`.
        """
        if isinstance(annotation, Late):
            annotation = annotation.resolve()
        kind = get_origin(annotation) or annotation
        is_class = isinstance(kind, type) and not typing_extensions.is_typeddict(kind)
        if is_plain(annotation) or (is_class and isinstance(values, kind)):
            return values
        try:
            return self.adapter(annotation).validator.validate_python(values, by_alias=True, by_name=True)
        except ValidationError as error:
            raise _misfit(error, annotation, field) from None
        except PydanticUserError as error:
            raise _unusable(annotation) from error

    def check(self, annotation: Any, *, field: str) -> None:
        """Refuse an annotation of which no objects can be made, before anything is done whose result it would get.

        Raises:
            InvalidArgumentError: Pydantic cannot make objects of it.
        """
        if not is_plain(annotation):
            try:
                self.adapter(annotation).rebuild(raise_errors=True)  # does nothing unless a name in it is unknown
            except (InvalidArgumentError, PydanticUserError, PydanticUndefinedAnnotation) as error:
                raise _unusable(annotation, field) from error

    def adapter(self, annotation: Any) -> TypeAdapter[Any]:
        """What pydantic builds for an annotation, kept for the next time.

        Raises:
            InvalidArgumentError: Pydantic cannot make objects of it.
        """
        # Equal annotations can differ (`A | B` equals `B | A`, but the first that fits is taken): hence their text too.
        # The annotation is kept with its adapter, so that an id is not given to another object meanwhile.
        try:
            key: object = annotation if isinstance(annotation, type) else (annotation, repr(annotation))
            found = self.adapters.get(key)
        except TypeError:
            key = id(annotation)
            found = self.adapters.get(key)
        if found is None:
            found = (annotation, _build(annotation))
            with self.lock:
                if len(self.adapters) >= self.size:
                    del self.adapters[next(iter(self.adapters))]
                self.adapters[key] = found
        return found[1]


def _build(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(modernize(annotation) if sys.version_info < (3, 12) else annotation)
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, SyntaxError) as error:
        raise _unusable(annotation) from error


def _misfit(error: ValidationError, annotation: Any, field: str) -> PayloadError:
    return PayloadError(field=field, reason=f"does not fit {name_of(annotation)}: {problems_of(error)}.")


def _unusable(annotation: Any, field: str = "annotation") -> InvalidArgumentError:
    return InvalidArgumentError(
        field=field,
        value=name_of(annotation),
        reason="is not a type that can be made of JSON. Use a pydantic model, dataclass, TypedDict, dict or list.",
    )
