"""A project, the model behind it, and what the reference says of both; no rules.

The model says what each run's script tells it, and may fall silent in the middle of it. So
whatever a client does meanwhile, there is one right answer.
"""

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from tests.fakes.model_server import ModelServer
from tests.fakes.replies import PATIENCE_SECONDS, Call, Reply
from tests.model.project import Answer, Asking, Project, expect, refused
from tests.model.reference import (
    ANYTHING,
    Asked,
    Body,
    Inside,
    Shelf,
    calling,
    closed_calls,
    creation,
    flat_prompt,
    moved_run,
    new_message,
    new_step,
    some_id,
    written_message,
)
from tests.model.turns import CANCELLED, FUNCTION, OUTCOMES, PAUSED, Outcome, Turn, Written

EVERYTHING: Final = Asked(limit=100)


@dataclass
class Stage:
    """What all projects share: the model's server, what it says to each run, and a stranger."""

    model: ModelServer
    new_project: Callable[[], Project]
    stranger: Project
    replies: dict[str, Reply] = field(default_factory=dict)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.model.answer = lambda body: self.replies[body["model"]]

    def heard(self, model: str) -> list[Body]:
        """The messages of the last call that a run has made."""
        bodies = (request.body for request in reversed(self.model.requests))
        return next(list(body["messages"]) for body in bodies if body["model"] == model)


@dataclass
class Playing:
    """A run that is not at its end: the turns that are left, the first of them under way."""

    model: str
    turns: deque[Turn]
    calls: list[Call] = field(default_factory=list)
    run_id: str = ""
    thread_id: str = ""
    open_message: str | None = None
    open_step: str | None = None

    @property
    def path(self) -> str:
        """The run's own."""
        return f"/threads/{self.thread_id}/runs/{self.run_id}"

    def let_go(self) -> None:
        """Have the model go on, if it pauses."""
        for turn in self.turns:
            if turn.gate:
                turn.gate.open()


