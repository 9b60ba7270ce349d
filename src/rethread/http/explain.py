"""Says in OpenAI's words why a body does not fit its type. Only asked when it does not fit.

Walks the type and the value side by side. The order is OpenAI's: what is missing first, then
what is unknown, then what is wrong, in the order of the fields.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal, get_args, get_origin

from msgspec import inspect, structs

from rethread.errors import Invalid, shortened

NAMES: Final = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
EXPECTED: Final = {
    inspect.StrType: "a string",
    inspect.IntType: "an integer",
    inspect.FloatType: "a decimal",
    inspect.BoolType: "a boolean",
    inspect.ListType: "an array",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
    inspect.LiteralType: "a string",
}


def explain(value: Any, wanted: Any) -> Invalid | None:
    """Why a decoded value is not one of the wanted type; None if it seems to be one."""
    return _check(value, _described(wanted), "")


def without_unknown(value: Any, wanted: Any) -> Any:
    """The value without the fields that the type does not know."""
    return _pruned(value, _described(wanted))


@cache
def _described(wanted: Any) -> inspect.Type:
    """The type for walking, its literals in the order in which they are declared.

    `inspect` sorts them, but clients know "'user' and 'assistant'".
    """
    described = inspect.type_info(wanted)
    waiting, seen = [described], set[Any]()
    while waiting:
        kind = waiting.pop()
        match kind:
            case inspect.StructType(cls=cls) if cls not in seen:
                seen.add(cls)
                declared = {field.name: field.type for field in structs.fields(cls)}
                for field in kind.fields:
                    field.type = _bare(field.type)
                    orders = {
                        frozenset(values): values for values in _literals(declared[field.name])
                    }
                    waiting += _put_in_order(field.type, orders)
            case _:
                waiting += _members(kind)
    return described


def _put_in_order(
    kind: inspect.Type, orders: Mapping[frozenset[Any], tuple[Any, ...]]
) -> list[inspect.Type]:
    """Order the literals of a field's type; the Structs in it are left to be walked."""
    left: list[inspect.Type] = []
    waiting = [kind]
    while waiting:
        member = waiting.pop()
        if isinstance(member, inspect.StructType):
            left.append(member)
        elif isinstance(member, inspect.LiteralType):
            member.values = orders[frozenset(member.values)]
        waiting += _members(member)
    return left


def _members(kind: inspect.Type) -> Sequence[inspect.Type]:
    """What a type is made of, rid of the notes for the OpenAPI document around it."""
    match kind:
        case inspect.UnionType():
            kind.types = tuple(_bare(member) for member in kind.types)
            return kind.types
        case inspect.ListType():
            kind.item_type = _bare(kind.item_type)
            return [kind.item_type]
        case inspect.DictType():
            kind.value_type = _bare(kind.value_type)
            return [kind.value_type]
        case _:
            return []


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _literals(annotation: Any) -> Iterator[tuple[Any, ...]]:
    if get_origin(annotation) is Literal:
        yield get_args(annotation)
        return
    for member in get_args(annotation):
        yield from _literals(member)


def _check(value: Any, kind: inspect.Type, at: str) -> Invalid | None:
    match kind:
        case inspect.UnionType():
            return _check_union(value, kind, at)
        case inspect.StructType():
            return _check_struct(value, kind, at)
        case inspect.DictType():
            return _check_dict(value, kind, at)
        case inspect.ListType():
            return _check_list(value, kind, at)
        case inspect.LiteralType():
            return _check_literal(value, kind.values, at)
        case inspect.StrType():
            return _check_string(value, kind, at)
        case inspect.IntType() | inspect.FloatType():
            return _check_number(value, kind, at)
        case inspect.BoolType():
            return None if isinstance(value, bool) else _wrong_type(value, [kind], at)
        case _:
            return None


