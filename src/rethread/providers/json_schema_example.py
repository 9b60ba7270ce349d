"""A value that fits a JSON schema, the same one every time. Pure.

For the demo model, which must fill arguments and structured answers without thinking. It knows
what schemas of tools use; `pattern`, `not`, `if`, `contains` and remote references it passes over.
A schema that asks for the impossible (endless recursion, a million items) gets a value that ends.
"""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

# Past the first depth only what is required is filled in, past the second nothing at all.
TERSE_DEPTH: Final = 5
DEEPEST: Final = 30
LARGEST_VALUE_COUNT: Final = 2_000
LONGEST_STRING: Final = 10_000

FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2024-01-01T12:00:00Z",
    "date": "2024-01-01",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "idn-email": "someone@example.com",
    "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "https://example.com/",
    "iri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "json-pointer": "/a",
    "regex": "a",
}

# Names of properties that ask for a place or a person: a capitalised word fits best.
PROPER_NAMES: Final = re.compile(
    r"city|location|place|country|town|region|name|person|user", re.IGNORECASE
)
# "New York" in "Weather in New York": not the word that begins the text, nor "I".
CAPITALISED: Final = re.compile(r"(?<=\s)[A-ZÀ-Þ][\w'-]+(?: [A-ZÀ-Þ][\w'-]+)*")
# Names of properties that ask for what was said.
WHOLE_TEXTS: Final = re.compile(
    r"query|question|text|input|message|prompt|content|search|topic", re.IGNORECASE
)

# Which keywords give away the type of a schema that doesn't name it.
TYPE_OF_KEYWORD: Final[Mapping[str, str]] = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "minProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
    "minLength": "string",
    "maxLength": "string",
    "format": "string",
    "pattern": "string",
}