class Scene(RuleBasedStateMachine):
    """One project, for one example."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.project = stage.new_project()
        self.assistants = Shelf()
        self.threads = Shelf()
        self.inside: dict[str, Inside] = {}
        self.playing: dict[str, Playing] = {}  # by thread
        self.touched = ""

    def teardown(self) -> None:
        """No run is left behind; but first all is as the reference says, unless it failed."""
        try:
            if sys.exception() is None:
                self.check_project()
        finally:
            for thread_id in self.threads.living:
                self.project.ask("DELETE", f"/threads/{thread_id}")
            for playing in self.playing.values():
                playing.let_go()

    # --- what is there ------------------------------------------------------------------------

    def check_project(self) -> None:
        """Everything, in both orders."""
        for order in (EVERYTHING, EVERYTHING._replace(order="asc")):
            expect(self.project.page("/assistants", order), self.assistants.page(order))
            expect(self.project.page("/threads", order), self.threads.page(order))
            for thread_id in self.threads.living:
                self.check_thread(thread_id, order)
        for path in ("/assistants", "/threads"):
            expect(self.stage.stranger.page(path, EVERYTHING), Shelf().page(EVERYTHING))

    def check_thread(self, thread_id: str, order: Asked = EVERYTHING) -> None:
        """A thread, its messages, its runs and their steps."""
        path, inside = f"/threads/{thread_id}", self.inside[thread_id]
        expect(self.project.get(path), self.threads[thread_id])
        expect(self.project.page(f"{path}/messages", order), inside.messages.page(order))
        expect(self.project.page(f"{path}/runs", order), inside.runs.page(order))
        for run_id in inside.runs.ids[-2:]:
            steps = inside.steps.get(run_id, Shelf())
            expect(self.project.page(f"{path}/runs/{run_id}/steps", order), steps.page(order))

    # --- choices ------------------------------------------------------------------------------

    def some_assistant(self, data: st.DataObject) -> str:
        """Most often one that is there."""
        return data.draw(st.sampled_from([*self.assistants.living * 3, *self.assistants.ids]))

    def some_thread(self, data: st.DataObject) -> str:
        """Most often one that is there."""
        ids = [*self.threads.living * 5, *self.threads.ids[-2:], "thread_of_nobody"]
        self.touched = data.draw(st.sampled_from(ids))
        return self.touched

    def some_message(self, data: st.DataObject) -> tuple[str, str]:
        """`(thread_id, id)` of a message of a thread that is there; it may be deleted.

        The newest is chosen most often: what comes next stands behind it.
        """
        return self._some_inside(data, lambda inside: inside.messages, newest_times=4)

    def some_run(self, data: st.DataObject) -> tuple[str, str]:
        """`(thread_id, id)` of a run of a thread that is there."""
        return self._some_inside(data, lambda inside: inside.runs)

    def some_playing(self, data: st.DataObject) -> Playing:
        """A run that is not at its end."""
        self.touched = data.draw(st.sampled_from(list(self.playing)))
        return self.playing[self.touched]

    def has_messages(self) -> bool:
        """Whether there is a message to choose."""
        return any(self.inside[thread_id].messages.ids for thread_id in self.threads.living)

    def has_runs(self) -> bool:
        """Whether there is a run to choose."""
        return any(self.inside[thread_id].runs.ids for thread_id in self.threads.living)

    def _some_inside(
        self, data: st.DataObject, shelf: Callable[[Inside], Shelf], *, newest_times: int = 1
    ) -> tuple[str, str]:
        shelves = {thread_id: shelf(self.inside[thread_id]) for thread_id in self.threads.living}
        places = [
            (thread_id, id)
            for thread_id, found in shelves.items()
            for id in [*found.ids, *found.living[-1:] * (newest_times - 1)]
        ]
        place = data.draw(st.sampled_from(places))
        self.touched = place[0]
        return place

    # --- what happens -------------------------------------------------------------------------

    def post(self, path: str, asked: Body, *, has_key: bool = False) -> Answer:
        """A POST, with an Idempotency-Key or without."""
        key = f"key-{next(self.stage.numbers)}" if has_key else None
        return self.project.post(Asking(path, asked, key))

    def delete(self, path: str, id: str, object: str, shelf: Shelf) -> None:
        """Delete what is there, once."""
        answer = self.project.ask("DELETE", path)
        if id not in shelf.living:
            refused(answer, 404)
            return
        expect(answer.body, {"id": id, "object": object, "deleted": True})
        shelf.delete(id)

    def adopt_thread(self, body: Body, messages: list[Body]) -> None:
        """A new thread with these messages, as they were asked for."""
        self.threads.put(body)
        self.inside[body["id"]] = Inside()
        self.adopt_messages(body["id"], messages)

    def adopt_messages(self, thread_id: str, asked: list[Body]) -> None:
        """Messages that came along with something else, behind those that were there."""
        inside = self.inside[thread_id]
        after = {"after": inside.messages.ids[-1]} if inside.messages.ids else {}
        if not asked:
            return
        query = {"order": "asc", "limit": str(len(asked)), **after}
        found = self.project.get(f"/threads/{thread_id}/messages", query)["data"]
        expect(found, [new_message(each, thread_id=thread_id) for each in asked])
        for body in found:
            inside.add_message(body)

    def prepare(self, turns: list[Turn]) -> Playing:
        """A run that is about to be created: the model knows what to say."""
        playing = Playing(f"model-{next(self.stage.numbers)}", deque(turns))
        self.brief(playing)
        return playing

    def brief(self, playing: Playing) -> None:
        """Tell the model the turn that comes next."""
        turn = playing.turns[0]
        count = OUTCOMES[turn.kind].calls
        ids = [f"call_{next(self.stage.numbers)}" for _ in range(count)]
        playing.calls = [Call(id, FUNCTION, '{"for": "it"}') for id in ids]
        self.stage.replies[playing.model] = turn.reply(playing.calls)

    def start(self, run: Body, playing: Playing) -> None:
        """A run was created."""
        self.touched = playing.thread_id = run["thread_id"]
        playing.run_id = run["id"]
        self.inside[playing.thread_id].runs.put(run)
        self.playing[playing.thread_id] = playing

    def play(self, playing: Playing) -> None:
        """Wait until the run rests or the model pauses, and see what has come of the turn."""
        turn = playing.turns[0]
        outcome = OUTCOMES[turn.kind]
        if turn.gate is None or turn.pause is None:
            self.project.get(playing.path, x_stainless_poll_helper="true")
        else:
            turn.gate.arrived.result(PATIENCE_SECONDS)
            outcome = PAUSED[turn.pause]
            if outcome.written:
                path = f"/threads/{playing.thread_id}/messages?limit=1"
                self.project.wait_for(path, b'"status":"in_progress"')
        shown = self.inside[playing.thread_id].prompt(self.run(playing)["instructions"])
        expect(flat_prompt(self.stage.heard(playing.model)), shown, "what the model was shown")
        self.settle(playing, outcome)

    def finish(self, playing: Playing) -> None:
        """Have the model go on where it pauses, and see how the run has ended."""
        playing.let_go()
        self.project.get(playing.path, x_stainless_poll_helper="true")
        self.settle(playing, OUTCOMES[playing.turns[0].kind])

    def cancel(self, playing: Playing) -> None:
        """Cancel a run that waits for outputs or for its model, and see how it has ended."""
        run = self.run(playing)
        answer = self.post(f"{playing.path}/cancel", {})
        # One that is cancelled at once may or may not have been taken up before.
        started_at = run["started_at"] or ANYTHING
        now = {"status": "cancelling", "started_at": started_at, "required_action": None}
        expect(answer.body, {**run, **now})
        self.project.get(playing.path, x_stainless_poll_helper="true")
        if run["status"] == "requires_action":
            self.close_calls(playing, "cancelled", None)
        self.settle(playing, CANCELLED[playing.turns[0].pause])
        playing.let_go()

    def close_calls(self, playing: Playing, status: str, output: str | None) -> None:
        """The step that waits for outputs has them, or will never have them."""
        steps = self.inside[playing.thread_id].steps[playing.run_id]
        steps.put(closed_calls(steps.bodies()[-1], status, output))

    def settle(self, playing: Playing, outcome: Outcome) -> None:
        """Hold what a turn has left against its outcome, and learn the ids of it."""
        inside = self.inside[playing.thread_id]
        run = self.project.get(playing.path)
        expect(run, moved_run(self.run(playing), outcome.status, playing.calls))
        inside.runs.put(run)
        steps = self.project.all(f"{playing.path}/steps")
        before = inside.steps.get(playing.run_id, Shelf()).bodies()
        is_open = playing.open_step is not None
        kept = before[:-1] if is_open and outcome.written else before
        expect(steps, [*kept, *_new_steps(run, playing, outcome)], "the run's steps")
        for step in steps[: len(kept)]:
            inside.add_step(step)
        for step in steps[len(kept) :]:
            if outcome.written and step["type"] == "message_creation":
                message_id = step["step_details"]["message_creation"]["message_id"]
                self._check_written(run, message_id, outcome.written)
                is_open = outcome.written.status == "in_progress"
                playing.open_message = message_id if is_open else None
                playing.open_step = step["id"] if is_open else None
            inside.add_step(step)
        if outcome.status not in ("in_progress", "requires_action"):
            del self.playing[playing.thread_id]

    def run(self, playing: Playing) -> Body:
        """The run, as the reference has it."""
        return self.inside[playing.thread_id].runs[playing.run_id]

    def _check_written(self, run: Body, message_id: str, written: Written) -> None:
        inside = self.inside[run["thread_id"]]
        answer = self.project.ask("GET", f"/threads/{run['thread_id']}/messages/{message_id}")
        if message_id in inside.messages.ids and message_id not in inside.messages.living:
            refused(answer, 404)  # deleted while it was being written
            return
        expect(answer.body, written_message(run, message_id, written))
        inside.add_message(answer.body)


def _new_steps(run: Body, playing: Playing, outcome: Outcome) -> list[Body]:
    steps = []
    if outcome.written:
        details = creation(playing.open_message or some_id("msg"))
        steps.append(new_step(run, outcome.written.step_status, details, id=playing.open_step))
    if outcome.calls:
        steps.append(new_step(run, "in_progress", calling(playing.calls)))
    return steps


def page_requests(ids: list[str], prefix: str) -> st.SearchStrategy[Asked]:
    """Pages of a list that had these ids."""
    cursors: st.SearchStrategy[Any] = st.sampled_from([None, *ids, f"{prefix}_of_nobody"])
    return st.builds(
        Asked,
        limit=st.integers(1, 4) | st.sampled_from([20, 100]),
        order=st.sampled_from(["asc", "desc"]),
        after=st.none() | cursors,
        before=st.none() | cursors,
    )
