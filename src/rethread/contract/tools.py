"""Tools as assistants and runs declare them, and the settings that go with a model call.

Requests take `...Tool` and friends; `declared` gives them the shape in which OpenAI echoes
them: a function without `strict` says false, a bare file_search gets its ranking options.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, structs

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
# `$` would let a newline stand behind the name; clients are shown `$`, which in their dialect
# does not.
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]+\Z", max_length=64)]
ResultCount = Annotated[int, Meta(ge=1, le=50)]
Score = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=0)]
Ranker = Literal["auto", "default_2024_08_21"]

RUN_TOOLS_LIMIT: Final = 20
ASSISTANT_TOOLS_LIMIT: Final = 128


class Strict(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """A part of a request in which unknown fields are refused."""


class FunctionDefinition(Strict, frozen=True):
    """A function that the client can run for the model; `parameters` is a JSON schema."""

    name: FunctionName
    description: str | None | UnsetType = UNSET
    parameters: dict[str, Any] | None | UnsetType = UNSET
    strict: bool | None = None


class FunctionTool(Strict, tag_field="type", tag="function", frozen=True):
    """A function tool."""

    function: FunctionDefinition


class CodeInterpreterTool(Strict, tag_field="type", tag="code_interpreter", frozen=True):
    """The code interpreter, as a tool."""


class HybridSearch(Strict, frozen=True):
    """How much the meaning counts, and how much the words, one against the other."""

    embedding_weight: Weight
    text_weight: Weight


class RankingOptions(Strict, frozen=True):
    """How file_search ranks what it finds."""

    score_threshold: Score
    ranker: Ranker | None = None
    hybrid_search: HybridSearch | None = None


class FileSearchOptions(Strict, frozen=True):
    """The options of file_search."""

    max_num_results: ResultCount | None | UnsetType = UNSET
    ranking_options: RankingOptions | None = None


class FileSearchTool(Strict, tag_field="type", tag="file_search", frozen=True):
    """File search, as a tool."""

    file_search: FileSearchOptions | None = None


Tool = CodeInterpreterTool | FileSearchTool | FunctionTool
AssistantTools = Annotated[list[Tool], Meta(max_length=ASSISTANT_TOOLS_LIMIT)]
RunTools = Annotated[list[Tool], Meta(max_length=RUN_TOOLS_LIMIT)]


class BareFileSearchTool(Strict, tag_field="type", tag="file_search", frozen=True):
    """File search as an attachment names it: without options."""


AttachmentTool = CodeInterpreterTool | BareFileSearchTool


class TextFormat(Strict, tag_field="type", tag="text", frozen=True):
    """Answers are plain text."""


class JsonObjectFormat(Strict, tag_field="type", tag="json_object", frozen=True):
    """Answers are JSON."""


class JsonSchema(Strict, frozen=True):
    """A named JSON schema for answers."""

    name: FunctionName
    description: str | None | UnsetType = UNSET
    schema: dict[str, Any] | None | UnsetType = UNSET
    strict: bool | None | UnsetType = UNSET


class JsonSchemaFormat(Strict, tag_field="type", tag="json_schema", frozen=True):
    """Answers are JSON that fits a schema."""

    json_schema: JsonSchema


ResponseFormat = Literal["auto"] | TextFormat | JsonObjectFormat | JsonSchemaFormat


class NamedFunction(Strict, frozen=True):
    """The function that a tool choice names."""

    name: str


class FunctionChoice(Strict, tag_field="type", tag="function", frozen=True):
    """The model must call this function."""

    function: NamedFunction


class FileSearchChoice(Strict, tag_field="type", tag="file_search", frozen=True):
    """The model must search files."""


class CodeInterpreterChoice(Strict, tag_field="type", tag="code_interpreter", frozen=True):
    """The model must run code."""


ToolChoice = (
    Literal["none", "auto", "required"] | FunctionChoice | FileSearchChoice | CodeInterpreterChoice
)


def declared(tools: list[Tool] | None) -> list[Tool]:
    """Tools as an assistant or a run shows them, with OpenAI's defaults filled in."""
    return [_declared(tool) for tool in tools or []]


def _declared(tool: Tool) -> Tool:
    match tool:
        case FunctionTool(function=function):
            return FunctionTool(
                function=FunctionDefinition(
                    name=function.name,
                    description=function.description or UNSET,
                    parameters=UNSET if function.parameters is None else function.parameters,
                    strict=bool(function.strict),
                )
            )
        case FileSearchTool(file_search=options):
            options = options or FileSearchOptions()
            ranking = options.ranking_options or RankingOptions(score_threshold=0.0)
            ranking = structs.replace(ranking, ranker=ranking.ranker or "default_2024_08_21")
            return FileSearchTool(
                file_search=FileSearchOptions(
                    max_num_results=options.max_num_results or UNSET, ranking_options=ranking
                )
            )
        case _:
            return tool