# What two schemas that must both hold agree on; other keywords: the latter wins.
STRICTER: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    **dict.fromkeys(("minimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "maxLength", "maxItems", "maxProperties"), min),
    "exclusiveMinimum": max,
    "exclusiveMaximum": min,
    "required": lambda one, other: [*one, *(name for name in other if name not in one)],
    "properties": lambda one, other: {
        **one,
        **{name: merge(one.get(name, {}), schema) for name, schema in other.items()},
    },
    "enum": lambda one, other: [value for value in one if value in other],
    "allOf": lambda one, other: [*one, *other],
}

Schema = Mapping[str, Any]


def example(schema: Any, *, text: str = "") -> Any:
    """A value that fits `schema`; words of `text` fill strings and choose among an enum."""
    return _Builder(schema, text).value(schema, "", 0, 0)


def merge(one: Any, other: Any) -> Any:
    """One schema that asks for what both ask."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return other if isinstance(other, Mapping) or one is True else one
    merged = dict(one)
    for keyword, asked in other.items():
        stricter = STRICTER.get(keyword)
        is_shared = stricter is not None and keyword in merged
        merged[keyword] = stricter(merged[keyword], asked) if stricter and is_shared else asked
    return merged


class _Builder:
    """Builds one value; holds the root for `$ref`, the text for hints, and the count of values."""

    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text.strip()
        self._count = 0

    def value(self, schema: Any, name: str, depth: int, ordinal: int) -> Any:
        """A value for the property `name`; `ordinal` tells the items of one array apart."""
        self._count += 1
        if depth > DEEPEST or self._count > LARGEST_VALUE_COUNT or schema is False:
            return None
        asked = self._flat(schema if isinstance(schema, Mapping) else {}, depth)
        if "const" in asked:
            return asked["const"]
        for preferred in ([asked["default"]] if "default" in asked else [], asked.get("examples")):
            if preferred and ordinal < len(preferred):
                return preferred[ordinal]
        if asked.get("enum"):
            return self._chosen(asked["enum"], ordinal)
        return self._typed(asked, name, depth, ordinal)

    def _typed(self, asked: Schema, name: str, depth: int, ordinal: int) -> Any:
        match _type(asked):
            case "object":
                return self._object(asked, depth, ordinal)
            case "array":
                return self._array(asked, name, depth)
            case "integer":
                return int(_number(asked, ordinal, is_whole=True))
            case "number":
                number = _number(asked, ordinal, is_whole=False)
                return int(number) if number.denominator == 1 else float(number)
            case "boolean":
                return ordinal % 2 == 0
            case "null":
                return None
            case _:
                return self._string(asked, name, ordinal)

    def _flat(self, schema: Schema, depth: int) -> Schema:
        """The schema without references and combinations: one choice among them is made."""
        for _ in range(DEEPEST):
            self._count += 1
            if depth > DEEPEST or self._count > LARGEST_VALUE_COUNT:
                return {}
            if "$ref" in schema:
                rest = {key: asked for key, asked in schema.items() if key != "$ref"}
                target = _resolved(self._root, schema["$ref"])
                schema = merge(target if isinstance(target, Mapping) else {}, rest)
            elif schema.get("allOf"):
                rest = {key: asked for key, asked in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    # Resolved before merged, or two references would overwrite each other.
                    rest = merge(rest, self._flat(part, depth + 1) if _is_open(part) else part)
                schema = rest
            elif schema.get("anyOf") or schema.get("oneOf"):
                key = "anyOf" if schema.get("anyOf") else "oneOf"
                rest = {other: asked for other, asked in schema.items() if other != key}
                schema = merge(rest, _option(schema[key], is_terse=depth > TERSE_DEPTH))
            else:
                break
        return schema

    def _object(self, asked: Schema, depth: int, ordinal: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = asked.get("properties") or {}
        required = [name for name in asked.get("required") or [] if name not in properties]
        names = [*properties, *required]
        if depth > TERSE_DEPTH or len(names) > asked.get("maxProperties", math.inf):
            names = [name for name in names if name in (asked.get("required") or [])]
        filled = {
            name: self.value(properties.get(name, {}), name, depth + 1, ordinal)
            for name in names
            if properties.get(name) is not False
        }
        extra = asked.get("additionalProperties", {})
        while len(filled) < asked.get("minProperties", 0) and self._count <= LARGEST_VALUE_COUNT:
            filled[f"property_{len(filled) + 1}"] = self.value(extra, "", depth + 1, 0)
        return filled

    def _array(self, asked: Schema, name: str, depth: int) -> list[Any]:
        places = asked.get("prefixItems") or []
        wanted = 0 if depth > TERSE_DEPTH else max(1, len(places))
        length = min(max(asked.get("minItems", 0), wanted), asked.get("maxItems", math.inf))
        items = asked.get("items", {})
        if items is False:
            length = min(length, len(places))
        made: list[Any] = []
        while len(made) < length and self._count <= LARGEST_VALUE_COUNT:
            ordinal = len(made)
            place = places[ordinal] if ordinal < len(places) else items
            made.append(self.value(place, name, depth + 1, ordinal))
        return made

    def _chosen(self, values: list[Any], ordinal: int) -> Any:
        """The value that the text names, else the first; for later items of an array the next."""
        said = {word.casefold() for word in re.findall(r"\w+", self._text)}
        named = [v for v in values if isinstance(v, str) and v.casefold() in said]
        ordered = [*named, *(value for value in values if value not in named)]
        return ordered[ordinal % len(ordered)]

    def _string(self, asked: Schema, name: str, ordinal: int) -> str:
        made = FORMATS.get(asked.get("format", ""))
        if made is None:
            made = f"{self._hint(name)} {ordinal + 1}" if ordinal else self._hint(name)
        shortest = min(asked.get("minLength", 0), LONGEST_STRING)
        made = made.ljust(shortest, "x")
        return made[: asked.get("maxLength", LONGEST_STRING)]

    def _hint(self, name: str) -> str:
        """Words of the text that a property called `name` may be after."""
        if PROPER_NAMES.search(name):
            capitalised = CAPITALISED.search(self._text)
            return capitalised[0] if capitalised else "Springfield"
        if WHOLE_TEXTS.search(name) and self._text:
            return self._text[:LONGEST_STRING]
        return f"example {name}".strip()


def _is_open(schema: Any) -> bool:
    return isinstance(schema, Mapping) and not schema.keys().isdisjoint(
        {"$ref", "allOf", "anyOf", "oneOf"}
    )


def _type(asked: Schema) -> str | None:
    """The type to make; None where anything goes."""
    types = asked.get("type")
    if isinstance(types, str):
        return types
    if types:
        return next((str(type) for type in types if type != "null"), "null")
    return next((type for key, type in TYPE_OF_KEYWORD.items() if key in asked), None)


def _option(options: list[Any], *, is_terse: bool) -> Any:
    """The first option that isn't null; deep inside the one that ends soonest."""
    nulls = [one for one in options if isinstance(one, Mapping) and one.get("type") == "null"]
    others = [one for one in options if one not in nulls]
    ends = [one for one in others if not _is_open(one)]
    ordered = [*nulls, *ends, *others] if is_terse else [*others, *nulls]
    return ordered[0]


def _resolved(root: Any, reference: str) -> Any:
    """What a local reference points at; None for any other."""
    place: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
            place = place[int(key)]
        else:
            place = place.get(key) if isinstance(place, Mapping) else None
    return place if reference.startswith("#") else None


def _number(asked: Schema, ordinal: int, *, is_whole: bool) -> Fraction:
    """The number in the range that is nearest to 1; for later items of an array the next ones."""
    lowest, excludes_lowest = _bound(asked, "minimum", "exclusiveMinimum", max)
    highest, excludes_highest = _bound(asked, "maximum", "exclusiveMaximum", min)
    step = _fraction(asked.get("multipleOf") or 1)
    is_free = not is_whole and "multipleOf" not in asked
    if is_free and lowest is not None and highest is not None and highest - lowest <= 2:
        return (lowest + highest) / 2
    if is_whole:
        # The whole multiples of 5/2 are those of 5.
        step = Fraction(step.numerator)
    number = step * math.ceil(1 / step)
    if highest is not None and number >= highest:
        number = step * math.floor(highest / step)
        number -= step if number == highest and excludes_highest else 0
    if lowest is not None and number <= lowest:
        number = step * math.ceil(lowest / step)
        number += step if number == lowest and excludes_lowest else 0
    following = number + step * ordinal
    return number if highest is not None and following >= highest else following


def _bound(
    asked: Schema, inclusive: str, exclusive: str, stricter: Callable[..., Fraction]
) -> tuple[Fraction | None, bool]:
    """A range's end, and whether it is outside; draft 4 says the latter with a boolean."""
    end = asked.get(inclusive)
    outside = asked.get(exclusive)
    if isinstance(outside, bool):
        return (None if end is None else _fraction(end)), outside
    ends = [_fraction(number) for number in (end, outside) if number is not None]
    if not ends:
        return None, False
    strictest = stricter(ends)
    return strictest, outside is not None and _fraction(outside) == strictest


def _fraction(number: float) -> Fraction:
    """Exactly the digits that stand in the schema: 0.1 is a tenth."""
    return Fraction(str(number))
