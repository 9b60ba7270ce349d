"""Drives one claimed run to its next rest: the run as a list of steps you can read aloud.

    take it up → fill the prompt → call the model → write down how it ended → let go

Whatever interrupts the model call (a cancellation, the run's time being over, a deleted thread)
ends it at once, also while the model is silent. Nobody else appends to the log meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec import structs

from rethread.blobs import Blobs
from rethread.contract.chat import ChatRequest
from rethread.contract.events import Event
from rethread.contract.runs import (
    CalledFunction,
    LastError,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    Run,
    RunIncompleteDetails,
    RunStatus,
    Usage,
)
from rethread.contract.steps import Step
from rethread.errors import ModelError
from rethread.providers import Provider
from rethread.runs import history, open_ends, prompt
from rethread.runs.commands import interrupt_topic, rest_topic
from rethread.runs.lifecycle import AT_REST, TERMINAL, move
from rethread.runs.recorder import RUN_EVENTS, Recorder, Replaced
from rethread.runs.turn import Ending, Turn
from rethread.runs.usage import added, estimated
from rethread.store import leases, runs, steps
from rethread.store.database import Database, Statement
from rethread.store.events import EventLog, topic
from rethread.store.leases import Lease
from rethread.store.runs import StoredRun
from rethread.store.wakeups import Wakeup

logger = logging.getLogger("rethread.run")

MOST_CRASHES: Final = 4  # a run whose server goes away that often may be why it does
STOPPED: Final = "The server was restarted in the middle of this step."
STOPPED_TOO_OFTEN: Final = "The server stopped several times in the middle of this run."
FILTERED: Final = "The model's answer was stopped by its content filter."

Interruption = Literal["cancelled", "expired"]


class Engine(NamedTuple):
    """What every driver needs."""

    db: Database
    blobs: Blobs
    log: EventLog
    provider: Provider
    resolve_model: Callable[[str], str]  # a run's model → the id that the model server knows
    context_window: Callable[[str], int]  # a run's model → tokens that a prompt may hold
    count_tokens: Callable[[str], int]
    clock: Callable[[], float]


async def drive(engine: Engine, lease: Lease, stored: StoredRun | None = None) -> None:
    """Bring the run to its next rest, or leave it to whoever has taken it over.

    `stored` is the run as it was just written, where the caller knows it.
    """
    stored = stored or await runs.to_drive(engine.db, lease.thread_id, lease.run_id)
    if stored is None:
        await engine.db.write(leases.finishing(lease))
        engine.db.notify(topic(lease.run_id))
        return
    run = msgspec.json.decode(stored.body, type=Run)
    is_overdue = run.expires_at is not None and run.expires_at <= engine.clock()
    if run.status in TERMINAL or (run.status == "requires_action" and not is_overdue):
        await engine.db.write(leases.finishing(lease))
        return
    recorder = Recorder(engine.log, lease, last_number=stored.last_event)
    driver = Driver(engine, lease, recorder, run, stored)
    try:
        await driver.drive()
    except Replaced:
        engine.db.notify(topic(lease.run_id))  # its listeners look whether it is still there
    finally:
        driver.write_log_line()


class Driver:
    """One run under one lease."""

    def __init__(
        self, engine: Engine, lease: Lease, recorder: Recorder, run: Run, stored: StoredRun
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._recorder = recorder
        self._run = run
        self._body = stored.body
        self._additional_instructions = stored.additional_instructions
        self._steps: list[Step] = []
        self._spent = Usage()
        self._started = time.monotonic()
        self._first_token_seconds: float | None = None
        self._reason = ""  # why the run failed, in words for the log

    async def drive(self) -> None:
        """The run from where it stands to its next rest."""
        if self._run.started_at is not None:
            bodies = await steps.of_run(self._engine.db, self._run.thread_id, self._run.id)
            self._steps = [msgspec.json.decode(body, type=Step) for body in bodies]
            for step in self._steps:
                self._spent = added(self._spent, step.usage)
        # From here on an interruption is heard. What came before, the first commit notices,
        # which a run that is taken over does not make: so it is looked at again.
        with self._engine.db.listen(interrupt_topic(self._run.id)) as wakeup:
            if self._run.status == "in_progress":
                interruption = await self._look_for_interruption()
            else:
                interruption = self._interruption()
            if interruption:
                await self._interrupt(interruption)
                return
            window = self._window()
            # Read while the disk takes the first commit: nothing is added to a held thread.
            filling = asyncio.create_task(
                history.fill(self._engine.db, self._run.thread_id, window)
            )
            try:
                if not await self._take_up():
                    return
                turn = Turn(self._run, offered=prompt.offered(self._run))
                try:
                    prompt.check_supported(self._run)
                    await filling
                    await self._answer(turn, window, wakeup)
                except ModelError as problem:
                    await self._fail(problem, turn)
            finally:
                filling.cancel()
                await asyncio.gather(filling, return_exceptions=True)

    def write_log_line(self) -> None:
        """The run's one line: ids, status and times, never what was said."""
        run, first = self._run, self._first_token_seconds
        fields = {
            "run_id": run.id,
            "thread_id": run.thread_id,
            "status": run.status,
            "model": run.model,
            "milliseconds": round((time.monotonic() - self._started) * 1000),
            "first_token_milliseconds": None if first is None else round(first * 1000),
            "error": run.last_error.code if run.last_error else None,
        }
        level = logging.INFO
        if run.status == "failed":
            level = logging.WARNING
            fields["called_model"] = self._engine.resolve_model(run.model)
            fields["reason"] = self._reason
        logger.log(level, "run", extra={"fields": fields})

    async def _take_up(self) -> bool:
        """Make the run in progress; False if it came to its end instead.

        One that is so already was left by a driver that went away. What that one had shown
        is ended, and the model is asked anew into a new message.
        """
        if self._run.status == "queued":
            if await self._commit(move(self._run, "in_progress", now=self._now()), []):
                return True
            await self._reload()
            await self._interrupt("cancelled")
            return False
        if self._lease.crashes >= MOST_CRASHES:
            await self._fail(ModelError(STOPPED_TOO_OFTEN, reason="server stopped"), None)
            return False
        ends = await self._closing("failed", LastError("server_error", STOPPED))
        if ends and not await self._recorder.commit(ends):
            raise Replaced
        return True

    async def _answer(self, turn: Turn, window: prompt.Window, wakeup: Wakeup) -> None:
        budget_left = self._completion_tokens_left()
        if window.lacks_newest and self._run.max_prompt_tokens is None:
            raise ModelError(
                "The instructions, the tools and the thread's newest message have more tokens than "
                f"the context window of the model '{self._run.model}' is said to hold "
                f"({self._engine.context_window(self._run.model)}), less room for the answer.",
                code="invalid_prompt",
                reason="prompt too long",
            )
        if window.lacks_newest:
            await self._end_incomplete("max_prompt_tokens", [])
        elif budget_left is not None and budget_left <= 0:
            await self._end_incomplete("max_completion_tokens", [])
        else:
            request = self._request(window, budget_left)
            interruption = await self._call_model(request, turn, wakeup)
            if interruption:
                await self._interrupt(interruption, turn)
            else:
                await self._finish(turn, request)

    def _window(self) -> prompt.Window:
        run = self._run
        window = self._engine.context_window(run.model)
        budget = prompt.beside_answer(window, answer_tokens=run.max_completion_tokens)
        if run.max_prompt_tokens is not None:
            budget = min(budget, run.max_prompt_tokens - self._spent.prompt_tokens)
        return prompt.Window(
            budget_tokens=budget,
            last_messages=run.truncation_strategy.last_messages,
            count=self._engine.count_tokens,
            fixed=prompt.fixed_texts(run, self._additional_instructions),
            run_id=run.id,
        )

    def _request(self, window: prompt.Window, budget_left: int | None) -> ChatRequest:
        request = prompt.request(
            self._run,
            window.messages(),
            additional_instructions=self._additional_instructions,
            is_first_turn=not any(
                step.type == "tool_calls" and step.status == "completed" for step in self._steps
            ),
            completion_tokens_left=budget_left,
        )
        return structs.replace(request, model=self._engine.resolve_model(self._run.model))

    def _completion_tokens_left(self) -> int | None:
        budget = self._run.max_completion_tokens
        return None if budget is None else budget - self._spent.completion_tokens

    async def _call_model(
        self, request: ChatRequest, turn: Turn, wakeup: Wakeup
    ) -> Interruption | None:
        """Stream the answer into the log; what has cut it short, or None if it is whole."""
        streaming = asyncio.create_task(self._stream(request, turn))
        try:
            while True:
                waking = asyncio.create_task(wakeup.wait(timeout_seconds=self._seconds_left()))
                await asyncio.wait({streaming, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                if streaming.done():
                    await streaming
                    return None
                if interruption := await self._look_for_interruption():
                    return interruption
        finally:
            streaming.cancel()
            # What it breaks off with after an interruption is nobody's concern.
            await asyncio.gather(streaming, return_exceptions=True)

    async def _stream(self, request: ChatRequest, turn: Turn) -> None:
        async with aclosing(self._engine.provider.stream(request)) as chunks:
            async for chunk in chunks:
                events = turn.feed(chunk, now=self._now())
                if events:
                    if self._first_token_seconds is None:
                        self._first_token_seconds = time.monotonic() - self._started
                    self._recorder.record(events)
        await self._recorder.settle()

    async def _finish(self, turn: Turn, request: ChatRequest) -> None:
        usage = turn.usage or estimated(request, turn.written, count=self._engine.count_tokens)
        ending = turn.end(usage=usage, now=self._now())
        self._spent = added(self._spent, usage)
        match ending.kind:
            case "answered":
                await self._end("completed", ending.events)
            case "called_functions":
                await self._require_action(turn, ending)
            case "length":
                await self._end_incomplete("max_completion_tokens", ending.events)
            case "content_filter":
                self._reason = "content filter"
                await self._end("failed", ending.events, error=LastError("server_error", FILTERED))

    async def _require_action(self, turn: Turn, ending: Ending) -> None:
        calls = [
            RequiredToolCall(
                id=call.id, function=CalledFunction(call.function.name, call.function.arguments)
            )
            for call in ending.calls
        ]
        action = RequiredAction(submit_tool_outputs=RequiredToolCalls(calls))
        run = move(self._run, "requires_action", now=self._now(), required_action=action)
        assert ending.step is not None
        waiting = steps.replacing(ending.step, msgspec.json.encode(ending.step))
        if not await self._commit(run, ending.events, waiting):
            await self._reload()
            await self._interrupt("cancelled", turn, ending.events)

    async def _end_incomplete(
        self, reason: Literal["max_completion_tokens", "max_prompt_tokens"], events: list[Event]
    ) -> None:
        await self._end("incomplete", events, incomplete_details=RunIncompleteDetails(reason))

    async def _fail(self, problem: ModelError, turn: Turn | None) -> None:
        error = LastError(problem.code, problem.message)
        self._reason = problem.reason
        if turn is None:
            await self._end("failed", await self._closing("failed", error), error=error)
            return
        await self._recorder.settle()
        events = turn.abandon("failed", error, now=self._now())
        self._spent = added(self._spent, turn.usage)
        await self._end("failed", events, error=error)

    async def _interrupt(
        self, to: Interruption, turn: Turn | None = None, events: Sequence[Event] = ()
    ) -> None:
        """End a run that was cancelled or whose time is over, and with it what is open."""
        await self._recorder.settle()
        closing = turn.abandon(to, None, now=self._now()) if turn else await self._closing(to, None)
        said = [Event("thread.run.cancelling", self._run)] if to == "cancelled" else []
        await self._end(to, [*said, *events, *closing])

    async def _closing(self, status: RunStatus, error: LastError | None) -> list[Event]:
        return await open_ends.closing(
            self._engine.db, self._run, self._steps, status=status, now=self._now(), error=error
        )

    async def _end(
        self,
        to: RunStatus,
        events: list[Event],
        *,
        error: LastError | None = None,
        incomplete_details: RunIncompleteDetails | None = None,
    ) -> None:
        """Commit the run's end. A cancellation that came too late does not take it back."""
        while True:
            run = move(
                self._run,
                to,
                now=self._now(),
                usage=self._spent,
                last_error=error,
                incomplete_details=incomplete_details,
            )
            if await self._commit(run, events):
                return
            await self._reload()

    async def _commit(self, run: Run, events: list[Event], *also: Statement) -> bool:
        """Write the run's new status with these events; False if it has moved meanwhile."""
        body = msgspec.json.encode(run)
        rested_at = self._now() if run.status in TERMINAL else None
        statements = [runs.replacing(run, old=self._body, new=body, rested_at=rested_at), *also]
        if run.status in TERMINAL:
            statements.append(runs.freeing_thread(run.thread_id, run.id))
        if run.status in AT_REST:
            statements.append(leases.finishing(self._lease))
        if not await self._recorder.commit(
            [*events, Event(RUN_EVENTS[run.status], run)], *statements
        ):
            return False
        self._run, self._body = run, body
        self._engine.db.notify(rest_topic(run.id))
        return True

    async def _look_for_interruption(self) -> Interruption | None:
        stored = await runs.to_drive(self._engine.db, self._run.thread_id, self._run.id)
        if stored is None:
            raise Replaced
        self._body = stored.body
        self._run = msgspec.json.decode(stored.body, type=Run)
        return self._interruption()

    async def _reload(self) -> None:
        """Read the run again after a refusal; Replaced if it is not the run that has moved."""
        before = self._body
        await self._look_for_interruption()
        if self._body == before:
            raise Replaced

    def _interruption(self) -> Interruption | None:
        if self._run.status == "cancelling":
            return "cancelled"
        return "expired" if self._seconds_left() <= 0 else None

    def _seconds_left(self) -> float:
        assert self._run.expires_at is not None
        return self._run.expires_at - self._engine.clock()

    def _now(self) -> int:
        return int(self._engine.clock())
