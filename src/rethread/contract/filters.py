"""Filters on the attributes of a store's files: what a search may look at.

A filter compares an attribute with a value, or combines filters. Types do not mix: a text is
never equal to a number, nor greater. A file without the attribute is found by `ne` and `nin` alone.
"""

from typing import Annotated, Final

from msgspec import Meta, Struct

from rethread.contract.vector_stores import AttributeText, WholeNumber
from rethread.errors import Invalid

MAX_DEPTH: Final = 10
MAX_COMPARISONS: Final = 100
MAX_VALUES: Final = 1_000  # of all lists together

Key = Annotated[str, Meta(max_length=64)]
Value = AttributeText | WholeNumber | float | bool
Values = Annotated[list[Value], Meta(max_length=MAX_VALUES)]


class _Part(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag_field="type"):
    """What filters are made of; `type` says which."""


class _Comparison(_Part, frozen=True):
    key: Key
    value: Value


class Eq(_Comparison, tag="eq", frozen=True):
    """The attribute has this value."""


class Ne(_Comparison, tag="ne", frozen=True):
    """The attribute has another value, or none."""


class Gt(_Comparison, tag="gt", frozen=True):
    """The attribute is greater."""


class Gte(_Comparison, tag="gte", frozen=True):
    """The attribute is greater, or the same."""


class Lt(_Comparison, tag="lt", frozen=True):
    """The attribute is less."""


class Lte(_Comparison, tag="lte", frozen=True):
    """The attribute is less, or the same."""


class In(_Part, tag="in", frozen=True):
    """The attribute has one of these values."""

    key: Key
    value: Values


class Nin(_Part, tag="nin", frozen=True):
    """The attribute has none of these values, or is not there."""

    key: Key
    value: Values


class And(_Part, tag="and", frozen=True):
    """All of them."""

    filters: list["Filter"]


class Or(_Part, tag="or", frozen=True):
    """One of them at least."""

    filters: list["Filter"]


Filter = Eq | Ne | Gt | Gte | Lt | Lte | In | Nin | And | Or


def check_filter(filter: Filter, at: str) -> None:
    """Invalid where it is nested too deep, or too large."""
    comparisons = values = 0
    waiting = [(filter, 1)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _refusal(at, f"expected filters nested at most {MAX_DEPTH} deep")
        if isinstance(part, And | Or):
            waiting += [(each, depth + 1) for each in part.filters]
            continue
        comparisons += 1
        values += len(part.value) if isinstance(part, In | Nin) else 1
        if comparisons > MAX_COMPARISONS:
            raise _refusal(at, f"expected at most {MAX_COMPARISONS} comparisons")
        if values > MAX_VALUES:
            raise _refusal(at, f"expected at most {MAX_VALUES} values")


def _refusal(at: str, expected: str) -> Invalid:
    return Invalid(f"Invalid '{at}': {expected}, but got more.", param=at, code="invalid_value")