def _check_struct(value: Any, kind: inspect.StructType, at: str) -> Invalid | None:
    if not isinstance(value, dict):
        return _wrong_type(value, [kind], at)
    for field in kind.fields:
        if field.required and value.get(field.encode_name) is None:
            return _missing(_join(at, field.encode_name))
    known = {field.encode_name: field.type for field in kind.fields}
    for name in value:
        if name not in known and name != kind.tag_field:
            path = _join(at, name)
            return Invalid(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")
    for name, wanted in known.items():
        if value.get(name) is not None and (fault := _check(value[name], wanted, _join(at, name))):
            return fault
    return None


def _check_union(value: Any, kind: inspect.UnionType, at: str) -> Invalid | None:
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    tagged = [member for member in members if isinstance(member, inspect.StructType)]
    if value is None and len(members) < len(kind.types):
        return None
    if isinstance(value, dict) and tagged and tagged[0].tag_field:
        return _check_tagged(value, tagged, at)
    if isinstance(value, str):
        literals = [member for member in members if isinstance(member, inspect.LiteralType)]
        if literals:
            return _check_literal(value, literals[0].values, at)
    fitting = [member for member in members if _is_kind(value, member)]
    if not fitting:
        return _wrong_type(value, members, at)
    return _check(value, fitting[0], at)


def _check_tagged(
    value: dict[str, Any], tagged: Sequence[inspect.StructType], at: str
) -> Invalid | None:
    tag_field = str(tagged[0].tag_field)
    tag = value.get(tag_field)
    path = _join(at, tag_field)
    if tag is None:
        return _missing(path)
    if not isinstance(tag, str):
        return _wrong_type(tag, [inspect.StrType()], path)
    for struct in tagged:
        if struct.tag == tag:
            return _check_struct(value, struct, at)
    return _check_literal(tag, tuple(str(struct.tag) for struct in tagged), path)


def _check_dict(value: Any, kind: inspect.DictType, at: str) -> Invalid | None:
    if not isinstance(value, dict):
        return _wrong_type(value, [kind], at)
    if kind.max_length is not None and len(value) > kind.max_length:
        return Invalid(
            f"Invalid '{at}': too many properties. Expected an object with at most "
            f"{kind.max_length} properties, but got an object with {len(value)} properties "
            "instead.",
            param=at,
            code="object_above_max_properties",
        )
    longest = kind.key_type.max_length if isinstance(kind.key_type, inspect.StrType) else None
    for key, member in value.items():
        if longest is not None and len(key) > longest:
            return Invalid(
                f"Invalid property name in '{at}': '{key[:3]}...{key[-3:]}' is too long. Expected "
                f"a string with maximum length {longest}, but got a string with length "
                f"{len(key)} instead.",
                param=_join(at, key),
                code="property_name_above_max_length",
            )
        if fault := _check(member, kind.value_type, _join(at, key)):
            return fault
    return None


def _check_list(value: Any, kind: inspect.ListType, at: str) -> Invalid | None:
    if not isinstance(value, list):
        return _wrong_type(value, [kind], at)
    if kind.min_length is not None and len(value) < kind.min_length:
        return Invalid(
            f"Invalid '{at}': empty array. Expected an array with minimum length "
            f"{kind.min_length}, but got an empty array instead.",
            param=at,
            code="empty_array",
        )
    if kind.max_length is not None and len(value) > kind.max_length:
        return Invalid(
            f"Invalid '{at}': array too long. Expected an array with maximum length "
            f"{kind.max_length}, but got an array with length {len(value)} instead.",
            param=at,
            code="array_above_max_length",
        )
    for index, member in enumerate(value):
        if fault := _check(member, kind.item_type, f"{at}[{index}]"):
            return fault
    return None


def _check_literal(value: Any, allowed: Sequence[Any], at: str) -> Invalid | None:
    if not isinstance(value, str):
        return _wrong_type(value, [inspect.StrType()], at)
    if value in allowed:
        return None
    return Invalid(
        f"Invalid value: '{shortened(value)}'. Supported values are: {listed(allowed)}.",
        param=at,
        code="invalid_value",
    )


def _check_string(value: Any, kind: inspect.StrType, at: str) -> Invalid | None:
    if not isinstance(value, str):
        return _wrong_type(value, [kind], at)
    if kind.max_length is not None and len(value) > kind.max_length:
        return Invalid(
            f"Invalid '{at}': string too long. Expected a string with maximum length "
            f"{kind.max_length}, but got a string with length {len(value)} instead.",
            param=at,
            code="string_above_max_length",
        )
    if kind.min_length is not None and len(value) < kind.min_length:
        return Invalid(
            f"Invalid '{at}': empty string. Expected a string with minimum length "
            f"{kind.min_length}, but got an empty string instead.",
            param=at,
            code="empty_string",
        )
    if kind.pattern is not None and not re.search(kind.pattern, value):
        return Invalid(
            f"Invalid '{at}': string does not match pattern. Expected a string that matches the "
            "pattern '" + kind.pattern.replace(r"\Z", "$") + "'.",
            param=at,
            code="invalid_value",
        )
    return None


def _check_number(value: Any, kind: inspect.IntType | inspect.FloatType, at: str) -> Invalid | None:
    whole = isinstance(kind, inspect.IntType)
    if not _is_kind(value, kind):
        return _wrong_type(value, [kind], at)
    word = "integer" if whole else "decimal"
    shape = "d" if whole else "g"
    if kind.ge is not None and value < kind.ge:
        return Invalid(
            f"Invalid '{at}': {word} below minimum value. Expected a value >= "
            f"{kind.ge:{shape}}, but got {value} instead.",
            param=at,
            code=f"{word}_below_min_value",
        )
    if kind.le is not None and value > kind.le:
        return Invalid(
            f"Invalid '{at}': {word} above maximum value. Expected a value <= "
            f"{kind.le:{shape}}, but got {value} instead.",
            param=at,
            code=f"{word}_above_max_value",
        )
    return None


def listed(allowed: Sequence[Any]) -> str:
    """Values as OpenAI lists them: 'a' and 'b', or 'a', 'b', and 'c'."""
    quoted = [f"'{value}'" for value in allowed]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def _is_kind(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.IntType):
        is_whole_float = isinstance(value, float) and value.is_integer()
        return (isinstance(value, int) and not isinstance(value, bool)) or is_whole_float
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return NAMES.get(type(value)) == EXPECTED.get(type(kind))


def _member_of(kind: inspect.ListType) -> str | None:
    """What an array is one of; None where that is one of several things."""
    item = kind.item_type
    members = item.types if isinstance(item, inspect.UnionType) else [item]
    names = {EXPECTED.get(type(member), "an object") for member in members}
    return names.pop() if len(names) == 1 else None


def _wrong_type(value: Any, kinds: Sequence[inspect.Type], at: str) -> Invalid:
    expected: list[str] = []
    for kind in kinds:
        name = EXPECTED.get(type(kind), "another type")
        if isinstance(kind, inspect.ListType) and (member := _member_of(kind)):
            name += f" of {member.split(' ', 1)[1]}s"
        if name not in expected:
            expected.append(name)
    # OpenAI puts the article before the first one only.
    others = [name.split(" ", 1)[1] for name in expected[1:]]
    words = " or ".join([expected[0], *others])
    prefix = "one of " if others else ""
    got = NAMES.get(type(value), "another type")
    where = f" for '{at}'" if at else ""
    return Invalid(
        f"Invalid type{where}: expected {prefix}{words}, but got {got} instead.",
        param=at or None,
        code="invalid_type",
    )


def _missing(path: str) -> Invalid:
    return Invalid(
        f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter"
    )


def _join(at: str, name: str) -> str:
    name = shortened(name)  # an unknown one is of whatever length its client likes
    return f"{at}.{name}" if at else name


def _pruned(value: Any, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.UnionType):
        for member in kind.types:
            if isinstance(member, inspect.StructType) and isinstance(value, dict):
                if member.tag_field is None or value.get(member.tag_field) == member.tag:
                    return _pruned(value, member)
            elif isinstance(member, inspect.ListType) and isinstance(value, list):
                return _pruned(value, member)
        return value
    if isinstance(kind, inspect.ListType) and isinstance(value, list):
        return [_pruned(member, kind.item_type) for member in value]
    if isinstance(kind, inspect.StructType) and isinstance(value, dict):
        known = {field.encode_name: field.type for field in kind.fields}
        return {
            name: _pruned(member, known[name]) if name in known else member
            for name, member in value.items()
            if name in known or name == kind.tag_field
        }
    return value
