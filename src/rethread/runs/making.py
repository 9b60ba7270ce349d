"""The calls of an answer that the server makes itself: searches, and code, one after the other."""

from collections.abc import Callable, Sequence

from rethread.contract.events import Event
from rethread.contract.runs import Run
from rethread.contract.steps import CodeInterpreterCall, FileSearchCall, Step, calls_of
from rethread.runs import coding, searching
from rethread.runs.coding import Workbench
from rethread.runs.engine import Engine
from rethread.runs.turn import Ending, Turn
from rethread.tools.code_interpreter import tool as code_interpreter


async def make(
    engine: Engine,
    run: Run,
    turn: Turn,
    ending: Ending,
    *,
    workbench: Workbench | None,
    room: int,
    record: Callable[[list[Event]], None],
) -> None:
    """Have the turn keep what each has given, as much as has room; ModelError if one can't be."""
    for call in ending.ours:
        if isinstance(call, FileSearchCall):
            found = await searching.answered(
                engine.db,
                engine.search,
                run,
                call,
                tokens_left=room,
                count=engine.count_tokens,
                now=int(engine.clock()),
            )
            room -= searching.tokens_of(found, count=engine.count_tokens)
            turn.keep(found)
        else:
            assert engine.code is not None
            assert workbench is not None
            ran = await coding.ran(engine.code, workbench, run, turn, call, record=record)
            ran = code_interpreter.fitting(ran, tokens_left=room, count=engine.count_tokens)
            room -= coding.tokens_of(ran, count=engine.count_tokens)
            turn.keep(ran)


def images_to_show(steps: Sequence[Step]) -> list[str]:
    """The images that code has shown since the run's last message, for its next one."""
    images: list[str] = []
    for step in steps:
        if step.status != "completed":
            continue
        if step.type == "message_creation":
            images.clear()
        images += images_of(step)
    return images


def images_of(step: Step) -> list[str]:
    """Those of one step."""
    return [
        image
        for call in calls_of(step)
        if isinstance(call, CodeInterpreterCall)
        for image in code_interpreter.images_of(call)
    ]
