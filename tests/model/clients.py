"""What clients do to runs, in any order, with all that they do to what runs hang on."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.fakes.replies import Call
from tests.model.project import Answer, Asking, expect, refused
from tests.model.reference import Body, Shelf, new_message, new_run, new_thread, some_id
from tests.model.scene import Scene, page_requests
from tests.model.turns import FUNCTION, Calling, Ending, Pause, Turn, script
from tests.model.writers import DATA, HAS_KEY, MESSAGES, METADATA, MOST_THREADS, TEXTS, Writers

CALLING: Final[st.SearchStrategy[list[Calling]]] = st.sampled_from(
    [
        [],
        ["calls"],
        ["calls", "calls twice"],
        ["calls twice", "speaks and calls"],
        ["speaks and calls", "calls"],
    ]
)
ENDING: Final[st.SearchStrategy[Ending]] = st.sampled_from(
    ["answers", "says nothing", "runs out", "breaks off", "refuses"]
)
PAUSE: Final[st.SearchStrategy[Pause | None]] = st.sampled_from([None, None, "before", "within"])
SCRIPTS: Final = st.builds(script, CALLING, ENDING, PAUSE)


class Clients(Writers):
    """All that clients do."""

    # --- runs ---------------------------------------------------------------------------------

    @rule(
        data=DATA,
        turns=SCRIPTS,
        added=st.lists(MESSAGES, max_size=2),
        metadata=METADATA,
        has_key=HAS_KEY,
        is_cancelled_at_once=st.booleans(),
    )
    def create_run(
        self,
        data: st.DataObject,
        turns: list[Turn],
        added: list[Body],
        metadata: Body,
        *,
        has_key: bool,
        is_cancelled_at_once: bool,
    ) -> None:
        thread_id = self.some_thread(data)
        assistant_id = self.some_assistant(data)
        playing = self.prepare(turns)
        asked: Body = {"assistant_id": assistant_id, "model": playing.model, "metadata": metadata}
        asked["additional_messages"] = added
        answer = self.post(f"/threads/{thread_id}/runs", asked, has_key=has_key)
        if assistant_id not in self.assistants.living or thread_id not in self.threads.living:
            refused(answer, 404)
            return
        assistant, inside = self.assistants[assistant_id], self.inside[thread_id]
        if not (inside.messages.living or added or assistant["instructions"]):
            refused(answer, 400, "requires a Thread with a user message")
        elif thread_id in self.playing:
            refused(answer, 400, f"already has an active run {self.playing[thread_id].run_id}")
        else:
            expect(answer.body, new_run(asked, assistant, thread_id=thread_id))
            self.adopt_messages(thread_id, added)
            self.start(answer.body, playing)
            if is_cancelled_at_once and turns[0].pause == "before":
                self.cancel(playing)
            else:
                self.play(playing)

    @precondition(lambda self: len(self.threads.living) < MOST_THREADS)
    @rule(data=DATA, turns=SCRIPTS, added=st.lists(MESSAGES, max_size=2), has_key=HAS_KEY)
    def create_thread_and_run(
        self, data: st.DataObject, turns: list[Turn], added: list[Body], *, has_key: bool
    ) -> None:
        assistant_id = self.some_assistant(data)
        playing = self.prepare(turns)
        asked: Body = {"assistant_id": assistant_id, "model": playing.model}
        asked["thread"] = {"messages": added}
        answer = self.post("/threads/runs", asked, has_key=has_key)
        if assistant_id not in self.assistants.living:
            refused(answer, 404)
            return
        assistant = self.assistants[assistant_id]
        if not added and not assistant["instructions"]:
            refused(answer, 400, "requires a Thread with a user message")
            return
        expect(answer.body, new_run(asked, assistant, thread_id=some_id("thread")))
        thread = self.project.get(f"/threads/{answer.body['thread_id']}")
        expect(thread, new_thread({}))
        self.adopt_thread(thread, added)
        self.start(answer.body, playing)
        self.play(playing)

    @precondition(lambda self: self.playing)
    @rule(data=DATA, output=TEXTS, has_key=HAS_KEY)
    def go_on(self, data: st.DataObject, output: str, *, has_key: bool) -> None:
        """Give a run what it waits for: the outputs of its calls, or its model's next words."""
        playing = self.some_playing(data)
        if self.run(playing)["status"] == "in_progress":
            self.finish(playing)
            return
        run, outputs = self.run(playing), _outputs(playing.calls, output)
        playing.turns.popleft()
        self.brief(playing)
        answer = self.post(f"{playing.path}/submit_tool_outputs", outputs, has_key=has_key)
        expect(answer.body, {**run, "status": "queued", "required_action": None})
        self.inside[playing.thread_id].runs.put(answer.body)
        self.close_calls(playing, "completed", output)
        self.play(playing)

    @precondition(lambda self: self.playing)
    @rule(data=DATA)
    def submit_what_nobody_waits_for(self, data: st.DataObject) -> None:
        playing = self.some_playing(data)
        is_waiting = self.run(playing)["status"] == "requires_action"
        outputs = _outputs([*playing.calls, Call("call_0", FUNCTION, "")], "Hello")
        answer = self.post(f"{playing.path}/submit_tool_outputs", outputs)
        refused(answer, 400, "Expected tool outputs" if is_waiting else "do not accept")

    @precondition(lambda self: self.playing)
    @rule(data=DATA)
    def cancel_run(self, data: st.DataObject) -> None:
        """One that waits for outputs, or for its model."""
        self.cancel(self.some_playing(data))

    @precondition(Scene.has_runs)
    @rule(data=DATA, metadata=METADATA)
    def modify_run(self, data: st.DataObject, metadata: Body) -> None:
        thread_id, id = self.some_run(data)
        runs = self.inside[thread_id].runs
        answer = self.post(f"/threads/{thread_id}/runs/{id}", {"metadata": metadata})
        if runs[id]["status"] == "in_progress":
            refused(answer, 400, "with status 'in_progress'")
        else:
            expect(answer.body, {**runs[id], "metadata": metadata})
            runs.put(answer.body)

    @precondition(Scene.has_runs)
    @rule(data=DATA)
    def bother_a_run_that_has_ended(self, data: st.DataObject) -> None:
        thread_id, id = self.some_run(data)
        if thread_id in self.playing and self.playing[thread_id].run_id == id:
            return
        path = f"/threads/{thread_id}/runs/{id}"
        refused(self.post(f"{path}/cancel", {}), 400, "Cannot cancel run")
        answer = self.post(f"{path}/submit_tool_outputs", {"tool_outputs": []})
        refused(answer, 400, "do not accept tool outputs")

    @precondition(Scene.has_runs)
    @rule(data=DATA)
    def list_runs_and_steps(self, data: st.DataObject) -> None:
        thread_id, id = self.some_run(data)
        inside, path = self.inside[thread_id], f"/threads/{thread_id}/runs"
        asked = data.draw(page_requests(inside.runs.ids, "run"))
        expect(self.project.page(path, asked), inside.runs.page(asked))
        steps = inside.steps.get(id, Shelf())
        asked = data.draw(page_requests(steps.ids, "step"))
        expect(self.project.page(f"{path}/{id}/steps", asked), steps.page(asked))

    # --- the same again, and all at once ------------------------------------------------------

    @precondition(lambda self: self.project.answered)
    @rule(data=DATA)
    def ask_again_with_the_same_key(self, data: st.DataObject) -> None:
        """The first answer, whatever has become of what it told of."""
        asking, raw = data.draw(st.sampled_from(self.project.answered))
        again = self.project.ask("POST", asking.path, asking.body, idempotency_key=asking.key or "")
        expect((again.status, again.raw), (200, raw))

    @precondition(lambda self: self.free_threads() and self.assistants.living)
    @rule(data=DATA, kinds=st.lists(st.sampled_from(["message", "run"]), min_size=2, max_size=4))
    def ask_at_once(self, data: st.DataObject, kinds: list[str]) -> None:
        """Of runs one is taken; of messages those that come before it, and it answers them.

        Who was refused says it again when the run has ended. So there are as many messages in
        the end, whoever came first: hypothesis has to find the same choices when it tries again.
        """
        thread_id = self.touched = data.draw(st.sampled_from(self.free_threads()))
        assistant_id = data.draw(st.sampled_from(self.assistants.living))
        says = [{"role": "user", "content": f"No. {n}"} for n in range(kinds.count("message"))]
        plays = [self.prepare(script([], "answers", "before")) for _ in range(kinds.count("run"))]
        runs = [{"assistant_id": assistant_id, "model": playing.model} for playing in plays]
        askings = [
            *(Asking(f"/threads/{thread_id}/messages", asked) for asked in says),
            *(Asking(f"/threads/{thread_id}/runs", asked) for asked in runs),
        ]
        answers = self.project.together(askings)
        for answer in answers:
            if answer.status != 200:
                refused(answer, 400, " run run_" if runs else "no refusal")
        heard, started = answers[: len(says)], answers[len(says) :]
        self.adopt_said_at_once(thread_id, says, heard)
        taken = [place for place, answer in enumerate(started) if answer.status == 200]
        expect(len(taken), min(len(runs), 1), "runs that were taken")
        for place in taken:
            run = started[place].body
            asked, assistant = runs[place], self.assistants[assistant_id]
            expect(run, new_run(asked, assistant, thread_id=thread_id))
            self.start(run, plays[place])
            self.play(plays[place])
            self.finish(plays[place])
        for asked, answer in zip(says, heard, strict=True):
            if answer.status != 200:
                self.say(thread_id, asked)

    def adopt_said_at_once(self, thread_id: str, says: list[Body], heard: list[Answer]) -> None:
        """What was taken, in the order that the server gave it."""
        inside = self.inside[thread_id]
        taken = {
            answer.body["id"]: new_message(asked, thread_id=thread_id)
            for asked, answer in zip(says, heard, strict=True)
            if answer.status == 200
        }
        listed = self.project.all(f"/threads/{thread_id}/messages")
        new = [body for body in listed if body["id"] not in inside.messages.ids]
        expect({body["id"]: body for body in new}, taken, "what was said at once")
        for body in new:
            inside.add_message(body)

    def free_threads(self) -> list[str]:
        """Threads that no run holds and that have something to answer."""
        return [
            thread_id
            for thread_id in self.threads.living
            if thread_id not in self.playing and self.inside[thread_id].messages.living
        ]


def _outputs(calls: list[Call], output: str) -> Body:
    """What each of the calls gave; in another order than that of the calls."""
    return {"tool_outputs": [{"tool_call_id": c.id, "output": output} for c in reversed(calls)]}
