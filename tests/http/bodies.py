"""Bodies made from a request's type: a right one, and those that differ from it in one place."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from msgspec import inspect

Verdict = Literal["right", "wrong"]

JSON_VALUES: Final[Mapping[str, Any]] = {
    "string": "no such",
    "integer": 5,
    "decimal": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
}
FITS: Final[Mapping[type[inspect.Type], frozenset[str]]] = {
    inspect.StrType: frozenset({"string"}),
    inspect.LiteralType: frozenset(),
    inspect.IntType: frozenset({"integer"}),
    inspect.FloatType: frozenset({"integer", "decimal"}),
    inspect.BoolType: frozenset({"boolean"}),
    inspect.ListType: frozenset({"array"}),
    inspect.DictType: frozenset({"object"}),
    inspect.StructType: frozenset({"object"}),
    inspect.AnyType: frozenset(JSON_VALUES),
    inspect.NoneType: frozenset(),
}
# Texts that have to be more than text.
TEXTS: Final[Mapping[str, str]] = {
    "assistant_id": "asst_1",
    "file_id": "file-1",
    "file_ids": "file-1",
    "vector_store_ids": "vs_1",
    "url": "https://example.com/cat.png",
}


_within_these: list[type] = []


class Variant(NamedTuple):
    """A value, where it differs from the smallest right one, and whether it still is one."""

    at: str
    value: Any
    verdict: Verdict


def right(kind: inspect.Type, name: str = "") -> Any:
    """The smallest value that fits."""
    match kind:
        case inspect.Metadata(type=bare):
            return right(bare, name)
        case inspect.StructType():
            fields = {
                field.encode_name: right(field.type, field.encode_name)
                for field in kind.fields
                if field.required
            }
            return fields if kind.tag_field is None else {kind.tag_field: kind.tag, **fields}
        case inspect.UnionType(types=members):
            return right(
                next(each for each in members if not isinstance(each, inspect.NoneType)), name
            )
        case inspect.ListType():
            return [right(kind.item_type, name)] * (kind.min_length or 0)
        case inspect.DictType():
            return {}
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.IntType() | inspect.FloatType():
            return kind.ge if kind.ge is not None else 1
        case inspect.BoolType():
            return False
        case _:
            return TEXTS.get(name, "x")


def variants(kind: inspect.Type, name: str = "") -> Iterator[Variant]:
    """Every type that it must not have, its limits and one past them, and the same within it."""
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    fits = _fits(kind)
    for shape, value in JSON_VALUES.items():
        if shape not in fits:
            yield Variant("", value, "wrong")
    yield from _within(kind, name)


def _fits(kind: inspect.Type) -> frozenset[str]:
    if isinstance(kind, inspect.UnionType):
        return frozenset().union(*(FITS[type(member)] for member in kind.types))
    return FITS[type(kind)]


def _within(kind: inspect.Type, name: str) -> Iterator[Variant]:
    match kind:
        case inspect.UnionType(types=members):
            for member in members:
                if isinstance(member, inspect.NoneType):
                    yield Variant("", None, "right")
                else:
                    yield from _within(member, name)
        case inspect.StructType():
            yield from _of_struct(kind)
        case inspect.ListType():
            yield from _of_list(kind, name)
        case inspect.DictType() if isinstance(kind.value_type, inspect.StrType):
            yield from _of_map(kind)
        case inspect.StrType():
            yield from _of_text(kind)
        case inspect.IntType() | inspect.FloatType():
            yield from _of_number(kind)
        case inspect.LiteralType(values=values):
            for value in values:
                yield Variant("", value, "right")


def _of_struct(kind: inspect.StructType) -> Iterator[Variant]:
    if kind.cls in _within_these:
        return  # it may hold itself; the outer one is looked at
    _within_these.append(kind.cls)
    try:
        yield from _of_new_struct(kind)
    finally:
        _within_these.pop()


def _of_new_struct(kind: inspect.StructType) -> Iterator[Variant]:
    whole = right(kind)
    yield Variant("", whole, "right")
    yield Variant("foo", {**whole, "foo": 1}, "wrong")
    if kind.tag_field is not None:
        rest = {name: value for name, value in whole.items() if name != kind.tag_field}
        yield Variant(kind.tag_field, rest, "wrong")
        others: list[Any] = ["no such", 5, None, []]
        for other in others:
            yield Variant(kind.tag_field, {**whole, kind.tag_field: other}, "wrong")
    for field in kind.fields:
        name = field.encode_name
        if field.required:
            rest = {each: value for each, value in whole.items() if each != name}
            yield Variant(name, rest, "wrong")
            yield Variant(name, {**whole, name: None}, "wrong")
        for at, value, verdict in variants(field.type, name):
            dot = "." if at and not at.startswith("[") else ""
            yield Variant(f"{name}{dot}{at}", {**whole, name: value}, verdict)


def _of_list(kind: inspect.ListType, name: str) -> Iterator[Variant]:
    member = right(kind.item_type, name)
    if kind.max_length is not None:
        yield Variant("", [member] * kind.max_length, "right")
        yield Variant("", [member] * (kind.max_length + 1), "wrong")
    if kind.min_length:
        yield Variant("", [member] * (kind.min_length - 1), "wrong")
    yield Variant("[0]", [None], "wrong")
    for at, value, verdict in variants(kind.item_type, name):
        dot = "." if at and not at.startswith("[") else ""
        yield Variant(f"[0]{dot}{at}", [value], verdict)


def _of_map(kind: inspect.DictType) -> Iterator[Variant]:
    longest = kind.key_type.max_length if isinstance(kind.key_type, inspect.StrType) else None
    if kind.max_length is not None:
        yield Variant("", {str(n): "" for n in range(kind.max_length)}, "right")
        yield Variant("", {str(n): "" for n in range(kind.max_length + 1)}, "wrong")
    if longest is not None:
        yield Variant("", {"k" * longest: ""}, "right")
        yield Variant("k" * (longest + 1), {"k" * (longest + 1): ""}, "wrong")
    yield Variant("k", {"k": None}, "wrong")
    for at, value, verdict in variants(kind.value_type):
        yield Variant(f"k{at}", {"k": value}, verdict)


def _of_text(kind: inspect.StrType) -> Iterator[Variant]:
    if kind.max_length is not None:
        yield Variant("", "x" * kind.max_length, "right")
        yield Variant("", "x" * (kind.max_length + 1), "wrong")
    if kind.min_length:
        yield Variant("", "x" * (kind.min_length - 1), "wrong")
    if kind.pattern is not None:
        for text in ("", "a b", "a\n", "é"):
            yield Variant("", text, "wrong")


def _of_number(kind: inspect.IntType | inspect.FloatType) -> Iterator[Variant]:
    step = 1 if isinstance(kind, inspect.IntType) else 0.0001
    for limit, past in ((kind.ge, -step), (kind.le, step)):
        if limit is not None:
            yield Variant("", limit, "right")
            yield Variant("", float(limit), "right")
            yield Variant("", limit + past, "wrong")
