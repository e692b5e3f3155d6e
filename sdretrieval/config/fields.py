"""How a config field is declared: `identity` (it changes the result) or `cost` (it changes only speed or memory).

The store's keys are made from identity fields alone, so that a new scoring batch size never repeats finished work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic.fields import FieldInfo

NUMBER_TEXT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
Kind = Literal["identity", "cost"]
# Every number has a bound: 1e300 epochs never end, and 1e300 times anything is infinite.
MOST, MOST_TEXTS, MOST_WEIGHT = 1_000_000, 1_000_000_000, 1000.0


class Section(BaseModel):
    """Base of every section: frozen, no unknown keys, no silent conversion ("16" is not a whole number)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def identity(description: str, default: Any = ..., *, expects: str | None = None, **limits: Any) -> Any:
    """Declare a field that changes the result, and so the key of every artifact made with it.

    `expects` replaces the text "expected ..." of error messages; `limits` go to `pydantic.Field` (ge, gt, pattern ...).
    """
    return _field("identity", description, default, expects, limits)


def cost(description: str, default: Any = ..., *, expects: str | None = None, **limits: Any) -> Any:
    """Declare a field that changes only speed, memory, safety or what is told of a run: it invalidates no artifact."""
    return _field("cost", description, default, expects, limits)


def _field(kind: Kind, description: str, default: Any, expects: str | None, limits: dict[str, Any]) -> Any:
    return Field(default, description=description, json_schema_extra={"kind": kind, "expects": expects}, **limits)


def kind_of(field: FieldInfo) -> str | None:
    """`identity` or `cost`; None if the field was declared without saying which."""
    extra = field.json_schema_extra
    kind = extra.get("kind") if isinstance(extra, dict) else None
    return kind if isinstance(kind, str) else None


def identity_fields(section: BaseModel, *, without: Collection[str] = ()) -> dict[str, Any]:
    """The identity part of a section as JSON-able data, sections inside it included.

    `without` leaves out fields of these names at every depth: scoring leaves out `weight`, which only mixing uses.
    """
    return {
        name: _plain(getattr(section, name), without)
        for name, field in type(section).model_fields.items()
        if kind_of(field) == "identity" and name not in without
    }


def _plain(value: Any, without: Collection[str]) -> Any:
    if isinstance(value, BaseModel):
        return identity_fields(value, without=without)
    if isinstance(value, (list, tuple)):
        return [_plain(item, without) for item in value]
    return value


def _number(value: Any) -> Any:
    """Text that spells a number becomes that number: YAML 1.1 reads `2e-5` (no dot) as text."""
    return float(value) if isinstance(value, str) and NUMBER_TEXT.fullmatch(value.strip()) else value


def auto_or(accepts: Callable[[float], bool], expected: str, *words: str) -> PlainValidator:
    """Validator of a field that is `auto`, one of the other `words`, or a number for which `accepts` holds."""

    def check(value: Any) -> float | str:
        value = _number(value)
        if value == "auto" or (isinstance(value, str) and value in words):
            return str(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not accepts(value):
            raise ValueError(expected)
        try:
            return float(value)
        except OverflowError:  # a whole number of hundreds of digits
            raise ValueError(expected) from None

    return PlainValidator(check, json_schema_input_type=float | str if words else float | Literal["auto"])


Number = Annotated[float, BeforeValidator(_number)]
"""A float that may also be written as YAML 1.1 misreads it."""
