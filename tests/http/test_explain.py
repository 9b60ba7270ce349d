"""What does not fit its type is refused in OpenAI's words, the first fault in OpenAI's order."""

# ruff: noqa: E501 - a row of the table is a line

from typing import Any

import msgspec
import pytest

from rethread.contract.assistants import CreateAssistant
from rethread.contract.messages import CreateMessage
from rethread.contract.runs import CreateRun, SubmitToolOutputs
from rethread.contract.searches import SearchVectorStore
from rethread.contract.threads import CreateThread
from rethread.contract.vector_stores import CreateVectorStoreFile
from rethread.http.explain import explain, listed, without_unknown

MODEL = {"model": "m"}
RUN = {"assistant_id": "asst_1"}
SAID = {"role": "user", "content": "Hi"}


def function(**fields: Any) -> dict[str, Any]:
    """An assistant with one function."""
    return {**MODEL, "tools": [{"type": "function", "function": fields}]}


def with_attribute(value: Any) -> dict[str, Any]:
    """A file with one attribute."""
    return {"file_id": "file-1", "attributes": {"k": value}}


def filtered(filters: Any) -> dict[str, Any]:
    """A search with a filter."""
    return {"query": "whale", "filters": filters}


# type, value, param, code, message
TEXTS: list[tuple[type, Any, str | None, str, str]] = [
    (CreateAssistant, [], None, "invalid_type", "Invalid type: expected an object, but got an array instead."),
    (CreateAssistant, {}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    (CreateAssistant, {"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    (CreateAssistant, {"model": ""}, "model", "empty_string", "Invalid 'model': empty string. Expected a string with minimum length 1, but got an empty string instead."),
    (CreateAssistant, {"model": 5}, "model", "invalid_type", "Invalid type for 'model': expected a string, but got an integer instead."),
    (CreateAssistant, {**MODEL, "foo": 1}, "foo", "unknown_parameter", "Unknown parameter: 'foo'."),
    (CreateAssistant, {**MODEL, "name": "x" * 257}, "name", "string_above_max_length", "Invalid 'name': string too long. Expected a string with maximum length 256, but got a string with length 257 instead."),
    (CreateAssistant, {**MODEL, "tools": "x"}, "tools", "invalid_type", "Invalid type for 'tools': expected an array of objects, but got a string instead."),
    (CreateAssistant, {**MODEL, "tools": [1]}, "tools[0]", "invalid_type", "Invalid type for 'tools[0]': expected an object, but got an integer instead."),
    (CreateAssistant, {**MODEL, "tools": [{}]}, "tools[0].type", "missing_required_parameter", "Missing required parameter: 'tools[0].type'."),
    (CreateAssistant, {**MODEL, "tools": [{"type": "x"}]}, "tools[0].type", "invalid_value", "Invalid value: 'x'. Supported values are: 'code_interpreter', 'file_search', and 'function'."),
    (CreateAssistant, {**MODEL, "tools": [{"type": "code_interpreter", "foo": 1}]}, "tools[0].foo", "unknown_parameter", "Unknown parameter: 'tools[0].foo'."),
    (CreateAssistant, {**MODEL, "tools": [{"type": "code_interpreter"}] * 129}, "tools", "array_above_max_length", "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 129 instead."),
    (CreateAssistant, function(), "tools[0].function.name", "missing_required_parameter", "Missing required parameter: 'tools[0].function.name'."),
    (CreateAssistant, function(name="a b"), "tools[0].function.name", "invalid_value", "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."),
    (CreateAssistant, function(name="a\n"), "tools[0].function.name", "invalid_value", "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."),
    (CreateAssistant, {**MODEL, "temperature": 3}, "temperature", "decimal_above_max_value", "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead."),
    (CreateAssistant, {**MODEL, "top_p": -0.5}, "top_p", "decimal_below_min_value", "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.5 instead."),
    (CreateAssistant, {**MODEL, "temperature": "1"}, "temperature", "invalid_type", "Invalid type for 'temperature': expected a decimal, but got a string instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k": True}}, "metadata.k", "invalid_type", "Invalid type for 'metadata.k': expected a string, but got a boolean instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k": 1}}, "metadata.k", "invalid_type", "Invalid type for 'metadata.k': expected a string, but got an integer instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k": None}}, "metadata.k", "invalid_type", "Invalid type for 'metadata.k': expected a string, but got null instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k": {}}}, "metadata.k", "invalid_type", "Invalid type for 'metadata.k': expected a string, but got an object instead."),
    (CreateAssistant, {**MODEL, "metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties", "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with 17 properties instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k": "v" * 600}}, "metadata.k", "string_above_max_length", "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, but got a string with length 600 instead."),
    (CreateAssistant, {**MODEL, "metadata": {"k" * 70: "v"}}, "metadata." + "k" * 70, "property_name_above_max_length", "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string with maximum length 64, but got a string with length 70 instead."),
    (CreateAssistant, {**MODEL, "response_format": "json"}, "response_format", "invalid_value", "Invalid value: 'json'. Supported values are: 'auto'."),
    (CreateVectorStoreFile, with_attribute(2**63), "attributes.k", "integer_above_max_value", "Invalid 'attributes.k': integer above maximum value. Expected a value <= 9223372036854775807, but got 9223372036854775808 instead."),
    (CreateVectorStoreFile, with_attribute([]), "attributes.k", "invalid_type", "Invalid type for 'attributes.k': expected one of a string or integer or decimal or boolean, but got an array instead."),
    (CreateVectorStoreFile, {"file_id": "file-1", "attributes": {str(n): 1 for n in range(17)}}, "attributes", "object_above_max_properties", "Invalid 'attributes': too many properties. Expected an object with at most 16 properties, but got an object with 17 properties instead."),
    (SearchVectorStore, filtered({"type": "xor"}), "filters.type", "invalid_value", "Invalid value: 'xor'. Supported values are: 'eq', 'ne', 'gt', 'gte', 'lt', 'lte', 'in', 'nin', 'and', and 'or'."),
    (SearchVectorStore, filtered({"type": "in", "key": "k", "value": "x"}), "filters.value", "invalid_type", "Invalid type for 'filters.value': expected an array, but got a string instead."),
    (SearchVectorStore, filtered({"type": "eq", "key": "k", "value": ["x"]}), "filters.value", "invalid_type", "Invalid type for 'filters.value': expected one of a string or integer or decimal or boolean, but got an array instead."),
    (SearchVectorStore, filtered({"type": "and", "filters": [{"type": "eq", "key": "k"}]}), "filters.filters[0].value", "missing_required_parameter", "Missing required parameter: 'filters.filters[0].value'."),
    (SearchVectorStore, filtered([]), "filters", "invalid_type", "Invalid type for 'filters': expected an object, but got an array instead."),
    (SearchVectorStore, {"query": 1}, "query", "invalid_type", "Invalid type for 'query': expected one of a string or array of strings, but got an integer instead."),
    (SearchVectorStore, {"query": []}, "query", "empty_array", "Invalid 'query': empty array. Expected an array with minimum length 1, but got an empty array instead."),
    (CreateThread, {"messages": [{**SAID, "role": "system"}]}, "messages[0].role", "invalid_value", "Invalid value: 'system'. Supported values are: 'user' and 'assistant'."),
    (CreateMessage, {**SAID, "role": "system"}, "role", "invalid_value", "Invalid value: 'system'. Supported values are: 'user' and 'assistant'."),
    (CreateMessage, {**SAID, "content": "x" * 256_001}, "content", "string_above_max_length", "Invalid 'content': string too long. Expected a string with maximum length 256000, but got a string with length 256001 instead."),
    (CreateMessage, {**SAID, "content": []}, "content", "empty_array", "Invalid 'content': empty array. Expected an array with minimum length 1, but got an empty array instead."),
    (CreateMessage, {**SAID, "content": 1}, "content", "invalid_type", "Invalid type for 'content': expected one of a string or array of objects, but got an integer instead."),
    (CreateMessage, {**SAID, "content": [{"type": "text"}]}, "content[0].text", "missing_required_parameter", "Missing required parameter: 'content[0].text'."),
    (CreateMessage, {"content": "x"}, "role", "missing_required_parameter", "Missing required parameter: 'role'."),
    (CreateRun, {}, "assistant_id", "missing_required_parameter", "Missing required parameter: 'assistant_id'."),
    (CreateRun, {"assistant_id": 5}, "assistant_id", "invalid_type", "Invalid type for 'assistant_id': expected a string, but got an integer instead."),
    (CreateRun, {**RUN, "instructions": "x" * 256_001}, "instructions", "string_above_max_length", "Invalid 'instructions': string too long. Expected a string with maximum length 256000, but got a string with length 256001 instead."),
    (CreateRun, {**RUN, "additional_instructions": "x" * 256_001}, "additional_instructions", "string_above_max_length", "Invalid 'additional_instructions': string too long. Expected a string with maximum length 256000, but got a string with length 256001 instead."),
    (CreateRun, {**RUN, "max_prompt_tokens": 255}, "max_prompt_tokens", "integer_below_min_value", "Invalid 'max_prompt_tokens': integer below minimum value. Expected a value >= 256, but got 255 instead."),
    (CreateRun, {**RUN, "max_prompt_tokens": 256.5}, "max_prompt_tokens", "invalid_type", "Invalid type for 'max_prompt_tokens': expected an integer, but got a decimal instead."),
    (CreateRun, {**RUN, "stream": "yes"}, "stream", "invalid_type", "Invalid type for 'stream': expected a boolean, but got a string instead."),
    (CreateRun, {**RUN, "stream": 1}, "stream", "invalid_type", "Invalid type for 'stream': expected a boolean, but got an integer instead."),
    (CreateRun, {**RUN, "tool_choice": "always"}, "tool_choice", "invalid_value", "Invalid value: 'always'. Supported values are: 'none', 'auto', and 'required'."),
    (CreateRun, {**RUN, "tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name", "missing_required_parameter", "Missing required parameter: 'tool_choice.function.name'."),
    (CreateRun, {**RUN, "truncation_strategy": {"type": "last_messages", "last_messages": 0}}, "truncation_strategy.last_messages", "integer_below_min_value", "Invalid 'truncation_strategy.last_messages': integer below minimum value. Expected a value >= 1, but got 0 instead."),
    (SubmitToolOutputs, {"tool_outputs": [{"tool_call_id": "c"}]}, "tool_outputs[0].output", "missing_required_parameter", "Missing required parameter: 'tool_outputs[0].output'."),
    (SubmitToolOutputs, {"tool_outputs": [{"tool_call_id": "c", "output": {}}]}, "tool_outputs[0].output", "invalid_type", "Invalid type for 'tool_outputs[0].output': expected a string, but got an object instead."),
]  # fmt: skip
ORDERS: list[tuple[Any, str]] = [
    ({"foo": 1, "tools": 1}, "model"),
    ({**MODEL, "tools": 1, "foo": 1}, "foo"),
    ({**MODEL, "top_p": "x", "tools": 1}, "tools"),
]


