"""A message while it is being written, and the events that show it. Pure.

The stock SDKs crash where a message's first part has not index 0, and where a finished message
has fewer parts than were streamed: images come first, whole, and then the text.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType, structs

from rethread.contract.events import Event
from rethread.contract.messages import (
    Annotation,
    AnnotationDelta,
    ImageFileDelta,
    ImageFileInput,
    ImageFilePart,
    ImageFilePartDelta,
    Message,
    MessageChange,
    MessageDelta,
    Part,
    PartDelta,
    RefusalPart,
    RefusalPartDelta,
    TextDelta,
    TextPart,
    TextPartDelta,
    TextValue,
    as_shown,
)
from rethread.contract.runs import Run
from rethread.contract.steps import MessageCreation, MessageCreationDetails
from rethread.runs.lifecycle import new_message, new_step
from rethread.tools.annotating import Annotating, Piece, annotation
from rethread.tools.code_interpreter.links import Links
from rethread.tools.file_search.citations import Citations


class Known(NamedTuple):
    """What an answer may refer to, and the file that each stands for."""

    marks: Mapping[str, str] = MappingProxyType({})  # of passages
    paths: Mapping[str, str] = MappingProxyType({})  # of files of code, under /mnt/data


NOTHING_KNOWN: Final = Known()


class Writing:
    """One message and the step that writes it; it begins with the images, if there are any."""

    def __init__(self, run: Run, known: Known, images: Sequence[str], *, now: int) -> None:
        self._message = new_message(run, now=now)
        details = MessageCreationDetails(MessageCreation(self._message.id))
        self.step = new_step(run, details, now=now)
        self._images = images
        self._parts: dict[Literal["text", "refusal"], list[str]] = {}
        self._annotating = Annotating(Citations(known.marks), Links(known.paths))
        self._annotations: list[Annotation] = []
        self._length = 0  # of the text so far

    def begun(self) -> list[Event]:
        """The events that it begins with."""
        shown = [
            ImageFilePartDelta(index, ImageFileDelta(file_id))
            for index, file_id in enumerate(self._images)
        ]
        return [
            Event("thread.run.step.created", self.step),
            Event("thread.run.step.in_progress", self.step),
            Event("thread.message.created", self._message),
            Event("thread.message.in_progress", self._message),
            *(self._event(part) for part in shown),
        ]

    def write(self, text: str) -> list[Event]:
        """More of its text, as far as it is known what to annotate."""
        if not text and not self._parts and not self._images:
            return [self._more("text", "")]  # an answer of nothing is shown as an empty text
        return self._written(self._annotating.feed(text))

    def refuse(self, text: str) -> list[Event]:
        """More of its refusal."""
        return [self._more("refusal", text)]

    def let_go(self) -> list[Event]:
        """What was held back, as it might have been the beginning of a mark or a link."""
        return self._written(self._annotating.end())

    def so_far(self) -> Message:
        """The message with what was streamed into it."""
        images = [ImageFilePart(ImageFileInput(id, detail="auto")) for id in self._images]
        parts: list[Part] = [*images]
        for kind, pieces in self._parts.items():
            text = "".join(pieces)
            annotated = TextValue(text, list(self._annotations))
            parts.append(TextPart(annotated) if kind == "text" else RefusalPart(text))
        return structs.replace(self._message, content=parts)

    def _written(self, pieces: list[Piece]) -> list[Event]:
        events: list[Event] = []
        for piece in pieces:
            found = annotation(piece, index=len(self._annotations), start=self._length)
            self._length += len(piece.text)
            if found is None:
                events.append(self._more("text", piece.text))
            else:
                self._annotations.append(as_shown(found))
                events.append(self._more("text", piece.text, [found]))
        return events

    def _more(
        self,
        kind: Literal["text", "refusal"],
        text: str,
        annotations: list[AnnotationDelta] | UnsetType = UNSET,
    ) -> Event:
        """More of a part, as a delta; a text's first one has annotations, if only an empty list."""
        if kind not in self._parts:
            self._parts[kind] = []
            annotations = annotations or []
        self._parts[kind].append(text)
        index = len(self._images) + list(self._parts).index(kind)
        if kind == "refusal":
            return self._event(RefusalPartDelta(index, text))
        return self._event(TextPartDelta(index, TextDelta(text, annotations)))

    def _event(self, part: PartDelta) -> Event:
        delta = MessageDelta(id=self._message.id, delta=MessageChange([part]))
        return Event("thread.message.delta", delta)
