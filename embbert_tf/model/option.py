"""A documented and checked field of an options dataclass.

An option is said once: its name, type, default, bounds and meaning are a field of a frozen
dataclass. The constructor checks it, `help()` shows it, and commands make their flags from it
(`embbert_tf.cli`).
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

from embbert_tf import errors


def option(
    default: Any,
    meaning: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[Any] | None = None,
) -> Any:
    """Returns a dataclass field.

    Args:
        default: Value where none is given.
        meaning: One or two sentences; the help text of the flag, too.
        minimum: Least number allowed.
        maximum: Greatest number allowed.
        choices: The values allowed.
    """
    return dataclasses.field(
        default=default,
        metadata={"meaning": meaning, "minimum": minimum, "maximum": maximum, "choices": choices},
    )


def documented(options_class: type) -> type:
    """Adds the meaning of each field to the docstring of an options dataclass."""
    lines = [
        f"    {field.name}: {field.metadata['meaning']} Default: {field.default!r}."
        for field in dataclasses.fields(options_class)
    ]
    text = (options_class.__doc__ or "").rstrip()
    options_class.__doc__ = "\n".join([text, "", "Attributes:", *lines])
    return options_class


def plain_type(field: dataclasses.Field) -> Any:
    """Returns the type of a field without the `None` that it may allow."""
    if isinstance(field.type, types.UnionType):
        return next(t for t in typing.get_args(field.type) if t is not types.NoneType)
    return typing.get_origin(field.type) or field.type


def check(options: Any) -> None:
    """Holds every field of an options dataclass against its type and bounds.

    Raises:
        OptionError: A value is of another type, out of bounds or not among the choices.
    """
    for field in dataclasses.fields(options):
        value, kind, limits = getattr(options, field.name), plain_type(field), field.metadata
        if value is None and isinstance(field.type, types.UnionType):
            continue
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise errors.OptionError(f"{field.name} must be of type {kind.__name__}, not {value!r}")
        if limits["choices"] is not None and value not in limits["choices"]:
            allowed = ", ".join(map(str, limits["choices"]))
            raise errors.OptionError(f"{field.name} must be one of {allowed}, not {value!r}")
        # Written so that NaN, which compares with nothing, is refused too.
        if limits["minimum"] is not None and not value >= limits["minimum"]:
            raise errors.OptionError(
                f"{field.name} must be at least {limits['minimum']}, not {value!r}"
            )
        if limits["maximum"] is not None and not value <= limits["maximum"]:
            raise errors.OptionError(
                f"{field.name} must be at most {limits['maximum']}, not {value!r}"
            )
