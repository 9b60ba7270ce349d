"""Drives one claimed run to its next rest: the run as a list of steps you can read aloud.

    take it up → fill the prompt → call the model ⇄ search, run code → write down how it ended

Whatever interrupts that (a cancellation, the run's time being over, a deleted thread) ends it at
once, also while the model is silent. Nobody else appends to the log meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from typing import Final, Literal

import msgspec
from msgspec import structs

from rethread.contract.chat import ChatRequest
from rethread.contract.events import Event
from rethread.contract.runs import (
    CalledFunction,
    LastError,
    RequiredAction,
    RequiredToolCall,
    RequiredToolCalls,
    RunIncompleteDetails,
    RunStatus,
    Usage,
)
from rethread.contract.steps import FunctionCall, Step, calls_of, decode_step
from rethread.errors import ModelError
from rethread.runs import coding, history, images, making, open_ends, prompt, searching
from rethread.runs.calls import Offer
from rethread.runs.coding import Workbench
from rethread.runs.commands import interrupt_topic
from rethread.runs.engine import Engine
from rethread.runs.held import HeldRun, Interruption
from rethread.runs.lifecycle import TERMINAL, end_step, move
from rethread.runs.prompt import OwnTools
from rethread.runs.recorder import Recorder, Replaced
from rethread.runs.turn import Ending, Turn, step_event
from rethread.runs.usage import added, estimated
from rethread.runs.window import Window, beside_answer
from rethread.runs.writing import Known
from rethread.store import leases, runs, steps
from rethread.store.events import topic
from rethread.store.leases import Lease
from rethread.store.runs import StoredRun
from rethread.store.wakeups import Wakeup

logger = logging.getLogger("rethread.run")

MOST_CRASHES: Final = 4  # a run whose server goes away that often may be why it does
STOPPED: Final = "The server was restarted in the middle of this step."
STOPPED_TOO_OFTEN: Final = "The server stopped several times in the middle of this run."
FILTERED: Final = "The model's answer was stopped by its content filter."


async def drive(engine: Engine, lease: Lease, stored: StoredRun | None = None) -> None:
    """Bring the run to its next rest, or leave it to whoever has taken it over.

    `stored` is the run as it was just written, where the caller knows it.
    """
    stored = stored or await runs.to_drive(engine.db, lease.thread_id, lease.run_id)
    if stored is None:
        await engine.db.write(leases.finishing(lease))
        engine.db.notify(topic(lease.run_id))
        return
    recorder = Recorder(engine.log, lease, last_number=stored.last_event)
    held = HeldRun(engine.db, lease, recorder, stored.body, clock=engine.clock)
    status = held.run.status
    if status in TERMINAL or (status == "requires_action" and not held.interruption()):
        await engine.db.write(leases.finishing(lease))
        return
    driver = Driver(engine, lease, recorder, held, stored.additional_instructions)
    try:
        with coding.keeping_session(engine.code, held.run):
            await driver.drive()
    except Replaced:
        engine.db.notify(topic(lease.run_id))  # its listeners look whether it is still there
    finally:
        driver.write_log_line()


class Driver:
    """One run under one lease."""

    def __init__(
        self,
        engine: Engine,
        lease: Lease,
        recorder: Recorder,
        held: HeldRun,
        additional_instructions: str | None,
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._recorder = recorder
        self._held = held
        self._additional_instructions = additional_instructions
        self._steps: list[Step] = []
        self._turn: Turn | None = None
        self._workbench: Workbench | None = None
        self._images: Sequence[str] = ()  # that the next message begins with
        self._spent = Usage()
        self._started = time.monotonic()
        self._first_token_seconds: float | None = None
        self._reason = ""  # why the run failed, in words for the log

    async def drive(self) -> None:
        """The run from where it stands to its next rest."""
        run = self._held.run
        if run.started_at is not None:
            bodies = await steps.of_run(self._engine.db, run.thread_id, run.id)
            self._steps = [decode_step(body) for body in bodies]
            for step in self._steps:
                self._spent = added(self._spent, step.usage)
        # From here on an interruption is heard. What came before, the first commit notices,
        # which a run that is taken over does not make: so it is looked at again.
        with self._engine.db.listen(interrupt_topic(run.id)) as wakeup:
            if run.status == "in_progress":
                interruption = await self._held.look_for_interruption()
            else:
                interruption = self._held.interruption()
            if interruption:
                await self._interrupt(interruption)
                return
            # Read while the disk takes the first commit: nothing is added to a held thread.
            filling = asyncio.create_task(self._filled())
            try:
                if await self._take_up():
                    await self._answer(filling, wakeup)
            except ModelError as problem:
                await self._fail(problem)
            finally:
                filling.cancel()
                await asyncio.gather(filling, return_exceptions=True)

    def write_log_line(self) -> None:
        """The run's one line: ids, status and times, never what was said."""
        run, first = self._held.run, self._first_token_seconds
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
        if self._held.run.status == "queued":
            started = move(self._held.run, "in_progress", now=self._held.now())
            if await self._held.commit(started, []):
                return True
            await self._held.reload()
            await self._interrupt("cancelled")
            return False
        if self._lease.crashes >= MOST_CRASHES:
            await self._fail(ModelError(STOPPED_TOO_OFTEN, reason="server stopped"))
            return False
        ends = await self._closing("failed", LastError("server_error", STOPPED))
        if ends and not await self._recorder.commit(ends):
            raise Replaced
        self._steps = [step for step in self._steps if step.status != "in_progress"]
        return True

    async def _answer(self, filling: Awaitable[Window], wakeup: Wakeup) -> None:
        """Call the model, and again with what its calls have given, until the run rests."""
        run = self._held.run
        refusal = await coding.refusal(self._engine.code, run)
        prompt.check_supported(run, code_refusal=refusal)
        self._images = making.images_to_show(self._steps)
        if interruption := await self._wait_for_files(wakeup):
            await self._interrupt(interruption)
            return
        window = await filling
        while await self._call_model(window, wakeup):
            window = await self._filled()

    async def _wait_for_files(self, wakeup: Wakeup) -> Interruption | None:
        """Give the thread's files time to be read, before the model is called first."""
        run = self._held.run
        if self._has_called_tools or not prompt.searches(run):
            return None
        waiting = searching.wait_for_files(
            self._engine.db, run, seconds=self._engine.file_wait_seconds
        )
        return await self._held.unless_interrupted(waiting, wakeup)

    async def _filled(self) -> Window:
        run = self._held.run
        self._workbench = await coding.workbench(self._engine.db, self._engine.code, run)
        code = self._workbench and self._workbench.definition
        whole = self._engine.context_window(run.model)
        budget = beside_answer(whole, answer_tokens=run.max_completion_tokens)
        if run.max_prompt_tokens is not None:
            budget = min(budget, run.max_prompt_tokens - self._spent.prompt_tokens)
        window = Window(
            budget_tokens=budget,
            last_messages=run.truncation_strategy.last_messages,
            count=self._engine.count_tokens,
            fixed=prompt.fixed_texts(run, self._additional_instructions, OwnTools(code=code)),
            run_id=run.id,
            search_name=prompt.search_name(run),
            code_name=prompt.code_name(run) if self._workbench else None,
        )
        await history.fill(self._engine.db, run.thread_id, window)
        return window

    async def _call_model(self, window: Window, wakeup: Wakeup) -> bool:
        """One answer of the model; whether it is to be called again, with what its calls gave."""
        run = self._held.run
        budget = run.max_completion_tokens
        budget_left = None if budget is None else budget - self._spent.completion_tokens
        if window.lacks_newest and run.max_prompt_tokens is None:
            raise prompt.too_long(run, window_tokens=self._engine.context_window(run.model))
        if window.lacks_question and run.max_prompt_tokens is not None:
            await self._end_incomplete("max_prompt_tokens", [])
            return False
        if budget_left is not None and budget_left <= 0:
            await self._end_incomplete("max_completion_tokens", [])
            return False
        offer = prompt.offer(run, self._steps, most_code_calls=self._engine.code_calls_per_run)
        known = Known(window.cited, self._workbench.paths if self._workbench else {})
        turn = self._turn = Turn(run, offer=offer, known=known, images=self._images)
        request = self._request(window, budget_left, offer)
        if interruption := await self._held.unless_interrupted(self._stream(request, turn), wakeup):
            await self._interrupt(interruption)
            return False
        ending = self._ended(turn, request)
        if ending.ours:
            return await self._make_calls(turn, ending, window, wakeup)
        await self._finish(ending)
        return False

    def _request(self, window: Window, budget_left: int | None, offer: Offer) -> ChatRequest:
        run, code = self._held.run, self._workbench and self._workbench.definition
        own = OwnTools(offer.search is not None, code if offer.code is not None else None)
        request = prompt.request(
            run,
            window.messages(),
            additional_instructions=self._additional_instructions,
            is_first_turn=not self._has_called_tools,
            completion_tokens_left=budget_left,
            own=own,
        )
        return structs.replace(request, model=self._engine.resolve_model(run.model))

    @property
    def _has_called_tools(self) -> bool:
        return any(step.type == "tool_calls" and step.status == "completed" for step in self._steps)

    async def _stream(self, request: ChatRequest, turn: Turn) -> None:
        engine = self._engine
        request = await images.put_in(engine.db, engine.blobs, self._held.run.thread_id, request)
        async with aclosing(engine.provider.stream(request)) as chunks:
            async for chunk in chunks:
                events = turn.feed(chunk, now=self._held.now())
                if events:
                    if self._first_token_seconds is None:
                        self._first_token_seconds = time.monotonic() - self._started
                    self._recorder.record(events)
        await self._recorder.settle()

    def _ended(self, turn: Turn, request: ChatRequest) -> Ending:
        usage = turn.usage or estimated(request, turn.written, count=self._engine.count_tokens)
        ending = turn.end(usage=usage, now=self._held.now())
        self._spent = added(self._spent, usage)
        turn.usage = None  # counted
        return ending

    async def _make_calls(self, turn: Turn, ending: Ending, window: Window, wakeup: Wakeup) -> bool:
        """Make the answer's calls; False if the run has come to rest, for whatever reason."""
        self._recorder.record(ending.events)
        work = making.make(
            self._engine,
            self._held.run,
            turn,
            ending,
            workbench=self._workbench,
            room=window.room_for_passages,
            record=self._recorder.record,
        )
        if interruption := await self._held.unless_interrupted(work, wakeup):
            await self._interrupt(interruption)
            return False
        assert turn.step is not None
        if ending.functions:
            await self._require_action(turn.step, [])
            return False
        step = end_step(turn.step, "completed", now=self._held.now())
        if not await self._recorder.commit([step_event(step)]):
            raise Replaced
        self._turn = None
        self._steps.append(step)
        self._images = [*turn.images, *making.images_of(step)]
        return True

    async def _finish(self, ending: Ending) -> None:
        match ending.kind:
            case "answered":
                await self._end("completed", ending.events)
            case "called_tools":
                assert ending.step is not None
                await self._require_action(ending.step, ending.events)
            case "length":
                await self._end_incomplete("max_completion_tokens", ending.events)
            case "content_filter":
                self._reason = "content filter"
                await self._end("failed", ending.events, error=LastError("server_error", FILTERED))

    async def _require_action(self, step: Step, events: list[Event]) -> None:
        calls = [
            RequiredToolCall(
                id=call.id, function=CalledFunction(call.function.name, call.function.arguments)
            )
            for call in calls_of(step)
            if isinstance(call, FunctionCall)
        ]
        action = RequiredAction(submit_tool_outputs=RequiredToolCalls(calls))
        run = move(self._held.run, "requires_action", now=self._held.now(), required_action=action)
        waiting = steps.replacing(step, msgspec.json.encode(step))
        if not await self._held.commit(run, events, waiting):
            await self._held.reload()
            await self._interrupt("cancelled", events)

    async def _end_incomplete(
        self, reason: Literal["max_completion_tokens", "max_prompt_tokens"], events: list[Event]
    ) -> None:
        await self._end("incomplete", events, incomplete_details=RunIncompleteDetails(reason))

    async def _fail(self, problem: ModelError) -> None:
        error = LastError(problem.code, problem.message)
        self._reason = problem.reason
        await self._recorder.settle()
        closing = await self._closing("failed", error)
        if self._turn is not None:
            self._spent = added(self._spent, self._turn.usage)
        await self._end("failed", closing, error=error)

    async def _interrupt(self, to: Interruption, events: Sequence[Event] = ()) -> None:
        """End a run that was cancelled or whose time is over, and with it what is open."""
        await self._recorder.settle()
        closing = await self._closing(to, None)
        said = [Event("thread.run.cancelling", self._held.run)] if to == "cancelled" else []
        await self._end(to, [*said, *events, *closing])

    async def _closing(self, status: RunStatus, error: LastError | None) -> list[Event]:
        """What ends what is open: of the answer under way, or of a driver's that went away."""
        if self._turn is not None:
            return self._turn.abandon(status, error, now=self._held.now())
        return await open_ends.closing(
            self._engine.db,
            self._held.run,
            self._steps,
            status=status,
            now=self._held.now(),
            error=error,
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
                self._held.run,
                to,
                now=self._held.now(),
                usage=self._spent,
                last_error=error,
                incomplete_details=incomplete_details,
            )
            if await self._held.commit(run, events):
                return
            await self._held.reload()
