"""The outputs of a call, as they are told and kept: logs and images, bounded.

What is printed, displayed and raised one after the other is one text until an image comes. Text
past the limit is left out and counted; an error is still told, as it is what the model needs.
"""

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from rethread.contract.image_kinds import LONGEST_BEGINNING_BYTES, kind_of
from rethread.contract.steps import CodeOutput, ImageOutput, LogsOutput, OutputImage
from rethread.tools.code_interpreter.kernel import Event, Failed, Printed, Shown, Skipped

MOST_IMAGES: Final = 16
MOST_IMAGE_BYTES: Final = 8 * 1024 * 1024
# Of an error that comes behind the limit, or that is longer than anybody reads.
MOST_ERROR_CHARACTERS: Final = 8000
MOST_ERRORS: Final = 4  # that are told whatever was printed; code ends with its first one
ERROR_HEAD_CHARACTERS: Final = 2000
ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
BEGINNING_CHARACTERS: Final = LONGEST_BEGINNING_BYTES * 4 // 3  # in base64


class LogsOut(Struct, frozen=True):
    """More text of the output at that index."""

    index: int
    text: str


class ImageOut(Struct, frozen=True):
    """The output at that index."""

    index: int
    file_id: str


Output = LogsOut | ImageOut
KeepImage = Callable[[bytes, str], Awaitable[str | None]]
"""What keeps an image, of that kind: the id of its file, or None if that could not be."""


class Outputs:
    """What has come out so far; `on_output` hears it at once."""

    def __init__(
        self, *, most_characters: int, keep_image: KeepImage, on_output: Callable[[Output], None]
    ) -> None:
        self._left = most_characters
        self._errors_left = MOST_ERRORS
        self._cut = 0  # characters left out since the last text
        self._skipped = 0  # outputs that were too long to be taken in
        self._images_left = MOST_IMAGES
        self._images_left_out = 0
        self._keep_image = keep_image
        self._on_output = on_output
        self._kept: list[list[str] | str] = []  # a text in pieces, or an image's file

    async def take(self, event: Event) -> None:
        """One more."""
        match event:
            case Printed(text):
                self._add(text)
            case Failed(text):
                self._fail(text)
            case Skipped():
                self._skipped += 1
            case Shown(text, images):
                if not (images and await self._show(images[0])):
                    self._add(f"{text}\n" if text else "")

    def say(self, text: str) -> None:
        """What is not the code's but the server's to say, on lines of its own."""
        self._tell_of_cut()
        self._put(text if self._is_at_line_start else f"\n{text}")

    def end(self) -> list[CodeOutput]:
        """All there is; nothing comes after."""
        self._tell_of_cut()
        if self._images_left_out:
            self.say(f"[Images left out: {self._images_left_out}]\n")
        return [
            ImageOutput(image=OutputImage(file_id=each))
            if isinstance(each, str)
            else LogsOutput(logs="".join(each))
            for each in self._kept
        ]

    @property
    def _is_at_line_start(self) -> bool:
        last = self._kept[-1] if self._kept else ""
        return isinstance(last, str) or last[-1].endswith("\n")

    def _add(self, text: str) -> None:
        text = cleaned(text)
        if text[: self._left]:
            self._put(text[: self._left])
        self._cut += len(text[self._left :])
        self._left -= len(text[: self._left])

    def _fail(self, text: str) -> None:
        text = cleaned(text).rstrip("\n")
        if len(text) > MOST_ERROR_CHARACTERS:
            tail = text[ERROR_HEAD_CHARACTERS - MOST_ERROR_CHARACTERS :]
            text = f"{text[:ERROR_HEAD_CHARACTERS]}\n[…]\n{tail}"
        if not self._errors_left:
            self._add(f"{text}\n")
            return
        self._errors_left -= 1
        self.say(f"{text}\n")
        self._left = max(0, self._left - len(text))

    async def _show(self, image: str) -> bool:
        """Whether it is an image; then it is an output, or is left out: too large, or too many."""
        is_fit = len(image) <= MOST_IMAGE_BYTES * 4 // 3 + 4 and self._images_left > 0
        content = _decoded(image if is_fit else image[:BEGINNING_CHARACTERS])
        kind = kind_of(content)
        if not kind:
            return False
        file_id = await self._keep_image(content, kind) if is_fit else None
        if file_id is None:
            self._images_left_out += 1
            return True
        self._images_left -= 1
        self._tell_of_cut()
        self._kept.append(file_id)
        self._on_output(ImageOut(len(self._kept) - 1, file_id))
        return True

    def _tell_of_cut(self) -> None:
        cut, self._cut = self._cut, 0
        skipped, self._skipped = self._skipped, 0
        if cut:
            self.say(f"[{cut:,} characters more were cut]\n")
        if skipped:
            self.say(f"[Outputs too long to be shown: {skipped:,}]\n")

    def _put(self, text: str) -> None:
        if not self._kept or isinstance(self._kept[-1], str):
            self._kept.append([])
        last = self._kept[-1]
        assert isinstance(last, list)
        last.append(text)
        self._on_output(LogsOut(len(self._kept) - 1, text))


def cleaned(text: str) -> str:
    """The text without terminal escapes, and without what no UTF-8 has."""
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    return text.encode("utf-8", "replace").decode("utf-8")


def _decoded(image: str) -> bytes:
    try:
        return base64.b64decode(image)
    except ValueError:
        return b""