@pytest.mark.parametrize(
    ("wanted", "value", "param", "code", "message"), TEXTS, ids=[row[4][:70] for row in TEXTS]
)
def test_a_fault_is_told_in_openai_s_words(
    wanted: type, value: Any, param: str | None, code: str, message: str
) -> None:
    fault = explain(value, wanted)
    assert fault is not None
    assert (fault.param, fault.code, fault.message) == (param, code, message)


@pytest.mark.parametrize(("value", "param"), ORDERS)
def test_missing_goes_before_unknown_goes_before_the_others_in_field_order(
    value: Any, param: str
) -> None:
    fault = explain(value, CreateAssistant)
    assert fault is not None
    assert fault.param == param


@pytest.mark.parametrize("row", TEXTS, ids=[row[4][:70] for row in TEXTS])
def test_whatever_is_told_is_refused_by_the_type_as_well(
    row: tuple[type, Any, Any, Any, Any],
) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(row[1], row[0])


@pytest.mark.parametrize(
    ("wanted", "value"),
    [
        (CreateRun, {**RUN, "tool_choice": "x" * 1_000_000}),
        (CreateRun, {**RUN, "x" * 1_000_000: 1}),
        (CreateAssistant, {**MODEL, "metadata": {"x" * 1_000_000: "v"}}),
    ],
    ids=["value", "name", "key"],
)
def test_what_is_quoted_is_shortened(wanted: type, value: Any) -> None:
    fault = explain(value, wanted)
    assert fault is not None
    assert len(f"{fault.message}{fault.param}") < 1000


def test_what_fits_has_no_fault() -> None:
    nulls = dict.fromkeys(("name", "tools", "metadata", "temperature", "response_format"))
    assert explain({**MODEL, **nulls}, CreateAssistant) is None
    assert explain({**RUN, "tool_choice": "auto", "max_prompt_tokens": 256}, CreateRun) is None
    assert explain({**SAID, "content": [{"type": "text", "text": "x"}]}, CreateMessage) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [(["a"], "'a'"), (["a", "b"], "'a' and 'b'"), (["a", "b", "c"], "'a', 'b', and 'c'")],
)
def test_values_are_listed_as_openai_lists_them(values: list[str], text: str) -> None:
    assert listed(values) == text


def test_unknown_fields_can_be_left_out_at_any_depth() -> None:
    part = {"type": "text", "text": "x"}
    pruned = without_unknown(
        {"foo": 1, "messages": [{**SAID, "foo": 1, "content": [{**part, "foo": 1}]}]}, CreateThread
    )
    assert pruned == {"messages": [{**SAID, "content": [part]}]}
    metadata = {"foo": "kept: a key of a map is no field"}
    assert without_unknown({"metadata": metadata}, CreateThread) == {"metadata": metadata}
