"""Outputs are told at once and kept as they were told, bounded, with what is cut said."""

import base64

import pytest

from rethread.contract.steps import CodeOutput, ImageOutput, LogsOutput, OutputImage
from rethread.tools.code_interpreter import outputs as module
from rethread.tools.code_interpreter.kernel import Event, Failed, Printed, Shown, Skipped
from rethread.tools.code_interpreter.outputs import ImageOut, LogsOut, Output, Outputs

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n...").decode()
DRAWN = Shown("<Figure>", [PNG])


async def told(*events: Event, most: int = 100) -> tuple[list[CodeOutput], list[Output]]:
    """What is kept of the events, and what was told meanwhile."""
    heard: list[Output] = []
    images: list[str] = []

    async def keep_image(content: bytes, kind: str) -> str:
        images.append(f"{kind}-{len(images)}")
        return images[-1]

    outputs = Outputs(most_characters=most, keep_image=keep_image, on_output=heard.append)
    for event in events:
        await outputs.take(event)
    return outputs.end(), heard


def joined(heard: list[Output]) -> list[CodeOutput]:
    """What a listener has who adds up what it heard."""
    found: list[CodeOutput] = []
    for output in heard:
        if isinstance(output, ImageOut):
            assert output.index == len(found)
            found.append(ImageOutput(image=OutputImage(file_id=output.file_id)))
        elif output.index == len(found):
            found.append(LogsOutput(logs=output.text))
        else:
            assert output.index == len(found) - 1
            last = found.pop()
            assert isinstance(last, LogsOutput)
            found.append(LogsOutput(logs=last.logs + output.text))
    return found


async def test_texts_are_one_output_until_an_image_comes() -> None:
    kept, heard = await told(Printed("a"), Printed("b\n"), DRAWN, Shown("7", []), Printed("c"))
    image = ImageOutput(image=OutputImage(file_id="png-0"))
    assert kept == [LogsOutput(logs="ab\n"), image, LogsOutput(logs="7\nc")]
    assert joined(heard) == kept


async def test_what_is_cut_is_counted_and_an_error_is_told_behind_it() -> None:
    kept, heard = await told(Printed("x" * 150), Printed("y" * 1000), Failed("Traceback"))
    text = f"{'x' * 100}\n[1,050 characters more were cut]\nTraceback\n"
    assert kept == [LogsOutput(logs=text)]
    assert joined(heard) == kept


async def test_a_long_error_keeps_its_beginning_and_its_end() -> None:
    kept, _ = await told(Failed(f"begin{'.' * 50_000}end"))
    assert isinstance(kept[0], LogsOutput)
    text = kept[0].logs
    assert len(text) < 8100
    assert text.startswith("begin")
    assert text.endswith("end\n")


async def test_errors_without_end_are_cut_as_all_else() -> None:
    kept, heard = await told(*[Failed("e" * 50)] * 1000)
    errors = f"{'e' * 50}\n" * module.MOST_ERRORS
    assert kept == [LogsOutput(logs=f"{errors}[50,796 characters more were cut]\n")]
    assert joined(heard) == kept


async def test_escapes_and_lone_surrogates_do_not_get_through() -> None:
    kept, _ = await told(Printed("\x1b[31mred\x1b[0m \x1b]0;title\x07\ud800\n"), Skipped())
    assert kept == [LogsOutput(logs="red ?\n[Outputs too long to be shown: 1]\n")]


@pytest.mark.parametrize("image", ["", "not base64", base64.b64encode(b"<svg>").decode()])
async def test_what_is_no_image_is_shown_as_its_text(image: str) -> None:
    assert await told(Shown("text", [image])) == (
        [LogsOutput(logs="text\n")],
        [LogsOut(0, "text\n")],
    )


async def test_images_past_the_limits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IMAGES", 2)
    monkeypatch.setattr(module, "MOST_IMAGE_BYTES", 100)
    large = Shown("<Figure>", [base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(1000)).decode()])
    kept, _ = await told(large, DRAWN, DRAWN, DRAWN)
    assert [type(output) for output in kept] == [ImageOutput, ImageOutput, LogsOutput]
    assert kept[-1] == LogsOutput(logs="[Images left out: 2]\n")
