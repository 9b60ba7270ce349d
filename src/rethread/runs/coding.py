"""code_interpreter inside a run: which files its code has, how it is heard, what it gives.

The thread's files are read each time: one may have been deleted, and code makes new ones.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple

from msgspec import structs

from rethread.contract.events import Event
from rethread.contract.resources import code_files_of
from rethread.contract.runs import Run
from rethread.contract.steps import (
    CodeInterpreterCall,
    CodeOutputDelta,
    ImageOutputDelta,
    LogsOutputDelta,
    OutputImage,
)
from rethread.contract.threads import decode_thread
from rethread.errors import ModelError, RethreadError, Unavailable
from rethread.runs import prompt
from rethread.runs.merging import LONGEST_JOINED
from rethread.runs.recorder import Replaced
from rethread.runs.turn import Turn
from rethread.store import code_files, files, threads
from rethread.store.database import Database
from rethread.store.files import StoredFile
from rethread.tools.code_interpreter import tool
from rethread.tools.code_interpreter.files import placed
from rethread.tools.code_interpreter.outputs import LogsOut, Output
from rethread.tools.code_interpreter.sessions import Sessions
from rethread.tools.code_interpreter.shelf import age
from rethread.tools.code_interpreter.tool import ListedFile

NO_SESSIONS: Final = "This server cannot run the tool 'code_interpreter'."


class Workbench(NamedTuple):
    """What the code of a run finds under /mnt/data, and the tool as the model is told of it."""

    project: str
    files: list[StoredFile]  # those that were given
    paths: dict[str, str]  # of all that there are, and their files
    definition: dict[str, Any]


async def refusal(sessions: Sessions | None, run: Run) -> str | None:
    """Why the run cannot have its code run here; None if it can, or runs none."""
    if not prompt.runs_code(run):
        return None
    return NO_SESSIONS if sessions is None else await sessions.refusal()


def keeping_session(sessions: Sessions | None, run: Run) -> AbstractContextManager[None]:
    """Have the thread keep its session while the run is under way, if it may run code."""
    if sessions is None or not prompt.runs_code(run):
        return nullcontext()
    return sessions.in_run(run.thread_id)


async def workbench(db: Database, sessions: Sessions | None, run: Run) -> Workbench | None:
    """What the run's code has to work with now; None where the run offers none."""
    if sessions is None or not prompt.runs_code(run) or await sessions.refusal() is not None:
        return None
    found = await threads.of_run(db, run.thread_id)
    if found is None:  # the run is about to learn it
        return None
    project, body = found
    resources = decode_thread(body).tool_resources
    given = dict.fromkeys([*code_files_of(run.tool_resources), *code_files_of(resources)])
    made = await code_files.of_thread(db, run.thread_id)
    there = await files.many(db, project, [*given, *made.values()])
    originals = [there[file_id] for file_id in given if file_id in there]
    paths = {file.name: file.file_id for file in placed(originals)}
    for path, file_id in made.items():
        if file_id in there and not _is_newer(there.get(paths.get(path, "")), there[file_id]):
            paths[path] = file_id
    listed = [ListedFile(path, there[file_id].bytes) for path, file_id in paths.items()]
    offers = await sessions.offers()
    definition = tool.definition(prompt.code_name(run), offers=offers, files=listed)
    return Workbench(project, originals, paths, definition)


async def ran(
    sessions: Sessions,
    at: Workbench,
    run: Run,
    turn: Turn,
    call: CodeInterpreterCall,
    *,
    record: Callable[[list[Event]], None],
) -> CodeInterpreterCall:
    """The call with all that came out, which was recorded as it came; ModelError without a session.

    Whoever stops waiting interrupts the code; what has come out by then, the turn has.
    """
    if call.code_interpreter.note:  # why it cannot be run
        return call
    lost: list[Exception] = []

    def hear(output: Output) -> None:
        try:
            for delta in _deltas(output):
                record(turn.put_out(call.id, delta))
        except (Replaced, RethreadError) as problem:  # not the session's: it would not survive it
            lost.append(problem)
            running.cancel()

    running = asyncio.ensure_future(
        sessions.run(
            at.project, run.thread_id, at.files, call.code_interpreter.input, on_output=hear
        )
    )
    try:
        executed = await running
    except asyncio.CancelledError:
        if lost:
            raise lost[0] from None
        raise
    except Unavailable as problem:
        raise ModelError(problem.message, reason="code_interpreter") from problem
    heard = turn.called(call.id)
    assert isinstance(heard, CodeInterpreterCall)
    code = structs.replace(heard.code_interpreter, made=executed.made, note=executed.note)
    return structs.replace(heard, code_interpreter=code)


def tokens_of(call: CodeInterpreterCall, *, count: Callable[[str], int]) -> int:
    """What the model is told of it takes so much of the prompt."""
    return count(tool.output(call.code_interpreter))


def _is_newer(original: StoredFile | None, made: StoredFile) -> bool:
    return original is not None and age(original) > age(made)


def _deltas(output: Output) -> Sequence[CodeOutputDelta]:
    """An output as the step's deltas: none longer than a listener should have to hold."""
    if not isinstance(output, LogsOut):
        return [ImageOutputDelta(output.index, OutputImage(output.file_id))]
    starts = range(0, len(output.text), LONGEST_JOINED)
    pieces = [output.text[start : start + LONGEST_JOINED] for start in starts]
    return [LogsOutputDelta(output.index, piece) for piece in pieces]
