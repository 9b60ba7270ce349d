"""Tools are shown as OpenAI shows them: with defaults filled in, and nothing that was not said."""

from typing import Any

import msgspec
import pytest

from rethread.contract.assistants import Assistant, CreateAssistant, ModifyAssistant
from rethread.contract.resources import ToolResources, declared_resources
from rethread.contract.threads import CreateThread, ModifyThread, Thread
from rethread.contract.tools import (
    AssistantTools,
    ResponseFormat,
    RunTools,
    ToolChoice,
    declared,
)
from rethread.errors import Invalid
from tests.objects import NOW

RANKING = {"ranker": "default_2024_08_21", "score_threshold": 0.0, "hybrid_search": None}


def shown(*tools: Any) -> Any:
    """The tools as an assistant shows them."""
    return msgspec.to_builtins(declared(msgspec.convert(list(tools), AssistantTools)))


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


@pytest.mark.parametrize(
    ("asked", "echo"),
    [
        (function(), function(strict=False)),
        (function(strict=None, description=None, parameters=None), function(strict=False)),
        (function(strict=True, parameters={}), function(strict=True, parameters={})),
        (
            function(description="d", parameters={"type": "object", "x": [1, None]}),
            function(description="d", parameters={"type": "object", "x": [1, None]}, strict=False),
        ),
        ({"type": "code_interpreter"}, {"type": "code_interpreter"}),
    ],
)
def test_functions_and_the_code_interpreter(asked: Any, echo: Any) -> None:
    assert shown(asked) == [echo]


@pytest.mark.parametrize(
    ("options", "echo"),
    [
        (None, {"ranking_options": RANKING}),
        ({}, {"ranking_options": RANKING}),
        ({"max_num_results": None}, {"ranking_options": RANKING}),
        ({"max_num_results": 7}, {"max_num_results": 7, "ranking_options": RANKING}),
        (
            {"ranking_options": {"score_threshold": 0.5}},
            {"ranking_options": {**RANKING, "score_threshold": 0.5}},
        ),
        (
            {"ranking_options": {"score_threshold": 0, "ranker": "auto"}},
            {"ranking_options": {**RANKING, "ranker": "auto"}},
        ),
    ],
)
def test_a_file_search_gets_its_ranking_options(options: Any, echo: Any) -> None:
    expected = [{"type": "file_search", "file_search": echo}]
    assert shown({"type": "file_search", "file_search": options}) == expected
    if options is None:
        assert shown({"type": "file_search"}) == expected


def test_what_is_shown_can_be_asked_for_again() -> None:
    """Clients copy an assistant by sending what they read."""
    once = shown(function(), {"type": "file_search"}, {"type": "code_interpreter"})
    assert shown(*once) == once


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "browser"},
        {"function": {"name": "f"}},
        {"type": "function"},
        function(name=""),
        function(name="a b"),
        function(name="a\n"),
        function(name="a" * 65),
        function(extra=1),
        {"type": "code_interpreter", "extra": 1},
        {"type": "file_search", "file_search": {"max_num_results": 0}},
        {"type": "file_search", "file_search": {"max_num_results": 51}},
        {"type": "file_search", "file_search": {"ranking_options": {}}},
        {"type": "file_search", "file_search": {"ranking_options": {"score_threshold": 1.1}}},
    ],
)
def test_a_tool_that_cannot_be_is_refused(tool: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        shown(tool)


@pytest.mark.parametrize(("kind", "limit"), [(AssistantTools, 128), (RunTools, 20)])
def test_so_many_tools_and_no_more(kind: Any, limit: int) -> None:
    tools = [function(name=f"f{place}") for place in range(limit)]
    assert len(msgspec.convert(tools, kind)) == limit
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([*tools, function()], kind)


@pytest.mark.parametrize(
    "choice",
    [
        *("none", "auto", "required"),
        {"type": "function", "function": {"name": "f"}},
        {"type": "file_search"},
        {"type": "code_interpreter"},
    ],
)
def test_tool_choices_are_shown_as_they_were_asked_for(choice: Any) -> None:
    assert msgspec.to_builtins(msgspec.convert(choice, ToolChoice)) == choice


@pytest.mark.parametrize("choice", ["any", {"type": "function"}, {"type": "x"}, 1])
def test_a_tool_choice_that_cannot_be_is_refused(choice: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(choice, ToolChoice)


@pytest.mark.parametrize(
    "asked",
    [
        "auto",
        {"type": "text"},
        {"type": "json_object"},
        {
            "type": "json_schema",
            "json_schema": {"name": "n", "description": "d", "schema": {"a": None}, "strict": True},
        },
        {"type": "json_schema", "json_schema": {"name": "n"}},
    ],
)
def test_response_formats_are_shown_as_they_were_asked_for(asked: Any) -> None:
    assert msgspec.to_builtins(msgspec.convert(asked, ResponseFormat)) == asked


def resources(asked: Any) -> ToolResources:
    return msgspec.convert(asked, ToolResources)


@pytest.mark.parametrize(
    ("asked", "echo"),
    [
        ({}, {}),
        ({"code_interpreter": None, "file_search": None}, {}),
        ({"code_interpreter": {}}, {"code_interpreter": {"file_ids": []}}),
        (
            {"code_interpreter": {"file_ids": ["file-a"]}},
            {"code_interpreter": {"file_ids": ["file-a"]}},
        ),
        (
            {"file_search": {"vector_store_ids": ["vs_a"], "vector_stores": None}},
            {"file_search": {"vector_store_ids": ["vs_a"]}},
        ),
    ],
)
def test_tool_resources_are_shown_without_nulls(asked: Any, echo: Any) -> None:
    asked = resources(asked)
    asked.check("tool_resources.")
    assert declared_resources(asked) == echo
    assert declared_resources(None) == {}


@pytest.mark.parametrize(
    "made",
    [
        Thread.new(CreateThread(), now=NOW),
        Assistant.new(CreateAssistant(model="m"), now=NOW),
    ],
    ids=["thread", "assistant"],
)
def test_modifying_the_resources_of_one_tool_keeps_those_of_the_other(
    made: Thread | Assistant,
) -> None:
    files = {"code_interpreter": {"file_ids": ["file-a"]}}
    stores = {"file_search": {"vector_store_ids": ["vs_a"]}}
    for asked, after in (
        (files, files),
        (stores, files | stores),
        ({}, files | stores),
        ({"code_interpreter": {"file_ids": []}}, {"code_interpreter": {"file_ids": []}} | stores),
        (files, files | stores),
    ):
        made = modified(made, resources(asked))
        assert made.tool_resources == after


def modified(made: Thread | Assistant, resources: ToolResources) -> Thread | Assistant:
    if isinstance(made, Thread):
        return made.modified(ModifyThread(tool_resources=resources))
    return made.modified(ModifyAssistant(tool_resources=resources))


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"code_interpreter": {"file_ids": ["file-a", "x"]}}, "code_interpreter.file_ids[1]"),
        ({"file_search": {"vector_store_ids": ["x"]}}, "file_search.vector_store_ids[0]"),
        (
            {"file_search": {"vector_stores": [{}], "vector_store_ids": ["vs_a"]}},
            "file_search.vector_stores",
        ),
        (
            {"file_search": {"vector_stores": [{"file_ids": ["x"]}]}},
            "file_search.vector_stores[0].file_ids[0]",
        ),
    ],
)
def test_resources_that_cannot_be_are_refused_by_their_place(asked: Any, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        resources(asked).check("tool_resources.")
    assert refused.value.param == f"tool_resources.{param}"
