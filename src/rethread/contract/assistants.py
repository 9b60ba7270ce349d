"""Assistants: who answers, with which model, instructions and tools."""

from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct, structs

from rethread.contract import Metadata, Request, Text, new_id
from rethread.contract.resources import Resources, ToolResources, declared_resources
from rethread.contract.tools import (
    AssistantTools,
    ReasoningEffort,
    ResponseFormat,
    Temperature,
    Tool,
    TopP,
    declared,
)

Name = Annotated[str, Meta(max_length=256)]
Description = Annotated[str, Meta(max_length=512)]
ModelName = Annotated[str, Meta(min_length=1)]


class ModifyAssistant(Request, frozen=True):
    """POST /assistants/{assistant_id}: what is absent stays as it is."""

    model: ModelName | None = None
    name: Name | None = None
    description: Description | None = None
    instructions: Text | None = None
    tools: AssistantTools | None = None
    tool_resources: ToolResources | None = None
    metadata: Metadata | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None

    def check(self, at: str = "") -> None:
        """The ids of the tools' resources."""
        if self.tool_resources:
            self.tool_resources.check(f"{at}tool_resources.")


class CreateAssistant(ModifyAssistant, frozen=True):
    """POST /assistants"""

    model: ModelName


class Assistant(Struct, frozen=True, kw_only=True):
    """An assistant, as it is stored and shown."""

    id: str
    object: Literal["assistant"] = "assistant"
    created_at: int
    name: str | None = None
    description: str | None = None
    model: str
    instructions: str | None = None
    tools: list[Tool] = []
    top_p: float | None = 1.0
    temperature: float | None = 1.0
    reasoning_effort: ReasoningEffort | None = None
    tool_resources: Resources = {}
    metadata: dict[str, str] = {}
    response_format: ResponseFormat | None = "auto"

    @classmethod
    def new(cls, asked: CreateAssistant, *, now: int) -> Self:
        """A new assistant; OpenAI's defaults stand where the request is silent."""
        return cls(id=new_id("asst"), created_at=now, model=asked.model).modified(asked)

    def modified(self, asked: ModifyAssistant) -> Self:
        """The assistant with what was asked replaced; of the tools' resources, those named."""
        changes: dict[str, Any] = {
            field: value for field, value in structs.asdict(asked).items() if value is not None
        }
        if asked.tools is not None:
            changes["tools"] = declared(asked.tools)
        if asked.tool_resources is not None:
            changes["tool_resources"] = {
                **self.tool_resources,
                **declared_resources(asked.tool_resources),
            }
        changed = structs.replace(self, **changes)
        if _has_code_interpreter(changed) and "code_interpreter" not in changed.tool_resources:
            # OpenAI shows the empty list as soon as the tool is on.
            resources = {"code_interpreter": {"file_ids": []}, **changed.tool_resources}
            changed = structs.replace(changed, tool_resources=resources)
        return changed


def _has_code_interpreter(assistant: Assistant) -> bool:
    return any(tool.__struct_config__.tag == "code_interpreter" for tool in assistant.tools)
