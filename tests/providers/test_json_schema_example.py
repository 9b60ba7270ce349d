"""Values that fit a schema, checked with a real validator."""

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rethread.providers.json_schema_example import LARGEST_VALUE_COUNT, example

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "left", "children"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "string"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"type": ["null", "integer"]},
        {"type": ["null"]},
        {"const": {"a": [1]}},
        {"enum": ["red", "green"]},
        {"type": "string", "default": "d"},
        {"type": "string", "examples": ["e", "f"]},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "maximum": -5},
        {"type": "integer", "minimum": -7, "maximum": -6},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
        {"type": "integer", "minimum": 1, "exclusiveMinimum": True, "maximum": 2},
        {"type": "integer", "multipleOf": 7, "minimum": 8},
        {"type": "integer", "multipleOf": 7, "maximum": -8},
        {"type": "integer", "multipleOf": 2.5},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.1},
        {"type": "number", "multipleOf": 0.1, "minimum": 0.25},
        {"type": "number", "multipleOf": 0.25, "exclusiveMaximum": -0.25},
        {"minimum": 3},
        {"type": "string", "minLength": 40},
        {"type": "string", "maxLength": 3},
        {"minLength": 3, "maxLength": 3},
        {"type": "array"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
        {"type": "array", "items": {"type": "string"}, "maxItems": 0},
        {"type": "array", "prefixItems": [{"type": "string"}, {"const": 2}], "items": False},
        {
            "type": "array",
            "items": {"type": "object", "properties": {"n": {"type": "string"}}},
            "minItems": 2,
            "uniqueItems": True,
        },
        {"type": "object"},
        {"properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
        {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
        {
            "properties": {"a": {"const": 1}, "b": {"const": 2}},
            "required": ["b"],
            "maxProperties": 1,
        },
        {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 3}]},
        {"oneOf": [{"type": "integer"}, {"type": "string"}]},
        {
            "properties": {"kind": {"type": "string"}},
            "required": ["kind"],
            "oneOf": [
                {"properties": {"kind": {"const": "a"}, "x": {"type": "integer"}}},
                {"properties": {"kind": {"const": "b"}}},
            ],
        },
        {"allOf": [{"minimum": 3, "type": "integer"}, {"minimum": 2, "maximum": 3}]},
        {
            "$defs": {
                "a": {"properties": {"x": {"const": 1}}, "required": ["x"]},
                "b": {"properties": {"y": {"const": 2}}, "required": ["y"]},
            },
            "allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
            "unevaluatedProperties": False,
        },
        {"$defs": {"a/b": {"const": 1}}, "$ref": "#/$defs/a~1b"},
        {"$defs": {"s": {"type": "string"}}, "$ref": "#/$defs/s", "minLength": 30},
        TREE,
        {"properties": {"self": {"$ref": "#"}}},
    ],
    ids=str,
)
def test_the_value_fits_the_schema(schema: Any) -> None:
    jsonschema_rs.validator_for(_modern(schema)).validate(example(schema))


def _modern(schema: Any) -> Any:
    """Draft 4's boolean bound, which today's validator does not know, as a number."""
    if isinstance(schema, dict) and schema.get("exclusiveMinimum") is True:
        return {**schema, "exclusiveMinimum": schema["minimum"]}
    return schema


@pytest.mark.parametrize(
    "format",
    ["date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"],
)
def test_formats_are_kept(format: str) -> None:
    schema = {"type": "string", "format": format}
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(example(schema))


@given(
    low=st.integers(-50, 50),
    width=st.integers(0, 40),
    multiple=st.sampled_from([None, 1, 3, 0.5, 0.1]),
    is_exclusive=st.booleans(),
    type=st.sampled_from(["integer", "number"]),
)
def test_a_number_fits_any_range_that_is_wide_enough(
    low: int, width: int, multiple: float | None, is_exclusive: bool, type: str
) -> None:
    ends = ("exclusiveMinimum", "exclusiveMaximum") if is_exclusive else ("minimum", "maximum")
    schema: dict[str, Any] = {"type": type, ends[0]: low - 4, ends[1]: low + width}
    if multiple is not None:
        schema["multipleOf"] = multiple
    jsonschema_rs.validator_for(schema).validate(example(schema))


def test_optional_properties_are_filled_too() -> None:
    schema = {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a"]}
    assert example(schema) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("city", "What's the weather in Paris?", "Paris"),
        ("location", "Use get_weather for New York, please", "New York"),
        ("city", "and in paris", "Springfield"),
        ("query", "find the red fox", "find the red fox"),
        ("title", "find the red fox", "example title"),
    ],
)
def test_a_string_is_filled_from_the_text(name: str, text: str, value: str) -> None:
    schema = {"properties": {name: {"type": "string"}}}
    assert example(schema, text=text) == {name: value}


def test_the_text_chooses_among_an_enum() -> None:
    schema = {"enum": ["celsius", "fahrenheit"]}
    assert example(schema, text="in Fahrenheit, please") == "fahrenheit"
    assert example(schema, text="as you like") == "celsius"


def test_the_same_schema_gives_the_same_value() -> None:
    assert example(TREE, text="Hi") == example(TREE, text="Hi")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}]},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a", "b"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1000},
        {"type": "array", "minItems": 10**12},
        {"type": "object", "minProperties": 10**12},
        {"type": "string", "minLength": 10**12},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/nowhere/0"},
        False,
    ],
    ids=str,
)
def test_an_impossible_schema_gets_a_value_that_ends(schema: Any) -> None:
    assert len(str(example(schema))) < 40 * LARGEST_VALUE_COUNT
